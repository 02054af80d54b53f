"""The notebook's session: install, score, submit; and a record of what happened, for whoever reads it."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import DataError, RunError
from kaggle_kit.runtime import install
from kaggle_kit.runtime.job import Job
from kaggle_kit.runtime.journal import Entry, Journal
from kaggle_kit.runtime.progress import ProgressLine, duration
from kaggle_kit.runtime.submission import Sample, dump_submission, put_submission, read_sample
from kaggle_kit.runtime.supervisor import Outcome, log_tail, supervise

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kaggle_kit.runtime.task import Task

_NAMED_PROBLEMS = 50
"""Rows that the record names; the rest are counted."""
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "USE_TF": "0",
}
_NOT_FOR_THE_WORKER = ("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "MPLBACKEND")


@dataclass
class Session:
    """One run of a notebook.

    `data`, `model` and `wheelhouse` are the attached folders; `working` receives `submission.csv`; `scratch` holds
    what nobody keeps. `deadline` is when the submission must stand (Unix time, seconds).
    """

    task: Task
    data: Path
    model: Path
    wheelhouse: Path
    working: Path
    scratch: Path
    token_budget: int
    deadline: float
    engine_options: Mapping[str, Any]
    worker_environment: Mapping[str, str]
    record: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise DataError where the sample submission does not fit the task."""
        self.sample: Sample = read_sample(self.data / "sample_submission.csv")
        if set(self.sample.columns) != set(self.task.labels):
            raise DataError(
                f"sample_submission.csv has the columns {list(self.sample.columns)}, "
                f"labels has {list(self.task.labels)}"
            )
        self._python: Path | None = None

    def install(self) -> None:
        """Make the engine's environment from the wheelhouse. Raises WheelhouseError."""
        self._python = install.install(self.wheelhouse, scratch=self.scratch)

    def score(self) -> None:
        """Score every row through the worker, until done or until the deadline.

        Raises RunError where the worker could not be helped; the rows that it had scored are kept.
        """
        if self._python is None:
            raise RunError("install() comes before score()")
        job = self._job()
        path = self.scratch / "job.json"
        job.write(path)
        log = self.scratch / "worker.log"
        line = ProgressLine(deadline=self.deadline)
        with Journal(job.journal, configuration=job.configuration()) as journal:
            outcome = supervise(
                [str(self._python), "-m", "kaggle_kit.runtime.worker", str(path)],
                environment=self._environment(),
                log=log,
                deadline=self.deadline,
                count=journal.count,
                on_event=line.show,
            )
        self._note_outcome(outcome)
        if outcome.ended == "failed":
            tail = log_tail(log)
            sys.stdout.write(f"The end of the worker's log:\n{tail}\n")
            raise RunError(f"scoring stopped: {outcome.message}")

    def submit(self) -> None:
        """Put `submission.csv` in place from what the journal holds, the prior for the rest; note the figures.

        Raises RunError where it would not be valid; the submission that stood there is then kept.
        """
        job = self._job()
        with Journal(job.journal, configuration=job.configuration()) as journal:
            entries = journal.read()
        text = dump_submission(self.sample, self._probabilities(entries), prior=self.task.prior)
        put_submission(self.working / "submission.csv", text, self.sample)
        self._note_rows(entries)
        rows = self.record["rows"]
        sys.stdout.write(
            f"submission.csv: {rows['total']:,} rows, {rows['scored']:,} scored by the model, "
            f"{rows['prior']:,} with the prior\n"
        )

    def _job(self) -> Job:
        return Job(
            task=self.task,
            test=self.data / "test.csv",
            id_column=self.sample.id_column,
            model=self.model,
            journal=self.scratch / "journal.sqlite",
            token_budget=self.token_budget,
            engine_options=self.engine_options,
        )

    def _environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key not in _NOT_FOR_THE_WORKER}
        caches = {
            name: str(self.scratch / "cache")
            for name in (
                "XDG_CACHE_HOME",
                "XDG_CONFIG_HOME",
                "VLLM_CACHE_ROOT",
                "TRITON_CACHE_DIR",
                "HF_HOME",
            )
        }
        return kept | _OFFLINE | caches | dict(self.worker_environment)

    def _probabilities(self, entries: Mapping[str, Entry]) -> dict[str, dict[str, float]]:
        from math import exp

        columns = list(self.task.labels)
        return {
            row_id: dict(zip(columns, map(exp, entry.log_probabilities), strict=True))
            for row_id, entry in entries.items()
            if entry.log_probabilities is not None
        }

    def _note_outcome(self, outcome: Outcome) -> None:
        self.record["worker"] = {
            "ended": outcome.ended,
            "message": outcome.message,
            "starts": outcome.starts,
            "deaths": outcome.deaths,
            "peak_bytes": outcome.peak_bytes,
            "stages": {name: round(seconds, 3) for name, seconds in outcome.stages.items()},
        }

    def _note_rows(self, entries: Mapping[str, Entry]) -> None:
        scored = [entry for entry in entries.values() if entry.log_probabilities is not None]
        problems = {entry.id: entry.problem for entry in entries.values() if entry.problem is not None}
        in_sample = [row_id for row_id in self.sample.ids if row_id in entries]
        masses = [entry.mass for entry in scored if entry.mass is not None]
        scored_ids = {entry.id for entry in scored}
        self.record["rows"] = {
            "total": len(self.sample.ids),
            "scored": sum(row_id in scored_ids for row_id in self.sample.ids),
            "prior": sum(row_id not in scored_ids for row_id in self.sample.ids),
            "unreadable": len(problems),
            "unreadable_rows": dict(list(problems.items())[:_NAMED_PROBLEMS]),
            "not_reached": len(self.sample.ids) - len(in_sample),
            "cut": sum(bool(entry.cut) for entry in scored),
            "cut_fields": dict(sorted(Counter(name for entry in scored for name in entry.cut).items())),
        }
        self.record["prompt_tokens"] = sum(entry.tokens for entry in scored)
        self.record["longest_prompt"] = max((entry.tokens for entry in scored), default=0)
        self.record["label_mass"] = {"mean": sum(masses) / len(masses), "lowest": min(masses)} if masses else None

    def time_left(self) -> str:
        """The time until the deadline, as a person reads it."""
        return duration(self.deadline - time.time())
