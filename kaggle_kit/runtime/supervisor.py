"""The notebook's side of the worker: start it, show what it does, end it at the deadline, start it again."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

CANNOT_BE_HELPED = 2
"""The worker's exit code for a failure that a restart would only repeat."""
_GRACE_SECONDS = 5
_KILL_SECONDS = 30
"""A process in a call of the driver that never returns cannot be killed: the notebook goes on without it."""
_LOG_TAIL_LINES = 40


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


def supervise(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: Path,
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
    outcome = Outcome()
    stop = stop or threading.Event()
    idle = 0
    while True:
        before = count()
        outcome.starts += 1
        ended = _one_life(command, environment, log, deadline, on_event, outcome, stop)
        if ended is not None:
            outcome.ended = ended
            return outcome
        idle = 0 if count() > before else idle + 1
        if idle >= tries_without_progress:
            outcome.ended = "failed"
            return outcome
        outcome.deaths.append(outcome.message)
        on_event({"event": "restart", "message": outcome.message})


def _one_life(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    deadline: float,
    on_event: Callable[[dict[str, Any]], None],
    outcome: Outcome,
    stop: threading.Event,
) -> str | None:
    """Run the worker once. Returns how it ended, or None where another start may help."""
    with log.open("ab") as log_stream:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log_stream,
            start_new_session=True,
        )
        error = ""
        done = False
        clock = _StageClock(outcome.stages)
        try:
            for event in _events(process, deadline, stop):
                match event["event"]:
                    case "stage":
                        clock.enter(str(event["name"]))
                    case "error":
                        error = str(event["message"])
                    case "done":
                        done = True
                        outcome.peak_bytes = int(event["peak_bytes"])
                on_event(event)
        finally:
            clock.leave()
            end_group(process)
    if done:
        return "done"
    if stop.is_set():
        outcome.message = "it was interrupted"
        return "failed"
    if time.time() >= deadline:
        outcome.message = "the deadline was reached"
        return "deadline"
    outcome.message = error or f"the worker was ended by {_signal_name(process.returncode)}"
    return "failed" if process.returncode == CANNOT_BE_HELPED else None


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


def _events(process: subprocess.Popen[bytes], deadline: float, stop: threading.Event) -> Iterator[dict[str, Any]]:
    """The worker's events as they come, until it closes its output, the deadline is reached or `stop` is set."""
    lines: queue.Queue[bytes | None] = queue.Queue()

    def pump() -> None:
        if process.stdout:
            with process.stdout:
                for line in process.stdout:
                    lines.put(line)
        lines.put(None)

    threading.Thread(target=pump, daemon=True).start()
    dead = False
    while (left := deadline - time.time()) > 0 and not stop.is_set():
        try:
            line = lines.get(timeout=min(left, 1.0))
        except queue.Empty:
            # A process that the worker forked can hold its output open after it is dead.
            if dead:
                return
            dead = process.poll() is not None
            continue
        if line is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.0, min(deadline - time.time(), 30)))
            return
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and "event" in event:
                yield event


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End the worker and all that it started: politely, then not."""
    for number, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
    # Its output is closed by whoever reads it: closing it here would wait for that reader.
    if process.stdin:
        with contextlib.suppress(OSError):
            process.stdin.close()


def log_tail(log: Path) -> str:
    """The last lines of the worker's log."""
    if not log.exists():
        return ""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL_LINES:])


def _signal_name(code: int | None) -> str:
    if code is None:
        return "nobody: it cannot be killed"
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
