"""The model's own tokenizer, behind the calls that prompts need, and the labels' tokens.

tokenizer.json is read with what the files beside it add to it, as transformers (5.19) does.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from kaggle_kit.errors import LabelError, ModelError, OutsideError
from kaggle_kit.outside import MEGA, read_bytes
from kaggle_kit.runtime.prompts import Tokenizer
from kaggle_kit.runtime.tokenizer_settings import TOKENIZER, PieceTokenizer, TokenizerSettings, read_settings, steers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    import tokenizers


MOST_TOKENIZER_BYTES = 256 * MEGA
"""Of tokenizer.json: one of 262,000 tokens has 33 MB."""
_TOKENS_A_BYTE = 16
"""No tokenizer makes more: one that spells each byte makes one, and Unicode's longest ligature eleven bytes of each."""
_FREE_TOKENS = 4096
_MOST_SPECIAL = 10_000


class TextTokenizer(Tokenizer, PieceTokenizer, Protocol):
    """What prompts, labels and the escaping of rows need of a tokenizer."""

    @property
    def special(self) -> tuple[str, ...]:
        """The words that steer the model wherever they stand in a text: a row's own text must not hold one."""


class ModelTokenizer:
    """The tokenizer of a model folder, run by the Rust library `tokenizers` alone: no torch needed."""

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        *,
        special_tokens: bool = True,
        settings: TokenizerSettings | None = None,
    ) -> None:
        """`special_tokens`: whether the tokens that the model expects at the start are added to a text.

        `settings`: what the files beside tokenizer.json say; their tokens are added to the tokenizer.
        """
        self._tokenizer = tokenizer
        self._special_tokens = special_tokens
        self._settings = settings or TokenizerSettings()
        self.from_settings = self._complete()
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    @property
    def of_bytes(self) -> bool:
        """Whether tokenizer.json cuts a text into bytes (GPT-2's way), not by the signs of sentencepiece."""
        first = self._tokenizer.pre_tokenizer
        return first is not None and b'"ByteLevel"' in first.__getstate__()

    def _complete(self) -> frozenset[str]:
        """Add the tokens that the settings name; those of them that tokenizer.json does not hold."""
        from tokenizers import AddedToken

        with rust_errors(TOKENIZER):
            known = {token.content for token in self._tokenizer.get_added_tokens_decoder().values()}
            tokens = list(self._settings.listed)
            known |= {token["content"] for token in tokens}
            for token in self._settings.loose:
                if token["content"] not in known:
                    known.add(token["content"])
                    tokens.append(token)
            words = [token["content"] for token in tokens]
            new = frozenset(word for word in words if self._tokenizer.token_to_id(word) is None)
            if tokens:
                self._tokenizer.add_tokens([AddedToken(**token) for token in tokens])
        return new

    @property
    def called_special(self) -> frozenset[str]:
        """The added tokens that are marked as special."""
        added = self._tokenizer.get_added_tokens_decoder().values()
        return frozenset(token.content for token in added if token.special)

    @cached_property
    def special(self) -> tuple[str, ...]:
        """The words that steer the model wherever they stand in a text: special tokens, and others like them.

        Raises ModelError.
        """
        added = self._tokenizer.get_added_tokens_decoder().values()
        template = "".join(self._settings.templates.values())
        named = set(self._settings.named.values())
        words = tuple(
            sorted(
                token.content
                for token in added
                if len(token.content) > 1
                and (token.special or token.content in named or steers(token.content, template))
            )
        )
        if len(words) > _MOST_SPECIAL:
            raise ModelError(f"{TOKENIZER} has {len(words):,} special tokens, and no model has so many")
        return words

    def encode_batch(self, texts: Sequence[str]) -> list[tokenizers.Encoding]:
        """Each text tokenised, on all cores, with the special tokens that the model expects at its start.

        Raises ModelError if the tokenizer fails, or makes a text longer than any tokenizer should.
        """
        texts = list(texts)
        with rust_errors(TOKENIZER):
            encoded = self._tokenizer.encode_batch(texts, add_special_tokens=self._special_tokens)
        for text, encoding in zip(texts, encoded, strict=True):
            if len(encoding) > most_tokens(text):
                raise ModelError(
                    f"{TOKENIZER} makes {len(encoding):,} tokens of a text of {len(text):,} letters, which is too many "
                    f"for any tokenizer; take the tokenizer of this model from a source that you trust"
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

    Raises ModelError if the folder has no readable `tokenizer.json`.
    """
    tokenizer = open_tokenizer(model / TOKENIZER)
    return ModelTokenizer(tokenizer, special_tokens=special_tokens, settings=read_settings(model))


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

    Raises ModelError if a token has no spelling, or its spelling is another token's.
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
    except BaseException as error:  # a panic is not an Exception
        raise ModelError(f"{name} cannot be read as a tokenizer: {str(error)[:500]}") from error


_LISTED = 20


def label_tokens(labels: Sequence[str], *, prompt: str, tokenizer: PieceTokenizer) -> tuple[int, ...]:
    """The token id of each label right after `prompt`, in the order of `labels`.

    Raises LabelError, with the pieces and with spellings that would work, if a label is several tokens there,
    joins with the end of the prompt, or has the token of another label, and if the tokenizer ends each text itself.
    """
    by_token: dict[int, str] = {}
    for label in labels:
        token = _token_after(prompt, label, tokenizer)
        if token is None:
            raise LabelError(_explain(label, prompt, tokenizer, labels))
        if token in by_token:
            raise LabelError(f"the labels {by_token[token]!r} and {label!r} are the same token {token} there")
        by_token[token] = label
    return tuple(by_token)


def _token_after(prompt: str, label: str, tokenizer: PieceTokenizer) -> int | None:
    before = tokenizer.encode(prompt)
    after = tokenizer.encode(prompt + label)
    return after[-1] if label and after[:-1] == before else None


def _explain(label: str, prompt: str, tokenizer: PieceTokenizer, labels: Collection[str]) -> str:
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

    works = _other_spellings(label, prompt, tokenizer, labels)
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


def _other_spellings(label: str, prompt: str, tokenizer: PieceTokenizer, labels: Collection[str]) -> list[str]:
    """Spellings of a label that are one token after the prompt, and that could not be meant for another label."""
    others = [other for other in labels if other != label]
    taken = {spelling for other in others for spelling in (other, *_spellings(other))}
    tokens = {_token_after(prompt, other, tokenizer) for other in others}
    works = []
    for spelling in dict.fromkeys(_spellings(label)):
        usable = spelling.strip() and spelling not in {label, *taken}
        token = _token_after(prompt, spelling, tokenizer) if usable else None
        if token is not None and token not in tokens:
            works.append(spelling)
    return works


def _spellings(label: str) -> tuple[str, ...]:
    capital = label.capitalize()
    return capital, label.upper(), label.lower(), label.strip(), f" {label}", f" {capital}", label[:1]
