"""The journal: every scored row on disk, so that a killed worker loses nothing."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from kaggle_kit.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType

_TABLES = """
CREATE TABLE IF NOT EXISTS configuration (hash TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS rows (
    id TEXT PRIMARY KEY, tokens INTEGER NOT NULL, cut TEXT NOT NULL, log_probabilities TEXT, mass REAL, problem TEXT
);
"""


@dataclass(frozen=True)
class Entry:
    """What is known of one row: either its scores, or the problem for which it has none.

    `log_probabilities` are in the order of the task's labels (nats, summing to 1); `tokens` counts the prompt's;
    `cut` names the fields that lost text.
    """

    id: str
    tokens: int = 0
    cut: tuple[str, ...] = ()
    log_probabilities: tuple[float, ...] | None = None
    mass: float | None = None
    problem: str | None = None


class Journal:
    """A SQLite file in WAL mode: one writer (the worker), any number of readers (the notebook)."""

    def __init__(self, path: Path, *, configuration: str) -> None:
        """Open or make the journal; one that was written for another configuration is begun anew.

        Raises RunError where the file cannot be opened or written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=30, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.executescript(_TABLES)
            with self._connection:
                found = self._connection.execute("SELECT hash FROM configuration").fetchone()
                if found != (configuration,):
                    self._connection.execute("DELETE FROM configuration")
                    self._connection.execute("DELETE FROM rows")
                    self._connection.execute("INSERT INTO configuration VALUES (?)", (configuration,))
        except (OSError, sqlite3.Error) as error:
            raise RunError(f"the journal {path} cannot be opened: {error}; free space there, or delete it") from error

    def write(self, entries: Iterable[Entry]) -> None:
        """Add rows, all or none; a row that is already there is replaced. Raises RunError on a full disk."""
        lines = [
            (
                entry.id,
                entry.tokens,
                json.dumps(entry.cut),
                None if entry.log_probabilities is None else json.dumps(entry.log_probabilities),
                entry.mass,
                entry.problem,
            )
            for entry in entries
        ]
        try:
            with self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?)", lines)
        except sqlite3.Error as error:
            raise RunError(f"the journal cannot be written: {error}") from error

    def read(self) -> dict[str, Entry]:
        """All rows so far, by id, in the order in which they came."""
        lines = self._connection.execute("SELECT * FROM rows ORDER BY rowid").fetchall()
        return {
            row_id: Entry(
                row_id,
                tokens,
                tuple(json.loads(cut)),
                None if scores is None else tuple(json.loads(scores)),
                mass,
                problem,
            )
            for row_id, tokens, cut, scores, mass, problem in lines
        }

    def count(self) -> int:
        """How many rows the journal holds."""
        return int(self._connection.execute("SELECT COUNT(*) FROM rows").fetchone()[0])

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
