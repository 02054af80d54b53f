"""What each version of vLLM knows: the architectures it builds, the configurations it reads, its quantisation methods.

The data beside this module were read from the engines' own files by benchmarks/engine_facts.py. Only the versions that
targets lock have data. Of another version the nearest one's data serve for what a method needs of a card; whether that
version knows a name at all is then not checked, and whoever asks says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from kaggle_kit.runtime.score_head import SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from importlib.resources.abc import Traversable

    from kaggle_kit.runtime.quantisation import Quantisation
    from kaggle_kit.runtime.score_head import ScoreHead

_LONGEST = 100
"""Of a name that is compared with others: the time grows with the square of its length."""
_ALIASES = {"auto-round": "inc"}
"""A method's name in config.json → the engine's own (each method's `override_quantization_method`)."""


_INT8, _INT8_BELOW = "W8A8Int8", 100
"""The form whose activations are int8 too, and where vLLM's kernels for it end (csrc/quantization/w8a8/cutlass: "Int8
not supported on SM100")."""
_KERNEL_KINDS = {
    **dict.fromkeys(("awq", "gptq", "compressed-tensors"), "mixed"),
    **dict.fromkeys(("nvfp4", "modelopt-nvfp4"), "nvfp4"),
    "int8": "int8",
    "fp8": "fp8",
    "mxfp4": "mxfp4",
    "mxfp8": "mxfp8",
}
"""How a layer's tensors are laid → the kind of kernel that multiplies it."""
_CPU_BITS = 4
"""Of the weights that the engine's kernel for a CPU reads (kernels/linear/mixed_precision/cpu.py)."""
_THIS_CARD_ALONE = {"W4A8Fp8": 90}
"""Forms that one generation of cards runs (compressed_tensors.py, `_is_fp8_w4a8_sm90`)."""
_CAUSAL = "ForCausalLM"
_WITH_HEAD = (_CAUSAL, "ForConditionalGeneration", "LMHeadModel")
"""Endings of architectures that answer with words."""
_HEADLESS = ("Model", "Classification", "MaskedLM", "QuestionAnswering")
"""How the classes end that transformers gives other heads, or none."""


@dataclass(frozen=True)
class Obstacle:
    """Why an engine refuses a checkpoint, and what to do about it."""

    what: str
    step: str

    def __str__(self) -> str:
        """The sentence that a user reads."""
        return f"{self.what}: {self.step}"


@dataclass(frozen=True)
class Method:
    """A quantisation method: the least capability of a card times ten, and the types that it computes in."""

    least: int
    dtypes: tuple[str, ...]


@dataclass(frozen=True)
class EngineFacts:
    """What one version of vLLM knows. `exact`: whether these are its own facts, or the nearest known version's.

    `text`, `multimodal` and `other` (embedding, classification …) are architectures with code of the engine's own;
    `wrapped` are classes of transformers that it wraps. `removed` → the last version that had it, `plugins` → where its
    code is now. `model_types` are those whose config.json it reads, `causal` a type's class, `heads` the classes with a
    head for classes that transformers has. `fused`: architecture →
    the engine's layer → the checkpoint's layers that it joins. `schemes` are compressed-tensors' forms → the least
    capability times ten, `cpu_kernels` the kinds of matrix kernels that it has for a CPU. `needs`: architecture → the
    package that its code imports, if it is not the engine's own. `answers`: architecture → form of the weights → the
    error with which its CPU build refused to load such a checkpoint, of those that benchmarks/engine_matrix.py asked.
    """

    version: str
    transformers: str
    text: frozenset[str]
    multimodal: frozenset[str]
    other: frozenset[str]
    wrapped: frozenset[str]
    removed: Mapping[str, str]
    plugins: Mapping[str, str]
    model_types: frozenset[str]
    causal: Mapping[str, str]
    heads: frozenset[str]
    fused: Mapping[str, Mapping[str, list[str]]]
    methods: Mapping[str, Method]
    schemes: Mapping[str, int]
    deprecated: frozenset[str]
    refuses_activation_order: bool
    cpu_kernels: tuple[str, ...] = ()
    answers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    cpu_refuses: Mapping[str, str] = field(default_factory=dict)
    exact: bool = True

    @property
    def engine(self) -> str:
        """The engine as a text names it."""
        return f"vLLM {self.version}"

    def generates(self, architecture: str) -> bool:
        """Whether it makes text with this architecture, by code of its own or by wrapping that of transformers."""
        return any(architecture in names for names in (self.text, self.multimodal, self.wrapped))

    def scorer(self, architecture: str, model_type: str) -> str | None:
        """The class by which the engine reads the classification head of an `architecture`; None if it has no code.

        It is one of its own, or made of its class that generates with this type. What it could wrap of transformers is
        left to transformers: DistilBERT it takes at first, and does not load (0.32).
        """
        if architecture in self.other:
            return architecture
        causal = self.causal.get(model_type, "")
        return f"{causal.removesuffix(_CAUSAL)}{SUFFIX}" if causal.endswith(_CAUSAL) and causal in self.text else None

    def generator(self, architecture: str, model_type: str) -> str:
        """The class whose code reads the layers of an `architecture`, whatever its head is."""
        made = architecture.endswith(SUFFIX) and architecture not in self.other
        return self.causal.get(model_type, architecture) if made else architecture

    def method(self, name: str | None) -> Method | None:
        """The method that config.json calls `name`; None if the engine has none of that name."""
        return self.methods.get(_ALIASES.get(name or "", name or ""))

    def answer(self, architecture: str, packing: Quantisation | None) -> str | None:
        """The error with which the CPU build refused this architecture with weights of this form; None if it did not.

        It tells of this version alone, and of what was asked alone.
        """
        form = packing.common_name if packing else None
        return self.answers.get(architecture, {}).get(form or "") if self.exact else None

    def fused_layers(self, architecture: str, model_type: str) -> dict[str, str]:
        """A layer's last name → that of the engine's layer which holds it, for those that the engine joins."""
        joined = self.fused.get(self.generator(architecture, model_type), {})
        return {part: whole for whole, parts in joined.items() for part in parts if len(parts) > 1}


@cache
def engine_facts(version: tuple[int, int, int]) -> EngineFacts:
    """The facts of this version of vLLM, or of the nearest that is known (`exact` is then False)."""
    # The kit's wheel can be imported in place, as a zip: its files are no paths then.
    folder = files(__package__).joinpath("facts")
    known = {_numbers(file.name): file for file in folder.iterdir() if file.name.startswith("vllm-")}
    nearest = min(known, key=lambda one: (abs(one[0] - version[0]), abs(one[1] - version[1]), one))
    facts = _read(known[nearest], folder.joinpath(f"answers-{'.'.join(map(str, nearest))}.json"))
    return facts if nearest == version else replace(facts, exact=False)


def _numbers(name: str) -> tuple[int, int, int]:
    """The version in a file's name: `vllm-0.32.0.json`."""
    major, minor, patch = name.removeprefix("vllm-").removesuffix(".json").split(".")
    return int(major), int(minor), int(patch)


def _read(file: Traversable, answers: Traversable) -> EngineFacts:
    body: dict[str, Any] = {"needs": {}, "cpu_refuses": {}, **json.loads(file.read_text(encoding="utf-8"))}
    del body["wraps_any_attention"]
    for key in ("text", "multimodal", "other", "wrapped", "model_types", "heads", "deprecated"):
        body[key] = frozenset(body[key])
    body["methods"] = {name: Method(one["least"], tuple(one["dtypes"])) for name, one in body["methods"].items()}
    body["answers"] = json.loads(answers.read_text(encoding="utf-8")) if answers.is_file() else {}
    return EngineFacts(**body)


def head_obstacle(facts: EngineFacts, name: str, model_type: str, head: ScoreHead | None) -> Obstacle | None:
    """Why no probabilities of labels can be read from a model of the architecture `name`; None if they can.

    They are those of tokens, by an LM head, or those of classes, by a classification `head` of the model's own.
    """
    if head is not None and head.fault:
        return Obstacle(f"{name} has a head that gives no probabilities of classes: {head.fault}", "take another model")
    if head is not None:
        if not facts.exact or facts.scorer(name, model_type) or name in facts.heads:
            return None
        what = f"neither {facts.engine} nor transformers {facts.transformers} reads the head of {name}"
        return Obstacle(what, "take another model")
    if facts.generates(name) or name.endswith(_WITH_HEAD):
        return None
    if facts.exact and name not in facts.other and not name.endswith(_HEADLESS):
        # A name that the engine does not know at all: `architecture_obstacle` says so.
        return None
    step = f"take the ...ForCausalLM form of the model, or one with a trained head (...{SUFFIX})"
    return Obstacle(f"{name} has no LM head to read the labels from", step)


def architecture_obstacle(
    facts: EngineFacts, name: str, model_type: str, *, cpu: bool = False, excluded: Iterable[str] = ()
) -> Obstacle | None:
    """Why the engine does not build the architecture `name` of a checkpoint of this `model_type`; None if it does.

    `excluded` are packages that the target's wheelhouse leaves out.
    """
    if not facts.exact:
        return None
    if name.endswith(SUFFIX) and (name in facts.heads or facts.scorer(name, model_type)):
        name = facts.generator(name, model_type)
    elif not facts.generates(name):
        return _unknown_architecture(facts, name, model_type)
    if model_type not in facts.model_types:
        what = f"the model_type {model_type!r} is not one that {facts.engine} reads (transformers {facts.transformers})"
        return Obstacle(what, _nearest(model_type, facts.model_types) or "take a model of a type that it reads")
    package = facts.needs.get(name)
    if package in set(excluded):
        what = f"{facts.engine} imports {package} for {name}, and this target's wheelhouse leaves {package} out"
        return Obstacle(what, "take another target, or the text-only form of the model")
    if cpu and name in facts.cpu_refuses:
        return Obstacle(f"{facts.engine} does not build {name} on a CPU ({facts.cpu_refuses[name]})", "take a GPU")
    return None


def _unknown_architecture(facts: EngineFacts, name: str, model_type: str) -> Obstacle:
    """Why it is unknown, and the class name to write in its place if one can be told."""
    if name in facts.removed:
        what = f"{facts.engine} does not build {name} any more: the last version that did is {facts.removed[name]}"
        return Obstacle(what, f"take another model, or a target with vLLM {facts.removed[name]}")
    if name in facts.plugins:
        what = f"{facts.engine} builds {name} with a plugin alone, and kit installs none ({facts.plugins[name]})"
        return Obstacle(what, "take another model")
    if name in facts.other:
        return Obstacle(f"{name} makes no text", "take the ...ForCausalLM form of the model")
    what = f"{facts.engine} does not know the architecture {name}"
    plain = _plain_class(facts, name, model_type)
    if plain:
        return Obstacle(what, f"write the plain class name in 'architectures' of config.json: {plain}")
    return Obstacle(what, "take a model that it knows, or write the plain class name (not a trainer's wrapper)")


def _plain_class(facts: EngineFacts, name: str, model_type: str) -> str | None:
    """The known class that `name` wraps or misspells, or that generates with `model_type`."""
    known = facts.text | facts.multimodal | facts.wrapped
    inside = [one for one in known if name.endswith(one) or name.startswith(one)]
    if inside:
        return max(inside, key=len)
    by_type = facts.causal.get(model_type)
    if by_type in known:
        return by_type
    near = get_close_matches(name, sorted(known), n=1, cutoff=0.9) if len(name) <= _LONGEST else []
    return near[0] if near else None


def _nearest(word: str, known: Iterable[str]) -> str | None:
    near = get_close_matches(word, sorted(known), n=1, cutoff=0.8) if len(word) <= _LONGEST else []
    return f"write {near[0]!r} if that is meant" if near else None


def method_obstacle(
    facts: EngineFacts,
    name: str | None,
    packing: Quantisation | None = None,
    *,
    capability: tuple[int, int] | None = None,
    card: str = "the card",
    cpu: bool = False,
    architecture: str = "",
) -> Obstacle | None:
    """Why the engine does not run weights of the method that config.json calls `name`; None if it does.

    `packing` is how its layers are packed, as far as kit knows. `capability` is that of the cards, None if nothing is
    known or a `cpu` computes; `card` is what the text calls them. `what` goes on after "the model is" or "config.json
    says".
    """
    if not name:
        return None
    if unread := _unread(facts, name, packing):
        return unread
    if cpu:
        return _cpu_obstacle(facts, name, packing, architecture) if packing else None
    method = facts.method(name)
    if method is None or capability is None:
        return None
    return _card_obstacle(facts, name, method, packing.schemes if packing else (), capability, card)


def _unread(facts: EngineFacts, name: str, packing: Quantisation | None) -> Obstacle | None:
    """Why the engine reads no weights of this method or form, whatever it runs on."""
    if facts.exact and facts.method(name) is None:
        step = "take the model whole, or quantised as awq, gptq or compressed-tensors"
        return Obstacle(f"{name}, a quantisation method that {facts.engine} does not read", step)
    if _ALIASES.get(name, name) in facts.deprecated:
        what = f"{name}, a quantisation method that {facts.engine} refuses, since it is about to drop it"
        return Obstacle(what, "quantise the model in another way")
    if packing is None:
        return None
    if packing.activation_order and facts.refuses_activation_order:
        what = f"{name} with groups in the order of the activations (desc_act), which {facts.engine} does not read"
        return Obstacle(what, "quantise the model with desc_act = false, or with one scale an output")
    if unread := [scheme for scheme in packing.schemes if facts.exact and scheme not in facts.schemes]:
        return Obstacle(f"{name} in the form {unread[0]}, which {facts.engine} does not read", "take a newer engine")
    return None


def _cpu_obstacle(facts: EngineFacts, name: str, packing: Quantisation, architecture: str) -> Obstacle | None:
    """The first of the packings for which the engine has no kernel on a CPU, or what it answered when it was asked."""
    if said := facts.answer(architecture, packing):
        what = f"{name}, and {facts.engine} does not load {architecture} of this form on a CPU ({said})"
        return Obstacle(what, "take a target with a GPU")
    if packing.method == "fp8" and packing.group_size is None:
        what = f"{name} with one scale a layer, and {facts.engine} reads it in blocks alone on a CPU"
        return Obstacle(what, "take a target with a GPU")
    for way in packing.packings:
        kind = _KERNEL_KINDS.get(way.form)
        if kind and kind not in facts.cpu_kernels and facts.exact:
            what = f"{name} in the form {way.form}, for which {facts.engine} has no kernel on a CPU"
            return Obstacle(what, "take a target with a GPU")
        if kind == "mixed" and way.bits != _CPU_BITS:
            what = f"{name} of {way.bits} bits, and {facts.engine} reads {_CPU_BITS} bits alone on a CPU"
            return Obstacle(what, "take a target with a GPU")
    return None


def _card_obstacle(
    facts: EngineFacts, name: str, method: Method, schemes: tuple[str, ...], capability: tuple[int, int], card: str
) -> Obstacle | None:
    int8 = _INT8 in schemes
    called = f"{name} with int8 activations" if int8 else name
    number, step = capability[0] * 10 + capability[1], "quantise the model in another way, or take another target"
    needed = max([method.least, *(facts.schemes.get(scheme, 0) for scheme in schemes)])
    if number < needed:
        return Obstacle(f"{called}, which needs sm_{needed}, and {card} is sm_{number}", step)
    if int8 and number >= _INT8_BELOW:
        return Obstacle(f"{called}, which vLLM reads up to sm_90, and {card} is sm_{number}", step)
    if exact := [scheme for scheme in schemes if scheme in _THIS_CARD_ALONE and number != _THIS_CARD_ALONE[scheme]]:
        only = _THIS_CARD_ALONE[exact[0]]
        return Obstacle(f"{called} {exact[0]}, which runs on sm_{only} alone, and {card} is sm_{number}", step)
    return None
