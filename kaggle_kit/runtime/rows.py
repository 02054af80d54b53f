"""The rows of test.csv. One that cannot be read is named, with its reason, and stops nothing."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kaggle_kit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One row: its id, and for each field the list of its turns; or the reason why it has none."""

    id: str
    turns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    problem: str | None = None


def read_records(path: Path, *, columns: Sequence[str]) -> Iterator[dict[str, str | None]]:
    """The lines of a CSV file as dicts; cells that are not UTF-8 keep what can be read of them.

    Raises DataError if the file or one of `columns` is missing, or its CSV cannot be parsed.
    """
    csv.field_size_limit(sys.maxsize)
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
            reader = csv.DictReader(stream)
            header = reader.fieldnames or []
            for name in columns:
                if name not in header:
                    raise DataError(f"{path} has no column {name!r}; it has: {', '.join(header)}")
            yield from reader
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from error


def read_rows(path: Path, *, id_column: str, fields: Sequence[str], row_format: str) -> Iterator[Row]:
    """The rows of a competition's test.csv, in its order.

    Raises DataError if the file or a column is missing, or two rows have the same id.
    """
    seen: set[str] = set()
    for record in read_records(path, columns=[id_column, *fields]):
        row_id = record[id_column] or ""
        if row_id in seen:
            raise DataError(f"{path} has two rows with the {id_column} {row_id!r}; ids must differ")
        seen.add(row_id)
        yield _row(row_id, {name: record[name] for name in fields}, row_format)


def _row(row_id: str, cells: Mapping[str, str | None], row_format: str) -> Row:
    turns: dict[str, tuple[str, ...]] = {}
    for name, cell in cells.items():
        parsed = parse_cell(cell, row_format)
        if isinstance(parsed, str):
            return Row(row_id, problem=f"{name}: {parsed}")
        turns[name] = parsed
    if not any(turn.strip() for field_turns in turns.values() for turn in field_turns):
        return Row(row_id, problem=f"no text in {', '.join(turns)}")
    return Row(row_id, turns)


def parse_cell(cell: str | None, row_format: str) -> tuple[str, ...] | str:
    """The turns of one cell; or, as a plain text, the reason why it cannot be read."""
    if cell is None:
        return "the line ends before this cell"
    if row_format == "text":
        return (cell,)
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        return f"not JSON: {cell[:40]!r}"
    if not isinstance(value, list):
        return f"a JSON {_json_kind(value)} where a list of turns should be"
    for number, turn in enumerate(value, start=1):
        if turn is not None and not isinstance(turn, str):
            return f"turn {number} is a {_json_kind(turn)}, not a text"
    return tuple(turn or "" for turn in value)


def _json_kind(value: object) -> str:
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "text"
        case dict():
            return "object"
        case list():
            return "list"
        case _:
            return "null"
