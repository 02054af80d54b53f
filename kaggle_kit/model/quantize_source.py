"""What can be quantised, before anything is computed, and the view of it that a quantiser reads.

A sound model in full precision, of sizes that the quantisers and the engine take, on a machine with the memory."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError
from kaggle_kit.files import write_atomic
from kaggle_kit.model.inspect import Inspection, inspect_model
from kaggle_kit.model.padding import Padding, refuse_unknown_layers
from kaggle_kit.runtime.card_memory import INT8_STEP, split_obstacle
from kaggle_kit.runtime.checkpoint import read_config
from kaggle_kit.runtime.machine import find_cards
from kaggle_kit.runtime.quantisation import Quantisation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


_LISTED = 5
_COMPUTE = {"float32": 4, "auto": 2}
_SPARE = 1.3
"""Memory for each byte of weights: one layer's activations and the quantiser's copies of it come on top."""


def sound_source(path: Path, *, tokenizer: bool = True) -> Inspection:
    """What is to be quantised, by its headers. Raises ModelError if it cannot be as it is, or is quantised already.

    Without `tokenizer` its tokenizer is not looked at, which takes the package tokenizers.
    """
    source = inspect_model(path, tokenizer=tokenizer)
    if source.errors:
        listed = "\n  ".join(map(str, source.errors[:_LISTED]))
        raise ModelError(f"{path} cannot be quantised as it is:\n  {listed}")
    if source.quantisation is not None or source.packed:
        method = source.quantisation.method if source.quantisation else "4-bit"
        raise ModelError(f"{path} is quantised already ({method}); name the model in full precision")
    if source.architecture and source.architecture.score_head:
        raise ModelError(
            f"{path} answers with a head of classes ({source.architecture.name}), and the quantisers load models with "
            f"an LM head alone; score it in full precision, or train the head over a quantised model"
        )
    return source


def refuse_misfit(source: Inspection, groups: int | None) -> None:
    """Raise ModelError if the layers are of a size that no quantiser or engine takes.

    AutoAWQ packs eight outputs together and clips 64 at a time, and groups must fill the inputs; without `groups`
    (w8a8) both must fill the steps of vLLM's kernels.
    """
    for name, tensor in sorted(source.weights.tensors.items()):
        if len(tensor.shape) != 2 or ".layers." not in name or not name.endswith("proj.weight"):
            continue
        outputs, inputs = tensor.shape
        if groups is None:
            if inputs % INT8_STEP or outputs % INT8_STEP:
                sizes = f"{inputs:,} inputs and {outputs:,} outputs"
                raise ModelError(
                    f"{name} has {sizes}; vLLM's int8 kernels take multiples of {INT8_STEP}: take --scheme w4a16"
                )
            continue
        if inputs % groups:
            better = next((size for size in (64, 32) if inputs % size == 0), "of a divisor")
            raise ModelError(
                f"{name} has {inputs:,} inputs, which groups of {groups} do not fill; take --group-size {better}"
            )
        if outputs % 64:
            raise ModelError(f"{name} has {outputs:,} outputs; AutoAWQ takes multiples of 64")


def plan_padding(source: Inspection, groups: int | None, split: int) -> Padding | None:
    """The zeros that the MLPs need so that `split` cards can share the quantised model; None if they need none.

    Without `groups` (w8a8) each card's share fills the steps of vLLM's fastest kernels. Raises ModelError if padding
    does not help, or kit does not know the layers.
    """
    shape = source.architecture
    if split == 1 or shape is None:
        return None
    step = split * (groups or INT8_STEP)
    wanted = math.ceil(shape.intermediate / step) * step
    packed = Quantisation("awq", 4, groups, zero_points=True) if groups else None
    subject = replace(source.checkpoint(), architecture=replace(shape, intermediate=wanted), quantisation=packed)
    if reason := split_obstacle(subject, split):
        raise ModelError(f"{source.folder.root} cannot be split over {split} cards: {reason}; take another --split")
    if wanted == shape.intermediate:
        return None
    refuse_unknown_layers(source, shape.intermediate)
    return Padding(shape.intermediate, wanted, split, groups)


def compute_type(numbers: int, *, where: Path) -> str:
    """What a model of so many numbers is computed in: float32, the most exact, if the memory holds the model so;
    else the checkpoint's own type ("auto"), or float16 if a card here has no bfloat16 (below compute capability
    8.0: NVIDIA). Raises ModelError if the memory holds neither; `where` is the model's folder.
    """
    import psutil

    free = psutil.virtual_memory().available
    for name, size in _COMPUTE.items():
        if numbers * size * _SPARE <= free:
            half = name == "auto" and any(card.capability < (8, 0) for card in find_cards())
            return "float16" if half else name
    needed = numbers * _COMPUTE["auto"] * _SPARE
    raise ModelError(
        f"{where} needs about {needed / 1e9:.0f} GB of memory to be quantised, and {free / 1e9:.0f} GB "
        f"are free; quantise it on a larger machine"
    )


def make_view(model: Path, folder: Path, *, old: bool = True) -> Path:
    """Make `folder` the view of `model`: links to the weights and their index, and nothing that could run.

    `old`: for transformers 4. Raises ModelError for a config.json that the old names cannot express.
    """
    folder.mkdir(parents=True)
    config = read_config(model)
    config.pop("auto_map", None)
    if old:
        config = old_words(config, where=model / "config.json")
    write_atomic(folder / "config.json", json.dumps(config, indent=2) + "\n")
    for path in sorted([*model.glob("*.safetensors"), *model.glob("*.safetensors.index.json")]):
        if not path.name.startswith("adapter_model"):
            (folder / path.name).symlink_to(path.resolve())
    return folder


def old_words(config: Mapping[str, Any], *, where: Path) -> dict[str, Any]:
    """`config` with what transformers 5 renamed under its old names too.

    `dtype` was `torch_dtype`; `rope_parameters` (with `rope_theta` in it) was `rope_theta` and `rope_scaling`: an old
    reader takes no notice of it and silently goes on with a theta of 10,000 (transformers, migration guide of v5).
    """
    renamed = {key: value for key, value in config.items() if key != "dtype"}
    renamed.setdefault("torch_dtype", config.get("dtype"))
    rope = renamed.pop("rope_parameters", None)
    if rope is None:
        return renamed
    if not isinstance(rope, dict) or any(isinstance(value, dict) for value in rope.values()):
        raise ModelError(
            f"{where}: rope_parameters by kind of layer cannot be written for AutoAWQ's transformers 4.51.3"
        )
    rope = dict(rope)
    if (theta := rope.pop("rope_theta", None)) is not None:
        renamed.setdefault("rope_theta", theta)
    if (share := rope.pop("partial_rotary_factor", None)) is not None:
        renamed.setdefault("partial_rotary_factor", share)
    if rope.get("rope_type", "default") != "default":
        renamed.setdefault("rope_scaling", rope)
    return renamed
