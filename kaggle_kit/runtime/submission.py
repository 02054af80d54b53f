"""`submission.csv`: made from what is known, checked against the sample, and only then put in place."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.errors import DataError, RunError
from kaggle_kit.files import refusal, write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_SUM_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Sample:
    """What `sample_submission.csv` asks for: the id column, the label columns, and the ids in their order.

    An id that stands there twice is asked for twice.
    """

    id_column: str
    columns: tuple[str, ...]
    ids: tuple[str, ...]


def read_sample(path: Path) -> Sample:
    """Read `sample_submission.csv`. Raises DataError if it is missing or has no label column."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            header, *lines = [line for line in csv.reader(stream) if line]
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a sample submission: {error}") from error
    if len(header) < 2:
        raise DataError(f"{path} has only the columns {header}; it needs an id and the label columns")
    if len(set(header)) < len(header):
        raise DataError(f"{path} names a column twice: {header}")
    return Sample(header[0], tuple(header[1:]), tuple(line[0] for line in lines))


def dump_submission(
    sample: Sample,
    scores: Mapping[str, Mapping[str, float]],
    *,
    prior: Mapping[str, float],
    keys: Sequence[str | None] | None = None,
) -> str:
    """The text of a submission: for each row of the sample its probabilities by column, else the prior.

    `keys`: under what `scores` has each of these rows, None for a row that has none; their ids, if not given.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([sample.id_column, *sample.columns])
    # Before Python 3.13 the writer leaves a carriage return unquoted, which no reader takes.
    quoting = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row_id, key in zip(sample.ids, sample.ids if keys is None else keys, strict=True):
        values = prior if key is None else scores.get(key, prior)
        (quoting if "\r" in row_id else writer).writerow(
            [row_id, *(format(values[column], ".10g") for column in sample.columns)]
        )
    return out.getvalue()


def check_submission(text: str, sample: Sample) -> None:
    """Raise RunError, with the line, if a submission's text is not what the sample asks for.

    Checked: columns, ids and their order, every value a number from 0 to 1, every row's sum 1 within 1e-6.
    """
    try:
        header, *lines = csv.reader(io.StringIO(text))
    except (ValueError, csv.Error) as error:
        raise RunError(f"the submission is empty or not CSV: {error}") from error
    if header != [sample.id_column, *sample.columns]:
        raise RunError(f"the submission has the columns {header}, not {[sample.id_column, *sample.columns]}")
    if len(lines) != len(sample.ids):
        raise RunError(f"the submission has {len(lines):,} rows, the sample {len(sample.ids):,}")
    for number, (line, row_id) in enumerate(zip(lines, sample.ids, strict=True), start=2):
        if line[:1] != [row_id]:
            raise RunError(f"line {number} of the submission is for {line[:1]}, the sample has {row_id!r} there")
        if problem := _problem(line[1:], len(sample.columns)):
            raise RunError(f"line {number} of the submission (id {row_id!r}) {problem}: {line[1:]}")


def _problem(cells: Sequence[str], count: int) -> str | None:
    if len(cells) != count:
        return f"has {len(cells)} values instead of {count}"
    try:
        values = [float(cell) for cell in cells]
    except ValueError:
        return "holds a value that is not a number"
    if not all(0 <= value <= 1 for value in values):
        return "holds a value outside 0 to 1"
    if not math.isclose(sum(values), 1, abs_tol=_SUM_TOLERANCE):
        return f"sums to {sum(values):.8f}, not 1"
    return None


def put_submission(path: Path, text: str, sample: Sample) -> None:
    """Check `text` against `sample`, then put it at `path`, in place of the submission that stood there.

    Raises RunError if it is not valid or cannot be written; the old submission then still stands.
    """
    check_submission(text, sample)
    try:
        write_atomic(path, text)
    except OSError as error:
        stands = "the submission that stood there is kept" if path.exists() else "NO submission stands"
        reason = refusal(error, path).removeprefix(f"{path}: ")
        raise RunError(f"{path} cannot be written: {reason}; {stands}; write less into {path.parent}") from error
