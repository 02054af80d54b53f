"""An engine's set-up, and the arguments that it makes of what is known of the cards and the checkpoint, with reasons.

Sizes are in bytes, lengths in tokens. What vLLM refuses was read in 0.25.1 and 0.32: config/model.py
(`_get_and_verify_dtype`, `_FLOAT16_NOT_SUPPORTED_MODELS`) and platforms/cuda.py (`supported_dtypes`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import UsageError
from kaggle_kit.outside import shown
from kaggle_kit.runtime.card_memory import GIB, card_memory, split_obstacle
from kaggle_kit.runtime.engine_facts import (
    Obstacle,
    architecture_obstacle,
    engine_facts,
    head_obstacle,
    method_obstacle,
)
from kaggle_kit.runtime.engines import TRANSFORMERS, is_vllm
from kaggle_kit.runtime.job import Job
from kaggle_kit.runtime.kernels import KernelChoice, choose_kernel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kaggle_kit.runtime.architecture import Architecture
    from kaggle_kit.runtime.checkpoint import Checkpoint

_CONTEXT = int(0.9 * GIB)
"""What one card needs outside vLLM's share, for the CUDA context and NCCL: an estimate (on two T4, runs are reported
with shares of 0.90 to 0.95)."""
_MOST_SHARE = 0.95
_MOST_OPTION = 1 << 31
BATCHES = (8192, 4096, 2048)
"""Tokens of one step, the most first: on an H200 2,048 and 16,384 gave the same rate."""
_NO_HALF = ("gemma2", "gemma3", "gemma3_text", "glm4", "plamo2")
"""Model types that vLLM refuses in float16, since their activations overflow."""
_BFLOAT16_FROM = (8, 0)
_LONGER = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
"""Without it vLLM itself refuses a max_model_len beyond what config.json says."""
_DTYPES = {"half": "float16", "float": "float32"}


@dataclass(frozen=True)
class Card:
    """One card: its memory as torch sees it, in bytes, and its compute capability."""

    memory: int
    capability: tuple[int, int]


@dataclass(frozen=True)
class EnginePlan:
    """Arguments of `vllm.LLM`, variables of the worker, how many engines run side by side, and why.

    `engine` is another than the set-up's, if that one does not read the model.
    """

    options: Mapping[str, Any]
    environment: Mapping[str, str]
    replicas: int
    reasons: tuple[str, ...]
    engine: str = ""


@dataclass(frozen=True)
class EngineSetup:
    """What an engine is set up with: its name and version, the cards it finds, and what is given or measured of it.

    No `cards` means this machine's CPU. The `options` (of `vllm.LLM`) and variables of the `environment` that are given
    win over the plan's own; `rates` are the target's measured 4-bit kernels in prompt tokens a second: the fastest is
    taken, and `kernel` is one by name, for every model that has 4 bits and a card.
    """

    engine: str = "vllm"
    version: tuple[int, int, int] = (0, 0, 0)
    cards: Sequence[Card] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    kernel: str | None = None

    def plan(self, checkpoint: Checkpoint, budget: int, *, mean_tokens: float | None = None) -> EnginePlan:
        """The engine's arguments for prompts of `budget` tokens at most, `mean_tokens` on average.

        Raises UsageError if the model fits in no way, the engine or the cards refuse it, the prompts are longer than
        it reads, or the cards differ; the text says by how much.
        """
        if reason := self._left_to_transformers(checkpoint):
            plan = self.with_engine(TRANSFORMERS).plan(checkpoint, budget, mean_tokens=mean_tokens)
            return replace(plan, engine=TRANSFORMERS, reasons=(reason, *_allowed(checkpoint)))
        draft = _Draft(self)
        draft.reasons += _allowed(checkpoint)
        self._refuse_unbuilt(checkpoint)
        if reason := length_obstacle(checkpoint.architecture, budget):
            if not checkpoint.allows("length"):
                raise UsageError(f"{reason}; cut them")
            draft.variable(_LONGER, "1", f"{reason}, and its check is allowed")
        answer = checkpoint.architecture.answer_tokens
        what = "the longest prompt here and the one token of its answer" if answer else "the longest prompt here"
        draft.set("max_model_len", budget + answer, what)
        if whole_option(draft.options, "max_model_len") < budget + answer:
            raise UsageError(f"max_model_len = {draft.options['max_model_len']} is given; {budget + answer} are needed")
        draft.set("enforce_eager", True, "graphs gain nothing if only prompts are read, and take 55 s to start")
        if self._reads_at_once(checkpoint.architecture):
            draft.set("enable_prefix_caching", False, "an encoder's numbers of a text depend on what comes after it")
        else:
            draft.set("enable_prefix_caching", True, "prompts share their opening text: 1.15 times as fast on an H200")

        if self.cards:
            replicas = _plan_cards(draft, checkpoint, budget, mean_tokens or budget)
            _plan_backend(draft)
            if checkpoint.kernel_method and (self.kernel or not checkpoint.allows("method")):
                _plan_kernel(draft, checkpoint.kernel_method, checkpoint.architecture)
        else:
            replicas = _plan_cpu(draft, checkpoint, budget)
            if self.kernel is not None:
                draft.reasons.append(f"4-bit kernel {self.kernel}: it is for cards, and a CPU's own is used here")
        draft.pass_on()
        return EnginePlan(draft.options, draft.environment, replicas, tuple(draft.reasons))

    def _refuse_unbuilt(self, checkpoint: Checkpoint) -> None:
        """Raise UsageError if the engine does not build the architecture, or builds it without an LM head."""
        model, facts = checkpoint.architecture, engine_facts(self.version)
        headless = head_obstacle(facts, model.name, model.model_type, model.score_head)
        if headless and not checkpoint.allows("head"):
            raise UsageError(str(headless))
        if headless or not is_vllm(self.engine) or checkpoint.allows("architecture"):
            return
        if unbuilt := architecture_obstacle(facts, model.name, model.model_type, cpu=not self.cards):
            raise UsageError(str(unbuilt))

    def _left_to_transformers(self, checkpoint: Checkpoint) -> str | None:
        """Why transformers scores a model with a head in vLLM's place; None if it does not.

        Raises UsageError if its weights are packed in a way that only vLLM reads.
        """
        model, facts = checkpoint.architecture, engine_facts(self.version)
        if model.score_head is None or not is_vllm(self.engine) or model.name not in facts.heads:
            return None
        if facts.scorer(model.name, model.model_type):
            return None
        if checkpoint.method not in {None, "awq"}:
            raise UsageError(
                f"{facts.engine} does not read the head of {model.name}, and transformers reads no {checkpoint.method} "
                f"here: take the model in full"
            )
        return f"engine = {TRANSFORMERS}: {facts.engine} has no code for {model.name}"

    def _reads_at_once(self, model: Architecture) -> bool:
        """Whether the model's head is that of an encoder, in which each token sees those after it."""
        return model.score_head is not None and model.name in engine_facts(self.version).other

    def with_engine(self, engine: str) -> EngineSetup:
        """The same for another engine, which does not take the options of a different kind."""
        return replace(self, engine=engine, options=self.options if is_vllm(engine) == is_vllm(self.engine) else {})

    def job(self, plan: EnginePlan | None, *, environment: Mapping[str, str] | None = None, **where: Any) -> Job:
        """The worker's job under `plan`; `where` are the job's further fields, `environment` further variables.

        A plan's options are vLLM's: another engine gets those alone that were given. Without a plan nothing is chosen:
        such a job is for reading, not for running.
        """
        engine = (plan and plan.engine) or self.engine
        planned = plan.options if plan else {}
        return Job(
            engine=engine,
            engine_version=self.version,
            engine_options=planned if is_vllm(engine) else self.with_engine(engine).options,
            environment={**(plan.environment if plan else {}), **(environment or {})},
            **where,
        )


