"""What the host receives of a run: whatever the frames say, only plain files, within limits; and a bounded log."""

import io
import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.sandbox import output as output_module
from kaggle_kit.sandbox import seal_driver as frames
from kaggle_kit.sandbox.output import LINE_BYTES, Limits, LogFile, Received, Receiver, lines_of, receive
from kaggle_kit.sandbox.seal_driver import HEADER, Output, Sender, send_output

LIMITS = Limits(1000)


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    return HEADER.pack(kind, len(payload)) + payload


def file(name: bytes, data: bytes = b"x", end: bytes = frames.WHOLE) -> bytes:
    return frame(frames.FILE, name) + (frame(frames.DATA, data) if data else b"") + frame(end)


def received_of(
    folder: Path, *parts: bytes, limits: Limits = LIMITS, reserved: frozenset[str] = frozenset()
) -> Received:
    return receive(io.BytesIO(b"".join(parts)), folder, limits=limits, reserved=reserved)


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_come_out_under_their_names(tmp_path):
    """A file in a folder, an empty one, and one in several parts are as they were sent."""
    long = frame(frames.FILE, b"long") + frame(frames.DATA, b"1") + frame(frames.DATA, b"2") + frame(frames.WHOLE)
    received = received_of(tmp_path, file(b"a/b/c.csv", b"id"), file(b"empty", b""), long, frame(frames.END))
    assert listing(tmp_path) == {"a/b/c.csv": b"id", "empty": b"", "long": b"12"}
    assert (received.complete, received.left, received.failed) == (True, [], [])


@pytest.mark.parametrize(
    "name",
    [b"../a", b"a/../../b", b"/etc/passwd", b"", b"a//b", b"./a", b"a/.", b"a\0b", b"x" * 5000, b"a/" * 40 + b"b"],
)
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    """A name with a step up, an absolute one, or one that is none, makes no file, and the next file comes out."""
    inner = tmp_path / "inner"
    inner.mkdir()
    received = received_of(inner, file(name), file(b"next"), frame(frames.END))
    assert listing(tmp_path) == {"inner/next": b"x"}
    assert len(received.left) == 1


def test_what_is_there_is_neither_followed_nor_replaced(tmp_path):
    """A link or a file that already has the name stays as it is."""
    inner, outside = tmp_path / "inner", tmp_path / "outside"
    inner.mkdir()
    outside.mkdir()
    (inner / "file").symlink_to(outside / "made")
    (inner / "folder").symlink_to(outside)
    (inner / "kept").write_bytes(b"kept")
    received = received_of(inner, file(b"file"), file(b"folder/a"), file(b"kept"), frame(frames.END))
    assert list(outside.iterdir()) == []
    assert (inner / "kept").read_bytes() == b"kept"
    assert len(received.failed) == 3


def test_names_of_kits_own_files_are_reserved(tmp_path):
    """A notebook cannot leave a log or a report of its own in place of kit's."""
    received = received_of(
        tmp_path, file(b"report.json"), file(b"sub/report.json"), reserved=frozenset({"report.json"})
    )
    assert list(listing(tmp_path)) == ["sub/report.json"]
    assert "report.json was left behind" in received.left[0]


def test_a_file_beyond_the_bytes_is_left_and_smaller_ones_come(tmp_path):
    """What does not fit is left whole; nothing of it stays."""
    received = received_of(tmp_path, file(b"a", b"x" * 600), file(b"b", b"x" * 600), file(b"c", b"x" * 300))
    assert sorted(listing(tmp_path)) == ["a", "c"]
    assert "b was left behind" in received.left[0]


def test_files_beyond_the_count_are_left(tmp_path):
    """A million empty files do not fill the disk's table of files, nor a report."""
    names = [file(b"%d" % number, b"") for number in range(100)]
    received = received_of(tmp_path, *names, frame(frames.END), limits=Limits(1000, files=10))
    assert len(listing(tmp_path)) == 10
    assert len(received.left) < 30


@pytest.mark.parametrize("name", [b"\xff.csv", b"a/\xc3", b"\xed\xa0\x80", b"\xe9t\xe9/a.csv"])
def test_a_name_that_no_text_can_hold_is_left(tmp_path, name):
    """Lists of a run's files are JSON: one such name would keep all the others back."""
    received = received_of(tmp_path, file(name), file("é\n.csv".encode()), frame(frames.END))
    assert listing(tmp_path) == {"é\n.csv": b"x"}
    assert "not UTF-8" in received.left[0]


def test_folders_count_as_files_do(tmp_path):
    """Ten files in three hundred folders do not leave three hundred folders, even if none comes whole."""
    deep = [b"/".join([b"%d" % number, *([b"d"] * 29), b"f"]) for number in range(10)]
    received = received_of(
        tmp_path, *(file(name, b"x" * 2000) for name in deep), frame(frames.END), limits=Limits(1000, files=50)
    )
    assert len(list(tmp_path.rglob("*"))) < 50 + frames.DEPTH
    assert "files and folders" in " ".join(received.left)


