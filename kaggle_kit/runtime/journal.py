"""The journal: every scored row on disk, so that a killed worker loses nothing."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from kaggle_kit.errors import RunError
from kaggle_kit.files import mount_of, write_atomic
from kaggle_kit.runtime.events import WorkerError, count, number, optional, text, texts
from kaggle_kit.runtime.rows import read_ids, row_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

    from kaggle_kit.runtime.job import Job


PLAIN = "plain"
SWAPPED = "swapped"
REFUSED, DIED_OVER = "the engine refused it", "the engine died over it"
"""How the problem of a row begins that the engine had."""
_TABLES = """
CREATE TABLE IF NOT EXISTS configuration (hash TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS rows (
    id TEXT NOT NULL, pass TEXT NOT NULL, tokens INTEGER NOT NULL, cut TEXT NOT NULL, log_probabilities TEXT,
    mass REAL, flags TEXT NOT NULL, problem TEXT, times INTEGER NOT NULL DEFAULT 1, PRIMARY KEY (id, pass)
);
CREATE TABLE IF NOT EXISTS in_flight (id TEXT PRIMARY KEY, alone INTEGER NOT NULL);
"""
_WRITE = """
INSERT INTO rows (id, pass, tokens, cut, log_probabilities, mass, flags, problem) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id, pass) DO UPDATE SET tokens = excluded.tokens, cut = excluded.cut,
    log_probabilities = excluded.log_probabilities, mass = excluded.mass, flags = excluded.flags,
    problem = excluded.problem, times = times + 1
"""


def _check_schema(connection: sqlite3.Connection) -> None:
    """Raise sqlite3.DatabaseError if the file has a table, index, view or trigger that is not a journal's."""
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master"
    schema = set(connection.execute(query))
    with closing(sqlite3.connect(":memory:")) as empty:
        empty.executescript(_TABLES)
        # A journal whose writer was killed as it made it has some of the tables.
        if not schema <= set(empty.execute(query)):
            raise sqlite3.DatabaseError("it is not a journal, or one of another version of kit")


@dataclass(frozen=True)
class Entry:
    """What is known of one row in one pass: either its scores, or the problem for which it has none.

    `log_probabilities` are in the order of the task's labels (nats, summing to 1), as the model saw the row: a swapped
    pass is not yet mapped back. `tokens` counts the prompt's; `cut` names the fields that lost text; `flags` say what
    was unusual ("rule: identical", "copy").
    """

    id: str
    tokens: int = 0
    cut: tuple[str, ...] = ()
    log_probabilities: tuple[float, ...] | None = None
    mass: float | None = None
    problem: str | None = None
    flags: tuple[str, ...] = ()


def _entry(
    row_id: object, tokens: object, cut: object, scores: object, mass: object, flags: object, problem: object
) -> Entry:
    """A row of the table. Raises TypeError, ValueError for one that kit did not write."""
    if not isinstance(row_id, str) or not isinstance(tokens, int) or not isinstance(problem, str | None):
        raise TypeError(f"{row_id!r:.60} has values of other types")
    if not isinstance(mass, float | int | None) or not isinstance(scores, str | None):
        raise TypeError(f"{row_id!r:.60} has scores of other types")
    return Entry(
        row_id,
        tokens,
        _texts(cut),
        None if scores is None else tuple(float(number) for number in json.loads(scores)),
        mass,
        problem,
        _texts(flags),
    )


def _texts(value: object) -> tuple[str, ...]:
    parts = json.loads(value) if isinstance(value, str) else None
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise TypeError(f"{value!r:.60} is not a list of texts")
    return tuple(parts)


