"""What a checkpoint weighs: numbers and bytes by part, in its files and in an engine's memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.runtime.architecture import EMBEDDINGS, HEAD, padded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kaggle_kit.model.headers import Tensor
    from kaggle_kit.model.packing import PackedLayer
    from kaggle_kit.runtime.architecture import Architecture

PARTS = ("embeddings", "attention", "mlp", "norms", "head", "scales and zeros", "other")
_FLOATS = {"F16", "BF16", "F32", "F64"}


@dataclass(frozen=True)
class Part:
    """One part of a model: its numbers as the makers count them, and its bytes in the files."""

    parameters: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Tally:
    """The parts by name, in the order of PARTS.

    `layer_parameters` are the numbers that each token is multiplied with in the layers; `memory_bytes` is what an
    engine holds of the weights when its numbers that are not packed take two bytes.
    """

    parts: Mapping[str, Part]
    layer_parameters: int
    memory_bytes: int

    @property
    def parameters(self) -> int:
        """All numbers of the model."""
        return sum(part.parameters for part in self.parts.values())

    @property
    def bytes(self) -> int:
        """All bytes of its tensors in the files."""
        return sum(part.bytes for part in self.parts.values())


def tally(tensors: Mapping[str, Tensor], packed: Mapping[str, PackedLayer], architecture: Architecture | None) -> Tally:
    """Count the tensors of a checkpoint; `packed` are its packed layers (`quantisation.packed_layers`)."""
    parts = dict.fromkeys(PARTS, Part())
    in_layers = 0

    def add(part: str, parameters: int, size: int) -> None:
        nonlocal in_layers
        parts[part] = Part(parts[part].parameters + parameters, parts[part].bytes + size)
        if part in {"attention", "mlp"}:
            in_layers += parameters

    seen: set[str] = set()
    for layer in packed.values():
        main = next(iter(layer.parts.values()))
        add(_part(layer.name), layer.inputs * layer.outputs, main.size)
        add("scales and zeros", 0, sum(tensor.size for tensor in layer.parts.values()) - main.size)
        seen.update(tensor.name for tensor in layer.parts.values())
    for tensor in tensors.values():
        if tensor.name not in seen:
            if tensor.name.rsplit(".", 1)[-1] in {"weight_scale", "input_scale", "weight_scale_inv"}:
                add("scales and zeros", 0, tensor.size)
            else:
                add(_part(tensor.name), tensor.numbers, tensor.size)
    return Tally(parts, in_layers, memory_bytes(tensors.values(), packed, architecture))


def _part(name: str) -> str:
    """The part that a tensor belongs to, by its name; a bias belongs to its layer."""
    if "embed_tokens" in name or name.endswith(("wte.weight", "word_embeddings.weight")):
        return "embeddings"
    if name.startswith(("lm_head", "score", "classifier")) or ".lm_head." in name:
        return "head"
    if re.search(r"norm|\.ln_", name):
        return "norms"
    if re.search(r"attn|attention", name):
        return "attention"
    return "mlp" if re.search(r"mlp|feed_forward|experts|\.fc", name) else "other"


def memory_bytes(
    tensors: Iterable[Tensor],
    packed: Mapping[str, PackedLayer],
    architecture: Architecture | None,
    *,
    number_bytes: int = 2,
) -> int:
    """What an engine holds of the weights, in bytes, on one card.

    Floating-point numbers are kept in the engine's type (`number_bytes`); packed ones as they are, but for AWQ's zero
    points, which the kernels read as one number of that type each (vLLM's mixed-precision kernels, seen with Machete on
    an H200: a 34B model took 18.41 GiB where its files have 17.90). The table of positions comes on top. A head tied to
    the embeddings is not loaded, and the vocabulary is rounded up.
    """
    zeros = {tensor.name for layer in packed.values() for ending, tensor in layer.parts.items() if ending == "qzeros"}
    scales = {layer.name: layer.parts.get("scales") for layer in packed.values()}
    total = architecture.position_numbers * number_bytes if architecture else 0
    for tensor in tensors:
        numbers = tensor.numbers
        if tensor.name == HEAD and architecture and architecture.tied:
            continue
        if tensor.name in {EMBEDDINGS, HEAD} and len(tensor.shape) == 2:
            numbers = padded(tensor.shape[0]) * tensor.shape[1]
        scale = scales.get(tensor.name.removesuffix(".qzeros")) if tensor.name in zeros else None
        if scale is not None:
            total += scale.numbers * number_bytes
        else:
            total += numbers * number_bytes if tensor.dtype in _FLOATS else tensor.size
    return total
