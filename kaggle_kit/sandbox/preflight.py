"""What can be known to fail before a run starts: its model, labels, table and solution.

A run may be given a few rows of its competition instead of all.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.errors import DataError, ModelError
from kaggle_kit.evaluation.metrics import Solution, read_solution
from kaggle_kit.files import write_atomic
from kaggle_kit.model.inspect import inspect_model
from kaggle_kit.model.merge import check_adapter
from kaggle_kit.notebook.source import literal_task
from kaggle_kit.runtime.manifest import MANIFEST, read_manifest, verify_files
from kaggle_kit.runtime.prepare import open_prompt
from kaggle_kit.runtime.rows import match_rows, read_ids, read_records, row_keys
from kaggle_kit.runtime.submission import Sample, read_sample

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.notebook.build import Build
    from kaggle_kit.project import Project
    from kaggle_kit.runtime.job import Task
    from kaggle_kit.runtime.rows import RowMatch

TEST = "test.csv"
SAMPLE = "sample_submission.csv"
_TRAIN = "train.csv"
_LISTED = 5


@dataclass(frozen=True)
class Competition:
    """A folder with test.csv and sample_submission.csv, and which row of the one answers each of the other."""

    folder: Path
    sample: Sample
    match: RowMatch


def check_competition(folder: Path, *, fields: Sequence[str], columns: Sequence[str]) -> Competition:
    """Check a competition's folder for a notebook that reads `fields` and submits `columns`.

    Raises DataError where a file or a column is missing, or no id of the one file stands in the other.
    """
    if not folder.is_dir():
        raise DataError(f"the data folder {folder} does not exist; name one that holds {TEST} and {SAMPLE}")
    for name in (TEST, SAMPLE):
        if not (folder / name).is_file():
            raise DataError(f"{folder / name} is missing: a data folder holds {TEST} and {SAMPLE}")
    sample = read_sample(folder / SAMPLE)
    if not sample.ids:
        raise DataError(f"{folder / SAMPLE} has no rows")
    if columns and set(sample.columns) != set(columns):
        raise DataError(
            f"{folder / SAMPLE} has the columns {', '.join(sample.columns)}; the notebook's labels are for "
            f"{', '.join(columns)}"
        )
    ids = read_ids(folder / TEST, sample.id_column, beside=fields)
    try:
        return Competition(folder, sample, match_rows(sample.ids, ids))
    except DataError as error:
        raise DataError(f"{folder}: {error}") from error


def cut_competition(competition: Competition, *, rows: int | None, out: Path) -> Competition:
    """A copy in `out` of the two files with the sample's first `rows` rows; itself if it has no more."""
    sample = competition.sample
    if rows is None or rows >= len(sample.ids):
        return competition
    first = Sample(sample.id_column, sample.columns, sample.ids[:rows])
    _cut(competition.folder / SAMPLE, out / SAMPLE, range(rows))
    wanted = set(competition.match.keys[:rows])
    keys = row_keys(read_ids(competition.folder / TEST, sample.id_column))
    ids = _cut(competition.folder / TEST, out / TEST, {place for place, key in enumerate(keys) if key in wanted})
    return Competition(out, first, match_rows(first.ids, [row[sample.id_column] or "" for row in ids]))


def _cut(path: Path, target: Path, places: Container[int]) -> list[dict[str, str | None]]:
    """Copy the rows at `places` of a table; these rows."""
    header: dict[str, str | None] = {}
    records = []
    for place, record in enumerate(read_records(path, columns=[])):
        header = header or record
        if place in places:
            records.append(record)
    out = io.StringIO()
    writer = csv.DictWriter(
        out, fieldnames=[name for name in header if name is not None], extrasaction="ignore", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(records)
    write_atomic(target, out.getvalue())
    return records


@dataclass(frozen=True)
class ScoringInputs:
    """What a notebook that scores is given; `task` is None where the author computes a part of it."""

    competition: Competition
    solution: Solution | None
    task: Task | None


def check_scoring(project: Project, built: Build, *, data: Path | None, solution: Path | None) -> ScoringInputs:
    """The inputs of a run of `built`, checked as `check` does.

    `data` and `solution` take the place of the project's own, and its own solution belongs to its own data.
    """
    notebook = project.notebook(built.name)
    folder = project.data_folder(built.name, data)
    if solution is None and data is None and notebook.solution is not None:
        solution = project.path(notebook.solution, key=f"notebooks.{built.name}.solution")
    models = {name: project.model_folder(name) for name in notebook.model_names}
    return check(built, models=models, data=folder, solution=solution)


def check(built: Build, *, models: Mapping[str, Path], data: Path, solution: Path | None) -> ScoringInputs:
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
    return ScoringInputs(competition, _solution(solution, competition), task)


def _solution(path: Path | None, competition: Competition) -> Solution | None:
    if path is None:
        return None
    solution = read_solution(path, columns=competition.sample.columns)
    if lacking := [row_id for row_id in competition.sample.ids if row_id not in solution.outcomes]:
        raise DataError(f"{path} lacks the id {lacking[0]!r} of the sample submission ({len(lacking)} such rows)")
    return solution


@dataclass(frozen=True)
class MakingInputs:
    """What a notebook that makes a model is given: the competition's files, the base, the adapter."""

    data: Path
    base: Path
    adapter: Path | None


def check_making(project: Project, built: Build, *, data: Path | None) -> MakingInputs:
    """The inputs of a run of `built`; `data` takes the place of the project's own folder.

    Raises KitError for all that would fail in the run and can be known now.
    """
    notebook = project.notebook(built.name)
    folder = project.data_folder(built.name, data)
    base = project.model_folder(notebook.model)
    check_model(notebook.model, base)
    inspection = inspect_model(base)
    if inspection.errors:
        raise ModelError(f"{base} cannot be quantised: " + "; ".join(map(str, inspection.errors[:_LISTED])))
    adapter = project.model_folder(notebook.adapter) if notebook.adapter else None
    if adapter:
        check_adapter(adapter, inspection)

    task = literal_task(built.source, built.literals())
    if task:
        open_prompt(task, base)
    table = folder / _TRAIN
    if next(read_records(table, columns=list(task.fields) if task else []), None) is None:
        raise DataError(f"{table} has no rows: there is nothing to calibrate on")
    return MakingInputs(folder, base, adapter)


def check_model(name: str, model: Path) -> None:
    """Raise ModelError where a model's folder is not whole, or has another name in its manifest than in kit.toml."""
    manifest = read_manifest(model / MANIFEST)
    if (manifest.kind, manifest.name) != ("model", name):
        raise ModelError(
            f"{model / MANIFEST} is that of the {manifest.kind} {manifest.name!r}, but kit.toml calls the model "
            f"{name!r}, by which the notebook looks for it; name the table models.{manifest.name}"
        )
    verify_files(model, manifest)
