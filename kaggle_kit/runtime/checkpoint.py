"""What a checkpoint's small files say, without loading it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def read_config(model: Path) -> dict[str, Any]:
    """The checkpoint's config.json. Raises ModelError where it cannot be read."""
    path = model / "config.json"
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} cannot be read as a model's configuration: {error}; copy the model again, whole"
        ) from error
    if not isinstance(body, dict):
        raise ModelError(f"{path} cannot be read as a model's configuration: it holds no object")
    return body


def label_pieces(model: Path, label_ids: Sequence[int]) -> list[str]:
    """The vocabulary's exact spellings of the label tokens: what vLLM turns back into the same ids.

    Raises ModelError where a token has no spelling, or its spelling is another token's.
    """
    import tokenizers

    path = model / "tokenizer.json"
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust library raises bare Exception
        raise ModelError(f"{path} cannot be read as a tokenizer: {error}") from error
    pieces = []
    for token in label_ids:
        piece = tokenizer.id_to_token(token)
        if piece is None or tokenizer.token_to_id(piece) != token:
            raise ModelError(f"{path} has no spelling of its own for the label token {token}")
        pieces.append(piece)
    return pieces
