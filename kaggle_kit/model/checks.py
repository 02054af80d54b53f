"""What is wrong with a checkpoint: tensors unlike what config.json promises, what engine and cards would refuse."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from kaggle_kit.model.folder import Problem, by_check, warning
from kaggle_kit.model.headers import shorten
from kaggle_kit.model.packing import MOST_COMPARED
from kaggle_kit.outside import shown
from kaggle_kit.runtime.architecture import EMBEDDINGS, HEAD, SCORE, Architecture
from kaggle_kit.runtime.checkpoint import code_named
from kaggle_kit.runtime.engine_facts import architecture_obstacle, engine_facts, head_obstacle, method_obstacle
from kaggle_kit.runtime.engine_plan import (
    dtype_obstacle,
    engine_dtype,
    length_obstacle,
    method_dtype_obstacle,
)
from kaggle_kit.runtime.quantisation import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from kaggle_kit.model.folder import Folder
    from kaggle_kit.model.headers import Tensor
    from kaggle_kit.model.packing import PackedLayer
    from kaggle_kit.runtime.architecture import Architecture
    from kaggle_kit.runtime.engine_facts import EngineFacts
    from kaggle_kit.runtime.quantisation import Quantisation
    from kaggle_kit.targets import Target


_LAYER = re.compile(r"((?:.*\.)?(?:layers?|h|blocks)\.)([0-9]{1,5})\.(.+)")
_OTHER_PART = re.compile(
    r"(^|[._])(visual|vision|vit|siglip|clip|image|img|audio|speech|whisper|talker|token2wav|code2wav|tts|sam|qformer"
    r"|perceiver|resampler|projector|connector|aligner|adapter|mtp)([._]|\d)"
)
"""Words in the names of layers that are not the language model's."""
_ENCODER = "encoder."
_HARMLESS = ("rotary_emb.inv_freq", "masked_bias", "k_scale", "v_scale")
"""Endings of tensors that older saves hold and engines pass over."""
_EXPERT_AXES = 3
"""Of a tensor that holds every expert's matrix."""
_CONFIG = "config.json"
_WEIGHTS = "*.safetensors"
_RESAVE = "take config.json and weights from one save"


def check_completeness(
    architecture: Architecture,
    tensors: Mapping[str, Tensor],
    packed: Mapping[str, PackedLayer],
    quantisation: Quantisation | None,
    joined: Mapping[str, str] | None = None,
    *,
    method: str | None = None,
) -> list[Problem]:
    """Every difference between config.json and the tensors.

    Of a `method` that kit does not know in detail only the layers are counted. `joined`: a layer's last name → that of
    the engine's layer which holds it and others.
    """
    readable = quantisation is not None or method is None
    packing = by_check("packing", _packing(tensors, packed, quantisation, joined or {})) if readable else []
    count = by_check("layers", _layer_count(architecture, tensors))
    problems = [*count, *by_check("unmerged", _not_merged(tensors)), *packing]
    if count or not readable or (packing and quantisation is None):
        # Each layer that is too few, too many or packed would be reported again, tensor by tensor.
        return problems
    if architecture.family is None:
        head = _score_head(architecture, tensors)
        return [*problems, *head, *by_check("architecture", _evenness(tensors))]

    missing: list[str] = []
    different: list[str] = []
    known: set[str] = set()
    for name, shape in _expected(architecture):
        layer = name.removesuffix(".weight")
        if layer in packed and name.endswith(".weight"):
            known.update(tensor.name for tensor in packed[layer].parts.values())
            actual: tuple[int, ...] | None = (packed[layer].outputs, packed[layer].inputs)
        else:
            known.add(name)
            actual = tensors[name].shape if name in tensors else None
        if actual is None:
            missing.append(name)
        elif actual != shape:
            different.append(f"{name} is {_by(actual)}, not {_by(shape)}")

    if missing:
        what = f"lack tensors that {architecture.name} needs: {shorten(missing)}"
        problems.append(Problem(_WEIGHTS, what, "save the model again, whole", check="tensors"))
    if different:
        what = f"does not agree with the weights: {shorten(different)}"
        problems.append(Problem(_CONFIG, what, _RESAVE, check="shapes"))
    problems += by_check("unused-tensors", _unknown(architecture, tensors, known))
    return problems


