"""The rows of a run as the model got them, made again from the data, the task and the model's tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kaggle_kit.runtime.prepare import open_prompt, settle
from kaggle_kit.runtime.prompts import TURN_SEPARATOR, PromptBuilder, clean, escape_special
from kaggle_kit.runtime.rows import read_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.runtime.job import Task

_BATCH_ROWS = 1024


@dataclass(frozen=True)
class Text:
    """One prompt: its tokens as the model got it and uncut, and the fields that were cut."""

    tokens: int
    whole_tokens: int
    cut: tuple[str, ...] = ()


@dataclass(frozen=True)
class Texts:
    """The prompts of a run's rows by id, within a token budget; `prompt_of` holds the texts that were asked for."""

    budget: int
    rows: Mapping[str, Text]
    prompt_of: Mapping[str, str] = field(default_factory=dict)


def make_texts(
    test: Path,
    *,
    id_column: str,
    task: Task,
    model: Path,
    token_budget: int,
    ids: Collection[str],
    wanted: Collection[str],
) -> Texts:
    """The prompts of the rows `ids` that the model was asked, with the texts of the `wanted` ones.

    Raises DataError, LabelError or ModelError where data, task and model do not fit together.
    """
    template, tokenizer, _ = open_prompt(task, model)
    builder = PromptBuilder(template, task.fields, token_budget, tokenizer)
    rows: dict[str, Text] = {}
    prompts: dict[str, str] = {}
    for batch in _batches(test, id_column, task, ids):
        turns = [
            {name: [clean(escape_special(turn, tokenizer.special)) for turn in texts] for name, texts in row.items()}
            for _, row in batch
        ]
        for (row_id, _), row, prompt in zip(batch, turns, builder.build(turns), strict=True):
            tokens = whole = len(prompt.token_ids)
            if prompt.cut:
                joined = {name: TURN_SEPARATOR.join(texts) for name, texts in row.items()}
                whole = len(tokenizer.encode(template.fill(joined)))
            rows[row_id] = Text(tokens, whole, prompt.cut)
            if row_id in wanted:
                prompts[row_id] = prompt.text(template)
    return Texts(token_budget, rows, prompts)


def _batches(
    test: Path, id_column: str, task: Task, ids: Collection[str]
) -> Iterator[Sequence[tuple[str, Mapping[str, tuple[str, ...]]]]]:
    chosen = set(ids)
    batch: list[tuple[str, Mapping[str, tuple[str, ...]]]] = []
    for row in read_rows(test, id_column=id_column, fields=tuple(task.fields), row_format=task.row_format):
        if row.id in chosen and settle(row, task) is None:
            batch.append((row.id, row.turns))
        if len(batch) >= _BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch
