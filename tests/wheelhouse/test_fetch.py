"""Downloads over a real loopback server: cut, refused, wrong, full, interrupted."""

import dataclasses
import hashlib
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from fake_index import Index

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.retry import Patience
from kaggle_kit.wheelhouse import fetch as fetch_module
from kaggle_kit.wheelhouse.fetch import _CHUNK_BYTES, fetch
from kaggle_kit.wheelhouse.lock import Lock, LockedWheel

_FILE = "big-1.0-py3-none-any.whl"
_QUICK = Patience(attempts=3, first_s=0.01)


@pytest.fixture
def one(index: Index) -> Lock:
    """A lock of one wheel of about 3 MB."""
    body = index.add(_FILE, padding=3_000_000)
    wheel = LockedWheel(name="big", version="1.0", file=_FILE, sha256=hashlib.sha256(body).hexdigest(), size=len(body))
    return Lock(target="tiny", pythons=("3.11",), machine="x86_64", glibc="2.35", engine="big==1.0", wheels=(wheel,))


def _fetch(lock: Lock, cache: Path, index: Index, **options: object) -> Path:
    paths = fetch(lock, cache=cache, urls={_FILE: index.url(_FILE)}, patience=_QUICK, **options)
    return paths[_FILE]


def _within(span: str | None, byte: int, *, pieces: int = 1) -> bool:
    """Whether a Range header begins at `byte`, or at most `pieces` pieces before: a cut may lose one."""
    start = int(span.removeprefix("bytes=").removesuffix("-")) if span else 0
    return byte - pieces * _CHUNK_BYTES <= start <= byte


def test_all_files_come(lock: Lock, cache: Path, stocked: Index) -> None:
    """Every file of a lock is in the cache afterwards, byte for byte, found through the index alone."""
    paths = fetch(lock, cache=cache)
    assert {file: path.read_bytes() for file, path in paths.items()} == {
        wheel.file: stocked.files[wheel.file] for wheel in lock.wheels
    }


