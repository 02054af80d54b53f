"""Whether a LoRA adapter belongs to a base: checked by shapes and vocabulary, before anything is loaded.

The name of the base that peft writes into an adapter is a hint: folders are renamed, and a QLoRA adapter names the
4-bit copy that it was trained on. What must fit is checked instead: every layer that the adapter changes is in the base
and has its shape, the base's layers that are named as targets are in the file, whole tensors that it replaces have the
base's shape, and a tokenizer that lies beside the adapter is the base's.

What peft (0.21.2) refuses is refused here, with its reason. What it would pass over without a word is refused too:
names that it does not read, layers that no target names. The answers would not be those of the training.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError
from kaggle_kit.files import sha256_file
from kaggle_kit.model.headers import read_header, shorten
from kaggle_kit.outside import shown
from kaggle_kit.runtime.architecture import HEAD
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
_BIAS = re.compile(r"(.+?)\.lora_B(?:\.default)?\.bias")
_TOKENS = re.compile(r"(.+?)(?:\.token_adapter)?\.trainable_tokens_delta(?:\.default)?")
_PLAIN_NAME = re.compile(r"[\w.]+")
_TRANSPOSED = ("c_attn", "c_fc", "c_proj", "q_attn")
"""Layers that transformers builds as Conv1D (GPT-2 and its kin), whose weights stand as (inputs, outputs)."""
_CLASSIFIERS = ("QUESTION_ANS", "SEQ_CLS", "TOKEN_CLS")
"""Tasks of peft whose answers come from a head of their own."""
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight")
"""How the embeddings of families end whose head has the embeddings' matrix."""
_LISTED = 5
_MOST_RANK = 100_000
_MOST_PARTS = 16
"""Of a layer's name."""
_ALPHA = 8
"""What peft takes for a lora_alpha that is not given."""
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
    unties: bool = False
    """Whether it changes the head or the embeddings of a base that has one matrix for both: merged, it has two."""

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
    """The shapes in an adapter's file: by layer and part, and of tensors that replace the base's.

    `embeddings` are those of the layers that are, `biases` what `lora_bias` trains, `tokens` the rows of the embeddings
    that are trained one by one, by module.
    """

    layers: dict[str, dict[str, Shape]] = field(default_factory=dict)
    embeddings: set[str] = field(default_factory=set)
    biases: dict[str, Shape] = field(default_factory=dict)
    tokens: dict[str, Shape] = field(default_factory=dict)
    whole: dict[str, Shape] = field(default_factory=dict)


def check_adapter(path: Path, base: Inspection, *, tokenizer: bool = True) -> Adapter:
    """The adapter in the folder `path`, which fits `base`.

    `tokenizer`: whether one beside it is compared, which takes the library tokenizers. Raises ModelError for an adapter
    that is not a LoRA adapter, is not whole, or does not fit, with what does not.
    """
    config = _read_config(path)
    content = _read_content(path / WEIGHTS)
    shapes = {name: tensor.shape for name, tensor in base.weights.tensors.items()}
    tied = _tied_embeddings(shapes)
    if tied:
        shapes[HEAD] = shapes[tied]
    ends = {HEAD.removesuffix(".weight"), tied.removesuffix(".weight")} if tied else set()
    changed = {name.removesuffix(".weight") for name in (*content.layers, *content.whole)} & ends

    _refuse_classifier(path, content, config, shapes)
    own = _wrapping_problems(content, shapes) + _bias_problems(content, shapes) + _rank_problems(content, config)
    own += _target_problems(content, config, shapes) + _token_problems(content, config, shapes)
    own += _tie_problems(content, config) if changed else []
    if own:
        raise ModelError(f"the adapter {path} cannot be merged into {base.folder.root}:\n  {_listed(own)}")
    problems = _layer_problems(content, shapes) + _whole_problems(content, shapes)
    problems += _tokenizer_problems(path, base.folder.root) if tokenizer else []
    if problems:
        name = config.get("base_model_name_or_path")
        hint = f"The adapter says that its base is {shown(name)}; " if name else ""
        raise ModelError(
            f"the adapter {path} does not fit the base {base.folder.root}:\n  {_listed(problems)}\n"
            f"{hint}name the model that the adapter was trained on"
        )

    hashes = "".join(sha256_file(path / name) for name in (CONFIG, WEIGHTS))
    return Adapter(
        path,
        hashlib.sha256(hashes.encode()).hexdigest(),
        len(content.layers),
        int(config["r"]),
        tuple(sorted({name.rpartition(".")[2] for name in content.layers})),
        _notes(config, base, unties=bool(changed)),
        bool(changed),
    )


def _listed(problems: list[str]) -> str:
    more = f"\n  … and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
    return "\n  ".join(problems[:_LISTED]) + more


