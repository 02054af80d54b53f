"""A plugin that vLLM loads from the kit's own wheel: it selects 4-bit kernels that vLLM has and does not offer.

The plain AWQ kernel: from 0.24 on an AWQ layer takes it (dequantise, then cuBLAS) only if Marlin is not supported
(model_executor/layers/quantization/auto_awq.py, read in 0.24 to 0.32).

Marlin with int8 activations for weights with zero points, as AWQ has them: the kernels are compiled and tested there,
but since 0.24 two assertions that are to keep 8-bit weights away (kernels/linear/mixed_precision/marlin.py and
layers/quantization/utils/marlin_utils.py, read in 0.25.1 and 0.32) let weights without zero points pass only.

The plugin group `vllm.general_plugins` is loaded in every process of an engine.
"""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

VARIABLE = "KIT_AWQ_KERNEL"
"""Set to `plain` in the worker's environment; anything else leaves vLLM's own choice."""
INPUT_TYPE = "VLLM_MARLIN_INPUT_DTYPE"
"""vLLM's own variable: `int8` gives Marlin activations of 8 bits."""


def register() -> None:
    """Change what the variables ask for.

    Raises ImportError or AttributeError, which end the engine's start, if vLLM no longer has what is changed: a
    kernel that was asked for is never silently another.
    """
    if os.environ.get(VARIABLE) == "plain":
        _select_plain()
    if os.environ.get(INPUT_TYPE) == "int8":
        _admit_zero_points()


def _select_plain() -> None:
    """Let AWQ layers believe that Marlin is not supported."""
    from vllm.model_executor.layers.quantization import auto_awq

    if not hasattr(auto_awq, "check_marlin_supported"):
        raise AttributeError(f"this vLLM does not ask whether Marlin is supported: leave {VARIABLE} out")
    auto_awq.check_marlin_supported = lambda *_, **__: False


def _admit_zero_points() -> None:
    """Let 4-bit weights with zero points pass for those without when Marlin's assertions compare them."""
    from vllm.model_executor.kernels.linear.mixed_precision.marlin import MarlinLinearKernel
    from vllm.scalar_type import scalar_types

    prepare = MarlinLinearKernel.process_weights_after_loading
    admitted = _equal_to(scalar_types.uint4, scalar_types.uint4b8)

    def process_weights_after_loading(kernel: Any, layer: Any) -> None:
        eight_bits = kernel.config.act_type is not None and kernel.config.act_type.itemsize == 1
        if eight_bits and kernel.config.weight_type == scalar_types.uint4:
            kernel.config.weight_type = admitted
        prepare(kernel, layer)

    MarlinLinearKernel.process_weights_after_loading = process_weights_after_loading


def _equal_to(kind: Any, other: Any) -> Any:
    """The number type `kind`, which says of itself that it equals `other` too."""

    class Tolerant(type(kind)):  # type: ignore[misc]
        def __eq__(self, value: object) -> bool:
            return value is self or value in {kind, other}

        __hash__ = type(kind).__hash__

    return Tolerant(*(getattr(kind, part.name) for part in fields(kind)))
