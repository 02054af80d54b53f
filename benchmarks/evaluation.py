"""Metrics, calibration and ensembles of large scores files: seconds, and the memory of the process.

    python benchmarks/evaluation.py

Scores of 100,000 made-up rows in both passes. The table goes to `benchmarks/results/evaluation.md`.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import prepare

# From the project's own folder, whatever is installed.
sys.path[:0] = [str(prepare.ROOT), str(prepare.ROOT / "tests" / "evaluation")]

from kaggle_kit.evaluation.answers import answers_of  # noqa: E402
from kaggle_kit.evaluation.assess import assess  # noqa: E402
from kaggle_kit.evaluation.calibrate import KINDS, calibrate  # noqa: E402
from kaggle_kit.evaluation.ensemble import Member, weigh  # noqa: E402
from kaggle_kit.evaluation.scores import read_scores, write_scores  # noqa: E402
from kaggle_kit.files import write_atomic  # noqa: E402
from kaggle_kit.runtime.combine import Bin, Calibration  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT_SECONDS = 10
"""What must hold for the metrics of 100,000 rows."""


def write_made(path: Path, *, rows: int, seed: int) -> None:
    """A scores file of a model that sees the truth through noise."""
    from made_scores import blurred, scores_of, truth

    logs, outcome = truth(rows)
    passes = [blurred(logs, seed=seed + number, by=0.5) for number in range(2)]
    write_scores(path, scores_of(passes[0], outcome, passes[1], model=f"model-{seed}"))


def timed(name: str, work: Callable[[], object]) -> tuple[str, float]:
    """One line of the table, and its seconds."""
    since = time.perf_counter(), time.process_time()
    work()
    seconds, cpu = time.perf_counter() - since[0], time.process_time() - since[1]
    line = f"| {name} | {seconds:.1f} | {cpu:.1f} | {os.getloadavg()[0]:.1f} |"
    print(line, flush=True)
    return line, seconds


def main() -> int:
    """The command line; 1 where the limit was passed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name) / f"{seed}.parquet" for seed in (10, 20, 30)]
        for seed, path in zip((10, 20, 30), paths, strict=True):
            write_made(path, rows=args.rows, seed=seed)
        size = paths[0].stat().st_size / 1e6
        lines = []
        line, reading = timed("read a scores file", lambda: answers_of(read_scores(paths[0])))
        lines.append(line)
        members = [answers_of(read_scores(path)) for path in paths]
        own = Calibration((Bin(float("inf"), 1.1),))
        line, metrics = timed(
            "all metrics and slices of plain, both orders and calibrated, 1,000 samples",
            lambda: assess(members[0], calibration=own),
        )
        lines.append(line)
        lines += [
            timed(f"calibration: {kind}, 10 folds", partial(calibrate, members[0], kind=kind))[0] for kind in KINDS
        ]
        three = [Member(str(number), answers) for number, answers in enumerate(members)]
        lines.append(timed("ensemble of three, 10 folds, each member left out", lambda: weigh(three))[0])
        lines.append(timed("the same, each calibrated in every fold", lambda: weigh(three, calibrate=True))[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    text = (
        f"{args.rows:,} made-up rows with three labels in both passes: a scores file of {size:.1f} MB. To hold: the\n"
        f"metrics below {LIMIT_SECONDS} s. The process's peak (resident) was {peak:.2f} GB. The load is the machine's\n"
        f"at the end of each line (1 a busy core)."
    )
    table = "| what | s | CPU s | load |\n|---|---|---|---|\n" + "\n".join(lines) + "\n"
    page = prepare.head("Metrics, calibration and ensembles of large scores files", text, runs="one run") + table
    write_atomic(prepare.RESULTS / "evaluation.md", page)
    return 0 if reading + metrics < LIMIT_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
