"""What the tensors weigh, part by part, and the linear layers that packed ones make, held against config.json.

Shapes, with p = 32 / bits numbers in one int32, g the group size, and a layer of I inputs and O outputs:
AWQ (gemm): qweight (I, O/p), qzeros (I/g, O/p), scales (I/g, O). GPTQ: qweight (I/p, O), qzeros (I/g, O/p),
scales (I/g, O), g_idx (I). compressed-tensors (pack-quantized): weight_packed (O, I/p), weight_scale (O, I/g),
weight_zero_point (O/p, I/g), weight_shape (2); int-quantized: weight (O, I) in int8, weight_scale (O, 1) or (1), and
input_scale (1) if the activations' scale does not come from each token. Source: vLLM 0.32,
model_executor/layers/quantization/{auto_awq, auto_gptq,compressed_tensors}."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.runtime.architecture import EMBEDDINGS, HEAD, padded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kaggle_kit.model.headers import Tensor
    from kaggle_kit.runtime.architecture import Architecture
    from kaggle_kit.runtime.quantisation import Quantisation


PACKED = {"awq": "qweight", "gptq": "qweight", "compressed-tensors": "weight_packed", "int8": "weight"}
"""`Quantisation.form` → the ending of a packed layer's main tensor."""
_PARTS = {
    "awq": ("qweight", "qzeros", "scales"),
    "gptq": ("qweight", "qzeros", "scales", "g_idx"),
    "compressed-tensors": ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx"),
    "int8": ("weight", "weight_scale", "input_scale", "input_zero_point"),
}
_OPTIONAL = {"g_idx", "weight_g_idx", "weight_shape", "weight_zero_point", "input_scale", "input_zero_point"}


@dataclass(frozen=True)
class PackedLayer:
    """One packed linear layer: its inputs and outputs, its tensors by their endings, and what does not agree."""

    name: str
    inputs: int
    outputs: int
    parts: Mapping[str, Tensor]
    faults: tuple[str, ...]


def packed_layers(tensors: Mapping[str, Tensor], quantisation: Quantisation) -> dict[str, PackedLayer]:
    """The packed layers among `tensors`, by name, each with what of its shapes does not agree."""
    form = quantisation.form
    main = f".{PACKED[form]}"
    layers = {}
    for name, tensor in tensors.items():
        # An int8 layer's weight is named as any other's: its type shows it.
        if not name.endswith(main) or (form == "int8" and tensor.dtype != "I8"):
            continue
        layer = name.removesuffix(main)
        parts = {ending: tensors[f"{layer}.{ending}"] for ending in _PARTS[form] if f"{layer}.{ending}" in tensors}
        layers[layer] = _layer(layer, parts, quantisation)
    return layers


