"""Rows become token ids that fit a budget: cut by the caller, never by the engine.

The text of a prompt is what the author's template says, tokenised whole, as it was when the model was
trained. Only the fields are cut: each may use its share of what the template leaves over, shares that
a short field does not use go to the others, and inside a field the last turns stay first.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from kaggle_kit.errors import DataError, ModelError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

CUT_MARK = " […] "
TURN_SEPARATOR = "\n\n"
_LETTER = "x"
_BATCH_ROWS = 256
_MOST_ESCAPES = 64
_FINE_TRIES = 20
"""Rows settle in the first few."""
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Encoded(Protocol):
    """One tokenised text: its ids, and the (start, end) characters of each token."""

    @property
    def ids(self) -> list[int]:
        """The token ids, special tokens included."""

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """For each token its characters; an empty range for a special token."""


class Tokenizer(Protocol):
    """What this module needs of a tokenizer."""

    def encode_batch(self, texts: Sequence[str]) -> Sequence[Encoded]:
        """Each text tokenised, with the special tokens that the model expects at its start."""


@dataclass(frozen=True)
class Prompt:
    """One row, ready for the engine.

    `token_ids` (32-bit integers) never exceeds the budget that it was made for; `kept` holds what of each field's
    turns stands in the text, so that another pass or a smaller budget starts from there; `cut` names the fields that
    lost text.
    """

    token_ids: array[int]
    kept: Mapping[str, tuple[str, ...]]
    cut: tuple[str, ...] = ()

    def text(self, template: Template) -> str:
        """The text that was tokenised."""
        return template.fill({name: TURN_SEPARATOR.join(turns) for name, turns in self.kept.items()})


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


def parse_template(text: str, *, fields: Sequence[str], says_label: bool = True) -> Template:
    """Split a prompt text at its `{field}` places.

    Raises DataError if a field of the task has no place, or has two, and if the text ends with one though the model
    `says_label` after it. Braces around anything that is not a field of the task are text.
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
    if says_label and placed and not pieces[-1]:
        raise DataError(
            f"the prompt template ends with {{{placed[-1]}}}: end it with words of its own, such as a line that asks, "
            f"so that a label never joins with a row's last word"
        )
    for name in fields:
        if (times := placed.count(name)) != 1:
            raise DataError(
                f"the prompt template has {times} places {{{name}}} for the field {name!r}; it needs exactly one"
            )
    return Template(tuple(pieces))


