"""What went wrong with a source, in one line that says what to do. FFmpeg's errors become SourceError here."""

from __future__ import annotations

import errno
import re
import socket
from urllib.parse import urlsplit

import av

from common.errors import SourceError
from common.log import mask
from common.media import Track
from producer.inputs.plan import Plan
from producer.inputs.reader import Silent

_CHECK = "check the address and that the server runs"
_HTTP = {
    400: "the server does not understand the request (400): check the address",
    403: "the server refuses it (403): is this user allowed to see it?",
    404: "the server has no such stream (404): check the path, and that somebody publishes there",
    429: "too many requests (429): the server wants us to slow down",
}
#: Errors of FFmpeg that stand for a status of HTTP, RTSP or ICY.
_STATUS = {
    av.error.HTTPBadRequestError: 400,
    av.error.HTTPUnauthorizedError: 401,
    av.error.HTTPForbiddenError: 403,
    av.error.HTTPNotFoundError: 404,
    av.error.HTTPTooManyRequestsError: 429,
}
_ERRNO = {
    errno.ECONNREFUSED: f"Connection refused: nothing listens there; {_CHECK}",
    errno.EHOSTUNREACH: "there is no way to this host: check the network",
    errno.ENETUNREACH: "there is no way to this host: check the network",
    errno.ECONNRESET: f"the server broke the connection off; {_CHECK}",
    errno.EPIPE: f"the server broke the connection off; {_CHECK}",
    errno.EADDRINUSE: "another program has this port: choose another one, or stop it",
    errno.EBUSY: "another program uses the device: stop it",
    errno.ENODEV: "the device is gone, or does not film",
    errno.ENOTTY: "this is not a device that films",
}


def no_answer(plan: Plan, looking: bool) -> SourceError:
    """A source that could not be opened in time. ``looking``: it was connected, and its tracks were looked for."""
    shown = mask(plan.address)
    if looking:
        what = f"{shown} is mute: no track could be made out within {plan.open_s or 0:g} s"
        return SourceError(f"{what}; is it alive? (--source-timeout waits longer)")
    if plan.scheme in ("udp", "rtp"):
        return SourceError(
            f"{shown}: nothing came in within {plan.connect_s or 0:g} s; check that somebody sends there"
        )
    return SourceError(f"{shown} gives no answer within {plan.connect_s or 0:g} s; {_CHECK}")


def cannot_open(plan: Plan, error: Exception) -> SourceError:
    """Why a source could not be opened, other than its deadline."""
    shown = mask(plan.address.removeprefix("file:"))
    if isinstance(error, SourceError):
        return error
    if isinstance(error, Silent):
        return no_answer(plan, True)
    if isinstance(error, av.InvalidDataError):
        if plan.kind in ("network", "srt"):
            page = ", but a web page perhaps" if plan.scheme in ("http", "https") else ""
            return SourceError(f"{shown} sends nothing that can be read as video{page}: check the address")
        hint = "it is not a video, or it was cut off before its index was written"
        return SourceError(f"{shown} cannot be read as a video: {hint}")
    return SourceError(f"{shown} cannot be opened: {_reason(plan, error)}")


def _is_timeout(error: Exception) -> bool:
    return isinstance(error, (av.error.ExitError, Silent)) or getattr(error, "errno", None) == errno.ETIMEDOUT


def _reason(plan: Plan, error: Exception) -> str:
    for kind, status in _STATUS.items():
        if isinstance(error, kind):
            return _login(plan.address) if status == 401 else _HTTP[status]
    if isinstance(error, av.error.HTTPServerError):
        return "the server has a problem of its own (5xx): look at its log"
    if isinstance(error, av.error.ProtocolNotFoundError):
        return f"{plan.scheme}:// is not known: use rtsp, rtmp, http, udp, rtp, srt or a file"
    if isinstance(error, av.error.HTTPError):
        return f"the server answers {error.strerror}; {_CHECK}"
    if isinstance(error, av.error.EOFError):
        return f"the server closed the connection without a word; {_CHECK}" if plan.live else "it holds nothing"
    number = getattr(error, "errno", None)
    if plan.kind == "network" and number in (errno.EIO, errno.EINVAL) and (host := _unknown_host(plan.address)):
        return f"no host is called {host}: check the name, and the network"
    if number in (errno.EIO, errno.EPERM) and plan.kind == "network":
        return f"the server broke the connection off, or has no such stream; {_CHECK}"
    if number == errno.EACCES and plan.kind == "device":
        return "permission denied: join the group 'video', or run as root"
    reason = getattr(error, "strerror", None) or str(error)
    return _ERRNO.get(number or 0, reason if plan.kind != "network" else f"{reason}; {_CHECK}")


