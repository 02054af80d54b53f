"""From a job to rows ready for the engine: read, sorted out, cut."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from kaggle_kit.errors import AnswerPlaceError, DataError, KitError, LabelError
from kaggle_kit.runtime.allowances import read_allowances
from kaggle_kit.runtime.chat import misplaced, wrap
from kaggle_kit.runtime.checkpoint import read_config, read_lengths
from kaggle_kit.runtime.guard import Guard, GuardedTokenizer
from kaggle_kit.runtime.journal import Entry
from kaggle_kit.runtime.manifest import MANIFEST, read_manifest, verify_files
from kaggle_kit.runtime.prompts import Prompt, PromptBuilder, Template, escape_special, parse_template
from kaggle_kit.runtime.rows import read_rows
from kaggle_kit.runtime.score_head import read_score_head
from kaggle_kit.runtime.tokenizer_settings import read_settings, settings_notes
from kaggle_kit.runtime.tokenizers import TextTokenizer, label_tokens, load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.runtime.chat import Wrapped
    from kaggle_kit.runtime.job import Job, Task
    from kaggle_kit.runtime.rows import Row

    Note = Callable[[str], None]

_BATCH_ROWS = 1024
"""Rows whose texts are in memory at once."""
_AT_ONCE = 'answer_prefix = "" if the model was trained to say the label at once'
_NO_CHAT = "chat = False if it was trained without its chat template"


@dataclass(frozen=True)
class Opened:
    """What a job needs before its rows: what makes its prompts, the tokenizer, and the labels' tokens."""

    builder: PromptBuilder
    tokenizer: TextTokenizer
    label_ids: tuple[int, ...]


@dataclass(frozen=True)
class Prepared:
    """Rows ready for the engine (`prompts`), and the entries of those that it will not see (`settled`)."""

    label_ids: tuple[int, ...]
    prompts: dict[str, Prompt]
    settled: tuple[Entry, ...]
    builder: PromptBuilder


def open_prompt(
    task: Task,
    model: Path,
    *,
    guarded: bool = True,
    note: Note | None = None,
    tokenizer: GuardedTokenizer | None = None,
) -> tuple[Template, TextTokenizer, tuple[int, ...]]:
    """The template, the tokenizer, and the labels' tokens where the model answers: right after the template's end.

    Of a model that answers with a classification head of its own they are the numbers of the labels' classes.

    `guarded`: whether the model's tokenizer and chat template run in a process with limits of its own (see
    `runtime.guard`), that of `tokenizer` if one is open for this task; not if this process, a notebook's worker, has no
    other work. `note` hears where the prompt may be another one than in training.

    Raises DataError, LabelError or ModelError if they do not fit together.
    """
    labels = list(task.labels.values())
    head = read_score_head(read_config(model)) if (model / "config.json").is_file() else None
    classes = head.class_numbers(labels) if head else ()
    wrapped = None
    if guarded:
        guard = tokenizer.guard if tokenizer else Guard(model)
        if task.chat:
            wrapped = guard.wrap(task.template, task.chat_settings, labels)
        opened: TextTokenizer = tokenizer or GuardedTokenizer(model, special_tokens=not task.chat, guard=guard)
    else:
        if task.chat:
            wrapped = wrap(task.template, model, task.chat_settings, labels)
        opened = load_tokenizer(model, special_tokens=not task.chat)

    fields, text = tuple(task.fields), wrapped.text if wrapped else task.template
    template = parse_template(text + (task.answer_prefix or ""), fields=fields, says_label=head is None)
    frame = template.fill(dict.fromkeys(fields, ""))
    notes = [*(wrapped.notes if wrapped else ())]
    notes += settings_notes(read_settings(model), opened, prompt=frame, begun=wrapped is not None)
    place_notes = _check_place(wrapped, task, frame, opened, model) if wrapped and not head else []
    for each in (*notes, *place_notes):
        if note:
            note(each)
    return template, opened, classes or label_tokens(labels, prompt=frame, tokenizer=opened)


def _check_place(wrapped: Wrapped, task: Task, frame: str, tokenizer: TextTokenizer, model: Path) -> list[str]:
    """Compare the end of the prompt with the place where the chat template's own answers stand; what to note of it.

    Raises AnswerPlaceError if they differ and the source does not say by an `answer_prefix` that it is meant so.
    """
    labels, prefix = list(task.labels.values()), task.answer_prefix
    if wrapped.between is None:
        unknown = (
            f"it was not checked that the model answers where the prompt ends: {wrapped.why}; see the label mass of a "
            f'few rows, and set answer_prefix ("" for none) to say that it does'
        )
        return [unknown] if prefix is None else []
    wrong = misplaced(wrapped, labels, prefix=prefix or "")
    if wrong is None:
        return []
    if prefix is not None:
        return [f"with answer_prefix = {prefix!r}, {wrong.what}: see the label mass of a few rows"]
    if _allows_place(model):
        return [f"allowed by the model's manifest: {wrong.what}: see the label mass of a few rows"]

    steps = [f"chat_variables = {dict(wrapped.switch)!r}"] if wrapped.switch else []
    steps += [f"answer_prefix = {end!r}" for end in wrong.prefixes if _fit(labels, frame + end, tokenizer)]
    spaced = [wrong.spaces + label.lstrip(" ") for label in labels]
    if wrong.spaces and _fit(spaced, frame + wrong.stem, tokenizer):
        also = f"answer_prefix = {wrong.stem!r} and " if wrong.stem else ""
        steps.append(f"{also}labels that begin with the space: {', '.join(map(repr, spaced))}")
    raise AnswerPlaceError(
        f"the labels are not where the model answers: {wrong.what}",
        f"write into the source one of: {'; '.join([*steps, _AT_ONCE, _NO_CHAT])}",
    )


