"""The notebook's side of the worker: start it, show what it does, end it at the deadline, start it again."""

from __future__ import annotations

import signal
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import RunError
from kaggle_kit.runtime.events import WORKER, WorkerError, parse_event
from kaggle_kit.runtime.journal import PLAIN, Entry, Journal, JournalWriter
from kaggle_kit.runtime.launch import GRACE_SECONDS, heard, launch_plain, log_tail
from kaggle_kit.runtime.permitted import session_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.runtime.job import Job
    from kaggle_kit.runtime.launch import Launch


CANNOT_BE_HELPED = 2
"""The worker's exit code for a failure that a restart would only repeat."""
_MOST_TOLD = 1000
"""Events of one life that a person is shown, progress left out: a worker has some ten."""


@dataclass
class Outcome:
    """How the worker's life (or lives) ended. Times in seconds."""

    ended: str = "done"
    """How it ended: done, deadline, or failed."""
    message: str = ""
    starts: int = 0
    deaths: list[str] = field(default_factory=list)
    """What ended each life that was followed by another."""
    stages: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0
    log: str = ""
    """The end of the worker's log, where it failed."""


@dataclass(frozen=True)
class Worker:
    """What is started, and how: the command, its whole environment, what it reads, and where its words go.

    `keep` writes what an event tells into the journal, and says whether the event was of that kind; `ready` is called
    before each life. Both may raise RunError, which no restart mends.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    reads: Sequence[Path] = ()
    launch: Launch = launch_plain
    keep: Callable[[dict[str, Any]], bool] = lambda _event: False
    ready: Callable[[], None] = lambda: None


def supervise(
    worker: Worker,
    *,
    deadline: float,
    count: Callable[[], int],
    on_event: Callable[[dict[str, Any]], None],
    stop: threading.Event | None = None,
    tries_without_progress: int = 4,
) -> Outcome:
    """Run the worker until it is done, cannot be helped, or `deadline` (Unix time) is reached, or `stop` is set.

    A worker that dies is started again while `count()`, the rows that have an answer, grows; after
    `tries_without_progress` deaths in a row that brought none it is given up. By default these are as many as it takes
    to find one row that kills the engine: once beside others, twice alone, and once more without it.
    """
    life = _Lives(worker, deadline, on_event, stop)
    outcome = life.outcome
    idle = 0
    while True:
        before = count()
        outcome.starts += 1
        ended = life.one()
        if ended is not None:
            outcome.ended = ended
            return outcome
        idle = 0 if count() > before else idle + 1
        if idle >= tries_without_progress:
            outcome.ended = "failed"
            return outcome
        outcome.deaths.append(outcome.message)
        on_event({"event": "restart", "message": outcome.message})


@dataclass
class _Lives:
    """A worker's lives, one after the other."""

    worker: Worker
    deadline: float
    on_event: Callable[[dict[str, Any]], None]
    stop: threading.Event | None
    outcome: Outcome = field(default_factory=Outcome)
    _error: str = ""
    _done: bool = False
    _told: int = 0

    def one(self) -> str | None:
        """Run the worker once. Returns how it ended, or None where another start may help."""
        self._error, self._done, self._told = "", False, 0
        try:
            code = self._run()
        except WorkerError as error:
            self.outcome.message = str(error)
            return "failed"
        if self._done:
            return "done"
        if self.stop and self.stop.is_set():
            self.outcome.message = "it was interrupted"
            return "failed"
        if time.time() >= self.deadline:
            self.outcome.message = "the deadline was reached"
            return "deadline"
        self.outcome.message = self._error or f"the worker was ended by {_signal_name(code)}"
        return "failed" if code == CANNOT_BE_HELPED else None

    def _run(self) -> int | None:
        """One life from its start to its end; its exit code. Raises WorkerError where it says what no worker says."""
        worker = self.worker
        worker.ready()
        running = worker.launch(worker.command, environment=worker.environment, reads=worker.reads)
        clock = _StageClock(self.outcome.stages)
        with heard(running, worker.log) as hearing:
            try:
                for line in hearing.lines(lambda: self.deadline - time.time(), self.stop):
                    self._take(line, clock)
            finally:
                clock.leave()
                code = running.stop(grace_seconds=GRACE_SECONDS)
            # The answers of its last moment are worth as much as those before.
            for line in hearing.rest():
                self._take(line, clock)
            clock.leave()
        return code

    def _take(self, line: bytes, clock: _StageClock) -> None:
        try:
            event = parse_event(line, WORKER)
            if event is None or self.worker.keep(event):
                return
        except RunError as error:
            raise WorkerError(str(error)) from error
        self._told += event["event"] != "progress"
        if self._told > _MOST_TOLD:
            raise WorkerError(f"the worker has told more than {_MOST_TOLD:,} things, and none of them is an answer")
        match event["event"]:
            case "stage":
                clock.enter(event["name"])
            case "error":
                self._error = event["message"]
            case "done":
                self._done = True
                self.outcome.peak_bytes = event["peak_bytes"]
        self.on_event(event)


@dataclass
class _StageClock:
    """Adds the seconds of each stage to `stages`."""

    stages: dict[str, float]
    current: str | None = None
    since: float = 0.0

    def enter(self, name: str) -> None:
        """End the stage that runs, and begin `name`."""
        self.leave()
        self.current, self.since = name, time.monotonic()

    def leave(self) -> None:
        """End the stage that runs, if one does."""
        if self.current is not None:
            self.stages[self.current] = self.stages.get(self.current, 0.0) + time.monotonic() - self.since
        self.current = None


def _signal_name(code: int | None) -> str:
    if code is None:
        return "nobody: it cannot be killed"
    # A seal's own process hands on as 128 + N what signal N ended.
    ended = -code if code < 0 else code - 128
    try:
        return signal.Signals(ended).name
    except ValueError:
        return f"exit code {code}" if code >= 0 else f"signal {ended}"


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
            keeper = JournalWriter(part, journal)
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
