"""The file under a muxer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from common.errors import OutputError
from sink.outputs.partfile import DiskFull, PartFile, write_error


def test_size_counts_what_is_there_and_holds_after_closing(tmp_path: Path) -> None:
    file = PartFile(tmp_path / "a")
    assert (file.size, file.regular) == (0, True)
    assert file.write(b"0123456789") == 10
    assert (file.size, file.path.read_bytes()) == (10, b"0123456789"), "at once, without a buffer"
    file.seek(2)
    assert file.tell() == 2
    file.write(b"xx")
    assert file.size == 10, "going back changes no size"
    file.seek(0, os.SEEK_END)
    file.write(b"!")
    assert file.size == 11
    file.close()
    assert file.size == 11
    file.close()
    assert (tmp_path / "a").read_bytes() == b"01xx456789!"


def test_an_older_file_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"something longer")
    file = PartFile(tmp_path / "a")
    file.write(b"new")
    file.close()
    assert (tmp_path / "a").read_bytes() == b"new"


def test_frozen_nothing_changes_and_the_muxer_does_not_notice(tmp_path: Path) -> None:
    file = PartFile(tmp_path / "a")
    file.write(b"whole")
    file.freeze()
    assert file.write(b" and a trailer") == 14
    file.seek(0)
    assert file.write(b"W") == 1
    file.close()
    assert (file.size, (tmp_path / "a").read_bytes()) == (5, b"whole")


def test_a_full_disk_is_named_and_remembered() -> None:
    file = PartFile(Path("/dev/full"))
    assert (file.regular, file.size) == (False, -1)
    with pytest.raises(OSError, match="No space left"):
        file.write(b"x")
    assert file.trouble is not None
    error = write_error(file.path, file.trouble)
    assert isinstance(error, DiskFull)
    assert str(error) == "cannot write /dev/full: No space left on device"
    file.close()
    assert file.size == -1


def test_a_pipe_cannot_be_gone_back_in() -> None:
    reader, writer = os.pipe()
    try:
        file = PartFile(Path(f"/dev/fd/{writer}"))
        assert not hasattr(file, "seek"), "PyAV looks for it"
        assert not file.regular
        file.write(b"to the reader")
        assert file.size == -1
        file.close()
        assert os.read(reader, 99) == b"to the reader"
    finally:
        os.close(reader)
        os.close(writer)


def test_a_write_that_takes_less_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may take only a part, of a pipe's data above all."""
    file = PartFile(tmp_path / "a")

    class Slow:
        closed = False

        def __init__(self) -> None:
            self.taken = b""

        def write(self, data: memoryview) -> int:
            self.taken += bytes(data[:3])
            return min(3, len(data))

    slow = Slow()
    file.close()
    monkeypatch.setattr(file, "_file", slow)
    assert file.write(b"0123456789") == 10
    assert slow.taken == b"0123456789"


def test_other_errors_are_no_full_disk(tmp_path: Path) -> None:
    error = write_error(tmp_path / "a", OSError(5, "Input/output error"))
    assert type(error) is OutputError
    assert str(error).endswith("a: Input/output error")
    assert str(write_error(tmp_path / "a", ValueError("what"))).endswith("a: what")
    assert isinstance(write_error(tmp_path / "a", OSError(122, "Disk quota exceeded")), DiskFull)


def test_mending_goes_on_until_it_was_done(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def mend(data: bytes) -> bytes | None:
        seen.append(data)
        return data.upper() if data == b"this" else None

    file = PartFile(tmp_path / "a", mend)
    for data in (b"not ", b"this", b" this"):
        assert file.write(data) == len(data)
    file.close()
    assert (tmp_path / "a").read_bytes() == b"not THIS this"
    assert seen == [b"not ", b"this"]
