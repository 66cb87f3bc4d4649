"""Who has signed in, and how often somebody may try. Pure: time is an argument, in seconds."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from dataclasses import dataclass

#: A session lasts so long, in seconds, and of more than so many the oldest one ends.
LIFE_S, MAX_SESSIONS = 12 * 3600.0, 64
#: So many wrong tokens of one address at once, and another one after so many seconds each.
TRIES, TRY_S = 8, 10.0
#: Most addresses that are remembered.
MAX_ADDRESSES = 4096


@dataclass(frozen=True, slots=True)
class Session:
    """``proof``: what each change has to bring along, which no other site can know."""

    proof: str
    until: float

    def proves(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(errors="replace"), self.proof.encode())


class Sessions:
    """By the digest of their secret: what a browser has cannot be read out of here."""

    def __init__(self) -> None:
        self._open: dict[bytes, Session] = {}

    def open(self, now: float) -> tuple[str, Session]:
        """The secret that the browser keeps, and the session."""
        self._expire(now)
        while len(self._open) >= MAX_SESSIONS:
            del self._open[next(iter(self._open))]
        secret = secrets.token_urlsafe(32)
        session = self._open[_digest(secret)] = Session(secrets.token_urlsafe(24), now + LIFE_S)
        return secret, session

    def find(self, secret: str, now: float) -> Session | None:
        session = self._open.get(_digest(secret))
        return session if session is not None and now < session.until else None

    def close(self, secret: str) -> None:
        self._open.pop(_digest(secret), None)

    def clear(self) -> None:
        self._open.clear()

    def _expire(self, now: float) -> None:
        for key in [key for key, session in self._open.items() if now >= session.until]:
            del self._open[key]

    def check(self) -> None:
        assert len(self._open) <= MAX_SESSIONS


class Tries:
    """Wrong tokens, by the address that they come from; of IPv6, by its network of 64 bits."""

    def __init__(self, share: int = 1) -> None:
        """``share``: so many times as many tries as one client has."""
        self._tries, self._try_s = TRIES * share, TRY_S / share
        self._spent: dict[str, float] = {}  # address → until when its tries are spent

    def pause(self, address: str, now: float) -> float:
        """For how many seconds no token of this address is looked at; 0.0: it is."""
        spent = self._spent.get(_network(address), 0.0)
        return max(0.0, spent - now - (self._tries - 1) * self._try_s)

    def wrong(self, address: str, now: float) -> None:
        key = _network(address)
        spent = self._spent.pop(key, 0.0)
        while len(self._spent) >= MAX_ADDRESSES:
            del self._spent[next(iter(self._spent))]
        self._spent[key] = max(spent, now) + self._try_s

    def check(self) -> None:
        assert len(self._spent) <= MAX_ADDRESSES


def _network(address: str) -> str:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else str(found)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="replace")).digest()
