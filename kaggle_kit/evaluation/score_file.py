"""`kit score`: a table's rows through the notebook's own worker, on this machine, with no notebook around it."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import stat
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import DataError, RunError
from kaggle_kit.evaluation.tables import check_ending, dump_csv, read_table, write_table
from kaggle_kit.files import write_atomic
from kaggle_kit.runtime.checkpoint import read_checkpoint
from kaggle_kit.runtime.combine import answers, read_calibration
from kaggle_kit.runtime.journal import SWAPPED, Entry
from kaggle_kit.runtime.launch import launch_plain
from kaggle_kit.runtime.prompts import clean
from kaggle_kit.runtime.record import count_rows
from kaggle_kit.runtime.rows import row_keys
from kaggle_kit.runtime.supervisor import read_entries, run_job

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.runtime.engine_plan import EngineSetup
    from kaggle_kit.runtime.job import Task
    from kaggle_kit.runtime.launch import Launch
    from kaggle_kit.runtime.record import Counts

ROW = "row"
"""The id column of a table that has none: the row's number, from 0 on."""


@dataclass(frozen=True)
class Scoring:
    """What to score with: the notebook's task, its model, and the engine with its environment's Python."""

    task: Task
    model: Path
    python: Path
    setup: EngineSetup
    token_budget: int
    swapped: bool = True
    launch: Launch = launch_plain
    seal: str = "none"
    """What `launch` seals the worker with, and what that leaves open."""
    unsealed: Sequence[str] = ()


@dataclass(frozen=True)
class Scored:
    """What the worker said of a table's rows.

    `names` are the rows' ids (in the column `id_column`, if the table has it), in the table's order, and `ids` their
    keys, no two alike; `plain` and `swapped` hold each pass's entries by key;
    `stages` the seconds that each part took, `seconds` all of it; `seal` its name and
    what it left open. `test` is the CSV that the worker read, until the state folder is removed.
    """

    test: Path

    id_column: str
    ids: list[str]
    plain: Mapping[str, Entry]
    swapped: Mapping[str, Entry]
    seconds: float
    stages: Mapping[str, float]
    seal: Mapping[str, Any] = field(default_factory=dict)
    names: Sequence[str] = ()

    @cached_property
    def counts(self) -> Counts:
        """What its entries say in numbers."""
        return count_rows(self.ids, self.plain, self.swapped)

    @property
    def figures(self) -> dict[str, Any]:
        """The run's figures as a JSON object: its counts, and times in seconds."""
        return {**self.counts.to_json(), "seconds": self.seconds, "stages": dict(self.stages)}


def state_folder(out: Path) -> Path:
    """Where what is scored for the file `out` stands until it is whole."""
    return out.with_name(f"{out.name}.kit")


def score_file(
    source: Path,
    out: Path,
    *,
    scoring: Scoring,
    id_column: str | None,
    rows: int | None,
    on_event: Callable[[dict[str, Any]], None],
) -> Scored:
    """Score the rows of the table `source` into the table `out`.

    What is scored so far stands in the folder `OUT.kit`; a call that finds it goes on from there, and removes it when
    `out` is whole. Raises DataError where the table does not fit the task, RunError where the worker failed.
    """
    check_ending(out)
    records = read_table(source)[:rows]
    state = state_folder(out)
    scored = score_records(records, source=source, state=state, scoring=scoring, id_column=id_column, on_event=on_event)
    write_table(out, _results(scored, scoring))
    shutil.rmtree(state, ignore_errors=True)
    return scored


