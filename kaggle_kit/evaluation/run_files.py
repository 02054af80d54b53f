"""The files of a run, read as what anybody could have written: report, receipt, executed notebook, log, submission."""

from __future__ import annotations

import ast
import csv
import io
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import DataError, KitError, OutsideError
from kaggle_kit.evaluation.assess import Predictions
from kaggle_kit.evaluation.metrics import LEAST
from kaggle_kit.files import sha256_file
from kaggle_kit.outside import read_json, read_text
from kaggle_kit.runtime.record import ENDED, LOG, RECORD, REPORT, SUBMISSION, known_parts
from kaggle_kit.runtime.submission import check_submission

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.runtime.record import Rows
    from kaggle_kit.runtime.submission import Sample

NOTEBOOK_BYTES = 256 << 20
"""An executed notebook with its outputs, at most."""
SUBMISSION_BYTES = 512 << 20
"""A submission of ten million rows is smaller."""
_CONTEXT = 4
_LAST_LINES = 30
_LINE = 400
_TOLERANCE = 1e-6


def is_run_folder(folder: Path) -> bool:
    """Whether a folder holds something that a run leaves."""
    return any((folder / name).is_file() for name in (REPORT, RECORD, LOG, SUBMISSION))


def hash_lines(folder: Path) -> dict[str, str]:
    """The SHA-256 of what a run's folder holds, by file."""
    return {
        f"SHA-256 of {name}": sha256_file(folder / name) for name in (SUBMISSION, RECORD) if (folder / name).is_file()
    }


@dataclass(frozen=True)
class DryRun:
    """What the report of a dry run says of the run itself; sizes in bytes, times in seconds."""

    notebook: str = ""
    target: str = ""
    outcome: str = "NOT KNOWN: the report has no outcome"
    complete: bool = False
    seal: str = "not known"
    unsealed: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0
    log_loss: float | None = None
    notes: tuple[str, ...] = ()


def read_report(folder: Path) -> DryRun | None:
    """The report of a dry run; None if there is none. Raises DataError, OutsideError if it is something else."""
    path = folder / REPORT
    if not path.is_file():
        return None
    body = read_json(path)
    if not isinstance(body, dict):
        raise DataError(f"{path} is not a JSON object; run it again, or take the file away")
    parts, unread = known_parts(DryRun, body)
    if unread:
        note = f"the report does not hold what a dry run writes: {', '.join(unread)}"
        parts["notes"] = (*parts.get("notes", ()), note)
    return DryRun(**parts)


@dataclass(frozen=True)
class Input:
    """A dataset or model that a pushed version was given."""

    kind: str = ""
    reference: str = ""
    version: int | None = None
    bytes: int | None = None
    digest: str | None = None


@dataclass(frozen=True)
class Setting:
    """What was asked of Kaggle for a pushed version, and what it has."""

    what: str
    asked: object = None
    found: object = None
    agrees: bool = True


@dataclass(frozen=True)
class KaggleState:
    """What Kaggle said of a run when it was last asked."""

    state: str | None = None
    failure: str | None = None


@dataclass(frozen=True)
class KaggleScore:
    """What Kaggle said of a submission."""

    public_score: object = None


@dataclass(frozen=True)
class Push:
    """What the receipt of a push says of the run; the names are the receipt's own."""

    name: str = ""
    notebook: str = ""
    version: int | None = None
    url: str = ""
    pushed: str = ""
    made_by: str | None = None
    target: str | None = None
    source: str = ""
    build: str = ""
    inputs: tuple[Input, ...] = ()
    checks: tuple[Setting, ...] = ()
    run: KaggleState = KaggleState()
    submission: KaggleScore = KaggleScore()

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Push:
        """Of a receipt, the parts that are of their type."""
        return cls(**known_parts(cls, body)[0])

    @property
    def going_on(self) -> bool:
        """Whether Kaggle did not say that the run is over."""
        return self.run.state is not None and self.run.state not in ENDED


