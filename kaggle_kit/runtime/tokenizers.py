"""The model's own tokenizer, behind the calls that prompts need."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from kaggle_kit.errors import LabelError, ModelError, OutsideError
from kaggle_kit.outside import MEGA, read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import tokenizers

    from kaggle_kit.runtime.prompts import Encoded


TOKENIZER = "tokenizer.json"
MOST_TOKENIZER_BYTES = 256 * MEGA
"""Of tokenizer.json: one of 262,000 tokens has 33 MB."""
_TOKENS_A_BYTE = 16
"""No tokenizer makes more: one that spells each byte makes one, and Unicode's longest ligature eleven bytes of each."""
_FREE_TOKENS = 4096
_MOST_SPECIAL = 10_000


class TextTokenizer(Protocol):
    """What prompts, labels and the escaping of rows need of a tokenizer."""

    @property
    def special(self) -> tuple[str, ...]:
        """The words that the tokenizer reads as special tokens wherever they stand in a text."""

    def encode_batch(self, texts: Sequence[str]) -> Sequence[Encoded]:
        """Each text tokenised, with the special tokens that the model expects at its start."""

    def encode(self, text: str) -> list[int]:
        """The token ids of `text`, with the special tokens that the model expects at its start."""

    def pieces(self, token_ids: list[int]) -> list[str]:
        """The vocabulary's own spelling of each token."""


class ModelTokenizer:
    """The `tokenizer.json` of a model folder, run by the Rust library `tokenizers` alone: no torch needed."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, *, special_tokens: bool = True) -> None:
        """`special_tokens`: whether the tokens that the model expects at the start are added to a text."""
        self._tokenizer = tokenizer
        self._special_tokens = special_tokens
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    @cached_property
    def special(self) -> tuple[str, ...]:
        """The words that the tokenizer reads as special tokens wherever they stand in a text. Raises ModelError."""
        added = self._tokenizer.get_added_tokens_decoder().values()
        found = tuple(sorted(token.content for token in added if token.special and len(token.content) > 1))
        if len(found) > _MOST_SPECIAL:
            raise ModelError(f"{TOKENIZER} has {len(found):,} special tokens, and no model has so many")
        return found

    def encode_batch(self, texts: Sequence[str]) -> list[tokenizers.Encoding]:
        """Each text tokenised, on all cores, with the special tokens that the model expects at its start.

        Raises ModelError where the tokenizer fails, or makes a text longer than any tokenizer should.
        """
        texts = list(texts)
        with rust_errors(TOKENIZER):
            encoded = self._tokenizer.encode_batch(texts, add_special_tokens=self._special_tokens)
        for text, one in zip(texts, encoded, strict=True):
            if len(one) > most_tokens(text):
                raise ModelError(
                    f"{TOKENIZER} makes {len(one):,} tokens of a text of {len(text):,} letters, which is too many for "
                    f"any tokenizer; take the tokenizer of this model from a source that you trust"
                )
        return encoded

    def encode(self, text: str) -> list[int]:
        """The token ids of `text`, with the special tokens that the model expects at its start. Raises ModelError."""
        return list(self.encode_batch([text])[0].ids)

    def pieces(self, token_ids: list[int]) -> list[str]:
        """The vocabulary's own spelling of each token."""
        return [self._tokenizer.id_to_token(i) or f"<{i}>" for i in token_ids]


def most_tokens(text: str) -> int:
    """The most tokens that a tokenizer may make of `text`."""
    return _FREE_TOKENS + _TOKENS_A_BYTE * len(text.encode("utf-8", "surrogatepass"))


def load_tokenizer(model: Path, *, special_tokens: bool = True) -> ModelTokenizer:
    """The tokenizer of the model in the folder `model`, in this process.

    Raises ModelError where the folder has no readable `tokenizer.json`.
    """
    return ModelTokenizer(open_tokenizer(model / TOKENIZER), special_tokens=special_tokens)


def open_tokenizer(path: Path) -> tokenizers.Tokenizer:
    """The library's tokenizer of the file `path`. Raises ModelError."""
    import tokenizers

    if not path.is_file():
        raise ModelError(f"{path} is missing: save the tokenizer in its fast form (save_pretrained writes it)")
    try:
        raw = read_bytes(path, most_bytes=MOST_TOKENIZER_BYTES, follow=True)
    except OutsideError as error:
        raise ModelError(str(error)) from error
    with rust_errors(str(path)):
        return tokenizers.Tokenizer.from_buffer(raw)


def label_pieces(model: Path, label_ids: Sequence[int]) -> list[str]:
    """The vocabulary's exact spellings of the label tokens: what vLLM turns back into the same ids.

    Raises ModelError where a token has no spelling, or its spelling is another token's.
    """
    path = model / TOKENIZER
    tokenizer = open_tokenizer(path)
    pieces = []
    for token in label_ids:
        piece = tokenizer.id_to_token(token)
        if piece is None or tokenizer.token_to_id(piece) != token:
            raise ModelError(f"{path} has no spelling of its own for the label token {token}")
        pieces.append(piece)
    return pieces


@contextmanager
def rust_errors(name: str) -> Iterator[None]:
    """Turn whatever the Rust library raises, its panics included, into ModelError about the file `name`."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, ModelError):
        raise
    except BaseException as error:  # a panic is no Exception
        raise ModelError(f"{name} cannot be read as a tokenizer: {str(error)[:500]}") from error


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
