"""A scores file: what a model said of labelled rows, pass by pass, and what came true. Written by `kit eval`.

It is a Parquet file with one line for each row and pass. All lines of the plain pass come first, in the order of the
table that was scored; those of the swapped pass follow in the same order, for the rows that have one. Columns:

| column | type | what it holds |
|---|---|---|
| `id` | text | the row's id |
| `pass` | text | `plain`, or `swapped`: scored with the task's pairs of fields exchanged |
| `logp_COLUMN` | float64 | one for each label column of the task, in its order: see below |
| `mass` | float64, null | of all labels before they were renormalised; null if no model answered |
| `tokens` | int64 | of the prompt as the model got it; 0 if no model answered |
| `whole_tokens` | int64 | of the prompt uncut; the share that was cut is 1 - tokens / whole_tokens |
| `budget` | int64 | the token budget of a prompt |
| `cut` | text | the fields that lost text, with commas between; empty for an uncut row |
| `answered` | text | `model`, `rule` (a rule of the task), or `prior` (unreadable, or refused by the engine) |
| `outcome` | text | the label column that came true |
| `turns` | int64 | the most turns that one of the row's fields has; 1 for plain text, 0 if unreadable |
| `script` | text | of most letters: Latin, Han, Japanese, Cyrillic, Arabic, …; `none` without letters |
| `characters` | int64 | of all fields together |
| `flags` | text | what was unusual, with commas between: `rule: identical`, `copy of ID` |
| `problem` | text, null | why the model has no answer |
| `prompt` | text, null | as the model got it, for the WORST_ROWS plain lines with the greatest loss |

The log-probabilities are ln p, the K of a line together summing to 1. Those of a swapped pass are mapped back: `logp_x`
always speaks of the row's own column x. They are never calibrated. A row that no model answered has its rule's
distribution, or the prior.

The file's own metadata hold one more text under the key `kaggle-kit`: a JSON object with

`format` (1), `made` (UTC, ISO 8601), `columns` (object: label column → what the model says, in the task's order),
`swap` (object: column → the column that a swapped pass exchanges it with), `prior` (object by column), `notebook`,
`model` and `target` (their names in kit.toml), `engine`, `engine_options` (object), `token_budget`, `passes` (list),
`calibration` (the object of the model folder's calibration.json, or null; it was not applied to the file's figures),
`hashes` (object: `task`, `model` (its manifest), `data`: SHA-256), `versions` (object: `kaggle_kit`, `engine`,
`python`), `machine` (text), `data` (the table's name), `seconds` (of the whole run), `stages` (object: stage →
seconds), `figures` (object, see `runtime.record.Counts`), `throughput` (list of [seconds, prompt tokens done so far]),
`seal` (object: `name`, and `open`, sentences about what it leaves open).
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import DataError
from kaggle_kit.files import write_atomic
from kaggle_kit.runtime.combine import parse_calibration
from kaggle_kit.runtime.journal import PLAIN
from kaggle_kit.runtime.record import LabelMass, known_parts, needed_parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import polars as pl

    from kaggle_kit.runtime.combine import Calibration

FORMAT = 1
KEY = "kaggle-kit"
LOGP = "logp_"
WORST_ROWS = 50


@dataclass(frozen=True)
class Evaluation:
    """What a scores file says of the run that made it; the fields are those of its metadata (see above)."""

    columns: dict[str, str]
    swap: dict[str, str]
    prior: dict[str, float]
    notebook: str
    model: str
    token_budget: int
    passes: tuple[str, ...]
    hashes: dict[str, str]
    made: str = ""
    target: str = ""
    engine: str = ""
    engine_options: dict[str, object] = field(default_factory=dict)
    calibration: object = None
    versions: dict[str, str] = field(default_factory=dict)
    machine: str = ""
    data: str = ""
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    figures: dict[str, object] = field(default_factory=dict)
    throughput: tuple[tuple[float, int], ...] = ()
    prompt: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scores:
    """A scores file in memory: its lines, and the JSON object of its metadata."""

    lines: pl.DataFrame
    facts: Mapping[str, Any]

    @property
    def columns(self) -> tuple[str, ...]:
        """The label columns, in the task's order."""
        return tuple(self.evaluation.columns)

    @property
    def name(self) -> str:
        """The model's name, by which tables speak of the file."""
        return self.evaluation.model

    @cached_property
    def evaluation(self) -> Evaluation:
        """What the metadata say, by name."""
        return Evaluation(**known_parts(Evaluation, self.facts)[0])

    def calibration(self, where: str = "the model's calibration") -> Calibration | None:
        """The calibration that the model carried when it was scored; `where` is what errors call it."""
        carried = self.evaluation.calibration
        return parse_calibration(carried, columns=self.columns, where=where) if carried else None

    @cached_property
    def label_mass(self) -> LabelMass | None:
        """The label mass of the rows that the model answered; None if its engine does not say it."""
        plain = self.of_pass(PLAIN)
        masses = plain.filter(plain["answered"] == "model")["mass"].drop_nulls().to_list()
        return LabelMass(sum(masses) / len(masses), min(masses)) if masses else None

    def of_pass(self, name: str) -> pl.DataFrame:
        """The lines of one pass."""
        return self.lines.filter(self.lines["pass"] == name)


