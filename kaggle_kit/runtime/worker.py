"""The worker: scores the rows of a job in the engine's own environment.

`python -m kaggle_kit.runtime.worker JOB.json KNOWN.json`. It reports what it does and every answer in JSON lines on its
standard output, and writes no file that is kept; whatever the engine prints goes to standard error. Exit codes: 0 done,
1 a failure that a restart may fix, 2 one that it cannot.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from kaggle_kit.errors import KitError, RunError
from kaggle_kit.runtime.engine import EngineDiedError
from kaggle_kit.runtime.engines import open_engine
from kaggle_kit.runtime.governor import Governor
from kaggle_kit.runtime.job import Job, read_job
from kaggle_kit.runtime.journal import SWAPPED, WorkerJournal, read_known_entries
from kaggle_kit.runtime.prepare import Prepared, needs_engine, open_job, prepare
from kaggle_kit.runtime.scoring import Scorer, refuse_silence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kaggle_kit.runtime.engine import Engine
    from kaggle_kit.runtime.prompts import Prompt


@dataclass(frozen=True)
class Events:
    """JSON lines to the notebook."""

    stream: TextIO

    def send(self, event: str, **fields: Any) -> None:
        """Send one event; a notebook that no longer listens is not an error."""
        try:
            self.stream.write(json.dumps({"event": event, "time": time.time(), **fields}) + "\n")
            self.stream.flush()
        except BrokenPipeError:
            os._exit(1)

    def note(self, text: str) -> None:
        """Send what a person should know of the prompt."""
        self.send("note", text=text)


def open_events() -> Events:
    """The events of this process, which ends when its standard input does: no worker outlives its notebook.

    Whatever libraries print goes to standard error: the real standard output is for events alone.
    """
    events = Events(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    return events


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def run(job: Job, events: Events, known: Mapping[str, Any]) -> None:
    """Do the whole job, going on from what the journal held when this life began: `known`."""
    events.send("stage", name="prepare")
    journal = WorkerJournal(known, events.send)
    done = journal.read()
    engine = None
    if done or not needs_engine(job):
        prepared = prepare(job, note=events.note)
    else:
        prepared, engine = _prepare_beside_start(job, events)
    journal.write(entry for entry in prepared.settled if entry.id not in done)
    todo = {row_id: prompt for row_id, prompt in prepared.prompts.items() if row_id not in done}
    tokens = sum(len(prompt.token_ids) for prompt in todo.values())
    events.send("rows", total=len(prepared.prompts), todo=len(todo), tokens=tokens)
    if todo or _unswapped(job, prepared, journal):
        _score(job, prepared, todo, journal, events, engine)
        refuse_silence(journal)
    events.send("done", peak_bytes=_peak_bytes())


def _prepare_beside_start(job: Job, events: Events) -> tuple[Prepared, Engine]:
    """Prepare the rows while the engine loads: at 25,000 rows that saves most of a minute.

    What is wrong with the model, the labels or the budget is said before the engine starts.
    """
    opened = open_job(job, note=events.note)
    events.send("stage", name="engine start")
    preparing = ThreadPoolExecutor(1).submit(prepare, job, opened)
    engine = _start_engine(job, opened.label_ids, job.token_budget)
    if not preparing.done():
        events.send("stage", name="prepare")
    return preparing.result(), engine


def _score(
    job: Job,
    prepared: Prepared,
    todo: dict[str, Prompt],
    journal: WorkerJournal,
    events: Events,
    engine: Engine | None,
) -> None:
    if engine is None:
        events.send("stage", name="engine start")
        engine = _start_engine(job, prepared.label_ids, _longest(job, prepared))
    events.send("engine", name=engine.name)
    scorer = Scorer(
        engine=engine,
        journal=journal,
        governor=Governor(deadline=_own_deadline(job.deadline), full=job.token_budget, clock=time.time),
        builder=prepared.builder,
        report=lambda progress: events.send("progress", **asdict(progress)),
    )
    events.send("stage", name="scoring")
    scorer.first_pass(todo)
    if late := len(todo.keys() - journal.read().keys()):
        events.send("late", rows=late)
    if left := _unswapped(job, prepared, journal):
        events.send("stage", name="swapped pass")
        scorer.swapped_pass(left, job.task, done=journal.read())


def _own_deadline(deadline: float) -> float:
    """When the governor wants to be done: a little before the notebook would end the worker, which costs a chunk.

    Two minutes, or a twentieth of a short session: simulated, that loses 0.0005 of log loss less than a quarter of an
    hour does, and no run is late (benchmarks/deadline.py).
    """
    return deadline - min(120.0, max(0.0, deadline - time.time()) / 20)


def _unswapped(job: Job, prepared: Prepared, journal: WorkerJournal) -> dict[str, Prompt]:
    """The rows that the model has answered and whose swapped pass is still to come, if the task has one."""
    if not job.swapped or not job.task.field_pairs:
        return {}
    plain, swapped = journal.read(), journal.read(pass_name=SWAPPED)
    return {
        row_id: prompt
        for row_id, prompt in prepared.prompts.items()
        if row_id not in swapped and row_id in plain and plain[row_id].log_probabilities is not None
    }


def _longest(job: Job, prepared: Prepared) -> int:
    """Tokens of the longest prompt to come; an exchanged prompt may be longer than the plain one, up to the budget."""
    if job.swapped and job.task.field_pairs:
        return job.token_budget
    return max(len(prompt.token_ids) for prompt in prepared.prompts.values())


def _start_engine(job: Job, label_ids: Sequence[int], longest: int) -> Engine:
    try:
        return open_engine(job.engine, job.model, label_ids=label_ids, longest=longest, options=job.engine_options)
    except KitError:
        traceback.print_exc()
        raise
    except Exception as error:
        traceback.print_exc()
        raise RunError(f"the engine did not start: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"


def _peak_bytes() -> int:
    """The largest resident set of this process and of any child that has ended (getrusage gives KiB on Linux)."""
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return max(usage.ru_maxrss for usage in usages) * 1024


def main(argv: Sequence[str]) -> int:
    """The worker's whole life; returns its exit code."""
    events = open_events()
    # A crash of the driver would leave a core of many GB in the folder whose files are the notebook's output.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    # Set before the tokenizer's first use: it reads the variable once.
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    try:
        run(read_job(Path(argv[0])), events, read_known_entries(Path(argv[1])))
    except EngineDiedError as error:
        events.send("error", kind=type(error).__name__, message=str(error))
        return 1
    except KitError as error:
        events.send("error", kind=type(error).__name__, message=str(error))
        return 2
    except Exception as error:  # noqa: BLE001  whatever it is, the notebook hears of it
        traceback.print_exc()
        events.send("error", kind=type(error).__name__, message=_cause(error))
        return 1
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    # vLLM's threads can hold up a normal exit for many seconds; all that matters is on disk by now.
    os._exit(code)