def _allowed(checkpoint: Checkpoint) -> list[str]:
    """What the checkpoint's author allowed, as reasons of a plan."""
    return [f"allowed {allowance}" for allowance in checkpoint.allowed]


def length_obstacle(architecture: Architecture, budget: int) -> str | None:
    """Why prompts of `budget` tokens, and the token of their answer if there is one, are too long; None if not."""
    most = architecture.most_tokens
    if most is None or budget + architecture.answer_tokens <= most:
        return None
    answer = " and one answer" if architecture.answer_tokens else ""
    return f"prompts of {budget:,} tokens{answer}: the model reads {most:,}"


def engine_dtype(architecture: Architecture, capability: tuple[int, int] | None, wanted: object = "auto") -> str:
    """The type that the engine computes in: the `wanted` one, else the checkpoint's as far as card and engine allow."""
    if wanted != "auto":
        return _DTYPES.get(str(wanted), str(wanted))
    if capability is not None and capability < _BFLOAT16_FROM:
        return "float16"
    half = architecture.dtype == "float16" and architecture.model_type not in _NO_HALF
    return "float16" if half else "bfloat16"


def dtype_obstacle(
    architecture: Architecture, capability: tuple[int, int] | None, wanted: object = "auto"
) -> Obstacle | None:
    """Why the engine refuses the type that it would compute in; None if it takes it."""
    dtype = engine_dtype(architecture, capability, wanted)
    old = capability is not None and capability < _BFLOAT16_FROM
    if dtype == "bfloat16" and old:
        return Obstacle("dtype = bfloat16 is given, which a card before sm_80 does not have", 'set dtype = "half"')
    if dtype == "float16" and architecture.model_type in _NO_HALF:
        what = f"vLLM refuses {architecture.model_type} in float16 (its activations overflow)"
        if old:
            return Obstacle(f"{what}, and the card has no bfloat16", "take a model of another family")
        return Obstacle(what, 'set dtype = "bfloat16"')
    return None


