"""What can be known to fail before anything starts: the model, the labels, the data, the solution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.errors import DataError, ModelError
from kaggle_kit.evaluation.metrics import Solution, read_solution
from kaggle_kit.notebook.task import literal_task
from kaggle_kit.runtime.manifest import MANIFEST, read_manifest, verify_files
from kaggle_kit.runtime.prepare import open_prompt
from kaggle_kit.sandbox.competition import Competition, check_competition

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kaggle_kit.notebook.build import Build
    from kaggle_kit.runtime.job import Task


@dataclass(frozen=True)
class Checked:
    """What the checks have read; `task` is None where the author computes a part of it."""

    competition: Competition
    solution: Solution | None
    task: Task | None


def check(built: Build, *, models: Mapping[str, Path], data: Path, solution: Path | None) -> Checked:
    """Check what a dry run will meet; `models` maps each model's name in kit.toml to its folder.

    Raises ModelError for an incomplete or corrupt model, LabelError, DataError for the rest. Parts of the task
    that are not plain values in the source can only be checked by running it.
    """
    for name, model in models.items():
        check_model(name, model)
    task = literal_task(built.source, built.literals())
    fields = list(task.fields) if task else []
    columns = list(task.labels) if task else []
    competition = check_competition(data, fields=fields, columns=columns)
    if task:
        for model in models.values():
            open_prompt(task, model)
    return Checked(competition, _solution(solution, competition), task)


def check_model(name: str, model: Path) -> None:
    """Raise ModelError where a model's folder is not whole, or has another name in its manifest than in kit.toml."""
    manifest = read_manifest(model / MANIFEST)
    if (manifest.kind, manifest.name) != ("model", name):
        raise ModelError(
            f"{model / MANIFEST} is that of the {manifest.kind} {manifest.name!r}, but kit.toml calls the model "
            f"{name!r}, by which the notebook looks for it; name the table models.{manifest.name}"
        )
    verify_files(model, manifest)


def _solution(path: Path | None, competition: Competition) -> Solution | None:
    if path is None:
        return None
    solution = read_solution(path, columns=competition.sample.columns)
    if lacking := [row_id for row_id in competition.sample.ids if row_id not in solution.outcomes]:
        raise DataError(f"{path} lacks the id {lacking[0]!r} of the sample submission ({len(lacking)} such rows)")
    return solution
