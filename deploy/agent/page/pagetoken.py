"""The token that lets somebody change the node: from the configuration, else from the node's folder."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
from collections.abc import Callable

from common.errors import OutputError
from deploy.node.folder import NodeFolder

#: Shortest token that is taken, in characters; longer than ``LONGEST`` none is.
SHORTEST, LONGEST = 16, 256

log = logging.getLogger(__name__)


class Token:
    """``given``: the configuration's. Else the file ``page.token`` in ``folder`` has it, which is read again when it
    changes: ``changed`` is called then, since who was let in with the old one is to ask anew."""

    def __init__(self, given: str | None, folder: NodeFolder, changed: Callable[[], None] = lambda: None) -> None:
        self._folder, self._changed = folder, changed
        self._digest = _digest(given) if given else b""
        self._stamp: tuple[int, ...] | None = None
        self._given = given is not None
        if not self._given:
            self._look()

    def refresh(self) -> None:
        """Look whether another one counts now: who came in with the one before is to sign in again."""
        if not self._given:
            self._look()

    def matches(self, text: str) -> bool:
        """Whether ``text`` is the token; takes as long for one that is nearly right as for any other."""
        self.refresh()
        right = hmac.compare_digest(_digest(text), self._digest or _digest(secrets.token_hex()))
        return right and bool(self._digest) and len(text) <= LONGEST

    def _look(self) -> None:
        path = self._folder.token
        try:
            found = os.stat(path)
        except FileNotFoundError:
            self._make()
            return
        except OSError as error:
            log.error("%s cannot be read (%s): nobody can sign in", path, error.strerror)
            return
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        if stamp == self._stamp:
            return
        again, self._stamp = self._stamp is not None, stamp
        try:
            text = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            text = ""
        self._digest = _digest(text) if SHORTEST <= len(text) <= LONGEST else b""
        if not self._digest:
            log.error(
                "%s holds no token of %d to %d characters: nobody can sign in; remove it to have one made",
                path, SHORTEST, LONGEST,
            )  # fmt: skip
        if again:
            log.info("the page's token has changed: everybody is to sign in again")
            self._changed()

    def _make(self) -> None:
        try:
            self._folder.write(self._folder.token, secrets.token_urlsafe(24).encode() + b"\n")
        except OutputError as error:
            log.error("%s: nobody can sign in", error)
            return
        self._look()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
