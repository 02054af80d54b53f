"""Whether the tokenizer is there, is this model's, and says each label as one token."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import LabelError
from kaggle_kit.model.problem import Problem, warning
from kaggle_kit.runtime.labels import label_tokens
from kaggle_kit.runtime.tokenizers import ModelTokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import tokenizers

    from kaggle_kit.model.folder import Folder

TOKENIZER = "tokenizer.json"
SETTINGS = "tokenizer_config.json"
_SLOW = ("tokenizer.model", "vocab.json", "merges.txt", "vocab.txt", "spiece.model")
_FEW = 0.9
"""Below this share of the embeddings' rows a tokenizer is suspected of being another model's (Qwen's has 0.997)."""
_USUAL_END = "\n"


@dataclass(frozen=True)
class Labels:
    """What the model will be asked to say, and the text right before it."""

    words: Sequence[str]
    prompt: str = _USUAL_END
    special_tokens: bool = True
    """Whether the tokenizer's own start is added to the prompt (not where a chat template brings it)."""


@dataclass(frozen=True)
class TokenizerFacts:
    """Tokens of the vocabulary, added ones included, and the label tokens where labels were given."""

    tokens: int
    label_ids: tuple[int, ...] = ()


def check_tokenizer(
    folder: Folder, config: Mapping[str, Any], *, rows: int | None, labels: Labels | None
) -> tuple[TokenizerFacts | None, list[Problem]]:
    """Read the tokenizer and compare it with the embeddings' `rows` (their vocabulary)."""
    problems: list[Problem] = []
    tokenizer = _load(folder, problems)
    if tokenizer is None:
        return None, problems
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    last = max(vocabulary.values(), default=-1)
    if rows is not None and last >= rows:
        beyond = sorted((number, word) for word, number in vocabulary.items() if number >= rows)
        named = ", ".join(f"{word!r} ({number})" for number, word in beyond[:3])
        what = f"has tokens beyond the embeddings' {rows:,} rows: {named}{' …' if len(beyond) > 3 else ''}"
        step = (
            "take the tokenizer of this model, or resize the embeddings to it (resize_token_embeddings) and save again"
        )
        problems.append(Problem(TOKENIZER, what, step))
    elif rows is not None and last + 1 < _FEW * rows:
        what = f"has {last + 1:,} tokens, and the embeddings have {rows:,} rows"
        problems.append(warning(TOKENIZER, what, "see that it is this model's tokenizer"))
    problems += _against_settings(folder, config, vocabulary)
    ids: tuple[int, ...] = ()
    if labels is not None:
        special = labels.special_tokens
        try:
            named_labels = list(labels.words)
            ids = label_tokens(
                named_labels, prompt=labels.prompt, tokenizer=ModelTokenizer(tokenizer, special_tokens=special)
            )
        except LabelError as error:
            problems.append(Problem(TOKENIZER, str(error), "choose labels that are one token each"))
        ids = tuple(ids)
        if rows is not None and any(token >= rows for token in ids):
            problems.append(Problem(TOKENIZER, f"has label tokens {ids} without a row", "choose other labels"))
    return TokenizerFacts(len(vocabulary), ids), problems


def _load(folder: Folder, problems: list[Problem]) -> tokenizers.Tokenizer | None:
    import tokenizers

    path = folder.files.get(TOKENIZER)
    if path is None:
        slow = [name for name in _SLOW if name in folder.files]
        what = f"is missing{f' (there is {slow[0]}, which kit does not read)' if slow else ''}"
        step = "save it in the fast form: AutoTokenizer.from_pretrained(SOURCE).save_pretrained(FOLDER)"
        problems.append(Problem(TOKENIZER, what, step))
        return None
    if TOKENIZER in folder.unreadable:
        return None
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001  the Rust library raises bare Exception
        step = "save it again with the newest tokenizers, or download it again"
        problems.append(Problem(TOKENIZER, f"cannot be read as a tokenizer: {error}", step))
        return None


def _against_settings(folder: Folder, config: Mapping[str, Any], vocabulary: Mapping[str, int]) -> list[Problem]:
    """config.json, tokenizer_config.json and the vocabulary should name the same start and end."""
    path = folder.files.get(SETTINGS)
    if path is None or SETTINGS in folder.unreadable:
        return []
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        return [Problem(SETTINGS, f"is no JSON: {error}", "download it again")]
    if not isinstance(settings, dict):
        return [Problem(SETTINGS, "holds no table", "download it again")]
    problems = []
    if "auto_map" in settings:
        what = "names code of its own for the tokenizer; kit reads tokenizer.json alone"
        problems.append(warning(SETTINGS, what, "see that tokenizer.json gives the same tokens"))
    for name in ("bos_token", "eos_token"):
        told = settings.get(name)
        word = told.get("content") if isinstance(told, dict) else told
        numbers = config.get(f"{name}_id")
        if not isinstance(word, str) or numbers is None:
            continue
        number = vocabulary.get(word)
        if number is None:
            what = f"names {word!r} as {name}, and the vocabulary has no such token"
            problems.append(Problem(SETTINGS, what, "take all files of the tokenizer from one place"))
        elif number not in (numbers if isinstance(numbers, list) else [numbers]):
            what = f"makes {word!r} ({number}) the {name}, and config.json says {numbers}"
            problems.append(warning(SETTINGS, what, "see that tokenizer and model belong together"))
    return problems
