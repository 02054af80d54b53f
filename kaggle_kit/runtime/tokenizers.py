"""The model's own tokenizer, behind the two calls that prompts need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kaggle_kit.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import tokenizers


class ModelTokenizer:
    """The `tokenizer.json` of a model folder, run by the Rust library `tokenizers` alone: no torch needed."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, *, special_tokens: bool = True) -> None:
        """`special_tokens`: whether the tokens that the model expects at the start are added to a text."""
        self._tokenizer = tokenizer
        self._special_tokens = special_tokens
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    @property
    def special(self) -> tuple[str, ...]:
        """The words that the tokenizer reads as special tokens wherever they stand in a text."""
        added = self._tokenizer.get_added_tokens_decoder().values()
        return tuple(sorted(token.content for token in added if token.special and len(token.content) > 1))

    def encode_batch(self, texts: Sequence[str]) -> list[tokenizers.Encoding]:
        """Each text tokenised, on all cores, with the special tokens that the model expects at its start."""
        return self._tokenizer.encode_batch(list(texts), add_special_tokens=self._special_tokens)

    def encode(self, text: str) -> list[int]:
        """The token ids of `text`, with the special tokens that the model expects at its start."""
        return list(self._tokenizer.encode(text, add_special_tokens=self._special_tokens).ids)

    def pieces(self, token_ids: list[int]) -> list[str]:
        """The vocabulary's own spelling of each token."""
        return [self._tokenizer.id_to_token(i) or f"<{i}>" for i in token_ids]


def load_tokenizer(model: Path, *, special_tokens: bool = True) -> ModelTokenizer:
    """The tokenizer of the model in the folder `model`.

    Raises ModelError where the folder has no readable `tokenizer.json`.
    """
    import tokenizers

    path = model / "tokenizer.json"
    if not path.is_file():
        raise ModelError(f"{path} is missing: save the tokenizer in its fast form (save_pretrained writes it)")
    try:
        return ModelTokenizer(tokenizers.Tokenizer.from_file(str(path)), special_tokens=special_tokens)
    except Exception as error:  # the Rust library raises bare Exception
        raise ModelError(f"{path} cannot be read as a tokenizer: {error}") from error
