"""Files are the old one or the new one; hashes; the cache folder."""

import errno
import fcntl
import hashlib
import os
import resource
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from kaggle_kit import errors
from kaggle_kit.errors import UsageError
from kaggle_kit.files import (
    fresh_folder,
    home_folder,
    link_or_copy,
    mount_of,
    readable_cache,
    refusal,
    remove_aside,
    sha256_file,
    user_cache,
    user_scratch,
    write_atomic,
)


def test_text_is_written_as_utf8_and_makes_its_folder(tmp_path):
    """Text goes to disk as UTF-8, into a folder that need not exist."""
    path = tmp_path / "a" / "b.txt"
    write_atomic(path, "é\r\n你")
    assert path.read_bytes() == "é\r\n你".encode()


def test_anyone_may_read_what_was_written(tmp_path):
    """The file is readable by other users, as a plain write would leave it."""
    write_atomic(tmp_path / "x", b"1")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o644


def test_an_old_file_is_replaced_whole(tmp_path):
    """A shorter content leaves nothing of the longer one that stood there, and nothing beside it."""
    path = tmp_path / "x"
    write_atomic(path, "long" * 1000)
    write_atomic(path, "short")
    assert path.read_text() == "short"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_keeps_the_old_file(tmp_path):
    """Where the disk takes only a part of the new bytes, the old file stands and no temporary one is left."""
    path = tmp_path / "x"
    write_atomic(path, "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_atomic(path, b"n" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_text_that_is_no_utf8_writes_nothing(tmp_path):
    """A lone surrogate is refused before any file is touched."""
    with pytest.raises(UnicodeEncodeError):
        write_atomic(tmp_path / "x", "\ud800")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1])
def test_a_hash_is_that_of_all_bytes(tmp_path, size):
    """Files of none, one or several chunks hash as their whole content does."""
    content = bytes(i % 251 for i in range(size))
    (tmp_path / "x").write_bytes(content)
    assert sha256_file(tmp_path / "x") == hashlib.sha256(content).hexdigest()


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    """KIT_CACHE_DIR comes first, then XDG_CACHE_HOME, then the home folder; it is made, and closed to others."""
    monkeypatch.setenv("HOME", str(tmp_path / "someone"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path / "chosen"))
    assert user_cache() == tmp_path / "chosen"
    monkeypatch.delenv("KIT_CACHE_DIR")
    assert user_cache() == tmp_path / "xdg" / "kaggle-kit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert user_cache() == tmp_path / "someone" / ".cache" / "kaggle-kit"
    assert stat.S_IMODE(user_cache().stat().st_mode) == 0o700


def test_scratch_is_where_the_user_says(monkeypatch, tmp_path):
    """KIT_SCRATCH_DIR, a folder of this user alone; without it in the cache."""
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("KIT_SCRATCH_DIR", raising=False)
    assert user_scratch() == tmp_path / "cache"
    monkeypatch.setenv("KIT_SCRATCH_DIR", str(tmp_path / "new"))
    assert user_scratch() == tmp_path / "new"
    assert stat.S_IMODE(user_scratch().stat().st_mode) == 0o700
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    monkeypatch.setenv("KIT_SCRATCH_DIR", str(tmp_path / "open"))
    with pytest.raises(errors.UsageError, match="KIT_SCRATCH_DIR"):
        user_scratch()