class Journal:
    """A SQLite file in WAL mode: one writer (the notebook, or kit), any number of readers."""

    def __init__(self, path: Path, *, configuration: str, begin: bool = True) -> None:
        """Open or make the journal; one that was written for another configuration begins again.

        Without `begin` such a journal is left as it is, and reads as empty.

        Raises RunError if the file cannot be opened or written.
        """
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=30, check_same_thread=False)
            # The file may have come with somebody else's project: nothing in it may call a function.
            self._connection.execute("PRAGMA trusted_schema=OFF")
            _check_schema(self._connection)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.executescript(_TABLES)
            with self._connection:
                stored = self._connection.execute("SELECT hash FROM configuration").fetchone()
                other = stored != (configuration,)
                self._foreign = other and not begin
                if other and begin:
                    for table in ("configuration", "rows", "in_flight"):
                        self._connection.execute(f"DELETE FROM {table}")  # noqa: S608  three names of our own
                    self._connection.execute("INSERT INTO configuration VALUES (?)", (configuration,))
        except (OSError, sqlite3.Error) as error:
            raise RunError(f"the journal {path} cannot be opened: {error}; free space there, or delete it") from error

    def write(self, entries: Iterable[Entry], *, pass_name: str = PLAIN) -> None:
        """Add rows, all or none, and take them out of flight; a row that is already there is replaced.

        Raises RunError on a full disk.
        """
        lines = [
            (
                entry.id,
                pass_name,
                entry.tokens,
                json.dumps(entry.cut),
                None if entry.log_probabilities is None else json.dumps(entry.log_probabilities),
                entry.mass,
                json.dumps(entry.flags),
                entry.problem,
            )
            for entry in entries
        ]
        try:
            with self._connection:
                self._connection.executemany(_WRITE, lines)
                self._connection.executemany("DELETE FROM in_flight WHERE id = ?", [line[:1] for line in lines])
        except sqlite3.Error as error:
            raise self._refused(error) from error

    def begin(self, row_ids: Iterable[str]) -> None:
        """Note the rows that the engine is about to get: if it dies, one of them may be why.

        Rows of an earlier note that were never written stay noted.
        """
        names = list(row_ids)
        alone = int(len(names) == 1)
        try:
            with self._connection:
                self._connection.executemany(
                    "INSERT INTO in_flight VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET alone = alone + excluded.alone",
                    [(name, alone) for name in names],
                )
        except sqlite3.Error as error:
            raise self._refused(error) from error

    def _refused(self, error: sqlite3.Error) -> RunError:
        """What a user reads of a journal that takes nothing more."""
        full = f"; the disk mounted at {mount_of(self._path)} takes nothing more" if "full" in str(error) else ""
        return RunError(f"the journal {self._path} cannot be written: {error}{full}")

    def in_flight(self) -> dict[str, int]:
        """The rows that the engine got and that were never written: id → how often it got the row alone."""
        return dict(self._connection.execute("SELECT id, alone FROM in_flight").fetchall())

    def read(self, *, pass_name: str = PLAIN) -> dict[str, Entry]:
        """All rows of a pass so far, by id, in the order in which they came."""
        if self._foreign:
            return {}
        lines = self._connection.execute(
            "SELECT id, tokens, cut, log_probabilities, mass, flags, problem FROM rows WHERE pass = ? ORDER BY rowid",
            (pass_name,),
        ).fetchall()
        try:
            return {line[0]: _entry(*line) for line in lines}
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise RunError(
                f"the journal holds a row that kit did not write ({error}); delete it, and run again"
            ) from error

    def answered(self) -> int:
        """How many rows the model has answered, those of each pass counted; a rule's answer has no tokens."""
        query = "SELECT COUNT(*) FROM rows WHERE log_probabilities IS NOT NULL AND tokens > 0"
        return int(self._connection.execute(query).fetchone()[0])

    def count(self) -> int:
        """How many rows the journal holds, those of each pass counted."""
        return int(self._connection.execute("SELECT COUNT(*) FROM rows").fetchone()[0])

    def most_times(self) -> int:
        """How often the most often written row was written; 1 if no row was scored twice, 0 for no rows."""
        return int(self._connection.execute("SELECT COALESCE(MAX(times), 0) FROM rows").fetchone()[0])

    def close(self) -> None:
        """Close the file; what was written stays."""
        self._connection.close()

    def __enter__(self) -> Self:
        """The journal itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()


_MOST_BYTES = 1 << 18
"""Of one event's answers, about: far less than a line may have."""
_LEAST_LOG = -1e6
_ROUNDING = 1e-3
_MOST_MASS = 1.05
"""A sum of probabilities that were rounded each."""
_MOST_FLAGS = 16


def _to_list(entry: Entry) -> list[Any]:
    return [list(value) if isinstance(value, tuple) else value for value in vars(entry).values()]


def _from_list(values: Any, *, labels: int) -> Entry:
    """Raises WorkerError for anything but an entry of so many labels."""
    try:
        row_id, tokens, cut, scores, mass, problem, flags = values
        logs = None if scores is None else _logs(scores, labels)
        share, why = optional(number)(mass), optional(text)(problem)
        entry = Entry(_id(row_id), count(tokens), tuple(texts(cut)), logs, share, why, tuple(texts(flags)))
    except (TypeError, ValueError) as error:
        raise WorkerError(f"the worker gave a wrong answer: {error}") from error
    if (share is not None and not 0 <= share <= _MOST_MASS) or len(entry.flags) > _MOST_FLAGS:
        raise WorkerError("the worker gave a wrong answer: a mass beyond 1, or flags without end")
    return entry


