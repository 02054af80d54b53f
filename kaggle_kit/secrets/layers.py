"""A text as its readers see it: of JSON also the lines that its texts hold, as the cells of a notebook are kept."""

from __future__ import annotations

import bisect
import json
import re
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ALLOWED = "not-a-secret"
"""A line that holds this word is passed over."""
_ALLOWED, _BREAK = re.compile(ALLOWED), re.compile("\n")
# A JSON text, in which an escape is never taken for an end: no two ways to read one, so no going back.
_TEXT = re.compile(r'"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"')
_BETWEEN = re.compile(r"\s*+,\s*+")
_ESCAPES = re.compile(r'\\[nrt"]')


@dataclass(frozen=True)
class Layer:
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


def layers(text: str) -> Iterator[Layer]:
    """The text, and of JSON, taken out of it, each text of several lines, those of a list joined to one."""
    groups = list(_groups(text)) if _is_json(text) else []
    plain, done = [], 0
    for group in groups:
        yield Layer("".join(group.texts), group.starts, tuple(group.lines))
        plain.append(text[done : group.start])
        done = group.end
        plain.append("\n" * text.count("\n", group.start, group.end))
    yield Layer("".join([*plain, text[done:]]), (), ())


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
