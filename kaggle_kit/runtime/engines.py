"""The engines by name, and the one way to open them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import UsageError
from kaggle_kit.runtime.checkpoint import read_config
from kaggle_kit.runtime.engine import check_labels
from kaggle_kit.runtime.score_head import read_score_head

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.runtime.engine import Engine

TRANSFORMERS = "transformers"
ENGINES = ("vllm", "vllm-classify", TRANSFORMERS)
"""`vllm` reads the label tokens' log-probabilities, `vllm-classify` makes a K-way head of their rows of the LM head,
`transformers` is the slow reference in full precision. A model with a classification head of its own is read by it."""


def is_vllm(kind: str) -> bool:
    """Whether an engine is vLLM, in either of its ways: its options are those of `vllm.LLM`, and no other engine's."""
    return kind.startswith("vllm")


def open_engine(
    kind: str, model: Path, *, label_ids: Sequence[int], longest: int, options: Mapping[str, Any]
) -> Engine:
    """Load the model folder `model` into an engine of `kind` (one of ENGINES), for prompts of at most `longest` tokens.

    `options` are those of vLLM's `LLM`, or of `TransformersEngine`. The `label_ids` are tokens, or classes of the
    model's own head if it has one. Raises UsageError for an unknown kind, labels that are not two or more distinct
    ones, or a combination that would answer wrongly; EngineMemoryError if the model does not fit; ModelError if the
    checkpoint cannot be read.
    """
    check_labels(label_ids)
    if kind not in ENGINES:
        raise UsageError(f"there is no engine {kind!r}; use one of {', '.join(ENGINES)}")
    head = read_score_head(read_config(model))
    if head and kind == "vllm-classify":
        raise UsageError("the engine vllm-classify makes a head, and the model has one of its own: use the engine vllm")
    if is_vllm(kind):
        from kaggle_kit.runtime.vllm_engine import VllmClassifier, VllmEngine, VllmHead

        if head:
            return VllmHead(model, label_ids=label_ids, longest=longest, options=options)
        if kind == "vllm":
            return VllmEngine(model, label_ids=label_ids, longest=longest, options=options)
        return VllmClassifier(model, label_ids=label_ids, longest=longest, options=options)

    from kaggle_kit.runtime.transformers_engine import TransformersEngine, TransformersHead

    reader = TransformersHead if head else TransformersEngine
    return reader(model, label_ids=label_ids, longest=longest, options=options)
