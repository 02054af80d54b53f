"""Labels are checked where the model will say them: one token each, all distinct."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kaggle_kit.errors import LabelError

if TYPE_CHECKING:
    from collections.abc import Sequence


_LISTED = 20


class PieceTokenizer(Protocol):
    """What the label check needs of a tokenizer."""

    def encode(self, text: str) -> list[int]:
        """The token ids of `text`, with the special tokens that the model expects at its start."""

    def pieces(self, token_ids: list[int]) -> list[str]:
        """The vocabulary's own spelling of each token."""


def label_tokens(labels: Sequence[str], *, prompt: str, tokenizer: PieceTokenizer) -> tuple[int, ...]:
    """The token id of each label right after `prompt`, in the order of `labels`.

    Raises LabelError, with the pieces and with spellings that would work, where a label is several tokens there,
    joins with the end of the prompt, or has the token of another label, and where the tokenizer ends each text itself.
    """
    found: dict[int, str] = {}
    for label in labels:
        token = _token_after(prompt, label, tokenizer)
        if token is None:
            raise LabelError(_explain(label, prompt, tokenizer))
        if token in found:
            raise LabelError(f"the labels {found[token]!r} and {label!r} are the same token {token} there")
        found[token] = label
    return tuple(found)


def _token_after(prompt: str, label: str, tokenizer: PieceTokenizer) -> int | None:
    before = tokenizer.encode(prompt)
    after = tokenizer.encode(prompt + label)
    return after[-1] if label and after[:-1] == before else None


def _explain(label: str, prompt: str, tokenizer: PieceTokenizer) -> str:
    before = tokenizer.encode(prompt)
    after = tokenizer.encode(prompt + label)
    last = tokenizer.encode("")[-1:]
    if last and last == before[-1:] == after[-1:]:
        (piece,) = tokenizer.pieces(last)
        return (
            f"the tokenizer adds the token {piece!r} at the end of each text: no label would come right after the "
            f"prompt; load it with add_eos_token=False and save it again, or take {piece!r} out of the post_processor "
            f"of tokenizer.json"
        )
    spellings = (
        label.capitalize(),
        label.upper(),
        label.lower(),
        f" {label}",
        f" {label.capitalize()}",
        label[:1],
    )
    works = dict.fromkeys(s for s in spellings if s != label and _token_after(prompt, s, tokenizer) is not None)
    advice = f"; spellings that are one token there: {', '.join(map(repr, works))}" if works else ""
    if after[: len(before)] != before:
        end = prompt[-12:]
        return (
            f"the label {label!r} joins with the end of the prompt {end!r}: the model would never say it alone; "
            f"end the template on a newline or a word, without a space{advice}"
        )
    more = after[len(before) :]
    pieces = tokenizer.pieces(more[:_LISTED])
    return f"the label {label!r} is {len(more)} tokens after the prompt, not one: {pieces}{advice}"
