"""The journal from both sides of a worker's pipe: the worker tells each answer, and the notebook alone writes them.

A worker may run a stranger's model. It never sees the journal's file, and the notebook opens no file that a worker
could have written: a database can be as hostile as any other input.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kaggle_kit.files import write_atomic
from kaggle_kit.runtime.events import WorkerError, count, number, optional, text, texts
from kaggle_kit.runtime.journal import PLAIN, SWAPPED, Entry
from kaggle_kit.runtime.rows import read_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from kaggle_kit.runtime.job import Job
    from kaggle_kit.runtime.journal import Journal

_MOST_BYTES = 1 << 18
"""Of one event's answers, about: far less than a line may have."""
_LEAST_LOG = -1e6
_ROUNDING = 1e-3
_MOST_MASS = 1.05
"""A sum of probabilities that were rounded each."""
_MOST_FLAGS = 16


def _to_list(entry: Entry) -> list[Any]:
    return [
        entry.id,
        entry.tokens,
        list(entry.cut),
        None if entry.log_probabilities is None else list(entry.log_probabilities),
        entry.mass,
        entry.problem,
        list(entry.flags),
    ]


def _from_list(found: Any, *, labels: int) -> Entry:
    """Raises WorkerError for anything but an entry of so many labels."""
    try:
        row_id, tokens, cut, scores, mass, problem, flags = found
        logs = None if scores is None else _logs(scores, labels)
        share, why = optional(number)(mass), optional(text)(problem)
        entry = Entry(_id(row_id), count(tokens), tuple(texts(cut)), logs, share, why, tuple(texts(flags)))
    except (TypeError, ValueError) as error:
        raise WorkerError(f"the worker gave an answer that is none: {error}") from error
    if (share is not None and not 0 <= share <= _MOST_MASS) or len(entry.flags) > _MOST_FLAGS:
        raise WorkerError("the worker gave an answer that is none: a mass beyond 1, or flags without end")
    return entry


def _id(found: Any) -> str:
    if not isinstance(found, str):
        raise TypeError("an id that is no text")
    return found


def _logs(found: Any, length: int) -> tuple[float, ...]:
    if not isinstance(found, list) or len(found) != length:
        raise TypeError(f"not {length} numbers")
    logs = tuple(map(number, found))
    if not all(_LEAST_LOG < one < _ROUNDING for one in logs):
        raise ValueError("the logarithm of no probability")
    return logs


class ToldJournal:
    """What the worker knows of the journal: what stood in it when it began, and all that it has told since."""

    def __init__(self, known: Mapping[str, Any], tell: Callable[..., None]) -> None:
        """`known` is what `Keeper.known` gave; `tell` sends an event."""
        self._tell = tell
        self._entries: dict[str, dict[str, Entry]] = {}
        for name in (PLAIN, SWAPPED):
            found = (_from_list(one, labels=len(one[3] or ())) for one in known.get(name, ()))
            self._entries[name] = {entry.id: entry for entry in found}
        self._flown: dict[str, int] = dict(known.get("in_flight", {}))

    def write(self, entries: Iterable[Entry], *, pass_name: str = PLAIN) -> None:
        """Tell rows, and take them out of flight; a row that is already there is replaced."""
        waiting: list[list[Any]] = []
        size = 0
        for entry in entries:
            waiting.append(_to_list(entry))
            size += 200 + len(entry.id) + len(entry.problem or "") + sum(map(len, entry.flags))
            self._entries[pass_name][entry.id] = entry
            self._flown.pop(entry.id, None)
            if size > _MOST_BYTES:
                self._tell("answers", **{"pass": pass_name, "rows": waiting})
                waiting, size = [], 0
        if waiting:
            self._tell("answers", **{"pass": pass_name, "rows": waiting})

    def begin(self, row_ids: Iterable[str]) -> None:
        """Tell the rows that the engine is about to be given: if it dies, one of them may be why."""
        ids = list(row_ids)
        for row_id in ids:
            self._flown[row_id] = self._flown.get(row_id, 0) + int(len(ids) == 1)
        self._tell("begun", ids=ids)

    def in_flight(self) -> dict[str, int]:
        """The rows that an engine was given and that were never answered: id → how often it was given the row alone."""
        return dict(self._flown)

    def read(self, *, pass_name: str = PLAIN) -> dict[str, Entry]:
        """All rows of a pass so far, by id."""
        return dict(self._entries[pass_name])

    def answered(self) -> int:
        """How many rows the model has answered, those of each pass counted."""
        every = (entry for entries in self._entries.values() for entry in entries.values())
        return sum(entry.log_probabilities is not None and entry.tokens > 0 for entry in every)


@dataclass
class Keeper:
    """Writes into the journal what a worker tells, once it was looked at."""

    job: Job
    journal: Journal
    _cut: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        """What an entry may name."""
        self._cut = frozenset(self.job.task.fields)

    @cached_property
    def _ids(self) -> frozenset[str]:
        found = read_records(self.job.test, columns=[self.job.id_column])
        return frozenset(record[self.job.id_column] or "" for record in found)

    def known(self, path: Path) -> None:
        """Write what a worker's life begins with, as the file `path`."""
        body = {name: [_to_list(entry) for entry in self.journal.read(pass_name=name).values()] for name in _PASSES}
        write_atomic(path, json.dumps(body | {"in_flight": self.journal.in_flight()}))

    def take(self, event: Mapping[str, Any]) -> bool:
        """Write what `event` tells; False for one that is not for the journal.

        Raises WorkerError for what is no answer to a row of the job, RunError where the journal cannot be written.
        """
        if event["event"] == "begun":
            self.journal.begin(self._known_ids(event["ids"]))
        elif event["event"] == "answers":
            if event["pass"] not in _PASSES or not isinstance(event["rows"], list):
                raise WorkerError("the worker gave answers of no pass")
            entries = [_from_list(one, labels=len(self.job.task.labels)) for one in event["rows"]]
            self._known_ids([entry.id for entry in entries])
            if any(not self._cut.issuperset(entry.cut) for entry in entries):
                raise WorkerError("the worker says that it cut a field that the task has not")
            self.journal.write(entries, pass_name=event["pass"])
        else:
            return False
        return True

    def _known_ids(self, found: Any) -> list[str]:
        if not isinstance(found, list) or not all(isinstance(one, str) and one in self._ids for one in found):
            raise WorkerError("the worker speaks of a row that the table has not")
        return found


_PASSES = (PLAIN, SWAPPED)


def read_known(path: Path) -> dict[str, Any]:
    """What `Keeper.known` wrote."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
