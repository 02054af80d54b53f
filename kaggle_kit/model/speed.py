"""How long rows take if only prompts are read: work in FLOP, and the card's rate, measured or assumed by name.

Work of a prompt of n tokens, with P numbers in the layers' matrices, L layers, H heads of D numbers, hidden size h and
V words: 2·P·n for the matrices; 2·L·H·D·n² for causal attention (queries with keys and probabilities with values, 2·n²
each a head and number, of which the mask leaves half); 2·h·V for the head, which answers the last token alone. Layers
with a sliding window W see at most W tokens back.

Checked on an H200 (vLLM 0.25.1): 718 TFLOP/s over a 34B model's layers in 4 bits, 673 over a 7B's, 606 over an 8B's in
16 bits at 600 tokens a prompt and 608 at 3,000.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.errors import DataError, OutsideError, UsageError
from kaggle_kit.outside import MEGA, parse_json, read_text
from kaggle_kit.runtime.governor import largest
from kaggle_kit.runtime.job import Job
from kaggle_kit.runtime.kernels import HOPPER_RATES, choose_kernel
from kaggle_kit.runtime.prepare import open_job, prepare

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kaggle_kit.model.memory import Layout
    from kaggle_kit.runtime.checkpoint import Checkpoint
    from kaggle_kit.runtime.job import Task
    from kaggle_kit.targets import Target
    from kaggle_kit.targets.rates import Rates


START_SECONDS = 1200
"""Installing, loading and the first prompts: 15 to 20 minutes were reported of a 32B model on two T4."""
_STAGE_SHARE = 0.9
"""Assumed share of the time that pipeline stages work, with several steps on the way."""


@dataclass(frozen=True)
class CardKind:
    """One kind of card: its published fp16 rate in FLOP/s (dense), the share of it that is assumed, why, and the bytes
    a second that two cards exchange."""

    peak: float
    share: float
    why: str
    link: float


CARDS = {
    "Tesla T4": CardKind(
        65e12, 0.30, "of NVIDIA's 65 TFLOP/s; estimated from 500 to 700 tokens/s of a 34B model on two T4", 8e9
    ),
    "NVIDIA L4": CardKind(121e12, 0.5, "of NVIDIA's 121 TFLOP/s; an assumption, nothing was measured", 16e9),
    "NVIDIA H100": CardKind(989e12, 0.70, "of NVIDIA's 989 TFLOP/s; measured on an H200, the same chip", 200e9),
    "NVIDIA H200": CardKind(989e12, 0.70, "of NVIDIA's 989 TFLOP/s; measured", 200e9),
}
INT8 = "int8"
"""The kernel of int8 weights and activations: CUTLASS's on a GPU."""
_HOPPER = {**HOPPER_RATES, "marlin-int8": 0.64, "dense": 0.87, INT8: 1.48}
"""Rates of the kernels on an H200, of Machete's; int8 activations make 1.38 of Marlin's there."""
_ELSEWHERE = {INT8: 1.48, "marlin-int8": 1.38}
"""Rates on other cards, of the rate in 4 bits there."""


@dataclass(frozen=True)
class Speed:
    """The rate of one card in FLOP/s for a model's kernel, and where it is from."""

    flops: float
    kernel: str
    assumption: str
    measured: bool


def prompt_flops(checkpoint: Checkpoint, tokens: float) -> float:
    """FLOP of one prompt of so many tokens."""
    model = checkpoint.architecture
    layers = 2 * checkpoint.layer_parameters * tokens + model.attention_flops(tokens)
    return layers + 2 * model.hidden * model.logits


