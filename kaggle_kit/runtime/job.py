"""What the notebook hands to its worker: one JSON file."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import DataError
from kaggle_kit.files import write_atomic
from kaggle_kit.runtime.manifest import MANIFEST
from kaggle_kit.runtime.task import Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Job:
    """Everything that decides the scores, and where they go.

    `token_budget`: tokens of one prompt at most, special tokens included.
    """

    task: Task
    test: Path
    id_column: str
    model: Path
    journal: Path
    token_budget: int
    engine_options: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of the worker beside this process's own: among them those that choose its kernels."""
    engine: str = "vllm"
    engine_version: Sequence[int] = ()
    deadline: float = math.inf
    """When scoring must have ended (Unix time, seconds)."""
    swapped: bool = True
    """Whether a swapped pass may follow, where the task has one."""
    share: tuple[int, int] = (0, 1)
    """This worker's number and how many there are: it does every so-manieth row, from that number on."""

    def configuration(self) -> str:
        """A hash of all that decides the scores: a journal goes on only under the same one.

        Raises DataError where test.csv is missing.
        """
        try:
            size = self.test.stat().st_size
        except FileNotFoundError:
            raise DataError(f"{self.test} is missing: attach the competition's data") from None
        parts = {
            "task": self.task.to_json(),
            "model": (self.model / MANIFEST).read_text(encoding="utf-8"),
            "test": [str(self.test), size],
            "token_budget": self.token_budget,
            "id_column": self.id_column,
            "engine": [self.engine, *self.engine_version],
            "engine_options": dict(self.engine_options),
            "environment": dict(self.environment),
            "share": self.share,
        }
        # Never sorted: the order of the labels is the order of the scores.
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Write the job for the worker."""
        body = {
            "task": self.task.to_json(),
            "test": str(self.test),
            "id_column": self.id_column,
            "model": str(self.model),
            "journal": str(self.journal),
            "token_budget": self.token_budget,
            "engine": self.engine,
            "engine_version": list(self.engine_version),
            "engine_options": dict(self.engine_options),
            "environment": dict(self.environment),
            "deadline": self.deadline,
            "swapped": self.swapped,
            "share": self.share,
        }
        # Never sorted: the order of the labels is the order of the scores.
        write_atomic(path, json.dumps(body, indent=2) + "\n")


def read_job(path: Path) -> Job:
    """Read what `Job.write` wrote."""
    body = json.loads(path.read_text(encoding="utf-8"))
    return Job(
        task=Task(**body["task"]),
        test=Path(body["test"]),
        id_column=body["id_column"],
        model=Path(body["model"]),
        journal=Path(body["journal"]),
        token_budget=body["token_budget"],
        engine_options=body["engine_options"],
        environment=body["environment"],
        engine=body["engine"],
        engine_version=tuple(body["engine_version"]),
        deadline=body["deadline"],
        swapped=body["swapped"],
        share=tuple(body["share"]),
    )
