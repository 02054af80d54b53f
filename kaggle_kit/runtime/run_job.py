"""A job, run by one worker or by several side by side, each with a share of the rows and a card of its own."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from kaggle_kit.runtime.journal import PLAIN, Entry, Journal
from kaggle_kit.runtime.launch import launch_plain, log_tail
from kaggle_kit.runtime.permitted import session_environment
from kaggle_kit.runtime.supervisor import Outcome, Worker, supervise
from kaggle_kit.runtime.told import Keeper

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kaggle_kit.runtime.job import Job
    from kaggle_kit.runtime.launch import Launch

_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "USE_TF": "0",
    # With -m Python looks for modules in the working folder first.
    "PYTHONSAFEPATH": "1",
}
CACHES = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "VLLM_CACHE_ROOT", "TRITON_CACHE_DIR", "HF_HOME")


def share(job: Job, number: int, workers: int) -> Job:
    """The part of a job that worker `number` of `workers` does, with a journal of its own."""
    if workers == 1:
        return job
    journal = job.journal.with_name(f"{job.journal.stem}-{number}{job.journal.suffix}")
    return replace(job, journal=journal, share=(number, workers))


def read_entries(job: Job, *, workers: int, pass_name: str = PLAIN) -> dict[str, Entry]:
    """All rows of a pass that any of the workers has answered so far."""
    found: dict[str, Entry] = {}
    for number in range(workers):
        part = share(job, number, workers)
        with Journal(part.journal, configuration=part.configuration(), begin=False) as journal:
            found |= journal.read(pass_name=pass_name)
    return found


def run_job(
    job: Job,
    *,
    workers: int,
    python: Path,
    scratch: Path,
    on_event: Callable[[dict[str, Any]], None],
    launch: Launch = launch_plain,
) -> Outcome:
    """Run all parts of a job to their ends; `on_event` gets each event with the number of its `worker`.

    The job's variables are added to what a worker gets of this process's. `launch` starts the workers, which write
    nothing that is read here: they tell their answers, and the journals are written by this process. Their own words go
    to `scratch`/worker-N.log; where one failed, their end is in the outcome's `log`.
    """
    told = threading.Lock()
    stop = threading.Event()

    def one(number: int) -> Outcome:
        part, place = share(job, number, workers), scratch.absolute()
        path, known, log = (place / name.format(number) for name in ("job-{}.json", "known-{}.json", "worker-{}.log"))
        part.write(path)
        own = {"CUDA_VISIBLE_DEVICES": str(number)} if workers > 1 else {}

        def tell(event: dict[str, Any]) -> None:
            with told:
                on_event({**event, "worker": number})

        with Journal(part.journal, configuration=part.configuration()) as journal:
            keeper = Keeper(part, journal)
            worker = Worker(
                [str(python), "-m", "kaggle_kit.runtime.worker", str(path), str(known)],
                environment={**worker_environment(scratch), **job.environment, **own},
                log=log,
                reads=(path, known, part.test, part.model),
                launch=launch,
                keep=keeper.take,
                ready=partial(keeper.known, known),
            )
            outcome = supervise(worker, deadline=job.deadline, count=journal.answered, on_event=tell, stop=stop)
        return replace(outcome, log=log_tail(log)) if outcome.ended == "failed" else outcome

    if workers == 1:
        return one(0)
    with ThreadPoolExecutor(workers) as pool:
        try:
            outcomes, pending = [], {pool.submit(one, number) for number in range(workers)}
            while pending:
                # Never without a limit: a signal that comes as a wait begins is only seen when the wait ends.
                done, pending = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
                outcomes += [each.result() for each in done]
            return _together(outcomes)
        finally:
            # After Ctrl-C, or an error of one: the others' workers end too, instead of going on to the deadline.
            stop.set()


def worker_environment(scratch: Path) -> dict[str, str]:
    """A worker's variables: what a child of the runtime gets, offline, its caches in `scratch`."""
    return session_environment(_OFFLINE | {name: str(scratch / "cache") for name in CACHES})


def _together(outcomes: list[Outcome]) -> Outcome:
    """The outcome of all workers: the worst end, the longest of each stage, the sum of the rest."""
    worst = max(outcomes, key=lambda outcome: ("done", "deadline", "failed").index(outcome.ended))
    stages: dict[str, float] = {}
    for outcome in outcomes:
        for name, seconds in outcome.stages.items():
            stages[name] = max(stages.get(name, 0.0), seconds)
    return replace(
        worst,
        starts=max(outcome.starts for outcome in outcomes),
        deaths=[death for outcome in outcomes for death in outcome.deaths],
        stages=stages,
        peak_bytes=sum(outcome.peak_bytes for outcome in outcomes),
    )


def show_log(outcome: Outcome) -> None:
    """Write the end of a failed worker's log where the notebook shows it."""
    if outcome.log:
        sys.stdout.write(f"The end of the worker's log:\n{outcome.log}\n")
