"""Where Kaggle mounts a notebook's sources: the way of 2026, and the one before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kaggle_kit.errors import SandboxError
from kaggle_kit.sandbox.seal_room import Mount

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kaggle_kit.project import Model, Project

STYLES = ("2026", "flat")


def input_mounts(
    project: Project,
    *,
    style: str,
    data: Path,
    wheelhouse: tuple[str, Path],
    models: Sequence[tuple[Model, Path]],
) -> tuple[Mount, ...]:
    """The read-only mounts below /kaggle/input.

    `wheelhouse` and `models` pair what Kaggle calls them with their folders here. Style "2026":
    `competitions/SLUG`, `datasets/OWNER/SLUG`, `models/OWNER/MODEL/FRAMEWORK/VARIATION/VERSION`; style "flat":
    `SLUG`, and `MODEL/FRAMEWORK/VARIATION/VERSION`. Raises SandboxError where two sources would lie in one place.
    """
    places = [(("competitions", project.competition), data), (("datasets", wheelhouse[0]), wheelhouse[1])]
    for checkpoint, weights in models:
        if checkpoint.kaggle_model:
            places.append((("models", checkpoint.kaggle_model), weights))
        else:
            places.append((("datasets", str(checkpoint.dataset)), weights))
    return mounts_of(places, style=style)


def mounts_of(sources: Sequence[tuple[tuple[str, str], Path]], *, style: str = "2026") -> tuple[Mount, ...]:
    """The mounts of sources: each its group ("competitions", "datasets", "models") and reference, and its folder."""

    def place(group: str, reference: str) -> str:
        if style == "2026":
            return f"{group}/{reference}"
        return reference.split("/", 1)[1] if "/" in reference else reference

    places = [(place(*what), folder) for what, folder in sources]
    names = [name for name, _ in places]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise SandboxError(
            f"two sources would lie in /kaggle/input/{twice}; give one another name in kit.toml, or use --mounts 2026"
        )
    return tuple(Mount(folder, f"/kaggle/input/{name}") for name, folder in places)