def _login(address: str) -> str:
    if re.match(r"[a-z0-9+.-]+://[^/?#]*@", address, re.IGNORECASE):
        return "the user name or password is wrong (401)"
    scheme, _, rest = address.partition("://")
    return f"it needs a user name and password (401): {scheme}://USER:PASSWORD@{mask(rest)}"


def _unknown_host(address: str) -> str:
    """The host's name where nobody knows it, else ""."""
    try:
        host = urlsplit(address).hostname or ""
    except ValueError:
        return ""
    try:
        socket.getaddrinfo(host, None)
    except (socket.gaierror, UnicodeError):
        return host
    return ""


def no_video(plan: Plan, tracks: list[str], begun: bool) -> SourceError:
    """What was opened has no track that can be shown. ``begun``: it has one, without a picture so far."""
    shown = mask(plan.address.removeprefix("file:"))
    holds = ", ".join(tracks) or "nothing"
    if begun and plan.open_s:
        wait = f"no keyframe came within {plan.open_s:g} s (--source-timeout waits longer)"
        return SourceError(f"{shown} has a video track without a picture: {wait}")
    return SourceError(f"{shown} has no video track: it holds {holds}")


def broke_off(plan: Plan, error: Exception) -> SourceError:
    """Why a source that was read cannot be read on."""
    shown = mask(plan.address.removeprefix("file:"))
    if isinstance(error, SourceError):
        return error
    if _is_timeout(error):
        return is_mute(plan)
    if isinstance(error, av.FFmpegError):
        number = error.errno
        if plan.kind == "device":
            return SourceError(f"{shown} broke off: {error.strerror}; is the device still there?")
        if number in (errno.EIO, errno.ECONNRESET, errno.EPIPE) and plan.live:
            return SourceError(f"{shown} broke off: the connection was lost")
        return SourceError(f"{shown} broke off: {error.strerror or error}")
    return SourceError(f"{shown} cannot be read on: {type(error).__name__}: {error}")


def is_mute(plan: Plan) -> SourceError:
    return SourceError(f"{mask(plan.address)} is mute: it has given nothing for {plan.read_s or 0:g} s")


def without_picture(plan: Plan, sound: bool) -> SourceError:
    """``sound``: it is sound that still comes, else a track that is left out."""
    goes_on = "its sound goes" if sound else "other tracks go"
    return SourceError(f"{mask(plan.address)} gives no picture for {plan.read_s or 0:g} s, while {goes_on} on")


def other_parameters(plan: Plan, track: Track, again: bool) -> SourceError:
    """New parameters of a track in mid-stream. ``again``: the source can be opened again, with them."""
    shown, what = mask(plan.address.removeprefix("file:")), "picture" if track.type == "video" else "sound"
    name = track.codec_context.name
    if again:
        return SourceError(f"{shown} has begun anew: its {what} ({name}) has other parameters")
    return SourceError(
        f"{shown} changes the parameters of its {what} ({name}) under way, which cannot be followed: encode it anew"
    )


def has_ended(plan: Plan, why: str = "") -> SourceError:
    """A source that ought to go on for ever has come to an end."""
    who = "the device" if plan.kind == "device" else "the server"
    return SourceError(f"{mask(plan.address)} has ended: {why or f'{who} closed the stream'}")


def ended_early(plan: Plan, at: float, length: float) -> SourceError:
    return SourceError(f"{mask(plan.address)} broke off after {at:.1f} s of {length:.1f} s: the connection was lost")