def _by(shape: tuple[int, ...]) -> str:
    return " × ".join(f"{length:,}" for length in shape)


def _expected(architecture: Architecture) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Each tensor of the model by its unpacked name, and its shape (outputs, inputs)."""
    hidden = architecture.hidden
    yield EMBEDDINGS, (architecture.vocabulary, hidden)
    for layer in range(architecture.layers):
        for matrix in architecture.layer_matrices():
            yield f"model.layers.{layer}.{matrix.name}.weight", (matrix.outputs, matrix.inputs)
            if matrix.bias:
                yield f"model.layers.{layer}.{matrix.name}.bias", (matrix.outputs,)
        for name, length in architecture.layer_vectors():
            yield f"model.layers.{layer}.{name}", (length,)
    yield "model.norm.weight", (hidden,)
    if architecture.score_head:
        yield SCORE, (len(architecture.score_head.classes), hidden)
    elif not architecture.tied:
        yield HEAD, (architecture.vocabulary, hidden)


def text_layers(names: Iterable[str]) -> list[tuple[int, str]]:
    """The number of the layer and the name below it of each tensor of the language model's layers.

    Images, speech and the prediction of further tokens have layers of their own, which config.json counts elsewhere.
    Of several stacks of layers that are left the one with most layers is the language model's; an encoder is one only
    if there is nothing else, as in BERT.
    """
    stacks: dict[str, list[tuple[int, str]]] = {}
    encoders: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        if (match := _LAYER.fullmatch(name)) and not _OTHER_PART.search(match[1].replace(_ENCODER, "")):
            kept = encoders if _ENCODER in match[1] else stacks
            kept.setdefault(match[1], []).append((int(match[2]), match[3]))
    return max((stacks or encoders).values(), key=lambda stack: len({number for number, _ in stack}), default=[])


def _layer_count(architecture: Architecture, tensors: Mapping[str, Tensor]) -> list[Problem]:
    numbers = {number for number, _ in text_layers(tensors)}
    wanted = set(range(architecture.layers))
    later = set(range(architecture.layers, architecture.layers + architecture.later_layers))
    says = f"says num_hidden_layers = {architecture.layers}"
    problems = []
    if missing := sorted(wanted - numbers):
        what = f"{says}, and the weights lack the layers {shorten([str(number) for number in missing])}"
        step = "download the missing files, or take config.json and weights of one save"
        problems.append(Problem(_CONFIG, what, step))
    if extra := sorted(numbers - wanted - later):
        what = f"{says}, and the weights have the layers {shorten([str(number) for number in extra])} too"
        problems.append(Problem(_CONFIG, what, _RESAVE))
    return problems


def _not_merged(tensors: Mapping[str, Tensor]) -> list[Problem]:
    names = [name for name in tensors if "lora_" in name or name.startswith("base_model.")]
    if not names:
        return []
    what = f"hold an adapter that was not merged: {shorten(names)}"
    return [Problem(_WEIGHTS, what, "merge it (peft's merge_and_unload) and save the model again")]


def _packing(
    tensors: Mapping[str, Tensor],
    packed: Mapping[str, PackedLayer],
    quantisation: Quantisation | None,
    joined: Mapping[str, str],
) -> list[Problem]:
    if quantisation is None:
        names = [name for name in tensors if name.endswith((".qweight", ".weight_packed"))]
        if not names:
            return []
        what = f"has no quantization_config, and the weights are packed: {shorten(names)}"
        return [Problem(_CONFIG, what, "take the config.json that was saved with these weights")]

    problems = []
    if faults := [f"{layer.name}: {fault}" for layer in packed.values() for fault in layer.faults]:
        packing = f"{quantisation.method}, {quantisation.bits} bits"
        what = f"do not agree with quantization_config ({packing}): {shorten(faults)}"
        problems.append(Problem(_WEIGHTS, what, _RESAVE))

    unpacked = [
        name.removesuffix(".weight")
        for name in tensors
        if name.endswith("_proj.weight") and _LAYER.fullmatch(name) and name.removesuffix(".weight") not in packed
    ]
    if quantisation.comparisons([*unpacked, *packed]) > MOST_COMPARED:
        what = f"has {quantisation.patterns:,} patterns of layers, and the weights have {len(unpacked) + len(packed):,}"
        problems.append(Problem(_CONFIG, what, "name the layers by fewer patterns"))
    elif whole := [*_plain_experts(tensors, quantisation)] + [
        f"{name}.weight" for name in unpacked if not quantisation.leaves(name, joined)
    ]:
        what = f"says {quantisation.method}, and these layers are not packed: {shorten(whole)}"
        problems.append(Problem(_CONFIG, what, "list them in modules_to_not_convert (or ignore), or quantise them"))
    return problems + _unlike(tensors, packed, joined)


def _plain_experts(tensors: Mapping[str, Tensor], quantisation: Quantisation) -> Iterator[str]:
    """Tensors that hold all experts of a layer and are not packed, where the engine packs the experts."""
    for name, tensor in tensors.items():
        above, _, last = name.rpartition(".")
        together = last in {"gate_up_proj", "down_proj"} and above.endswith(".experts")
        if together and len(tensor.shape) == _EXPERT_AXES and not quantisation.leaves(f"{above}.0.{last}"):
            yield name


def _unlike(
    tensors: Mapping[str, Tensor], packed: Mapping[str, PackedLayer], joined: Mapping[str, str]
) -> list[Problem]:
    """Layers that the engine joins to one, and that are packed in different ways."""
    ways: dict[str, set[tuple[str, int, int | None] | None]] = {}
    for name in [*packed, *(name.removesuffix(".weight") for name in tensors if name.endswith(".weight"))]:
        above, _, last = name.rpartition(".")
        if last not in joined or not _LAYER.fullmatch(f"{name}.weight"):
            continue
        packing = packed[name].packing if name in packed else None
        way = (packing.form, packing.bits, packing.group_size) if packing else None
        ways.setdefault(f"{above}.{joined[last]}", set()).add(way)
    unlike = [whole for whole, kinds in ways.items() if len(kinds) > 1]
    if not unlike:
        return []
    what = f"pack the parts of a layer in different ways, and the engine joins them to one: {shorten(unlike)}"
    return [Problem(_WEIGHTS, what, "quantise q, k and v alike, and gate and up (or leave them whole)")]


def _evenness(tensors: Mapping[str, Tensor]) -> list[Problem]:
    """For an architecture that kit does not know: every layer should have the parts that most have."""
    layers: dict[int, set[str]] = {}
    for number, part in text_layers(tensors):
        layers.setdefault(number, set()).add(part)
    if not layers:
        return []
    usual = set(Counter(frozenset(parts) for parts in layers.values()).most_common(1)[0][0])
    odd = [number for number, parts in sorted(layers.items()) if not usual <= parts]
    problems = []
    if odd:
        lacking = shorten(sorted(usual - layers[odd[0]]))
        uneven = [f"layer {odd[0]} lacks {lacking}", *(f"layer {number}" for number in odd[1:])]
        problems.append(warning(_WEIGHTS, f"have uneven layers: {shorten(uneven)}", "see whether they are whole"))
    return problems


_HEADS = (SCORE, "classifier.weight", "classifier.out_proj.weight", "classification_head.out_proj.weight")
"""The last matrix of a head for classes, as most classes of transformers call it."""


def _score_head(architecture: Architecture, tensors: Mapping[str, Tensor]) -> list[Problem]:
    """Whether an architecture that kit does not know in detail has a head of as many classes as config.json names."""
    if architecture.score_head is None:
        return []
    classes = len(architecture.score_head.classes)
    name = next((name for name in _HEADS if name in tensors), None)
    if name is None:
        what = f"hold no head that kit knows ({shorten(list(_HEADS))})"
        return [warning(_WEIGHTS, what, "see that the head was trained and saved", check="tensors")]
    if tensors[name].shape[0] == classes:
        return []
    what = f"names {classes} classes, and {name} is {_by(tensors[name].shape)}"
    return [Problem(_CONFIG, what, _RESAVE, check="shapes")]


def _unknown(architecture: Architecture, tensors: Mapping[str, Tensor], known: set[str]) -> list[Problem]:
    problems = []
    unused = [name for name in tensors if name not in known and not name.endswith(_HARMLESS)]
    if architecture.score_head and HEAD in unused:
        unused.remove(HEAD)
        what = f"hold {HEAD}, and {architecture.name} answers by {SCORE}: engines refuse or pass over it"
        problems.append(warning(_WEIGHTS, what, "delete that tensor"))
    if architecture.tied and HEAD in unused:
        unused.remove(HEAD)
        what = f"hold {HEAD}, and config.json ties the head to the embeddings: engines pass over it"
        problems.append(warning(_WEIGHTS, what, "if the head was trained, set tie_word_embeddings to false"))
    if unused:
        what = f"hold tensors that {architecture.name} has no use for: {shorten(sorted(unused))}"
        problems.append(warning(_WEIGHTS, what, "see whether config.json is of this model"))
    return problems


_LISTED = 5


def check_dtype(target: Target, architecture: Architecture, dtypes: AbstractSet[str], *, packed: bool) -> list[Problem]:
    """What becomes of weights of these safetensors `dtypes` in the type that the engine computes in."""
    wanted = target.engine_options.get("dtype", "auto")
    engine = engine_dtype(architecture, target.capability, wanted)
    problems = []
    if obstacle := dtype_obstacle(architecture, target.capability, wanted):
        problems.append(Problem(_CONFIG, f"cannot be used on {target.name}: {obstacle.what}", obstacle.step))
    elif engine == "float16" and "BF16" in dtypes:
        what = (
            f"hold bfloat16 numbers, and {target.name} computes in float16: vLLM converts them while loading, and "
            f"those beyond 65,504 become infinite"
        )
        step = "score a few rows there and compare them with a reference before trusting it"
        problems.append(warning(_WEIGHTS, what, step))
    by_transformers = architecture.score_head and not engine_facts(target.engine_version).scorer(
        architecture.name, architecture.model_type
    )
    if {"F32", "F64"} & dtypes and engine != "float32" and not packed and not by_transformers:
        what = f"hold 32-bit numbers, twice what the engine keeps ({engine})"
        problems.append(warning(_WEIGHTS, what, f"save the model in {engine}: half the upload, the same scores"))
    return problems


def check_engine(
    target: Target, architecture: Architecture, method: str | None, quantisation: Quantisation | None
) -> list[Problem]:
    """What the target's engine and cards refuse of the architecture, and of the method that packs its weights."""
    facts, capability = engine_facts(target.engine_version), target.capability
    wanted = target.engine_options.get("dtype", "auto")
    headless = head_obstacle(facts, architecture.name, architecture.model_type, architecture.score_head)
    built = None
    if headless is None:
        built = architecture_obstacle(
            facts, architecture.name, architecture.model_type, cpu=not target.gpus, excluded=target.exclude
        )
    read = method_obstacle(
        facts,
        method,
        quantisation,
        capability=capability,
        card=target.gpu_name or "the card",
        cpu=not target.gpus,
        architecture=architecture.name,
    )
    problems: list[Problem] = []
    if built:
        problems += by_check("architecture", [Problem(_CONFIG, f"cannot be used: {built.what}", built.step)])
    elif needed := _image_parts(facts, architecture.name, target.exclude):
        problems += by_check("architecture", [needed])
    if read:
        problems += by_check("method", [Problem(_CONFIG, f"says {read.what}", read.step)])
    elif kept := method_dtype_obstacle(architecture, method, target.engine_version, capability, wanted):
        what = f"cannot be used on {target.name}: {kept.what}"
        problems += by_check("dtype", [Problem(_CONFIG, what, kept.step)])
    if target.gpus and (said := facts.answer(architecture.name, quantisation)) and "backend" not in said.lower():
        what = (
            f"is {architecture.name} in {method}, which {facts.engine} did not load when it was asked on a CPU: {said}"
        )
        step = "start the engine with it on a card before the model is uploaded"
        problems += by_check("method", [warning(_CONFIG, what, step)])
    return problems