def test_nothing_is_asked_when_all_is_there(
    lock: Lock, cache: Path, stocked: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second fetch neither asks the index nor starts uv."""
    fetch(lock, cache=cache)
    asked = len(stocked.requests)
    monkeypatch.setattr("uv.find_uv_bin", lambda: pytest.fail("uv was started"))
    fetch(lock, cache=cache)
    assert len(stocked.requests) == asked


def test_resumed_after_a_cut(one: Lock, cache: Path, index: Index) -> None:
    """A connection cut twice goes on at the byte where it stopped, each time."""
    index.cuts[_FILE] = [1_000_000, 500_000]
    assert _fetch(one, cache, index).read_bytes() == index.files[_FILE]
    assert [_within(span, 0) for span in index.gets(_FILE)] == [True, False, False]
    assert _within(index.gets(_FILE)[1], 1_000_000)
    assert _within(index.gets(_FILE)[2], 1_500_000, pieces=2)


def test_resumed_by_a_later_run(one: Lock, cache: Path, index: Index) -> None:
    """What a run that gave up had downloaded is not downloaded again."""
    index.cuts[_FILE] = [700_000, 0, 0, 0]
    with pytest.raises(WheelhouseError, match=r"3 times in a row.*goes on where this one stopped"):
        _fetch(one, cache, index)
    del index.requests[:]
    assert _fetch(one, cache, index).read_bytes() == index.files[_FILE]
    assert [_within(span, 700_000) for span in index.gets(_FILE)] == [True]


def test_server_without_ranges(one: Lock, cache: Path, index: Index) -> None:
    """A server that ignores the Range header sends the whole file, and the whole file is taken."""
    index.honours_range = False
    index.cuts[_FILE] = [1_000_000]
    assert _fetch(one, cache, index).read_bytes() == index.files[_FILE]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_trouble_is_waited_for(one: Lock, cache: Path, index: Index, status: int) -> None:
    """A server that is busy is asked again."""
    index.statuses[_FILE] = [status, status]
    assert _fetch(one, cache, index).read_bytes() == index.files[_FILE]


def test_trouble_that_stays(one: Lock, cache: Path, index: Index) -> None:
    """A server that stays busy is an error after a bounded number of attempts."""
    index.statuses[_FILE] = [503] * 9
    with pytest.raises(WheelhouseError, match="the server answers 503"):
        _fetch(one, cache, index)
    assert len(index.gets(_FILE)) == 3


@pytest.mark.parametrize("status", [403, 404, 410])
def test_refusal_is_final(one: Lock, cache: Path, index: Index, status: int) -> None:
    """A file that is refused or gone is not asked for again."""
    index.statuses[_FILE] = [status]
    with pytest.raises(WheelhouseError, match=rf"{_FILE} cannot be downloaded: {status}"):
        _fetch(one, cache, index)
    assert len(index.gets(_FILE)) == 1


def test_no_server(one: Lock, cache: Path) -> None:
    """A server that does not answer is an error that names the file."""
    with pytest.raises(WheelhouseError, match=rf"{_FILE} could not be downloaded: ConnectionRefused"):
        fetch(one, cache=cache, urls={_FILE: f"http://127.0.0.1:9/{_FILE}"}, patience=_QUICK)


def test_password_is_not_shown(one: Lock, cache: Path) -> None:
    """An address with a password is shown without it."""
    with pytest.raises(WheelhouseError) as caught:
        fetch(one, cache=cache, urls={_FILE: f"http://me:secret@127.0.0.1:9/{_FILE}"}, patience=_QUICK)
    assert "secret" not in str(caught.value)


def test_wrong_hash(one: Lock, cache: Path, index: Index) -> None:
    """A file with another hash never enters the cache, and the error shows both hashes."""
    body = bytearray(index.files[_FILE])
    body[1_000] ^= 1
    index.files[_FILE] = bytes(body)
    found = hashlib.sha256(body).hexdigest()
    with pytest.raises(WheelhouseError, match=rf"{_FILE} came with SHA-256 {found}.*{one.wheels[0].sha256}"):
        _fetch(one, cache, index)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_longer_than_locked(one: Lock, cache: Path, index: Index) -> None:
    """A file that is longer than locked is dropped."""
    index.files[_FILE] += b"more"
    with pytest.raises(WheelhouseError, match="bytes, the lock says"):
        _fetch(one, cache, index)


def test_part_of_another_file(one: Lock, cache: Path, index: Index) -> None:
    """A wrong part from before is found out, dropped, and the next fetch succeeds."""
    part = cache / "wheels" / f"{one.wheels[0].sha256}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1_000)
    with pytest.raises(WheelhouseError, match="came with SHA-256"):
        _fetch(one, cache, index)
    assert _fetch(one, cache, index).read_bytes() == index.files[_FILE]


def test_file_address(one: Lock, cache: Path, index: Index, tmp_path: Path) -> None:
    """A file:// address is copied, a part of it included."""
    source = tmp_path / "with space" / _FILE
    source.parent.mkdir()
    source.write_bytes(index.files[_FILE])
    (cache / "wheels").mkdir(parents=True)
    (cache / "wheels" / f"{one.wheels[0].sha256}.part").write_bytes(index.files[_FILE][:99])
    paths = fetch(one, cache=cache, urls={_FILE: source.as_uri()})
    assert paths[_FILE].read_bytes() == index.files[_FILE]


def test_file_address_without_file(one: Lock, cache: Path, tmp_path: Path) -> None:
    """A file:// address that leads nowhere is an error that names the path."""
    with pytest.raises(WheelhouseError, match=r"nowhere\.whl is missing"):
        fetch(one, cache=cache, urls={_FILE: (tmp_path / "nowhere.whl").as_uri()})


def test_progress_ends_at_the_total(one: Lock, cache: Path, index: Index) -> None:
    """Progress rises to the locked size, through cuts and a server that begins again."""
    index.honours_range = False
    index.cuts[_FILE] = [1_000_000]
    seen: list[tuple[int, int]] = []
    _fetch(one, cache, index, progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, one.size)
    assert seen[-1] == (one.size, one.size)
    assert all(0 <= done <= total for done, total in seen)


def test_changed_cache_is_found_out(one: Lock, cache: Path, index: Index) -> None:
    """A cached file in which one byte was flipped is fetched again, without being told to look."""
    path = _fetch(one, cache, index)
    path.chmod(0o644)
    with path.open("r+b") as stream:
        stream.seek(5_000)
        stream.write(b"!")
    assert _fetch(one, cache, index).read_bytes() == index.files[_FILE]


def test_cache_changed_in_secret(one: Lock, cache: Path, index: Index) -> None:
    """With `rehash` even a change that left size and time alone is found out."""
    path = _fetch(one, cache, index)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    fetch_module.os.utime(path, (fetch_module._CHECKED_TIME,) * 2)
    assert _fetch(one, cache, index, rehash=True).read_bytes() == index.files[_FILE]


def test_full_disk_is_foreseen(one: Lock, cache: Path, index: Index) -> None:
    """A lock that cannot fit on the disk is refused before the first byte."""
    huge = dataclasses.replace(one, wheels=(dataclasses.replace(one.wheels[0], size=10**18),))
    with pytest.raises(WheelhouseError, match=r"MB are free\. Make room"):
        _fetch(huge, cache, index)
    assert index.gets(_FILE) == []


def test_disk_that_fills_up(one: Lock, cache: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up while a file comes is an error that says so."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetch_module, "download", full)
    with pytest.raises(WheelhouseError, match=r"the disk of .* is full"):
        _fetch(one, cache, index)


def test_two_at_once(one: Lock, cache: Path, index: Index) -> None:
    """Two fetches of the same file at the same time download it once."""
    results: list[Path] = []
    threads = [threading.Thread(target=lambda: results.append(_fetch(one, cache, index))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() == index.files[_FILE] for path in results] == [True, True]
    assert len(index.gets(_FILE)) == 1


def test_first_error_stops_the_rest(lock: Lock, cache: Path, stocked: Index) -> None:
    """One file that is refused stops the whole fetch, and is the one that is named."""
    urls = {wheel.file: stocked.url(wheel.file) for wheel in lock.wheels}
    stocked.statuses["helper-1.5-py3-none-any.whl"] = [403]
    with pytest.raises(WheelhouseError, match=r"helper-1\.5.*403"):
        fetch(lock, cache=cache, urls=urls)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_leaves_a_part(one: Lock, cache: Path, index: Index) -> None:
    """Ctrl-C in mid-download ends at once and leaves what has come, which the next fetch goes on from."""
    script = textwrap.dedent(
        """
        import os, signal, sys, time
        from pathlib import Path
        from kaggle_kit.wheelhouse.fetch import fetch
        from kaggle_kit.wheelhouse.lock import read_lock

        def progress(done, total):
            if done > 1_000_000:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(60)  # or the rest could come before the signal does

        fetch(read_lock(Path(sys.argv[1])), cache=Path(sys.argv[2]), urls={sys.argv[3]: sys.argv[4]}, progress=progress)
        """
    )
    from kaggle_kit.wheelhouse.lock import write_lock

    write_lock(cache / "pylock.one.toml", one)
    command = [sys.executable, "-c", script, cache / "pylock.one.toml", cache, _FILE, index.url(_FILE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "KeyboardInterrupt" in done.stderr
    part = cache / "wheels" / f"{one.wheels[0].sha256}.part"
    had = part.stat().st_size
    assert 1_000_000 < had < one.size
    assert _fetch(one, cache, index).read_bytes() == index.files[_FILE]
    assert index.gets(_FILE)[-1] == f"bytes={had}-"
