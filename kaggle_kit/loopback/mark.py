"""The mark by which a server knows a folder of its own again.

A folder of state may have come with a cloned project: with notebooks that would run, with links, with records that lead
to any folder of this machine. The mark is made with a key that lies in the user's cache, for this one folder.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from typing import TYPE_CHECKING

from kaggle_kit.errors import UsageError
from kaggle_kit.files import user_cache

if TYPE_CHECKING:
    from pathlib import Path

_MARK = "mark"
_KEY = "loopback.key"
_BYTES = 32


def check_mark(folder: Path) -> None:
    """Mark `folder` where it is empty. Raises UsageError where it holds anything and has no mark of this user."""
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