def check_experts(packed: Mapping[str, PackedLayer]) -> list[Problem]:
    """What vLLM refuses of experts on a CPU (fused_moe/oracle/fp8.py)."""
    if not any(layer.packing.form == "fp8" and ".experts." in layer.name for layer in packed.values()):
        return []
    what = "packs experts in fp8, for which the engine has no kernel on a CPU"
    return [Problem(_CONFIG, what, "take a target with a GPU")]


def _image_parts(facts: EngineFacts, name: str, excluded: tuple[str, ...]) -> Problem | None:
    """A warning if the architecture reads images too, and the target leaves out what prepares them."""
    lacking = [package for package in ("torchvision", "torchaudio") if package in excluded]
    if name not in facts.multimodal or not lacking:
        return None
    what = f"is of an architecture that reads images or sound, and this target leaves {', '.join(lacking)} out"
    return warning(_CONFIG, what, "see with kit dryrun whether the engine starts, or take the text-only form")


def unchecked(
    target: Target | None, architecture: Architecture | None, method: str | None, quantisation: Quantisation | None
) -> list[str]:
    """What kit cannot know of this checkpoint, and so did not check."""
    parts = []
    if target and not engine_facts(target.engine_version).exact:
        parts.append(f"whether {target.engine} knows this architecture and method (kit has no data of that version)")
    if architecture and architecture.family is None:
        parts.append(f"names and shapes of the tensors of {architecture.name}")
    if method and quantisation is None:
        parts.append(f"how {method} packs the layers")
    if quantisation and any(rule.unread for rule in quantisation.rules):
        parts.append(f"which layers some patterns of {method} mean")
    if quantisation and UNKNOWN in quantisation.packings:
        parts.append(f"the tensors of some groups of {method}")
    return parts


