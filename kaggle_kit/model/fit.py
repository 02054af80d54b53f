"""Will it fit, how long may prompts be, and how long does it take: one model on one target, and all sizes beside it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import UsageError
from kaggle_kit.model.memory import Layout, layouts, padded_layout
from kaggle_kit.model.speed import START_SECONDS, Speed, kernel_of, link_of, speed_of, tokens_in, total_seconds
from kaggle_kit.runtime.architecture import FAMILIES, Architecture
from kaggle_kit.runtime.card_memory import padded_for
from kaggle_kit.runtime.checkpoint import Checkpoint
from kaggle_kit.runtime.engine_plan import card_obstacle, length_obstacle
from kaggle_kit.runtime.quantisation import Quantisation
from kaggle_kit.suggest import did_you_mean

if TYPE_CHECKING:
    from kaggle_kit.model.speed import Lengths
    from kaggle_kit.targets import Target
    from kaggle_kit.targets.rates import Rates


@dataclass(frozen=True)
class Timing:
    """Seconds for all rows without the start, and the most tokens a row that fit both hours and memory; 0 for none."""

    seconds: float
    most_tokens: int


@dataclass(frozen=True)
class Fit:
    """One model on one target.

    `best` is the layout that fits and is fastest (or needs the fewest cards, if no rate is known), of those that the
    notebook plans by itself: it splits layers over cards and never makes pipelines; None if none fits. `timings` are
    those of the layouts by name, empty if no rate is known: `no_speed` then says why.
    """

    checkpoint: Checkpoint
    target: str
    context: int
    rows: int
    hours: float
    lengths: Lengths
    layouts: tuple[Layout, ...]
    speed: Speed | None
    no_speed: str | None
    timings: dict[str, Timing]
    refusal: str | None
    """Why the engine would refuse the model there, whatever the memory."""
    start_seconds: int = START_SECONDS

    @property
    def best(self) -> Layout | None:
        """The layout to use."""
        fitting = [layout for layout in self.layouts if layout.planned and layout.fits and not self.refusal]
        if not fitting:
            return None
        return min(fitting, key=lambda layout: self.timings[layout.name].seconds if self.timings else layout.cards)

    @property
    def in_time(self) -> bool | None:
        """Whether all rows end within the hours; None if no rate is known or nothing fits."""
        if self.best is None or not self.timings:
            return None
        return self.timings[self.best.name].seconds + self.start_seconds <= self.hours * 3600

    def to_json(self) -> dict[str, Any]:
        """A JSON object; sizes in bytes, times in seconds."""
        best = self.best
        return {
            "model": self.checkpoint.name,
            "target": self.target,
            "context": self.context,
            "rows": self.rows,
            "hours": self.hours,
            "lengths": {"source": self.lengths.source, "mean": self.lengths.mean, "longest": self.lengths.longest},
            "start_seconds": self.start_seconds,
            "speed": self.speed
            and {"flops": self.speed.flops, "kernel": self.speed.kernel, "source": self.speed.assumption},
            "no_speed": self.no_speed,
            "refusal": self.refusal,
            "allowed": [asdict(allowance) for allowance in self.checkpoint.allowed],
            "best": best and best.name,
            "in_time": self.in_time,
            "layouts": [self._layout_json(layout) for layout in self.layouts],
        }

    def _layout_json(self, layout: Layout) -> dict[str, Any]:
        parts, timing = layout.parts, self.timings.get(layout.name)
        return {
            "name": layout.name,
            "fits": layout.fits,
            "obstacle": layout.obstacle,
            "planned": layout.planned,
            "cards": layout.cards,
            "engines": layout.replicas,
            "room": layout.room,
            "weights": round(parts.weights),
            "keys_and_values": round(parts.keys),
            "activations": round(parts.activations + parts.logits),
            "engine": round(parts.inside),
            "total": parts.total,
            "batch": layout.batch,
            "sequences": layout.sequences,
            "cache_tokens": layout.cache_tokens,
            "longest": layout.longest,
            "largest_batch": layout.largest_batch,
            "padded": layout.padded
            and {
                "intermediate_size": layout.padded.inner,
                "total": layout.padded.parts.total,
                "fits": layout.padded.fits,
            },
            "seconds": timing and timing.seconds,
            "most_tokens": timing and timing.most_tokens,
        }


def fit_model(
    checkpoint: Checkpoint,
    target: Target,
    *,
    context: int,
    rows: int,
    lengths: Lengths,
    hours: float,
    rates: Rates | None = None,
    kernel: str | None = None,
) -> Fit:
    """Weigh one model against one target.

    `context` is the longest prompt in tokens, to which `lengths` are cut; `hours` is the whole session, of which
    START_SECONDS are the start's; `kernel` is a 4-bit one by name. Raises UsageError if the model does not read so
    much, the target does not give its cards' memory, or the kernel cannot run there.
    """
    if kernel is not None:
        kernel_of(checkpoint, target, rates, kernel)
    most = checkpoint.architecture.most_tokens
    if most is not None and length_obstacle(checkpoint.architecture, context) and not checkpoint.allows("length"):
        raise UsageError(
            f"{checkpoint.name} reads {most:,} tokens: --context {most - 1} is the most, the answer needs one"
        )
    lengths = lengths.cut(context)
    candidates = layouts(checkpoint, target, context=context, mean_tokens=lengths.mean)
    speed, why = None, None
    try:
        speed = speed_of(checkpoint, target, rates, kernel)
    except UsageError as error:
        why = str(error)
    timings = {}
    if speed is not None:
        link, left = link_of(target), hours * 3600 - START_SECONDS
        for layout in candidates:
            seconds = total_seconds(checkpoint, layout, speed, link, lengths, rows)
            most_tokens = tokens_in(checkpoint, layout, speed, link, rows=rows, seconds=left) if left > 0 else 0
            timings[layout.name] = Timing(seconds, min(most_tokens, layout.longest))
    return Fit(
        checkpoint=checkpoint,
        target=target.name,
        context=context,
        rows=rows,
        hours=hours,
        lengths=lengths,
        layouts=tuple(candidates),
        speed=speed,
        no_speed=why,
        timings=timings,
        refusal=card_obstacle(
            checkpoint,
            target.capability,
            target.engine_options.get("dtype", "auto"),
            version=target.engine_version,
        ),
    )


def sizes_table(
    target: Target,
    *,
    context: int,
    rows: int,
    lengths: Lengths,
    hours: float,
    rates: Rates | None = None,
    kernel: str | None = None,
) -> list[Fit]:
    """Every model that kit knows by name, in 4 bits, weighed against the target; each at what it reads at most.

    A model is padded if the target's cards cannot share it otherwise.
    """
    fits = []
    for name in SHAPES:
        checkpoint = named_shape(name)
        most = checkpoint.architecture.most_tokens or context + 1
        longest = min(context, most - 1)
        fits.append(
            fit_model(
                padded_shape(checkpoint, target, context=longest, mean_tokens=lengths.mean),
                target,
                context=longest,
                rows=rows,
                lengths=lengths,
                hours=hours,
                rates=rates,
                kernel=kernel,
            )
        )
    return fits


GROUP = 128
"""The usual group size of 4-bit checkpoints."""
_AWQ = Quantisation("awq", 4, GROUP, zero_points=True)
_PACKED = {
    "": _AWQ,
    "4": _AWQ,
    "8": Quantisation("compressed-tensors", 8, None, zero_points=False, activations="int8"),
}
_WIDTHS = {"": "4-bit AWQ", "4": "4-bit AWQ", "8": "8 bits, int8 activations", "16": "16 bits"}


def _shape(name: str, sizes: tuple[int, ...], *, tied: bool = False, most: int = 32_768) -> Architecture:
    """`sizes`: layers, hidden, intermediate, heads, key/value heads, head size, vocabulary."""
    family = FAMILIES[name]
    layers, hidden, intermediate, heads, kv_heads, head_dim, vocabulary = sizes
    return Architecture(
        name=name,
        model_type=family.model_type,
        family=family,
        layers=layers,
        hidden=hidden,
        intermediate=intermediate,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocabulary=vocabulary,
        tied=tied or family.tied,
        most_tokens=most,
        window=4096 if name == "Gemma2ForCausalLM" else None,
        dtype="bfloat16",
    )


SHAPES = {
    "qwen3-4b": _shape("Qwen3ForCausalLM", (36, 2560, 9728, 32, 8, 128, 151_936), tied=True, most=40_960),
    "qwen2.5-7b": _shape("Qwen2ForCausalLM", (28, 3584, 18_944, 28, 4, 128, 152_064)),
    "llama-3-8b": _shape("LlamaForCausalLM", (32, 4096, 14_336, 32, 8, 128, 128_256), most=8192),
    "qwen3-8b": _shape("Qwen3ForCausalLM", (36, 4096, 12_288, 32, 8, 128, 151_936), most=40_960),
    "gemma-2-9b": _shape("Gemma2ForCausalLM", (42, 3584, 14_336, 16, 8, 256, 256_000), most=8192),
    "qwen2.5-14b": _shape("Qwen2ForCausalLM", (48, 5120, 13_824, 40, 8, 128, 152_064)),
    "mistral-small-24b": _shape("MistralForCausalLM", (40, 5120, 32_768, 32, 8, 128, 131_072)),
    "gemma-2-27b": _shape("Gemma2ForCausalLM", (46, 4608, 36_864, 32, 16, 128, 256_000), most=8192),
    "qwen2.5-32b": _shape("Qwen2ForCausalLM", (64, 5120, 27_648, 40, 8, 128, 152_064)),
    "yi-34b": _shape("LlamaForCausalLM", (60, 7168, 20_480, 56, 8, 128, 64_000), most=4096),
    "llama-3-70b": _shape("LlamaForCausalLM", (80, 8192, 28_672, 64, 8, 128, 128_256), most=8192),
    "qwen2-72b": _shape("Qwen2ForCausalLM", (80, 8192, 29_568, 64, 8, 128, 152_064)),
}


def named_shape(name: str) -> Checkpoint:
    """A model by name, in 4 bits (AWQ, groups of 128), in 8 as `NAME:8` (w8a8), or in 16 as `NAME:16`.

    Raises UsageError for an unknown one.
    """
    base, _, bits = name.partition(":")
    if base not in SHAPES or bits not in _WIDTHS:
        raise UsageError(
            f"{name} is neither a folder nor a model that kit knows{did_you_mean(base, SHAPES)}; known: "
            f"{', '.join(SHAPES)} (4-bit AWQ; NAME:8 for int8, NAME:16 for 16 bits)"
        )
    return shape_checkpoint(f"{base}, {_WIDTHS[bits]}", SHAPES[base], _PACKED.get(bits))


def shape_checkpoint(name: str, shape: Architecture, quantisation: Quantisation | None) -> Checkpoint:
    """A model of this shape that is not there: in 4 or 8 bits as `kit model quantize` packs it, or in 16."""
    vectors = shape.layers * sum(length for _, length in shape.layer_vectors()) * 2
    vectors += shape.layers * sum(matrix.outputs for matrix in shape.layer_matrices() if matrix.bias) * 2
    vectors += shape.position_numbers * 2
    matrices = shape.layer_parameters
    weights = matrices * 2
    if quantisation and quantisation.bits == 4:
        # Half a byte a number, and in memory a scale and a zero point of two bytes each a group.
        weights = matrices // 2 + matrices // (quantisation.group_size or GROUP) * 4
    elif quantisation:
        weights = matrices + shape.layers * sum(matrix.outputs for matrix in shape.layer_matrices()) * 4
    return Checkpoint(
        name=name,
        architecture=shape,
        method=quantisation.method if quantisation else None,
        quantisation=quantisation,
        weight_bytes=weights + vectors + shape.end_bytes,
        layer_parameters=matrices,
        end_bytes=shape.end_bytes,
    )


def padded_shape(checkpoint: Checkpoint, target: Target, *, context: int, mean_tokens: float) -> Checkpoint:
    """A model that is not there, padded as `kit model quantize` pads it for the target.

    A checkpoint's padding is its own: the published 4-bit Qwen2-72B has 29,696 inner channels, the family 29,568.
    """
    layout = padded_layout(layouts(checkpoint, target, context=context, mean_tokens=mean_tokens))
    padded = padded_for(checkpoint, layout.parallel) if layout else None
    if padded is None:
        return checkpoint
    return replace(padded, name=f"{checkpoint.name}, MLPs padded to {padded.architecture.intermediate:,}")


def split_for(shape: Architecture, quantisation: Quantisation, target: Target, *, context: int) -> int:
    """How many of the target's cards `kit model quantize` pads a model of this shape for; 1 if it needs no padding.

    As many as the target's tensor_parallel_size says, else the fewest on which the model fits. Raises UsageError if the
    target does not give its cards' memory.
    """
    candidates = layouts(shape_checkpoint("", shape, quantisation), target, context=context, mean_tokens=context)
    given = target.engine_options.get("tensor_parallel_size")
    layout = padded_layout(candidates)
    if given is not None:
        layout = next((other.padded for other in candidates if other.parallel == given and other.padded), None)
    return layout.parallel if layout else 1
