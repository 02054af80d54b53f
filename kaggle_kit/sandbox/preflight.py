"""What can be known to fail before anything starts: the model, the labels, the data, the solution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import DataError, ModelError
from kaggle_kit.evaluation.solution import Solution, read_solution
from kaggle_kit.runtime.labels import label_tokens
from kaggle_kit.runtime.manifest import MANIFEST, read_manifest, verify_files
from kaggle_kit.runtime.prompts import parse_template
from kaggle_kit.runtime.task import Task
from kaggle_kit.runtime.tokenizers import load_tokenizer
from kaggle_kit.sandbox.competition import Competition, check_competition

if TYPE_CHECKING:
    from pathlib import Path

    from kaggle_kit.notebook.build import Build

_TASK_PARTS = ("labels", "prior", "fields", "template", "row_format")


@dataclass(frozen=True)
class Checked:
    """What the checks have read; `task` is None where the author computes a part of it."""

    competition: Competition
    solution: Solution | None
    task: Task | None


def check(built: Build, *, model: Path, model_name: str, data: Path, solution: Path | None) -> Checked:
    """Check what a dry run will meet.

    Raises ModelError for an incomplete or corrupt model, LabelError, DataError for the rest. Parts of the task
    that are not plain values in the source can only be checked by running it.
    """
    manifest = read_manifest(model / MANIFEST)
    if (manifest.kind, manifest.name) != ("model", model_name):
        raise ModelError(
            f"{model / MANIFEST} is that of the {manifest.kind} {manifest.name!r}, but kit.toml calls the model "
            f"{model_name!r}, by which the notebook looks for it; name the table models.{manifest.name}"
        )
    verify_files(model, manifest)
    values = built.literals()
    task = _task({part: values[part] for part in _TASK_PARTS if part in values})
    fields = list(task.fields) if task else []
    columns = list(task.labels) if task else []
    competition = check_competition(data, fields=fields, columns=columns)
    if task:
        template = parse_template(task.template, fields=fields)
        label_tokens(
            list(task.labels.values()),
            prompt=template.fill(dict.fromkeys(fields, "")),
            tokenizer=load_tokenizer(model),
        )
    return Checked(competition, _solution(solution, competition), task)


def _task(parts: dict[str, Any]) -> Task | None:
    if len(parts) < len(_TASK_PARTS):
        return None
    try:
        return Task(**parts)
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{', '.join(_TASK_PARTS)} make no task ({error}): labels, prior and fields are dicts by column, "
            f"template and row_format are texts"
        ) from error


def _solution(path: Path | None, competition: Competition) -> Solution | None:
    if path is None:
        return None
    solution = read_solution(path, columns=competition.sample.columns)
    if lacking := [row_id for row_id in competition.sample.ids if row_id not in solution.outcomes]:
        raise DataError(f"{path} lacks the id {lacking[0]!r} of the sample submission ({len(lacking)} such rows)")
    return solution
