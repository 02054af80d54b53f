"""kill -9 of the worker at random moments of a run: what is lost, what is done twice, what comes out.

    python benchmarks/recovery.py               # 20 kills, some minutes on two cores
    python benchmarks/recovery.py --kills 5 --rows 800

The supervisor starts the worker again each time; the result is compared with that of a run that nobody disturbed. A
quarter of the kills fall into the time before scoring, the rest at row counts drawn over both passes, and up to a
second later. Three deaths in a row that brought no row end a run, by design: after two such, the next kill waits for a
chunk. The table goes to `benchmarks/results/recovery.md`; the end-to-end test uses `run_killed` and `compare`.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import ENGINE, engine_python
from prepare import RESULTS, demo_job, head, make_rows

from kaggle_kit.files import write_atomic
from kaggle_kit.runtime.combine import answers
from kaggle_kit.runtime.journal import SWAPPED, Journal
from kaggle_kit.runtime.prepare import prepare
from kaggle_kit.runtime.supervisor import read_entries, run_job
from kaggle_kit.sandbox.seal_driver import descendants

if TYPE_CHECKING:
    from kaggle_kit.runtime.job import Job
    from kaggle_kit.runtime.supervisor import Outcome

TOLERANCE = 0.01
"""Largest difference of a probability from the undisturbed run: beside other rows, a row may round otherwise. Measured
on one CPU: none at all."""
_EARLY_SECONDS = 8.0


@dataclass(frozen=True)
class Kill:
    """One kill: in which stage, how long the worker had lived (s), and the rows in the journal then."""

    stage: str
    seconds: float
    rows: int


@dataclass
class Killer:
    """Kills the worker at moments drawn from `seed`; `watch` gets the supervisor's events. `passes`: rows of both."""

    job: Job
    kills: int
    passes: int
    seed: int = 1
    done: list[Kill] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Draw the moments."""
        self._rng = random.Random(self.seed)
        early = self._rng.sample(range(self.kills), self.kills // 4)
        targets = iter(sorted(self._rng.uniform(0, 0.97) * self.passes for _ in range(self.kills - len(early))))
        self._targets = [None if number in early else next(targets) for number in range(self.kills)]
        self._armed = threading.Event()
        self._timer: threading.Timer | None = None
        self._stage, self._since, self._idle, self._before = "", 0.0, 0, 0

    def watch(self, event: dict[str, Any]) -> None:
        """Arm the next kill where its moment has come."""
        match event["event"]:
            case "stage":
                self._stage = str(event["name"])
                if self._stage == "prepare":
                    self._begin_life()
        if len(self.done) >= self.kills or self._armed.is_set():
            return
        target = self._targets[len(self.done)]
        wait = self._idle >= 2 and event["event"] != "progress"
        if target is None and not wait:
            self._arm(self._rng.uniform(0, _EARLY_SECONDS))
        elif target is not None and self._stage in ("scoring", "swapped pass") and not wait and self._rows() >= target:
            self._arm(self._rng.uniform(0, 1.0))

    def _begin_life(self) -> None:
        rows = self._rows()
        self._idle = 0 if rows > self._before or not self.done else self._idle + 1
        self._before, self._since = rows, time.monotonic()
        self._armed.clear()

    def _arm(self, seconds: float) -> None:
        self._armed.set()
        self._timer = threading.Timer(seconds, self._kill)
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        """Kill no more: the run has ended."""
        if self._timer:
            self._timer.cancel()

    def _kill(self) -> None:
        for pid in descendants(os.getpid()):
            try:
                if b"kaggle_kit.runtime.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    self.done.append(Kill(self._stage, time.monotonic() - self._since, self._rows()))
                    os.kill(pid, signal.SIGKILL)
                    return
            except OSError:
                continue

    def _rows(self) -> int:
        with Journal(self.job.journal, configuration=self.job.configuration()) as journal:
            return journal.count()


@dataclass(frozen=True)
class Found:
    """What two runs of the same rows left, compared."""

    rows: int
    missing: int
    without_scores: int
    most_times: int
    largest: float
    mean: float


def run_whole(job: Job, folder: Path, *, killer: Killer | None = None, workers: int = 1) -> Outcome:
    """One run of the job through the supervisor, killed or not."""
    python, _ = engine_python()
    folder.mkdir(exist_ok=True)
    watch = killer.watch if killer else lambda _: None
    outcome = run_job(job, workers=workers, python=python, scratch=folder, on_event=watch)
    if killer:
        killer.stop()
    return outcome


def compare(job: Job, whole: Job) -> Found:
    """The killed run's journal against that of the undisturbed one, `whole`."""
    prepared = prepare(job)
    ids = set(prepared.prompts) | {entry.id for entry in prepared.settled}
    passes = [[read_entries(one, workers=1, pass_name=name) for name in ("plain", SWAPPED)] for one in (job, whole)]
    plain, swapped = passes[0]
    missing = len(ids ^ set(plain)) + len(set(prepared.prompts) ^ set(swapped))
    lost = sum(entry.log_probabilities is None for entries in passes[0] for entry in entries.values())
    with Journal(job.journal, configuration=job.configuration()) as journal:
        times = journal.most_times()
    found, right = (answers(job.task, *both, calibration=None) for both in passes)
    from math import exp

    apart = [
        max(abs(exp(one) - exp(other)) for one, other in zip(found[name], right[name], strict=True))
        for name in found
        if name in right
    ]
    return Found(len(ids), missing, lost, times, max(apart), sum(apart) / len(apart))


