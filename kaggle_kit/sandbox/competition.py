"""The competition's files for a dry run: checked before anything starts, and cut to a few rows where asked."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.errors import DataError
from kaggle_kit.files import write_atomic
from kaggle_kit.runtime.rows import read_records
from kaggle_kit.runtime.submission import Sample, read_sample

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TEST = "test.csv"
SAMPLE = "sample_submission.csv"


@dataclass(frozen=True)
class Competition:
    """A folder with test.csv and sample_submission.csv that agree with each other."""

    folder: Path
    sample: Sample


def check_competition(folder: Path, *, fields: Sequence[str], columns: Sequence[str]) -> Competition:
    """Check a competition's folder for a notebook that reads `fields` and submits `columns`.

    Raises DataError where a file or a column is missing, an id stands twice, or the two files' ids differ.
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
    seen: set[str] = set()
    for record in read_records(folder / TEST, columns=[sample.id_column, *fields]):
        row_id = record[sample.id_column] or ""
        if row_id in seen:
            raise DataError(f"{folder / TEST} has two rows with the {sample.id_column} {row_id!r}; ids must differ")
        seen.add(row_id)
    for one, other, what in ((seen, set(sample.ids), SAMPLE), (set(sample.ids), seen, TEST)):
        if lacking := sorted(one - other):
            raise DataError(f"{folder / what} lacks the {sample.id_column} {lacking[0]!r} ({len(lacking)} such rows)")
    return Competition(folder, sample)


def cut_competition(competition: Competition, *, rows: int, out: Path) -> Competition:
    """A copy in `out` of the two files with the sample's first `rows` rows."""
    sample = competition.sample
    kept = Sample(sample.id_column, sample.columns, sample.ids[:rows])
    for name in (TEST, SAMPLE):
        text = _cut(competition.folder / name, sample.id_column, set(kept.ids))
        write_atomic(out / name, text)
    return Competition(out, kept)


def _cut(path: Path, id_column: str, ids: set[str]) -> str:
    records = [record for record in read_records(path, columns=[id_column]) if record[id_column] in ids]
    out = io.StringIO()
    writer = csv.DictWriter(
        out, fieldnames=[name for name in records[0] if name is not None], extrasaction="ignore", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()
