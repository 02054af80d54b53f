"""What the tensors weigh, part by part, and the linear layers that packed ones make, held against config.json.

Shapes, with p = 32 / bits numbers in one int32, g the group size, and a layer of I inputs and O outputs:
AWQ (gemm): qweight (I, O/p), qzeros (I/g, O/p), scales (I/g, O). GPTQ: qweight (I/p, O), qzeros (I/g, O/p),
scales (I/g, O), g_idx (I). compressed-tensors (pack-quantized): weight_packed (O, I/p), weight_scale (O, I/g),
weight_zero_point (O/p, I/g), weight_shape (2); int-quantized: weight (O, I) in int8, weight_scale (O, 1) or (1), and
input_scale (1) if the activations' scale does not come from each token. fp8: weight (O, I), with a scale a layer, an
output or a block. NVFP4 and MXFP4: two numbers a byte, (O, I/2), scales (O, I/16) or (O, I/32); of gpt-oss' experts:
blocks (E, O, I/32, 16), scales (E, O, I/32). Source: vLLM 0.32, model_executor/layers/quantization/{auto_awq,auto_gptq,
compressed_tensors,fp8,modelopt,mxfp4}.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.runtime.architecture import EMBEDDINGS, HEAD, padded
from kaggle_kit.runtime.quantisation import UNKNOWN, Packing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kaggle_kit.model.headers import Tensor
    from kaggle_kit.runtime.architecture import Architecture
    from kaggle_kit.runtime.quantisation import Quantisation


@dataclass(frozen=True)
class _Layout:
    """How a packed layer's tensors are called: the main one and its types, those it needs, those it may have."""

    main: str
    dtypes: tuple[str, ...]
    needed: tuple[str, ...]
    optional: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """The endings of all of them, the main one first."""
        return (self.main, *self.needed, *self.optional)


_F8 = ("F8_E4M3", "F8_E5M2")
_LAYOUTS = {
    "awq": _Layout("qweight", ("I32",), ("qzeros", "scales")),
    "gptq": _Layout("qweight", ("I32",), ("qzeros", "scales"), ("g_idx",)),
    "compressed-tensors": _Layout(
        "weight_packed", ("I32",), ("weight_scale",), ("weight_zero_point", "weight_shape", "weight_g_idx")
    ),
    "int8": _Layout("weight", ("I8",), ("weight_scale",), ("input_scale", "input_zero_point")),
    "fp8": _Layout("weight", _F8, (), ("weight_scale", "weight_scale_inv", "input_scale", "activation_scale")),
    "nvfp4": _Layout("weight_packed", ("U8",), ("weight_scale", "weight_global_scale"), ("input_global_scale",)),
    "modelopt-nvfp4": _Layout("weight", ("U8",), ("weight_scale", "weight_scale_2"), ("input_scale",)),
    "mxfp4": _Layout("weight_packed", ("U8",), ("weight_scale",), ("input_global_scale",)),
    "mxfp8": _Layout("weight", _F8, ("weight_scale",), ("input_scale",)),
}
"""`Packing.form` → its layout."""
MOST_COMPARED = 50_000_000
"""Names of layers times patterns of such: a few seconds."""
_BLOCKS, _BLOCK_SCALES = "_blocks", "_scales"
_SCALE_DTYPES = {"F16", "BF16", "F32"}


@dataclass(frozen=True)
class PackedLayer:
    """One packed linear layer: its inputs and outputs, its tensors by their endings, and what does not agree.

    `copies` are the experts that one tensor holds. `packing` is what its shapes were held against.
    """

    name: str
    inputs: int
    outputs: int
    parts: Mapping[str, Tensor]
    faults: tuple[str, ...]
    packing: Packing = UNKNOWN
    copies: int = 1


def packed_layers(
    tensors: Mapping[str, Tensor], quantisation: Quantisation, joined: Mapping[str, str] | None = None
) -> dict[str, PackedLayer]:
    """The packed layers among `tensors`, by name, each with what of its shapes does not agree.

    `joined`: a layer's last name → that of the engine's layer which holds it and others.
    """
    mains = {_LAYOUTS[packing.form].main for packing in quantisation.packings if packing.form in _LAYOUTS}
    layers, found = {}, []
    for name, tensor in tensors.items():
        if name.endswith(_BLOCKS) and f"{name.removesuffix(_BLOCKS)}{_BLOCK_SCALES}" in tensors:
            layers[name.removesuffix(_BLOCKS)] = _blocks(name.removesuffix(_BLOCKS), tensors)
            continue
        layer, _, ending = name.rpartition(".")
        # The weight of a layer of 8 bits is named as any other's: its type shows that it is packed.
        if ending in mains and (ending != "weight" or tensor.dtype in {"I8", "U8", *_F8}):
            found.append(layer)
    told = quantisation.comparisons(found) <= MOST_COMPARED
    for layer in found:
        layers[layer] = _layer(layer, tensors, quantisation, quantisation.of(layer, joined) if told else UNKNOWN)
    return layers