def score_records(
    records: Sequence[Mapping[str, Any]],
    *,
    source: Path,
    state: Path,
    scoring: Scoring,
    id_column: str | None,
    on_event: Callable[[dict[str, Any]], None],
) -> Scored:
    """Score `records`, which were read from `source`, in the folder `state`, going on from what stands there.

    Raises DataError where they do not fit the task, RunError where the worker failed.
    """
    # The worker has another working folder.
    state, model = state.absolute(), scoring.model.absolute()
    name, names = _ids(records, id_column, source)
    ids = row_keys(names)
    columns = _checked_columns(records, scoring.task, source)
    if changed := [(one, key) for one, key in zip(names, ids, strict=True) if one != key]:
        text = f"{len(changed):,} rows have the {name} of a row before them, such as {changed[0][0]!r}: each is scored"
        on_event({"event": "note", "text": f"{text}; name another column with --id if one tells them apart"})
    _own_folder(state)
    numbered = [{**record, name: row_id} for record, row_id in zip(records, ids, strict=True)]
    text = dump_csv(numbered, columns=[name, *columns])
    # Its name is a part of the journal's configuration: other rows of the same size are never taken for these.
    test = state / f"rows-{hashlib.sha256(text.encode()).hexdigest()[:12]}.csv"
    write_atomic(test, text)
    plan = scoring.setup.plan(read_checkpoint(model), scoring.token_budget)
    job = scoring.setup.job(
        plan,
        task=scoring.task,
        test=test,
        id_column=name,
        model=model,
        journal=state / "journal.sqlite",
        token_budget=scoring.token_budget,
        swapped=scoring.swapped,
    )
    since = time.monotonic()
    outcome = run_job(
        job,
        workers=plan.replicas,
        python=scoring.python,
        scratch=state,
        on_event=on_event,
        launch=scoring.launch,
    )
    if outcome.ended != "done":
        raise RunError(f"scoring stopped: {outcome.message}; the log is in {state}; call again to go on from there")
    plain = read_entries(job, workers=plan.replicas)
    swapped = read_entries(job, workers=plan.replicas, pass_name=SWAPPED) if scoring.swapped else {}
    seconds = round(time.monotonic() - since, 3)
    seal = {"name": scoring.seal, "open": list(scoring.unsealed)}
    return Scored(test, name, ids, plain, swapped, seconds, outcome.stages, seal, names)


def _own_folder(state: Path) -> None:
    """Make the folder `state`. Raises DataError where what stands there is not what an earlier call left.

    It may have come with a clone: a link in it would lead what is written to another file.
    """
    state.mkdir(parents=True, exist_ok=True)
    for path in (state, *state.iterdir()):
        told = path.lstat()
        alone = stat.S_ISREG(told.st_mode) and path != state and told.st_nlink == 1
        if not (alone or stat.S_ISDIR(told.st_mode)) or told.st_uid != os.geteuid():
            raise DataError(f"{path} was not left by an earlier call of kit: remove {state}")


def _ids(records: Sequence[Mapping[str, Any]], id_column: str | None, source: Path) -> tuple[str, list[str]]:
    """The id column's name and each row's id."""
    if not records:
        raise DataError(f"{source} has no rows")
    columns = _columns(records)
    if id_column is not None and id_column not in columns:
        raise DataError(f"{source} has no column {id_column!r}; it has: {', '.join(columns)}")
    name = id_column or ("id" if "id" in columns else None)
    if name is None:
        return ROW, [str(number) for number in range(len(records))]
    cells = (record.get(name) for record in records)
    return name, ["" if cell is None else clean(str(cell)) for cell in cells]


def _columns(records: Sequence[Mapping[str, Any]]) -> dict[str, None]:
    """The names of a table's columns; a line of JSON may lack some of them."""
    return dict.fromkeys(str(name) for record in records for name in record)


def _checked_columns(records: Sequence[Mapping[str, Any]], task: Task, source: Path) -> list[str]:
    columns = _columns(records)
    for name in task.fields:
        if name not in columns:
            raise DataError(f"{source} has no column {name!r}; it has: {', '.join(columns)}")
    return list(task.fields)


def _results(scored: Scored, scoring: Scoring) -> list[dict[str, Any]]:
    """One line a row: its id, the labels' probabilities (the prior where there is none), and how they came about."""
    task = scoring.task
    calibration = read_calibration(scoring.model, columns=list(task.labels))
    final = answers(task, scored.plain, scored.swapped, calibration=calibration)
    lines = []
    for name, row_id in zip(scored.names, scored.ids, strict=True):
        entry = scored.plain.get(row_id, Entry(row_id, problem="not scored"))
        values = final.get(row_id)
        shares = (
            dict(zip(task.labels, map(math.exp, values), strict=True))
            if values
            else {c: task.prior[c] for c in task.labels}
        )
        lines.append(
            {
                scored.id_column: name,
                **shares,
                "label_mass": entry.mass,
                "tokens": entry.tokens,
                "cut": ",".join(entry.cut),
                "flags": ",".join(entry.flags),
                "problem": entry.problem,
            }
        )
    return lines
