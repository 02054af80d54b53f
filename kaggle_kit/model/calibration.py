"""Calibration on the user's own prompts: rows of train.csv, by the notebook's template and budget."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.errors import DataError
from kaggle_kit.runtime.prepare import open_prompt, settle
from kaggle_kit.runtime.prompts import PromptBuilder, escape_special
from kaggle_kit.runtime.rows import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kaggle_kit.runtime.rows import Row
    from kaggle_kit.runtime.task import Task


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
        row_ids=tuple(row.id for row in rows), token_ids=tuple(tuple(prompt.token_ids) for prompt in prompts)
    )


def _rows(source: CalibrationSource) -> Iterator[Row]:
    task = source.task
    return read_rows(source.table, id_column=source.id_column, fields=tuple(task.fields), row_format=task.row_format)
