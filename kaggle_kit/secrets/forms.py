"""Where secrets of a known form stand in a text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from kaggle_kit.secrets.formats import CASELESS, MARKED, OTHERS, RUN, Format, anything
from kaggle_kit.secrets.values import is_placeholder

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST_BEFORE, _LONGEST_LINE = 48, 240
# What may stand right before a value although its last sign is a letter: escapes of JSON and of addresses, colours.
_ESCAPE = re.compile(r"(?:\\[nrtbf]|%[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\[[0-9;]{0,8}m)\Z")
_AFTER_MARK = re.compile(rf"[_-](?=[A-Za-z0-9_+/%-]{{{RUN}}})")
_AFTER_MARK_LOOSE = re.compile(r"[_-](?=[A-Za-z0-9_-]{8})")


@dataclass(frozen=True)
class _Ready:
    format: Format
    strict: re.Pattern[str]
    loose: re.Pattern[str]
    before: re.Pattern[str] | None


@cache
def _ready(found: Format) -> _Ready:
    before = re.compile(rf"{found.before}\Z") if found.before else None
    return _Ready(found, re.compile(found.pattern), re.compile(found.loose or found.pattern), before)


@cache
def _marked() -> tuple[tuple[str, ...], dict[str, tuple[_Ready, ...]]]:
    """The beginnings that end in a mark, the longest first, and which forms each begins."""
    found: dict[str, tuple[_Ready, ...]] = {}
    for one in MARKED:
        for begin in one.begins:
            found[begin] = (*found.get(begin, ()), _ready(one))
    return tuple(sorted(found, key=len, reverse=True)), found


def known_by_form(text: str, *, wide: bool = False) -> Iterator[tuple[str, int, int]]:
    """Kind, start and end of every secret of a known form in `text`; with `wide` also what was cut or is no noise."""
    yield from _by_mark(text, wide=wide)
    for found in OTHERS:
        ready = _ready(found)
        for begin in found.begins:
            yield from _all(text, text, begin, ready, wide=wide)
        if not found.begins:
            places = (match.start() for match in ready.strict.finditer(text))
            yield from (one for at in places if (one := _at(text, at, ready, wide=wide)) is not None)
    small = lower(text)
    for found in CASELESS:
        for begin in found.begins:
            yield from _all(text, small, begin, _ready(found), wide=wide)


def lower(text: str) -> str:
    """`text` in small letters, each where it stood: a few letters have no small form of one sign, and stay."""
    small = text.lower()
    if len(small) == len(text):
        return small
    return "".join(one if len(sign := one.lower()) != 1 else sign for one in text)


def _by_mark(text: str, *, wide: bool) -> Iterator[tuple[str, int, int]]:
    begins, forms = _marked()
    longest = len(begins[0])
    marks = _AFTER_MARK_LOOSE if wide else _AFTER_MARK
    done = 0
    for mark in marks.finditer(text):
        head = text[max(0, mark.end() - longest) : mark.end()]
        if mark.end() <= done or not head.endswith(begins):
            continue
        for begin in begins:
            start = mark.end() - len(begin)
            if not head.endswith(begin):
                continue
            for found in _each(text, start, forms[begin], wide=wide):
                done = max(done, found[2])
                yield found


def _each(text: str, start: int, forms: tuple[_Ready, ...], *, wide: bool) -> Iterator[tuple[str, int, int]]:
    for ready in forms:
        if (found := _at(text, start, ready, wide=wide)) is not None:
            yield found


def _all(text: str, searched: str, begin: str, ready: _Ready, *, wide: bool) -> Iterator[tuple[str, int, int]]:
    at = searched.find(begin)
    while at >= 0:
        found = _at(text, at, ready, wide=wide)
        if found is not None:
            yield found
        at = searched.find(begin, max(at + 1, found[2] if found else 0))


def _at(text: str, start: int, ready: _Ready, *, wide: bool) -> tuple[str, int, int] | None:
    form = ready.format
    if not (form.inside or form.before or _begins_a_word(text, start, alone=form.alone)):
        return None
    match = (ready.loose if wide else ready.strict).match(text, start)
    if match is None or (form.near and not _near(text, start, form.near)):
        return None
    first, last = match.span(1) if match.re.groups else match.span()
    if ready.before is not None:
        head = ready.before.search(text[max(0, start - _LONGEST_BEFORE) : start])
        if head is None:
            return None
        first = first if match.re.groups else start - len(head[0])
    value = text[first:last]
    told = _is_told(value, form) and (not wide or ready.strict.match(text, start) is not None)
    return (form.kind, first, last) if told or (wide and _is_masked(value, form)) else None


def _is_told(value: str, form: Format) -> bool:
    return form.test is anything or (form.test(value) and not is_placeholder(value))


def _is_masked(value: str, form: Format) -> bool:
    begin = next((one for one in form.begins if value.startswith(one)), "")
    return form.loose_test is None or form.loose_test(value[len(begin) :])


def _near(text: str, at: int, words: tuple[str, ...]) -> bool:
    line = text[max(0, at - _LONGEST_LINE) : at].rpartition("\n")[2].lower()
    return any(word in line for word in words)


def _begins_a_word(text: str, at: int, *, alone: bool = False) -> bool:
    """Whether what begins at `at` is no part of a longer word; `alone`: of one with hyphens neither."""
    before = text[max(0, at - 12) : at]
    joined = before[:-1] if alone and before.endswith("-") else before
    if not joined or not (joined[-1].isalnum() or joined[-1] == "_"):
        return True
    return joined is before and bool(_ESCAPE.search(before))