def _tied_embeddings(shapes: Mapping[str, Shape]) -> str:
    """The tensor of the embeddings if it serves the head too; empty if the head has one of its own."""
    if HEAD in shapes:
        return ""
    return next((name for name in sorted(shapes) if name.endswith(_EMBEDDINGS) and len(shapes[name]) == 2), "")


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
    if config.get("alora_invocation_tokens") is not None:
        raise ModelError(
            f"{path} is an aLoRA (alora_invocation_tokens), which changes the model after those tokens alone; peft: "
            f"aLoRA does not support safe merging. Train it as plain LoRA"
        )
    if not isinstance(alpha := config.get("lora_alpha", _ALPHA), int | float) or isinstance(alpha, bool):
        raise ModelError(f"{path / CONFIG}: lora_alpha is {shown(alpha)}, not a number; save the adapter again")
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
    unread = []
    for key, tensor in read_header(path).tensors.items():
        if not key.startswith(_PREFIX):
            unread.append(key)
            continue
        name = key.removeprefix(_PREFIX)
        if match := _PART.fullmatch(name):
            content.layers.setdefault(match[1], {})[match[2].removeprefix("embedding_")] = tensor.shape
            if match[2].startswith("embedding_"):
                content.embeddings.add(match[1])
        elif match := _BIAS.fullmatch(name):
            content.biases[match[1]] = tensor.shape
        elif match := _TOKENS.fullmatch(name):
            content.tokens[match[1]] = tensor.shape
        else:
            for inserted in (".token_adapter", ".base_layer", ".modules_to_save.default"):
                name = name.replace(inserted, "")
            content.whole[name] = tensor.shape

    if unread:
        raise ModelError(
            f"{path} has tensors whose names do not begin with {_PREFIX!r}, and peft passes over them: "
            f"{shorten(unread)}; save the adapter again with peft's save_pretrained"
        )
    if not content.layers:
        raise ModelError(f"{path} holds no LoRA weights; save the adapter again with peft's save_pretrained")
    return content


def _refuse_classifier(path: Path, content: _Content, config: Mapping[str, Any], shapes: Mapping[str, Shape]) -> None:
    """Raise ModelError for an adapter that answers by a head of its own, whatever its base."""
    tops = {name.partition(".")[0] for name in shapes}
    heads = sorted(name for name in content.whole if name not in shapes and name.partition(".")[0] not in tops)
    heads = [name for name in heads if name != HEAD]
    task = config.get("task_type")
    if task not in _CLASSIFIERS and not heads:
        return
    told = " and ".join(filter(None, (f"task_type {task}" if task in _CLASSIFIERS else "", shorten(heads))))
    raise ModelError(
        f"the adapter {path} answers by a head of its own ({told}), and kit merges those for an LM head alone: that is "
        f"the reason, not the base. Merge it into the base's ...ForSequenceClassification form (peft's "
        f"merge_and_unload) and save the model, which kit scores by its head; or train it with task_type CAUSAL_LM"
    )


def _layer_problems(content: _Content, shapes: Mapping[str, Shape]) -> list[str]:
    problems = []
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
            reversed_ = name in content.embeddings or name.rpartition(".")[2] in _TRANSPOSED
            if (tuple(reversed(shape)) if reversed_ else shape) != expected:
                problems.append(f"{name}: the adapter is for a weight of {shape}, the base has {expected}")
    return problems


def _wrapping_problems(content: _Content, shapes: Mapping[str, Shape]) -> list[str]:
    """Layers that the base has by another name: torch.compile, a data-parallel or a multimodal model lies around it."""
    tails = {_tail(name): name.removesuffix(".weight") for name in shapes}
    wrapped = "the adapter was saved from a wrapped model, and peft passes over such names"
    return [
        f"{name}: the base calls this layer {own}; {wrapped}: save it from the model itself"
        for name in sorted(content.layers)
        if f"{name}.weight" not in shapes and (own := tails.get(_tail(f"{name}.weight")))
    ]


def _tail(name: str) -> str:
    """A tensor's name from its layer's number on, by which it is known under any wrapper."""
    return name[at:] if (at := name.find("layers.")) >= 0 else name


def _bias_problems(content: _Content, shapes: Mapping[str, Shape]) -> list[str]:
    problems = []
    for name, shape in sorted(content.biases.items()):
        expected = shapes.get(f"{name}.bias")
        if expected is None:
            problems.append(f"{name}: peft: impossible to merge LoRA with lora_bias because the base layer has no bias")
        elif expected != shape:
            problems.append(f"{name}: its lora_bias is {shape}, the base's bias {expected}")
    return problems


def _rank_problems(content: _Content, config: Mapping[str, Any]) -> list[str]:
    """peft makes each layer of the rank that the configuration gives, and refuses other shapes in the file."""
    if config.get("target_parameters"):
        return []  # experts share one matrix of all their ranks
    ranks = {name: _ranks(name, config) for name in content.layers}
    return [
        f"{name}: it has the rank {parts['A'][0]}, and {CONFIG} gives {shorten([shown(rank) for rank in ranks[name]])}"
        for name, parts in sorted(content.layers.items())
        if len(parts.get("A", ())) == 2 and parts["A"][0] not in ranks[name]
    ]


