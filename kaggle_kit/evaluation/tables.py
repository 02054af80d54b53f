"""Tables in and out: CSV, JSON lines, Parquet, by a file's ending."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import DataError, UsageError
from kaggle_kit.files import write_atomic
from kaggle_kit.runtime.prompts import clean
from kaggle_kit.runtime.rows import read_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

ENDINGS = (".csv", ".jsonl", ".parquet")


def check_ending(path: Path) -> None:
    """Raise UsageError if `path` does not end as a table does that kit can read and write."""
    if path.suffix not in ENDINGS:
        raise UsageError(f"{path} must end in one of {', '.join(ENDINGS)}")


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a table as dicts of its columns.

    Raises DataError if it cannot be read, UsageError by its ending.
    """
    check_ending(path)
    if not path.is_file():
        raise DataError(f"{path} is missing")
    if path.suffix == ".csv":
        return [dict(record) for record in read_records(path, columns=[])]
    if path.suffix == ".jsonl":
        return _read_jsonl(path)
    import polars as pl

    try:
        # Opened here: polars would take brackets in a name for a pattern, and knows no name of other bytes.
        with path.open("rb") as stream:
            return list(pl.read_parquet(stream).to_dicts())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}, line {number}, is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}, is not a JSON object")
            rows.append(row)
    return rows


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows that have the same columns, whole or not at all. Raises UsageError by the path's ending."""
    check_ending(path)
    if path.suffix == ".csv":
        write_atomic(path, dump_csv(rows, columns=list(rows[0]) if rows else []))
    elif path.suffix == ".jsonl":
        write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    else:
        out = io.BytesIO()
        import polars as pl

        pl.DataFrame(rows, infer_schema_length=None).write_parquet(out)
        write_atomic(path, out.getvalue())


def dump_csv(rows: Iterable[dict[str, Any]], *, columns: Sequence[str]) -> str:
    """The text of a CSV with these columns; lists and objects stand in it as JSON, None as an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
    writer.writerow(columns)
    writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value
