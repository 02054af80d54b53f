"""How a checkpoint says in its config.json that its weights are packed: method, bits, groups, what is left whole.

Source of what vLLM reads of each method: vLLM 0.32, model_executor/layers/quantization/{auto_awq,auto_gptq,
compressed_tensors}.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError
from kaggle_kit.outside import shown
from kaggle_kit.runtime.architecture import word

if TYPE_CHECKING:
    from collections.abc import Mapping

_MODELOPT = {
    "FP8": "modelopt",
    "FP8_PER_CHANNEL_PER_TOKEN": "modelopt",
    "FP8_PB_WO": "modelopt",
    "NVFP4": "modelopt_fp4",
    "W4A16_NVFP4": "modelopt_fp4",
    "MXFP8": "modelopt_mxfp8",
    "MIXED_PRECISION": "modelopt_mixed",
}
"""ModelOpt's algorithm → the engine's method (modelopt.py, LINEAR_ALGOS)."""
_AWQ_FORMS = {"gemm"}
_MOST_GROUP = 1 << 24


@dataclass(frozen=True)
class Quantisation:
    """How the weights are packed. `group_size` is None for one scale an output (-1 in the files).

    `activations` is "int8" if the engine rounds these too, and multiplies integers; None if they keep 16 bits.
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
        """How a layer's tensors are called and laid: "awq", "gptq", "compressed-tensors" or "int8"."""
        return self.activations or self.method

    @property
    def schemes(self) -> tuple[str, ...]:
        """The engine's names of compressed-tensors' forms that the layers have."""
        return ("W8A8Int8",) if self.activations == "int8" else ()

    def leaves(self, layer: str) -> bool:
        """Whether the configuration says that `layer` is not packed (by a part of its name, as vLLM looks it up)."""
        return any(part.removeprefix("re:").replace(".*", "").replace("$", "") in layer for part in self.left_whole)


