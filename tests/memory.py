"""Where tests may write without a disk."""

import os
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
