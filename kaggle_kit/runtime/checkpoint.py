"""What a checkpoint's small files say, without loading it: with distrust, since whoever made it chose each word.

A configuration can name code: transformers 4.51.3 takes `_attn_implementation_internal` from the file and runs the
kernel that it names on the hub, vLLM loads another model in place of this one where there is a `speculators_config`,
and compressed-tensors runs a Python file that stands where the name of a format belongs. trust_remote_code guards none
of the three, so a configuration with such a word is refused before an engine sees it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError, OutsideError
from kaggle_kit.outside import MEGA, read_json, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

MOST_CONFIG_BYTES = 16 * MEGA
"""Of a JSON file beside the weights; the longest known list hundreds of thousands of layers that are not packed."""
MOST_TOKENIZER_BYTES = 256 * MEGA
"""Of tokenizer.json: one of 262,000 tokens has 33 MB."""
_MOST = {
    "num_hidden_layers": 10_000,
    "hidden_size": 1_000_000,
    "intermediate_size": 10_000_000,
    "num_attention_heads": 100_000,
    "num_key_value_heads": 100_000,
    "head_dim": 100_000,
    "vocab_size": 100_000_000,
    "max_position_embeddings": 1_000_000_000,
}
"""Far above every real model, and small enough to count with."""
_LONGEST_WORD = 80
_INTERNAL = ("_attn_implementation_internal", "_experts_implementation_internal")
_REGISTERED = ("format", "observer", "quant_method", "strategy", "type")
"""Keys of `quantization_config` that compressed-tensors looks up by name, or runs as FILE.py:NAME."""
_ELSEWHERE = re.compile(r"[/:@]")


def read_config(model: Path) -> dict[str, Any]:
    """The checkpoint's config.json.

    Raises ModelError where it cannot be read, or names code or a model that an engine would load from elsewhere.
    """
    path = model / "config.json"
    body = read_table(path, "a model's configuration")
    if named := next(code_named(body), None):
        raise ModelError(f"{path}: {named}; take the model from a source that you trust, or remove that key")
    return body


def read_table(path: Path, what: str) -> dict[str, Any]:
    """The object in a JSON file of a model's folder; `what` it is read as. Raises ModelError."""
    try:
        body = read_json(path, most_bytes=MOST_CONFIG_BYTES, follow=True)
    except OutsideError as error:
        raise ModelError(f"{path} cannot be read as {what}: {error}; copy the model again, whole") from error
    if not isinstance(body, dict):
        raise ModelError(f"{path} cannot be read as {what}: it holds no object; copy the model again, whole")
    return body


def code_named(config: Mapping[str, Any]) -> Iterator[str]:
    """Each word of a configuration by which an engine would run code, or load a model, that is not this one's.

    `auto_map` at the top is none of them: it asks for trust_remote_code, which kit never gives.
    """
    if "speculators_config" in config:
        yield "'speculators_config' makes vLLM load the model that it names in place of this one"
    for place, key, value in _walk(config):
        if key in _INTERNAL:
            yield f"{key!r} makes transformers run the code of the kernel that it names"
        elif key.endswith("_implementation") and any(map(_ELSEWHERE.search, _texts(value))):
            yield f"{key!r} is {shown(value)}, a kernel from elsewhere, whose code transformers would run"
        elif key == "auto_map" and place:
            yield f"'auto_map' in {place[-1]!r} names code, which some versions of vLLM run unasked"
        elif key in _REGISTERED and _of_quantisation(place) and isinstance(value, str) and ":" in value:
            yield f"{key!r} in {place[-1]!r} is {shown(value)}, a file of code in place of a name"


def _walk(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """Every key at every depth (the reader bounds it), with the keys above it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield place, key, inner
            yield from _walk(inner, (*place, key))
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, dict | list):
                yield from _walk(inner, place)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)


def _of_quantisation(place: tuple[str, ...]) -> bool:
    return any(key in ("quantization_config", "compression_config") for key in place)


def whole_number(told: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """The size `key` of a configuration, 1 or more and no larger than any model could be.

    Raises ModelError, with the key, where it is none, or is missing and has no `default`.
    """
    value = told.get(key)
    if value is None and default is not None:
        value = default
    most = _MOST[key]
    if type(value) is not int or not 0 < value <= most:
        raise ModelError(f"{key!r} is {shown(value)}, and a number from 1 to {most:,} belongs there")
    return value


def length_told(told: Mapping[str, Any]) -> int | None:
    """`max_position_embeddings`; None where no length is told. Raises ModelError for one beyond every model's."""
    value = told.get("max_position_embeddings")
    return whole_number(told, "max_position_embeddings") if type(value) is int and value > 0 else None


def word(value: Any, *, default: str) -> str:
    """A short word of a configuration, such as a type's name; `default` where it is no text. Raises ModelError."""
    if not isinstance(value, str) or not value:
        return default
    if len(value) > _LONGEST_WORD or not value.isprintable():
        raise ModelError(f"{shown(value)} is no name of a type")
    return value


def label_pieces(model: Path, label_ids: Sequence[int]) -> list[str]:
    """The vocabulary's exact spellings of the label tokens: what vLLM turns back into the same ids.

    Raises ModelError where a token has no spelling, or its spelling is another token's.
    """
    from kaggle_kit.runtime.tokenizers import open_tokenizer

    path = model / "tokenizer.json"
    tokenizer = open_tokenizer(path)
    pieces = []
    for token in label_ids:
        piece = tokenizer.id_to_token(token)
        if piece is None or tokenizer.token_to_id(piece) != token:
            raise ModelError(f"{path} has no spelling of its own for the label token {token}")
        pieces.append(piece)
    return pieces