def check_integers(method: str | None, tensors: Mapping[str, Tensor]) -> list[Problem]:
    """Integers that no configuration says how to read: an engine would take them for the weights themselves."""
    names = [name for name, tensor in tensors.items() if tensor.dtype == "I8" and name.endswith(".weight")]
    if not names or method:
        return []
    what = f"has no quantization_config, and weights are int8: {shorten(names)}"
    return [Problem(_CONFIG, what, "take the config.json that was saved with these weights")]


def check_code(
    folder: Folder, config: Mapping[str, Any], architecture: Architecture | None, facts: EngineFacts
) -> list[Problem]:
    """Code of the checkpoint's own is never run: kit sets trust_remote_code to False, and refuses what does not ask."""
    code = [name for name in folder.files if name.endswith(".py")]
    if named := list(code_named(config)):
        step = "take the model from a source that you trust, or remove that key"
        return [Problem(_CONFIG, what, step) for what in named[:_LISTED]]
    if "auto_map" in config:
        model_type = str(config.get("model_type"))
        if (architecture is None or architecture.family is None) and model_type not in facts.model_types:
            kind = shown(config.get("model_type"))
            what = f"needs code of its own (auto_map) to build a {kind}, and kit never runs such code"
            return [Problem(_CONFIG, what, "take a model whose architecture vLLM knows, or convert it to one")]
        what = "names code of its own (auto_map), which is passed over: the engine knows the architecture"
        return [warning(_CONFIG, what, "remove auto_map and the .py files")]
    return [warning(name, "is code, which kit never runs", "delete it") for name in code]


def check_length(architecture: Architecture, *, longest: int | None) -> list[Problem]:
    """Whether prompts of `longest` tokens and an answer are within what the model reads."""
    if architecture.most_tokens is None:
        what = "has no max_position_embeddings, and vLLM then takes 2,048"
        return [warning(_CONFIG, what, "add the number that the model was trained for")]
    if longest is not None and (reason := length_obstacle(architecture, longest)):
        what = f"is too short for the notebook: {reason}"
        most = architecture.most_tokens - architecture.answer_tokens
        return [Problem(_CONFIG, what, f"set token_budget to {most} or less")]
    return []


def check_head(architecture: Architecture, version: tuple[int, int, int]) -> list[Problem]:
    """Whether there is a head of tokens or of classes: kit reads the labels' probabilities from it."""
    facts = engine_facts(version)
    obstacle = head_obstacle(facts, architecture.name, architecture.model_type, architecture.score_head)
    return [Problem(_CONFIG, f"cannot be used: {obstacle.what}", obstacle.step)] if obstacle else []
