"""Packed weights: the linear layers that packed tensors make, held against what config.json says of them.

Shapes, with p = 32 / bits numbers in one int32, g the group size, and a layer of I inputs and O outputs:
AWQ (gemm): qweight (I, O/p), qzeros (I/g, O/p), scales (I/g, O). GPTQ: qweight (I/p, O), qzeros (I/g, O/p),
scales (I/g, O), g_idx (I). compressed-tensors (pack-quantized): weight_packed (O, I/p), weight_scale (O, I/g),
weight_zero_point (O/p, I/g), weight_shape (2); int-quantized: weight (O, I) in int8, weight_scale (O, 1) or (1), and
input_scale (1) where the activations' scale does not come of each token. Source: vLLM 0.32,
model_executor/layers/quantization/{auto_awq, auto_gptq,compressed_tensors}.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kaggle_kit.model.headers import Tensor
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
    found = {}
    for name, tensor in tensors.items():
        # An int8 layer's weight is called as any other's: its type tells it.
        if not name.endswith(main) or (form == "int8" and tensor.dtype != "I8"):
            continue
        layer = name.removesuffix(main)
        parts = {ending: tensors[f"{layer}.{ending}"] for ending in _PARTS[form] if f"{layer}.{ending}" in tensors}
        found[layer] = _layer(layer, parts, quantisation)
    return found


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
