"""What the notebook gives its worker: one JSON file."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import DataError
from kaggle_kit.files import write_atomic
from kaggle_kit.runtime.manifest import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PATHS = ("test", "model", "journal")


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
    """Whether a swapped pass may follow, if the task has one."""
    unasked: Sequence[str] = ()
    """The keys of rows of `test` that nobody asks for: they are not scored."""
    share: tuple[int, int] = (0, 1)
    """This worker's number and how many there are: it does every n-th row of n workers, from that number on."""

    def configuration(self) -> str:
        """A hash of all that decides the scores: a journal goes on only under the same one.

        Raises DataError if test.csv is missing.
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
        if self.unasked:
            parts["unasked"] = sorted(self.unasked)
        # Never sorted: the order of the labels is the order of the scores.
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Write the job for the worker."""
        paths = {name: str(getattr(self, name)) for name in _PATHS}
        tables = {"engine_options": dict(self.engine_options), "environment": dict(self.environment)}
        body = vars(self) | paths | tables | {"task": self.task.to_json()}
        # Never sorted: the order of the labels is the order of the scores.
        write_atomic(path, json.dumps(body, indent=2) + "\n")


def read_job(path: Path) -> Job:
    """Read what `Job.write` wrote."""
    body = json.loads(path.read_text(encoding="utf-8"))
    paths = {name: Path(body[name]) for name in _PATHS}
    tuples = {name: tuple(body[name]) for name in ("engine_version", "share", "unasked")}
    return Job(**{**body, **paths, **tuples, "task": Task(**body["task"])})


ROW_FORMATS = ("turns", "text")
RULES = ("empty", "identical")
CHAT_DATE = "2024-07-26"
"""The date that a chat template is told unless the source says another: Llama 3's own templates, the first that wanted
one, name this day where they have no clock. Any fixed one keeps the prompts of all runs alike."""
_OWN_NAMES = ("messages", "add_generation_prompt", "continue_final_message", "raise_exception", "strftime_now")
"""What a chat template is given by whoever renders it."""
_ADDED_LATER = ("chat_variables", "chat_system", "chat_date", "answer_prefix")
_MOST_VARIABLES = 64 << 10
"""Letters of all variables of a chat template, as JSON."""


@dataclass(frozen=True)
class ChatSettings:
    """What a chat template is given beside the user's turn: its own variables, a system message, a date."""

    variables: Mapping[str, Any] = field(default_factory=dict)
    system: str = ""
    date: str = CHAT_DATE


@dataclass(frozen=True)
class Task:
    """The author's choices, checked.

    `labels` maps each column of the submission to the label that the model says for it; `prior` maps the same
    columns to the fallback distribution; `fields` maps columns of test.csv to their share of the token budget;
    `row_format` says how a cell is read: "turns" (a JSON list of texts) or "text" (as it is).

    `swap` pairs what a swapped pass exchanges: fields with fields, and submission columns with columns. `rules` gives
    rows that need no model their distribution: "identical" (the exchanged fields hold the same text) and "empty"
    (they hold none). `chat` wraps the template in the model's own chat template, as one user turn: it is given
    `chat_variables`, `chat_system` as a system message, and `chat_date` where it asks for today's.

    `answer_prefix` is the end of the prompt: what the model says before its label, in training too. An empty text says
    that it was trained to say the label at once; None, that nothing is known, and the chat template decides.
    """

    labels: Mapping[str, str]
    prior: Mapping[str, float]
    fields: Mapping[str, float]
    template: str
    row_format: str = "turns"
    swap: Mapping[str, str] = field(default_factory=dict)
    rules: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    chat: bool = False
    chat_variables: Mapping[str, Any] = field(default_factory=dict)
    chat_system: str = ""
    chat_date: str = CHAT_DATE
    answer_prefix: str | None = None

    def __post_init__(self) -> None:
        """Raise DataError if the parts do not agree."""
        if not all(isinstance(label, str) and label for label in self.labels.values()):
            raise DataError(f"labels = {dict(self.labels)!r}: a label is a text, and not an empty one")
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
        self._check_chat()
        for name, distribution in self.rules.items():
            if name not in RULES:
                raise DataError(f"rules has {name!r}; known rules: {', '.join(RULES)}")
            if not self.field_pairs:
                raise DataError(f"rules[{name!r}] speaks of exchanged fields, and swap pairs none")
            self._check_distribution(f"rules[{name!r}]", distribution)

    @property
    def field_pairs(self) -> dict[str, str]:
        """The pairs of fields that a swapped pass exchanges."""
        return {name: other for name, other in self.swap.items() if name in self.fields}

    def mirrored(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """Values by label, in the order of `labels`, with the exchanged columns mapped back."""
        pairs = {**self.swap, **{other: name for name, other in self.swap.items()}}
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
        for name, other in self.swap.items():
            if not any(name in group and other in group for group in (self.fields, self.labels)):
                raise DataError(
                    f"swap pairs {name!r} with {other!r}; a pair is of two fields ({', '.join(self.fields)}) "
                    f"or of two columns ({', '.join(self.labels)})"
                )

    @property
    def chat_settings(self) -> ChatSettings:
        """What the chat template is given."""
        return ChatSettings(self.chat_variables, self.chat_system, self.chat_date)

    @property
    def prompt_settings(self) -> dict[str, str]:
        """What the source says of the prompt beside its template, as texts by name; nothing that is as usual."""
        said = {name: value for name, value in self.to_json().items() if name in ("chat", *_ADDED_LATER)}
        return {name: json.dumps(value, ensure_ascii=False) for name, value in said.items() if value is not False}

    def _check_chat(self) -> None:
        for name, kinds in {"chat": (bool,), "chat_system": (str,), "answer_prefix": (str, type(None))}.items():
            if not isinstance(value := getattr(self, name), kinds):
                kind = "True or False" if name == "chat" else "a text"
                raise DataError(f"{name} = {value!r}; it is {kind}")
        _check_variables(self.chat_variables)
        try:
            dt.date.fromisoformat(self.chat_date)
        except (TypeError, ValueError) as error:
            raise DataError(f"chat_date = {self.chat_date!r}; write a day as YYYY-MM-DD") from error
        unused = {"chat_variables": self.chat_variables, "chat_system": self.chat_system}
        if not self.chat and (names := [name for name, value in unused.items() if value]):
            raise DataError(f"{' and '.join(names)} is for the model's chat template, and chat is not True")

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `Task(**object)` reads back.

        What came after the first version is left out where it is as usual: so a task keeps its hash.
        """
        body = asdict(self)
        usual = {
            one.name: one.default if one.default_factory is MISSING else one.default_factory() for one in fields(self)
        }
        return {name: value for name, value in body.items() if name not in _ADDED_LATER or value != usual[name]}


def _check_variables(variables: object) -> None:
    """Raise DataError unless they are names with plain values, as JSON has them."""
    if not isinstance(variables, dict):
        raise DataError(
            f'chat_variables = {variables!r}; it is a dict of names and values: {{"enable_thinking": False}}'
        )
    for name in variables:
        if not isinstance(name, str) or not name.isidentifier():
            raise DataError(f"chat_variables has {name!r}, and a variable of a template is named like one of Python")
        if name in _OWN_NAMES:
            raise DataError(f"chat_variables has {name!r}, which kit gives the chat template itself; take it out")
    try:
        text = json.dumps(variables, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"chat_variables holds what is no plain value ({error}); use texts, numbers, lists") from error
    if len(text) > _MOST_VARIABLES:
        raise DataError(f"chat_variables is longer than {_MOST_VARIABLES:,} letters")