def test_a_name_that_no_reader_could_open_is_left(tmp_path):
    """With the folder before it a path must not be longer than the system takes: its readers would fail."""
    name = b"/".join([b"a" * 255] * 15 + [b"b" * 200])
    received = received_of(tmp_path, file(name), file(b"c.csv"), frame(frames.END))
    assert listing(tmp_path) == {"c.csv": b"x"}
    assert "was left behind" in received.left[0]


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"F",
        frame(b"?"),
        HEADER.pack(frames.DATA, (1 << 32) - 1),
        frame(frames.DATA, b"x"),
        frame(frames.FILE, b"cut") + frame(frames.DATA, b"half"),
        frame(frames.FILE, b"cut") + frame(frames.FILE, b"other"),
        frame(frames.FILE, b"cut") + frame(frames.END),
    ],
)
def test_a_stream_that_is_cut_or_forged_is_told(tmp_path, rest):
    """What came whole before stays, what came in part does not, and the result says so."""
    received = received_of(tmp_path, file(b"whole"), rest)
    assert list(listing(tmp_path)) == ["whole"]
    assert not received.complete
    assert len(received.failed) == 1


def test_a_file_that_could_not_be_read_is_not_there_in_part(tmp_path):
    """The sender says that it broke off: no half of it is left, and the rest comes."""
    received = received_of(tmp_path, file(b"a", end=frames.BROKEN), file(b"b"), frame(frames.END))
    assert list(listing(tmp_path)) == ["b"]
    assert received.failed == ["a could not be brought out: it could not be read to its end"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told(tmp_path, monkeypatch):
    """A file that cannot be written is named, and the stream is read on."""
    real = os.open

    def full(path, flags, mode=0o777, *, dir_fd=None):
        return real("/dev/full", os.O_WRONLY) if path == b"a" else real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", full)
    received = received_of(tmp_path, file(b"a"), file(b"b"), frame(frames.END))
    assert list(listing(tmp_path)) == ["b"]
    assert received.failed == ["a could not be brought out: No space left on device"]


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.builds(frame, st.sampled_from([b"F", b"D", b"W", b"B", b".", b"?"]), st.binary(max_size=12)),
            st.builds(file, st.text("a./\0", max_size=8).map(str.encode), st.binary(max_size=20)),
        ),
        max_size=20,
    )
)
def test_no_stream_leaves_more_than_plain_files(parts):
    """Any bytes at all: nothing raises, and below the folder there are folders and plain files within bounds."""
    with tempfile.TemporaryDirectory() as outer:
        inner = Path(outer, "inner")
        inner.mkdir()
        received_of(inner, *parts, limits=Limits(60, files=5, depth=3))
        assert [path.name for path in Path(outer).iterdir()] == ["inner"]
        made = [path.lstat() for path in inner.rglob("*")]
        plain = [each for each in made if stat.S_ISREG(each.st_mode)]
        assert all(stat.S_ISREG(each.st_mode) or stat.S_ISDIR(each.st_mode) for each in made)
        assert sum(each.st_size for each in plain) <= 60
        assert len(plain) <= 5


def test_what_the_driver_sends_is_what_is_taken(tmp_path):
    """Both sides together: files, a link within the folder, and a file besides."""
    working, out = tmp_path / "working", tmp_path / "out"
    (working / "folder").mkdir(parents=True)
    out.mkdir()
    (working / "folder/a").write_bytes(b"a" * 3_000_000)
    (working / "link").symlink_to("folder/a")
    (tmp_path / "executed.ipynb").write_text("{}")
    with Receiver(out, limits=Limits(1 << 30)) as receiver:
        output = Output(working, (tmp_path / "executed.ipynb", tmp_path / "missing"), 1 << 30)
        sender = Sender(os.dup(receiver.write_end))
        problems = send_output(sender, output)
        sender.close()
        receiver.close_write_end()
    assert problems == ([], [])
    assert receiver.received == Received(complete=True)
    assert listing(out) == {"executed.ipynb": b"{}", "folder/a": b"a" * 3_000_000, "link": b"a" * 3_000_000}


def test_a_line_without_an_end_is_cut_in_pieces():
    """A notebook that prints without a line end cannot fill the memory."""
    lines = list(lines_of(io.BytesIO(b"x" * (LINE_BYTES * 2 + 5) + b"\nnext\n")))
    assert [len(line) for line in lines] == [LINE_BYTES, LINE_BYTES, 5, 4]


def test_a_long_log_keeps_its_beginning_and_its_end(tmp_path, monkeypatch):
    """Beyond the bound only the last lines are kept, with the count of those left out."""
    monkeypatch.setattr(output_module, "LOG_HEAD_BYTES", 50)
    monkeypatch.setattr(output_module, "LOG_TAIL_LINES", 2)
    with LogFile(tmp_path / "log.txt") as log:
        shown = [log.line(f"line {number}") for number in range(20)]
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert lines[:2] == ["line 0", "line 1"]
    assert lines[-3:] == ["[kit: 11 lines are left out here; the log is too long]", "line 18", "line 19"]
    assert shown == [True] * 7 + [False] * 13


def test_a_log_within_the_bound_is_whole(tmp_path):
    """Nothing is left out, and nothing is added."""
    with LogFile(tmp_path / "log.txt") as log:
        assert log.line("only")
    assert (tmp_path / "log.txt").read_text() == "only\n"
