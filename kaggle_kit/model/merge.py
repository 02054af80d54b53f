"""Whether a LoRA adapter belongs to a base: checked by shapes and vocabulary, before anything is loaded.

The name of the base that peft writes into an adapter is a hint: folders are renamed, and a QLoRA adapter names the
4-bit copy that it was trained on. What must fit is checked instead: every layer that the adapter changes is in the base
and has its shape, the layers named as targets are there, whole tensors that it replaces have the base's shape, and a
tokenizer that lies beside the adapter is the base's.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError
from kaggle_kit.files import sha256_file
from kaggle_kit.model.headers import read_header
from kaggle_kit.outside import shown
from kaggle_kit.runtime.checkpoint import read_table
from kaggle_kit.runtime.guard import GuardedTokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kaggle_kit.model.inspect import Inspection

    Shape = tuple[int, ...]

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_PART = re.compile(r"(.+?)\.lora_(A|B|embedding_A|embedding_B|magnitude_vector)(?:\.default)?(?:\.weight)?")
_LISTED = 5
_MOST_RANK = 100_000
_LIBRARIES = ("transformers", "peft", "unsloth")
"""Whose modules peft writes into `auto_mapping` for a model that one of them built."""


@dataclass(frozen=True)
class Adapter:
    """An adapter that fits: the hash of its files, the layers it changes, its rank, and notes for the author."""

    path: Path
    sha256: str
    layers: int
    rank: int
    targets: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Its part of a manifest."""
        return {
            "name": self.path.resolve().name,
            "sha256": self.sha256,
            "layers": self.layers,
            "rank": self.rank,
            "target_modules": list(self.targets),
        }


@dataclass
class _Content:
    """The shapes in an adapter's file: by layer and part, and of tensors that replace the base's."""

    layers: dict[str, dict[str, Shape]] = field(default_factory=dict)
    whole: dict[str, Shape] = field(default_factory=dict)


def check_adapter(path: Path, base: Inspection, *, tokenizer: bool = True) -> Adapter:
    """The adapter in the folder `path`, which fits `base`.

    `tokenizer`: whether one beside it is compared, which takes the library tokenizers. Raises ModelError for an adapter
    that is not a LoRA adapter, is not whole, or does not fit, with what does not.
    """
    config = _read_config(path)
    content = _read_content(path / WEIGHTS)
    shapes = {name: tensor.shape for name, tensor in base.weights.tensors.items()}
    problems = _layer_problems(content, config, shapes)
    problems += _target_problems(content, config)
    problems += _whole_problems(content, shapes, base)
    problems += _tokenizer_problems(path, base.folder.root) if tokenizer else []
    if problems:
        more = f"\n  … and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        listed = "\n  ".join(problems[:_LISTED])
        name = config.get("base_model_name_or_path")
        hint = f"The adapter says that its base is {shown(name)}; " if name else ""
        raise ModelError(
            f"the adapter {path} does not fit the base {base.folder.root}:\n  {listed}{more}\n"
            f"{hint}name the model that the adapter was trained on"
        )

    hashes = "".join(sha256_file(path / name) for name in (CONFIG, WEIGHTS))
    return Adapter(
        path,
        hashlib.sha256(hashes.encode()).hexdigest(),
        len(content.layers),
        int(config["r"]),
        tuple(sorted({name.rpartition(".")[2] for name in content.layers})),
        _notes(config, base),
    )


def _read_config(path: Path) -> dict[str, Any]:
    if not (path / WEIGHTS).is_file():
        pickle = (path / "adapter_model.bin").is_file()
        why = "adapter_model.bin is a pickle, which kit does not load" if pickle else "it has no weights"
        raise ModelError(f"{path / WEIGHTS} is missing ({why}): save the adapter with peft's save_pretrained")
    config = read_table(path / CONFIG, "an adapter's")
    kind, rank = config.get("peft_type"), config.get("r")
    if type(rank) is not int or not 0 < rank <= _MOST_RANK:
        raise ModelError(
            f"{path / CONFIG} cannot be read as an adapter's (its rank r is {shown(rank)}); save the adapter again"
        )
    if kind != "LORA":
        raise ModelError(
            f"{path} is an adapter of the kind {shown(kind)}; kit merges LORA (QLoRA, DoRA and rsLoRA are such)"
        )
    if code := _code_named(config):
        raise ModelError(f"{path / CONFIG}: {code}; take the adapter from a source that you trust, or remove that key")
    return config


