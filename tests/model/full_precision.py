"""Checkpoints in full precision and adapters for them, made without torch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from checkpoints import edit_json, edit_tensors
from safetensors.numpy import load_file, save_file

FULL = Path(__file__).parents[1] / "demo" / "full"
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RANK = 4


def full_demo(folder: Path) -> Path:
    """The demo model as it was trained, in fp16, without its manifest: a test may change its files."""
    ignored = shutil.ignore_patterns("manifest.json")
    return Path(shutil.copytree(FULL, folder, ignore=ignored, dirs_exist_ok=True))


def narrowed(folder: Path, inner: int) -> Path:
    """The same with so many of the inner channels of its MLPs."""
    full_demo(folder)
    edit_json(folder / "config.json", intermediate_size=inner)

    def cut(tensors):
        for name, (dtype, shape, _) in list(tensors.items()):
            if ".mlp." in name:
                sizes = [inner if length == 512 else length for length in shape]
                tensors[name] = (dtype, sizes, bytes(2 * sizes[0] * sizes[1]))

    edit_tensors(folder, cut)
    return folder


def make_adapter(folder: Path, base: Path, *, change=None, **config) -> Path:
    """An adapter as peft saves one, for every linear layer of `base`; `change` edits its tensors."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    tensors = {}
    for name, weight in load_file(base / "model.safetensors").items():
        layer = name.removesuffix(".weight")
        if layer.rpartition(".")[2] in TARGETS:
            key = f"base_model.model.{layer}"
            tensors[f"{key}.lora_A.weight"] = rng.normal(0, 0.02, (RANK, weight.shape[1])).astype(np.float32)
            tensors[f"{key}.lora_B.weight"] = rng.normal(0, 0.02, (weight.shape[0], RANK)).astype(np.float32)
    if change:
        change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    told = {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "target_modules": list(TARGETS)} | config
    (folder / "adapter_config.json").write_text(json.dumps(told))
    return folder