def jobs(folder: Path, *, rows: int) -> tuple[Job, Job]:
    """The same short rows twice: to be disturbed, and not."""
    data = make_rows(folder / "data", rows=rows, mean_chars=150, seed=31)
    _, environment = engine_python()
    place = folder / "killed" / "journal.sqlite"
    job = demo_job(data, journal=place, engine_options=ENGINE, environment=environment)
    return job, replace(job, journal=folder / "whole" / "journal.sqlite")


def page(args: argparse.Namespace, killer: Killer, found: Found, outcomes: tuple[Outcome, Outcome]) -> str:
    """The results file."""
    killed, whole = outcomes
    stages = Counter(kill.stage for kill in killer.done)
    text = (
        f"The demo model and {found.rows:,} short rows, both passes, {len(killer.done)} times kill -9 (seed "
        f"{args.seed}): {', '.join(f'{count} in {name!r}' for name, count in stages.items())}.\nThe rows that were "
        f"with the engine at a kill are scored one by one afterwards, in other company, and may round otherwise in "
        f"bfloat16.\nStated tolerance of a probability: {TOLERANCE}."
    )
    lines = [
        "| | killed | undisturbed |",
        "|---|---|---|",
        f"| how it ended | {killed.ended} | {whole.ended} |",
        f"| starts of the worker | {killed.starts} | {whole.starts} |",
        f"| ids missing or too many, both passes | {found.missing} | – |",
        f"| rows without scores | {found.without_scores} | – |",
        f"| times that the most often written row was written | {found.most_times} | – |",
        f"| difference of a row's probabilities: largest, mean | {found.largest:.4f}, {found.mean:.5f} | – |",
        f"| seconds in {', '.join(whole.stages)} | {_stages(killed, whole)} | {_stages(whole, whole)} |",
        "",
        "| kill | stage | s into that life | rows in the journal (both passes) |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {number} | {kill.stage} | {kill.seconds:.1f} | {kill.rows:,} |"
        for number, kill in enumerate(killer.done, start=1)
    ]
    return head("kill -9 at random moments", text, runs="one run of each") + "\n".join(lines) + "\n"


def _stages(outcome: Outcome, order: Outcome) -> str:
    return ", ".join(f"{outcome.stages.get(name, 0):.0f}" for name in order.stages)


def main() -> int:
    """The command line; 1 where a row was lost, done twice, or came out otherwise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rows", type=int, default=3100)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job, whole = jobs(folder, rows=args.rows)
        killer = Killer(job, kills=args.kills, passes=2 * args.rows, seed=args.seed)
        outcomes = run_whole(job, job.journal.parent, killer=killer), run_whole(whole, whole.journal.parent)
        found = compare(job, whole)
    text = page(args, killer, found, outcomes)
    print(text)
    write_atomic(RESULTS / "recovery.md", text)
    right = found.missing == found.without_scores == 0 and found.most_times == 1 and found.largest < TOLERANCE
    return 0 if right and len(killer.done) == args.kills else 1


if __name__ == "__main__":
    sys.exit(main())
