"""The loopback Kaggle's memory: records in SQLite, bytes by their SHA-256, both in one folder of this user's own."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
import shutil
import sqlite3
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any, TypeVar

from kaggle_kit.errors import RemoteError, UsageError
from kaggle_kit.files import link_or_copy, sha256_file, user_cache
from kaggle_kit.loopback.records import Counter, StoredFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydantic import TypeAdapter


_MARK = "mark"
_KEY = "loopback.key"
_BYTES = 32


def check_mark(folder: Path) -> None:
    """Mark `folder` if it is empty. Raises UsageError if it holds anything and has no mark of this user."""
    expected = _mark_of(folder)
    if not any(folder.iterdir()):
        _write(folder / _MARK, expected)
    elif not hmac.compare_digest(_read(folder / _MARK), expected):
        raise UsageError(
            f"{folder} was not made here by a loopback Kaggle of this user, so what it holds is not run: remove it, or "
            "choose an empty folder (kit rehearse without --again makes a new one)"
        )


def _mark_of(folder: Path) -> bytes:
    status = folder.stat()
    what = f"{status.st_dev}:{status.st_ino}:{folder.resolve()}"
    return hmac.digest(_key(), os.fsencode(what), hashlib.sha256)


def _key() -> bytes:
    """This user's key, made at first use."""
    path = user_cache() / _KEY
    if len(_read(path)) != _BYTES:
        fresh = path.with_name(f"{_KEY}.{secrets.token_hex(8)}")
        _write(fresh, secrets.token_bytes(_BYTES))
        fresh.replace(path)
    return _read(path)


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as stream:
        stream.write(content)


def _read(path: Path) -> bytes:
    """A short file's bytes; none for one that is missing, a link, or no file."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
            return stream.read(_BYTES + 1)
    except OSError:
        return b""


Record = TypeVar("Record")


_ADAPTERS: dict[str, TypeAdapter[Any]] = {}


def _adapter(kind: type) -> TypeAdapter[Any]:
    """What turns records of a type into JSON and back, made once."""
    from pydantic import TypeAdapter

    if kind.__name__ not in _ADAPTERS:
        _ADAPTERS[kind.__name__] = TypeAdapter(kind)
    return _ADAPTERS[kind.__name__]


def _locked(path: Path) -> IO[str]:
    """The open lock file of a folder. Raises RemoteError if another server has it."""
    try:
        stream = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+")
    except OSError as error:
        raise RemoteError(f"{path} cannot be opened: {error.strerror}; remove it, or choose another folder") from error
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.close()
        raise RemoteError(f"another loopback Kaggle uses {path.parent}; stop it, or choose another folder") from None
    return stream


class Store:
    """Everything that a server started again on the same folder goes on with.

    Records are kept by their type and a key. Every method may be called from any thread; what is written within
    `change()` is written together or not at all. `keep_bytes=False` keeps hashes and sizes of files only, and the
    files that a run then finds are holes of the right size.
    """

    def __init__(self, folder: Path, *, keep_bytes: bool = True) -> None:
        self.folder = folder
        self.keep_bytes = keep_bytes
        self.uploads = folder / "uploads"
        self._objects = folder / "objects"
        for place in (self.uploads, self._objects):
            place.mkdir(parents=True, exist_ok=True)

        self._alone = _locked(folder / "lock")
        self._lock = threading.RLock()

        self._closed = False

        # Isolation is ours: `change()` begins and commits.
        self._database = sqlite3.connect(folder / "state.sqlite", check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        # The state outlives this process; nobody needs it after the machine has crashed, and each commit would wait.
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS records (kind TEXT, key TEXT, body TEXT NOT NULL, PRIMARY KEY (kind, key))"
        )

    def close(self) -> None:
        """Let go of the database. Closing twice is no error."""
        with self._lock:
            self._closed = True
            self._database.close()
            self._alone.close()

    @contextmanager
    def late_change(self) -> Iterator[bool]:
        """A change by a thread that may outlive the server: it is given False, and changes nothing, once closed."""
        with self._lock:
            if self._closed:
                yield False
                return
            with self.change():
                yield True

    @contextmanager
    def change(self) -> Iterator[None]:
        """One change of the state: all of it, or none. Changes of different threads wait for each other."""
        with self._lock:
            if self._database.in_transaction:
                yield
                return
            self._database.execute("BEGIN IMMEDIATE")
            # Commits, or rolls back where an error comes through.
            with self._database:
                yield

    def put(self, key: str, record: object) -> None:
        """Write a record, over an older one with this key."""
        body = _adapter(type(record)).dump_json(record).decode()
        with self._lock:
            self._database.execute(
                "INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (type(record).__name__, key, body)
            )

    def get(self, kind: type[Record], key: str) -> Record | None:
        """The record with this key, or None."""
        with self._lock:
            row = self._database.execute(
                "SELECT body FROM records WHERE kind = ? AND key = ?", (kind.__name__, key)
            ).fetchone()
        return None if row is None else _adapter(kind).validate_json(row[0])

    def all(self, kind: type[Record]) -> tuple[Record, ...]:
        """All records of a type, by their keys."""
        with self._lock:
            rows = self._database.execute(
                "SELECT body FROM records WHERE kind = ? ORDER BY key", (kind.__name__,)
            ).fetchall()
        return tuple(_adapter(kind).validate_json(row[0]) for row in rows)

    def delete(self, kind: type[Record], key: str) -> None:
        """Forget a record; one that is not there is no error."""
        with self._lock:
            self._database.execute("DELETE FROM records WHERE kind = ? AND key = ?", (kind.__name__, key))

    def next_id(self) -> int:
        """A number that was never given out before."""
        with self.change():
            counter = self.get(Counter, "ids") or Counter()
            self.put("ids", replace(counter, last=counter.last + 1))
        return counter.last + 1

    def object(self, sha256: str) -> Path:
        """Where the bytes with this hash lie, if they were kept."""
        return self._objects / sha256[:2] / sha256

    def take(self, path: Path, sha256: str) -> None:
        """Move a file's bytes into the store. They are made read-only: runs are given hard links to them."""
        target = self.object(sha256)
        target.parent.mkdir(exist_ok=True)
        path.chmod(0o444)
        path.replace(target)

    def adopt(self, path: Path, name: str, *, always: bool = False) -> StoredFile:
        """Copy a file of this machine into the store, or only its hash and size unless `always`."""
        digest = sha256_file(path)
        if (self.keep_bytes or always) and not self.object(digest).is_file():
            copy = self.uploads / f"adopt-{digest}"
            shutil.copyfile(path, copy)
            self.take(copy, digest)
        return StoredFile(name=name, sha256=digest, size=path.stat().st_size)

    def place(self, file: StoredFile, target: Path) -> None:
        """Put a stored file at `target`, as a hard link where the file system can; without kept bytes, a hole."""
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        stored = self.object(file.sha256)
        if not stored.is_file():
            with target.open("wb") as stream:
                stream.truncate(file.size)
            return
        link_or_copy(stored, target)
