"""Half sentences of messages: the known name that was meant, what is wrong with a table, the first of many."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from kaggle_kit.outside import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import ValidationError


_LONGEST = 100
_SCALARS = ("bool", "int", "float", "str")
"""What pydantic adds to the place of a value that is none of these."""
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
"""What pydantic calls a key that a model or a dataclass does not have."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the known name nearest to `name`, or nothing."""
    # Comparing takes time with the square of the length.
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5) if len(name) <= _LONGEST else []
    return f"; did you mean {near[0]!r}?" if near else ""


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few of many names: `a, b, c and 4 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def first_problem(error: ValidationError, model: type) -> str:
    """The first problem that pydantic found, as one sentence: key, what was found, what was meant."""
    problems = error.errors(include_url=False)
    # A misspelt key is also a missing one: the misspelling says more.
    problem = next((problem for problem in problems if problem["type"] in _UNKNOWN), problems[0])
    place = [str(part) for part in problem["loc"] if part != "[key]"]
    if place and place[-1] in _SCALARS and sum(other["loc"][:-1] == problem["loc"][:-1] for other in problems) > 1:
        return f"{'.'.join(place[:-1])} = {shown(problem['input'])}: a text, a number, true or false should be here"
    where = ".".join(place) or "the file"
    if problem["type"] in _UNKNOWN:
        known = _known_keys(model, place[:-1])
        listed = f" (known: {', '.join(known)})" if known else ""
        return f"unknown key {where!r}{did_you_mean(place[-1], known)}{listed}"
    if problem["type"] == "missing":
        return f"the key {where!r} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if not place:
        return message
    message = message[0].lower() + message[1:]
    # A check of a whole table: its contents would bury what is wrong.
    if isinstance(problem["input"], dict) and problem["type"] == "value_error":
        return f"{where}: {message}"
    return f"{where} = {shown(problem['input'])}: {message}"


def _known_keys(model: type, place: list[str]) -> list[str]:
    """The keys of the table at `place`, found by walking the annotations of `model`."""
    from typing import get_args

    from pydantic import BaseModel as Base

    current: object = model
    for part in place:
        if isinstance(current, type) and issubclass(current, Base) and part in current.model_fields:
            current = current.model_fields[part].annotation
        arguments = get_args(current)
        models = [a for a in arguments if isinstance(a, type) and issubclass(a, Base)]
        current = models[0] if models else current
    if isinstance(current, type) and issubclass(current, Base):
        return sorted(current.model_fields)
    return []