def _id(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("an id that is not a text")
    return value


def _logs(values: Any, length: int) -> tuple[float, ...]:
    if not isinstance(values, list) or len(values) != length:
        raise TypeError(f"not {length} numbers")
    logs = tuple(map(number, values))
    if not all(_LEAST_LOG < log < _ROUNDING for log in logs):
        raise ValueError("not the logarithm of a probability")
    return logs


class WorkerJournal:
    """What the worker knows of the journal: what stood in it when it began, and all that it has reported since."""

    def __init__(self, known: Mapping[str, Any], send: Callable[..., None]) -> None:
        """`known` is what `JournalWriter.known` gave; `send` sends an event."""
        self._send = send
        self._entries: dict[str, dict[str, Entry]] = {}
        for name in (PLAIN, SWAPPED):
            entries = (_from_list(values, labels=len(values[3] or ())) for values in known.get(name, ()))
            self._entries[name] = {entry.id: entry for entry in entries}
        self._in_flight: dict[str, int] = dict(known.get("in_flight", {}))

    def write(self, entries: Iterable[Entry], *, pass_name: str = PLAIN) -> None:
        """Report rows, and take them out of flight; a row that is already there is replaced."""
        waiting: list[list[Any]] = []
        size = 0
        for entry in entries:
            waiting.append(_to_list(entry))
            size += 200 + len(entry.id) + len(entry.problem or "") + sum(map(len, entry.flags))
            self._entries[pass_name][entry.id] = entry
            self._in_flight.pop(entry.id, None)
            if size > _MOST_BYTES:
                self._send("answers", **{"pass": pass_name, "rows": waiting})
                waiting, size = [], 0
        if waiting:
            self._send("answers", **{"pass": pass_name, "rows": waiting})

    def begin(self, row_ids: Iterable[str]) -> None:
        """Report the rows that the engine is about to get: if it dies, one of them may be why."""
        ids = list(row_ids)
        for row_id in ids:
            self._in_flight[row_id] = self._in_flight.get(row_id, 0) + int(len(ids) == 1)
        self._send("begun", ids=ids)

    def in_flight(self) -> dict[str, int]:
        """The rows that an engine got and never answered: id → how often it got the row alone."""
        return dict(self._in_flight)

    def read(self, *, pass_name: str = PLAIN) -> dict[str, Entry]:
        """All rows of a pass so far, by id."""
        return dict(self._entries[pass_name])

    def answered(self) -> int:
        """How many rows the model has answered, those of each pass counted."""
        every = (entry for entries in self._entries.values() for entry in entries.values())
        return sum(entry.log_probabilities is not None and entry.tokens > 0 for entry in every)


@dataclass
class JournalWriter:
    """Writes into the journal what a worker reports, once it was checked."""

    job: Job
    journal: Journal

    @cached_property
    def _ids(self) -> frozenset[str]:
        return frozenset(row_keys(read_ids(self.job.test, self.job.id_column)))

    def known(self, path: Path) -> None:
        """Write what a worker's life begins with, as the file `path`."""
        body = {name: [_to_list(entry) for entry in self.journal.read(pass_name=name).values()] for name in _PASSES}
        write_atomic(path, json.dumps(body | {"in_flight": self.journal.in_flight()}))

    def take(self, event: Mapping[str, Any]) -> bool:
        """Write what `event` reports; False for one that is not for the journal.

        Raises WorkerError for what is not an answer to a row of the job, RunError if the journal cannot be written.
        """
        if event["event"] == "begun":
            self.journal.begin(self._known_ids(event["ids"]))
        elif event["event"] == "answers":
            if event["pass"] not in _PASSES or not isinstance(event["rows"], list):
                raise WorkerError("the worker gave answers of no pass")
            entries = [_from_list(values, labels=len(self.job.task.labels)) for values in event["rows"]]
            self._known_ids([entry.id for entry in entries])
            if any(not self.job.task.fields.keys() >= set(entry.cut) for entry in entries):
                raise WorkerError("the worker says that it cut a field that the task does not have")
            self.journal.write(entries, pass_name=event["pass"])
        else:
            return False
        return True

    def _known_ids(self, ids: Any) -> list[str]:
        if not isinstance(ids, list) or not all(isinstance(row_id, str) and row_id in self._ids for row_id in ids):
            raise WorkerError("the worker speaks of a row that the table does not have")
        return ids


_PASSES = (PLAIN, SWAPPED)


def read_known_entries(path: Path) -> dict[str, Any]:
    """What `JournalWriter.known` wrote."""
    entries: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return entries