def parameters_of(executed: Path) -> dict[str, str]:
    """The parameters of an executed notebook as it ran, injected ones last; empty if it is not there.

    They are the plain values that its cells tagged so assign.
    """
    parameters: dict[str, str] = {}
    for cell in cells_of(executed):
        metadata = cell.get("metadata")
        tags = metadata.get("tags") if isinstance(metadata, dict) else None
        if isinstance(tags, list) and any(tag in {"parameters", "injected-parameters"} for tag in map(str, tags)):
            parameters |= {name: repr(value) for name, value in _assigned(_source(cell)).items()}
    return parameters


def cells_of(executed: Path) -> list[dict[str, Any]]:
    """The cells of an executed notebook; none if it is not there, or is not a notebook.

    The run could have written the file itself: what is in a cell may be of any shape.
    """
    try:
        return mappings(read_json(executed, most_bytes=NOTEBOOK_BYTES), "cells")
    except OutsideError:
        return []


def mappings(parent: object, key: str) -> list[dict[str, Any]]:
    """The mappings of the list under `key`; none if there is no such list."""
    parts = parent.get(key) if isinstance(parent, dict) else None
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def _source(cell: Mapping[str, Any]) -> str:
    source = cell.get("source", "")
    return "".join(map(str, source)) if isinstance(source, list) else str(source)


def _assigned(source: str) -> dict[str, Any]:
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    values = {}
    for node in body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if len(targets) == 1 and isinstance(targets[0], ast.Name):
            try:
                values[targets[0].id] = ast.literal_eval(node.value) if node.value is not None else None
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                continue
    return values


def excerpt(log: str, line: int | None) -> str:
    """The lines of a log around one (from 1), which is marked; without one its last lines. Long lines are cut."""
    lines = log.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    if line is None:
        return "\n".join(shortened(text) for text in lines[-_LAST_LINES:])
    first = max(line - 1 - _CONTEXT, 0)
    return "\n".join(
        f"{'>' if number == line else ' '} {number:>5}  {shortened(text)}"
        for number, text in enumerate(lines[first : line + _CONTEXT], start=first + 1)
    )


def shortened(line: str) -> str:
    """A line of a log as it was last seen, for a progress bar's returns write over what was there; not too long."""
    seen = line.rstrip("\r").rsplit("\r", 1)[-1]
    return seen if len(seen) <= _LINE else f"{seen[:_LINE]} …"


@dataclass(frozen=True)
class Finding:
    """A failure as it was decoded: where it shows (`place`), and in a log its line (from 1) and traceback."""

    cause: str
    next: str
    place: str = ""
    line: int | None = None
    text: str = ""
    block: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cause:
    """Why a run failed: the cause, what to do next, where the log says so, and the lines around it."""

    cause: str
    next_step: str
    where: str
    excerpt: str


def causes_of(findings: Sequence[Finding], log: str) -> list[Cause]:
    """Decoded failures, each with its lines of the log."""
    causes = []
    for finding in findings:
        line = finding.line if finding.place == "log" else None
        where = f"line {line:,} of the log" if line else finding.place
        block = "\n".join(map(shortened, finding.block))
        around = block or (excerpt(log, line) if line else shortened(finding.text))
        causes.append(Cause(finding.cause, finding.next, where, around))
    return causes


@dataclass(frozen=True)
class SubmissionCheck:
    """One property of a submission: `good` is None if it is only said."""

    name: str
    good: bool | None
    said: str


@dataclass(frozen=True)
class SubmissionTable:
    """A submission's rows: the id column's name, the label columns, and [N] lists of values; NaN for no number."""

    id_column: str
    columns: tuple[str, ...]
    ids: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    text: str

    def predictions(self, outcomes: Mapping[str, str] | None) -> Predictions | None:
        """Its rows as predictions, renormalised as Kaggle does; None if a row holds no distribution.

        `outcomes` maps ids to the column that came true; rows without one are left out.
        """
        import numpy as np

        columns = self.columns
        known = [place for place, row_id in enumerate(self.ids) if outcomes is None or outcomes.get(row_id) in columns]
        values = np.array([self.values[place] for place in known], dtype=float).reshape(len(known), len(columns))
        sums = values.sum(axis=1, keepdims=True)
        if not known or not np.isfinite(values).all() or (values < 0).any() or (sums <= 0).any():
            return None

        logs = np.log(np.clip(values / sums, LEAST, 1.0))
        ids = [self.ids[place] for place in known]
        if outcomes is None:
            return Predictions(ids, columns, logs)
        outcome = np.array([columns.index(outcomes[row_id]) for row_id in ids], dtype=np.int64)
        return Predictions(ids, columns, logs, outcome)