def _blocks(name: str, tensors: Mapping[str, Tensor]) -> PackedLayer:
    """All experts of a layer in MXFP4."""
    parts = {ending: tensors[f"{name}{ending}"] for ending in (_BLOCKS, _BLOCK_SCALES)}
    shape, packing = parts[_BLOCKS].shape, Packing("mxfp4-experts", 4, 32)
    if len(shape) != 4 or parts[_BLOCKS].dtype != "U8":
        return PackedLayer(name, 0, 0, parts, (f"its blocks have the shape {shape}",), packing)
    copies, outputs, blocks, half = shape
    scales = parts[_BLOCK_SCALES].shape
    faults = () if scales == (copies, outputs, blocks) else (f"its scales have the shape {scales}",)
    return PackedLayer(name, blocks * half * 2, outputs, parts, faults, packing, copies)


def _layer(
    name: str, tensors: Mapping[str, Tensor], quantisation: Quantisation, packing: Packing | None
) -> PackedLayer:
    told, packing = packing, packing or quantisation.usual
    layout = _LAYOUTS.get(packing.form) or next(
        (one for one in _LAYOUTS.values() if f"{name}.{one.main}" in tensors), _LAYOUTS["fp8"]
    )
    parts = {ending: tensors[f"{name}.{ending}"] for ending in layout.parts if f"{name}.{ending}" in tensors}
    main = parts.get(layout.main)
    if main is None or (main.dtype not in layout.dtypes and packing is not UNKNOWN):
        actual = main.dtype if main else "of another form"
        return PackedLayer(name, 0, 0, parts, (f"its packed weights are {actual}",), packing)
    if len(main.shape) != 2 or 0 in main.shape:
        kind = ", and hold nothing" if len(main.shape) == 2 else ""
        return PackedLayer(name, 0, 0, parts, (f"its packed weights have the shape {main.shape}{kind}",), packing)
    if packing is UNKNOWN:
        return PackedLayer(name, main.shape[1], main.shape[0], parts, (), packing)

    inputs, outputs = _lengths(packing, main.shape)
    faults = [] if told else ["quantization_config leaves it whole"]
    needed = [*layout.needed]
    if packing.zero_points and packing.form == "compressed-tensors":
        needed.append("weight_zero_point")
    faults += [f"it lacks {ending}" for ending in needed if ending not in parts]
    group = inputs if packing.form == "fp8" else packing.group_size or inputs
    if inputs % group:
        faults.append(f"its {inputs} inputs do not divide into groups of {group}")
        return PackedLayer(name, inputs, outputs, parts, tuple(faults), packing)

    for ending, expected in _expected(packing, inputs, outputs, inputs // group).items():
        tensor = parts.get(ending)
        if tensor is not None and tensor.shape != expected and not (packing.form == "int8" and tensor.numbers == 1):
            faults.append(f"{ending} has the shape {tensor.shape}, and groups of {group} make it {expected}")
    scales = parts.get("scales") or (
        parts.get("weight_scale") if packing.form in {"compressed-tensors", "int8"} else None
    )
    if scales is not None and scales.dtype not in _SCALE_DTYPES:
        faults.append(f"its scales are {scales.dtype}")
    return PackedLayer(name, inputs, outputs, parts, tuple(faults), packing)


def _lengths(packing: Packing, shape: tuple[int, ...]) -> tuple[int, int]:
    """Inputs and outputs of a layer whose packed weights have this shape."""
    pack = 32 // packing.bits
    if packing.form == "awq":
        return shape[0], shape[1] * pack
    if packing.form == "gptq":
        return shape[0] * pack, shape[1]
    by_form = {"compressed-tensors": pack, "nvfp4": 2, "modelopt-nvfp4": 2, "mxfp4": 2}
    return shape[1] * by_form.get(packing.form, 1), shape[0]


def _expected(packing: Packing, inputs: int, outputs: int, groups: int) -> dict[str, tuple[int, ...]]:
    """The shapes of a layer's further tensors, of those that have only one."""
    pack = 32 // packing.bits
    if packing.form == "int8":
        return {"weight_scale": (outputs, 1)}
    if packing.form == "compressed-tensors":
        return {"weight_scale": (outputs, groups), "weight_zero_point": (outputs // pack, groups), "weight_shape": (2,)}
    if packing.form in {"awq", "gptq"}:
        return {"qzeros": (groups, outputs // pack), "scales": (groups, outputs), "g_idx": (inputs,)}
    return {} if packing.form == "fp8" else {"weight_scale": (outputs, groups)}


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
        numbers = layer.inputs * layer.outputs * layer.copies
        shape = (layer.outputs, layer.inputs) if layer.copies == 1 else (layer.copies, layer.outputs, layer.inputs)
        add(layer.name, shape, numbers, main.size)
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
