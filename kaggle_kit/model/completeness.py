"""Whether the tensors are those that config.json promises: none missing, none of another shape or from another save."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from kaggle_kit.model.problem import Problem, warning
from kaggle_kit.model.shards import shorten
from kaggle_kit.runtime.architecture import EMBEDDINGS, HEAD, Architecture

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kaggle_kit.model.headers import Tensor
    from kaggle_kit.model.packing import PackedLayer
    from kaggle_kit.runtime.quantisation import Quantisation

_LAYER = re.compile(r"(.*\.(?:layers|h|blocks)\.)([0-9]{1,5})\.(.+)")
_MOST_COMPARED = 50_000_000
"""Names of layers times patterns of such that are not packed: a few seconds."""
_HARMLESS = ("rotary_emb.inv_freq", "masked_bias", "k_scale", "v_scale")
"""Endings of tensors that older saves hold and engines pass over."""
_CONFIG = "config.json"
_RESAVE = "take config.json and weights from one save"


def check_completeness(
    architecture: Architecture,
    tensors: Mapping[str, Tensor],
    packed: Mapping[str, PackedLayer],
    quantisation: Quantisation | None,
) -> list[Problem]:
    """Every difference between config.json and the tensors."""
    packing = _packing(tensors, packed, quantisation)
    count = _layer_count(architecture, tensors)
    problems = [*count, *_not_merged(tensors), *packing]
    if count or (packing and quantisation is None):
        # Each layer that is too few, too many or packed would be told again, tensor by tensor.
        return problems
    if architecture.family is None:
        return [*problems, *_evenness(architecture, tensors)]
    lacking: list[str] = []
    unlike: list[str] = []
    known: set[str] = set()
    for name, shape in _expected(architecture):
        layer = name.removesuffix(".weight")
        if layer in packed and name.endswith(".weight"):
            known.update(tensor.name for tensor in packed[layer].parts.values())
            found: tuple[int, ...] | None = (packed[layer].outputs, packed[layer].inputs)
        else:
            known.add(name)
            found = tensors[name].shape if name in tensors else None
        if found is None:
            lacking.append(name)
        elif found != shape:
            unlike.append(f"{name} is {_by(found)}, not {_by(shape)}")
    files = "*.safetensors"
    if lacking:
        problems.append(
            Problem(
                files, f"lack tensors that {architecture.name} needs: {shorten(lacking)}", "save the model again, whole"
            )
        )
    if unlike:
        problems.append(Problem(_CONFIG, f"does not agree with the weights: {shorten(unlike)}", _RESAVE))
    problems += _unknown(architecture, tensors, known)
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
    if not architecture.tied:
        yield HEAD, (architecture.vocabulary, hidden)


def _layer_count(architecture: Architecture, tensors: Mapping[str, Tensor]) -> list[Problem]:
    numbers = {int(match[2]) for name in tensors if (match := _LAYER.fullmatch(name))}
    wanted = set(range(architecture.layers))
    told = f"says num_hidden_layers = {architecture.layers}"
    problems = []
    if lacking := sorted(wanted - numbers):
        what = f"{told}, and the weights lack the layers {shorten([str(number) for number in lacking])}"
        problems.append(
            Problem(_CONFIG, what, "download the missing files, or take config.json and weights of one save")
        )
    if extra := sorted(numbers - wanted):
        what = f"{told}, and the weights have the layers {shorten([str(number) for number in extra])} too"
        problems.append(Problem(_CONFIG, what, _RESAVE))
    return problems


def _not_merged(tensors: Mapping[str, Tensor]) -> list[Problem]:
    found = [name for name in tensors if "lora_" in name or name.startswith("base_model.")]
    if not found:
        return []
    what = f"hold an adapter that was not merged: {shorten(found)}"
    return [Problem("*.safetensors", what, "merge it (peft's merge_and_unload) and save the model again")]


def _packing(
    tensors: Mapping[str, Tensor], packed: Mapping[str, PackedLayer], quantisation: Quantisation | None
) -> list[Problem]:
    files = "*.safetensors"
    if quantisation is None:
        found = [name for name in tensors if name.endswith((".qweight", ".weight_packed"))]
        if not found:
            return []
        what = f"has no quantization_config, and the weights are packed: {shorten(found)}"
        return [Problem(_CONFIG, what, "take the config.json that was saved with these weights")]
    problems = []
    if faults := [f"{layer.name}: {fault}" for layer in packed.values() for fault in layer.faults]:
        told = f"{quantisation.method}, {quantisation.bits} bits"
        what = f"do not agree with quantization_config ({told}): {shorten(faults)}"
        problems.append(Problem(files, what, _RESAVE))
    named = set(quantisation.left_whole)
    unpacked = [
        name
        for name in tensors
        if (match := _LAYER.fullmatch(name))
        and match[3].endswith("_proj.weight")
        and (layer := name.removesuffix(".weight")) not in packed
        and layer not in named
    ]
    if len(unpacked) * len(named) > _MOST_COMPARED:
        what = f"has {len(named):,} patterns of layers that are not packed, and {len(unpacked):,} layers are not"
        problems.append(Problem(_CONFIG, what, "name the layers by fewer patterns"))
    elif whole := [name for name in unpacked if not quantisation.leaves(name.removesuffix(".weight"))]:
        what = f"says {quantisation.method}, and these layers are not packed: {shorten(whole)}"
        problems.append(Problem(_CONFIG, what, "list them in modules_to_not_convert (or ignore), or quantise them"))
    return problems


def _evenness(architecture: Architecture, tensors: Mapping[str, Tensor]) -> list[Problem]:
    """For an architecture that kit does not know: every layer should have the parts that most have."""
    layers: dict[int, set[str]] = {}
    for name in tensors:
        if match := _LAYER.fullmatch(name):
            layers.setdefault(int(match[2]), set()).add(match[3])
    note = f"kit does not know {architecture.name} in detail: names and shapes of its tensors were not checked"
    problems = [warning(_CONFIG, note, "see that it is among vLLM's supported models")]
    if not layers:
        return problems
    usual = set(Counter(frozenset(parts) for parts in layers.values()).most_common(1)[0][0])
    odd = [number for number, parts in sorted(layers.items()) if not usual <= parts]
    if odd:
        told = [f"layer {number} lacks {shorten(sorted(usual - layers[number]))}" for number in odd[:1]]
        told += [f"layer {number}" for number in odd[1:]]
        problems.append(warning("*.safetensors", f"have uneven layers: {shorten(told)}", "see whether they are whole"))
    return problems


def _unknown(architecture: Architecture, tensors: Mapping[str, Tensor], known: set[str]) -> list[Problem]:
    rest = [name for name in tensors if name not in known and not name.endswith(_HARMLESS)]
    if architecture.tied and HEAD in rest:
        rest.remove(HEAD)
        what = f"hold {HEAD}, and config.json ties the head to the embeddings: engines pass over it"
        problem = warning("*.safetensors", what, "where the head was trained, set tie_word_embeddings to false")
        return [problem, *_unused(architecture, rest)]
    return _unused(architecture, rest)


def _unused(architecture: Architecture, rest: list[str]) -> list[Problem]:
    if not rest:
        return []
    what = f"hold tensors that {architecture.name} has no use for: {shorten(sorted(rest))}"
    return [warning("*.safetensors", what, "see whether config.json is of this model")]
