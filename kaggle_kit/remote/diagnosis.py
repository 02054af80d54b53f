"""A run's log made plain, and decoded: which known failure it shows, why it happens, and what to do next.

The failures themselves are data: failures.toml.
"""

from __future__ import annotations

import bisect
import json
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from kaggle_kit.secrets import mask
from kaggle_kit.visible import without_colours

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Place = Literal["log", "failure message", "save error", "dataset status", "submission error"]
"""Where a failure shows: in the log, in what a run's status says, in the reply to a push (SaveKernel), in a
dataset's status, or in a submission's error."""
PLACES: tuple[str, ...] = get_args(Place)
UNKNOWN = "unknown"
_NEAR_LINES = 80
_MOST_MATCHES = 50
_BLOCK_LINES = 40
_MOST_BLOCKS = 20
_BLOCK_LENGTH = 100_000
_CODE_LENGTH = 400
_PLAIN = re.compile(r"(?:[^\\.^$*+?{}\[\]|()]|\\[^\w\s])+")
# A traceback shows the lines that raise an error, their text included; those are no signs.
_CODE = re.compile(
    r"^\s{0,80}(?:-{1,6}> ?)?\d{0,6}\s{0,80}"
    r"(?:raise\s|return\s|assert\s|if\s|elif\s|else:|[rRbB]?f[rR]?[\"']|[\"']|#|\w{1,40}\s?=\s?[f\"'(]|logger\.)"
)
_TRACEBACK = re.compile(r"Traceback \(most recent call last\)")
_PREFIX = re.compile(r"^(?:\([\w\s=.-]{1,60}\)\s?)?(?:(?:ERROR|CRITICAL)\s[\d: -]{1,40}\[[\w.:/-]{1,80}\]\s?)?")
_EXCEPTION = re.compile(r"(?:[a-z_]\w{0,80}\.){0,8}[A-Z]\w{0,80}(?::|$)")
# What stands before each line of kit's own dry runs, and of a log copied from Kaggle's page.
_STAMP = re.compile(r"^[ ]{0,12}(\d{1,9}\.\d{1,3})(?:s[\t ]\d{1,9}[\t ]|[ ]{2})", re.MULTILINE)
_LONGEST = 400
_LONGEST_RUN_S = 1e9
_MASKED = 2000


@dataclass(frozen=True)
class Failure:
    """One known failure. `next_step` names what to do; `source` and `date`: where its wording was read, and when."""

    id: str
    signs: tuple[re.Pattern[str], ...]
    where: frozenset[str]
    cause: str
    next_step: str
    source: str
    date: str
    near: re.Pattern[str] | None = None
    not_near: re.Pattern[str] | None = None
    consequence: bool = False


@dataclass(frozen=True)
class Finding:
    """A failure that was found: `text` is the line that shows it, secrets masked.

    `line` is its number in the readable log, from 1, and `seconds` when it was written (both None outside of a log).
    `consequence`: it follows from another one. Of an unknown failure `block` holds the last exception's traceback.
    """

    id: str
    cause: str
    next_step: str
    place: str
    text: str
    line: int | None = None
    seconds: float | None = None
    source: str = ""
    consequence: bool = False
    block: tuple[str, ...] = ()


def decode(log: str, *, failure_message: str = "") -> list[Finding]:
    """What a failed run's log, and Kaggle's message about the run, say: causes first, then what follows from them.

    Causes stand in the order in which they happened. Where nothing known is found, the last exception is given as it
    is (`UNKNOWN`), and nothing is guessed; an empty list where there is no exception either.
    """
    text = read_log(log)
    found = [
        *_in_text(LogText(failure_message), "failure message"),
        *_in_text(text, "log"),
    ]
    once = list({finding.id: finding for finding in reversed(found)}.values())
    once.sort(key=lambda finding: (finding.consequence, finding.line is not None, finding.line or 0))
    # What only follows from something is no answer: the exception before it comes first.
    if all(finding.consequence for finding in once) and (last := last_exception(text)) is not None:
        return [last, *once]
    return once


def decode_message(text: str, *, place: Place) -> list[Finding]:
    """The same for a short text that Kaggle answers: a push's error, a dataset's status, a submission's error."""
    found = _in_text(LogText(text), place)
    return sorted(found, key=lambda finding: finding.consequence)


def _in_text(text: LogText, place: Place) -> Iterator[Finding]:
    if not text.text.strip():
        return
    for failure in failures():
        if place in failure.where and (at := _first(failure, text, place)) is not None:
            start, end = text.bounds(at)
            in_log = place == "log"
            yield Finding(
                id=failure.id,
                cause=failure.cause,
                next_step=failure.next_step,
                place=place,
                text=shown(text.text[start:end], around=at - start),
                line=text.line_number(at) if in_log else None,
                seconds=text.seconds(at) if in_log else None,
                source=failure.source,
                consequence=failure.consequence,
            )


def _first(failure: Failure, text: LogText, place: Place) -> int | None:
    """Where the first sign of a failure stands."""
    places = [at for sign in failure.signs if (at := _place(sign, failure, text, place)) is not None]
    return min(places, default=None)


def _place(sign: re.Pattern[str], failure: Failure, text: LogText, place: Place) -> int | None:
    # A plain search is many times faster than the expression, and mostly the answer is no.
    plain = plain_start(sign.pattern)
    if plain and plain not in text.text:
        return None
    for count, match in enumerate(sign.finditer(text.text)):
        if count == _MOST_MATCHES:
            return None
        if place == "log" and _is_code(text, match.start()):
            continue
        if _is_near(failure, text, match.start()):
            return match.start()
    return None


