"""What one card must hold of a model, and how cards share its layers. Sizes are in bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kaggle_kit.runtime.checkpoint import Checkpoint

GIB = 1 << 30
_INSIDE = GIB // 2
"""What vLLM's own share holds besides torch's tensors (kernels, NCCL's buffers): an estimate."""
INT8_STEP = 16
"""vLLM's CUTLASS kernels take int8 layers whose inputs and outputs are multiples of this; a slower one takes the others
(0.32, _custom_ops.py)."""


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


def card_memory(checkpoint: Checkpoint, *, parallel: int, batch: int, sequences: int, longest: int) -> CardMemory:
    """What one of `parallel` cards must hold: weights, keys and values, activations, logits. An estimate from above.

    Keys and values: of one step's tokens and one longest prompt, since a prompt that has been read is done.
    Activations of one step: residual and norm (4 hidden) and the gated MLP (3 intermediate, shared out), two bytes
    each. Logits: of every sequence, float32, three copies (raw, masked, log-softmax). Weights are shared out evenly;
    vLLM splits the embeddings too.

    Seen on an H200 with vLLM 0.25.1 for six models of 7B to 72B: what is neither weights nor keys took up to
    0.45 GiB less than this says, and never more.
    """
    model = checkpoint.architecture
    return CardMemory(
        weights=checkpoint.weight_bytes / parallel,
        keys=model.kv_bytes_on_card(parallel) * (batch + longest + 1) + sequences * model.state_bytes / parallel,
        activations=batch * (4 * model.hidden + 3 * model.active_intermediate / parallel) * 2,
        logits=sequences * model.logits * 4 * 3,
    )


def split_obstacle(checkpoint: Checkpoint, parallel: int) -> str | None:
    """Why the layers cannot be shared by so many cards; None if they can (vLLM's own checks).

    A card's inputs of a packed layer must be whole groups (vLLM 0.32, quantization/auto_awq.py and
    compressed_tensors_wNa4.py).
    """
    model, group = checkpoint.architecture, checkpoint.kernel_group or 1
    groups = f" in quantised groups of {group}" if group > 1 else ""
    if model.heads % parallel:
        return f"{model.heads} attention heads cannot be shared evenly"
    if not model.latent and max(model.kv_heads, parallel) % min(model.kv_heads, parallel):
        return f"{model.kv_heads} key/value heads cannot be shared evenly"
    queries = model.heads * model.head_dim
    if model.family and queries % (parallel * group):
        return f"the attention output's {queries} inputs{groups} cannot be shared evenly"
    if model.intermediate % (parallel * group):
        return f"the MLP's {model.intermediate} inputs{groups} cannot be shared evenly"
    return None


def padded_for(checkpoint: Checkpoint, parallel: int) -> Checkpoint | None:
    """The checkpoint with the least zeros in its MLPs by which `parallel` cards can share them.

    None if they need none, if something else cannot be shared, or if kit does not know the layers.
    """
    model = checkpoint.architecture
    step = parallel * (checkpoint.kernel_group or (INT8_STEP if checkpoint.int8 else 1))
    wide = replace(model, intermediate=math.ceil(model.intermediate / step) * step)
    if wide.intermediate == model.intermediate or model.family is None:
        return None

    zeros = wide.layer_parameters - model.layer_parameters
    number = (checkpoint.weight_bytes - checkpoint.end_bytes) / model.layer_parameters
    padded = replace(
        checkpoint,
        architecture=wide,
        weight_bytes=checkpoint.weight_bytes + math.ceil(zeros * number),
        layer_parameters=checkpoint.layer_parameters + zeros,
    )
    return None if split_obstacle(padded, parallel) else padded
