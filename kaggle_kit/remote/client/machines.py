"""Machines: the accelerator that was asked for, beside what Kaggle says of the one that it gave.

Kaggle takes `NvidiaTeslaT4` and shows it so, as `nvidiaTeslaT4` in a notebook's own metadata, as `GPU T4 x2` in the
editor, or as no more than `Gpu` (pulled metadata of 2025 and 2026). A machine without any has several names.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kaggle_kit.remote.client.notebooks import RemoteNotebook

_NOISE = ("machineshape", "accelerator", "nvidia", "tesla", "gpu")
_SAME = {"t4x2": "t4", "2xt4": "t4", "l4x4": "l4", "4xl4": "l4", "tpu1vmv38": "tpuv38", "tpuvmv38": "tpuv38"}
"""Words for one machine: a T4 comes in pairs, and `NvidiaL4` is four of them (Kaggle's client 2.2.5)."""
_NONE = frozenset({"none", "cpu", "cpuonly"})
_CARD = re.compile(r"[tpvklahbm]\d{1,3}(x\d+|highmem|\d*gb|s)?|rtx\w+|tpuv\w+")


def same_accelerator(asked: str | None, seen: RemoteNotebook) -> bool | None:
    """Whether a notebook ran on the accelerator that was `asked` for, or on none if none was.

    None if Kaggle's words do not tell.
    """
    wanted = word(asked) if is_accelerator(asked) else ""
    there = word(seen.machine_shape)
    if there in _NONE:
        return not wanted
    if there and _CARD.fullmatch(there):
        return there == wanted
    some = "tpu" if seen.tpu or there == "tpu" else "gpu" if seen.gpu or there == "gpu" else ""
    if not some:
        return (not wanted) if seen.gpu is False else None
    # Some accelerator, and no word for which.
    return None if wanted and wanted.startswith("tpu") == (some == "tpu") else False


def is_accelerator(shape: str | None) -> bool:
    """Whether a machine shape that a target names has an accelerator."""
    return bool(shape) and str(shape).startswith(("Nvidia", "Tpu"))


def word(shape: str | None) -> str:
    """What distinguishes a machine, the same for all its spellings: `t4`, `tpuv5e8`; `gpu` and `tpu` for any such."""
    letters = re.sub(r"[^a-z0-9]", "", (shape or "").lower())
    plain = letters
    for noise in _NOISE:
        plain = plain.replace(noise, "")
    return _SAME.get(plain, plain or ("gpu" if letters else ""))
