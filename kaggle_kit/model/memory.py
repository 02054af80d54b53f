"""Whether a model fits a target's cards: what each must hold, in each layout, and how long and wide it may go.

The parts are `runtime.card_memory.card_memory`'s, by which the notebook chooses its engine arguments too.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kaggle_kit.errors import UsageError
from kaggle_kit.runtime.card_memory import CardMemory, card_memory, padded_for, split_obstacle
from kaggle_kit.runtime.engine_plan import (
    BATCHES,
    Card,
    memory_share,
    sequences_of,
    share_option,
    whole_option,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kaggle_kit.runtime.architecture import Architecture
    from kaggle_kit.runtime.checkpoint import Checkpoint
    from kaggle_kit.targets import Target

BLOCK = 16
"""Tokens of one block of keys and values on a GPU (vLLM 0.32, config/cache.py, DEFAULT_BLOCK_SIZE)."""
CPU_BLOCK = 128
"""The same on a CPU (platforms/cpu.py)."""


@dataclass(frozen=True)
class Layout:
    """One way to lay a model over the cards.

    `room` is what vLLM may use of one card in bytes, `parts` what the busiest card holds at `batch` tokens a step;
    `cache_tokens` are the tokens whose keys and values one engine keeps when all room that is left is theirs.
    `longest` and `largest_batch` are the most tokens that fit, of a prompt at this batch and of a step at this context;
    0 if nothing fits. `obstacle` says why the layers cannot be split so; `padded` is then the same layout with zeros in
    the model's MLPs, if these let the cards share them. `inner` is the number of an MLP's inner channels.
    """

    name: str
    cards: int
    replicas: int
    parallel: int
    stages: int
    room: int
    parts: CardMemory
    batch: int
    sequences: int
    cache_tokens: int
    longest: int
    largest_batch: int
    inner: int
    obstacle: str | None = None
    padded: Layout | None = None

    @property
    def planned(self) -> bool:
        """Whether the notebook's own plan (`runtime.engine_plan`) can choose it."""
        return self.stages == 1

    @property
    def fits(self) -> bool:
        """Whether it can be used."""
        return self.obstacle is None and self.parts.total <= self.room


def card_room(target: Target) -> int:
    """What vLLM may use of one card (or of this machine's memory, for a target without cards), in bytes.

    gpu_memory_utilization of the target, else what the notebook's own plan takes.
    """
    if not target.gpus:
        return target.memory_bytes or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if target.gpu_memory_bytes is None:
        raise UsageError(f"the target {target.name} does not say how much memory its cards have")
    card = Card(target.gpu_memory_bytes, target.capability or (8, 0))
    return int(share_option(target.engine_options, memory_share(card)) * card.memory)


def cache_tokens(model: Architecture, space: float, *, parallel: int = 1, block: int = BLOCK) -> int:
    """Tokens whose keys and values `space` bytes hold, in whole blocks.

    As vLLM counts (v1/core/kv_cache_utils.py, get_kv_cache_config_from_groups): available memory // bytes of a block.
    """
    per_block = model.kv_bytes_on_card(parallel) * block
    return max(0, math.floor(space / per_block)) * block


def layouts(checkpoint: Checkpoint, target: Target, *, context: int, mean_tokens: float) -> list[Layout]:
    """Every layout of the target's cards for prompts of up to `context` tokens, `mean_tokens` on average."""
    cards = max(1, target.gpus)
    candidates = [("one card", 1, 1, 1)] if target.gpus else [("this machine's CPU", 1, 1, 1)]
    candidates += [(f"data parallel {cards}", 1, 1, cards)] if cards > 1 else []
    sizes = [size for size in range(2, cards + 1) if cards % size == 0]
    candidates += [(f"tensor parallel {size}", size, 1, cards // size) for size in sizes]
    candidates += [(f"pipeline {size}", 1, size, cards // size) for size in sizes]
    room = card_room(target)
    return [
        _layout(checkpoint, target, name, parallel, stages, replicas, room, context, mean_tokens)
        for name, parallel, stages, replicas in candidates
    ]


def padded_layout(candidates: Sequence[Layout]) -> Layout | None:
    """The layout that `kit model quantize` pads a model for: the first that fits, if it does so padded alone."""
    for layout in candidates:
        if layout.planned and layout.fits:
            return None
        if layout.planned and layout.padded and layout.padded.fits:
            return layout.padded
    return None


def _layout(
    checkpoint: Checkpoint,
    target: Target,
    name: str,
    parallel: int,
    stages: int,
    replicas: int,
    room: int,
    context: int,
    mean_tokens: float,
) -> Layout:
    busiest = _stage(checkpoint, stages)
    model = busiest.architecture
    options = target.engine_options
    if not target.gpus:
        # As the runtime plans for a CPU: one step holds the longest prompt.
        steps = [max(4096, context + 1)]
    else:
        steps = list(BATCHES)
        if "max_num_batched_tokens" in options:
            steps = [whole_option(options, "max_num_batched_tokens")]
    for batch in steps:
        sequences = whole_option(options, "max_num_seqs", sequences_of(batch, mean_tokens))
        parts = card_memory(busiest, parallel=parallel, batch=batch, sequences=sequences, longest=context)
        if parts.total <= room:
            break

    fixed = parts.weights + parts.activations + parts.logits + parts.inside
    per_token = model.kv_bytes_on_card(parallel)
    longest = math.floor((room - fixed) / per_token) - batch - 1
    most = model.most_tokens - model.answer_tokens if model.most_tokens else longest
    per_batch_token = per_token + parts.activations / batch
    widest = math.floor((room - parts.total) / per_batch_token) + batch
    block = BLOCK if target.gpus else CPU_BLOCK
    obstacle = split_obstacle(checkpoint, parallel) if parallel > 1 else None
    wide = padded_for(checkpoint, parallel) if obstacle else None

    return Layout(
        name=name,
        cards=parallel * stages,
        replicas=replicas,
        parallel=parallel,
        stages=stages,
        room=room,
        parts=parts,
        batch=batch,
        sequences=sequences,
        cache_tokens=cache_tokens(model, room - fixed, parallel=parallel, block=block),
        longest=max(0, min(longest, most)),
        largest_batch=max(0, widest),
        inner=model.intermediate,
        obstacle=obstacle,
        padded=_layout(wide, target, name, parallel, stages, replicas, room, context, mean_tokens) if wide else None,
    )


def _stage(checkpoint: Checkpoint, stages: int) -> Checkpoint:
    """What the busiest of so many pipeline stages holds: its layers, and the embeddings or the head beside them.

    vLLM gives each stage an even share of the layers (distributed/utils.py, get_pp_indices); tied ends are kept by both
    the first and the last stage.
    """
    if stages == 1:
        return checkpoint
    model = checkpoint.architecture
    in_layers = checkpoint.weight_bytes - checkpoint.end_bytes
    one_end = model.tied or model.score_head is not None
    end = checkpoint.end_bytes if one_end else checkpoint.end_bytes / 2
    share = math.ceil(model.layers / stages)
    weights = math.ceil(in_layers * share / model.layers + end)
    return replace(checkpoint, architecture=model.part(share), weight_bytes=weights)
