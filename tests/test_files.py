"""Files are the old one or the new one; hashes; the cache folder."""

import hashlib
import resource
import stat
import time
from pathlib import Path

import pytest

from kaggle_kit import errors
from kaggle_kit.files import link_or_copy, remove_aside, sha256_file, user_cache, user_scratch, write_atomic


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
