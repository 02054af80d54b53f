"""Secrets in files, and files for secrets by their names: where they stand and of which kind, never what they are."""

from __future__ import annotations

import codecs
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from kaggle_kit.secrets.reader import ALLOWED, Finding, find_secrets

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LARGEST = 64_000_000
"""Bytes of a file that are searched, from its beginning."""
_SNIFF_BYTES = 8192
_SHORTEST_KNOWN = 8
_WIDE = {
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_KEY_FILES = (
    *(".env", ".env.*", "*.env", "kaggle.json", "access_token", ".netrc", "_netrc", ".pypirc", ".npmrc", ".pgpass"),
    *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "*.ppk", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx"),
    *(".git-credentials", ".htpasswd", "client_secret*.json", "application_default_credentials.json"),
)
"""Names, in small letters, of files whose purpose is to hold a login or a private key."""


def secrets_in_text(text: str, *, path: str, known: Iterable[str] = ()) -> tuple[Finding, ...]:
    """What looks like a secret in `text`, and every place where one of `known` stands as it is."""
    findings = {replace(finding, path=path) for finding in find_secrets(text)}
    for secret in known:
        start = text.find(secret) if len(secret) >= _SHORTEST_KNOWN else -1
        while start >= 0:
            findings.add(Finding(text.count("\n", 0, start) + 1, "", "your own login for Kaggle", path))
            start = text.find(secret, start + 1)
    return tuple(sorted(findings))


def secrets_in_file(source: Path, *, path: str, known: Iterable[str] = ()) -> tuple[Finding, ...]:
    """The same for a file, called `path` in findings: its first 64 MB, and nothing of one that is no text.

    Raises OSError where it cannot be read.
    """
    with source.open("rb") as stream:
        begin = stream.read(_SNIFF_BYTES)
        data = begin if _coding(begin) is None else begin + stream.read(LARGEST - len(begin))
    return secrets_in_bytes(data, path=path, known=known)


def secrets_in_bytes(data: bytes, *, path: str, known: Iterable[str] = ()) -> tuple[Finding, ...]:
    """The same for a file's bytes."""
    coding = _coding(data[:_SNIFF_BYTES])
    if coding is None:
        return ()
    return secrets_in_text(data[:LARGEST].decode(coding, "replace"), path=path, known=known)


def _coding(begin: bytes) -> str | None:
    """How a file that begins so is read as a text; None where it is none."""
    wide = next((coding for mark, coding in _WIDE.items() if begin.startswith(mark)), None)
    return wide or (None if b"\0" in begin else "utf-8")


def is_key_file(source: Path, path: str) -> bool:
    """Whether the name of the file `path` says that it holds a login or a private key.

    One that says `not-a-secret` in its text does not. Raises OSError where it cannot be read.
    """
    name = path.rpartition("/")[2].lower()
    if not any(fnmatchcase(name, pattern) for pattern in _KEY_FILES):
        return False
    with source.open("rb") as stream:
        return ALLOWED.encode() not in stream.read(LARGEST)
