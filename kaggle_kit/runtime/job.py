"""What the notebook hands to its worker: one JSON file."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import DataError
from kaggle_kit.files import write_atomic
from kaggle_kit.runtime.manifest import MANIFEST

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


ROW_FORMATS = ("turns", "text")
RULES = ("empty", "identical")


@dataclass(frozen=True)
class Task:
    """The author's choices, checked.

    `labels` maps each column of the submission to the label that the model says for it; `prior` maps the same
    columns to the fallback distribution; `fields` maps columns of test.csv to their share of the token budget;
    `row_format` says how a cell is read: "turns" (a JSON list of texts) or "text" (as it is).

    `swap` pairs what a swapped pass exchanges: fields with fields, and submission columns with columns. `rules` gives
    rows that need no model their distribution: "identical" (the exchanged fields hold the same text) and "empty"
    (they hold none). `chat` wraps the template in the model's own chat template, as one user turn.
    """

    labels: Mapping[str, str]
    prior: Mapping[str, float]
    fields: Mapping[str, float]
    template: str
    row_format: str = "turns"
    swap: Mapping[str, str] = field(default_factory=dict)
    rules: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    chat: bool = False

    def __post_init__(self) -> None:
        """Raise DataError where the parts do not agree."""
        if len(self.labels) < 2:
            raise DataError(f"labels = {dict(self.labels)!r}: a task needs two labels or more")
        if len(set(self.labels.values())) < len(self.labels):
            raise DataError(f"labels = {dict(self.labels)!r}: two columns share a label")
        self._check_distribution("prior", self.prior)
        if not self.fields or not all(0 < share < math.inf for share in self.fields.values()):
            raise DataError(f"fields = {dict(self.fields)!r}: each field needs a finite share above 0")
        if self.row_format not in ROW_FORMATS:
            raise DataError(f"row_format = {self.row_format!r}; use one of {', '.join(ROW_FORMATS)}")
        self._check_swap()
        for name, distribution in self.rules.items():
            if name not in RULES:
                raise DataError(f"rules has {name!r}; known rules: {', '.join(RULES)}")
            if not self.field_pairs:
                raise DataError(f"rules[{name!r}] speaks of exchanged fields, and swap pairs none")
            self._check_distribution(f"rules[{name!r}]", distribution)

    @property
    def field_pairs(self) -> dict[str, str]:
        """The pairs of fields that a swapped pass exchanges."""
        return {one: other for one, other in self.swap.items() if one in self.fields}

    def mirrored(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """Values by label, in the order of `labels`, with the exchanged columns mapped back."""
        pairs = {**self.swap, **{other: one for one, other in self.swap.items()}}
        columns = list(self.labels)
        return tuple(values[columns.index(pairs.get(column, column))] for column in columns)

    def _check_distribution(self, name: str, values: Mapping[str, float]) -> None:
        if set(values) != set(self.labels):
            raise DataError(f"{name} has the columns {sorted(values)}, labels has {sorted(self.labels)}")
        total = sum(values.values())
        if not math.isclose(total, 1, abs_tol=1e-6) or min(values.values()) <= 0:
            raise DataError(f"{name} = {dict(values)!r} must be positive and sum to 1; it sums to {total:g}")

    def _check_swap(self) -> None:
        names = [*self.swap, *self.swap.values()]
        if len(set(names)) < len(names):
            raise DataError(f"swap = {dict(self.swap)!r}: a name stands in two pairs")
        for one, other in self.swap.items():
            if not any(one in group and other in group for group in (self.fields, self.labels)):
                raise DataError(
                    f"swap pairs {one!r} with {other!r}; a pair is of two fields ({', '.join(self.fields)}) "
                    f"or of two columns ({', '.join(self.labels)})"
                )

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `Task(**object)` reads back."""
        return asdict(self)
