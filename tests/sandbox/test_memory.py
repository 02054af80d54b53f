"""The memory of a process tree, sampled."""

import subprocess
import sys
import time

from kaggle_kit.sandbox.memory import MemoryWatch

MEGABYTES = 200
CHILD = f"x = b'x' * {MEGABYTES}_000_000; print('ready', flush=True); input()"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"


def test_the_peak_counts_descendants():
    """Memory that a grandchild takes is seen, and only once."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", PARENT], **pipes) as process:
        process.stdout.readline()
        with MemoryWatch(process.pid) as memory:
            time.sleep(1.5)
        process.stdin.close()
    assert MEGABYTES * 1e6 < memory.peak_bytes < 1.5 * MEGABYTES * 1e6


def test_a_process_that_is_gone():
    """Watching a process that has ended gives 0 and no error."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with MemoryWatch(process.pid) as memory:
        time.sleep(1.2)
    assert memory.peak_bytes == 0
