"""Whether the tokenizer is there, is this model's, and has each label as one token where the model answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import AnswerPlaceError, LabelError, ModelError
from kaggle_kit.model.folder import Problem, warning
from kaggle_kit.outside import shown
from kaggle_kit.runtime.checkpoint import read_table
from kaggle_kit.runtime.guard import GuardedTokenizer
from kaggle_kit.runtime.prepare import open_prompt
from kaggle_kit.runtime.tokenizer_settings import SETTINGS, TOKENIZER, read_settings, settings_notes
from kaggle_kit.runtime.tokenizers import label_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kaggle_kit.model.folder import Folder
    from kaggle_kit.runtime.guard import Guard
    from kaggle_kit.runtime.job import Task
    from kaggle_kit.runtime.score_head import ScoreHead

_SLOW = ("tokenizer.model", "vocab.json", "merges.txt", "vocab.txt", "spiece.model")
_FEW = 0.9
"""Below this share of the embeddings' rows a tokenizer is suspected of being another model's (Qwen's has 0.997)."""
_USUAL_END = "\n"
_LONGEST_WORD = 1000
_LISTED = 3
_CONFIG = "config.json"
_AGAIN = "save it again with the newest tokenizers, or download it again"


@dataclass(frozen=True)
class Labels:
    """What the model will be asked to say (or its classes), and the text right before it."""

    words: Sequence[str]
    prompt: str = _USUAL_END
    task: Task | None = None
    """The notebook's task, whose own prompt the labels then stand after."""

    @property
    def special_tokens(self) -> bool:
        """Whether the tokenizer's own start is added to the prompt (not if a chat template brings it)."""
        return self.task is None or not self.task.chat


@dataclass(frozen=True)
class TokenizerFacts:
    """Tokens of the vocabulary, added ones included, and the label tokens (or classes) if labels were given."""

    tokens: int
    label_ids: tuple[int, ...] = ()


def check_tokenizer(
    folder: Folder,
    config: Mapping[str, Any],
    *,
    rows: int | None,
    labels: Labels | None,
    head: ScoreHead | None = None,
    guard: Guard | None = None,
) -> tuple[TokenizerFacts | None, list[Problem]]:
    """Read the tokenizer, behind a `guard`, and compare it with the embeddings' `rows` (their vocabulary).

    The labels of a model with a classification `head` of its own are its classes.
    """
    problems: list[Problem] = []
    settings = _settings(folder, problems)
    words = _end_words(settings)
    tokenizer = _load(folder, problems, guard, special_tokens=labels is None or labels.special_tokens)
    if tokenizer is None:
        return None, problems
    try:
        vocabulary = tokenizer.vocabulary(rows=rows, words=sorted(set(words.values())))
    except ModelError as error:
        return None, [*problems, Problem(TOKENIZER, str(error), _AGAIN, check="tokenizer")]
    problems += _against_rows(vocabulary, rows)
    problems += _against_settings(words, config, vocabulary["numbers"])

    ids: tuple[int, ...] = ()
    if labels is not None:
        ids = _label_ids(folder, labels, head, tokenizer, rows, problems)
        if head is None and rows is not None and any(token >= rows for token in ids):
            what = f"has label tokens {ids} without a row"
            problems.append(Problem(TOKENIZER, what, "choose other labels", check="labels"))
    if labels is None or labels.task is None:
        notes = settings_notes(read_settings(folder.root), tokenizer, prompt="")
        problems += [warning(SETTINGS, *_parts(note), check="special-tokens") for note in notes]
    return TokenizerFacts(vocabulary["tokens"], ids), problems


def _label_ids(
    folder: Folder,
    labels: Labels,
    head: ScoreHead | None,
    tokenizer: GuardedTokenizer,
    rows: int | None,
    problems: list[Problem],
) -> tuple[int, ...]:
    """The labels' tokens, or classes of the `head`; none, and a problem, if they cannot be told.

    The notebook's own prompt is looked at too.
    """
    try:
        if labels.task is None and head:
            return head.class_numbers(labels.words)
        if labels.task is None:
            return label_tokens(list(labels.words), prompt=labels.prompt, tokenizer=tokenizer)
        notes: list[str] = []
        try:
            template, _, ids = open_prompt(labels.task, folder.root, tokenizer=tokenizer, note=notes.append)
        finally:
            problems += [warning(SETTINGS, *_parts(note), check="answer-place") for note in notes]
        frame = tokenizer.encode(template.fill(dict.fromkeys(template.fields, "")))
        if beyond := sorted({token for token in frame if rows is not None and token >= rows}):
            words = ", ".join(map(repr, tokenizer.pieces(beyond[:_LISTED])))
            what = f"has tokens beyond the embeddings' {rows:,} rows, and the notebook's prompt holds them: {words}"
            problems.append(Problem(TOKENIZER, what, "take them out of the template", check="vocabulary"))
        return ids
    except AnswerPlaceError as error:
        problems.append(Problem(SETTINGS, error.what, error.step, check="answer-place"))
    except LabelError as error:
        file, step = (_CONFIG, "write its classes") if head else (TOKENIZER, "choose labels that are one token each")
        problems.append(Problem(file, str(error), step, check="labels"))
    except ModelError as error:
        what, _, step = str(error).rpartition("; ")
        problems.append(Problem(TOKENIZER, what or step, step if what else _AGAIN, check="tokenizer"))
    return ()


def _parts(note: str) -> tuple[str, str]:
    """A note as what there is, and what to do."""
    what, _, step = note.rpartition(": " if "; " not in note else "; ")
    return what.removeprefix(f"{SETTINGS} "), step


def _load(
    folder: Folder, problems: list[Problem], guard: Guard | None, *, special_tokens: bool
) -> GuardedTokenizer | None:
    path = folder.files.get(TOKENIZER)
    if path is None:
        slow = [name for name in _SLOW if name in folder.files]
        what = f"is missing{f' (there is {slow[0]}, which kit does not read)' if slow else ''}"
        step = "save it in the fast form: AutoTokenizer.from_pretrained(SOURCE).save_pretrained(FOLDER)"
        problems.append(Problem(TOKENIZER, what, step, check="tokenizer"))
        return None
    if TOKENIZER in folder.unreadable:
        return None
    try:
        return GuardedTokenizer(folder.root, special_tokens=special_tokens, guard=guard)
    except ModelError as error:
        what = str(error).removeprefix(f"{path.absolute()} ")
        problems.append(Problem(TOKENIZER, what, _AGAIN, check="tokenizer"))
        return None


def _against_rows(vocabulary: Mapping[str, Any], rows: int | None) -> list[Problem]:
    if rows is None:
        return []
    last = vocabulary["last"]
    if last >= rows:
        named = ", ".join(f"{word!r} ({number})" for number, word in vocabulary["first"])
        more = " …" if vocabulary["beyond"] > len(vocabulary["first"]) else ""
        what = f"has tokens beyond the embeddings' {rows:,} rows: {named}{more}"
        resize = "resize the embeddings to it (resize_token_embeddings) and save again"
        if vocabulary["beyond_plain"] == 0:
            note = "no row's own text becomes one of them, since control tokens are escaped"
            step = "see that the chat template does not write them"
            return [warning(TOKENIZER, f"{what}: {note}", step, check="vocabulary")]
        return [Problem(TOKENIZER, what, f"take the tokenizer of this model, or {resize}", check="vocabulary")]
    if last + 1 < _FEW * rows:
        what = f"has {last + 1:,} tokens, and the embeddings have {rows:,} rows"
        return [warning(TOKENIZER, what, "see that it is this model's tokenizer", check="vocabulary")]
    return []


def _settings(folder: Folder, problems: list[Problem]) -> Mapping[str, Any]:
    """tokenizer_config.json; nothing if there is none, or it cannot be read."""
    path = folder.files.get(SETTINGS)
    if path is None or SETTINGS in folder.unreadable:
        return {}
    try:
        settings = read_table(path, "a tokenizer's settings")
    except ModelError as error:
        what, _, _ = str(error).removeprefix(f"{path} ").rpartition("; ")
        problems.append(Problem(SETTINGS, what, "download it again"))
        return {}
    if "auto_map" in settings:
        what = "names code of its own for the tokenizer; kit reads tokenizer.json alone"
        problems.append(warning(SETTINGS, what, "see that tokenizer.json gives the same tokens"))
    return settings


def _end_words(settings: Mapping[str, Any]) -> dict[str, str]:
    """The words by which a text begins and ends, as the settings name them: `bos_token`, `eos_token`."""
    words = {}
    for name in ("bos_token", "eos_token"):
        value = settings.get(name)
        word = value.get("content") if isinstance(value, dict) else value
        if isinstance(word, str) and len(word) <= _LONGEST_WORD:
            words[name] = word
    return words


def _against_settings(
    words: Mapping[str, str], config: Mapping[str, Any], numbers: Mapping[str, int | None]
) -> list[Problem]:
    """config.json, tokenizer_config.json and the vocabulary should name the same start and end."""
    problems = []
    for name, word in words.items():
        known = config.get(f"{name}_id")
        if known is None:
            continue
        number = numbers.get(word)
        if number is None:
            what = f"names {word!r} as {name}, and the vocabulary has no such token"
            problems.append(Problem(SETTINGS, what, "take all files of the tokenizer from one place"))
        elif number not in (known if isinstance(known, list) else [known]):
            what = f"makes {word!r} ({number}) the {name}, and config.json says {shown(known)}"
            problems.append(warning(SETTINGS, what, "see that tokenizer and model belong together"))
    return problems