def _code_named(config: Mapping[str, Any]) -> str | None:
    """The key of an adapter by which peft would import a module that it names, or read a file from elsewhere."""
    if config.get("megatron_config") is not None:
        return f"'megatron_config' makes peft import the module {shown(config.get('megatron_core'))}"
    mapping = config.get("auto_mapping")
    library = mapping.get("parent_library") if isinstance(mapping, dict) else mapping
    if library is not None and not (isinstance(library, str) and library.split(".")[0] in _LIBRARIES):
        return f"'auto_mapping' names {shown(library)}, a module that is none of transformers'"
    if config.get("layer_replication") is not None:
        return "'layer_replication' builds layers that the base does not have"
    for key in ("corda_config", "eva_config", "loftq_config"):
        settings = config.get(key)
        if isinstance(settings, dict) and any(isinstance(value, str) and "/" in value for value in settings.values()):
            return f"{key!r} names a file, which peft would read"
    return None


def _read_content(path: Path) -> _Content:
    content = _Content()
    for key, tensor in read_header(path).tensors.items():
        name = key.removeprefix(_PREFIX)
        if match := _PART.fullmatch(name):
            content.layers.setdefault(match[1], {})[match[2].removeprefix("embedding_")] = tensor.shape
        else:
            content.whole[name.replace(".base_layer", "").replace(".modules_to_save.default", "")] = tensor.shape
    if not content.layers:
        raise ModelError(f"{path} holds no LoRA weights; save the adapter again with peft's save_pretrained")
    return content


def _layer_problems(content: _Content, config: Mapping[str, Any], shapes: Mapping[str, Shape]) -> list[str]:
    problems = []
    transposed = bool(config.get("fan_in_fan_out"))
    for name, parts in sorted(content.layers.items()):
        expected = shapes.get(f"{name}.weight")
        if expected is None:
            problems.append(f"{name}: the base has no such layer")
        elif "A" not in parts or "B" not in parts:
            problems.append(f"{name}: the adapter has only {' and '.join(sorted(parts))} of A and B")
        elif len(parts["A"]) != 2 or len(parts["B"]) != 2:
            problems.append(f"{name}: A {parts['A']} and B {parts['B']} are not both of two dimensions")
        elif parts["A"][0] != parts["B"][1]:
            problems.append(f"{name}: A {parts['A']} and B {parts['B']} do not belong together")
        else:
            # Linear: A (rank, inputs), B (outputs, rank). Embedding: A (rank, words), B (width, rank).
            shape = (parts["B"][0], parts["A"][1])
            embedding = name.rpartition(".")[2].startswith("embed") or transposed
            if (tuple(reversed(shape)) if embedding else shape) != expected:
                problems.append(f"{name}: the adapter is for a weight of {shape}, the base has {expected}")
    return problems


def _target_problems(content: _Content, config: Mapping[str, Any]) -> list[str]:
    targets = config.get("target_modules")
    if not isinstance(targets, list):  # a pattern, or "all-linear"
        return []
    parts = [name.split(".") for name in content.layers]
    ends = {".".join(part[first:]) for part in parts for first in range(len(part))}
    return [
        f"{CONFIG} names the target {shown(target)}, and no layer of the adapter's file is one"
        for target in targets
        if not isinstance(target, str) or target not in ends
    ]


def _whole_problems(content: _Content, shapes: Mapping[str, Shape], base: Inspection) -> list[str]:
    problems = []
    for name, shape in sorted(content.whole.items()):
        expected = shapes.get(name)
        if expected is None and name == "lm_head.weight" and base.config.get("tie_word_embeddings"):
            problems.append("lm_head.weight: the adapter replaces it, and the base ties it to its embeddings")
        elif expected is None:
            problems.append(f"{name}: the adapter replaces it, and the base has none")
        elif expected != shape:
            words = ": another vocabulary" if name.startswith(("lm_head", "model.embed")) else ""
            problems.append(f"{name}: the adapter's is {shape}, the base's {expected}{words}")
    return problems


def _tokenizer_problems(path: Path, base: Path) -> list[str]:
    """A tokenizer beside the adapter must give the base's tokens: it may have been trained with more of them."""
    own, theirs = path / "tokenizer.json", base / "tokenizer.json"
    if not own.is_file() or not theirs.is_file():
        return []
    try:
        count, first = GuardedTokenizer(path).differences(theirs)
    except ModelError as error:
        return [f"tokenizer.json beside the adapter cannot be read: {error}"]
    if not count:
        return []
    named = ", ".join(map(repr, first))
    return [f"tokenizer.json: {count:,} tokens are not those of the base's vocabulary ({named})"]


def _notes(config: Mapping[str, Any], base: Inspection) -> tuple[str, ...]:
    name = str(config.get("base_model_name_or_path") or "")
    if not name or name.rstrip("/").rpartition("/")[2] == base.folder.root.resolve().name:
        return ()
    return (f"the adapter names {shown(name)} as its base; every shape fits {base.folder.root}, which is used",)