def _allows_place(model: Path) -> bool:
    """Whether the model's manifest records that a user knows better than the check of the place."""
    try:
        return any(allowance.check == "answer-place" for allowance in read_allowances(model))
    except KitError:
        return False


def _fit(labels: Sequence[str], prompt: str, tokenizer: TextTokenizer) -> bool:
    """Whether each label is one token after `prompt`."""
    try:
        return bool(label_tokens(labels, prompt=prompt, tokenizer=tokenizer))
    except LabelError:
        return False


def open_job(job: Job, *, guarded: bool = False, note: Note | None = None) -> Opened:
    """`open_prompt` of a job whose model is whole, and whose budget fits both the model and the template.

    Raises DataError, LabelError or ModelError if it cannot be done as it is; reads no row.
    """
    verify_files(job.model, read_manifest(job.model / MANIFEST), hashes=False)
    template, tokenizer, label_ids = open_prompt(job.task, job.model, guarded=guarded, note=note)
    _check_budget(job)
    return Opened(PromptBuilder(template, job.task.fields, job.token_budget, tokenizer), tokenizer, label_ids)


def needs_engine(job: Job) -> bool:
    """Whether any row of the job is for the model.

    All rows are read (25,000 in a second), so that a DataError for the file as a whole comes before the engine starts.
    """
    return sum(settle(row, job.task) is None for row in _rows(job)) > 0


def prepare(job: Job, opened: Opened | None = None, *, note: Note | None = None) -> Prepared:
    """Read and cut all rows, with what `open_job` gave if it was called already; else `note` is for that.

    Raises DataError, LabelError or ModelError if the job cannot be done as it is.
    """
    opened = opened or open_job(job, note=note)
    builder, special = opened.builder, opened.tokenizer.special
    prompts: dict[str, Prompt] = {}
    settled: list[Entry] = []
    waiting: list[Row] = []

    def build() -> None:
        turns = [
            {name: [escape_special(turn, special) for turn in row.turns[name]] for name in row.turns} for row in waiting
        ]
        prompts.update(zip((row.id for row in waiting), builder.build(turns), strict=True))
        waiting.clear()

    for row in _rows(job):
        entry = settle(row, job.task)
        if entry is not None:
            settled.append(entry)
            continue
        waiting.append(row)
        if len(waiting) >= _BATCH_ROWS:
            build()
    build()

    return Prepared(opened.label_ids, prompts, tuple(settled), builder)


def _rows(job: Job) -> Iterator[Row]:
    """The rows of this worker's share."""
    fields = tuple(job.task.fields)
    rows = read_rows(job.test, id_column=job.id_column, fields=fields, row_format=job.task.row_format)
    unasked = frozenset(job.unasked)
    number, workers = job.share
    return islice((row for row in rows if row.id not in unasked), number, None, workers)


def settle(row: Row, task: Task) -> Entry | None:
    """The entry of a row that needs no model: one that cannot be read, or one for which a rule stands."""
    if row.problem is not None:
        return Entry(row.id, problem=row.problem)
    if (rule := _rule_of(row.turns, task)) is None:
        return None
    distribution = task.rules[rule]
    scores = tuple(math.log(distribution[column]) for column in task.labels)
    return Entry(row.id, log_probabilities=scores, flags=(f"rule: {rule}",))


def _rule_of(turns: Mapping[str, tuple[str, ...]], task: Task) -> str | None:
    if not task.rules:
        return None
    pairs = [tuple("\n".join(turns[name]).strip() for name in pair) for pair in task.field_pairs.items()]
    if "empty" in task.rules and not any(text for pair in pairs for text in pair):
        return "empty"
    if "identical" in task.rules and all(text == other for text, other in pairs):
        return "identical"
    return None


def _check_budget(job: Job) -> None:
    """Raise DataError if a prompt as long as the budget would not leave the model room for its answer."""
    limit, answer = read_lengths(job.model)
    allowed = {allowance.check for allowance in read_allowances(job.model)}
    if limit is not None and job.token_budget + answer > limit and "length" not in allowed:
        included = ", its answer included" if answer else ""
        raise DataError(
            f"token_budget = {job.token_budget}, but the model takes {limit} tokens{included}; "
            f"lower token_budget to {limit - answer} or less"
        )
