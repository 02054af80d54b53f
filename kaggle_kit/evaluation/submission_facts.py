"""A submission.csv by itself: what it holds, and what of it can be checked without the run that made it."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.errors import KitError, OutsideError
from kaggle_kit.evaluation.judged import Predictions
from kaggle_kit.evaluation.metrics import LEAST
from kaggle_kit.outside import read_text
from kaggle_kit.runtime.submission import check_submission

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.runtime.submission import Sample

SUBMISSION_BYTES = 512 << 20
"""A submission of ten million rows is smaller."""
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: `good` None where it is only said."""

    name: str
    good: bool | None
    said: str


@dataclass(frozen=True)
class Submission:
    """A submission's rows: the id column's name, the label columns, and [N] lists of values; NaN for what is none."""

    id_column: str
    columns: tuple[str, ...]
    ids: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    text: str

    def predictions(self, outcomes: Mapping[str, str] | None) -> Predictions | None:
        """Its rows as predictions, renormalised as Kaggle does; None where a row holds no distribution.

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


def read_submission(path: Path) -> Submission | None:
    """The rows of a submission; None where there is none or it is no table."""
    try:
        text = read_text(path, most_bytes=SUBMISSION_BYTES)
        header, *lines = [line for line in csv.reader(io.StringIO(text)) if line]
    except (OutsideError, ValueError, csv.Error):
        return None
    if len(header) < 2:
        return None
    width = len(header) - 1
    values = tuple(tuple(_value(line[k + 1 : k + 2]) for k in range(width)) for line in lines)
    return Submission(header[0], tuple(header[1:]), tuple(line[0] for line in lines), values, text)


def _value(cell: Sequence[str]) -> float:
    try:
        return float(cell[0])
    except (ValueError, IndexError):
        return math.nan


def submission_checks(
    found: Submission | None, *, rows: Mapping[str, int], sample: Sample | None = None
) -> list[Check]:
    """What can be said of a submission; `rows` are the run's own counts, `sample` is what was asked for."""
    if found is None:
        return [Check("submission.csv", False, "there is none, or it is no table")]
    checks = [_rows(found, rows), _ids(found), _range(found), _sums(found)]
    if sample is not None:
        checks.append(_sample(found, sample))
    if "prior" in rows:
        prior = int(rows["prior"])
        checks.append(Check("prior rows", prior == 0 or None, f"{prior:,} rows have the prior"))
    if found.values:
        means = [math.fsum(line[k] for line in found.values) / len(found.values) for k in range(len(found.columns))]
        said = ", ".join(f"{column} {mean:.3f}" for column, mean in zip(found.columns, means, strict=True))
        checks.append(Check("means", None, said))
    return checks


def _rows(found: Submission, rows: Mapping[str, int]) -> Check:
    total = rows.get("total")
    said = f"{len(found.ids):,}"
    if total is None:
        return Check("rows", bool(found.ids), said)
    return Check("rows", len(found.ids) == total > 0, f"{said} of {total:,}")


def _ids(found: Submission) -> Check:
    repeated = len(found.ids) - len(set(found.ids))
    return Check("ids", not repeated, "all different" if not repeated else f"{repeated:,} stand more than once")


def _range(found: Submission) -> Check:
    values = [value for line in found.values for value in line]
    broken = sum(not math.isfinite(value) for value in values)
    if broken or not values:
        return Check("range", False, f"{broken:,} values are no number" if broken else "no values")
    return Check("range", min(values) >= 0 and max(values) <= 1, f"from {min(values):.3g} to {max(values):.6g}")


def _sums(found: Submission) -> Check:
    off = max((abs(math.fsum(line) - 1) for line in found.values), default=math.nan)
    if not math.isfinite(off):
        return Check("sums", False, "some row has no sum")
    return Check("sums", off <= _TOLERANCE, f"each row sums to 1 within {off:.1g}")


def _sample(found: Submission, sample: Sample) -> Check:
    try:
        check_submission(found.text, sample)
    except KitError as error:
        return Check("against the sample", False, str(error))
    return Check("against the sample", True, "columns, ids and their order are the sample's")
