"""Which vLLM a wheelhouse holds, read off its wheels' names: the plan is made before the engine is installed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.runtime.manifest import MANIFEST, read_manifest

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
