"""Hashes of files that may be large, in mid-write, or hashed before."""

import os
import time
from hashlib import sha256
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.errors import KitError
from kaggle_kit.files import stamp_of
from kaggle_kit.remote.plan import hashes
from kaggle_kit.remote.plan.hashes import digest_of, hash_files, open_cache
from kaggle_kit.runtime.manifest import FileEntry


@pytest.fixture
def cache(tmp_path):
    """A cache of the test's own."""
    return open_cache(tmp_path / "cache" / "hashes.json")


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A function: a file of an hour ago. No file's last change can be set back, so every one counts as settled."""
    monkeypatch.setattr(hashes, "_SETTLED_NS", 0)

    def old(name: str, data: bytes):
        path = tmp_path / name
        path.write_bytes(data)
        hour_ago = time.time() - 3600
        os.utime(path, (hour_ago, hour_ago))
        return path

    return old


def write_in_place(path, *, as_of=None):
    """Other bytes of the same size into a file, with the time that it had, `as_of`, set again."""
    with path.open("r+b") as stream:
        stream.write(b"two")
    if as_of:
        os.utime(path, ns=(as_of.st_atime_ns, as_of.st_mtime_ns))


def test_a_hash_is_that_of_the_bytes(cache, old):
    """An entry holds the file's SHA-256 and size under the name that was asked for."""
    data = os.urandom(9_000_001)
    [entry] = hash_files({"sub/a": old("a", data)}, cache=cache)
    assert entry == FileEntry("sub/a", sha256(data).hexdigest(), len(data))


def test_an_unchanged_file_is_read_once(cache, old):
    """The second hash is told at once, not chunk by chunk, from a cache read from disk too."""
    path, first, second = old("a", bytes(9_000_001)), [], []
    entries = hash_files({"a": path}, cache=cache, tell=lambda _, count: first.append(count))
    assert hash_files({"a": path}, cache=open_cache(cache.place), tell=lambda _, count: second.append(count)) == entries
    assert (len(first), second) == (3, [9_000_001])


def test_a_change_of_the_same_size_and_time_is_seen_by_the_inode(cache, old):
    """A file that was replaced by another is hashed anew, though size and time are the same."""
    path = old("a", b"one")
    hash_files({"a": path}, cache=cache)
    old("b", b"two").rename(path)
    [entry] = hash_files({"a": path}, cache=cache)
    assert entry.sha256 == sha256(b"two").hexdigest()


def test_a_change_of_the_time_alone_hashes_anew(cache, old):
    """A file written again is not trusted to be the same."""
    path = old("a", b"one")
    hash_files({"a": path}, cache=cache)
    write_in_place(path)
    [entry] = hash_files({"a": path}, cache=cache)
    assert entry.sha256 == sha256(b"two").hexdigest()


def test_a_change_whose_time_was_set_back_hashes_anew(cache, old):
    """Other bytes of the same size in the same file, with its old time set again: as `rsync --inplace` leaves it."""
    path = old("a", b"one")
    status = path.stat()
    hash_files({"a": path}, cache=cache)
    write_in_place(path, as_of=status)
    [entry] = hash_files({"a": path}, cache=cache)
    assert entry.sha256 == sha256(b"two").hexdigest()


def test_a_file_written_just_now_is_not_remembered(cache, tmp_path):
    """Within one tick of the clock a file can change and keep its time: such a hash is used once."""
    path = tmp_path / "a"
    path.write_bytes(b"one")
    status = path.stat()
    hash_files({"a": path}, cache=cache)
    write_in_place(path, as_of=status)
    [entry] = hash_files({"a": path}, cache=cache)
    assert entry.sha256 == sha256(b"two").hexdigest()


def test_a_file_that_changes_while_it_is_read(cache, old):
    """A file that grows under the reader is an error that says to wait."""
    path = old("a", bytes(10_000_000))

    def grow(_: object, count: int) -> None:
        if count:
            with path.open("ab") as stream:
                stream.write(b"more")

    with pytest.raises(KitError, match=r"a changed while it was read; wait"):
        hash_files({"a": path}, cache=cache, tell=grow)


def test_a_further_link_while_it_is_read_is_no_change(cache, old):
    """The hash is that of the bytes, and is not remembered for a state that is over."""
    path = old("a", bytes(10_000_000))
    [entry] = hash_files({"a": path}, cache=cache, tell=lambda *_: os.link(path, path.with_name(uuid4().hex)))
    assert entry.sha256 == sha256(bytes(10_000_000)).hexdigest()
    assert cache.get(path, stamp_of(path.stat())) is None


def test_a_file_replaced_while_it_is_read(cache, old):
    """A file swapped for another under the reader is an error too."""
    path = old("a", bytes(10_000_000))
    with pytest.raises(KitError, match="changed while it was read"):
        hash_files({"a": path}, cache=cache, tell=lambda *_: old("b", bytes(10_000_000)).rename(path))


def test_progress_adds_up(cache, old):
    """What is told of is all bytes, those of remembered files included."""
    files = {"a": old("a", bytes(5_000_000)), "b": old("b", bytes(7))}
    for _ in range(2):
        told: list[int] = []
        hash_files(files, cache=cache, tell=lambda _, count, told=told: told.append(count))
        assert sum(told) == 5_000_007


def test_a_file_that_is_not_there(cache, tmp_path):
    """A file that cannot be read is named."""
    with pytest.raises(KitError, match="gone cannot be read"):
        hash_files({"gone": tmp_path / "gone"}, cache=cache)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 1}', '{"version": 1, "files": {"a": 1}}', '{"version": 3, "files": {}}', "\0"]
)
def test_a_damaged_cache_is_an_empty_one(text, tmp_path, old):
    """A cache that cannot be read costs time and nothing else."""
    place = tmp_path / "hashes.json"
    place.write_text(text, encoding="utf-8")
    assert hash_files({"a": old("a", b"x")}, cache=open_cache(place))[0].sha256 == sha256(b"x").hexdigest()


def test_a_cache_forgets_what_is_gone(cache, old):
    """A file that was removed leaves the cache when it is next written."""
    gone, kept = old("gone", b"x"), old("kept", b"y")
    hash_files({"gone": gone}, cache=cache)
    gone.unlink()
    hash_files({"kept": kept}, cache=cache)
    text = cache.place.read_text(encoding="utf-8")
    assert "kept" in text
    assert "gone" not in text


def test_two_caches_keep_each_others_hashes(cache, old):
    """Two commands at once lose nothing: what is written joins what is there."""
    other = open_cache(cache.place)
    hash_files({"a": old("a", b"x")}, cache=cache)
    hash_files({"b": old("b", b"y")}, cache=other)
    assert len(open_cache(cache.place)._known) == 2


entries = st.lists(
    st.builds(FileEntry, st.text(min_size=1), st.sampled_from(["a" * 64, "b" * 64]), st.integers(0, 3)),
    unique_by=lambda entry: entry.path,
)


@given(entries, st.randoms())
def test_a_digest_knows_no_order(found, random):
    """A folder's digest is the same whatever order its files are met in."""
    shuffled = list(found)
    random.shuffle(shuffled)
    assert digest_of(shuffled) == digest_of(found)


@given(entries, entries)
def test_a_digest_tells_folders_apart(one, other):
    """Two folders that differ in a path, a hash or a size have two digests."""
    assert (digest_of(one) == digest_of(other)) == (sorted(map(str, one)) == sorted(map(str, other)))
