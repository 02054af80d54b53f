"""Calibration on the user's own prompts: rows of train.csv, by the notebook's template and budget."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import DataError
from kaggle_kit.runtime.prepare import open_prompt, settle
from kaggle_kit.runtime.prompts import PromptBuilder, escape_special
from kaggle_kit.runtime.rows import parse_cell, read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.runtime.job import Task
    from kaggle_kit.runtime.manifest import Manifest
    from kaggle_kit.runtime.rows import Row

DIGESTS = "row_digests"
"""The key of a manifest's `quantisation.calibration` under which the rows' digests stand, with spaces between them."""


@dataclass(frozen=True)
class CalibrationSource:
    """Where the prompts come from: the notebook's task and budget (tokens), a CSV file, and which of its rows."""

    task: Task
    budget: int
    table: Path
    rows: int
    seed: int
    id_column: str = "id"


@dataclass(frozen=True)
class CalibrationPrompts:
    """The prompts' token ids, and the ids of their rows, in the table's order."""

    row_ids: tuple[str, ...]
    token_ids: tuple[tuple[int, ...], ...]
    digests: tuple[str, ...]
    """What tells each row by its texts, wherever it stands: see `row_digest`."""

    @property
    def tokens(self) -> int:
        """Of all prompts together."""
        return sum(map(len, self.token_ids))

    @property
    def sha256(self) -> str:
        """The hash of the rows' ids, as a JSON list: which rows were used, without their texts."""
        return hashlib.sha256(json.dumps(list(self.row_ids)).encode()).hexdigest()


def calibration_prompts(source: CalibrationSource, *, model: Path) -> CalibrationPrompts:
    """Draw `source.rows` rows (all, where there are fewer) and build their prompts with the tokenizer of `model`.

    Rows that no model would see (unreadable ones, and those for which a rule stands) are left out; the same seed draws
    the same rows. Raises DataError where no row is left, or the table does not fit the task; ModelError and LabelError
    where model and task do not fit together.
    """
    template, tokenizer, _ = open_prompt(source.task, model)
    builder = PromptBuilder(template, source.task.fields, source.budget, tokenizer)
    places = [place for place, row in enumerate(_rows(source)) if settle(row, source.task) is None]
    if not places:
        raise DataError(f"{source.table} has no row that the model would see: there is nothing to calibrate on")
    drawn = set(random.Random(source.seed).sample(places, min(source.rows, len(places))))  # noqa: S311
    rows = [row for place, row in enumerate(_rows(source)) if place in drawn]
    special = tokenizer.special
    turns = [{name: [escape_special(turn, special) for turn in row.turns[name]] for name in row.turns} for row in rows]
    prompts = builder.build(turns)
    return CalibrationPrompts(
        row_ids=tuple(row.id for row in rows),
        token_ids=tuple(tuple(prompt.token_ids) for prompt in prompts),
        digests=tuple(row_digest(row.turns) for row in rows),
    )


def row_digest(turns: Mapping[str, Sequence[str]]) -> str:
    """The first 48 bits, in hex, of the SHA-256 of a row's texts: field → its turns.

    Neither ids nor the order of rows or of fields count, so that a row is known again in another table, under another
    id, and with its answers exchanged. Among 1,000 rows that were used and 100,000 others, two alike by chance come
    once in three million times.
    """
    return hashlib.sha256(json.dumps(sorted(list(texts) for texts in turns.values())).encode()).hexdigest()[:12]


def record_digest(record: Mapping[str, Any], task: Task) -> str | None:
    """The digest of a row of a table as `read_table` gives it; None where it has no texts that could be read."""
    turns = {}
    for name in task.fields:
        cell = record.get(name)
        parsed = parse_cell(cell if isinstance(cell, str | None) else json.dumps(cell), task.row_format)
        if isinstance(parsed, str):
            return None
        turns[name] = parsed
    return row_digest(turns)


def calibrated_on(manifest: Manifest) -> frozenset[str] | None:
    """The digests of the rows that calibrated a model, by its manifest: none where it says that nothing calibrated it
    (`calibration` is null); None where it does not say."""
    quantisation = manifest.extra.get("quantisation")
    if isinstance(quantisation, dict) and quantisation.get("calibration", ...) is None:
        return frozenset()
    calibration = quantisation.get("calibration") if isinstance(quantisation, dict) else None
    digests = calibration.get(DIGESTS) if isinstance(calibration, dict) else None
    return frozenset(digests.split()) if isinstance(digests, str) else None


def _rows(source: CalibrationSource) -> Iterator[Row]:
    task = source.task
    return read_rows(source.table, id_column=source.id_column, fields=tuple(task.fields), row_format=task.row_format)