def card_obstacle(
    checkpoint: Checkpoint,
    capability: tuple[int, int] | None,
    wanted: object = "auto",
    *,
    version: tuple[int, int, int] = (0, 0, 0),
    cpu: bool = False,
) -> str | None:
    """Why the engine refuses the checkpoint on this kind of card, whatever its memory; None if it takes it, or if the
    checkpoint's author knows better.

    No `capability` means that a `cpu` computes, or cards of which nothing is known.
    """
    facts, packing, model = engine_facts(version), checkpoint.quantisation, checkpoint.architecture
    refused = method_obstacle(
        facts, checkpoint.method, packing, capability=capability, cpu=cpu, architecture=model.name
    )
    if refused and not checkpoint.allows("method"):
        return f"the model is {refused}"
    obstacle = dtype_obstacle(model, capability, wanted)
    obstacle = obstacle or method_dtype_obstacle(model, checkpoint.method, version, capability, wanted)
    return str(obstacle) if obstacle and not checkpoint.allows("dtype") else None


def method_dtype_obstacle(
    architecture: Architecture,
    method: str | None,
    version: tuple[int, int, int],
    capability: tuple[int, int] | None,
    wanted: object = "auto",
) -> Obstacle | None:
    """Why the engine does not multiply weights of this method in the type that it would compute in; None if it does."""
    known = engine_facts(version).method(method)
    dtype = engine_dtype(architecture, capability, wanted)
    if known is None or dtype in known.dtypes:
        return None
    what = f"vLLM computes {method} in {' or '.join(known.dtypes)}, and would compute in {dtype}"
    old = "bfloat16" in known.dtypes and capability is not None and capability < _BFLOAT16_FROM
    return Obstacle(what, "take another target" if old else f'set dtype = "{known.dtypes[0]}"')


