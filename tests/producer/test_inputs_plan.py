"""What addresses ask for, without opening any: options, deadlines, and what is patient with whom."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.errors import SourceError
from common.files import capture_device, check_source_file, is_live, is_pictures, local_path
from producer.inputs.arrival import Arrival
from producer.inputs.plan import LOOK_SHARE, PATIENCE, PATIENT_SHARE, SEGMENT_S, UDP_BUFFER, Plan, as_hls, make_plan
from producer.inputs.watch import PictureWatch
from tests.producer.conftest import stream


def plan(address: str | Path, **fields: Any) -> Plan:
    return make_plan(stream(address, **fields))


@pytest.mark.parametrize(
    ("address", "kind", "options"),
    [
        ("rtsp://h/x", "network", {"rtsp_transport": "tcp"}),
        ("RTMP://h/live/x", "network", {}),
        ("http://h/x.ts", "network", {}),
        ("udp://@239.1.1.1:5000?fifo_size=9", "network", {"buffer_size": str(UDP_BUFFER), "overrun_nonfatal": "1"}),
        ("rtp://@:5000", "network", {"buffer_size": str(UDP_BUFFER), "overrun_nonfatal": "1"}),
        ("srt://h:9000?latency=80", "srt", {}),
    ],
)
def test_the_network(address: str, kind: str, options: dict[str, str]) -> None:
    found = plan(address, source_timeout=4)
    assert (found.kind, found.address, found.live, found.rereadable) == (kind, address, True, False)
    assert found.options == {"fpsprobesize": "3", **options}
    assert found.read_s == 4
    assert found.patience_s == 4 * PATIENCE


def test_rtsp_over_udp() -> None:
    options = plan("rtsp://h/x", transport="udp").options
    assert (options["rtsp_transport"], options["buffer_size"]) == ("udp", str(UDP_BUFFER))


def test_deadlines_by_protocol() -> None:
    """A server of RTMP says nothing before a keyframe, HLS is read by the segment."""
    rtsp, rtmp = plan("rtsp://h/x", source_timeout=4), plan("rtmp://h/x", source_timeout=4)
    assert (rtsp.connect_s, rtsp.open_s) == (4, 4)
    assert (rtmp.connect_s, rtmp.open_s) == (12, 12)
    for address in ("http://h/x.m3u8", "https://h/x.M3U8?token=1"):
        hls = plan(address, source_timeout=4)
        assert (hls.open_s, hls.read_s, hls.hls, hls.paced, hls.look) == (12, SEGMENT_S, True, True, None)
    assert plan("http://h/x.m3u8", source_timeout=30).read_s == 30
    assert not plan("http://h/x.ts").hls
    assert as_hls(plan("http://h/x")) == replace(plan("http://h/x.m3u8"), address="http://h/x")


def test_patience_is_for_what_may_still_come() -> None:
    ts, rtmp = plan("udp://h:1", source_timeout=5), plan("rtmp://h/x", source_timeout=5)
    assert ts.patient("sound") is ts, "it was waited for already"
    slow = ts.patient("picture")
    assert (slow.look, slow.open_s, slow.connect_s) == (PATIENT_SHARE * 15, 15, 5)
    assert slow.patient("picture") is slow
    assert rtmp.patient("sound").look == LOOK_SHARE * 5
    assert rtmp.patient("picture").look == PATIENT_SHARE * 15
    hls = plan("http://h/x.m3u8")
    assert hls.patient("picture") is hls


def test_short_deadlines_are_kept() -> None:
    for scheme in ("rtsp", "rtmp"):
        found = plan(f"{scheme}://h/x", source_timeout=0.5)
        assert found.look == 0.5 * LOOK_SHARE


def test_a_capture_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer.inputs.plan.check_source_file", lambda path: None)  # there is none here
    found = plan("/dev/video0?size=1280x720&rate=30&format=mjpeg")
    assert (found.kind, found.address, found.format, found.live) == ("device", "/dev/video0", "v4l2", True)
    assert found.options == {"video_size": "1280x720", "framerate": "30", "input_format": "mjpeg"}
    assert plan("/dev/video0").options == {}
    assert plan("file:///dev/video1?rate=30000/1001").options == {"framerate": "30000/1001"}
    for wrong, said in [
        ("siz=1x1", "'siz' is no option of a device: use size, rate, format"),
        ("size=big", "size=big makes no sense"),
        ("rate=", "rate= makes no sense"),
        ("format=a;b", "makes no sense"),
    ]:
        with pytest.raises(SourceError, match=said):
            plan(f"/dev/video0?{wrong}")


def test_no_device_says_so() -> None:
    with pytest.raises(SourceError, match="no such device: /dev/video99"):
        plan("/dev/video99?size=640x480")


def test_files_pipes_and_pictures(tmp_path: Path) -> None:
    clip, fifo, frames = tmp_path / "a:b[1].mp4", tmp_path / "fifo", tmp_path / "frames"
    clip.write_bytes(b"x")
    os.mkfifo(fifo)
    frames.mkdir()
    (frames / "1.jpg").write_bytes(b"x")
    assert (plan(clip).kind, plan(clip).address, plan(clip).rereadable) == ("file", f"file:{clip}", True)
    assert (plan(fifo).kind, plan(fifo).live, plan(fifo).rereadable) == ("pipe", False, False)
    assert plan(fifo).read_s is None, "who writes may take all the time there is"
    assert (plan(frames, picture_rate=12.5).kind, plan(frames, picture_rate=12.5).rate) == ("pictures", 12.5)
    assert plan(frames / "*.jpg").kind == "pictures"


@pytest.mark.parametrize(
    ("address", "live"),
    [("rtsp://h/x", True), ("RTMP://h/x", True), ("udp://@:5000", True), ("/dev/video0", True), ("a.mp4", False),
     ("/x/rtsp.mp4", False), ("file:///x/a.mp4", False), ("-", False), ("/dev/video0?size=1x1", True),
     ("f/*.jpg", False), ("/dev/stdin", False), ("/dev/shm/a.mp4", False), ("/dev/fd/3", False),
     ("/dev/dvb/adapter0/dvr0", True)],
)  # fmt: skip
def test_what_is_taken_as_live(address: str, live: bool) -> None:
    assert is_live(address) is live


def test_the_paths_of_addresses() -> None:
    assert local_path("-") is None
    assert local_path("srt://h:1") is None
    assert local_path("/dev/video0?rate=30") == Path("/dev/video0")
    assert capture_device("/dev/v4l/by-id/usb-x?rate=30") == Path("/dev/v4l/by-id/usb-x")
    assert capture_device("/dev/shm/video0") is None


def test_pictures_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "a[1].mp4").write_bytes(b"x")
    (tmp_path / "1.jpg").write_bytes(b"x")
    assert is_pictures(str(tmp_path))
    assert is_pictures(str(tmp_path / "*.jpg"))
    assert not is_pictures(str(tmp_path / "a[1].mp4")), "a file of that very name"
    assert not is_pictures("http://h/*.jpg")
    check_source_file(tmp_path)
    check_source_file(tmp_path / "*.jpg")
    with pytest.raises(SourceError, match="no picture matches"):
        check_source_file(tmp_path / "*.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="is a folder without files"):
        check_source_file(tmp_path / "empty")


def test_times_of_arrival_rise() -> None:
    arrival = Arrival()
    assert [arrival.stamp(now) for now in (5.0, 5.04, 5.04, 5.039, 6.0)] == [0, 3600, 3601, 3602, 90_000]
    arrival.check()


def test_a_picture_is_missed_only_while_somebody_reads() -> None:
    watch = PictureWatch(5.0, 100.0)
    assert not watch.overdue(105.0)
    assert watch.overdue(105.1)
    watch.paused(10.0)
    assert not watch.overdue(114.0)
    watch.picture(114.0)
    assert watch.overdue(120.0)
    assert not PictureWatch(None, 0.0).overdue(1e9)
