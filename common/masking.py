"""Addresses without what lets others in: passwords, tokens, signatures, stream keys. Pure.

Whatever the text is, the time that this takes grows as its length does: texts come from servers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{0,31}://")
#: What ends ``user:password@host`` where it is written rightly.
_AUTHORITY_END = re.compile(r"[/?#\s]|\Z")
_WORD_END = re.compile(r"\s|\Z")
#: A user's name and what may be a password: what stands before the slash is no port.
_USER = re.compile(r"[^/?#\s:@]*:(?!\d+[/?#])")
#: The name of a value, from its beginning.
_NAME = re.compile(r"(?<![\w.-])[\w.-]++=")
#: Values are secrets by what their names hold: those of cameras, of SRT, of signed addresses (Amazon, Google, …).
_SECRET = re.compile(
    r"""(?ix)
    (?<!by)(?<!com) pass (?!ive|thr|enger|age) | pwd | psw | loginpas | token (?!s=) | secret | signature | credential
    | (?:api|access|stream|auth|private|license) [_-]?key | auth_?sign | authorization | jwt
    """
)
#: The same by all of the name, or by what stands behind its last dash.
_SECRET_WHOLE = re.compile(
    r"(?i)(?:^|[_-])(?:key|auth|sig|sign|pas|pw|psk|md5|hmac)=|^(?:policy|key-pair-id|hdn(?:ts|tl|ea))="
)
#: What may stand before a name: in a query, and last in a path.
_BEFORE = ("?", "&", ";", "#", "/")
#: Most characters of a name that are looked at, its last ones.
_NAME_LENGTH = 64
#: A value; and one in a path, where some cameras go on behind it (``/user=a_password=b_channel=1_stream=0.sdp``).
_VALUE = re.compile(r"[^&\s'\"]*")
_PATH_VALUE = re.compile(r"[^&\s'\"]*?(?=_(?:channel|stream)=|[&\s'\"]|\Z)")
#: The last part of an SRT stream's name where it is ``read:path:user:password``.
_STREAM_ID = re.compile(r"([?&]streamid=[^:&\s]{1,16}:[^:&\s]{1,256}:[^:&\s]{0,256}:)[^&\s'\"]+")
#: Servers take the last part of an RTMP address for a key that lets anyone publish. One that is long and has a digit is
#: no name; its beginning tells keys apart.
_STREAM_KEY = re.compile(
    r"""(\brtmp[a-z]{0,2}://[^/\s'"]*/(?:[^/?#\s'":]++/)+[^/?#\s'":]{4})(?=[^/?#\s'":]*\d)[^/?#\s'":]{12,}+(?!/)"""
)


#: What is hidden may make another part look like a secret; so often it is looked at again.
_AGAIN = 4


def mask(text: str) -> str:
    """``text`` without the secrets in its addresses. Masked again, it stays as it is."""
    for _ in range(_AGAIN):
        before, text = text, _masked(text)
        if text == before:
            break
    return text


def _masked(text: str) -> str:
    text = _cut(text, _logins(text), "***@") if "://" in text else text
    text = _cut(text, _values(text), "***") if "=" in text else text
    return _STREAM_KEY.sub(r"\1***", _STREAM_ID.sub(r"\1***", text))


def _cut(text: str, places: Iterator[tuple[int, int]], instead: str) -> str:
    pieces: list[str] = []
    at = 0
    for start, end in places:
        pieces += text[at:start], instead
        at = end
    return "".join([*pieces, text[at:]]) if pieces else text


def _logins(text: str) -> Iterator[tuple[int, int]]:
    """``user:password@``: up to the last ``@`` before the path, as FFmpeg reads it. A slash in the password makes the
    address wrong, but errors show it all the same: then up to the last ``@`` of the word."""
    done = word = last = 0  # up to here the word goes; its last @
    for scheme in _SCHEME.finditer(text):
        start = scheme.end()
        if start < done:
            continue
        if start > word:
            word = _end(_WORD_END, text, start)
            last = text.rfind("@", start, word)
        at = text.rfind("@", start, _end(_AUTHORITY_END, text, start))
        if at < 0 and (user := _USER.match(text, start)) is not None and last >= user.end():
            at = last
        if at >= 0:
            done = at + 1
            yield start, done


def _values(text: str) -> Iterator[tuple[int, int]]:
    """Of secrets, by their names: in a query (``?a=1&token=x``), and in a path (``/token=x``, ``a_token=x``)."""
    done = 0
    for found in _NAME.finditer(text):
        start, name = found.end(), found[0][-_NAME_LENGTH:]
        if start <= done:
            continue
        before = text[max(0, found.start() - 1) : found.start()]
        if (known := before in _BEFORE) or "_" in name:
            name = name if known else name[name.index("_") + 1 :]
            if _SECRET.search(name) or (known and _SECRET_WHOLE.search(name)):
                value = (_PATH_VALUE if before not in _BEFORE[:-1] else _VALUE).match(text, start)
                if value is not None and value.end() > start:
                    done = value.end()
                    yield start, done


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.search(text, start)
    return len(text) if found is None else found.start()
