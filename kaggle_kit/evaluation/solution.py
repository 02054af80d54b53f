"""The true outcomes of labelled rows, and the competition's score against them."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import DataError
from kaggle_kit.runtime.rows import read_records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_LEAST = 1e-15
"""Kaggle's log loss clips probabilities to this, as scikit-learn's did until version 1.3."""


@dataclass(frozen=True)
class Solution:
    """The column that came true, by row id."""

    outcomes: Mapping[str, str]


def read_solution(path: Path, *, columns: Sequence[str]) -> Solution:
    """Read a CSV whose first column is the id and in which one of `columns` is 1 in each row (train.csv serves too).

    Raises DataError where the file or a column is missing, a row has not exactly one 1, or an
    id stands twice.
    """
    outcomes: dict[str, str] = {}
    for record in read_records(path, columns=columns):
        row_id = next(iter(record.values())) or ""
        true = outcome_of(record, columns=columns, row_id=row_id, source=path)
        if row_id in outcomes:
            raise DataError(f"{path} has two rows with the id {row_id!r}; ids must differ")
        outcomes[row_id] = true
    return Solution(outcomes)


def outcome_of(record: Mapping[str, Any], *, columns: Sequence[str], row_id: str, source: Path) -> str:
    """The one of `columns` that is 1 in a row of the table `source`. Raises DataError where not exactly one is."""
    true = [column for column in columns if _is_one(record.get(column))]
    if len(true) != 1:
        raise DataError(f"{source}: the row {row_id!r} has {len(true)} outcomes that are 1; it needs exactly one")
    return true[0]


def _is_one(cell: Any) -> bool:
    return cell.strip() in ("1", "1.0") if isinstance(cell, str) else cell == 1


def log_loss(submission: Path, solution: Solution) -> float:
    """The mean of -ln p(outcome) over the rows of a submission (nats; uniform over three is 1.0986).

    Rows are renormalised first, as Kaggle does. Raises DataError where a row has no outcome.
    """
    with submission.open(newline="", encoding="utf-8") as stream:
        header, *lines = list(csv.reader(stream)) or [[]]
    losses = []
    for row_id, *cells in lines:
        if row_id not in solution.outcomes:
            raise DataError(f"the solution has no row {row_id!r} of {submission}")
        values = dict(zip(header[1:], map(float, cells), strict=True))
        share = values[solution.outcomes[row_id]] / sum(values.values())
        losses.append(-math.log(min(max(share, _LEAST), 1.0)))
    if not losses:
        raise DataError(f"{submission} has no rows to score")
    return math.fsum(losses) / len(losses)
