"""How a checkpoint's weights are packed: the usual layer's bits and groups, and rules for the layers that differ.

`packing_methods` reads them from config.json. How a rule is matched was read in vLLM 0.32, in the files named there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from kaggle_kit.errors import ModelError
from kaggle_kit.outside import shown
from kaggle_kit.runtime.architecture import word

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MODELOPT = {
    "FP8": "modelopt",
    "FP8_PER_CHANNEL_PER_TOKEN": "modelopt",
    "FP8_PB_WO": "modelopt",
    "NVFP4": "modelopt_fp4",
    "W4A16_NVFP4": "modelopt_fp4",
    "MXFP8": "modelopt_mxfp8",
    "MIXED_PRECISION": "modelopt_mixed",
}
"""ModelOpt's algorithm → the engine's method (modelopt.py, LINEAR_ALGOS)."""
_MOST_STARS, _MOST_PATTERN = 4, 500
_STAR = re.compile(r"(?<!\\)[*+]|(?<!\\)\{\d*,\d*\}")
_REPEATED_GROUP = re.compile(r"(?<!\\)\)[*+{]|\\[1-9]|\(\?P=")


@dataclass(frozen=True)
class Packing:
    """How a layer's weights are packed. `group_size` is None for one scale an output (-1 in the files).

    `form` is how its tensors are called and laid: "awq", "gptq", "compressed-tensors" (integers), "int8", "fp8",
    "nvfp4", "modelopt-nvfp4", "mxfp4", "mxfp8" or "mxfp4-experts". `scheme` is compressed-tensors' name of it in vLLM.
    """

    form: str
    bits: int
    group_size: int | None = None
    zero_points: bool = False
    scheme: str | None = None


UNKNOWN = Packing("unknown", 0)
"""The packing of a layer of which the configuration says more than kit can read."""


@dataclass(frozen=True)
class Rule:
    """Layers, told by their names, that are packed in one way; `packing` is None if they are left whole.

    A name is exact, a part stands anywhere in a layer's name, a pattern matches from its beginning, a wildcard all of
    it, an ending follows a dot. `linear`: every linear layer but the head. `unread`: patterns that kit does not match.
    """

    packing: Packing | None
    names: frozenset[str] = frozenset()
    parts: tuple[str, ...] = ()
    patterns: tuple[re.Pattern[str], ...] = ()
    wildcards: tuple[str, ...] = ()
    endings: tuple[str, ...] = ()
    linear: bool = False
    unread: bool = False

    @property
    def comparisons(self) -> int:
        """How many comparisons a layer's name takes."""
        return len(self.parts) + len(self.patterns) + len(self.wildcards) + len(self.endings)

    def matches(self, layer: str) -> bool:
        """Whether the rule speaks of `layer`."""
        return (
            layer in self.names
            or any(part in layer for part in self.parts)
            or any(pattern.match(layer) for pattern in self.patterns)
            or any(fnmatchcase(layer, wildcard) for wildcard in self.wildcards)
            or any(layer.endswith(f".{ending}") for ending in self.endings)
        )


_COMMON_NAMES = {
    ("awq", "awq"): "AWQ",
    ("gptq", "gptq"): "GPTQ",
    ("compressed-tensors", "compressed-tensors"): "W4A16",
    ("compressed-tensors", "int8"): "W8A8",
    ("compressed-tensors", "fp8"): "FP8",
    ("compressed-tensors", "nvfp4"): "NVFP4",
}
"""(method, form of the tensors) → what people call it."""