def speed_of(checkpoint: Checkpoint, target: Target, rates: Rates | None, wanted: str | None = None) -> Speed:
    """The rate of one card of the target: measured if `rates` has the kernel, else a named share of the card's peak.

    `wanted` is a 4-bit kernel by name. Raises UsageError for a target whose card nobody knows, and if that kernel or
    all of them cannot run.
    """
    kernel = kernel_of(checkpoint, target, rates, wanted)
    if rates is not None and (measured := rates.flops(kernel)) is not None:
        why = f"measured with {rates.engine} on {rates.card} ({kernel}; {rates.source or 'kit bench'})"
        return Speed(measured, kernel, why, measured=True)
    card = CARDS.get(target.gpu_name or "")
    if card is None:
        raise UsageError(
            f"nobody has measured {target.gpu_name or 'the processor of ' + target.name}, so no time can be given; "
            f"measure it (kit bench), and put the rates into rates/{target.name}.json"
        )

    hopper = target.capability == (9, 0)
    relative = (_HOPPER if hopper else _ELSEWHERE).get(kernel, 1.0)
    source = kernel
    if kernel in _ELSEWHERE:
        # Turing, Ada and Hopper all multiply int8 at twice their fp16 rate.
        base = "Machete" if hopper else "the 4-bit rate"
        where = "measured on an H200" if hopper else "as on an H200; nobody has measured it on this card"
        source = f"{kernel}, {relative} times {base}, {where}"
    why = f"assumed: {card.share * relative:.0%} {card.why} ({source})"
    return Speed(card.peak * card.share * relative, kernel, why, measured=False)


def kernel_of(checkpoint: Checkpoint, target: Target, rates: Rates | None, wanted: str | None = None) -> str:
    """The kernel of a model's matrices on a target; `wanted` is taken if the model has 4 bits and the target cards.

    Raises UsageError if that kernel, or every 4-bit one, cannot run there.
    """
    if checkpoint.int8:
        return INT8
    method, cards = checkpoint.kernel_method, target.capability
    if method is None or cards is None:
        return "dense"
    known = rates.by_kernel if rates else None
    version = target.engine_version
    return choose_kernel(capability=cards, version=version, method=method, rates=known, wanted=wanted).kernel


def row_seconds(checkpoint: Checkpoint, layout: Layout, speed: Speed, link: float, tokens: float) -> float:
    """Seconds that one prompt takes of all cards of the layout, side by side.

    Tensor parallel cards add up each layer's output twice (after attention and after the MLP): 2·L·h numbers of two
    bytes a token, each sent once over the link between two cards. Pipeline stages hand on h numbers a token.
    """
    flops = prompt_flops(checkpoint, tokens)
    share = _STAGE_SHARE if layout.stages > 1 else 1.0
    seconds = flops / (speed.flops * layout.cards * share)
    hidden = checkpoint.architecture.hidden * 2 * tokens
    if layout.parallel > 1:
        seconds += 2 * checkpoint.architecture.layers * hidden * 2 * (layout.parallel - 1) / layout.parallel / link
    if layout.stages > 1:
        seconds += hidden / link
    return seconds / layout.replicas


def total_seconds(
    checkpoint: Checkpoint, layout: Layout, speed: Speed, link: float, lengths: Lengths, rows: int
) -> float:
    """Seconds for `rows` rows whose lengths are spread as `lengths` are, the start left out."""
    parts = lengths.counts.items()
    seconds = sum(count * row_seconds(checkpoint, layout, speed, link, tokens) for tokens, count in parts)
    return seconds * rows / lengths.rows


