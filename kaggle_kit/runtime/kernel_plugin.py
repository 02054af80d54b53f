"""A plugin that vLLM loads from the kit's own wheel: it selects the plain AWQ kernel where vLLM has no flag for it.

From 0.24 on an AWQ layer takes the plain kernel (dequantise, then cuBLAS) only where Marlin is not supported
(model_executor/layers/quantization/auto_awq.py, read in 0.24 to 0.32). The plugin group `vllm.general_plugins` is
loaded in every process of an engine.
"""

from __future__ import annotations

import os

VARIABLE = "KIT_AWQ_KERNEL"
"""Set to `plain` in the worker's environment; anything else leaves vLLM's own choice."""


def register() -> None:
    """Let AWQ layers believe that Marlin is not supported, if `VARIABLE` asks for the plain kernel.

    Raises ImportError or AttributeError, which end the engine's start, where vLLM no longer has what is changed: a
    kernel that was asked for is never silently another.
    """
    if os.environ.get(VARIABLE) != "plain":
        return
    from vllm.model_executor.layers.quantization import auto_awq

    if not hasattr(auto_awq, "check_marlin_supported"):
        raise AttributeError(f"this vLLM does not ask whether Marlin is supported: leave {VARIABLE} out")
    auto_awq.check_marlin_supported = _never


def _never(*_: object, **__: object) -> bool:
    return False
