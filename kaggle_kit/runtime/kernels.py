"""The 4-bit matrix kernel: the one engine setting that matters if only prompts are read.

Measured over a 34B AWQ model's prompts on an H200 (vLLM 0.25.1): Machete 1, plain AWQ (dequantise, then cuBLAS) 0.80,
Marlin 0.46. Where each can be had was read in vLLM's sources of 0.14.1, 0.17.1, 0.18.1, 0.19.1, 0.21 to 0.25.1 and
0.32 (model_executor/layers/quantization/awq*.py, kernels/linear/), and in PR 1252, 6612, 24722 and 29901.

`marlin-int8` rounds each token's activations to 8 bits and multiplies integers, which a T4 does at twice the rate of
fp16 (NVIDIA's data sheet: 130 TOPS and 65 TFLOPS). It changes the answers by more than rounding: it is taken only if
it is asked for by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from kaggle_kit.errors import UsageError
from kaggle_kit.runtime import kernel_plugin

if TYPE_CHECKING:
    from collections.abc import Mapping

Kernel = Literal["machete", "marlin", "plain", "marlin-int8"]
KERNELS: tuple[Kernel, ...] = get_args(Kernel)
EXACT: tuple[Kernel, ...] = ("machete", "marlin", "plain")
"""Their answers differ by rounding alone."""

_AWQ_MACHETE = (0, 19, 0)
"""From here on an AWQ layer may choose among the mixed-precision kernels (0.18.1 knows Marlin alone)."""
_AWQ_UNIFIED = (0, 24, 0)
"""From here on `auto_awq` takes every spelling of `quantization`, "awq" no longer means the plain kernel, and no flag
selects it: the kit's plugin does (kernel_plugin.py)."""
_TURING_MARLIN = (0, 14, 0)
_AWQ_MARLIN = (0, 5, 4)
_NO_MACHETE = "MacheteLinearKernel,CutlassW4A8LinearKernel"
"""VLLM_DISABLED_KERNELS, with which the next in vLLM's order is Marlin."""
HOPPER_RATES = {"machete": 1.0, "plain": 0.80, "marlin": 0.46}
"""Of Machete's on an H200."""


@dataclass(frozen=True)
class KernelChoice:
    """A kernel, what selects it (arguments of `vllm.LLM`, variables of the worker), and why it was taken."""

    kernel: str
    reason: str
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


def obstacle(kernel: str, *, capability: tuple[int, int], version: tuple[int, int, int], method: str) -> str | None:
    """Why this kernel cannot run, or cannot be selected; None if it can.

    `method` is the checkpoint's quant_method ("awq", "gptq", "compressed-tensors"). Raises UsageError for an unknown
    kernel.
    """
    if kernel not in KERNELS:
        raise UsageError(f"there is no kernel {kernel!r}; use one of {', '.join(KERNELS)}")
    engine = f"vLLM {'.'.join(map(str, version))}"
    card = f"the card is sm_{capability[0]}{capability[1]}"
    checks = {
        "machete": _machete_obstacle,
        "marlin": _marlin_obstacle,
        "plain": _plain_obstacle,
        "marlin-int8": _int8_obstacle,
    }
    return checks[kernel](capability, version, method, engine, card)


def _machete_obstacle(
    capability: tuple[int, int], version: tuple[int, int, int], method: str, engine: str, card: str
) -> str | None:
    if capability != (9, 0):
        return f"Machete runs on sm_90 (Hopper) only, {card}"
    return f"{engine} gives AWQ layers Marlin alone" if method == "awq" and version < _AWQ_MACHETE else None


def _marlin_obstacle(
    capability: tuple[int, int], version: tuple[int, int, int], method: str, engine: str, card: str
) -> str | None:
    if capability < (7, 5):
        return f"Marlin needs sm_75 or newer, {card}"
    if capability < (8, 0) and version < _TURING_MARLIN:
        return f"Marlin needs sm_80 or newer before vLLM 0.14, {card}"
    return f"{engine} has no Marlin for AWQ" if method == "awq" and version < _AWQ_MARLIN else None


def _plain_obstacle(
    capability: tuple[int, int], _version: tuple[int, int, int], method: str, _engine: str, card: str
) -> str | None:
    if method != "awq":
        return f"the plain kernel is for AWQ checkpoints, this one is {method}"
    if capability < (7, 5):
        return f"AWQ needs sm_75 or newer, {card}"
    return None


def _int8_obstacle(
    capability: tuple[int, int], version: tuple[int, int, int], method: str, engine: str, card: str
) -> str | None:
    if version < _AWQ_UNIFIED:
        return f"{engine} is older than 0.24, from which on the kit's plugin admits zero points to it"
    return _marlin_obstacle(capability, version, method, engine, card)


def choose_kernel(
    *,
    capability: tuple[int, int],
    version: tuple[int, int, int],
    method: str,
    rates: Mapping[str, float] | None = None,
    wanted: str | None = None,
) -> KernelChoice:
    """The kernel for a 4-bit checkpoint on a card.

    `wanted` by name wins, then the fastest of the target's measured `rates`, then the stated default: on Hopper the
    order measured on an H200, elsewhere Marlin, since nobody has published a comparison. Unasked, only the kernels of
    `EXACT` are taken. Raises UsageError, with the reasons, if `wanted` or every kernel is impossible.
    """
    obstacles = {name: obstacle(name, capability=capability, version=version, method=method) for name in EXACT}
    if wanted is not None:
        if reason := obstacle(wanted, capability=capability, version=version, method=method):
            raise UsageError(f"the kernel {wanted} cannot be used: {reason}")
        return _selected(wanted, "it was asked for", capability=capability, version=version)

    possible = [name for name in EXACT if obstacles[name] is None]
    if not possible:
        raise UsageError(f"no 4-bit kernel can be used: {'; '.join(filter(None, obstacles.values()))}")

    measured = {name: rate for name, rate in (rates or {}).items() if name in possible}
    if measured:
        best = max(measured, key=lambda name: measured[name])
        fastest_first = sorted(measured.items(), key=lambda item: -item[1])
        listed = ", ".join(f"{name} {rate:,.0f}" for name, rate in fastest_first)
        why = f"measured on this target, in tokens/s: {listed}"
    elif capability == (9, 0):
        best = max(possible, key=lambda name: HOPPER_RATES[name])
        why = "on an H200 Machete 1, plain 0.80, Marlin 0.46 of its rate"
    else:
        best = "marlin" if "marlin" in possible else possible[0]
        why = "the stated default: unmeasured on this card" if len(possible) > 1 else "the only one there is"
    return _selected(best, why, capability=capability, version=version)


def _selected(kernel: str, why: str, *, capability: tuple[int, int], version: tuple[int, int, int]) -> KernelChoice:
    if kernel == "plain" and version >= _AWQ_UNIFIED:
        return KernelChoice(kernel, why, environment={kernel_plugin.VARIABLE: "plain"})
    if kernel == "plain":
        # Where Marlin cannot run, plain is what is left without any flag, and the flag is harmless.
        return KernelChoice(kernel, why, options={"quantization": "awq"})
    environment = {kernel_plugin.INPUT_TYPE: "int8"} if kernel == "marlin-int8" else {}
    if kernel != "machete" and capability == (9, 0) and version >= _AWQ_MACHETE:
        environment["VLLM_DISABLED_KERNELS"] = _NO_MACHETE
    return KernelChoice(kernel, why, environment=environment)
