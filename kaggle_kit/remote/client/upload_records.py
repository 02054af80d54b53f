"""What is kept of uploads between two runs: those begun or finished, privately, and how fast they were."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sqlite3
import stat
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.errors import RemoteError
from kaggle_kit.files import readable_cache, user_cache, write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEPT_S = 6 * 24 * 3600
"""An upload's address lives for about a week at Kaggle; the official client keeps it for 6 days (facts, section 3)."""

_RATE = "upload-rate.json"
_LEAST_BYTES = 10_000_000
"""A rate of less says how long waits are, not how fast the line is."""


@dataclass(frozen=True)
class Session:
    """One begun upload: the token that names its content to Kaggle, and the address that takes its bytes."""

    token: str
    url: str

    def __repr__(self) -> str:
        """Neither: both let their holder act."""
        return "<upload session>"


class Sessions:
    """The begun uploads of one account at one server, in a file that only its user can read.

    Several processes and threads may use it at once.
    """

    def __init__(self, *, server: str, account: str, now: Callable[[], float] = time.time) -> None:
        """Open or make the file. `now` is in seconds since 1970. A damaged one is begun again.

        Raises RemoteError, as all methods do, where the folder is not private or the file cannot be written.
        """
        self._now = now
        folder = user_cache() / "uploads"
        _private_folder(folder)
        name = hashlib.sha256(f"{server}\n{account}".encode()).hexdigest()[:16]
        self.path = folder / f"{name}.sqlite3"
        try:
            self._begin()
        except RemoteError as error:
            if type(error.__cause__) is not sqlite3.DatabaseError:
                raise
            # Not what its subclasses say (a full disk, missing rights): its content. What it knew is sent again.
            self.path.unlink(missing_ok=True)
            self._begin()

    def _begin(self) -> None:
        """The file with its table, without what is too old."""
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        self.path.chmod(0o600)
        with self._open() as store:
            store.execute(
                "CREATE TABLE IF NOT EXISTS session (file TEXT PRIMARY KEY, token TEXT, url TEXT, begun REAL)"
            )
            if store.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("it is damaged")
            store.execute("DELETE FROM session WHERE begun < ?", (self._now() - KEPT_S,))

    def get(self, file: str) -> Session | None:
        """The session of a file's key, if it is young enough."""
        with self._open() as store:
            query = "SELECT token, url FROM session WHERE file = ? AND begun >= ?"
            row = store.execute(query, (file, self._now() - KEPT_S)).fetchone()
        return Session(*row) if row else None

    def keep(self, file: str, session: Session) -> None:
        """Remember a session that has just begun."""
        with self._open() as store:
            row = (file, session.token, session.url, self._now())
            store.execute("INSERT OR REPLACE INTO session VALUES (?, ?, ?, ?)", row)

    def forget(self, file: str) -> None:
        """Drop a session: its content is part of a version now, or it is of no more use."""
        with self._open() as store:
            store.execute("DELETE FROM session WHERE file = ?", (file,))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection for one block: committed and closed at its end."""
        try:
            with closing(sqlite3.connect(self.path, timeout=30)) as store:
                yield store
                store.commit()
        except sqlite3.Error as error:
            raise RemoteError(
                f"{self.path} cannot be used: {error}. It keeps for the next run what was sent to Kaggle: make room on "
                "the disk, or delete it, then run the same command again"
            ) from error


def _private_folder(folder: Path) -> None:
    """Make a folder that only its user can read, or check that it is one."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise RemoteError(f"{folder} belongs to somebody else: begun uploads are not kept there. Set KIT_CACHE_DIR")
    folder.chmod(0o700)


def remember_rate(sent_bytes: int, seconds: float) -> None:
    """Note an upload's rate; a small upload or a cache that cannot be written changes nothing."""
    if sent_bytes < _LEAST_BYTES or seconds <= 0:
        return
    try:
        write_atomic(user_cache() / _RATE, json.dumps({"bytes_a_second": sent_bytes / seconds}) + "\n")
    except OSError:
        return


def measured_rate() -> float | None:
    """Bytes a second of the last large upload; None where there was none."""
    if (cache := readable_cache()) is None:
        return None
    try:
        rate = float(json.loads((cache / _RATE).read_text(encoding="utf-8"))["bytes_a_second"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return rate if rate > 0 and math.isfinite(rate) else None