def tokens_in(checkpoint: Checkpoint, layout: Layout, speed: Speed, link: float, *, rows: int, seconds: float) -> int:
    """The most tokens a row (all alike) for which `rows` rows end within `seconds`; 0 if not even one does."""

    def in_time(tokens: int) -> bool:
        return row_seconds(checkpoint, layout, speed, link, tokens) <= seconds / rows

    high = 1
    while in_time(high) and high < 1 << 22:
        high *= 2
    return largest(high // 2, high, in_time)


def link_of(target: Target) -> float:
    """Bytes a second between two of the target's cards; without end if there is one."""
    card = CARDS.get(target.gpu_name or "")
    return card.link if card and target.gpus > 1 else math.inf


_MOST_BYTES = 16 * MEGA
_MOST_TOKENS = 1_000_000_000
_MOST_ROWS = 1_000_000_000_000


@dataclass(frozen=True)
class Lengths:
    """Prompt length in tokens → rows of it; `source` says where that is from. `settled` rows never see the model."""

    counts: Mapping[int, int]
    source: str
    settled: int = 0

    @property
    def rows(self) -> int:
        """All rows."""
        return sum(self.counts.values()) + self.settled

    @property
    def mean(self) -> float:
        """Tokens of a row that the model sees, on average."""
        return sum(tokens * count for tokens, count in self.counts.items()) / sum(self.counts.values())

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return max(self.counts)

    def cut(self, most: int) -> Lengths:
        """The same rows, none longer than `most` tokens."""
        if self.longest <= most:
            return self
        counts = Counter[int]()
        for tokens, rows in self.counts.items():
            counts[min(tokens, most)] += rows
        return Lengths(dict(counts), f"{self.source}, cut to {most:,} tokens", self.settled)


def even_lengths(tokens: int) -> Lengths:
    """Rows that are all alike; their spread would add to attention's share of the time."""
    return Lengths({tokens: 1}, f"all rows of {tokens:,} tokens")


def read_lengths(path: Path) -> Lengths:
    """A table of lengths: JSON `{"512": 100, …}`, or CSV lines `tokens,rows` with or without a heading.

    Raises DataError if it cannot be read, or holds no row.
    """
    try:
        text = read_text(path, most_bytes=_MOST_BYTES, follow=True)
        pairs = parse_json(text.encode(), str(path)).items() if text.lstrip().startswith("{") else _pairs(text)
        counts = Counter[int]()
        for tokens, rows in pairs:
            counts[int(tokens)] += int(rows)
    except (OutsideError, ValueError, AttributeError, TypeError, OverflowError, csv.Error) as error:
        raise DataError(
            f'{path} cannot be read as lengths: {error}; write JSON {{"512": 100}} or CSV lines of tokens,rows'
        ) from error
    if not counts or min(counts) < 1 or min(counts.values()) < 1:
        raise DataError(f"{path}: every line needs a length of 1 or more and as many rows")
    if max(counts) > _MOST_TOKENS or sum(counts.values()) > _MOST_ROWS:
        raise DataError(f"{path}: at most {_MOST_TOKENS:,} tokens and {_MOST_ROWS:,} rows can be counted with")
    return Lengths(dict(counts), f"{path}: {sum(counts.values()):,} rows")


def _pairs(text: str) -> list[list[str]]:
    lines = [line for line in csv.reader(text.splitlines()) if line]
    if any(len(line) != 2 for line in lines):
        raise ValueError("a line does not have two values")
    return lines if lines and lines[0][0].strip().isdigit() else lines[1:]


def data_lengths(data: Path, *, task: Task, model: Path, token_budget: int) -> Lengths:
    """The lengths of the rows of `data`/test.csv in the notebook's own prompt, cut to its budget.

    Raises DataError, LabelError or ModelError if they do not fit together.
    """
    test = data / "test.csv"
    try:
        with test.open(encoding="utf-8-sig", newline="") as stream:
            first = next(csv.reader(stream))[0]
    except (OSError, StopIteration, IndexError, ValueError, csv.Error) as error:
        raise DataError(f"{test} cannot be read: name a folder that holds the competition's test.csv") from error
    job = Job(
        task=task,
        test=test,
        id_column=first,
        model=model,
        journal=data / "unused",
        token_budget=token_budget,
        engine_options={},
    )
    prepared = prepare(job, open_job(job, guarded=True))
    counts = Counter(len(prompt.token_ids) for prompt in prepared.prompts.values())
    if not counts:
        raise DataError(f"{test} has no row for the model")
    return Lengths(dict(counts), f"{test}: {len(prepared.prompts):,} rows", len(prepared.settled))
