"""What stands in for the package index: a flat folder of exactly the locked files."""

import hashlib

import pytest

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.wheelhouse.lock import Lock, LockedWheel
from kaggle_kit.wheelhouse.offer import ready_offer
from kaggle_kit.wheelhouse.own_environment import SourceArchive


@pytest.fixture
def cached(tmp_path):
    """A function: put a file into the cache; its SHA-256."""

    def put(file: str, text: str) -> str:
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        path = tmp_path / "wheels" / sha256 / file
        path.parent.mkdir(parents=True)
        path.write_text(text)
        return sha256

    return put


def locked(sha256: str) -> Lock:
    wheel = LockedWheel(name="a", version="1.0", file="a-1.0-py3-none-any.whl", sha256=sha256, size=3)
    return Lock(target="x", pythons=("3.12",), machine="x86_64", glibc="2.35", engine="a==1.0", wheels=(wheel,))


def test_what_is_cached_is_offered(cached, tmp_path):
    """Wheels and archives lie side by side, and nothing is asked of a network for them."""
    lock = locked(cached("a-1.0-py3-none-any.whl", "one"))
    archive = SourceArchive(name="b", version="2.0", sha256=cached("b-2.0.tar.gz", "two"))
    folder = ready_offer(lock, [archive], cache=tmp_path)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "a-1.0-py3-none-any.whl": "one",
        "b-2.0.tar.gz": "two",
    }
    assert ready_offer(lock, [archive], cache=tmp_path) == folder
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_another_lock_is_another_folder(cached, tmp_path):
    """What one notebook installs is not offered to another."""
    lock = locked(cached("a-1.0-py3-none-any.whl", "one"))
    archive = SourceArchive(name="b", version="2.0", sha256=cached("b-2.0.tar.gz", "two"))
    assert ready_offer(lock, [], cache=tmp_path) != ready_offer(lock, [archive], cache=tmp_path)


def test_a_cached_archive_that_changed(cached, index, tmp_path, monkeypatch):
    """A file of the cache that is not the archive any more is fetched anew, from the address that the index tells."""
    lock = locked(cached("a-1.0-py3-none-any.whl", "one"))
    archive = SourceArchive(name="b", version="2.0", sha256=cached("b-2.0.tar.gz", "two"))
    (tmp_path / "wheels" / archive.sha256 / "b-2.0.tar.gz").write_text("changed")
    index.files["b-2.0.tar.gz"] = b"two"
    told = (index.url("b-2.0.tar.gz"), "b-2.0.tar.gz", 3, archive.sha256)
    monkeypatch.setattr("kaggle_kit.wheelhouse.offer.ask_archive", lambda *_: told)
    assert (ready_offer(lock, [archive], cache=tmp_path) / "b-2.0.tar.gz").read_text() == "two"


def test_an_archive_that_changed_is_refused(cached, tmp_path, monkeypatch):
    """The index offers a release with another hash: it is not fetched."""
    lock = locked(cached("a-1.0-py3-none-any.whl", "one"))
    found = ("https://example.org/b-2.0.tar.gz", "b-2.0.tar.gz", 3, "e" * 64)
    monkeypatch.setattr("kaggle_kit.wheelhouse.offer.ask_archive", lambda *_: found)
    archive = SourceArchive(name="b", version="2.0", sha256="f" * 64)
    with pytest.raises(WheelhouseError, match=r"b-2\.0\.tar\.gz with SHA-256 eeee.* do not use it"):
        ready_offer(lock, [archive], cache=tmp_path)
