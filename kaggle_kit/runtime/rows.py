"""The rows of test.csv, and which of them each row of the sample asks for.

A row that cannot be read is named, with its reason, and stops nothing. Nor does an id that stands twice, that the other
file lacks, or that is written in another way there.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kaggle_kit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One row: its key (see `row_keys`), and for each field the list of its turns; or the reason why it has none."""

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
    """The rows of a competition's test.csv, in its order. Raises DataError if the file or a column is missing."""
    keys = _Keys()
    for record in read_records(path, columns=[id_column, *fields]):
        yield _row(keys.of(record[id_column] or ""), {name: record[name] for name in fields}, row_format)


class _Keys:
    """Gives each row a key of its own."""

    def __init__(self) -> None:
        self._times: dict[str, int] = {}
        self._given: set[str] = set()

    def of(self, row_id: str) -> str:
        """The key of the next row, which has this id."""
        times = self._times[row_id] = self._times.get(row_id, 0) + 1
        key = row_id if times == 1 else f"{row_id} (row {times} of this id)"
        while key in self._given:
            key += "'"
        self._given.add(key)
        return key


def row_keys(ids: Iterable[str]) -> list[str]:
    """A key for each row, no two alike: its id; where that stood before, the id with how often it did."""
    keys = _Keys()
    return [keys.of(row_id) for row_id in ids]


def read_ids(path: Path, id_column: str, *, beside: Sequence[str] = ()) -> list[str]:
    """The ids of a table, in its order.

    Raises DataError if the file, the column or one that must be `beside` it is missing.
    """
    return [record[id_column] or "" for record in read_records(path, columns=[id_column, *beside])]


NO_ROW = "test.csv has no row of this id"
SEVERAL_ROWS = "test.csv has several ids of the same value"


@dataclass(frozen=True)
class RowMatch:
    """Which row of test.csv answers each row of the sample.

    `keys`: for each row of the sample the key of its row of test.csv, None if there is none; `missing`: why, by the
    sample's id. `unasked`: the keys of the other rows of test.csv. `notes`: what a person should know of it.
    """

    keys: tuple[str | None, ...]
    missing: Mapping[str, str] = field(default_factory=dict)
    unasked: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def match_rows(asked: Sequence[str], given: Sequence[str]) -> RowMatch:
    """Match the sample's ids, `asked`, with those of test.csv, `given`: letter by letter, and what is left by value.

    An id that both files repeat is matched in their order; where the sample has it once, the first row is taken. By
    value 1, 1.0, "1" and 001 are the same, if only one id on each side has the value.

    Raises DataError if none of the sample's ids has a row: the files do not belong together.
    """
    places: dict[str, list[str]] = {}
    for row_id, key in zip(given, row_keys(given), strict=True):
        places.setdefault(row_id, []).append(key)
    by_value, missing = _match_values(asked, places)

    keys: list[str | None] = []
    times: dict[str, int] = {}
    for row_id in asked:
        rows = places.get(by_value.get(row_id, row_id), [])
        turn = times[row_id] = times.get(row_id, -1) + 1
        keys.append(rows[min(turn, len(rows) - 1)] if rows else None)
    if asked and given and not any(key is not None for key in keys):
        raise DataError(
            f"no id of sample_submission.csv is in test.csv: the one begins with {asked[0]!r}, the other with "
            f"{given[0]!r}; attach files that belong together"
        )

    used = set(keys)
    unasked = tuple(key for rows in places.values() for key in rows if key not in used)
    return RowMatch(tuple(keys), missing, unasked, _match_notes(asked, places, by_value, missing, unasked))


def _match_values(asked: Sequence[str], places: Mapping[str, object]) -> tuple[dict[str, str], dict[str, str]]:
    """Of the sample's ids that test.csv does not have as they are: the id that is meant, or why none is."""
    wanted = [row_id for row_id in dict.fromkeys(asked) if row_id not in places]
    taken = set(asked)
    meant: dict[str, list[str]] = {}
    for row_id in places if wanted else ():
        if row_id not in taken:
            meant.setdefault(_value(row_id), []).append(row_id)
    sharing: dict[str, int] = {}
    for row_id in wanted:
        sharing[_value(row_id)] = sharing.get(_value(row_id), 0) + 1

    by_value: dict[str, str] = {}
    missing: dict[str, str] = {}
    for row_id in wanted:
        ids = meant.get(_value(row_id), [])
        if len(ids) == 1 and sharing[_value(row_id)] == 1:
            by_value[row_id] = ids[0]
        else:
            missing[row_id] = SEVERAL_ROWS if ids else NO_ROW
    return by_value, missing


_WHOLE = re.compile(r"[+-]?[0-9]{1,40}(\.0{0,40})?")
_FLOAT = re.compile(r"([+-]?[0-9])(?:\.([0-9]{1,20}))?[eE]\+([0-9]{1,2})")


def _value(row_id: str) -> str:
    """An id without what programs change by themselves: spaces, quotes, and how a whole number is written."""
    text = row_id.strip(" \t\r\n\0\ufeff\u00a0")
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    if _WHOLE.fullmatch(text):
        return str(int(text.partition(".")[0]))
    if parts := _FLOAT.fullmatch(text):
        digits, power = (parts[2] or "").rstrip("0"), int(parts[3])
        if len(digits) <= power:
            return str(int(parts[1] + digits.ljust(power, "0")))
    return text


def _match_notes(
    asked: Sequence[str],
    places: Mapping[str, Sequence[str]],
    by_value: Mapping[str, str],
    missing: Mapping[str, str],
    unasked: Sequence[str],
) -> tuple[str, ...]:
    notes = []
    if by_value:
        row_id, meant = next(iter(by_value.items()))
        notes.append(
            f"{len(by_value):,} ids of sample_submission.csv are matched by value: its {row_id!r} is {meant!r} in "
            f"test.csv"
        )
    repeated = {row_id: rows for row_id, rows in places.items() if len(rows) > 1}
    if repeated:
        row_id, rows = next(iter(repeated.items()))
        each = "the first row of each" if len(set(asked)) == len(asked) else "their rows in order"
        notes.append(
            f"{len(repeated):,} ids of test.csv stand more than once, such as {row_id!r} ({len(rows):,} times): {each} "
            f"is what the sample is taken to ask for"
        )
    if missing:
        row_id, reason = next(iter(missing.items()))
        notes.append(f"{len(missing):,} ids of sample_submission.csv keep the prior, such as {row_id!r}: {reason}")
    if unasked:
        notes.append(
            f"{len(unasked):,} rows of test.csv are not scored, such as {unasked[0]!r}: the sample does not ask for "
            f"them"
        )
    return tuple(notes)


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
