"""Packed weights: what the quantisation's configuration says, and what linear layers the packed tensors make.

Shapes, with p = 32 / bits numbers in one int32, g the group size, and a layer of I inputs and O outputs:
AWQ (gemm): qweight (I, O/p), qzeros (I/g, O/p), scales (I/g, O). GPTQ: qweight (I/p, O), qzeros (I/g, O/p),
scales (I/g, O), g_idx (I). compressed-tensors (pack-quantized): weight_packed (O, I/p), weight_scale (O, I/g),
weight_zero_point (O/p, I/g), weight_shape (2); int-quantized: weight (O, I) in int8, weight_scale (O, 1) or (1), and
input_scale (1) where the activations' scale does not come of each token. Source: vLLM 0.32,
model_executor/layers/quantization/{auto_awq, auto_gptq,compressed_tensors}.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError
from kaggle_kit.outside import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kaggle_kit.model.headers import Tensor

PACKED = {"awq": "qweight", "gptq": "qweight", "compressed-tensors": "weight_packed", "int8": "weight"}
"""Form → the ending of a packed layer's main tensor."""
_PARTS = {
    "awq": ("qweight", "qzeros", "scales"),
    "gptq": ("qweight", "qzeros", "scales", "g_idx"),
    "compressed-tensors": ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx"),
    "int8": ("weight", "weight_scale", "input_scale", "input_zero_point"),
}
_OPTIONAL = {"g_idx", "weight_g_idx", "weight_shape", "weight_zero_point", "input_scale", "input_zero_point"}
_AWQ_FORMS = {"gemm"}
_MOST_GROUP = 1 << 24


@dataclass(frozen=True)
class Quantisation:
    """How the weights are packed. `group_size` is None for one scale an output (-1 in the files).

    `activations` is "int8" where the engine rounds these too, and multiplies integers; None where they keep 16 bits.
    """

    method: str
    bits: int
    group_size: int | None
    zero_points: bool
    left_whole: tuple[str, ...] = ()
    """Names of layers that are not packed, or parts of their names."""
    activations: str | None = None

    @property
    def form(self) -> str:
        """How a layer's tensors are called and laid: a key of PACKED."""
        return self.activations or self.method

    def leaves(self, layer: str) -> bool:
        """Whether the configuration says that `layer` is not packed (by a part of its name, as vLLM looks it up)."""
        return any(part.removeprefix("re:").replace(".*", "").replace("$", "") in layer for part in self.left_whole)


@dataclass(frozen=True)
class PackedLayer:
    """One packed linear layer: its inputs and outputs, its tensors by their endings, and what does not agree."""

    name: str
    inputs: int
    outputs: int
    parts: Mapping[str, Tensor]
    faults: tuple[str, ...]


def read_quantisation(config: Mapping[str, Any]) -> Quantisation | None:
    """`quantization_config` of a config.json; None where there is none, or where its method packs no integers.

    Raises ModelError where a method that kit knows lacks a number, or has a form that vLLM does not read.
    """
    found = config.get("quantization_config")
    if found is None:
        return None
    if not isinstance(found, dict):
        raise ModelError(f"'quantization_config' is {shown(found)}, and a table belongs there")
    method = found.get("quant_method")
    if not isinstance(method, str) or method not in {"awq", "gptq", "compressed-tensors"}:
        return None
    if method == "compressed-tensors":
        return _compressed_tensors(found)
    bits, group = found.get("bits", found.get("w_bit")), found.get("group_size", found.get("q_group_size"))
    if type(bits) is not int or bits not in {2, 3, 4, 8}:
        raise ModelError(f"'quantization_config.bits' is {shown(bits)}; {method} has 2, 3, 4 or 8")
    if type(group) is not int or (group != -1 and not 0 < group <= _MOST_GROUP):
        raise ModelError(
            f"'quantization_config.group_size' is {shown(group)}, and a number above 0 or -1 belongs there"
        )
    _check_form(method, bits, found)
    return Quantisation(
        method=method,
        bits=bits,
        group_size=None if group == -1 else group,
        zero_points=bool(found.get("zero_point", not found.get("sym", False))),
        left_whole=_names(found.get("modules_to_not_convert")),
    )


def _check_form(method: str, bits: int, found: Mapping[str, Any]) -> None:
    """Raise ModelError for a form that vLLM's auto_awq.py or auto_gptq.py (TYPE_MAP, from_config) refuses."""
    where = "'quantization_config"
    if method == "gptq":
        if bits not in (4, 8) or not found.get("sym", True):
            told = f"{bits} bits, sym = {shown(found.get('sym', True))}"
            raise ModelError(f"{where}' says {told}: vLLM reads GPTQ of 4 or 8 bits, symmetric, alone")
        return
    version = str(found.get("version", "gemm")).lower()
    if version not in _AWQ_FORMS:
        raise ModelError(f"{where}.version' is {shown(version)}: vLLM reads AWQ in the form 'gemm' alone")
    if bits != 4:
        raise ModelError(f"{where}.bits' is {bits}: vLLM reads AWQ of 4 bits alone")
    if "zero_point" not in found:
        raise ModelError(f"{where}.zero_point' is missing, and vLLM stops without it")


def _compressed_tensors(found: Mapping[str, Any]) -> Quantisation | None:
    groups = found.get("config_groups") or {}
    if not isinstance(groups, dict):
        raise ModelError("'quantization_config.config_groups' is no table")
    if found.get("format") == "int-quantized":
        return _int_quantized(groups, left_whole=_names(found.get("ignore")))
    if found.get("format", "pack-quantized") != "pack-quantized":
        return None
    for group in groups.values():
        weights = group.get("weights") if isinstance(group, dict) else None
        if not isinstance(weights, dict) or weights.get("type") != "int" or group.get("input_activations"):
            continue
        bits = weights.get("num_bits")
        if type(bits) is int and bits in {4, 8}:
            size = weights.get("group_size")
            return Quantisation(
                method="compressed-tensors",
                bits=bits,
                group_size=size if type(size) is int and 0 < size <= _MOST_GROUP else None,
                zero_points=not weights.get("symmetric", True),
                left_whole=_names(found.get("ignore")),
            )
    return None


def _int_quantized(groups: Mapping[str, Any], *, left_whole: tuple[str, ...]) -> Quantisation | None:
    """Weights and activations of 8 bits each; None for other widths.

    Raises ModelError for what vLLM's compressed_tensors.py (_is_dynamic_token_w8a8, _is_static_tensor_w8a8) refuses.
    """
    for group in groups.values():
        weights, inputs = (
            group.get(key) if isinstance(group, dict) else None for key in ("weights", "input_activations")
        )
        if not isinstance(weights, dict) or not isinstance(inputs, dict):
            continue
        if any(told.get("type") != "int" or told.get("num_bits") != 8 for told in (weights, inputs)):
            continue
        where = "'quantization_config' says int8 weights and activations"
        if weights.get("strategy") not in ("channel", "tensor") or not weights.get("symmetric", True):
            raise ModelError(f"{where}: vLLM reads symmetric weights alone, with one scale an output or a layer")
        if (inputs.get("strategy"), bool(inputs.get("dynamic"))) not in {("token", True), ("tensor", False)}:
            raise ModelError(f"{where}: vLLM takes a dynamic scale for each token or a fixed one for all, no other")
        return Quantisation("compressed-tensors", 8, None, zero_points=False, left_whole=left_whole, activations="int8")
    return None


def _names(value: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in value if isinstance(name, str))) if isinstance(value, list) else ()


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
