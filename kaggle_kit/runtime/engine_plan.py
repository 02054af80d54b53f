"""Engine arguments from what is known of the cards and the checkpoint, each with its reason.

Sizes are in bytes, lengths in tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError, UsageError
from kaggle_kit.outside import shown
from kaggle_kit.runtime.checkpoint import length_told, read_config, whole_number, word
from kaggle_kit.runtime.kernels import KernelChoice, choose_kernel
from kaggle_kit.runtime.manifest import MANIFEST, read_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

GIB = 1 << 30
_CONTEXT = int(0.9 * GIB)
"""What one card needs outside vLLM's share, for the CUDA context and NCCL: an estimate (on two T4, runs are reported
with shares of 0.90 to 0.95)."""
_INSIDE = GIB // 2
"""What vLLM's own share holds besides torch's tensors (kernels, NCCL's buffers): an estimate."""
_MOST_SHARE = 0.95
_MOST_OPTION = 1 << 31
_WEIGHT_FILES = (".safetensors", ".bin", ".pt")
BATCHES = (8192, 4096, 2048)
"""Tokens of one step, the most first: on an H200 2,048 and 16,384 gave the same rate."""


NO_HALF = ("gemma2", "gemma3", "gemma3_text", "glm4", "plamo2")
"""Model types that vLLM refuses in float16, since their activations overflow (0.25.1 and 0.32, config/model.py)."""


@dataclass(frozen=True)
class Gpu:
    """One card: its memory as torch sees it, in bytes, and its compute capability."""

    memory: int
    capability: tuple[int, int]


@dataclass(frozen=True)
class ModelFacts:
    """What the plan needs of a checkpoint: sizes in bytes, the rest as config.json counts it.

    `quantisation` is the method of a 4-bit checkpoint ("awq", "gptq", "compressed-tensors"); None for any other.
    """

    weight_bytes: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    most_tokens: int | None
    dtype: str
    quantisation: str | None
    group_size: int | None
    model_type: str = ""


@dataclass(frozen=True)
class EnginePlan:
    """Arguments of `vllm.LLM`, variables of the worker, how many engines run side by side, and why."""

    options: Mapping[str, Any]
    environment: Mapping[str, str]
    replicas: int
    reasons: tuple[str, ...]


def model_facts(model: Path) -> ModelFacts:
    """Read config.json and the sizes in manifest.json.

    Raises ModelError where config.json cannot be read or lacks a size, KitError for the manifest.
    """
    body = read_config(model)
    weights = [entry.size for entry in read_manifest(model / MANIFEST).files if entry.path.endswith(_WEIGHT_FILES)]
    try:
        told = body.get("text_config") or body
        method, group_size = _four_bits(body.get("quantization_config") or {})
        heads, hidden = whole_number(told, "num_attention_heads"), whole_number(told, "hidden_size")
        return ModelFacts(
            weight_bytes=sum(weights),
            layers=whole_number(told, "num_hidden_layers"),
            hidden=hidden,
            intermediate=whole_number(told, "intermediate_size", 4 * hidden),
            heads=heads,
            kv_heads=whole_number(told, "num_key_value_heads", heads),
            head_dim=whole_number(told, "head_dim", hidden // heads),
            vocabulary=whole_number(told, "vocab_size"),
            most_tokens=length_told(told),
            dtype=word(told.get("dtype") or told.get("torch_dtype"), default="float16"),
            quantisation=method,
            group_size=group_size,
            model_type=word(told.get("model_type") or body.get("model_type"), default="None"),
        )
    except (ModelError, TypeError, AttributeError) as error:
        raise ModelError(f"{model / 'config.json'} cannot be read as a model's configuration: {error}") from error


def _four_bits(found: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """The method and group size of weights in 4 bits. compressed-tensors tells them for each group of layers."""
    method = found.get("quant_method")
    if method == "compressed-tensors":
        weights = [group.get("weights") or {} for group in (found.get("config_groups") or {}).values()]
        sizes = [told.get("group_size") for told in weights if told.get("num_bits") == 4]
        return (method, _group(sizes[0])) if sizes else (None, None)
    four = found.get("bits", found.get("w_bit")) == 4
    return (method, _group(found.get("group_size"))) if four and isinstance(method, str) else (None, None)


def _group(size: object) -> int | None:
    return size if type(size) is int and size > 0 else None


def kv_bytes_per_token(model: ModelFacts) -> int:
    """Keys and values of one token over all layers, at two bytes a number: 2 · layers · kv heads · head size · 2."""
    return 2 * model.layers * model.kv_heads * model.head_dim * 2


@dataclass(frozen=True)
class CardMemory:
    """What one card must hold, in bytes; `inside` is what vLLM's share holds besides torch's tensors."""

    weights: float
    keys: float
    activations: float
    logits: float
    inside: float = _INSIDE

    @property
    def total(self) -> int:
        """All of it, rounded up."""
        return math.ceil(self.weights + self.keys + self.activations + self.logits + self.inside)


def card_memory(model: ModelFacts, *, parallel: int, batch: int, sequences: int, longest: int) -> CardMemory:
    """What one of `parallel` cards must hold: weights, keys and values, activations, logits. An estimate from above.

    Keys and values: of one step's tokens and one longest prompt, since a prompt that has been read is done.
    Activations of one step: residual and norm (4 hidden) and the gated MLP (3 intermediate, shared out), two bytes
    each. Logits: of every sequence, float32, three copies (raw, masked, log-softmax). Weights are shared out evenly;
    vLLM splits the embeddings too.

    Seen on an H200 with vLLM 0.25.1 for six models of 7B to 72B: what is neither weights nor keys took up to
    0.45 GiB less than this says, and never more.
    """
    return CardMemory(
        weights=model.weight_bytes / parallel,
        # Key and value heads that are fewer than the cards are kept by several of them.
        keys=kv_bytes_per_token(model) / min(parallel, model.kv_heads) * (batch + longest + 1),
        activations=batch * (4 * model.hidden + 3 * model.intermediate / parallel) * 2,
        logits=sequences * model.vocabulary * 4 * 3,
    )


def bytes_per_card(model: ModelFacts, *, parallel: int, batch: int, sequences: int, longest: int) -> int:
    """The total of `card_memory`."""
    return card_memory(model, parallel=parallel, batch=batch, sequences=sequences, longest=longest).total


def whole_option(given: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """The whole number that the engine's option `key` is. Raises UsageError where it is none, or beyond all sense."""
    value = given.get(key, default)
    if type(value) is not int or not 0 < value <= _MOST_OPTION:
        raise UsageError(f"engine option {key} = {shown(value)}: take a whole number from 1 to {_MOST_OPTION:,}")
    return value


def share_option(given: Mapping[str, Any], default: float) -> float:
    """The engine's option gpu_memory_utilization. Raises UsageError where it is no share."""
    value = given.get("gpu_memory_utilization", default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise UsageError(f"engine option gpu_memory_utilization = {shown(value)}: take a share above 0, up to 1")
    return float(value)


def memory_share(gpu: Gpu) -> float:
    """The share of a card's memory that vLLM may use (gpu_memory_utilization)."""
    return min(_MOST_SHARE, math.floor((gpu.memory - _CONTEXT) / gpu.memory * 100) / 100)


def sequences_of(batch: int, mean_tokens: float) -> int:
    """How many prompts are read side by side: two steps' worth."""
    return min(256, max(8, 2 * math.ceil(batch / max(mean_tokens, 1))))


@dataclass
class _Draft:
    """The plan in the making: what is given wins, and says so."""

    given: Mapping[str, Any]
    given_environment: Mapping[str, str]
    options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    def set(self, key: str, value: Any, reason: str) -> Any:
        """Take `value` unless the option is given; returns what was taken."""
        if key in self.given:
            value, reason = self.given[key], "given"
        self.options[key] = value
        self.reasons.append(f"{key} = {value}: {reason}")
        return value

    def variable(self, key: str, value: str, reason: str) -> None:
        """Set a variable of the worker, unless it is given."""
        if key in self.given_environment:
            value, reason = self.given_environment[key], "given"
        self.environment[key] = value
        self.reasons.append(f"{key}={value}: {reason}")

    def pass_on(self) -> None:
        """Take what is given and not yet known as it is."""
        for key, value in self.given.items():
            if key not in self.options:
                self.set(key, value, "given")
        for key, text in self.given_environment.items():
            if key not in self.environment:
                self.variable(key, text, "given")


def plan_engine(
    *,
    gpus: Sequence[Gpu],
    model: ModelFacts,
    longest: int,
    mean_tokens: float,
    vllm_version: tuple[int, int, int],
    given: Mapping[str, Any] | None = None,
    given_environment: Mapping[str, str] | None = None,
    rates: Mapping[str, float] | None = None,
    kernel: str | None = None,
) -> EnginePlan:
    """The engine arguments for prompts of `longest` tokens at most and `mean_tokens` on average.

    No `gpus` means this machine's CPU. `given` arguments and variables win over the plan's own; `rates` are the
    target's measured kernels (tokens/s), `kernel` one by name. Raises UsageError where the model fits in
    no way, the prompts are longer than the model reads, or the cards differ; the text says by how much.
    """
    given, given_environment = given or {}, given_environment or {}
    if model.most_tokens is not None and longest + 1 > model.most_tokens:
        raise UsageError(f"prompts of {longest} tokens and one answer: the model reads {model.most_tokens}; cut them")
    draft = _Draft(given, given_environment)
    draft.set("max_model_len", longest + 1, "the longest prompt here and the one token of its answer")
    if whole_option(draft.options, "max_model_len") <= longest:
        raise UsageError(f"max_model_len = {draft.options['max_model_len']} is given; {longest + 1} are needed")
    draft.set("enforce_eager", True, "graphs gain nothing where only prompts are read, and take 55 s to start")
    draft.set("enable_prefix_caching", True, "prompts share their opening text: 1.15 times as fast on an H200")
    if not gpus:
        replicas = _plan_cpu(draft, model, longest)
        if kernel is not None:
            draft.reasons.append(f"4-bit kernel {kernel}: it is for cards, and a CPU's own is used here")
    else:
        replicas = _plan_cards(draft, gpus, model, longest, mean_tokens)
        _plan_backend(draft, gpus[0], vllm_version)
        if model.quantisation:
            _plan_kernel(draft, gpus[0], model, vllm_version, rates, kernel)
    draft.pass_on()
    return EnginePlan(draft.options, draft.environment, replicas, tuple(draft.reasons))


def _plan_cpu(draft: _Draft, model: ModelFacts, longest: int) -> int:
    draft.set("dtype", "bfloat16", "a CPU's matrix units; label probabilities within 0.02 of float32 on the demo model")
    draft.set("max_num_seqs", 64, "measured on two cores")
    draft.set("max_num_batched_tokens", max(4096, longest + 1), "one step holds the longest prompt")
    batch = whole_option(draft.options, "max_num_batched_tokens")
    space = max(1, math.ceil(kv_bytes_per_token(model) * (batch + longest + 1) / GIB))
    draft.variable("VLLM_CPU_KVCACHE_SPACE", str(space), "GiB for the keys and values of one step and a longest prompt")
    draft.variable("TORCH_COMPILE_DISABLE", "1", "compiling costs more than it gains on changing batch sizes")
    draft.variable("VLLM_ENABLE_V1_MULTIPROCESSING", "0", "one process imports once, not three times")
    return 1


def _plan_cards(draft: _Draft, gpus: Sequence[Gpu], model: ModelFacts, longest: int, mean_tokens: float) -> int:
    if len(set(gpus)) > 1:
        raise UsageError(f"the cards differ ({', '.join(map(str, gpus))}): name the ones to use")
    gpu = gpus[0]
    if gpu.capability < (8, 0):
        draft.set("dtype", "half", f"sm_{gpu.capability[0]}{gpu.capability[1]} has no bfloat16")
    else:
        half = model.dtype == "float16" and model.model_type not in NO_HALF
        draft.set("dtype", "half" if half else "bfloat16", f"the checkpoint is {model.model_type} in {model.dtype}")
    if model.model_type in NO_HALF and draft.options["dtype"] in {"half", "float16"}:
        way = "is given: set bfloat16" if gpu.capability >= (8, 0) else "is all that the card has: take another model"
        raise UsageError(
            f"vLLM refuses {model.model_type} in float16 (its activations overflow), and dtype = half {way}"
        )
    outside = f"{_CONTEXT / GIB:.1f} GiB of {gpu.memory / GIB:.1f} stay outside"
    draft.set("gpu_memory_utilization", memory_share(gpu), outside)
    room = int(share_option(draft.options, memory_share(gpu)) * gpu.memory)
    parallel, batch, sequences, needed = _fit(draft, len(gpus), model, room, longest, mean_tokens)
    replicas = len(gpus) // parallel
    sizes = f"{needed / GIB:.1f} of {room / GIB:.1f} GiB a card"
    if parallel == 1:
        draft.set("tensor_parallel_size", 1, f"the model fits one card ({sizes}): {replicas} engines, one a card")
    else:
        draft.set("tensor_parallel_size", parallel, f"one card is too small; shared by {parallel} it takes {sizes}")
    draft.set("max_num_batched_tokens", batch, "the largest step that fits; 2,048 and 16,384 were alike on an H200")
    draft.set("max_num_seqs", sequences, f"two steps' worth of prompts of {mean_tokens:.0f} tokens")
    draft.variable("VLLM_USE_FLASHINFER_SAMPLER", "0", "the sampler's import fails where FlashInfer is not installed")
    draft.variable("VLLM_WORKER_MULTIPROC_METHOD", "spawn", "a forked process cannot use CUDA again")
    if parallel == 1:
        why = "one process imports once: on an H200 an engine began 10 s sooner, ended 4 s sooner, and read as fast"
        draft.variable("VLLM_ENABLE_V1_MULTIPROCESSING", "0", why)
    return replicas


def _fit(
    draft: _Draft, cards: int, model: ModelFacts, room: int, longest: int, mean_tokens: float
) -> tuple[int, int, int, int]:
    """The fewest cards an engine, and on these the largest step, that fit: (cards, step, sequences, bytes a card)."""
    given = draft.given
    sizes = [whole_option(given, "tensor_parallel_size")] if "tensor_parallel_size" in given else range(1, cards + 1)
    steps = [whole_option(given, "max_num_batched_tokens")] if "max_num_batched_tokens" in given else BATCHES
    tried = []
    for parallel in sizes:
        if parallel > cards:
            raise UsageError(f"tensor_parallel_size = {parallel}, but the target has {cards} cards")
        if reason := split_obstacle(model, parallel):
            tried.append(f"{parallel} a model: {reason}")
            continue
        for batch in steps:
            sequences = whole_option(given, "max_num_seqs", sequences_of(batch, mean_tokens))
            needed = bytes_per_card(model, parallel=parallel, batch=batch, sequences=sequences, longest=longest)
            if needed <= room:
                return parallel, batch, sequences, needed
        tried.append(f"{parallel} a model: {needed / GIB:.1f} GiB a card, {room / GIB:.1f} GiB are there")
    raise UsageError(f"the model does not fit the target's {cards} cards ({'; '.join(tried)}); take a smaller one")


def split_obstacle(model: ModelFacts, parallel: int) -> str | None:
    """Why the layers cannot be shared by so many cards; None where they can (vLLM's own checks)."""
    if model.heads % parallel:
        return f"{model.heads} attention heads cannot be shared evenly"
    if max(model.kv_heads, parallel) % min(model.kv_heads, parallel):
        return f"{model.kv_heads} key/value heads cannot be shared evenly"
    if model.group_size and model.group_size > 0 and (model.intermediate // parallel) % model.group_size:
        return f"{model.intermediate} inputs in quantised groups of {model.group_size} cannot be shared evenly"
    return None


def _plan_backend(draft: _Draft, gpu: Gpu, version: tuple[int, int, int]) -> None:
    """A T4 gets FlashInfer from 0.11.1 to 0.23, which is broken there (flashinfer issues 3620 and 3621)."""
    if gpu.capability != (7, 5) or not (0, 11, 1) <= version < (0, 24, 0):
        return
    why = "before vLLM 0.24 a T4 gets FlashInfer by itself, which is broken there"
    if version >= (0, 13, 0):
        draft.set("attention_backend", "TRITON_ATTN", why)
    else:
        draft.variable("VLLM_ATTENTION_BACKEND", "TRITON_ATTN", why)


def _plan_kernel(
    draft: _Draft,
    gpu: Gpu,
    model: ModelFacts,
    version: tuple[int, int, int],
    rates: Mapping[str, float] | None,
    wanted: str | None,
) -> None:
    if wanted is None and "quantization" in draft.given:
        return
    method = model.quantisation or ""
    choice = choose_kernel(capability=gpu.capability, version=version, method=method, rates=rates, wanted=wanted)
    if wanted is not None:
        _refuse_contradiction(draft, choice)
    for key, value in choice.options.items():
        draft.set(key, value, f"selects the kernel {choice.kernel}")
    if choice.kernel == "plain" and draft.options["dtype"] == "bfloat16" and "dtype" not in draft.given:
        draft.set("dtype", "half", "the plain kernel takes half alone")
    for key, value in choice.environment.items():
        draft.variable(key, value, f"selects the kernel {choice.kernel}")
    draft.reasons.append(f"4-bit kernel {choice.kernel}: {choice.reason}")


def _refuse_contradiction(draft: _Draft, choice: KernelChoice) -> None:
    """Raise UsageError where what is given would select another kernel than the one that is asked for by name."""
    options = {"quantization": None, **choice.options}
    for given, chosen in ((draft.given, options), (draft.given_environment, choice.environment)):
        for key, value in chosen.items():
            if key in given and given[key] != value:
                raise UsageError(
                    f"the kernel {choice.kernel} is asked for, and {key} = {given[key]!r} is given, which selects "
                    f"another: leave one of them out"
                )