def _layer(name: str, parts: Mapping[str, Tensor], quantisation: Quantisation) -> PackedLayer:
    form = quantisation.form
    shape = parts[PACKED[form]].shape
    pack = 1 if form == "int8" else 32 // quantisation.bits
    if len(shape) != 2:
        return PackedLayer(name, 0, 0, parts, (f"its packed weights have the shape {shape}",))
    across, down = (1, 0) if form in {"awq", "gptq"} else (0, 1)
    outputs, inputs = shape[across], shape[down]
    if quantisation.method == "awq":
        outputs *= pack
    else:
        inputs *= pack
    if not inputs or not outputs:
        return PackedLayer(name, 0, 0, parts, (f"its packed weights have the shape {shape}, and hold nothing",))

    needed = [part for part in _PARTS[form] if part not in _OPTIONAL]
    if quantisation.zero_points and quantisation.method == "compressed-tensors":
        needed.append("weight_zero_point")
    lacking = [part for part in needed if part not in parts]
    faults = [f"it lacks {ending}" for ending in lacking]
    group = quantisation.group_size or inputs
    if inputs % group:
        faults.append(f"its {inputs} inputs do not divide into groups of {group}")
        return PackedLayer(name, inputs, outputs, parts, tuple(faults))

    for ending, expected in _expected(quantisation, inputs, outputs, inputs // group, pack).items():
        tensor = parts.get(ending)
        if tensor is not None and tensor.shape != expected and not (form == "int8" and tensor.shape == (1,)):
            faults.append(f"{ending} has the shape {tensor.shape}, and groups of {group} make it {expected}")
    scales = parts.get("scales") or parts.get("weight_scale")
    if scales is not None and scales.dtype not in {"F16", "BF16", "F32"}:
        faults.append(f"its scales are {scales.dtype}")
    return PackedLayer(name, inputs, outputs, parts, tuple(faults))


def _expected(
    quantisation: Quantisation, inputs: int, outputs: int, groups: int, pack: int
) -> dict[str, tuple[int, ...]]:
    """The shapes of a layer's further tensors."""
    if quantisation.form == "int8":
        return {"weight_scale": (outputs, 1)}
    if quantisation.method == "compressed-tensors":
        return {"weight_scale": (outputs, groups), "weight_zero_point": (outputs // pack, groups), "weight_shape": (2,)}
    return {"qzeros": (groups, outputs // pack), "scales": (groups, outputs), "g_idx": (inputs,)}


PARTS = ("embeddings", "attention", "mlp", "norms", "head", "scales and zeros", "other")
_SCALES = re.compile(r"[._](weight_scale(_inv|_2)?|input_scale|input_global_scale|weight_global_scale|scales)$")
"""Endings of tensors that only say how others are to be read."""
_PACKED_BESIDE = (
    ("_blocks", "_scales"),  # mxfp4, as gpt-oss has it
    ("weight_packed", "weight_scale"),  # nvfp4 and mxfp4 of compressed-tensors
    ("weight", "weight_scale_2"),  # nvfp4 of ModelOpt
    ("weight", "weight.absmax"),  # bitsandbytes
)
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
    in_layers = in_experts = 0
    doubled = _two_in_a_byte(tensors)

    def add(name: str, shape: tuple[int, ...], parameters: int, size: int) -> None:
        nonlocal in_layers, in_experts
        part = _part(name)
        parts[part] = Part(parts[part].parameters + parameters, parts[part].bytes + size)
        if part not in {"attention", "mlp"}:
            return
        if architecture and _of_experts(name, shape, architecture.experts):
            in_experts += parameters
        else:
            in_layers += parameters

    def add_scale(size: int) -> None:
        part = parts["scales and zeros"]
        parts["scales and zeros"] = Part(part.parameters, part.bytes + size)

    seen: set[str] = set()
    for layer in packed.values():
        main = next(iter(layer.parts.values()))
        add(layer.name, (layer.outputs, layer.inputs), layer.inputs * layer.outputs, main.size)
        add_scale(sum(tensor.size for tensor in layer.parts.values()) - main.size)
        seen.update(tensor.name for tensor in layer.parts.values())
    for tensor in tensors.values():
        if tensor.name in seen:
            continue
        if _SCALES.search(tensor.name):
            add_scale(tensor.size)
        else:
            numbers = tensor.numbers * (2 if tensor.name in doubled else 1)
            add(tensor.name, tensor.shape, numbers, tensor.size)

    active = in_layers + in_experts
    if architecture and architecture.experts_per_token and architecture.experts:
        active = in_layers + in_experts * architecture.experts_per_token // architecture.experts
    return Tally(parts, active, memory_bytes(tensors.values(), packed, architecture))


def _of_experts(name: str, shape: tuple[int, ...], experts: int) -> bool:
    """Whether a tensor belongs to the experts of which a token meets a few: by its name, or as a stack of them all."""
    return bool(experts) and (".experts." in name or (len(shape) > 2 and shape[0] == experts))


def _two_in_a_byte(tensors: Mapping[str, Tensor]) -> set[str]:
    """Tensors of bytes that hold two numbers of 4 bits each: their scales stand beside them."""
    return {
        tensor.name
        for tensor in tensors.values()
        if tensor.dtype == "U8"
        and any(
            tensor.name.removesuffix(old) + new in tensors for old, new in _PACKED_BESIDE if tensor.name.endswith(old)
        )
    }


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
