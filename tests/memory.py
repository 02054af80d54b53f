"""Where tests may write without a disk."""

import os
import shutil
import tempfile
from pathlib import Path

import psutil

MEMORY = Path("/dev/shm")
SCRATCH = "KIT_SCRATCH_DIR"
"""The variable that names where dry runs write."""


def has_room(needed: int) -> bool:
    """Whether so many bytes of files can be kept in memory here, and programs run from there."""
    try:
        place = os.statvfs(MEMORY)
    except OSError:
        return False
    free = min(place.f_bavail * place.f_frsize, psutil.virtual_memory().available)
    return free > needed and os.access(MEMORY, os.W_OK) and not place.f_flag & os.ST_NOEXEC


def new_folder(name: str) -> Path:
    """A new folder in memory for this process; those of processes that were killed are removed."""
    for left in MEMORY.glob(f"{name}-*-*"):
        if not Path("/proc", left.name.split("-")[-2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{name}-{os.getpid()}-", dir=MEMORY))
