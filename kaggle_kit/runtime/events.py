"""What a worker reports: one JSON object a line on its standard output, checked here.

The worker runs a stranger's model. Whoever reads its lines takes nothing for granted: not that a line ends, that it is
JSON, that a number is one.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Check = Callable[[Any], Any]
    Kinds = Mapping[str, Mapping[str, Check] | None]

MOST_LINE = 16 << 20
"""Bytes of one event at most: a chunk of answers has some hundred kilobytes."""
_MOST_TEXT = 4_000
_MOST_COUNT = 1 << 53


class WorkerError(RunError):
    """The worker said something that no worker says."""


def text(value: Any) -> str:
    """A text that can be written, cut if it is long."""
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value[:_MOST_TEXT].encode("utf-8", "backslashreplace").decode("utf-8")


def count(value: Any) -> int:
    """A whole number that is not negative."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_COUNT:
        raise TypeError("not a count")
    return value


def number(value: Any) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError("not a finite number")
    return float(value)


def texts(value: Any) -> list[str]:
    """A list of texts."""
    if not isinstance(value, list):
        raise TypeError("not a list")
    return [text(item) for item in value]


def whole(value: Any) -> Any:
    """Anything: whoever reads it checks it."""
    return value


def optional(check: Check) -> Check:
    """`check`, or nothing."""
    return lambda value: None if value is None else check(value)


def parse_event(line: bytes, kinds: Kinds) -> dict[str, Any] | None:
    """The event of a line, with the fields of its kind and no other; None for a line that is not an event.

    A kind without a list of fields comes with all of them, for whoever reads it to look at.

    Raises WorkerError if a field is missing or of another type.
    """
    try:
        body = json.loads(line)
    except (ValueError, RecursionError):
        return None
    kind = body.get("event") if isinstance(body, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        return None
    checks = kinds[kind]
    if checks is None:
        return dict(body)

    event: dict[str, Any] = {"event": kind}
    for name, check in checks.items():
        try:
            event[name] = check(body.get(name))
        except (TypeError, ValueError, OverflowError) as error:
            raise WorkerError(f"the worker's event {kind!r} has a {name!r} that is {error}") from error
    return event


WORKER: Kinds = {
    "stage": {"name": text},
    "note": {"text": text},
    "rows": {"total": count, "todo": count, "tokens": count},
    "engine": {"name": text},
    "progress": {"rows": count, "all_rows": count, "tokens": count, "budget": count, "p95": optional(number)},
    "late": {"rows": count},
    "error": {"message": text},
    "begun": {"ids": whole},
    "answers": {"pass": text, "rows": whole},
    "done": {"peak_bytes": count},
}
"""The scoring worker's events. `begun` and `answers` are for the journal, which checks them (`runtime.journal`)."""
MEASURED: Kinds = {
    "measured": {
        "tokens_per_second": number,
        "start_seconds": number,
        "rows": count,
        "tokens": count,
        "engine": text,
        "probabilities": whole,
    }
}
"""What a trial of a measurement reports."""
