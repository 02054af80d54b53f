"""What can be said of a row's texts without reading them: turns, characters, script."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NO_SCRIPT = "none"
_KANA = ("Hiragana", "Katakana")
_JAPANESE_FROM = 0.05
"""The share of kana among kana and Han letters from which a text is Japanese: Chinese has none, Japanese about half."""


@dataclass(frozen=True)
class TextFacts:
    """Of one row: the most turns of a field, the characters of all fields, the script of most letters."""

    turns: int
    characters: int
    script: str


def text_facts(turns: Mapping[str, Sequence[str]]) -> TextFacts:
    """The facts of a row; `turns` maps each field to its texts."""
    texts = [text for field in turns.values() for text in field]
    return TextFacts(
        turns=max((len(field) for field in turns.values()), default=0),
        characters=sum(map(len, texts)),
        script=script_of(texts),
    )


def script_of(texts: Sequence[str]) -> str:
    """The script that most letters of `texts` belong to: the first word of a letter's Unicode name, Han for CJK.

    Kana among Han letters say Japanese. NO_SCRIPT where there is no letter.
    """
    letters: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    for text in texts:
        characters.update(text)
    for character, count in characters.items():
        if (script := _script(character)) is not None:
            letters[script] += count
    kana, han = sum(letters[name] for name in _KANA), letters["Han"]
    if kana and kana >= _JAPANESE_FROM * (kana + han):
        letters["Japanese"] = kana + han
        for name in ("Han", *_KANA):
            del letters[name]
    # By name where two are equal, so that the answer never depends on the order of the letters.
    return min(letters, key=lambda name: (-letters[name], name)) if letters else NO_SCRIPT


@lru_cache(maxsize=1 << 16)
def _script(character: str) -> str | None:
    if not character.isalpha():
        return None
    word = unicodedata.name(character, "Other").split(" ")[0].split("-")[0]
    return {"CJK": "Han", "FULLWIDTH": "Latin", "HALFWIDTH": "Katakana"}.get(word, word.capitalize())