def test_every_error_is_a_kit_error_with_an_exit_code():
    """All errors are one tree; wrong use ends with 2, failed work with 1."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert all(issubclass(kind, errors.KitError) for kind in kinds)
    assert {kind.exit_code for kind in kinds if issubclass(kind, errors.UsageError)} == {2}
    assert {kind.exit_code for kind in kinds if not issubclass(kind, errors.UsageError)} == {1}


def test_a_file_is_linked_or_copied(tmp_path, monkeypatch):
    """The same bytes either way: as a hard link, and as a copy where there are none."""
    source = tmp_path / "source"
    source.write_bytes(b"bytes")
    link_or_copy(source, tmp_path / "link")
    assert (tmp_path / "link").samefile(source)

    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    link_or_copy(source, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"bytes"
    assert not (tmp_path / "copy").samefile(source)
    with pytest.raises(FileNotFoundError):
        link_or_copy(tmp_path / "missing", tmp_path / "never")


def test_the_place_of_what_is_removed_is_free_at_once(tmp_path):
    """What is made there next is not removed with it, and nothing of the old is left in the end."""
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    for number in range(2000):
        (folder / "deep" / str(number)).touch()
    remove_aside(folder)
    folder.mkdir()
    (folder / "new").touch()
    end = time.monotonic() + 30
    while len(list(tmp_path.iterdir())) > 1 and time.monotonic() < end:
        time.sleep(0.02)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["folder", "folder/new"]


def test_what_is_missing_is_removed_already(tmp_path):
    """No error, and nothing is left of the attempt."""
    remove_aside(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_names_the_place_and_its_disk(tmp_path):
    """Of a disk that takes nothing it says where that is mounted; of another refusal the place alone."""
    full = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "a" / "b"))
    mount = mount_of(tmp_path)
    assert os.path.ismount(mount)
    assert refusal(full).startswith(f"{tmp_path}/a/b: No space left on device")
    (tmp_path / "a").mkdir()
    assert refusal(full).endswith(f": the disk mounted at {mount} is full")
    for number, words in ((errno.EDQUOT, "no room left for this user"), (errno.EROFS, "is for reading alone")):
        assert words in refusal(OSError(number, "x", str(tmp_path)))
    assert refusal(OSError(errno.EACCES, "no", str(tmp_path))) == f"{tmp_path}: no"
    assert refusal(OSError(errno.ENOSPC, "full", "/dev/full")) == "/dev/full: full"


def test_a_refused_write_names_the_file_that_was_meant(tmp_path):
    """Not the temporary one beside it, which nobody knows."""
    (tmp_path / "out").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_atomic(tmp_path / "out", "x")
    assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / "out"), None)
    with pytest.raises(FileNotFoundError) as caught:
        write_atomic(Path("/proc/nothing"), "x")
    assert caught.value.filename == "/proc/nothing"


def test_a_user_without_a_home_is_told(monkeypatch):
    """What needs a folder says which variable names one; what can do without goes on."""

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    for name in ("KIT_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(UsageError, match="set HOME to a folder of yours, or KIT_CACHE_DIR"):
        user_cache()
    assert readable_cache() is None
    assert not home_folder().exists()


def texts_below(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("before", [False, True])
def test_two_that_end_at_once_are_both_whole(tmp_path, before):
    """The second finds that the place is another's by now, and stands beside it; nothing is mixed or left."""
    out, places = tmp_path / "out", []
    if before:
        (out / "deep").mkdir(parents=True)
        (out / "deep" / "a").write_text("earlier")
    with fresh_folder(out, placed=places.append) as first:
        (first / "a").write_text("first")
        with fresh_folder(out, placed=places.append) as second:
            (second / "b").write_text("second")
            with fresh_folder(out, placed=places.append) as third:
                (third / "c").write_text("third")
    assert places == [out, tmp_path / "out-2", tmp_path / "out-3"]
    found = {"out/c": "third", "out-2/b": "second", "out-3/a": "first"}
    assert texts_below(tmp_path) == found
    assert len(list(tmp_path.iterdir())) == 3


def test_processes_that_end_at_once_lose_nothing(tmp_path):
    """Many at the same moment: each result stands somewhere, whole."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom kaggle_kit.files import fresh_folder\n"
        "with fresh_folder(Path(sys.argv[1]), placed=print) as fresh:\n"
        "    for name in 'ab':\n        (fresh / name).write_text(sys.argv[2])\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    many = [subprocess.Popen([*command, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for n in range(6)]
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob(".out.*/b"))) < len(many) and time.monotonic() < deadline:
        time.sleep(0.05)
    for one in many:
        one.stdin.close()
    places = [one.stdout.read().decode().strip() for one in many]
    for one in many:
        one.stdout.close()
        assert one.wait() == 0
    assert len(set(places)) == len(many)
    for number, place in enumerate(places):
        assert texts_below(Path(place)) == {"a": str(number), "b": str(number)}
    assert not list(tmp_path.glob(".*"))


def test_without_a_hearer_the_last_one_stands(tmp_path):
    """Who makes the same thing twice may have either of the two, whole."""
    out = tmp_path / "out"
    with fresh_folder(out) as first:
        (first / "a").write_text("first")
        with fresh_folder(out) as second:
            (second / "b").write_text("second")
    assert texts_below(tmp_path) == {"out/a": "first"}


def killed(folder, ending, content, *, pid=0x7FFFFFFF, age=100.0, mark="abc123"):
    """What a process that was killed left beside `folder`."""
    left = folder.with_name(f".{folder.name}.{pid}-{mark}{ending}")
    left.mkdir()
    (left / "x").write_text(content)
    os.utime(left, (time.time() - age, time.time() - age))
    return left


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    """Half of a result goes; what stood there before the kill comes back; a living process keeps its own."""
    out = tmp_path / "out"
    half, before = killed(out, ".new", "half"), killed(out, ".old", "before")
    living, young = killed(out, ".new", "living", pid=os.getpid()), killed(out, ".new", "young", age=0, mark="young")
    other = killed(tmp_path / "out2", ".new", "another's")
    with suppress(KeyboardInterrupt), fresh_folder(out):
        assert texts_below(out) == {"x": "before"}
        raise KeyboardInterrupt
    assert not half.exists()
    assert not before.exists()
    assert living.exists()
    assert young.exists()
    assert other.exists()
    assert texts_below(out) == {"x": "before"}


def test_a_folder_that_is_held_is_no_leftover(tmp_path):
    """A process of another container has a number that means nothing here, and holds its folder."""
    left = killed(tmp_path / "out", ".new", "held")
    descriptor = os.open(left, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with fresh_folder(tmp_path / "out"):
        assert left.exists()
    os.close(descriptor)
    with fresh_folder(tmp_path / "out"):
        assert not left.exists()