def schema(columns: Sequence[str]) -> dict[str, Any]:
    """The columns of a scores file and their polars types."""
    import polars as pl

    text, number, whole = pl.String, pl.Float64, pl.Int64
    return {
        "id": text,
        "pass": text,
        **{f"{LOGP}{column}": number for column in columns},
        "mass": number,
        "tokens": whole,
        "whole_tokens": whole,
        "budget": whole,
        "cut": text,
        "answered": text,
        "outcome": text,
        "turns": whole,
        "script": text,
        "characters": whole,
        "flags": text,
        "problem": text,
        "prompt": text,
    }


def make_scores(lines: Iterable[Mapping[str, Any]], facts: Mapping[str, Any]) -> Scores:
    """Scores of lines as dicts; `facts` name the label columns."""
    import polars as pl

    frame = pl.DataFrame(list(lines), schema=schema(list(facts["columns"])), orient="row")
    return Scores(frame, {"format": FORMAT, **facts})


def write_scores(path: Path, scores: Scores) -> None:
    """Write a scores file, whole or not at all."""
    out = io.BytesIO()
    # Never sorted: the order of the columns is the task's.
    scores.lines.write_parquet(out, metadata={KEY: json.dumps(scores.facts, ensure_ascii=False)})
    write_atomic(path, out.getvalue())


def read_scores(path: Path) -> Scores:
    """Read what `write_scores` wrote. Raises DataError if the file is missing or is no scores file."""
    import polars as pl

    if not path.is_file():
        raise DataError(f"{path} is missing; `kit eval NAME -o {path}` makes a scores file")
    try:
        # Opened here: polars would take brackets in a name for a pattern, and knows no name of other bytes.
        with path.open("rb") as stream:
            body = pl.read_parquet_metadata(stream).get(KEY)
            facts = json.loads(body) if body else None
            stream.seek(0)
            lines = pl.read_parquet(stream)
    except (OSError, ValueError, RecursionError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error

    again = "make one with `kit eval`"
    if not isinstance(facts, dict) or not needed_parts(Evaluation) <= facts.keys():
        raise DataError(f"{path} is a table, but no scores file; {again}")
    if facts.get("format") != FORMAT:
        raise DataError(f"{path} has the format {facts.get('format')!r}, this kit reads {FORMAT}; {again}")
    if unread := known_parts(Evaluation, facts)[1]:
        raise DataError(f"{path} does not say of itself what `kit eval` writes ({', '.join(unread)}); {again}")

    wanted = schema(list(facts["columns"]))
    if lacking := [name for name, kind in wanted.items() if lines.schema.get(name) != kind]:
        raise DataError(f"{path} lacks the columns {', '.join(lacking)}, or has them in another type; {again}")
    if lines.is_empty():
        raise DataError(f"{path} has no rows; {again}")
    return Scores(lines, facts)