def read_submission(path: Path) -> SubmissionTable | None:
    """The rows of a submission; None if there is none or it is no table."""
    try:
        text = read_text(path, most_bytes=SUBMISSION_BYTES)
        header, *lines = [line for line in csv.reader(io.StringIO(text)) if line]
    except (OutsideError, ValueError, csv.Error):
        return None
    if len(header) < 2:
        return None
    width = len(header) - 1
    values = tuple(tuple(_value(line[k + 1 : k + 2]) for k in range(width)) for line in lines)
    return SubmissionTable(header[0], tuple(header[1:]), tuple(line[0] for line in lines), values, text)


def _value(cell: Sequence[str]) -> float:
    try:
        return float(cell[0])
    except (ValueError, IndexError):
        return math.nan


def submission_checks(
    table: SubmissionTable | None, *, rows: Rows | None, sample: Sample | None = None
) -> list[SubmissionCheck]:
    """What can be said of a submission; `rows` are the run's own counts, `sample` is what was asked for."""
    if table is None:
        return [SubmissionCheck(SUBMISSION, False, "there is none, or it is no table")]
    checks = [_row_check(table, rows), _id_check(table, sample), _range_check(table), _sum_check(table)]
    if sample is not None:
        checks.append(_sample_check(table, sample))
    if rows is not None:
        checks.append(SubmissionCheck("prior rows", rows.prior == 0 or None, f"{rows.prior:,} rows have the prior"))
    if table.values:
        means = [math.fsum(line[k] for line in table.values) / len(table.values) for k in range(len(table.columns))]
        said = ", ".join(f"{column} {mean:.3f}" for column, mean in zip(table.columns, means, strict=True))
        checks.append(SubmissionCheck("means", None, said))
    return checks


def _row_check(table: SubmissionTable, rows: Rows | None) -> SubmissionCheck:
    said = f"{len(table.ids):,}"
    if rows is None:
        return SubmissionCheck("rows", bool(table.ids), said)
    return SubmissionCheck("rows", len(table.ids) == rows.total > 0, f"{said} of {rows.total:,}")


def _id_check(table: SubmissionTable, sample: Sample | None) -> SubmissionCheck:
    repeated = len(table.ids) - len(set(table.ids))
    if not repeated:
        return SubmissionCheck("ids", True, "all different")
    asked = sample is not None and table.ids == sample.ids
    said = f"{repeated:,} stand more than once" + (", as in the sample" if asked else "")
    return SubmissionCheck("ids", asked, said)


def _range_check(table: SubmissionTable) -> SubmissionCheck:
    values = [value for line in table.values for value in line]
    broken = sum(not math.isfinite(value) for value in values)
    if broken or not values:
        return SubmissionCheck("range", False, f"{broken:,} values are no number" if broken else "no values")
    good = min(values) >= 0 and max(values) <= 1
    return SubmissionCheck("range", good, f"from {min(values):.3g} to {max(values):.6g}")


def _sum_check(table: SubmissionTable) -> SubmissionCheck:
    off = max((abs(math.fsum(line) - 1) for line in table.values), default=math.nan)
    if not math.isfinite(off):
        return SubmissionCheck("sums", False, "some row has no sum")
    return SubmissionCheck("sums", off <= _TOLERANCE, f"each row sums to 1 within {off:.1g}")


def _sample_check(table: SubmissionTable, sample: Sample) -> SubmissionCheck:
    try:
        check_submission(table.text, sample)
    except KitError as error:
        return SubmissionCheck("against the sample", False, str(error))
    return SubmissionCheck("against the sample", True, "columns, ids and their order are the sample's")
