"""The one reader of secrets, with two uses: to report where they stand, and to mask them.

It reads a text as its readers see it: of JSON also the lines that its texts hold, as the cells of a notebook are kept.
"""

from __future__ import annotations

import bisect
import json
import re
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

from kaggle_kit.secrets.formats import PRIVATE_KEY, known_by_form
from kaggle_kit.secrets.names import GUESSED, known_by_name

if TYPE_CHECKING:
    from collections.abc import Iterator

ALLOWED = "not-a-secret"
"""A line that holds this word is passed over."""
_ALLOWED, _BREAK = re.compile(ALLOWED), re.compile("\n")
# A JSON text, in which an escape is never taken for an end: no two ways to read one, so no going back.
_TEXT = re.compile(r'"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"')
_BETWEEN = re.compile(r"\s*+,\s*+")
_ESCAPES = re.compile(r'\\[nrt"]')
HIDDEN = "***"
_LONGEST_KEY = 20_000
_KEY_BODY = re.compile(r"(?:(?:[\s\"',]|\\{1,3}[nr]){0,20}+[A-Za-z0-9+/=]{16,100}+)*+")
# A line of a key in its block: Base64, a head such as "Proc-Type: 4,ENCRYPTED", or nothing.
_KEY_LINE = re.compile(r"\s{0,80}(?:[A-Za-z0-9+/=]{0,200}|[A-Z][A-Za-z-]{1,40}: [^\n]{1,200})\s{0,80}")
_VAGUE = {GUESSED, "a password"}


@dataclass(frozen=True, order=True)
class Finding:
    """A secret stands on `line` (from 1) of the file `path`; `kind` is a noun with its article.

    `name` is what it is called there, or nothing.
    """

    line: int
    name: str
    kind: str
    path: str = ""

    def __str__(self) -> str:
        """What it is, and of a file's where it stands."""
        return f"{self.path}:{self.line}: {self.what}" if self.path else self.what

    @property
    def what(self) -> str:
        """The kind, and the name where there is one."""
        return f"{self.kind} ({self.name})" if self.name else self.kind


def find_secrets(text: str) -> tuple[Finding, ...]:
    """What looks like a secret in `text`, in the order of lines: never the secret itself.

    Found is what has the form of a known key, and what is one by its name. A secret that is put together of parts,
    or written in another alphabet (Base64, hex), is not. A line with the word `not-a-secret` is passed over.
    """
    secrets: dict[tuple[int, str], Finding] = {}
    for layer in _layers(text):
        for secret in _in_layer(layer):
            secrets.setdefault((secret.line, secret.kind), secret)
    sure = {line for line, kind in secrets if kind not in _VAGUE}
    return tuple(sorted(secret for (line, kind), secret in secrets.items() if kind not in _VAGUE or line not in sure))


def _in_layer(layer: _Layer) -> Iterator[Finding]:
    for kind, start, _ in known_by_form(layer.text):
        if not layer.is_passed(start):
            yield Finding(layer.line(start), "", kind)
    for kind, start, _, name in known_by_name(layer.text):
        if not layer.is_passed(start):
            # A name that is itself a secret is not repeated.
            shown = "" if mask(name.text) != name.text else name.text
            yield Finding(layer.line(start), shown, kind)


def mask(text: str) -> str:
    """`text` as it may be shown: what looks like a key, a token or a password replaced by ***.

    It keeps its lines. Half of a surrogate pair, which can be neither printed nor written, becomes a question mark.
    """
    text = text.encode("utf-8", "replace").decode("utf-8")
    spans = [*_forms(text), *((start, end) for _, start, end, _ in known_by_name(text, wide=True))]
    parts: list[str] = []
    done = 0
    for start, end in _merged(spans):
        parts += [text[done:start], _covered(text[start:end])]
        done = end
    return "".join([*parts, text[done:]])


class LineMask:
    """`mask` for a text that comes line by line: the lines of a private key are masked until its end.

    One for each text; a key that breaks off ends with the first line that cannot be part of one.
    """

    def __init__(self) -> None:
        """Before the first line."""
        self._in_key = False

    def __call__(self, line: str) -> str:
        """The next line as it may be shown."""
        if self._in_key:
            self._in_key = bool(_KEY_LINE.fullmatch(line.strip("\r\n")))
            if self._in_key:
                return _covered(line)
        masked = mask(line)
        heads = [end for kind, _, end in known_by_form(line) if kind == PRIVATE_KEY]
        self._in_key = bool(heads) and "-----END" not in line[heads[-1] :]
        return masked


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans in order, those that touch made one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif end > start:
            merged.append((start, end))
    return merged


