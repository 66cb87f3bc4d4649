"""The sender's parts, and the process itself: what it is told, what it says, and that it never outlives the sink."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import Encoding
from common.media import pack
from sink.encode import Encoder, Shape
from sink.outputs.sent_child import SenderChild
from sink.sender.clock import Clock
from sink.sender.framing import End, Incoming, Message, Opening, Piece, TrackHead, Word, encode, split
from sink.sender.muxing import Muxer
from sink.sender.parameters import parameter_sets
from sink.sender.reasons import MAX_REASON, reason
from tests.builders import TICK
from tests.servers_http import Scripted, mute
from tests.sink.sent import BASE, HEIGHT, WIDTH, picture
from tests.support import numbers, wait_for


def coded(frames: int) -> tuple[list[av.Packet], Opening, bytes]:
    """Numbered pictures, and what a sender is told of them, but for where to send them."""
    encoder = Encoder(
        Shape(WIDTH, HEIGHT, BASE, Fraction(25), False, None, 2, 2, 2), Encoding(encoder="x264", crf=0), True
    )
    packets = [one for number in range(frames) for one in encoder.encode(picture(number), number * TICK, TICK)]
    carrier, blob = pack(encoder.template(packets[0]))
    return packets, Opening("rtmp", "", [TrackHead(carrier, len(blob), parameter_sets(bytes(packets[0])))]), blob


def piece(packet: av.Packet) -> tuple[Piece, bytes]:
    assert packet.pts is not None
    return Piece(0, packet.pts, (BASE.numerator, BASE.denominator), TICK, packet.is_keyframe), bytes(packet)


# -- framing -------------------------------------------------------------------------------------------------------


def test_messages_come_out_as_they_went_in_however_a_pipe_cuts_them() -> None:
    draw = random.Random(1)
    sent: list[tuple[Message, bytes]] = [
        (Opening("srt", "srt://x:1", [TrackHead("nut", 3, b"\1\2"), TrackHead("nut", 2)], 4.0, True), b"abcde"),
        *((Piece(0, number, (1, 90_000), 3600, number % 9 == 0), draw.randbytes(number * 997)) for number in range(99)),
        (End(), b""),
    ]
    data = b"".join(encode(*one) for one in sent)
    ours, theirs = os.pipe()

    def write() -> None:
        at = 0
        while at < len(data):
            at += os.write(theirs, data[at : at + draw.randrange(1, 5000)])
        os.close(theirs)

    writer = threading.Thread(target=write)
    writer.start()
    incoming = Incoming(ours)
    assert [incoming.next(10.0) for _ in sent] == sent
    with pytest.raises(EOFError):
        incoming.next(10.0)
    writer.join()
    os.close(ours)


def test_nothing_is_said_within_the_time() -> None:
    ours, theirs = os.pipe()
    incoming = Incoming(ours)
    assert incoming.next(0.0) is None
    os.write(theirs, encode(End())[:5])
    assert incoming.next(0.01) is None
    os.close(theirs)
    os.close(ours)


def test_carriers_are_cut_apart() -> None:
    assert split([TrackHead("nut", 3), TrackHead("nut", 0), TrackHead("nut", 2)], b"abcde") == [b"abc", b"", b"de"]


# -- times ---------------------------------------------------------------------------------------------------------

MS, TS = Fraction(1, 1000), Fraction(1, 90_000)


def test_times_begin_at_the_first_keyframe() -> None:
    clock = Clock([MS, TS])
    assert clock.place(1, Fraction(9), True) is None, "sound before any picture"
    assert clock.place(0, Fraction(9), False) is None
    assert clock.place(0, Fraction(10), True) == 0
    assert clock.place(1, Fraction(99, 10), True) is None, "sound of the time before it"
    assert clock.place(1, Fraction(10), True) == 0
    assert clock.place(0, Fraction(10) + Fraction(1, 25), False) == 40
    assert clock.place(1, Fraction(1001, 100), True) == 900
    assert clock.early == 3
    clock.check()


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-100, 3000), st.booleans()), max_size=80))
def test_no_track_has_a_time_twice(packets: list[tuple[int, int, bool]]) -> None:
    clock = Clock([MS, TS, Fraction(1, 48_000)])
    placed: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for track, ticks, key in packets:
        if (at := clock.place(track, Fraction(ticks, 3001), key)) is not None:
            placed[track].append(at)
        clock.check()
    for times in placed.values():
        assert all(0 <= one < other for one, other in pairwise(times))


# -- the header ----------------------------------------------------------------------------------------------------


def test_parameter_sets_are_those_of_the_stream(tmp_path: Path) -> None:
    """The template was made with other settings; players that believe the header would show nothing."""
    packets, opening, blob = coded(30)
    sets = opening.tracks[0].extradata
    assert [sets[at + 4] & 0x1F for at in range(len(sets)) if sets[at : at + 4] == b"\0\0\0\1"] == [7, 8]
    assert sets.split(b"\0\0\0\1")[1] in bytes(packets[0])
    path = tmp_path / "a.flv"
    muxer = Muxer(Opening("rtmp", str(path), opening.tracks), blob, lambda: None)
    for packet in packets:
        muxer.write(*piece(packet))
    muxer.close()
    with av.open(str(path)) as container:
        extradata = container.streams.video[0].codec_context.extradata or b""
    assert all(one in extradata for one in sets.split(b"\0\0\0\1")[1:])
    assert numbers(path) == list(range(30))


@pytest.mark.parametrize("packet", [b"", b"\0\0\0\1", b"\0\0\1", b"abc", b"\0\0\1\x65\x88" * 3, bytes(1000)])
def test_a_packet_without_parameter_sets(packet: bytes) -> None:
    assert parameter_sets(packet) == b""


# -- reasons -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "logged", "expected"),
    [
        (errno.ECONNREFUSED, ["Cannot open connection tcp://x\n"], "Connection refused"),
        (errno.EIO, ["Failed to resolve hostname x: Name or service not known\n", "Cannot open connection tcp://x\n"],
         "Failed to resolve hostname x: Name or service not known"),
        (errno.EPERM, ["Server error: Already publishing\n"], "Server error: Already publishing"),
        (errno.EPIPE, [], "the server has closed the connection"),
        (errno.EIO, [], "the server does not accept the stream, or has closed the connection"),
        (None, [], "no such thing"),
    ],
)  # fmt: skip
def test_the_reason_that_says_most(number: int | None, logged: list[str], expected: str) -> None:
    error = OSError(number, os.strerror(number)) if number is not None else ValueError("no such thing")
    assert reason(error, logged) == expected


def test_a_reason_is_one_short_line_without_passwords() -> None:
    text = reason(ValueError("x"), ["rtmp://me:secret@host/x\nis\tnot there " + "y" * 1000])
    assert text.startswith("rtmp://***@host/x is not there")
    assert len(text) == MAX_REASON


# -- the process ---------------------------------------------------------------------------------------------------


def words(child: SenderChild, event: str) -> Word:
    """Wait for a word of this kind; flushes what is to be written."""

    def look() -> Word | None:
        child.flush()
        return next((word for word in child.words() if word.event == event), None)

    return wait_for(look, 30, event)  # type: ignore[no-any-return]


def test_a_sender_says_how_it_goes(tmp_path: Path) -> None:
    packets, opening, blob = coded(20)
    path = tmp_path / "a.flv"
    child = SenderChild()
    try:
        child.write(encode(Opening("rtmp", str(tmp_path / "none" / "a.flv"), opening.tracks), blob))
        assert words(child, "refused").reason == "No such file or directory"
        child.write(encode(Opening("rtmp", str(path), opening.tracks), blob))
        words(child, "connected")
        for packet in packets:
            while child.full:
                child.flush()
            child.write(encode(*piece(packet)))
        assert words(child, "sent").frames > 0
        os.kill(child.pid, signal.SIGINT)  # the terminal's
        child.write(encode(End()))
        words(child, "ended")
    finally:
        assert child.end() == ""
    assert numbers(path) == list(range(20))


def test_a_sender_whose_file_is_full_says_so() -> None:
    packets, opening, blob = coded(20)
    child = SenderChild()
    try:
        child.write(encode(Opening("rtmp", "/dev/full", opening.tracks), blob))
        words(child, "connected")
        for packet in packets:
            while child.full and not child.silent:
                child.flush()
            child.write(encode(*piece(packet)))
        assert words(child, "ended").reason == "No space left on device"
    finally:
        child.end()


@pytest.mark.parametrize("busy", ["connecting", "starting"])
def test_a_sender_dies_with_the_sink(busy: str) -> None:
    """Also while FFmpeg waits for a server and hears nothing."""
    code = (
        "import sys, time\n"
        "from sink.outputs.sent_child import SenderChild\n"
        "child = SenderChild()\n"
        "child.write(bytes.fromhex(sys.argv[1]))\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    _, opening, blob = coded(1)
    with Scripted(mute) as server:
        message = encode(Opening("rtmp", server.address("rtmp://", "/x"), opening.tracks), blob)
        message = message if busy == "connecting" else b""
        parent = subprocess.Popen(
            [sys.executable, "-c", code, message.hex()], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        try:
            assert parent.stdout is not None
            sender = psutil.Process(int(parent.stdout.readline()))
            connected = lambda: any(one.raddr for one in sender.net_connections("tcp"))  # noqa: E731
            if busy == "connecting":
                wait_for(connected, 30, "a connection")
        finally:
            parent.kill()
            parent.wait()
            assert parent.stdout is not None
            parent.stdout.close()
        wait_for(
            lambda: not sender.is_running() or sender.status() == psutil.STATUS_ZOMBIE, 10, "the end of the sender"
        )
