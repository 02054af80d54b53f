"""The cards of this machine, asked of the driver: the notebook's own kernel never imports torch."""

from __future__ import annotations

import shutil
import subprocess

from kaggle_kit.runtime.engine_plan import Gpu

_QUERY = ("--query-gpu=memory.total,compute_cap", "--format=csv,noheader,nounits")
_MIB = 1 << 20
_WAIT_SECONDS = 30


def find_gpus() -> tuple[Gpu, ...]:
    """Each card's memory and compute capability as `nvidia-smi` tells them; none where it is missing or fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        done = subprocess.run([program, *_QUERY], capture_output=True, text=True, timeout=_WAIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_gpus(done.stdout)


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """The cards in nvidia-smi's lines `15360, 7.5`; lines of another form are passed over."""
    found = []
    for line in text.splitlines():
        memory, _, capability = line.partition(",")
        major, _, minor = capability.strip().partition(".")
        if memory.strip().isdigit() and major.isdigit() and minor.isdigit():
            found.append(Gpu(int(memory) * _MIB, (int(major), int(minor))))
    return tuple(found)