@dataclass(frozen=True)
class Quantisation:
    """How the weights are packed: the numbers of the usual layer, and rules for those that differ.

    `activations` is "int8" if the engine rounds these too, and multiplies integers; None if they keep their type.
    `elsewhere`: what a layer is that no rule names: packed as usual, left whole, or what its own tensors show.
    `matched_by`: the name of the engine's joined layer, or of the checkpoint's own, by which the rules are asked.
    `activation_order`: whether groups follow the order of the activations, which later engines refuse.
    """

    method: str
    bits: int
    group_size: int | None
    zero_points: bool
    activations: str | None = None
    layout: str = ""
    scheme: str | None = None
    rules: tuple[Rule, ...] = ()
    elsewhere: Literal["packed", "whole", "shown"] = "packed"
    matched_by: Literal["own", "joined", "either"] = "own"
    activation_order: bool = False

    @property
    def form(self) -> str:
        """How the usual layer's tensors are called and laid (`Packing.form`)."""
        return self.layout or self.activations or self.method

    @property
    def common_name(self) -> str | None:
        """What people call the form: W4A16, GPTQ dynamic; None for one that has no such name."""
        if self.method == "gptq" and self.rules:
            return "GPTQ dynamic"
        return _COMMON_NAMES.get((self.method, self.form))

    @property
    def usual(self) -> Packing:
        """The packing of a layer of which no rule speaks."""
        return Packing(self.form, self.bits, self.group_size, self.zero_points, self.scheme)

    @property
    def packings(self) -> tuple[Packing, ...]:
        """Every packing that a layer may have, the usual one first."""
        return tuple(dict.fromkeys([self.usual, *(rule.packing for rule in self.rules if rule.packing)]))

    @property
    def schemes(self) -> tuple[str, ...]:
        """The engine's names of compressed-tensors' forms that the layers have."""
        named = tuple(dict.fromkeys(packing.scheme for packing in self.packings if packing.scheme))
        return named or (("W8A8Int8",) if self.activations == "int8" else ())

    @property
    def four_bits(self) -> bool:
        """Whether the usual layer holds integers of four bits, for which there is a choice of kernels."""
        return self.bits == 4 and self.form in {"awq", "gptq", "compressed-tensors"}

    def comparisons(self, layers: Iterable[str]) -> int:
        """How many comparisons of names and patterns it takes to tell how these layers are packed."""
        unnamed = sum(1 for layer in layers if not any(layer in rule.names for rule in self.rules))
        return unnamed * self.patterns

    @property
    def patterns(self) -> int:
        """How many patterns, and parts of names, its rules have."""
        return sum(rule.comparisons for rule in self.rules)

    def of(self, layer: str, joined: Mapping[str, str] | None = None) -> Packing | None:
        """How `layer` is packed: None if it is left whole, UNKNOWN if kit cannot tell.

        `joined`: a layer's last name → that of the engine's layer which holds it and others.
        """
        above, _, last = layer.rpartition(".")
        whole = f"{above}.{(joined or {}).get(last, last)}" if above else last
        if self.matched_by == "joined" and ".experts." in layer:
            whole = layer.partition(".experts.")[0] + ".experts"
        names = {"own": (layer,), "joined": (whole,), "either": (whole, layer)}[self.matched_by]
        for rule in self.rules:
            if any(rule.matches(name) for name in names):
                return rule.packing
            if rule.unread:
                return UNKNOWN
        head = last in {"lm_head", "embed_tokens"}
        for rule in self.rules:
            if rule.linear and not head:
                return rule.packing
        return None if head or self.elsewhere == "whole" else self.usual

    def leaves(self, layer: str, joined: Mapping[str, str] | None = None) -> bool:
        """Whether the engine reads `layer` if its weights are not packed."""
        if self.method == "gptq" and ".experts." in layer:
            # The engine looks at the types of all tensors but the experts' (`get_moe_quant_method`).
            return self.of(layer, joined) in {None, UNKNOWN}
        return self.elsewhere == "shown" or self.of(layer, joined) in {None, UNKNOWN}


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
    return MODELOPT.get(algorithm)


def pattern_rule(packing: Packing | None, texts: Iterable[str]) -> Rule:
    """A rule of regular expressions. One that could take long over a name, or that Python does not read, is unread."""
    patterns, unread = [], False
    for text in texts:
        stars = len(_STAR.findall(text))
        if len(text) > _MOST_PATTERN or stars > _MOST_STARS or _REPEATED_GROUP.search(text):
            unread = True
            continue
        try:
            patterns.append(re.compile(text))
        except (re.error, OverflowError, RecursionError):
            unread = True
    return Rule(packing, patterns=tuple(patterns), unread=unread)


def names_of(value: Any) -> tuple[str, ...]:
    """The names in a list of a configuration, each once; whatever else stands there is passed over."""
    names = value if isinstance(value, list) else []
    return tuple(dict.fromkeys(name for name in names if isinstance(name, str)))
