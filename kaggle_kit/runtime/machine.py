"""What a notebook's session has to score with: the engine in its wheelhouse, and the cards that the driver reports."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from kaggle_kit.errors import RunError, WheelhouseError
from kaggle_kit.runtime.engine_plan import Gpu
from kaggle_kit.runtime.manifest import MANIFEST, read_manifest
from kaggle_kit.runtime.permitted import session_environment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


_ENGINE = re.compile(r"(?:.*/)?vllm(_cpu)?-(\d+)\.(\d+)(?:\.(\d+))?[^/]*\.whl$")


def engine_version(folders: Sequence[Path]) -> tuple[int, int, int]:
    """The (major, minor, patch) of the vLLM wheel in a wheelhouse's folders.

    Raises WheelhouseError where there is none.
    """
    match = _engine_wheel(folders)
    return int(match[2]), int(match[3]), int(match[4] or 0)


def is_for_cards(folders: Sequence[Path]) -> bool:
    """Whether that vLLM is a build for GPUs, and not the one for CPUs. Raises WheelhouseError where there is none."""
    return _engine_wheel(folders)[1] is None


def _engine_wheel(folders: Sequence[Path]) -> re.Match[str]:
    for folder in folders:
        for entry in read_manifest(folder / MANIFEST).files:
            if match := _ENGINE.match(entry.path):
                return match
    raise WheelhouseError(f"no vllm wheel in {', '.join(map(str, folders))}; lock and fetch the wheelhouse again")


_FIELDS = ("memory.total,memory.reserved,compute_cap", "memory.total,compute_cap")
"""The second for drivers before 510, which do not know what is reserved."""
_MIB = 1 << 20
_USUALLY_RESERVED = 512
"""MiB that the driver keeps of a card's memory: 450 of a T4's 15,360, 550 of an H100's 81,559. torch sees the rest."""
_WAIT_SECONDS = 30
_TRIES = 2


def find_gpus() -> tuple[Gpu, ...]:
    """Each card's memory and compute capability as `nvidia-smi` tells them; none where it is missing or fails."""
    return _ask()[0]


def engine_gpus(wheelhouse: Sequence[Path]) -> tuple[Gpu, ...]:
    """The cards that the engine of a wheelhouse, in these folders, will find: none for a build for CPUs.

    Raises RunError where the build is for cards and there is none: what would be planned for a CPU could not start.
    """
    if not is_for_cards(wheelhouse):
        return ()
    problem = ""
    for _ in range(_TRIES):
        found, problem = _ask()
        if found:
            return found
    raise RunError(
        f"the engine is built for GPUs, and this session has none: {problem}; attach the accelerator that the notebook "
        f"was built for"
    )


def _ask() -> tuple[tuple[Gpu, ...], str]:
    """The cards, and why there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return (), "there is no nvidia-smi"
    problem = ""
    for fields in _FIELDS:
        command = [program, f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(
                command,
                env=session_environment(),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_WAIT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            return (), f"nvidia-smi failed: {error}"
        told = (done.stdout + done.stderr).strip().splitlines()
        if done.returncode == 0:
            found = parse_gpus(done.stdout)
            return found, "" if found else f"nvidia-smi says {told[0] if told else 'nothing'!r}"
        problem = f"nvidia-smi ended with {done.returncode} and says {told[0] if told else 'nothing'!r}"
    return (), problem


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """The cards in nvidia-smi's lines `15360, 450, 7.5` or `15360, 7.5`; lines of another form are passed over."""
    found = []
    for line in text.splitlines():
        memory, *reserved = [part.strip() for part in line.split(",")]
        major, _, minor = (reserved.pop() if reserved else "").partition(".")
        if memory.isdigit() and major.isdigit() and minor.isdigit():
            kept = int(reserved[0]) if reserved and reserved[0].isdigit() else _USUALLY_RESERVED
            found.append(Gpu((int(memory) - kept) * _MIB, (int(major), int(minor))))
    return tuple(found)
