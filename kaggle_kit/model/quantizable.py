"""What can be quantised, before anything is computed: a sound model in full precision, of sizes that the quantisers and
the engine take, on a machine with the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kaggle_kit.errors import ModelError
from kaggle_kit.model.inspect import Inspection, inspect_model
from kaggle_kit.runtime.gpus import find_gpus

if TYPE_CHECKING:
    from pathlib import Path

_STEP = 16
"""vLLM's CUTLASS kernels take int8 layers whose inputs and outputs are multiples of this (0.32, _custom_ops.py)."""
_LISTED = 5
_COMPUTE = {"float32": 4, "auto": 2}
_SPARE = 1.3
"""Memory for each byte of weights: one layer's activations and the quantiser's copies of it come on top."""


def sound_source(path: Path, *, tokenizer: bool = True) -> Inspection:
    """What is to be quantised, by its headers. Raises ModelError where it cannot be as it is, or is quantised already.

    Without `tokenizer` its tokenizer is not looked at, which takes the package tokenizers.
    """
    source = inspect_model(path, tokenizer=tokenizer)
    if source.errors:
        listed = "\n  ".join(map(str, source.errors[:_LISTED]))
        raise ModelError(f"{path} cannot be quantised as it is:\n  {listed}")
    if source.quantisation is not None or source.packed:
        method = source.quantisation.method if source.quantisation else "4-bit"
        raise ModelError(f"{path} is quantised already ({method}); name the model in full precision")
    return source


def refuse_misfit(source: Inspection, groups: int | None) -> None:
    """Raise ModelError where the layers are of a size that no quantiser or engine takes.

    AutoAWQ packs eight outputs together and clips 64 at a time, and groups must fill the inputs; without `groups`
    (w8a8) both must fill the steps of vLLM's kernels.
    """
    for name, tensor in sorted(source.weights.tensors.items()):
        if len(tensor.shape) != 2 or ".layers." not in name or not name.endswith("proj.weight"):
            continue
        outputs, inputs = tensor.shape
        if groups is None:
            if inputs % _STEP or outputs % _STEP:
                told = f"{name} has {inputs:,} inputs and {outputs:,} outputs"
                raise ModelError(f"{told}; vLLM's int8 kernels take multiples of {_STEP}: take --scheme w4a16")
            continue
        if inputs % groups:
            raise ModelError(
                f"{name} has {inputs:,} inputs, which groups of {groups} do not fill; "
                f"take --group-size {next((size for size in (64, 32) if inputs % size == 0), 'of a divisor')}"
            )
        if outputs % 64:
            raise ModelError(f"{name} has {outputs:,} outputs; AutoAWQ takes multiples of 64")


def compute_type(numbers: int, *, where: Path) -> str:
    """What a model of so many numbers is computed in: float32, the most exact, where the memory holds the model so;
    else the checkpoint's own type ("auto"), or float16 where a card here has no bfloat16 (below compute capability
    8.0: NVIDIA). Raises ModelError where the memory holds neither; `where` is the model's folder.
    """
    import psutil

    free = psutil.virtual_memory().available
    for name, size in _COMPUTE.items():
        if numbers * size * _SPARE <= free:
            half = name == "auto" and any(gpu.capability < (8, 0) for gpu in find_gpus())
            return "float16" if half else name
    needed = numbers * _COMPUTE["auto"] * _SPARE
    raise ModelError(
        f"{where} needs about {needed / 1e9:.0f} GB of memory to be quantised, and {free / 1e9:.0f} GB "
        f"are free; quantise it on a larger machine"
    )
