"""Keys and passwords in what would be pushed: where they stand and of which kind, never what they are."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

ALLOWED = "not-a-secret"
"""A line that holds this word is passed over."""
_LARGEST = 64_000_000
_SNIFF_BYTES = 8192
_SHORTEST_KNOWN = 8
# A word may begin after an escape of JSON (`\n`), whose letter is no part of it.
_START = r"(?:(?<![A-Za-z0-9_])|(?<=\\[nrt]))"
_IS = r"\\?[\"']?\s{0,3}[:=]\s{0,3}\\?[\"']?"
_IS_TEXT = r"\\?[\"']?\s{0,3}[:=]\s{0,3}\\?[\"']"
_KEY_OF = r"(?:(?<=api)|(?<=(?:api|acs|ess|ret|ate|app|aws)[_-]))"
# Kind → texts of which one stands in every text that the pattern fits (in small letters for those below):
# finding them is a hundred times as fast as the pattern; and the pattern, whose first group is the secret.
_KINDS: dict[str, tuple[tuple[str, ...], str]] = {
    "a Kaggle token": (("KGAT_",), r"KGAT_[A-Za-z0-9]{16,}"),
    "a Hugging Face token": (("hf_",), r"hf_[A-Za-z0-9]{30,}"),
    "an Anthropic key": (("sk-ant-",), r"sk-ant-[A-Za-z0-9_-]{20,}"),
    "an OpenAI key": (("sk-",), r"sk-(?!ant-)(?:[a-z]{3,10}-)?[A-Za-z0-9_-]{20,}"),
    "an AWS key": (("AKIA", "ASIA"), r"A[KS]IA[0-9A-Z]{16}(?![0-9A-Za-z])"),
    "a GitHub token": (("gh", "github_pat_"), r"gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,}"),
    "a Google key": (("AIza",), r"AIza[0-9A-Za-z_-]{35}(?![0-9A-Za-z])"),
    "a Slack token": (("xox",), r"xox[abprs]-[0-9A-Za-z-]{20,}"),
    "a private key": (("PRIVATE KEY",), r"-----BEGIN (?:[A-Z]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"),
}
_NAMED: dict[str, tuple[tuple[str, ...], str]] = {
    "a Kaggle key": (("key",), rf"key{_IS}([0-9a-f]{{32}})(?![0-9a-z])"),
    "a Weights & Biases key": (("key", "wandb"), rf"(?:wandb|key)[a-z_-]{{0,20}}{_IS}([0-9a-f]{{40}})(?![0-9a-z])"),
    "a token or password": (
        ("token", "secret", "passw", "key"),
        rf"(?:token|secret|passwd|password|{_KEY_OF}key){_IS_TEXT}([a-z0-9_+/=.~-]{{20,}})\\?[\"']",
    ),
}
_PATTERNS = {
    kind: re.compile(rf"(?:{_START if pattern[0] != '-' else ''})({pattern})") for kind, (_, pattern) in _KINDS.items()
} | {kind: re.compile(pattern, re.IGNORECASE | re.ASCII) for kind, (_, pattern) in _NAMED.items()}
_SMALL = str.maketrans(ascii_uppercase, ascii_lowercase)
_GUESSED = "a token or password"
_PLACEHOLDER = re.compile(r"x{4}|X{4}|\*{3}|\.{3}|0{8}|(?i:example|placeholder|your|dummy|redacted|insert)")
_LEAST_BITS = {_GUESSED: 3.5, "a private key": 0.0}
"""Bits a sign below which a text is no random one."""
_USUAL_BITS = 2.5


@dataclass(frozen=True, order=True)
class Finding:
    """A secret stands in `path` on `line` (from 1); `kind` is a noun with its article."""

    path: str
    line: int
    kind: str

    def __str__(self) -> str:
        """Place and kind."""
        return f"{self.path}:{self.line}: {self.kind}"


def secrets_in_text(text: str, *, path: str, known: Iterable[str] = ()) -> tuple[Finding, ...]:
    """What looks like a secret in `text`, and every place where one of `known` stands as it is."""
    found = {Finding(path, *place) for place in _places(text, known)}
    return tuple(sorted(found))


def secrets_in_file(source: Path, *, path: str, known: Iterable[str] = ()) -> tuple[Finding, ...]:
    """The same for a file, called `path` in findings; one that is no text, or above 64 MB, has none.

    Raises OSError where it cannot be read.
    """
    if source.stat().st_size > _LARGEST:
        return ()
    with source.open("rb") as stream:
        begin = stream.read(_SNIFF_BYTES)
        if b"\0" in begin:
            return ()
        data = begin + stream.read()
    return secrets_in_text(data.decode("utf-8", "replace"), path=path, known=known)


def _places(text: str, known: Iterable[str]) -> Iterator[tuple[int, str]]:
    taken: set[int] = set()
    for kind, match in _matches(text):
        if match.start(1) not in taken and _is_secret(match[1], kind) and not _is_allowed(text, match.start(1)):
            taken.add(match.start(1))
            yield _line(text, match.start(1)), kind
    for secret in known:
        start = text.find(secret) if len(secret) >= _SHORTEST_KNOWN else -1
        while start >= 0:
            yield _line(text, start), "your own login for Kaggle"
            start = text.find(secret, start + 1)


def _matches(text: str) -> Iterator[tuple[str, re.Match[str]]]:
    """Every match of every pattern, tried only on lines that hold what it needs."""
    for kind, (needed, _) in _KINDS.items():
        if any(word in text for word in needed):
            yield from ((kind, match) for match in _PATTERNS[kind].finditer(text))
    small = text.translate(_SMALL)
    for kind, (needed, _) in _NAMED.items():
        for start in sorted({at for word in needed for at in _occurrences(small, word)}):
            if match := _PATTERNS[kind].match(text, start):
                yield kind, match


def _occurrences(text: str, word: str) -> Iterator[int]:
    at = text.find(word)
    while at >= 0:
        yield at
        at = text.find(word, at + 1)


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _is_allowed(text: str, at: int) -> bool:
    end = text.find("\n", at)
    return ALLOWED in text[text.rfind("\n", 0, at) + 1 : end if end >= 0 else len(text)]


def _is_secret(value: str, kind: str) -> bool:
    if _PLACEHOLDER.search(value) and kind != "a private key":
        return False
    if _bits(value) < _LEAST_BITS.get(kind, _USUAL_BITS):
        return False
    return not (kind == _GUESSED or value.startswith("sk-")) or _is_mixed(value)


def _is_mixed(value: str) -> bool:
    """Whether a part of `value` is no word: letters and digits in turn. Names are words with digits at an end."""
    parts = re.split(r"[_./=~+-]+", value)
    return any(len(part) >= 8 and len(re.findall(r"\d+", part)) >= 2 for part in parts)


def _bits(value: str) -> float:
    """The entropy of the signs of `value`, in bits a sign."""
    counts = Counter(value).values()
    return -sum(count / len(value) * math.log2(count / len(value)) for count in counts)