def _is_code(text: LogText, at: int) -> bool:
    start, end = text.bounds(at)
    line = text.text[start : min(end, start + _CODE_LENGTH)]
    return bool(_CODE.match(line[_prefix_length(line) :]))


def _is_near(failure: Failure, text: LogText, at: int) -> bool:
    end = text.bounds(at)[1]
    piece = text.text[max(0, end - 200 * _NEAR_LINES) : end]
    before = "\n".join(piece.split("\n")[-_NEAR_LINES:])
    if failure.near is not None and not failure.near.search(before):
        return False
    return failure.not_near is None or not failure.not_near.search(before)


def last_exception(log: LogText) -> Finding | None:
    """The last traceback of a log, as it stands there; None where there is none.

    One that only says that a worker or an engine is gone is passed over: the one before it says why.
    """
    starts = [match.start() for match in _TRACEBACK.finditer(log.text)]
    for at in reversed(starts[-_MOST_BLOCKS:]):
        block, end = _traceback(log, at)
        said = block[-1][_prefix_length(block[-1]) :]
        if any(sign.search(said) for failure in failures() if failure.consequence for sign in failure.signs):
            continue
        return Finding(
            id=UNKNOWN,
            cause="No known failure: this is the last exception in the log.",
            next_step="Read the exception, see with `kit dryrun NAME` whether it happens here, and correct the cell or "
            "file that it names.",
            place="log",
            text=shown(block[-1]),
            line=log.line_number(end),
            seconds=log.seconds(end),
            # Masked as a whole: a private key is known by its first line.
            block=tuple(line[:_CODE_LENGTH] for line in mask("\n".join(block)).split("\n")),
        )
    return None


def _traceback(log: LogText, at: int) -> tuple[list[str], int]:
    """The lines of the traceback whose heading stands at `at`, and where its last line begins."""
    start = log.bounds(at)[0]
    lines = log.text[start : start + _BLOCK_LENGTH].split("\n")
    length = next((number for number, line in enumerate(lines[1:], start=2) if _ends(line)), 0)
    lines = lines[: length or _BLOCK_LINES]
    end = start + sum(len(line) + 1 for line in lines[:-1])
    block = [line.rstrip() for line in lines]
    if len(block) > _BLOCK_LINES:
        block = [block[0], "…", *block[2 - _BLOCK_LINES :]]
    return block, end


def _ends(line: str) -> bool:
    """Whether a line is the one that names the exception, at a traceback's end."""
    bare = line[_prefix_length(line) :]
    return bool(_EXCEPTION.match(bare)) and not bare.startswith(("File ", "Cell ", "Input "))


def _prefix_length(line: str) -> int:
    match = _PREFIX.match(line)
    return match.end() if match else 0


@cache
def failures() -> tuple[Failure, ...]:
    """All known failures, in the order of failures.toml."""
    body = tomllib.loads(Path(__file__).with_name("failures.toml").read_text(encoding="utf-8"))
    return tuple(_failure(entry) for entry in body["failure"])


def _failure(entry: dict[str, Any]) -> Failure:
    patterns: dict[str, Any] = {name: re.compile(entry.pop(name)) for name in ("near", "not_near") if name in entry}
    return Failure(
        signs=tuple(re.compile(sign) for sign in entry.pop("signs")),
        where=frozenset(entry.pop("where")),
        next_step=entry.pop("next"),
        date=str(entry.pop("date")),
        **patterns,
        **entry,
    )


@cache
def plain_start(pattern: str) -> str:
    """The plain text with which a pattern begins; empty where it begins otherwise."""
    match = _PLAIN.match(pattern)
    if match is None or pattern[match.end() : match.end() + 1] == "|":
        return ""
    plain = match[0]
    # A repeat that follows belongs to the last character, and may ask for none of it.
    if pattern[match.end() : match.end() + 1] in ("?", "*", "{"):
        plain = plain[:-2] if plain[-2:-1] == "\\" else plain[:-1]
    return re.sub(r"\\(.)", r"\1", plain)


@dataclass(frozen=True)
class LogText:
    """A log as plain text. Lines are counted from 1; `starts[i]` is where the i-th entry begins, `times[i]` its
    seconds since the start of the run. Both are empty where the log has no times."""

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
        """When the character `at` was written, where the log says it."""
        place = bisect.bisect_right(self.starts, at) - 1
        return self.times[place] if place >= 0 else None


def read_log(raw: str) -> LogText:
    """A log in any form that Kaggle or kit gives it: a JSON list of {stream_name, time, data}, such entries one a
    line, the lines of Kaggle's page, a dry run's log, or plain text."""
    entries = _entries(raw)
    if entries is not None:
        return _joined(entries)
    plain = without_colours(raw.replace("\r\n", "\n"))
    return _without_stamps(plain) if _STAMP.match(plain.lstrip("\n")) else LogText(plain)


def _entries(raw: str) -> list[Any] | None:
    """The entries of a JSON log; None where it is not such a log."""
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


def log_seconds(entry: Mapping[str, Any]) -> float | None:
    """When an entry of a log was written, in seconds since the run began; None where it says no such time."""
    value = entry.get("time")
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < _LONGEST_RUN_S:
        return None
    return float(value)


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
        if (seconds := log_seconds(entry)) is not None:
            starts.append(length)
            times.append(seconds)
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
