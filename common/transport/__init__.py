"""The only place with ZeroMQ (beside common/keys).

Every send is non-blocking and says whether it was taken; every queue has a limit in messages and in bytes. Nothing
here is to be trusted with a message that nobody acknowledges: a PUSH to nobody swallows its high-water mark.
"""

from common.transport.endpoint import LINGER_MS, Endpoint, Unreachable, drain
from common.transport.hub import HIGH_WATER, Hub
from common.transport.polling import Pollable, Poller, Waker

__all__ = ["HIGH_WATER", "LINGER_MS", "Endpoint", "Hub", "Pollable", "Poller", "Unreachable", "Waker", "drain"]
