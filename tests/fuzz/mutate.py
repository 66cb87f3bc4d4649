"""What a hostile hand does to honest bytes. Pure: all chance comes from the ``random.Random`` that is passed in."""

from __future__ import annotations

import random
import struct
from typing import Any

import msgpack
import msgspec

#: Heads of msgpack values that claim 2³² − 1 bytes, items or pairs: str32, bin32, ext32, array32, map32.
CLAIMS = [bytes([head]) + b"\xff" * 4 for head in (0xDB, 0xC6, 0xC9, 0xDD, 0xDF)]
#: Numbers at which fields and arithmetic break.
EDGES = (-(2**63), -(2**62) - 1, -1, 0, 1, 2**31, 2**32, 2**53 + 1, 2**62, 2**62 + 1, 2**63, 2**64 - 1)

#: A list is not repeated to more than so many bytes: beyond 64 MiB ZeroMQ itself hangs up, and nobody counts that.
LONGEST = 8 * 2**20


def noise(chance: random.Random, most: int) -> bytes:
    """Up to ``most`` random bytes."""
    return chance.randbytes(chance.randint(0, most))


def mutate(honest: bytes, chance: random.Random, other: bytes = b"") -> bytes:
    """``honest`` with one to four of: bytes set or bits flipped, a cut, an insertion, a part doubled, a part of
    ``other`` spliced in."""
    data = bytearray(honest)
    for _ in range(chance.randint(1, 4)):
        place = chance.randint(0, len(data))
        end = min(len(data), place + chance.choice((1, 2, 4, 8, 64, 1024)))
        how = chance.randrange(7)
        if how == 0 and data:
            data[place % len(data)] = chance.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, chance.randrange(256)))
        elif how == 1 and data:
            data[place % len(data)] ^= 1 << chance.randrange(8)
        elif how == 2:
            del data[place:]
        elif how == 3:
            data[place:place] = noise(chance, 16)
        elif how == 4:
            data[place:place] = data[place:end]
        elif how == 5:
            start = chance.randint(0, len(other))
            data[place:end] = other[start : start + chance.choice((1, 4, 16, 256))]
        else:
            del data[place:end]
    return bytes(data)


def nested(chance: random.Random, deepest: int) -> bytes:
    """Lists in lists, or maps in maps, that never end."""
    opener = chance.choice((b"\x91", b"\x81\xa0", b"\x92\xc0", b"\xdc\x00\x01", b"\x81\x91"))
    return opener * (chance.randint(1, deepest) // len(opener))


def any_value(chance: random.Random, depth: int = 0) -> Any:
    """Anything that msgpack can say."""
    how = chance.randrange(9 if depth < 3 else 7)
    if how == 0:
        return chance.choice(EDGES)
    if how == 1:
        return chance.choice((None, True, False, "", b"", [], {}))
    if how == 2:
        return struct.unpack("<d", chance.randbytes(8))[0]
    if how == 3:
        return chance.choice((float("nan"), float("inf"), -float("inf"), 1e308, -1e-320))
    if how == 4:
        return "".join(chr(chance.randrange(1, 0xD800)) for _ in range(chance.choice((1, 5, 256, 257, 2001))))
    if how == 5:
        return noise(chance, 300)
    if how == 6:
        return msgpack.ExtType(chance.randrange(128), noise(chance, 20))
    if how == 7:
        return [any_value(chance, depth + 1) for _ in range(chance.choice((1, 2, 4, 40)))]
    return {chance.choice(("", "t", "v", "x" * 300)): any_value(chance, depth + 1) for _ in range(3)}


def wrong_fields(honest: bytes, chance: random.Random) -> bytes:
    """The header with one to three fields of another type or value, missing, renamed, or swapped with each other."""
    fields: dict[str, Any] = msgspec.msgpack.decode(honest)
    for _ in range(chance.randint(1, 3)):
        if not fields:
            break
        key = chance.choice(sorted(fields))
        how = chance.randrange(6)
        if how == 0:
            del fields[key]
        elif how == 1:
            fields[noise(chance, 6).decode("latin-1")] = fields.pop(key)
        elif how == 2:
            other = chance.choice(sorted(fields))
            fields[key], fields[other] = fields[other], fields[key]
        elif how == 3 and isinstance(fields[key], list | dict) and fields[key]:
            _spoil(fields[key], chance)
        else:
            fields[key] = any_value(chance)
    if chance.random() < 0.2:
        fields["v"] = chance.choice((0, 99, 100, 199, 200, 2**62, -1, -(2**63), 2**64 - 1, "101", 101.0, None))
    return _packed(fields)


def _packed(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True, unicode_errors="surrogatepass")
    return packed


def _spoil(inside: list[Any] | dict[str, Any], chance: random.Random) -> None:
    """One value somewhere inside of a list or map becomes another, or is there many times."""
    place: Any = chance.randrange(len(inside)) if isinstance(inside, list) else chance.choice(sorted(inside))
    deeper = inside[place]
    if isinstance(deeper, list | dict) and deeper and chance.random() < 0.7:
        _spoil(deeper, chance)
    elif isinstance(inside, list) and chance.random() < 0.3:
        size = len(_packed(inside))
        inside *= min(chance.choice((2, 40, 5000)), max(2, LONGEST // size))
    else:
        inside[place] = any_value(chance)
