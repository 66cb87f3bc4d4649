"""A part's own key, and those of the servers that it dials."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import zmq

from common.config import Security
from common.errors import LinkError
from common.keyfiles import ALLOWED, AllowedList, KeyFile, Role, check_folder, key_path, read_key


def new_key(role: Role, name: str) -> KeyFile:
    """A fresh pair. Its public key is easy to type: no dash in front, nothing that looks like ``${a variable}``."""
    while True:
        public, secret = (part.decode() for part in zmq.curve_keypair())
        if public[0].isalnum() and "${" not in public:
            return KeyFile(role=role, name=name, public=public, secret=secret)


@dataclass(frozen=True, slots=True)
class Ring:
    """A part's own key and what it needs to know of others'."""

    own: KeyFile
    #: Public keys of the broker and the sink, as far as they are known.
    servers: Mapping[str, str]
    #: Only of those who serve.
    allowed: AllowedList | None

    @classmethod
    def of(cls, security: Security, role: Role) -> Ring | None:
        """What ``[security]`` gives the part ``role``; None: no keys. Raises LinkError with one line."""
        if security.keys is None:
            return None
        folder = Path(security.keys)
        check_folder(folder)
        if not key_path(folder, role).exists():
            raise LinkError(f"there is no {role}.key in {folder}: make one with headrace keys new, or bring it here")
        own = _checked(key_path(folder, role))
        servers = {}
        for server in ("broker", "sink"):
            named: str | None = getattr(security, server)
            path = folder / f"{server}.key"
            found = read_key(path).public if path.exists() else None
            if named and found and named != found:
                raise LinkError(f"[security] {server} is not the public key in {path}: take one of the two away")
            if public := named or found:
                servers[server] = public
        serves = role in ("broker", "sink")
        return cls(own, servers, AllowedList(folder / ALLOWED) if serves else None)

    @property
    def shown(self) -> str:
        """Role, name and public key, as ``headrace keys allow`` takes them."""
        return f"{self.own.role} {self.own.name} {shlex.quote(self.own.public)}"

    def dial(self, socket: zmq.Socket[bytes], server: str) -> None:
        """Make ``socket`` one that dials ``server``. Raises LinkError where its public key is not known."""
        public = self.servers.get(server)
        if public is None:
            raise LinkError(f"the {server}'s public key is not known: write [security] {server} = its key, which "
                            f"headrace keys show tells where the {server} runs")  # fmt: skip
        socket.curve_publickey = self.own.public.encode()
        socket.curve_secretkey = self.own.secret.encode()
        socket.curve_serverkey = public.encode()

    def serve(self, socket: zmq.Socket[bytes], name: str) -> None:
        """Make ``socket`` one that listens."""
        socket.curve_server = True
        socket.curve_secretkey = self.own.secret.encode()
        socket.setsockopt_string(zmq.ZAP_DOMAIN, name)


def _checked(path: Path) -> KeyFile:
    key = read_key(path)
    try:
        public = zmq.curve_public(key.secret.encode()).decode()
    except (ValueError, zmq.ZMQError):
        public = ""
    if public != key.public:
        raise LinkError(f"{path}: public and secret key do not belong together; make others with headrace keys new")
    return key
