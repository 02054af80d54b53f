"""Will it fit, how long may prompts be, and how long does it take: one model on one target, and all sizes beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import UsageError
from kaggle_kit.model.memory import Layout, layouts
from kaggle_kit.model.shapes import SHAPES, named_shape
from kaggle_kit.model.speed import START_SECONDS, Speed, kernel_of, link_of, speed_of, tokens_in, total_seconds
from kaggle_kit.runtime.engine_plan import card_obstacle, length_obstacle

if TYPE_CHECKING:
    from kaggle_kit.model.lengths import Lengths
    from kaggle_kit.runtime.checkpoint import Checkpoint
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

    `best` is the layout that fits and is fastest (or needs the fewest cards, where no rate is known), of those that the
    notebook plans by itself: it splits layers over cards and never makes pipelines; None where none fits. `timings` are
    those of the layouts by name, empty where no rate is known: `no_speed` then says why.
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
        return min(fitting, key=lambda one: self.timings[one.name].seconds if self.timings else one.cards)

    @property
    def in_time(self) -> bool | None:
        """Whether all rows end within the hours; None where no rate is known or nothing fits."""
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
    START_SECONDS are the start's; `kernel` is a 4-bit one by name. Raises UsageError where the model does not read so
    much, the target does not tell its cards' memory, or the kernel cannot run there.
    """
    if kernel is not None:
        kernel_of(checkpoint, target, rates, kernel)
    most = checkpoint.architecture.most_tokens
    if most is not None and length_obstacle(checkpoint.architecture, context):
        raise UsageError(
            f"{checkpoint.name} reads {most:,} tokens: --context {most - 1} is the most, the answer needs one"
        )
    lengths = lengths.cut(context)
    ways = layouts(checkpoint, target, context=context, mean_tokens=lengths.mean)
    speed, why = None, None
    try:
        speed = speed_of(checkpoint, target, rates, kernel)
    except UsageError as error:
        why = str(error)
    timings = {}
    if speed is not None:
        link, left = link_of(target), hours * 3600 - START_SECONDS
        for way in ways:
            seconds = total_seconds(checkpoint, way, speed, link, lengths, rows)
            most_tokens = tokens_in(checkpoint, way, speed, link, rows=rows, seconds=left) if left > 0 else 0
            timings[way.name] = Timing(seconds, min(most_tokens, way.longest))
    return Fit(
        checkpoint=checkpoint,
        target=target.name,
        context=context,
        rows=rows,
        hours=hours,
        lengths=lengths,
        layouts=tuple(ways),
        speed=speed,
        no_speed=why,
        timings=timings,
        refusal=card_obstacle(checkpoint, target.capability, target.engine_options.get("dtype", "auto")),
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
    """Every model that kit knows by name, in 4 bits, weighed against the target; each at what it reads at most."""
    found = []
    for name in SHAPES:
        checkpoint = named_shape(name)
        most = checkpoint.architecture.most_tokens or context + 1
        found.append(
            fit_model(
                checkpoint,
                target,
                context=min(context, most - 1),
                rows=rows,
                lengths=lengths,
                hours=hours,
                rates=rates,
                kernel=kernel,
            )
        )
    return found
