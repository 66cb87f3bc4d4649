"""Hostile headers at every reader: a message comes out, or PeerError with one of the kinds that are counted."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from common import messages as m
from common.errors import PeerError
from common.wire import MAX_HEADER, Reader, encode
from tests.fuzz.corpus import HONEST, KINDS, READERS
from tests.fuzz.mutate import CLAIMS, mutate, nested, noise, wrong_fields

#: Names under which :class:`common.wire.Reader` refuses.
REFUSALS = {"parts", "oversize", "version", "header"}
#: One header in so many is very large or very deep: they cost a millisecond each.
LARGE_EVERY = 500


def reader_of(one: m.Head) -> str:
    """The name of the reader that takes this message."""
    return next(name for name, kinds in KINDS.items() if isinstance(one, kinds))


def verdict(reader: Reader[Any], parts: list[bytes]) -> str:
    """The kind under which the message is refused, or ``taken``."""
    refused = ""
    try:
        message, _ = reader.decode(parts)
    except PeerError as error:
        refused, kind = str(error), error.kind
    if refused:
        assert kind in REFUSALS, refused
        assert len(refused) < 300, "what is logged is short"
        return kind
    # What was let through is what it says, and is within the limits: it can be said and read again.
    assert isinstance(message, m.Head)
    assert message.v // 100 == m.VERSION // 100
    assert reader.decode([encode(message)])[0] == message
    return "taken"


class Headers:
    """Throws one header after the other; ``counts`` says what became of them."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._honest = [(encode(one), reader_of(one)) for one in HONEST]
        self._made = 0
        self.counts: Counter[str] = Counter()

    def make(self) -> tuple[str, list[bytes]]:
        """A hostile message, and the name of the reader that it is meant for."""
        chance = self._chance
        honest, name = chance.choice(self._honest)
        if chance.random() < 0.1:
            name = chance.choice(list(READERS))
        self._made += 1
        head = self._large() if self._made % LARGE_EVERY == 0 else self._small(honest)
        parts = [head] if chance.random() < 0.5 else [head, b"payload"]
        if chance.random() < 0.01:
            parts *= chance.randrange(1, 4)
        return name, parts

    def throw(self, count: int) -> None:
        """Decode ``count`` hostile messages."""
        for _ in range(count):
            name, parts = self.make()
            self.counts[verdict(READERS[name], parts)] += 1

    def _small(self, honest: bytes) -> bytes:
        chance = self._chance
        how = chance.randrange(10)
        if how == 0:
            return noise(chance, 400)
        if how == 1:
            place = chance.randint(0, len(honest))
            return honest[:place] + chance.choice(CLAIMS) + honest[place:]
        if how == 2:
            return honest[: chance.randint(0, len(honest))] + nested(chance, 2000)
        if how < 6:
            return wrong_fields(honest, chance)
        return mutate(honest, chance, chance.choice(self._honest)[0])

    def _large(self) -> bytes:
        chance = self._chance
        how = chance.randrange(4)
        if how == 0:
            return chance.randbytes(chance.choice((MAX_HEADER, MAX_HEADER + 1)))
        if how == 1:
            return b"\x82\xa1t\xa5hello\xa5video" + nested(chance, MAX_HEADER - 100)
        if how == 2:  # a true array of very many small things where few are allowed
            key = chance.choice((b"\xaadetections", b"\xa4tags", b"\xa8received", b"\xa6leases", b"\xa4held"))
            return b"\x82\xa1t" + chance.choice((b"\xa6result", b"\xa3ack", b"\xa4beat", b"\xa4news")) + key + (
                b"\xdd\x00\x0f\xff\xff" + chance.choice((b"\xc0", b"\x90", b"\x80", b"\x01")) * 0xFFFFF
            )  # fmt: skip
        return b"\x81\xa1v" + (b"\xdb\x00\x3f\x00\x00" + b"9" * 0x3F0000)
