"""What config.json says of each quantisation method: method, bits and groups, layer by layer.

Read in vLLM 0.32, model_executor/layers/quantization/: auto_awq.py and utils/quant_utils.py (`is_layer_skipped`),
auto_gptq.py and utils/gptq_utils.py (`get_dynamic_override`, `is_layer_gptq_quantized`), compressed_tensors/
(`find_matched_target`, `should_ignore_layer`, `_get_scheme_from_parts`), inc/config_parser.py, fp8.py, modelopt.py
(`is_layer_excluded`), mxfp4.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError
from kaggle_kit.outside import shown
from kaggle_kit.runtime.quantisation import (
    MODELOPT,
    UNKNOWN,
    Packing,
    Quantisation,
    Rule,
    names_of,
    packing_table,
    pattern_rule,
    quant_method,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_AWQ_FORMS = {"gemm"}
_MOST_GROUP = 1 << 24


def read_quantisation(config: Mapping[str, Any]) -> Quantisation | None:
    """The packing that a config.json describes; None if there is none, or if kit does not know the method in detail.

    Raises ModelError if a method that kit knows lacks a number, or has a form that vLLM does not read.
    """
    packing, method = packing_table(config), quant_method(config)
    readers = {
        "awq": _awq,
        "gptq": _gptq,
        "compressed-tensors": _compressed_tensors,
        "auto-round": _auto_round,
        "fp8": _fp8,
        "mxfp4": _mxfp4,
        "modelopt": _modelopt_packing,
        "modelopt_fp4": _modelopt_packing,
        "modelopt_mxfp8": _modelopt_packing,
    }
    if packing is None or method not in readers:
        return None
    return readers[method](packing)


def _numbers(method: str, packing: Mapping[str, Any]) -> tuple[int, int | None]:
    """Bits and group size. Raises ModelError if one is missing or no such number."""
    bits = packing.get("bits", packing.get("w_bit"))
    group = packing.get("group_size", packing.get("q_group_size"))
    if type(bits) is not int or bits not in {2, 3, 4, 8}:
        raise ModelError(f"'quantization_config.bits' is {shown(bits)}; {method} has 2, 3, 4 or 8")
    return bits, _group(group)


def _refuse_missing(packing: Mapping[str, Any], *keys: str) -> None:
    """Raise ModelError for a key of the table that vLLM looks up without a default (`get_from_keys`)."""
    if missing := [key for key in keys if key not in packing]:
        raise ModelError(f"'quantization_config.{missing[0]}' is missing, and vLLM stops without it")


def _group(group: Any) -> int | None:
    if type(group) is not int or (group != -1 and not 0 < group <= _MOST_GROUP):
        raise ModelError(
            f"'quantization_config.group_size' is {shown(group)}, and a number above 0 or -1 belongs there"
        )
    return None if group == -1 else group


def _awq(packing: Mapping[str, Any]) -> Quantisation:
    bits, group = _numbers("awq", packing)
    where, version = "'quantization_config", str(packing.get("version", "gemm")).lower()
    if version not in _AWQ_FORMS:
        raise ModelError(f"{where}.version' is {shown(version)}: vLLM reads AWQ in the form 'gemm' alone")
    if bits != 4:
        raise ModelError(f"{where}.bits' is {bits}: vLLM reads AWQ of 4 bits alone")
    _refuse_missing(packing, "zero_point")
    parts, zeros = names_of(packing.get("modules_to_not_convert")), bool(packing["zero_point"])
    left = (Rule(None, names=frozenset(parts), parts=parts),) if parts else ()
    return Quantisation(
        method="awq",
        bits=bits,
        group_size=group,
        zero_points=zeros,
        rules=left + _packed_head(packing, Packing("awq", bits, group, zeros)),
        # Without a list the engine looks at the tensors' own types (`maybe_update_config`).
        elsewhere="packed" if parts else "shown",
    )


def _gptq(packing: Mapping[str, Any]) -> Quantisation:
    bits, group = _numbers("gptq", packing)
    symmetric = packing.get("sym", True)
    if bits not in (4, 8) or not symmetric:
        form = f"{bits} bits, sym = {shown(symmetric)}"
        raise ModelError(f"'quantization_config' says {form}: vLLM reads GPTQ of 4 or 8 bits, symmetric, alone")
    _refuse_missing(packing, "desc_act", "sym")
    zeros = bool(packing.get("zero_point", not packing.get("sym", False)))
    usual = Packing("gptq", bits, group, zeros)

    dynamic = packing.get("dynamic") or {}
    if not isinstance(dynamic, dict):
        raise ModelError(f"'quantization_config.dynamic' is {shown(dynamic)}, and a table belongs there")
    ordered, rules = [(packing.get("desc_act"), group)], []
    for text, override in dynamic.items():
        packed = None if text.startswith("-:") else _overridden(usual, override)
        rules.append(pattern_rule(packed, [text.removeprefix("-:").removeprefix("+:")]))
        if packed and isinstance(override, dict):
            ordered.append((override.get("desc_act", packing.get("desc_act")), packed.group_size))

    return Quantisation(
        method="gptq",
        bits=bits,
        group_size=group,
        zero_points=zeros,
        rules=(*rules, *_packed_head(packing, usual)),
        # The engine packs what the list names, or, without one, what the tensors' own types show.
        elsewhere="shown",
        matched_by="joined",
        activation_order=any(order and size for order, size in ordered),
    )


def _packed_head(packing: Mapping[str, Any], usual: Packing) -> tuple[Rule, ...]:
    """A rule of the LM head, if the table says that it is packed too."""
    return (Rule(usual, names=frozenset(["lm_head"])),) if packing.get("lm_head") else ()


def _overridden(usual: Packing, override: Any) -> Packing:
    """The packing of layers with numbers of their own. Raises ModelError for those that vLLM refuses."""
    own = override if isinstance(override, dict) else {}
    bits, group = own.get("bits", usual.bits), own.get("group_size", usual.group_size or -1)
    if bits not in (4, 8) or not own.get("sym", True):
        raise ModelError(
            f"'quantization_config.dynamic' says {shown(override)}: vLLM reads GPTQ of 4 or 8 bits, symmetric, alone"
        )
    return Packing(usual.form, bits, _group(group), usual.zero_points)


def _auto_round(packing: Mapping[str, Any]) -> Quantisation | None:
    """What auto-round writes of integers; None for its other types of numbers."""
    if packing.get("data_type", "int") != "int":
        return None
    bits, group = _numbers("auto-round", packing)
    form = str(packing.get("packing_format") or "auto_round:auto_gptq").rpartition("auto_")[2]
    if form not in {"gptq", "awq"}:
        return None
    symmetric = bool(packing.get("sym", True))
    usual = Packing(form, bits, group, not symmetric)

    rules = []
    extra = packing.get("extra_config") or {}
    for name, own in extra.items() if isinstance(extra, dict) else ():
        own_bits = own.get("bits", bits) if isinstance(own, dict) else bits
        own_group = own.get("group_size", group or -1) if isinstance(own, dict) else group or -1
        packed = None if type(own_bits) is int and own_bits >= 16 else Packing(form, own_bits, _group(own_group))
        special = any(letter in name for letter in r"*+?^$()[]{}|\\")
        rules.append(
            pattern_rule(packed, [f".*{name}"])
            if special
            else Rule(packed, names=frozenset([name, f"model.{name}"]), endings=(name,))
        )
    blocks = packing.get("block_name_to_quantize", packing.get("to_quant_block_names"))
    blocks = blocks.split(",") if isinstance(blocks, str) else blocks
    if listed := names_of(blocks):
        rules.append(Rule(usual, wildcards=tuple(f"{name}*" for name in listed)))
    return Quantisation(
        method="auto-round",
        bits=bits,
        group_size=group,
        zero_points=usual.zero_points,
        layout=form,
        rules=tuple(rules),
        elsewhere="whole" if listed else "packed",
    )


def _fp8(packing: Mapping[str, Any]) -> Quantisation:
    _refuse_missing(packing, "activation_scheme")
    names = names_of(packing.get("ignored_layers")) or names_of(packing.get("modules_to_not_convert"))
    experts = tuple(f"{name}.*" for name in names if "experts" in name)
    block = packing.get("weight_block_size")
    size = block[-1] if isinstance(block, list) and block and type(block[-1]) is int else None
    return Quantisation(
        method="fp8",
        bits=8,
        group_size=size,
        zero_points=False,
        layout="fp8",
        rules=(Rule(None, names=frozenset(names), wildcards=experts),) if names else (),
        matched_by="either",
    )


def _mxfp4(packing: Mapping[str, Any]) -> Quantisation:
    """The experts alone are packed, whatever the list says."""
    del packing
    experts = Rule(Packing("mxfp4-experts", 4, 32), parts=(".experts.",))
    return Quantisation("mxfp4", 4, 32, zero_points=False, layout="mxfp4-experts", rules=(experts,), elsewhere="whole")


def _modelopt_packing(packing: Mapping[str, Any]) -> Quantisation:
    method = quant_method({"quantization_config": packing}) or "modelopt"
    inner = packing.get("quantization")
    excluded = inner.get("exclude_modules") if isinstance(inner, dict) else packing.get("ignore")
    algorithm = (inner if isinstance(inner, dict) else packing).get("quant_algo")
    if str(algorithm).upper() not in MODELOPT:
        raise ModelError(f"'quant_algo' is {shown(algorithm)}, and vLLM reads {', '.join(MODELOPT)}")
    names = names_of(excluded)
    bits, group, layout = {
        "modelopt": (8, None, "fp8"),
        "modelopt_fp4": (4, 16, "modelopt-nvfp4"),
        "modelopt_mxfp8": (8, 32, "mxfp8"),
    }[method]
    left = Rule(None, parts=(*names, "vision_tower", "vision_model"), wildcards=names)
    return Quantisation(method, bits, group, zero_points=False, layout=layout, rules=(left,), matched_by="either")


_ACTIVATION_FORMATS = {"naive-quantized", "int-quantized", "float-quantized", "nvfp4-pack-quantized"}
_CLASSES = "qkvparallellinear mergedcolumnparallellinear columnparallellinear rowparallellinear replicatedlinear"


def _compressed_tensors(packing: Mapping[str, Any]) -> Quantisation | None:
    groups = packing.get("config_groups") or {}
    if not isinstance(groups, dict):
        raise ModelError("'quantization_config.config_groups' is not a table")
    ignored = names_of(packing.get("ignore"))
    rules = [_target_rule(None, ignored)] if ignored else []
    packings, for_all = [], False
    for group in groups.values():
        targets = names_of(group.get("targets")) if isinstance(group, dict) else ()
        if len(targets) == 1 and targets[0].endswith("Attention"):
            # Scales of keys and values, which the engine reads elsewhere.
            continue
        packed = _scheme(group, packing.get("format"))
        packings.append(packed)
        rules.append(_target_rule(packed, targets))
        for_all = for_all or not targets
    known = [packed for packed in packings if packed is not UNKNOWN]
    if not known:
        return None

    usual = known[0]
    return Quantisation(
        method="compressed-tensors",
        bits=usual.bits,
        group_size=usual.group_size,
        zero_points=usual.zero_points,
        activations="int8" if usual.form == "int8" else None,
        layout=usual.form,
        scheme=usual.scheme,
        rules=tuple(rules),
        elsewhere="packed" if for_all else "whole",
        matched_by="either",
    )


def _target_rule(packing: Packing | None, targets: Iterable[str]) -> Rule:
    """A rule of layers' names, `re:` patterns and classes of layers."""
    targets = tuple(targets)
    patterns = [target[3:] for target in targets if target.startswith("re:")]
    names = [target for target in targets if not target.startswith("re:")]
    rule = pattern_rule(packing, patterns)
    linear = packing is not None and any(name.lower() in _CLASSES for name in names if "." not in name)
    return Rule(packing, frozenset(names), patterns=rule.patterns, linear=linear, unread=rule.unread)


