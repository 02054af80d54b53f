"""How long the rows' prompts are: one mean, a table of lengths, or the real rows through the notebook's own prompt."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.errors import DataError, OutsideError
from kaggle_kit.outside import MEGA, parse_json, read_text
from kaggle_kit.runtime.job import Job
from kaggle_kit.runtime.prepare import open_job, prepare

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kaggle_kit.runtime.task import Task


_MOST_BYTES = 16 * MEGA
_MOST_TOKENS = 1_000_000_000
_MOST_ROWS = 1_000_000_000_000


@dataclass(frozen=True)
class Lengths:
    """Prompt length in tokens → rows of it; `source` says where that is from. `settled` rows never see the model."""

    counts: Mapping[int, int]
    source: str
    settled: int = 0

    @property
    def rows(self) -> int:
        """All rows."""
        return sum(self.counts.values()) + self.settled

    @property
    def mean(self) -> float:
        """Tokens of a row that the model sees, on average."""
        return sum(tokens * count for tokens, count in self.counts.items()) / sum(self.counts.values())

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return max(self.counts)

    def cut(self, most: int) -> Lengths:
        """The same rows, none longer than `most` tokens."""
        if self.longest <= most:
            return self
        counts = Counter[int]()
        for tokens, rows in self.counts.items():
            counts[min(tokens, most)] += rows
        return Lengths(dict(counts), f"{self.source}, cut to {most:,} tokens", self.settled)


def even_lengths(tokens: int) -> Lengths:
    """Rows that are all alike; their spread would add to attention's share of the time."""
    return Lengths({tokens: 1}, f"all rows of {tokens:,} tokens")


def read_lengths(path: Path) -> Lengths:
    """A table of lengths: JSON `{"512": 100, …}`, or CSV lines `tokens,rows` with or without a heading.

    Raises DataError where it cannot be read, or holds no row.
    """
    try:
        text = read_text(path, most_bytes=_MOST_BYTES, follow=True)
        pairs = parse_json(text.encode(), str(path)).items() if text.lstrip().startswith("{") else _pairs(text)
        counts = Counter[int]()
        for tokens, rows in pairs:
            counts[int(tokens)] += int(rows)
    except (OutsideError, ValueError, AttributeError, TypeError, OverflowError, csv.Error) as error:
        raise DataError(
            f'{path} cannot be read as lengths: {error}; write JSON {{"512": 100}} or CSV lines of tokens,rows'
        ) from error
    if not counts or min(counts) < 1 or min(counts.values()) < 1:
        raise DataError(f"{path}: every line needs a length of 1 or more and as many rows")
    if max(counts) > _MOST_TOKENS or sum(counts.values()) > _MOST_ROWS:
        raise DataError(f"{path}: at most {_MOST_TOKENS:,} tokens and {_MOST_ROWS:,} rows can be reckoned with")
    return Lengths(dict(counts), f"{path}: {sum(counts.values()):,} rows")


def _pairs(text: str) -> list[list[str]]:
    lines = [line for line in csv.reader(text.splitlines()) if line]
    if any(len(line) != 2 for line in lines):
        raise ValueError("a line has not two values")
    return lines if lines and lines[0][0].strip().isdigit() else lines[1:]


def data_lengths(data: Path, *, task: Task, model: Path, token_budget: int) -> Lengths:
    """The lengths of the rows of `data`/test.csv in the notebook's own prompt, cut to its budget.

    Raises DataError, LabelError or ModelError where they do not fit together.
    """
    test = data / "test.csv"
    try:
        with test.open(encoding="utf-8-sig", newline="") as stream:
            first = next(csv.reader(stream))[0]
    except (OSError, StopIteration, IndexError, ValueError, csv.Error) as error:
        raise DataError(f"{test} cannot be read: name a folder that holds the competition's test.csv") from error
    job = Job(
        task=task,
        test=test,
        id_column=first,
        model=model,
        journal=data / "unused",
        token_budget=token_budget,
        engine_options={},
    )
    prepared = prepare(job, open_job(job, guarded=True))
    counts = Counter(len(prompt.token_ids) for prompt in prepared.prompts.values())
    if not counts:
        raise DataError(f"{test} has no row for the model")
    return Lengths(dict(counts), f"{test}: {len(prepared.prompts):,} rows", len(prepared.settled))
