"""Keys at work: who we are, whom we dial, and the gate of a process that listens.

CURVE (ZeroMQ's encryption) proves that a peer has the secret of the public key that it shows. The gate asks the list
of allowed keys (common/keyfiles.py) at each handshake, for ZeroMQ, and at each message, since a connection outlives the
permission that it was made under. It also hears of handshakes that fail before anybody is asked.
"""

from common.keys.doorway import HANDSHAKE_MS
from common.keys.gate import Gate
from common.keys.ring import Ring, new_key

__all__ = ["HANDSHAKE_MS", "Gate", "Ring", "new_key"]
