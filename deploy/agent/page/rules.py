"""From where a request may come: the address that was asked for, the site that asks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from common.address import is_loopback

#: What somebody between the browser and us adds, who brings strangers to a loopback address.
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")


def host_of(listen: str) -> str:
    """The host in ``host:port``, without the brackets of an IPv6 address."""
    return listen.rpartition(":")[0].strip("[]").lower()


def named(host: str | None) -> str:
    """The name in a Host header, without the port."""
    try:
        return (urlsplit(f"//{host or ''}").hostname or "").lower()
    except ValueError:
        return ""


def right_host(host: str | None, listen: str) -> bool:
    """Whether a page that listens at ``listen`` was meant by the Host header. On loopback, a name that somebody else's
    DNS leads here is refused, or that site's scripts could read us; elsewhere the token keeps them out."""
    ours = host_of(listen)
    return not is_loopback(ours) or is_loopback(named(host)) or named(host) == ours


def is_forwarded(headers: Mapping[str, str]) -> bool:
    return any(name in headers for name in _FORWARDED)


def is_foreign(headers: Mapping[str, str]) -> bool:
    """Whether another site's page sends the request, as the browser says."""
    if headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("Origin")
    return origin is not None and not _same(origin, headers.get("Host", ""))


def is_ours(headers: Mapping[str, str]) -> bool:
    """Whether the browser says that our own page sends the request."""
    return not is_foreign(headers) and ("Origin" in headers or headers.get("Sec-Fetch-Site") == "same-origin")


def _same(origin: str, host: str) -> bool:
    """The port is left out by either where it is the scheme's own, which only the origin names."""
    try:
        site, ours = urlsplit(origin), urlsplit(f"//{host}")
        usual = {"http": 80, "https": 443}.get(site.scheme)
        return (
            usual is not None
            and bool(site.hostname)
            and site.hostname == ours.hostname
            and (site.port or usual) == (ours.port or usual)
        )
    except ValueError:
        return False
