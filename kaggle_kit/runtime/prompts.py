"""Rows become token ids that fit a budget: cut by the caller, never by the engine.

The text of a prompt is what the author's template says, tokenised whole, as it was when the model was
trained. Only the fields are cut: each may use its share of what the template leaves over, shares that
a short field does not use go to the others, and inside a field the last turns stay first.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from kaggle_kit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

CUT_MARK = " […] "
TURN_SEPARATOR = "\n\n"
_BATCH_ROWS = 512
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Tokenizer(Protocol):
    """What this module needs of a tokenizer."""

    def encode(self, text: str) -> list[int]:
        """The token ids of `text`, with the special tokens that the model expects at its start."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, in parallel."""

    def spans(self, text: str) -> list[tuple[int, int]]:
        """The (start, end) characters of each token of `text`, without special tokens."""


@dataclass(frozen=True)
class Prompt:
    """One row, ready for the engine.

    `token_ids` never exceeds the budget that it was made for; `cut` lists the fields that lost text.
    """

    token_ids: tuple[int, ...]
    text: str
    cut: tuple[str, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)
    """What of each field stands in the text: another pass fills it in anew without cutting again."""


@dataclass(frozen=True)
class Template:
    """The author's prompt text, split at its `{field}` places.

    `pieces` alternates text and field names: text, name, text, name, …, text.
    """

    pieces: tuple[str, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields, in the order of the text."""
        return self.pieces[1::2]

    def fill(self, values: Mapping[str, str]) -> str:
        """The text with each field's value in its place."""
        return "".join(values[piece] if i % 2 else piece for i, piece in enumerate(self.pieces))


def parse_template(text: str, *, fields: Sequence[str]) -> Template:
    """Split a prompt text at its `{field}` places.

    Raises DataError where a field of the task has no place, or has two. Braces around anything that is
    not a field of the task are text.
    """
    pieces: list[str] = [""]
    end = 0
    for match in _PLACEHOLDER.finditer(text):
        if match[1] not in fields:
            continue
        pieces[-1] += text[end : match.start()]
        pieces += [match[1], ""]
        end = match.end()
    pieces[-1] += text[end:]
    placed = pieces[1::2]
    for name in fields:
        if placed.count(name) != 1:
            times = placed.count(name)
            raise DataError(
                f"the prompt template has {times} places {{{name}}} for the field {name!r}; it needs exactly one"
            )
    return Template(tuple(pieces))


def clean(text: str) -> str:
    """`text` with lone surrogates, which no tokenizer takes, replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def escape_special(text: str, special: Collection[str]) -> str:
    """`text` with a space in each word that the tokenizer would read as a special token: a row is data, not control."""
    for word in special:
        if word in text:
            text = text.replace(word, f"{word[0]} {word[1:]}")
    return text


def build_prompts(
    rows: Sequence[Mapping[str, Sequence[str]]],
    *,
    template: Template,
    shares: Mapping[str, float],
    budget: int,
    tokenizer: Tokenizer,
    threads: int = 2,
) -> list[Prompt]:
    """`build_prompt` of each row, in their order; tokenised in parallel, and cut only where it must be."""
    fields = template.fields
    prompts: list[Prompt] = []
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(rows), _BATCH_ROWS):
            batch = rows[start : start + _BATCH_ROWS]
            kept = [{name: TURN_SEPARATOR.join(map(clean, row[name])) for name in fields} for row in batch]
            texts = [template.fill(values) for values in kept]
            encoded = tokenizer.encode_batch(texts)

            def finish(number: int) -> Prompt:
                ids = encoded[number]  # noqa: B023  done before the next batch begins
                if len(ids) <= budget:
                    return Prompt(tuple(ids), texts[number], (), kept[number])  # noqa: B023
                return build_prompt(
                    batch[number],  # noqa: B023
                    template=template,
                    shares=shares,
                    budget=budget,
                    tokenizer=tokenizer,
                )

            prompts += pool.map(finish, range(len(batch)))
    return prompts


def exchange(
    prompts: Sequence[Prompt], *, template: Template, pairs: Mapping[str, str], tokenizer: Tokenizer
) -> list[Prompt]:
    """The prompts with the fields of each pair exchanged: what was kept of a row is used again, not cut anew.

    Tokens join differently in the new places, so a prompt can be a few tokens longer than before.
    """
    mirrored = {**pairs, **{other: one for one, other in pairs.items()}}
    kept = [{name: prompt.kept[mirrored.get(name, name)] for name in template.fields} for prompt in prompts]
    texts = [template.fill(values) for values in kept]
    encoded = tokenizer.encode_batch(texts)
    return [
        replace(prompt, token_ids=tuple(ids), text=text, kept=values)
        for prompt, ids, text, values in zip(prompts, encoded, texts, kept, strict=True)
    ]


def build_prompt(
    row: Mapping[str, Sequence[str]],
    *,
    template: Template,
    shares: Mapping[str, float],
    budget: int,
    tokenizer: Tokenizer,
) -> Prompt:
    """The prompt of one row, at most `budget` tokens long, special tokens included.

    `row` maps each field to its turns; `shares` maps each field to its part of the budget (any scale).
    Raises DataError where `budget` is too small for the template alone.
    """
    fields = template.fields
    turns = {name: [clean(turn) for turn in row[name]] for name in fields}
    whole = {name: TURN_SEPARATOR.join(turns[name]) for name in fields}
    text = template.fill(whole)
    # A token holds at least one byte, so a text this short needs no second look before it is encoded.
    ids = tokenizer.encode(text)
    if len(ids) <= budget:
        return Prompt(tuple(ids), text, (), whole)

    frame = len(tokenizer.encode(template.fill(dict.fromkeys(fields, ""))))
    room = budget - frame
    if room < len(fields):
        raise DataError(
            f"a budget of {budget} tokens is too small: the template alone takes {frame}; "
            f"raise token_budget to {frame + 64} or more, or shorten the template"
        )
    lengths = {name: len(tokenizer.spans(whole[name])) for name in fields}
    # Tokens join differently where pieces meet and around the cut mark, so the first try can be a few too long.
    while True:
        allowed = split_budget(room, lengths=lengths, shares=shares)
        kept = {
            name: whole[name]
            if lengths[name] <= allowed[name]
            else cut_turns(turns[name], limit=allowed[name], tokenizer=tokenizer)
            for name in fields
        }
        text = template.fill(kept)
        ids = tokenizer.encode(text)
        if len(ids) <= budget:
            cut = tuple(name for name in fields if kept[name] != whole[name])
            return Prompt(tuple(ids), text, cut, kept)
        if room == 0:
            raise DataError(f"no cut of the row fits into {budget} tokens; raise token_budget")
        room = max(0, room - max(1, len(ids) - budget))


def split_budget(room: int, *, lengths: Mapping[str, int], shares: Mapping[str, float]) -> dict[str, int]:
    """Tokens for each field, together at most `room`: by share, what a short field leaves going to the others."""
    allowed: dict[str, int] = {}
    open_fields = set(lengths)
    left = max(room, 0)
    while open_fields:
        total = sum(shares[name] for name in open_fields)
        part = {name: int(left * shares[name] / total) for name in open_fields}
        done = {name for name in open_fields if lengths[name] <= part[name]}
        if not done:
            return allowed | part
        for name in done:
            allowed[name] = lengths[name]
            left -= lengths[name]
        open_fields -= done
    return allowed


def cut_turns(turns: Sequence[str], *, limit: int, tokenizer: Tokenizer) -> str:
    """The last turns that fit into `limit` tokens; the first that does not is cut in its middle.

    A cut mark stands where text was left out.
    """
    mark = len(tokenizer.spans(CUT_MARK))
    separator = len(tokenizer.spans(TURN_SEPARATOR))
    left = limit
    kept: list[str] = []
    for turn in reversed(turns):
        spans = tokenizer.spans(turn)
        if len(spans) + separator <= left:
            kept.append(turn)
            left -= len(spans) + separator
            continue
        if (body := left - mark - separator) > 0:
            kept.append(_head_and_tail(turn, spans=spans, limit=body))
        elif left >= mark:
            kept.append(CUT_MARK.strip())
        break
    return TURN_SEPARATOR.join(reversed(kept))


def _head_and_tail(text: str, *, spans: Sequence[tuple[int, int]], limit: int) -> str:
    """The first and the last tokens' characters of `text`, `limit` tokens together, with a mark between."""
    head = (limit + 1) // 2
    tail = limit - head
    start = spans[head - 1][1] if head else 0
    end = spans[-tail][0] if tail else len(text)
    # Byte-level tokenizers can give several tokens the same character: never let the two parts overlap.
    return text[:start] + CUT_MARK + text[max(start, end) :]
