"""Which vLLM a wheelhouse holds, read off its wheels' names: the plan is made before the engine is installed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.runtime.manifest import MANIFEST, read_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_ENGINE = re.compile(r"(?:.*/)?vllm(?:_cpu)?-(\d+)\.(\d+)(?:\.(\d+))?[^/]*\.whl$")


def engine_version(folders: Sequence[Path]) -> tuple[int, int, int]:
    """The (major, minor, patch) of the vLLM wheel in a wheelhouse's folders.

    Raises WheelhouseError where there is none.
    """
    for folder in folders:
        for entry in read_manifest(folder / MANIFEST).files:
            if match := _ENGINE.match(entry.path):
                return int(match[1]), int(match[2]), int(match[3] or 0)
    raise WheelhouseError(f"no vllm wheel in {', '.join(map(str, folders))}; lock and fetch the wheelhouse again")
