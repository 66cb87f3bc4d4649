"""Sessions on the media link that begin as honest ones and are spoilt: media, headers, order, results. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from common import messages as m
from tests.fuzz.mutate import EDGES, mutate, noise
from tests.fuzz.speech import Speech, Spoken

Message = m.Packet | m.Notice | m.Change | m.Filler | m.End
#: Messages of a spoilt session, at most.
LONGEST = 400
TICKS = (*(edge for edge in EDGES if -(2**62) <= edge <= 2**62), 512, 10**6, 10**12)
BASES = ((1, 1), (1, 2**31 - 1), (2**31 - 1, 1), (2**31 - 1, 2**31 - 1), (1, 1000), (1001, 30000))
VICES = (
    "media", "noise", "headers", "notices", "order", "hello", "carriers", "tracks", "end", "silence", "changes",
)  # fmt: skip
SIDES = (1, 2, 3, 96, 1920, 7680, 16384)


@dataclass(frozen=True, slots=True)
class Session:
    """What is said: the Hello with its carriers, then the others in this order, each with its payload."""

    hello: m.Hello
    carriers: bytes
    messages: list[Spoken]
    answers: list[m.Result | m.GaveUp | m.Expired]


class Spoiler:
    """Makes hostile sessions out of honest ones."""

    def __init__(self, speeches: list[Speech], chance: random.Random) -> None:
        self._speeches, self._chance = speeches, chance

    def session(self, name: str) -> Session:
        """A hostile session under the session name ``name``; a tenth of them is honest."""
        chance = self._chance
        speech = chance.choice(self._speeches)
        hello, carriers = replace(speech.hello, session=name), list(speech.carriers)
        messages = list(speech.messages)
        vices = chance.sample(VICES, chance.choice((0, 1, 1, 1, 1, 2, 2, 3, 4)))
        if "media" in vices:
            messages = [(head, self._media(body)) for head, body in messages]
        if "noise" in vices:
            messages = [(head, noise(chance, 3000) if chance.random() < 0.3 else body) for head, body in messages]
        if "headers" in vices:
            messages = [(self._packet(head), body) for head, body in messages]
        if "notices" in vices:
            messages = self._notices(messages)
        if "changes" in vices:
            messages = self._changes(messages, hello)
        if "order" in vices:
            messages = self._order(messages)
        if "end" in vices:
            messages = self._end(messages)
        if "hello" in vices:
            hello = self._hello(hello)
        if "carriers" in vices:
            carriers = [self._carrier(one) for one in carriers]
        if "tracks" in vices:
            hello, carriers = self._tracks(hello, carriers)
        infos = [
            replace(info, size=len(blob)) if "carriers" not in vices or chance.random() < 0.8 else info
            for info, blob in zip(hello.tracks, carriers, strict=True)
        ]
        answers = [] if "silence" in vices else self._answers(hello, speech.frames)
        numbered = [(replace(head, link=number), body) for number, (head, body) in enumerate(messages[:LONGEST], 1)]
        return Session(replace(hello, tracks=infos), b"".join(carriers), numbered, answers)

    def _media(self, body: bytes) -> bytes:
        if self._chance.random() < 0.6:
            return body
        other = self._chance.choice(self._chance.choice(self._speeches).messages)[1]
        return other if self._chance.random() < 0.1 else mutate(body, self._chance, other)

    def _packet(self, head: Message) -> Message:
        chance = self._chance
        if not isinstance(head, m.Packet) or chance.random() < 0.7:
            return head
        fields: dict[str, Any] = {
            "pts": chance.choice((None, *TICKS)),
            "dts": chance.choice((None, *TICKS)),
            "duration": chance.choice(TICKS),
            "time_base": chance.choice(BASES),
            "track": chance.choice((0, 1, 1, 1, 2, 31, 2**62)),
            "key": chance.random() < 0.5,
            "discard": chance.random() < 0.5,
        }
        keys = chance.sample(sorted(fields), chance.randint(1, 3))
        return replace(head, **{key: fields[key] for key in keys})

    def _notices(self, messages: list[Spoken]) -> list[Spoken]:
        chance, spoilt = self._chance, []
        for head, body in messages:
            if isinstance(head, m.Notice) and chance.random() < 0.4:
                fields: dict[str, Any] = {
                    "out": chance.choice(TICKS),
                    "pts": chance.choice((None, *TICKS)),
                    "packet": chance.choice((None, 0, 1, 2**62)),
                    "duration": chance.choice(TICKS),
                    "turn": chance.choice((0, 90, 180, 270)),
                    "fate": chance.choice(("sent", "not_sampled", "window_full", "corrupt", "gap")),
                    "reason": chance.choice(("", "x" * 2000, "ü\n\0")),
                    "index": chance.choice((0, 1, head.index + 1, 2**62)),
                    "count": chance.choice((1, 2, m.MAX_RUN)),
                }
                if chance.random() < 0.9:  # what breaks the order is refused at once, and hides the rest
                    del fields["index"]
                    del fields["count"]
                keys = chance.sample(sorted(fields), chance.randint(1, 3))
                head = replace(head, **{key: fields[key] for key in keys})
            spoilt.append((head, body))
        return spoilt

    def _changes(self, messages: list[Spoken], hello: m.Hello) -> list[Spoken]:
        """The source is opened again and again, as what it is, as another or as nonsense; with placeholders at any
        time."""
        chance, spoilt = self._chance, list(messages)
        for _ in range(chance.choice((1, 3, 40))):
            where: dict[str, Any] = {"stream": hello.stream, "epoch": 0, "link": 0}
            if chance.random() < 0.3:
                away = m.Filler(out=chance.choice(TICKS), duration=chance.choice(TICKS), text="x" * 2000, **where)
                spoilt.insert(chance.randrange(len(spoilt)), (away, b""))
                continue
            other = chance.choice(self._speeches)
            told, carriers = other.hello, list(other.carriers)
            if chance.random() < 0.2:
                told, carriers = self._tracks(self._hello(told), [self._carrier(one) for one in carriers])
            infos = [replace(info, size=len(blob)) for info, blob in zip(told.tracks, carriers, strict=True)]
            video = replace(told.video, time_base=hello.video.time_base if chance.random() < 0.9 else (1, 7))
            change = m.Change(video=video, tracks=infos, threads=told.threads, **where)
            place = chance.randrange(len(spoilt))
            spoilt.insert(place, (change, b"".join(carriers)))
            if chance.random() < 0.5:  # and the packets that belong to it
                spoilt[place + 1 : place + 1] = [one for one in other.messages if isinstance(one[0], m.Packet)][:40]
        return spoilt

    def _order(self, messages: list[Spoken]) -> list[Spoken]:
        chance = self._chance
        how = chance.randrange(4)
        if how == 0:
            chance.shuffle(messages)
        elif how == 1:
            messages = [one for one in messages if chance.random() < 0.8]
        elif how == 2:
            messages = [one for one in messages for _ in range(chance.choice((1, 1, 1, 2, 3)))]
        else:
            place = chance.randrange(len(messages))
            messages = messages[place:] + messages[:place]
        return messages

    def _end(self, messages: list[Spoken]) -> list[Spoken]:
        chance = self._chance
        end = messages[-1][0]
        if not isinstance(end, m.End):
            return messages
        ends: list[Spoken] = [
            (replace(end, last=chance.choice((-1, 0, end.last + 5, 2**62)), repairs={"x" * 256: 2**62}), b"noise")
            for _ in range(chance.choice((1, 2, 3)))
        ]
        place = chance.choice((len(messages), len(messages) - 1, 0, len(messages) // 2))
        return messages[:place] + ends + messages[place:]

    def _hello(self, hello: m.Hello) -> m.Hello:
        chance = self._chance
        video = replace(
            hello.video,
            width=chance.choice(SIDES),
            height=chance.choice(SIDES),
            time_base=chance.choice((hello.video.time_base, *BASES)),
            rate=chance.choice((None, (0, 1), (-5, 1), (2**31 - 1, 1), (1, 2**31 - 1), (25, 1))),
            sar=chance.choice((None, (0, 1), (-1, 1), (2**31 - 1, 1), (1, 2**31 - 1), (4, 3))),
            color_range=chance.randrange(256),
            primaries=chance.randrange(256),
            transfer=chance.randrange(256),
            matrix=chance.randrange(256),
        )
        return replace(
            hello,
            video=video,
            mode=chance.choice(("lossless", "live")),
            latency=chance.choice((0.0, 0.01, 1e6)),
            threads=chance.choice((1, 2, 3, 64)),
            omitted=["x" * 2000] * chance.choice((0, 3, 256)),
        )

    def _carrier(self, blob: bytes) -> bytes:
        chance = self._chance
        how = chance.randrange(5)
        if how == 0:
            return noise(chance, 2000)
        if how == 1:
            return chance.choice(chance.choice(self._speeches).carriers)
        if how == 2:
            return blob
        return mutate(blob, chance, chance.choice(chance.choice(self._speeches).carriers))

    def _tracks(self, hello: m.Hello, carriers: list[bytes]) -> tuple[m.Hello, list[bytes]]:
        chance = self._chance
        infos = list(hello.tracks)
        how = chance.randrange(4)
        if how == 0:  # as many as there may be
            while len(infos) < 32:
                number = chance.randrange(len(infos))
                infos.append(infos[number])
                carriers.append(carriers[number])
        elif how == 1:
            infos = [replace(one, carrier=chance.choice(("nut", "matroska", "avi"))) for one in infos]
        elif how == 2:
            infos = [
                replace(
                    one,
                    codec=chance.choice((one.codec, "h264", "aac", "pcm_mulaw", "eac3", "nonsense", "flac")),
                    kind=chance.choice((one.kind, one.kind, "audio", "video")),
                    time_base=chance.choice(BASES),
                    sample_rate=chance.choice((0, 1, 2**62)),
                    channels=chance.choice((0, 2, 2**62)),
                )
                for one in infos
            ]
        else:
            both = list(zip(infos, carriers, strict=True))
            chance.shuffle(both)
            infos, carriers = [one for one, _ in both], [one for _, one in both]
        return replace(hello, tracks=infos), carriers

    def _answers(self, hello: m.Hello, frames: int) -> list[m.Result | m.GaveUp | m.Expired]:
        chance = self._chance
        made: list[m.Result | m.GaveUp | m.Expired] = []
        for index in range(frames):
            where: dict[str, Any] = {"stream": hello.stream, "epoch": 0, "index": index}
            if chance.random() < 0.1:
                where["index"] = chance.choice((0, frames + 5, frames + 9000, 2**62))
            how = chance.random()
            if how < 0.05:
                made.append(m.GaveUp(reason=noise(chance, 20).hex() or "x", detail="x" * 2000, **where))
            elif how < 0.1:
                made.append(m.Expired(**where))
            elif how < 0.95:
                made.append(m.Result(worker="w", detections=self._found(), tags=[m.Tag("ü" * 256, 1.0)], **where))
        chance.shuffle(made)
        return made

    def _found(self) -> list[m.Detection]:
        chance = self._chance
        if chance.random() < 0.02:
            return [m.Detection("x" * 256, 1.0, (0.0, 0.0, 50.0, 50.0), [(5.0, 5.0)] * 64)] * 1000
        numbers = (-1e9, -5.0, 0.0, 0.5, 10.0, 50.0, 95.9, 1e5, 1e9)
        return [
            m.Detection(
                chance.choice(("face", "\0\n", "ü😀" * 20, "x" * 256)),
                chance.random(),
                (chance.choice(numbers), chance.choice(numbers), chance.choice(numbers), chance.choice(numbers)),
                [(chance.choice(numbers), chance.choice(numbers))] * chance.choice((0, 1, 64)),
                chance.choice((None, 0, 2**62)),
            )
            for _ in range(chance.choice((0, 1, 3)))
        ]


def placed(message: Any, epoch: int, resume: int) -> Any:
    """The message of the session that the sink calls ``epoch`` and wants from frame ``resume`` on."""
    fields: dict[str, Any] = {"epoch": epoch}
    if isinstance(message, m.End):
        fields["last"] = min(2**62, message.last + resume)
    elif hasattr(message, "index"):
        fields["index"] = min(2**62, message.index + resume)
    return replace(message, **fields)
