"""The deadline governor in simulated nine-hour sessions, against an oracle and two naive policies.

    python benchmarks/deadline.py                          # some minutes on one core
    python benchmarks/deadline.py --trace session.jsonl    # with a recorded session besides

The worker's loop runs on a simulated machine with the governor's own code. What the sessions are like is stated in
`sessions.py`, the loss model in `simulation.py`. The tables go to `benchmarks/results/deadline.md`.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import shlex
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from simulation import GAP, MODEL_LOSS, PRIOR_LOSS, SWAP_GAIN, Options, Run, figures, simulate

from kaggle_kit.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = Path(__file__).parent / "results" / "deadline.md"
EVENTS = ("stall", "throttled for a while", "throttled for good", "slow start")


def cases(runs: int, seed: int, trace: Path | None) -> list[tuple[str, Options, int]]:
    """Name, options and number of runs of each line."""
    some = max(1, runs // 5)
    found = [
        ("34B on 2 x T4, budget 1,024, margin 15 min", Options(seed=seed), runs),
        (
            "the same, margin 3 min, ended by the notebook",
            Options(seed=seed, margin_seconds=180, supervised=True),
            runs,
        ),
        ("budget 2,048", Options(seed=seed, budget=2048), some),
        ("half the rate (300 tokens/s), budget 1,024", Options(seed=seed, rate=300), some),
        ("one and a half times the rate (900 tokens/s)", Options(seed=seed, rate=900), some),
        ("three times the rate (1,800 tokens/s)", Options(seed=seed, rate=1800), some),
    ]
    if trace:
        found.append((f"recorded: {trace.name}", Options(seed=seed, trace=trace), some))
    return found


def row(name: str, found: dict[str, float]) -> str:
    """One line of the main table."""
    return (
        f"| {name} | {found['runs']:,} | **{found['missed']}** | {found['late_into_margin']} / "
        f"{found['ended_by_notebook']} | {found['lost_mean']:.4f} | {found['lost_margin_mean']:.4f} | "
        f"{found['lost_future_mean']:.4f} | {found['lost_p95']:.4f} | {found['lost_worst']:.4f} | "
        f"{found['cut_mean']:.1%} | {found['prior_mean']:.3%} / {found['prior_worst']:.2%} | "
        f"{found['swapped_mean']:.1%} | {found['slack_median']:.0f} / {found['slack_least']:.0f} |"
    )


def naive(found: dict[str, float]) -> list[str]:
    """The naive policies' table."""
    runs = found["runs"]
    lines = ["| policy | killed at the limit | lost if scored rows are kept: mean | worst |", "|---|---|---|---|"]
    policies = {
        "the governor": ("missed", ""),
        "none: the full budget until the end": ("unguarded_killed", "unguarded_"),
        "a fixed budget, for 0.8 x 500 tokens/s": ("fixed_killed", "fixed_"),
    }
    for name, (killed, prefix) in policies.items():
        mean, worst = found[f"{prefix}lost_mean"], found[f"{prefix}lost_worst"]
        lines.append(f"| {name} | {found[killed]} of {runs:,} | {mean:.4f} | {worst:.4f} |")
    return lines


def by_event(runs: list[Run]) -> list[str]:
    """What each kind of mishap costs."""
    lines = ["| sessions with | runs | lost, mean | worst | rows cut | rows swapped |", "|---|---|---|---|---|---|"]
    groups = [("nothing of all this", [run for run in runs if not run.events])]
    groups += [(event, [run for run in runs if event in run.events]) for event in EVENTS]
    for name, group in groups:
        if group:
            found = figures(group)
            lines.append(
                f"| {name} | {len(group)} | {found['lost_mean']:.4f} | {found['lost_worst']:.4f} | "
                f"{found['cut_mean']:.1%} | {found['swapped_mean']:.1%} |"
            )
    return lines


def machine() -> str:
    """The processor, as this system names it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        model = next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"one of {os.cpu_count()} cores of {model}, Python {platform.python_version()}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, write the tables; 1 if a run missed its deadline."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000, help="runs of the first two lines; the others take a fifth")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trace", type=Path, help="a recorded session (JSON lines) as one line more")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    began = time.monotonic()
    lines: list[str] = []
    first: list[Run] = []
    missed = 0
    for name, options, runs in cases(given.runs, given.seed, given.trace):
        results = simulate(options, runs=runs, report=partial(progress, name))
        found = figures(results)
        missed += int(found["missed"])
        first = first or results
        lines.append(row(name, found))
    write_atomic(given.out, page(lines, first, seconds=time.monotonic() - began))
    print(f"\n{given.out}: {missed} missed deadlines")
    return 1 if missed else 0


def progress(name: str, done: int) -> None:
    """Say how far a line is."""
    if done % 50 == 0:
        print(f"\r{name}: {done:,}", end="", file=sys.stderr, flush=True)


PAGE = """\
# The deadline governor in simulated sessions

{date}, {machine}, {seconds:.0f} s. Command: `{command}`.
25,000 rows, 9 hours, LMSYS-like lengths (log-normal, mean 1,000 tokens before the cut). Made-up sessions, not measured
ones: 500 to 700 tokens/s (at 1,000 tokens), 20 min start, chunks of 64 rows with 2 to 8 % noise; each with probability
1/2 a card that throttles to half (for good, or for 10 min to 2 h), 1/2 a ten-minute stall, 1/10 a start of 40 min.

Lost: log loss above an oracle that knows each minute's speed and works to the limit without margin; of it, what the
margin costs and what not knowing costs. Missed: still scoring a minute before the limit. Into the margin: beyond the
governor's own deadline; ended: by the notebook, which costs the chunk under way.

| case | runs | missed | into the margin / ended | lost, mean | margin | not knowing | p95 | worst | rows cut | \
prior, mean / worst | swapped | s left, median / least |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
{cases}

## Against naive policies (first case)

A run that is killed scores nothing at all unless something like the journal has kept its rows; the losses assume that
it has, and that the rest get the prior.

{naive}

## By mishap (first case; a session may have several)

{events}

## Assumptions of the loss model

A row scored in full costs {model}, one with the prior {prior}; with the share k of its tokens kept it costs
{gap:.3f} (1 - k)² more; swapping all rows gains {swap}, shared out in proportion to p_a + p_b - (p_a - p_b)². The two
levels are LMSYS 2024's (good single models 0.90 to 0.95, class priors 1.097); the curve and the gain are guesses of a
plausible size. Passes are bought by gain per token. The oracle is bound to one budget for all rows, so that a run can
even end slightly below it.
"""


def page(lines: list[str], first: list[Run], *, seconds: float) -> str:
    """The whole file."""
    return PAGE.format(
        date=f"{dt.datetime.now(tz=dt.UTC):%Y-%m-%d}",
        machine=machine(),
        seconds=seconds,
        command=shlex.join(["python", "benchmarks/deadline.py", *sys.argv[1:]]),
        cases="\n".join(lines),
        naive="\n".join(naive(figures(first))),
        events="\n".join(by_event(first)),
        model=MODEL_LOSS,
        prior=PRIOR_LOSS,
        gap=GAP,
        swap=SWAP_GAIN,
    )


if __name__ == "__main__":
    sys.exit(main())