def _scheme(group: Any, format_of_all: Any) -> Packing:
    """The form of one group's layers, as vLLM chooses it; UNKNOWN for one that kit does not know.

    Raises ModelError for what vLLM refuses.
    """
    parts = group if isinstance(group, dict) else {}
    weights, format_ = parts.get("weights"), parts.get("format") or format_of_all
    if isinstance(weights, dict) and weights.get("type", "int") == "int" and format_ is None:
        raise ModelError("'quantization_config.format' is missing, and vLLM finds no form for the layers without it")
    format_ = format_ or "pack-quantized"
    if not isinstance(weights, dict) or not isinstance(format_, str) or type(weights.get("num_bits", 8)) is not int:
        return UNKNOWN
    inputs = parts.get("input_activations")
    inputs = inputs if isinstance(inputs, dict) and inputs else None
    size = weights.get("group_size")
    group_size = size if type(size) is int and 0 < size <= _MOST_GROUP else None
    read = _floats if weights.get("type", "int") == "float" else _integers
    return read(weights, inputs, format_, group_size)


def _floats(weights: Mapping[str, Any], inputs: Mapping[str, Any] | None, format_: str, size: int | None) -> Packing:
    bits, strategy = weights.get("num_bits", 8), _strategy(weights)
    if bits == 4 and strategy == "tensor_group" and size == 16:
        if inputs and (inputs.get("num_bits"), inputs.get("type"), inputs.get("group_size")) != (4, "float", 16):
            where = "'quantization_config' says NVFP4 weights"
            raise ModelError(f"{where}: vLLM reads them with NVFP4 activations or with none, no other")
        return Packing("nvfp4", 4, 16, scheme="W4A4Fp4")
    if bits == 4 and strategy == "group" and size == 32:
        eight = inputs and inputs.get("num_bits") == 8
        return Packing("mxfp4", 4, 32, scheme="W4A8Mxfp4" if eight else "W4A4Mxfp4")
    if bits == 8 and strategy == "group" and size == 32:
        return Packing("mxfp8", 8, 32, scheme="W8A8Mxfp8")
    if bits == 8 and strategy in {"tensor", "channel", "block"} and format_ in _ACTIVATION_FORMATS:
        # Cards before sm_89 read them as W8A16, and that form's card is all that the weights need.
        return Packing("fp8", 8, scheme="W8A16Fp8")
    return UNKNOWN


