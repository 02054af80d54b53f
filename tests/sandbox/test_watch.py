"""The memory of a process tree, sampled, and the disk that a run may fill."""

import subprocess
import sys
import threading
import time

import pytest

from kaggle_kit.sandbox import watch as watch_module
from kaggle_kit.sandbox.watch import MemoryWatch, SpaceWatch, folder_bytes

MEGABYTES = 200
CHILD = f"x = b'x' * {MEGABYTES}_000_000; print('ready', flush=True); input()"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(watch_module, "_SECONDS_BETWEEN_LOOKS", 0.02)


def told(watch: SpaceWatch, write) -> list[str]:
    said: list[str] = []
    ended = threading.Event()

    def end(why: str) -> None:
        said.append(why)
        ended.set()

    with watch.watching(end):
        write()
        ended.wait(5 if write is not nothing else 0.2)
    return said


def nothing() -> None:
    """Write nothing."""


def test_a_run_that_writes_too_much_is_ended(tmp_path):
    """The sentence says how much there is, and how much is allowed."""
    said = told(SpaceWatch(tmp_path, most_bytes=10 << 20), lambda: (tmp_path / "big").write_bytes(bytes(30 << 20)))
    assert len(said) == 1
    assert "into /tmp and /kaggle/temp" in said[0]


def test_a_disk_that_runs_full_ends_the_run(tmp_path, monkeypatch):
    """The last bytes of this machine are not the notebook's."""
    free = iter([10 << 30, 5 << 30])

    class Usage:
        def __init__(self) -> None:
            self.free = next(free, 1 << 20)

    monkeypatch.setattr(watch_module.shutil, "disk_usage", lambda _: Usage())
    assert "make room on it" in told(SpaceWatch(tmp_path, most_bytes=1 << 40), lambda: None)[0]


def test_a_run_within_its_limits_goes_on(tmp_path):
    """Nothing is said of a run that writes little."""
    assert told(SpaceWatch(tmp_path, most_bytes=1 << 40, kept_free=0), nothing) == []


def test_holes_and_links_do_not_count(tmp_path):
    """What counts is what lies on the disk: not a hole, nor what a link leads to."""
    with (tmp_path / "hole").open("wb") as stream:
        stream.truncate(1 << 40)
    (tmp_path / "link").symlink_to("/usr/bin/python3")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/file").write_bytes(bytes(1 << 20))
    assert 1 << 20 <= folder_bytes(tmp_path) < 2 << 20


def test_the_peak_counts_descendants():
    """Memory that a grandchild takes is seen, and only once."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", PARENT], **pipes) as process:
        process.stdout.readline()
        with MemoryWatch(process.pid).watching() as memory:
            time.sleep(1.5)
        process.stdin.close()
    assert MEGABYTES * 1e6 < memory.peak_bytes < 1.5 * MEGABYTES * 1e6


def test_a_process_that_is_gone():
    """Watching a process that has ended gives 0 and no error."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with MemoryWatch(process.pid).watching() as memory:
        time.sleep(1.2)
    assert memory.peak_bytes == 0