def whole_option(options: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """The whole number that the engine's option `key` is. Raises UsageError if it is not one, or beyond all sense."""
    value = options.get(key, default)
    if type(value) is not int or not 0 < value <= _MOST_OPTION:
        raise UsageError(f"engine option {key} = {shown(value)}: take a whole number from 1 to {_MOST_OPTION:,}")
    return value


def share_option(options: Mapping[str, Any], default: float) -> float:
    """The engine's option gpu_memory_utilization. Raises UsageError if it is not a share."""
    value = options.get("gpu_memory_utilization", default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise UsageError(f"engine option gpu_memory_utilization = {shown(value)}: take a share above 0, up to 1")
    return float(value)


def memory_share(card: Card) -> float:
    """The share of a card's memory that vLLM may use (gpu_memory_utilization)."""
    return min(_MOST_SHARE, math.floor((card.memory - _CONTEXT) / card.memory * 100) / 100)


def sequences_of(batch: int, mean_tokens: float) -> int:
    """How many prompts are read side by side: two steps' worth."""
    return min(256, max(8, 2 * math.ceil(batch / max(mean_tokens, 1))))


@dataclass
class _Draft:
    """The plan in the making: what is given wins, and the reason says so."""

    setup: EngineSetup
    options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    def set(self, key: str, value: Any, reason: str) -> None:
        """Set the option to `value`, unless it is given."""
        if key in self.setup.options:
            value, reason = self.setup.options[key], "given"
        self.options[key] = value
        self.reasons.append(f"{key} = {value}: {reason}")

    def variable(self, key: str, value: str, reason: str) -> None:
        """Set a variable of the worker, unless it is given."""
        if key in self.setup.environment:
            value, reason = self.setup.environment[key], "given"
        self.environment[key] = value
        self.reasons.append(f"{key}={value}: {reason}")

    def pass_on(self) -> None:
        """Take what is given and not yet known as it is."""
        for key, value in self.setup.options.items():
            if key not in self.options:
                self.set(key, value, "given")
        for key, text in self.setup.environment.items():
            if key not in self.environment:
                self.variable(key, text, "given")


def _plan_cpu(draft: _Draft, checkpoint: Checkpoint, longest: int) -> int:
    draft.set("dtype", "bfloat16", "a CPU's matrix units; label probabilities within 0.02 of float32 on the demo model")
    draft.set("max_num_seqs", 64, "measured on two cores")
    reason = card_obstacle(checkpoint, None, draft.options["dtype"], version=draft.setup.version, cpu=True)
    if reason and is_vllm(draft.setup.engine):
        raise UsageError(reason)
    draft.set("max_num_batched_tokens", max(4096, longest + 1), "one step holds the longest prompt")
    batch = whole_option(draft.options, "max_num_batched_tokens")
    space = max(1, math.ceil(checkpoint.architecture.kv_bytes_per_token * (batch + longest + 1) / GIB))
    draft.variable("VLLM_CPU_KVCACHE_SPACE", str(space), "GiB for the keys and values of one step and a longest prompt")
    draft.variable("TORCH_COMPILE_DISABLE", "1", "compiling costs more than it gains on changing batch sizes")
    draft.variable("VLLM_ENABLE_V1_MULTIPROCESSING", "0", "one process imports once, not three times")
    return 1


def _plan_cards(draft: _Draft, checkpoint: Checkpoint, longest: int, mean_tokens: float) -> int:
    cards = draft.setup.cards
    if len(set(cards)) > 1:
        raise UsageError(f"the cards differ ({', '.join(map(str, cards))}): name the ones to use")
    card = cards[0]
    setup = draft.setup
    wanted = setup.options.get("dtype", "auto")
    if reason := card_obstacle(checkpoint, card.capability, wanted, version=setup.version):
        raise UsageError(reason)

    _plan_dtype(draft, card, checkpoint.architecture)
    outside = f"{_CONTEXT / GIB:.1f} GiB of {card.memory / GIB:.1f} stay outside"
    draft.set("gpu_memory_utilization", memory_share(card), outside)

    room = int(share_option(draft.options, memory_share(card)) * card.memory)
    parallel, batch, sequences, needed = _fit(draft, checkpoint, room, longest, mean_tokens)
    replicas = len(cards) // parallel
    sizes = f"{needed / GIB:.1f} of {room / GIB:.1f} GiB a card"
    if parallel == 1:
        draft.set("tensor_parallel_size", 1, f"the model fits one card ({sizes}): {replicas} engines, one a card")
    else:
        draft.set("tensor_parallel_size", parallel, f"one card is too small; shared by {parallel} it takes {sizes}")

    draft.set("max_num_batched_tokens", batch, "the largest step that fits; 2,048 and 16,384 were alike on an H200")
    draft.set("max_num_seqs", sequences, f"two steps' worth of prompts of {mean_tokens:.0f} tokens")
    draft.variable("VLLM_USE_FLASHINFER_SAMPLER", "0", "the sampler's import fails if FlashInfer is not installed")
    draft.variable("VLLM_WORKER_MULTIPROC_METHOD", "spawn", "a forked process cannot use CUDA again")
    if parallel == 1:
        why = "one process imports once: on an H200 an engine began 10 s sooner, ended 4 s sooner, and read as fast"
        draft.variable("VLLM_ENABLE_V1_MULTIPROCESSING", "0", why)
    return replicas


def _plan_dtype(draft: _Draft, card: Card, architecture: Architecture) -> None:
    half = engine_dtype(architecture, card.capability, draft.setup.options.get("dtype", "auto")) == "float16"
    why = f"the checkpoint is {architecture.model_type} in {architecture.dtype}"
    if card.capability < _BFLOAT16_FROM:
        why = f"sm_{card.capability[0]}{card.capability[1]} has no bfloat16"
    draft.set("dtype", "half" if half else "bfloat16", why)


def _fit(
    draft: _Draft, checkpoint: Checkpoint, room: int, longest: int, mean_tokens: float
) -> tuple[int, int, int, int]:
    """The fewest cards an engine, and on these the largest step, that fit: (cards, step, sequences, bytes a card)."""
    options, cards = draft.setup.options, len(draft.setup.cards)
    sizes: Sequence[int] = range(1, cards + 1)
    if "tensor_parallel_size" in options:
        sizes = [whole_option(options, "tensor_parallel_size")]
    steps: Sequence[int] = BATCHES
    if "max_num_batched_tokens" in options:
        steps = [whole_option(options, "max_num_batched_tokens")]

    attempts = []
    for parallel in sizes:
        if parallel > cards:
            raise UsageError(f"tensor_parallel_size = {parallel}, but the target has {cards} cards")
        if reason := split_obstacle(checkpoint, parallel):
            attempts.append(f"{parallel} a model: {reason}")
            continue
        for batch in steps:
            sequences = whole_option(options, "max_num_seqs", sequences_of(batch, mean_tokens))
            memory = card_memory(checkpoint, parallel=parallel, batch=batch, sequences=sequences, longest=longest)
            needed = memory.total
            if needed <= room:
                return parallel, batch, sequences, needed
        attempts.append(f"{parallel} a model: {needed / GIB:.1f} GiB a card, {room / GIB:.1f} GiB are there")
    raise UsageError(f"the model does not fit the target's {cards} cards ({'; '.join(attempts)}); take a smaller one")


def _plan_backend(draft: _Draft) -> None:
    """A T4 gets FlashInfer from 0.11.1 to 0.23, which is broken there (flashinfer issues 3620 and 3621)."""
    card, version = draft.setup.cards[0], draft.setup.version
    if card.capability != (7, 5) or not (0, 11, 1) <= version < (0, 24, 0):
        return
    why = "before vLLM 0.24 a T4 gets FlashInfer by itself, which is broken there"
    if version >= (0, 13, 0):
        draft.set("attention_backend", "TRITON_ATTN", why)
    else:
        draft.variable("VLLM_ATTENTION_BACKEND", "TRITON_ATTN", why)


def _plan_kernel(draft: _Draft, method: str, architecture: Architecture) -> None:
    setup, capability = draft.setup, draft.setup.cards[0].capability
    if setup.kernel is None and "quantization" in setup.options:
        return
    choice = choose_kernel(
        capability=capability, version=setup.version, method=method, rates=setup.rates, wanted=setup.kernel
    )
    if setup.kernel is not None:
        _refuse_contradiction(draft, choice)

    for key, value in choice.options.items():
        draft.set(key, value, f"selects the kernel {choice.kernel}")
    if choice.kernel == "plain" and draft.options["dtype"] == "bfloat16" and "dtype" not in setup.options:
        if reason := dtype_obstacle(architecture, capability, "half"):
            raise UsageError(f"the plain kernel takes half alone, and {reason}")
        draft.set("dtype", "half", "the plain kernel takes half alone")
    for key, value in choice.environment.items():
        draft.variable(key, value, f"selects the kernel {choice.kernel}")
    draft.reasons.append(f"4-bit kernel {choice.kernel}: {choice.reason}")


def _refuse_contradiction(draft: _Draft, choice: KernelChoice) -> None:
    """Raise UsageError if what is given would select another kernel than the named one."""
    selecting = {"quantization": None, **choice.options}
    for settings, chosen in ((draft.setup.options, selecting), (draft.setup.environment, choice.environment)):
        for key, value in chosen.items():
            if key in settings and settings[key] != value:
                raise UsageError(
                    f"the kernel {choice.kernel} is asked for, and {key} = {settings[key]!r} is given, which selects "
                    f"another: leave one of them out"
                )
