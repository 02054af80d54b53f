"""A run's log as it comes from Kaggle, made plain: one text, its times, no colours, no secrets."""

from __future__ import annotations

import bisect
import json
import re
from dataclasses import dataclass
from typing import Any

from kaggle_kit.secrets import mask
from kaggle_kit.visible import without_colours

# What stands before each line of kit's own dry runs, and of a log copied from Kaggle's page.
_STAMP = re.compile(r"^[ ]{0,12}(\d{1,9}\.\d{1,3})(?:s[\t ]\d{1,9}[\t ]|[ ]{2})", re.MULTILINE)
_LONGEST = 400
_MASKED = 2000


@dataclass(frozen=True)
class LogText:
    """A log as plain text. Lines are counted from 1; `starts[i]` is where the i-th entry begins, `times[i]` its
    seconds since the start of the run. Both are empty where the log tells no times."""

    text: str
    starts: tuple[int, ...] = ()
    times: tuple[float, ...] = ()

    def line_number(self, at: int) -> int:
        """The line in which the character `at` stands."""
        return self.text.count("\n", 0, at) + 1

    def bounds(self, at: int) -> tuple[int, int]:
        """Where the line around the character `at` begins and ends; a progress bar's returns end a line too."""
        start = self.text.rfind("\n", 0, at) + 1
        end = self.text.find("\n", at)
        end = len(self.text) if end < 0 else end
        start = max(start, self.text.rfind("\r", start, at) + 1)
        returned = self.text.find("\r", at, end)
        return start, end if returned < 0 else returned

    def seconds(self, at: int) -> float | None:
        """When the character `at` was written, where the log tells it."""
        place = bisect.bisect_right(self.starts, at) - 1
        return self.times[place] if place >= 0 else None


def read_log(raw: str) -> LogText:
    """A log in any form that Kaggle or kit gives it: a JSON list of {stream_name, time, data}, such entries one a
    line, the lines of Kaggle's page, a dry run's log, or plain text."""
    entries = _entries(raw)
    if entries is not None:
        return _joined(entries)
    plain = without_colours(raw.replace("\r\n", "\n"))
    first = _STAMP.match(plain.lstrip("\n"))
    if first is None:
        return LogText(plain)
    return _without_stamps(plain)


def _entries(raw: str) -> list[Any] | None:
    """The entries of a JSON log; None where it is no such log."""
    body = raw.strip()
    if not body.startswith(("[", "{", "data:")):
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = _lines(body)
    if isinstance(found, dict):
        found = [found]
    if not isinstance(found, list) or not found:
        return None
    return found if all(isinstance(entry, dict) and "data" in entry for entry in found) else None


def _lines(body: str) -> list[Any]:
    """Entries one a line, as a stream sends them or as a list that was cut off leaves them; others are left out."""
    found = []
    for line in body.split("\n"):
        plain = line.strip().removeprefix("data:").strip().strip("[,").removesuffix("]").strip()
        if plain.startswith("{"):
            try:
                found.append(json.loads(plain))
            except (ValueError, RecursionError):
                continue
    return found


def _joined(entries: list[Any]) -> LogText:
    parts: list[str] = []
    starts: list[int] = []
    times: list[float] = []
    length = 0
    stream, open_line = None, False
    for entry in entries:
        data = without_colours(str(entry["data"]).replace("\r\n", "\n"))
        if open_line and entry.get("stream_name") != stream:
            data = f"\n{data}"
        if isinstance(entry.get("time"), int | float):
            starts.append(length)
            times.append(float(entry["time"]))
        parts.append(data)
        length += len(data)
        stream, open_line = entry.get("stream_name"), bool(data) and not data.endswith("\n")
    return LogText("".join(parts), tuple(starts), tuple(times))


def _without_stamps(text: str) -> LogText:
    starts: list[int] = []
    times: list[float] = []
    taken = 0

    def drop(match: re.Match[str]) -> str:
        nonlocal taken
        starts.append(match.start() - taken)
        times.append(float(match[1]))
        taken += len(match[0])
        return ""

    return LogText(_STAMP.sub(drop, text), tuple(starts), tuple(times))


def shown(line: str, *, around: int = 0) -> str:
    """A line as it may be shown: secrets masked, and cut to 400 characters about the place `around`."""
    # Masked in a wider piece than is shown: half of a token would not be known for one.
    left = max(0, around - _MASKED)
    masked = mask(line[left : around + _MASKED])
    start = max(0, min(len(mask(line[left:around])) - _LONGEST // 4, len(masked) - _LONGEST))
    piece = masked[start : start + _LONGEST]
    before = "… " if left + start else ""
    after = " …" if start + _LONGEST < len(masked) else ""
    return f"{before}{piece.strip()}{after}"
