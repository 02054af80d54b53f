"""A checkpoint as a quantiser reads it: the weights linked; for transformers 4 its config.json in the old words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError
from kaggle_kit.files import write_atomic
from kaggle_kit.runtime.checkpoint import read_config

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def make_view(model: Path, folder: Path, *, old: bool = True) -> Path:
    """Make `folder` the view of `model`: links to the weights and their index, and nothing that could run.

    `old`: for transformers 4. Raises ModelError for a config.json that the old words cannot say.
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
    found = {key: value for key, value in config.items() if key != "dtype"}
    found.setdefault("torch_dtype", config.get("dtype"))
    rope = found.pop("rope_parameters", None)
    if rope is None:
        return found
    if not isinstance(rope, dict) or any(isinstance(value, dict) for value in rope.values()):
        raise ModelError(f"{where}: rope_parameters by kind of layer cannot be said to AutoAWQ's transformers 4.51.3")
    rope = dict(rope)
    if (theta := rope.pop("rope_theta", None)) is not None:
        found.setdefault("rope_theta", theta)
    if (share := rope.pop("partial_rotary_factor", None)) is not None:
        found.setdefault("partial_rotary_factor", share)
    if rope.get("rope_type", "default") != "default":
        found.setdefault("rope_scaling", rope)
    return found