def _ranks(name: str, config: Mapping[str, Any]) -> list[Any]:
    """The ranks that a layer may have: one, or several if `rank_pattern` holds patterns, which nobody runs here."""
    patterns = config.get("rank_pattern")
    if not isinstance(patterns, dict):
        return [config["r"]]
    if not all(map(_PLAIN_NAME.fullmatch, patterns)):
        return [config["r"], *patterns.values()]
    ends = _ends(name)
    return [next((rank for key, rank in patterns.items() if key in ends), config["r"])]


def _target_problems(content: _Content, config: Mapping[str, Any], shapes: Mapping[str, Shape]) -> list[str]:
    """The targets that are listed must be the file's layers. A target that the base does not have is no fault: lists
    for several architectures are usual, and peft passes over such names."""
    targets = config.get("target_modules")
    if not isinstance(targets, list):  # a pattern, or "all-linear"
        return []
    if wrong := [target for target in targets if not isinstance(target, str)]:
        return [f"{CONFIG} names the target {shown(wrong[0])}, which is not a text"]
    if config.get("target_parameters"):
        return []
    if not targets:
        return [f"peft: no `target_modules` passed ({CONFIG} lists none)"]

    named = set(targets)
    ours = {end for name in content.layers for end in _ends(name) if end in named}
    theirs = {end for name in shapes for end in _ends(name.removesuffix(".weight")) if end in named}
    excluded = config.get("exclude_modules")
    left_out = excluded if isinstance(excluded, list) else targets if excluded else []
    problems = [
        f"{CONFIG} names the target {shown(target)}, which the base has, and no layer of the adapter's file is one"
        for target in targets
        if target in theirs - ours and target not in left_out
    ]
    passed_over = sorted(name for name in content.layers if named.isdisjoint(_ends(name)))
    return problems + [f"{name}: {CONFIG} does not name it as a target: peft passes over it" for name in passed_over]


def _ends(name: str) -> list[str]:
    """The names by which a target can mean a layer: `q_proj`, `self_attn.q_proj`, … and all of it."""
    parts = name.rsplit(".", _MOST_PARTS)
    return [".".join(parts[first:]) for first in range(len(parts))]


def _token_problems(content: _Content, config: Mapping[str, Any], shapes: Mapping[str, Shape]) -> list[str]:
    """Rows of the embeddings that were trained one by one: each must be there, and as many as the file holds."""
    told = config.get("trainable_token_indices")
    problems = []
    for name, shape in sorted(content.tokens.items()):
        expected = shapes.get(f"{name}.weight")
        listed = next((told[end] for end in _ends(name) if end in told), None) if isinstance(told, dict) else told
        if expected is None or len(expected) != 2:
            problems.append(f"{name}: the adapter trains its tokens, and the base has no such embeddings")
        elif not isinstance(listed, list) or len(shape) != 2 or (len(set(map(repr, listed))), expected[1]) != shape:
            problems.append(f"{name}: the adapter's tokens are {shape}, and {CONFIG} and base say {shown(listed)}")
        elif any(type(token) is not int or not 0 <= token < expected[0] for token in listed):
            problems.append(f"{name}: the adapter trains the tokens {shown(listed)}, the base has {expected[0]:,} rows")
    if told and not content.tokens:
        problems.append(f"{CONFIG} says trainable_token_indices, and the adapter's file holds no such tokens")
    return problems


def _tie_problems(content: _Content, config: Mapping[str, Any]) -> list[str]:
    """What kit does not merge if the base has one matrix for head and embeddings, and the adapter changes one."""
    if content.tokens:
        return ["the adapter trains tokens of the tied embeddings one by one, and all of head or embeddings besides"]
    if config.get("ensure_weight_tying") and HEAD.removesuffix(".weight") in content.layers:
        return ["ensure_weight_tying: peft adds LoRA of the tied head and embeddings to their one matrix twice"]
    return []


def _whole_problems(content: _Content, shapes: Mapping[str, Shape]) -> list[str]:
    problems = []
    for name, shape in sorted(content.whole.items()):
        expected = shapes.get(name)
        if expected is None:
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


def _notes(config: Mapping[str, Any], base: Inspection, *, unties: bool) -> tuple[str, ...]:
    notes = []
    name = str(config.get("base_model_name_or_path") or "")
    if name and name.rstrip("/").rpartition("/")[2] != base.folder.root.resolve().name:
        notes.append(f"the adapter names {shown(name)} as its base; every shape fits {base.folder.root}, which is used")
    if unties:
        what = "the adapter changes head or embeddings, which are one matrix in the base"
        notes.append(f"{what}: they are two in the merged model (tie_word_embeddings = false)")
    return tuple(notes)