def _forms(text: str) -> Iterator[tuple[int, int]]:
    for kind, start, end in known_by_form(text, wide=True):
        if kind != PRIVATE_KEY:
            yield start, end
            continue
        # Its head may stay: what follows it, to its end or as far as it looks like a key, may not.
        close = text.find("-----END", end, end + _LONGEST_KEY)
        body = _KEY_BODY.match(text, end)
        yield end, close if close >= 0 else (body.end() if body else end)


def _covered(secret: str) -> str:
    """Stars for each line of a secret."""
    return "\n".join(HIDDEN if line.strip() else line for line in secret.split("\n"))


@dataclass(frozen=True)
class _Layer:
    """A text to search, and where its parts lie in the file: what begins at `starts[i]` is on line `lines[i]`, from 1.

    Without parts its lines are the file's. Lines within one part have no lines of their own in the file.
    """

    text: str
    starts: tuple[int, ...]
    lines: tuple[int, ...]

    def line(self, at: int) -> int:
        """The line of the file on which the character `at` stands."""
        if not self.starts:
            return self._own_line(at) + 1
        return self.lines[bisect.bisect_right(self.starts, at) - 1]

    def is_passed(self, at: int) -> bool:
        """Whether the text's line around `at` holds the word that lets it pass."""
        return bool(self._passed) and self._own_line(at) in self._passed

    def _own_line(self, at: int) -> int:
        return bisect.bisect_left(self._breaks, at)

    @cached_property
    def _breaks(self) -> list[int]:
        """Where the lines of the text end, found once: a text may hold a secret on each."""
        return [match.start() for match in _BREAK.finditer(self.text)]

    @cached_property
    def _passed(self) -> frozenset[int]:
        return frozenset(self._own_line(match.start()) for match in _ALLOWED.finditer(self.text))


def _layers(text: str) -> Iterator[_Layer]:
    """The text, and of JSON, taken out of it, each text of several lines, those of a list joined to one."""
    groups = list(_groups(text)) if _is_json(text) else []
    plain, done = [], 0
    for group in groups:
        yield _Layer("".join(group.texts), group.starts, tuple(group.lines))
        plain.append(text[done : group.start])
        done = group.end
        plain.append("\n" * text.count("\n", group.start, group.end))
    yield _Layer("".join([*plain, text[done:]]), (), ())


def _is_json(text: str) -> bool:
    return text.lstrip("\ufeff \t\r\n")[:1] in ("{", "[") and bool(_ESCAPES.search(text))


@dataclass
class _Group:
    """JSON texts in a row that are one text's lines: their places from `start` to `end`, and each one's line."""

    start: int
    end: int
    texts: list[str]
    lines: list[int]

    @property
    def starts(self) -> tuple[int, ...]:
        """Where in the joined text each begins."""
        return tuple(accumulate(map(len, self.texts[:-1]), initial=0))


def _groups(text: str) -> Iterator[_Group]:
    """The texts of several lines in a JSON text."""
    group: _Group | None = None
    line, counted = 1, 0
    for match in _TEXT.finditer(text):
        start, end = match.span()
        if group and not (group.texts[-1].endswith("\n") and _BETWEEN.fullmatch(text, group.end, start)):
            if _is_several(group):
                yield group
            group = None
        if group is None and not _ESCAPES.search(text, start, end):
            continue
        try:
            read = str(json.loads(match[0], strict=False))
        except ValueError:
            continue
        line += text.count("\n", counted, start)
        counted = start
        if group is None:
            group = _Group(start, end, [read], [line])
        else:
            group.texts.append(read)
            group.lines.append(line)
            group.end = end
    if group and _is_several(group):
        yield group


def _is_several(group: _Group) -> bool:
    """Whether there is more than one line in it, or quotes: else it reads the same as it stands."""
    return len(group.texts) > 1 or "\n" in group.texts[0][:-1] or '"' in group.texts[0]
