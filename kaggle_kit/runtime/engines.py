"""The engines by name, and the one way to open them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import UsageError
from kaggle_kit.runtime.engine import check_labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.runtime.engine import Engine

ENGINES = ("vllm", "vllm-classify", "transformers")
"""`vllm` reads the label tokens' log-probabilities, `vllm-classify` makes a K-way head of their rows of the LM head,
`transformers` is the slow reference in full precision."""


def is_vllm(kind: str) -> bool:
    """Whether an engine is vLLM, in either of its ways: its options are those of `vllm.LLM`, and no other engine's."""
    return kind.startswith("vllm")


def open_engine(
    kind: str, model: Path, *, label_ids: Sequence[int], longest: int, options: Mapping[str, Any]
) -> Engine:
    """Load the model folder `model` into an engine of `kind` (one of ENGINES), for prompts of at most `longest` tokens.

    `options` are those of vLLM's `LLM`, or of `TransformersEngine`. Raises UsageError for an unknown kind, labels
    that are not two or more distinct tokens, or a combination that would answer wrongly; EngineMemoryError if the
    model does not fit; ModelError if the checkpoint cannot be read.
    """
    check_labels(label_ids)
    if kind == "vllm":
        from kaggle_kit.runtime.vllm_engine import VllmEngine

        return VllmEngine(model, label_ids=label_ids, longest=longest, options=options)
    if kind == "vllm-classify":
        from kaggle_kit.runtime.vllm_engine import VllmClassifier

        return VllmClassifier(model, label_ids=label_ids, longest=longest, options=options)
    if kind == "transformers":
        from kaggle_kit.runtime.transformers_engine import TransformersEngine

        return TransformersEngine(model, label_ids=label_ids, longest=longest, options=options)
    raise UsageError(f"there is no engine {kind!r}; use one of {', '.join(ENGINES)}")