def packing_table(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The table of a config.json that says how the weights are packed; None if there is none.

    vLLM reads `quantization_config`, then `compression_config` (the older name), then both of the text model's part.
    Raises ModelError if something else stands there.
    """
    text = config.get("text_config")
    for table in (config, text if isinstance(text, dict) else {}):
        for key in ("quantization_config", "compression_config"):
            packing = table.get(key)
            if packing is None:
                continue
            if not isinstance(packing, dict):
                raise ModelError(f"{key!r} is {shown(packing)}, and a table belongs there")
            return packing
    return None


def quant_method(config: Mapping[str, Any]) -> str | None:
    """The engine's name of whatever method config.json says that the weights are packed by; None if it names none.

    Raises ModelError if the name is not a word.
    """
    packing = packing_table(config)
    if not packing:
        return None
    method = packing.get("quant_method", "")
    if not isinstance(method, str):
        raise ModelError(f"'quant_method' is {shown(method)}, and the name of a method belongs there")
    modelopt = _modelopt(packing)
    return modelopt or word(method.lower().replace("compressed_tensors", "compressed-tensors"), default="") or None


def _modelopt(packing: Mapping[str, Any]) -> str | None:
    """The method of ModelOpt by the algorithm that its table names; None for another tool's table."""
    producer, inner = packing.get("producer"), packing.get("quantization")
    inner = inner if isinstance(inner, dict) else {}
    by_producer = isinstance(producer, dict) and producer.get("name") == "modelopt"
    named = str(packing.get("quant_method", "")).lower().startswith("modelopt")
    if not (named or by_producer or "modelopt_quant_config" in inner):
        return None
    algorithm = str(inner.get("quant_algo", packing.get("quant_algo", ""))).upper()
    return _MODELOPT.get(algorithm)


def read_quantisation(config: Mapping[str, Any]) -> Quantisation | None:
    """`quantization_config` of a config.json; None if there is none, or if its method packs no integers.

    Raises ModelError if a method that kit knows lacks a number, or has a form that vLLM does not read.
    """
    packing, method = packing_table(config), quant_method(config)
    if packing is None or method not in {"awq", "gptq", "compressed-tensors"}:
        return None
    if method == "compressed-tensors":
        return _compressed_tensors(packing)

    bits = packing.get("bits", packing.get("w_bit"))
    group = packing.get("group_size", packing.get("q_group_size"))
    if type(bits) is not int or bits not in {2, 3, 4, 8}:
        raise ModelError(f"'quantization_config.bits' is {shown(bits)}; {method} has 2, 3, 4 or 8")
    if type(group) is not int or (group != -1 and not 0 < group <= _MOST_GROUP):
        raise ModelError(
            f"'quantization_config.group_size' is {shown(group)}, and a number above 0 or -1 belongs there"
        )
    _check_form(method, bits, packing)

    return Quantisation(
        method=method,
        bits=bits,
        group_size=None if group == -1 else group,
        zero_points=bool(packing.get("zero_point", not packing.get("sym", False))),
        left_whole=_names(packing.get("modules_to_not_convert")),
    )


def _check_form(method: str, bits: int, packing: Mapping[str, Any]) -> None:
    """Raise ModelError for a form that vLLM's auto_awq.py or auto_gptq.py (TYPE_MAP, from_config) refuses."""
    where = "'quantization_config"
    if method == "gptq":
        if bits not in (4, 8) or not packing.get("sym", True):
            form = f"{bits} bits, sym = {shown(packing.get('sym', True))}"
            raise ModelError(f"{where}' says {form}: vLLM reads GPTQ of 4 or 8 bits, symmetric, alone")
        return
    version = str(packing.get("version", "gemm")).lower()
    if version not in _AWQ_FORMS:
        raise ModelError(f"{where}.version' is {shown(version)}: vLLM reads AWQ in the form 'gemm' alone")
    if bits != 4:
        raise ModelError(f"{where}.bits' is {bits}: vLLM reads AWQ of 4 bits alone")
    if "zero_point" not in packing:
        raise ModelError(f"{where}.zero_point' is missing, and vLLM stops without it")


def _compressed_tensors(packing: Mapping[str, Any]) -> Quantisation | None:
    groups = packing.get("config_groups") or {}
    if not isinstance(groups, dict):
        raise ModelError("'quantization_config.config_groups' is not a table")
    if packing.get("format") == "int-quantized":
        return _int_quantized(groups, left_whole=_names(packing.get("ignore")))
    if packing.get("format", "pack-quantized") != "pack-quantized":
        return None
    for group in groups.values():
        weights = group.get("weights") if isinstance(group, dict) else None
        if not isinstance(weights, dict) or weights.get("type", "int") != "int" or group.get("input_activations"):
            continue
        bits = weights.get("num_bits")
        if type(bits) is int and bits in {4, 8}:
            size = weights.get("group_size")
            return Quantisation(
                method="compressed-tensors",
                bits=bits,
                group_size=size if type(size) is int and 0 < size <= _MOST_GROUP else None,
                zero_points=not weights.get("symmetric", True),
                left_whole=_names(packing.get("ignore")),
            )
    return None


def _int_quantized(groups: Mapping[str, Any], *, left_whole: tuple[str, ...]) -> Quantisation | None:
    """Weights and activations of 8 bits each; None for other widths.

    Raises ModelError for what vLLM's compressed_tensors.py (_is_dynamic_token_w8a8, _is_static_tensor_w8a8) refuses.
    """
    for group in groups.values():
        parts = group if isinstance(group, dict) else {}
        weights, inputs = parts.get("weights"), parts.get("input_activations")
        if not isinstance(weights, dict) or not isinstance(inputs, dict):
            continue
        if any(part.get("type") != "int" or part.get("num_bits") != 8 for part in (weights, inputs)):
            continue
        where = "'quantization_config' says int8 weights and activations"
        if weights.get("strategy") not in ("channel", "tensor") or not weights.get("symmetric", True):
            raise ModelError(f"{where}: vLLM reads symmetric weights alone, with one scale an output or a layer")
        if (inputs.get("strategy"), bool(inputs.get("dynamic"))) not in {("token", True), ("tensor", False)}:
            raise ModelError(f"{where}: vLLM takes a dynamic scale for each token or a fixed one for all, no other")
        return Quantisation("compressed-tensors", 8, None, zero_points=False, left_whole=left_whole, activations="int8")
    return None


def _names(value: Any) -> tuple[str, ...]:
    names = value if isinstance(value, list) else []
    return tuple(dict.fromkeys(name for name in names if isinstance(name, str)))