def _integers(weights: Mapping[str, Any], inputs: Mapping[str, Any] | None, format_: str, size: int | None) -> Packing:
    bits, strategy = weights.get("num_bits", 8), _strategy(weights)
    if inputs is None and format_ == "pack-quantized" and strategy in {"group", "channel"} and bits in {4, 8}:
        return Packing("compressed-tensors", bits, size, not weights.get("symmetric", True), scheme="WNA16")
    if inputs is None:
        return UNKNOWN
    kind, input_bits = inputs.get("type", "int"), inputs.get("num_bits", 8)
    if format_ == "int-quantized" and (kind, bits, input_bits) == ("int", 8, 8):
        return _int8(weights, inputs, strategy)
    if format_ == "pack-quantized" and (kind, bits, input_bits) == ("float", 4, 8):
        return Packing("compressed-tensors", 4, size, scheme="W4A8Fp8")
    return UNKNOWN


def _strategy(numbers: Mapping[str, Any]) -> str:
    """How many weights share a scale: as told, else by the group size (compressed-tensors' QuantizationArgs)."""
    told, size = numbers.get("strategy"), numbers.get("group_size")
    if isinstance(told, str):
        return told.lower()
    if type(size) is not int:
        return "tensor"
    return "group" if size > 0 else "channel"


def _int8(weights: Mapping[str, Any], inputs: Mapping[str, Any], strategy: str) -> Packing:
    """Raises ModelError for what vLLM's `_is_dynamic_token_w8a8` and `_is_static_tensor_w8a8` refuse."""
    where = "'quantization_config' says int8 weights and activations"
    if strategy not in ("channel", "tensor") or not weights.get("symmetric", True):
        raise ModelError(f"{where}: vLLM reads symmetric weights alone, with one scale an output or a layer")
    if (_strategy(inputs), bool(inputs.get("dynamic"))) not in {("token", True), ("tensor", False)}:
        raise ModelError(f"{where}: vLLM takes a dynamic scale for each token or a fixed one for all, no other")
    return Packing("int8", 8, scheme="W8A8Int8")
