"""`kit simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kaggle_kit.cli.displays import Bars
from kaggle_kit.cli.options import Number
from kaggle_kit.cli.terminal import show, show_json


@click.command()
@click.option("--runs", metavar="N", type=click.IntRange(min=1), default=1000, show_default=True, help="Sessions.")
@click.option("--rows", metavar="N", type=click.IntRange(min=1), default=25_000, show_default=True, help="Test rows.")
@click.option(
    "--hours",
    metavar="H",
    type=Number(min=0, min_open=True),
    default=9.0,
    show_default=True,
    help="The session's limit.",
)
@click.option(
    "--rate",
    metavar="TOKENS_PER_S",
    type=Number(min=0, min_open=True),
    help="The machine's prompt tokens a second (default: 500 to 700, a 34B AWQ model on 2 x T4).",
)
@click.option(
    "--budget",
    metavar="TOKENS",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    help="The full token budget of a prompt.",
)
@click.option(
    "--margin",
    metavar="SECONDS",
    type=Number(min=0),
    default=900.0,
    show_default=True,
    help="What the governor leaves before the limit.",
)
@click.option(
    "--supervised", is_flag=True, help="The notebook ends a worker that is still busy a minute before the limit."
)
@click.option(
    "--trace",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help='A recorded session instead of made-up ones: JSON lines {"lengths": [...], "seconds": ...}, one a chunk.',
)
@click.option(
    "--seed", metavar="N", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same runs."
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON, and nothing else.")
def simulate(runs: int, as_json: bool, margin: float, **given: Any) -> int:
    """Try the deadline governor on many made-up sessions, within minutes.

    Each has its own speed, noise, slow start, throttled card or ten-minute stall. Says how many would miss their
    deadline, and how much score is lost against an oracle that knew the future.

    \b
    Examples:
      kit simulate
      kit simulate --runs 100 --rate 300 --budget 2048
      kit simulate --margin 180 --supervised
      kit simulate --trace session.jsonl --runs 20 --json

    Exit code 0 where no run missed its deadline, else 1.
    """
    from kaggle_kit.errors import UsageError
    from kaggle_kit.evaluation.simulate import Options, figures
    from kaggle_kit.evaluation.simulate import simulate as run_all

    options = Options(margin_seconds=margin, **given)
    if margin >= options.limit:
        raise UsageError(f"--margin {margin:g} leaves nothing of {options.hours:g} h; lower it or raise --hours")
    with Bars(counted=True, kept=False, hidden=as_json) as bars:
        bars.begin("simulating", runs)
        found = figures(run_all(options, runs=runs, report=bars.done))
    if as_json:
        show_json(found)
    else:
        show(*_lines(found))
    return 1 if found["missed"] else 0


def _lines(found: dict[str, float]) -> list[str]:
    """The figures as a person reads them."""
    runs = f"{found['runs']:,.0f} runs"
    lines = {
        "missed deadlines": f"{found['missed']:.0f} of {runs} "
        f"({found['late_into_margin']:.0f} went on into the margin, {found['ended_by_notebook']:.0f} were ended there)",
        "log loss": f"{found['loss_mean']:.4f}, an oracle's {found['oracle_mean']:.4f}",
        "lost to the oracle": f"mean {found['lost_mean']:.4f} ({found['lost_margin_mean']:.4f} for the margin, "
        f"{found['lost_future_mean']:.4f} for not knowing), p95 {found['lost_p95']:.4f}, "
        f"worst {found['lost_worst']:.4f}",
        "rows cut": f"mean {found['cut_mean']:.1%}, worst {found['cut_worst']:.1%}",
        "rows with the prior": f"mean {found['prior_mean']:.3%}, worst {found['prior_worst']:.2%}",
        "rows swapped": f"mean {found['swapped_mean']:.1%}",
        "left before the limit": f"median {found['slack_median']:.0f} s, least {found['slack_least']:.0f} s",
        "without a governor": f"{found['unguarded_killed']:.0f} of {runs} killed; were their scored rows kept: "
        f"lost mean {found['unguarded_lost_mean']:.4f}, worst {found['unguarded_lost_worst']:.4f}",
        "a fixed safe budget": f"{found['fixed_killed']:.0f} of {runs} killed; were their scored rows kept: "
        f"lost mean {found['fixed_lost_mean']:.4f}, worst {found['fixed_lost_worst']:.4f}",
    }
    return [f"{name:<24}{text}" for name, text in lines.items()]
