"""A row's texts: what can be said of them without reading them, and the prompts that they became, made again."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

from kaggle_kit.runtime.prepare import open_prompt, settle
from kaggle_kit.runtime.prompts import TURN_SEPARATOR, PromptBuilder, clean, escape_special
from kaggle_kit.runtime.rows import read_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.runtime.job import Task
    from kaggle_kit.runtime.prompts import Prompt

    Turns = Mapping[str, Sequence[str]]

NO_SCRIPT = "none"
_KANA = ("Hiragana", "Katakana")
_JAPANESE_FROM = 0.05
"""The share of kana among kana and Han letters from which a text is Japanese: Chinese has none, Japanese about half."""
_BATCH_ROWS = 1024


@dataclass(frozen=True)
class TextFacts:
    """Of one row: the most turns of a field, the characters of all fields, the script of most letters."""

    turns: int
    characters: int
    script: str


def text_facts(turns: Turns) -> TextFacts:
    """The facts of a row; `turns` maps each field to its texts."""
    texts = [text for part in turns.values() for text in part]
    return TextFacts(
        turns=max((len(part) for part in turns.values()), default=0),
        characters=sum(map(len, texts)),
        script=script_of(texts),
    )


def script_of(texts: Sequence[str]) -> str:
    """The script that most letters of `texts` belong to: the first word of a letter's Unicode name, Han for CJK.

    Kana among Han letters mean Japanese. NO_SCRIPT if there is no letter.
    """
    characters: Counter[str] = Counter()
    for text in texts:
        characters.update(text)
    letters: Counter[str] = Counter()
    for character, count in characters.items():
        if (script := _script(character)) is not None:
            letters[script] += count

    kana, han = sum(letters[name] for name in _KANA), letters["Han"]
    if kana and kana >= _JAPANESE_FROM * (kana + han):
        letters["Japanese"] = kana + han
        for name in ("Han", *_KANA):
            del letters[name]
    # By name if two are equal, so that the answer never depends on the order of the letters.
    return min(letters, key=lambda name: (-letters[name], name)) if letters else NO_SCRIPT


@lru_cache(maxsize=1 << 16)
def _script(character: str) -> str | None:
    if not character.isalpha():
        return None
    word = unicodedata.name(character, "Other").split(" ")[0].split("-")[0]
    return {"CJK": "Han", "FULLWIDTH": "Latin", "HALFWIDTH": "Katakana"}.get(word, word.capitalize())


class PromptMaker:
    """Makes a row's prompt as the model got it, from the task and the model's tokenizer."""

    def __init__(self, task: Task, model: Path, token_budget: int) -> None:
        """Raises DataError, LabelError or ModelError if they do not fit together."""
        self._template, self._tokenizer, _ = open_prompt(task, model)
        self._builder = PromptBuilder(self._template, task.fields, token_budget, self._tokenizer)

    def prompts(self, rows: Sequence[Turns]) -> list[Prompt]:
        """The prompts of rows, each cut to the budget."""
        return self._builder.build([self._cleaned(row) for row in rows])

    def whole_tokens(self, row: Turns) -> int:
        """The tokens of a row's prompt if it were not cut."""
        joined = {name: TURN_SEPARATOR.join(texts) for name, texts in self._cleaned(row).items()}
        return len(self._tokenizer.encode(self._template.fill(joined)))

    def text(self, prompt: Prompt) -> str:
        """The text that the model got."""
        return prompt.text(self._template)

    def _cleaned(self, row: Turns) -> dict[str, list[str]]:
        special = self._tokenizer.special
        return {name: [clean(escape_special(turn, special)) for turn in turns] for name, turns in row.items()}


@dataclass(frozen=True)
class PromptFacts:
    """One prompt: its tokens as the model got it and uncut, and the fields that were cut."""

    tokens: int
    whole_tokens: int
    cut: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunPrompts:
    """The prompts of a run's rows by id, within a token budget; `texts` holds those that were asked for."""

    budget: int
    rows: Mapping[str, PromptFacts]
    texts: Mapping[str, str] = field(default_factory=dict)


def make_prompts(
    test: Path,
    *,
    id_column: str,
    task: Task,
    model: Path,
    token_budget: int,
    ids: Collection[str],
    wanted: Collection[str],
) -> RunPrompts:
    """The prompts of the rows `ids` that the model was asked, with the texts of the `wanted` ones.

    Raises DataError, LabelError or ModelError if data, task and model do not fit together.
    """
    maker, chosen = PromptMaker(task, model, token_budget), set(ids)
    read = read_rows(test, id_column=id_column, fields=tuple(task.fields), row_format=task.row_format)
    asked = (row for row in read if row.id in chosen and settle(row, task) is None)

    rows: dict[str, PromptFacts] = {}
    texts: dict[str, str] = {}
    while batch := list(islice(asked, _BATCH_ROWS)):
        for row, prompt in zip(batch, maker.prompts([row.turns for row in batch]), strict=True):
            tokens = len(prompt.token_ids)
            rows[row.id] = PromptFacts(tokens, maker.whole_tokens(row.turns) if prompt.cut else tokens, prompt.cut)
            if row.id in wanted:
                texts[row.id] = maker.text(prompt)
    return RunPrompts(token_budget, rows, texts)
