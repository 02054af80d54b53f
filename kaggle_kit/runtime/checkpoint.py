"""A checkpoint, read without loading it: with distrust, since whoever made it chose each word.

A configuration can name code: transformers 4.51.3 takes `_attn_implementation_internal` from the file and runs the
kernel that it names on the hub, vLLM loads another model in place of this one if there is a `speculators_config`,
and compressed-tensors runs a Python file that stands where the name of a format belongs. trust_remote_code guards none
of the three, so a configuration with such a key is refused before an engine sees it.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError, OutsideError
from kaggle_kit.outside import MEGA, open_file, parse_json, read_json, shown
from kaggle_kit.runtime.allowances import Allowance, allowances_of
from kaggle_kit.runtime.architecture import Architecture, read_architecture
from kaggle_kit.runtime.manifest import MANIFEST, read_manifest
from kaggle_kit.runtime.packing_methods import read_quantisation
from kaggle_kit.runtime.quantisation import Quantisation, quant_method

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MOST_CONFIG_BYTES = 16 * MEGA
"""Of a JSON file beside the weights; the longest known list hundreds of thousands of layers that are not packed."""
MOST_HEADER_BYTES = 32_000_000
"""Of a safetensors file, whose format allows 100 MB. 72B models have headers of 0.3 MB a file, and 32 MB are over
200,000 tensors."""
_ELSEWHERE = re.compile(r"[/:@]")
_WEIGHT_FILES = (".safetensors", ".bin", ".pt")
_INTERNAL = ("_attn_implementation_internal", "_experts_implementation_internal")
_PACKING = {"quantization_config", "compression_config"}
_REGISTERED = ("format", "observer", "quant_method", "strategy", "type")
"""Keys of `quantization_config` that compressed-tensors looks up by name, or runs as FILE.py:NAME."""


def read_config(model: Path) -> dict[str, Any]:
    """The checkpoint's config.json.

    Raises ModelError if it cannot be read, or names code or a model that an engine would load from elsewhere.
    """
    path = model / "config.json"
    body = read_table(path, "a model's configuration")
    if code := next(code_named(body), None):
        raise ModelError(f"{path}: {code}; take the model from a source that you trust, or remove that key")
    return body


def read_table(path: Path, what: str) -> dict[str, Any]:
    """The object in a JSON file of a model's folder; `what` it is read as. Raises ModelError."""
    try:
        body = read_json(path, most_bytes=MOST_CONFIG_BYTES, follow=True)
    except OutsideError as error:
        raise ModelError(f"{path} cannot be read as {what}: {error}; copy the model again, whole") from error
    if not isinstance(body, dict):
        raise ModelError(f"{path} cannot be read as {what}: it does not hold an object; copy the model again, whole")
    return body


def code_named(config: Mapping[str, Any]) -> Iterator[str]:
    """Each word of a configuration by which an engine would run code or load a model that is not this one's.

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
        elif key in _REGISTERED and isinstance(value, str) and ":" in value and _PACKING.intersection(place):
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


@dataclass(frozen=True)
class Checkpoint:
    """A model as the engine's plan and every estimate see it: its architecture, its packing, and what it weighs.

    `name` is its folder, or the name of a model that kit knows. `method` is config.json's quant_method, whether kit
    knows it in detail (`quantisation`) or not. `weight_bytes` are those of its files, or, if its headers were counted,
    of an engine's memory; `layer_parameters` the numbers in its layers' matrices; `end_bytes` what embeddings, head and
    last norm weigh.
    """

    name: str
    architecture: Architecture
    method: str | None
    quantisation: Quantisation | None
    weight_bytes: int
    layer_parameters: int
    end_bytes: int
    allowed: tuple[Allowance, ...] = ()
    """What the manifest records: findings that its author knows better."""

    def allows(self, check: str) -> bool:
        """Whether what this check finds is no reason to refuse the checkpoint."""
        return any(allowance.check == check for allowance in self.allowed)

    @property
    def kernel_method(self) -> str | None:
        """The method of weights in 4 bits, by which their kernel is chosen; None for any other checkpoint."""
        return self.quantisation.method if self.quantisation and self.quantisation.four_bits else None

    @property
    def kernel_group(self) -> int | None:
        """How many inputs of a layer in 4 bits share a scale; None if one scale serves them all."""
        return self.quantisation.group_size if self.quantisation and self.quantisation.four_bits else None

    @property
    def int8(self) -> bool:
        """Whether weights and activations are multiplied as integers of 8 bits."""
        return bool(self.quantisation and self.quantisation.activations == "int8")


def read_checkpoint(model: Path) -> Checkpoint:
    """The checkpoint in the folder `model`: its config.json, and the sizes that its manifest.json lists.

    Raises ModelError if config.json cannot be read, names code or lacks a number, KitError for the manifest. A packing
    that kit cannot read is as none if the manifest allows it.
    """
    config = read_config(model)
    manifest = read_manifest(model / MANIFEST)
    allowed = allowances_of(manifest)
    with _named(model):
        architecture = read_architecture(config, stored=stored_types(model))
        method = quant_method(config)
        try:
            quantisation = read_quantisation(config)
        except ModelError:
            if "method" not in {allowance.check for allowance in allowed}:
                raise
            quantisation = None

    return Checkpoint(
        name=str(model),
        architecture=architecture,
        method=method,
        quantisation=quantisation,
        weight_bytes=sum(entry.size for entry in manifest.files if entry.path.endswith(_WEIGHT_FILES)),
        layer_parameters=architecture.layer_parameters,
        end_bytes=architecture.end_bytes,
        allowed=allowed,
    )


def stored_types(model: Path) -> Iterator[str]:
    """The types of the weights in a folder, in safetensors' names; a file that cannot be read says nothing.

    No file is opened before the first is asked for: most configurations say the type themselves.
    """
    for path in sorted(model.glob("*.safetensors")):
        try:
            with open_file(path, follow=True) as stream:
                length = int.from_bytes(stream.read(8), "little")
                raw = stream.read(length) if length <= MOST_HEADER_BYTES else b"{}"
            entries = parse_json(raw, f"{path}: the header", most_depth=3).values()
        except (OutsideError, OSError, AttributeError):
            continue
        yield from {str(entry.get("dtype")) for entry in entries if isinstance(entry, dict)}


def read_lengths(model: Path) -> tuple[int | None, int]:
    """The longest text that the model reads, in tokens, its answer included, and the tokens of that answer.

    The first is None if config.json gives no length. Raises ModelError if config.json cannot be read.
    """
    config = read_config(model)
    with _named(model):
        architecture = read_architecture(config)
    return architecture.most_tokens, architecture.answer_tokens


@contextmanager
def _named(model: Path) -> Iterator[None]:
    """Name the file in the ModelErrors of those who are given its content alone."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{model / 'config.json'} cannot be read as a model's configuration: {error}") from error