def clean(text: str) -> str:
    """`text` with lone surrogates, which no tokenizer takes, replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def escape_special(text: str, special: Collection[str]) -> str:
    """`text` with a space in each word that would steer the model: a row is data, not control.

    Raises ModelError if the words make the text grow without end: each could match what another one left.
    """
    by_beginning = _by_beginning(special)
    most = 2 * len(text)
    for _ in range(_MOST_ESCAPES):
        if not (places := _places(text, by_beginning)):
            return text
        pieces = [text[start:end] for start, end in pairwise([0, *sorted(places), len(text)])]
        text = " ".join(pieces)
        if len(text) > most:
            break
    raise ModelError("the special tokens of tokenizer.json take each other apart; take another model")


def _places(text: str, by_beginning: Mapping[str, tuple[str, ...]]) -> set[int]:
    """Where a space takes a word apart: after its first letter that is none."""
    places = set()
    for beginning, words in by_beginning.items():
        at = text.find(beginning)
        while at >= 0:
            if text.startswith(words, at):
                letter = at
                while text[letter].isspace():
                    letter += 1
                places.add(letter + 1)
            at = text.find(beginning, at + 1)
    return places


_latest: tuple[Collection[str], Mapping[str, tuple[str, ...]]] = ((), {})


def _by_beginning(special: Collection[str]) -> Mapping[str, tuple[str, ...]]:
    """The words by their first two letters: some models have thousands, and nearly all begin alike.

    The latest answer is kept: a tokenizer's words are asked for with each text of each row.
    """
    global _latest  # noqa: PLW0603
    if _latest[0] is not special:
        groups: dict[str, list[str]] = {}
        for word in special:
            if len(word.strip()) > 1:  # no space takes a single letter apart
                groups.setdefault(word[:2], []).append(word)
        _latest = (special, {beginning: tuple(words) for beginning, words in groups.items()})
    return _latest[1]


class PromptBuilder:
    """Makes prompts of at most `budget` tokens, special tokens included, by one template.

    `shares` maps each field to its part of the budget (any scale).
    """

    def __init__(self, template: Template, shares: Mapping[str, float], budget: int, tokenizer: Tokenizer) -> None:
        """Raises DataError if `budget` is too small for the template alone."""
        self.template = template
        self.budget = budget
        self._shares = shares
        self._tokenizer = tokenizer
        frames = [template.fill(dict.fromkeys(template.fields, text)) for text in ("", _LETTER)]
        parts = [_LETTER, f"{_LETTER}{CUT_MARK}{_LETTER}", f"{_LETTER}{TURN_SEPARATOR}{_LETTER}"]
        empty, letter, mark, separator, frame, filled = (
            len(encoded.ids) for encoded in tokenizer.encode_batch(["", *parts, *frames])
        )
        letter -= empty
        # Measured between letters: on its own, what stands around a field joins to fewer tokens than around its text,
        # and nearly every first cut would come out a few tokens too long.
        self._mark = max(mark - empty - 2 * letter, 0)
        self._separator = max(separator - empty - 2 * letter, 0)
        self._frame = frame
        self._around = max(frame, filled - letter * len(template.fields))
        if budget - frame < len(template.fields):
            raise DataError(
                f"a budget of {budget} tokens is too small: the template alone takes {frame}; "
                f"raise token_budget to {frame + 64} or more, or shorten the template"
            )

    def build(self, rows: Sequence[Mapping[str, Sequence[str]]]) -> list[Prompt]:
        """The prompt of each row, in their order; `rows` map each field to its turns.

        Texts are tokenised in batches, on as many cores as the tokenizer uses. Only a row that is too long is cut.
        """
        prompts: list[Prompt] = []
        for start in range(0, len(rows), _BATCH_ROWS):
            prompts += self._build_batch(rows[start : start + _BATCH_ROWS])
        return prompts

    @property
    def least(self) -> int:
        """The smallest budget that this template can be given."""
        return self._frame + len(self.template.fields)

    def with_budget(self, budget: int) -> PromptBuilder:
        """The same with another budget."""
        return PromptBuilder(self.template, self._shares, budget, self._tokenizer)

    def _build_batch(self, rows: Sequence[Mapping[str, Sequence[str]]]) -> list[Prompt]:
        fields = self.template.fields
        turns = [{name: tuple(map(clean, row[name])) for name in fields} for row in rows]
        whole = [Prompt(array("i"), kept) for kept in turns]
        encoded = self._tokenizer.encode_batch([prompt.text(self.template) for prompt in whole])
        prompts: dict[int, Prompt] = {}
        drafts: list[_Draft] = []
        for number, (kept, text) in enumerate(zip(turns, encoded, strict=True)):
            if len(text.ids) <= self.budget:
                prompts[number] = Prompt(array("i", text.ids), kept)
            else:
                drafts.append(_Draft(number, _measure(self.template, kept, text.offsets), self.budget - self._around))
        while drafts:
            drafts = self._cut(drafts, turns, prompts)
        return [prompts[number] for number in range(len(rows))]

    def _cut(
        self, drafts: Sequence[_Draft], turns: Sequence[Mapping[str, tuple[str, ...]]], prompts: dict[int, Prompt]
    ) -> list[_Draft]:
        """Cut each draft to its space: those that fit become prompts, the others come back with less space."""
        shorter = [self._cut_fields(draft) for draft in drafts]
        texts = [Prompt(array("i"), kept).text(self.template) for kept in shorter]
        left: list[_Draft] = []
        for draft, kept, text in zip(drafts, shorter, self._tokenizer.encode_batch(texts), strict=True):
            over = len(text.ids) - self.budget
            if over <= 0:
                cut = tuple(name for name in kept if kept[name] != turns[draft.number][name])
                prompts[draft.number] = Prompt(array("i", text.ids), kept, cut)
            elif draft.space <= 0:
                raise DataError(f"no cut of a row fits into {self.budget} tokens; raise token_budget")
            else:
                # Tokens join differently where pieces meet and around the cut mark: a try can be a few too long.
                # A tokenizer that makes as many tokens of any text must not be asked a thousand times.
                less = over + 1 if draft.tries < _FINE_TRIES else max(over + 1, draft.space // 2)
                left.append(replace(draft, space=max(draft.space - less, 0), tries=draft.tries + 1))
        return left

    def _cut_fields(self, draft: _Draft) -> dict[str, tuple[str, ...]]:
        lengths = {
            name: sum(len(turn.spans) for turn in turns) + self._separator * max(len(turns) - 1, 0)
            for name, turns in draft.turns.items()
        }
        allowed = split_budget(draft.space, lengths=lengths, shares=self._shares)

        kept = {}
        for name, turns in draft.turns.items():
            if lengths[name] <= allowed[name]:
                kept[name] = tuple(turn.text for turn in turns)
            else:
                kept[name] = cut_turns(turns, limit=allowed[name], mark=self._mark, separator=self._separator)
        return kept


@dataclass(frozen=True)
class Turn:
    """One turn of a field, and the (start, end) characters of its tokens."""

    text: str
    spans: Sequence[tuple[int, int]]


@dataclass(frozen=True)
class _Draft:
    """A row that is too long, and the tokens that its fields may have together."""

    number: int
    turns: Mapping[str, list[Turn]]
    space: int
    tries: int = 0


def _measure(
    template: Template, kept: Mapping[str, tuple[str, ...]], offsets: Sequence[tuple[int, int]]
) -> dict[str, list[Turn]]:
    """Each field's turns with their tokens, read off the whole text's offsets: nothing is tokenised twice."""
    spans = [span for span in offsets if span[1] > span[0]]
    starts = [start for start, _ in spans]
    fields: dict[str, list[Turn]] = {}
    position = 0
    for number, piece in enumerate(template.pieces):
        if number % 2 == 0:
            position += len(piece)
            continue
        fields[piece] = []
        for index, text in enumerate(kept[piece]):
            position += len(TURN_SEPARATOR) if index else 0
            first, last = bisect_left(starts, position), bisect_left(starts, position + len(text))
            own = [(start - position, end - position) for start, end in spans[first:last]]
            if own and own[-1][1] > len(text):  # its last token reaches into what follows
                own[-1] = (own[-1][0], len(text))
            fields[piece].append(Turn(text, own))
            position += len(text)
    return fields


def split_budget(space: int, *, lengths: Mapping[str, int], shares: Mapping[str, float]) -> dict[str, int]:
    """Tokens for each field, together at most `space`: by share, what a short field leaves going to the others."""
    allowed: dict[str, int] = {}
    open_fields = set(lengths)
    left = max(space, 0)
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


def cut_turns(turns: Sequence[Turn], *, limit: int, mark: int, separator: int) -> tuple[str, ...]:
    """The last turns that fit into `limit` tokens; the first that does not is cut in its middle.

    `mark` and `separator` are the tokens of the cut mark, which stands where text was left out, and of what stands
    between turns.
    """
    left = limit
    kept: list[str] = []
    for turn in reversed(turns):
        gap = separator if kept else 0
        if len(turn.spans) + gap <= left:
            kept.append(turn.text)
            left -= len(turn.spans) + gap
            continue
        if (body := left - mark - gap) > 0:
            kept.append(_head_and_tail(turn, limit=body))
        elif left >= mark:
            kept.append(CUT_MARK.strip())
        break
    return tuple(reversed(kept))


def _head_and_tail(turn: Turn, *, limit: int) -> str:
    """The first and the last tokens' characters of a turn, `limit` tokens together, with a mark between."""
    head = (limit + 1) // 2
    tail = limit - head
    start = turn.spans[head - 1][1] if head else 0
    end = turn.spans[-tail][0] if tail else len(turn.text)
    # Byte-level tokenizers can give several tokens the same character: never let the two parts overlap.
    return turn.text[:start] + CUT_MARK + turn.text[max(start, end) :]
