"""Where Kaggle mounts a notebook's sources: the way of 2026, and the one before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kaggle_kit.sandbox.seal_room import Mount

if TYPE_CHECKING:
    from pathlib import Path

    from kaggle_kit.project import Model, Project

STYLES = ("2026", "flat")


def input_mounts(
    project: Project, *, style: str, data: Path, wheelhouse: tuple[str, Path], model: tuple[Model, Path]
) -> tuple[Mount, ...]:
    """The read-only mounts below /kaggle/input.

    `wheelhouse` and `model` pair what Kaggle calls them with their folders here. Style "2026":
    `competitions/SLUG`, `datasets/OWNER/SLUG`, `models/OWNER/MODEL/FRAMEWORK/VARIATION/VERSION`; style "flat":
    `SLUG`, and `MODEL/FRAMEWORK/VARIATION/VERSION`.
    """
    dataset, wheels = wheelhouse
    checkpoint, weights = model
    new = style == "2026"

    def slug(reference: str) -> str:
        return reference.split("/", 1)[1]

    if checkpoint.kaggle_model:
        weights_place = f"models/{checkpoint.kaggle_model}" if new else slug(checkpoint.kaggle_model)
    else:
        reference = str(checkpoint.dataset)
        weights_place = f"datasets/{reference}" if new else slug(reference)
    places = {
        f"competitions/{project.competition}" if new else project.competition: data,
        f"datasets/{dataset}" if new else slug(dataset): wheels,
        weights_place: weights,
    }
    return tuple(Mount(folder, f"/kaggle/input/{place}") for place, folder in places.items())
