"""The demo task: the words of its prompt, its fields, shares, labels and budget, in one place.

`notebooks_src/lmsys.py` says the same words; training and scoring must see the same tokens.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kaggle_kit.runtime.prompts import Prompt, PromptBuilder, Tokenizer, parse_template

if TYPE_CHECKING:
    from collections.abc import Mapping

TEMPLATE = (
    "Two assistants answered the same person. Say which answer the person prefers:\nA, B, or tie.\n\n"
    "[Prompt]\n{prompt}\n\n[Answer A]\n{response_a}\n\n[Answer B]\n{response_b}\n\n[Preferred]\n"
)
SHARES = {"prompt": 20.0, "response_a": 40.0, "response_b": 40.0}
LABELS = {"winner_model_a": "A", "winner_model_b": "B", "winner_tie": "tie"}
TOKEN_BUDGET = 512
_PARSED = parse_template(TEMPLATE, fields=tuple(SHARES))


def turns(cell: str) -> list[str]:
    """The turns of one CSV cell; a `null` turn is an empty one."""
    return ["" if turn is None else turn for turn in json.loads(cell)]


def prompt_of(row: Mapping[str, str], *, tokenizer: Tokenizer, budget: int = TOKEN_BUDGET) -> Prompt:
    """The prompt of one CSV row, at most `budget` tokens long."""
    cells = {name: turns(row[name]) for name in SHARES}
    return PromptBuilder(_PARSED, SHARES, budget, tokenizer).build([cells])[0]
