"""What a run writes of itself, `kit-run.json`, read as what it is: text that a notebook could have written as it likes.

Each part has the shape that the notebook gives it, or is left out and named. So its readers need not ask again whether
a figure is a number.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import OutsideError
from kaggle_kit.outside import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MOST_BYTES = 16 << 20
_MOST_ENTRIES = 100_000
_MOST_TEXT = 20_000
_LARGEST = 1 << 62


@dataclass(frozen=True)
class Every:
    """A mapping from any text to values of one shape."""

    shape: Any


@dataclass(frozen=True)
class Listed:
    """A list of values of one shape, of so many if `count` is given."""

    shape: Any
    count: int | None = None


@dataclass(frozen=True)
class Maybe:
    """A value of a shape, or null."""

    shape: Any


@dataclass(frozen=True)
class Whole:
    """A mapping with all of these keys."""

    shape: Mapping[str, Any]


_SECONDS = Every(float)
# A class is a plain value of that type; a dict is a mapping whose keys are known, each of which may be missing.
_RECORD: Mapping[str, Any] = {
    "kit": str,
    "target": str,
    "hidden_run": bool,
    "engine": str,
    "stages": _SECONDS,
    "failed": Whole({"stage": str, "error": str}),
    "not_rewritten": str,
    "installer": {"name": str, "seconds": _SECONDS},
    "plan": Every(Listed(str)),
    "worker": {
        "ended": str,
        "message": str,
        "starts": int,
        "deaths": Listed(str),
        "peak_bytes": int,
        "stages": _SECONDS,
    },
    "throughput": Listed(Listed(float, count=2)),
    "rows": {
        **dict.fromkeys(
            ("total", "scored", "swapped", "ruled", "copies", "prior", "unreadable", "not_reached", "cut"), int
        ),
        "unreadable_rows": Every(str),
        "cut_fields": Every(int),
    },
    "prompt_tokens": int,
    "longest_prompt": int,
    "label_mass": Maybe(Whole({"mean": float, "lowest": float})),
    "integrity": Every(
        Whole(
            {
                "files": int,
                "bytes": int,
                "checked_files": int,
                "checked_bytes": int,
                "bad": Listed(Whole({"path": str, "error": str})),
            }
        )
    ),
    "make": {"seconds": _SECONDS},
}


class _Unfit(Exception):  # noqa: N818  where in the record something else stands
    """A value is not of its shape."""


def read_record(path: Path) -> dict[str, Any]:
    """The record of a run; empty if there is none.

    Under "unread" stand the names of the parts that were left out because they are not of their shape, or why nothing
    could be read.
    """
    if not os.path.lexists(path):
        return {}
    try:
        body = read_json(path, most_bytes=_MOST_BYTES)
    except OutsideError as error:
        return {"unread": [str(error)]}
    return shaped_record(body)


def unread_line(record: Mapping[str, Any]) -> str:
    """What of a run's record was left out, in one line; empty if nothing was."""
    parts = ", ".join(record.get("unread") or ())
    return f"the run's own record does not hold what a notebook writes: {parts}" if parts else ""


def shaped_record(body: object) -> dict[str, Any]:
    """Of what a notebook wrote, the parts that are of their shape; "unread" names the others."""
    if not isinstance(body, dict):
        return {"unread": ["all of it"]}
    record: dict[str, Any] = {}
    unread: list[str] = []
    for name, value in body.items():
        if name not in _RECORD:
            continue
        try:
            record[name] = _fitted(value, _RECORD[name])
        except _Unfit:
            unread.append(name)
    return record | ({"unread": unread} if unread else {})


def _fitted(value: Any, shape: Any) -> Any:
    """`value` if it is of `shape`, without keys that the shape does not know. Raises _Unfit."""
    match shape:
        case Maybe(inner):
            return None if value is None else _fitted(value, inner)
        case Every(inner):
            return {key: _fitted(part, inner) for key, part in _entries(value, dict).items()}
        case Listed(inner, count):
            parts = _entries(value, list)
            if count is not None and len(parts) != count:
                raise _Unfit
            return [_fitted(part, inner) for part in parts]
        case Whole(inner):
            if not isinstance(value, dict) or not inner.keys() <= value.keys():
                raise _Unfit
            return _fitted(value, inner)
        case dict():
            return {key: _fitted(part, shape[key]) for key, part in _entries(value, dict).items() if key in shape}
        case _:
            return _plain(value, shape)


def _entries(value: Any, kind: type[Any]) -> Any:
    if not isinstance(value, kind) or len(value) > _MOST_ENTRIES:
        raise _Unfit
    return value


def _plain(value: Any, kind: type[Any]) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        kind = int
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _Unfit
    # All figures of a run are counts, bytes, seconds or probabilities. NaN is not in the range either.
    if isinstance(value, int | float) and not 0 <= value <= _LARGEST:
        raise _Unfit
    return value[:_MOST_TEXT] if isinstance(value, str) else value
