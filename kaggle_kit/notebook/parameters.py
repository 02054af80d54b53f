"""The parameters cell: typed names with literal defaults, and the values that override them."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.errors import SourceError, UsageError
from kaggle_kit.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Value = bool | int | float | str
_TYPES: dict[str, type[bool | int | float | str]] = {
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
}


@dataclass(frozen=True)
class Parameter:
    """One parameter: `kind` is "bool", "int", "float" or "str"."""

    name: str
    kind: str
    default: Value


def parse_parameters(code: str, *, where: str) -> tuple[Parameter, ...]:
    """Read `name: type = literal` lines.

    Raises SourceError for anything else: a parameter without a type could not be checked when it is overridden.
    """
    found: list[Parameter] = []
    lines = code.split("\n")
    for node in ast.parse(code).body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        line = lines[node.lineno - 1].strip()
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=ast.Name(id=kind), value=ast.expr() as value) if (
                kind in _TYPES
            ):
                pass
            case _:
                raise SourceError(
                    f"{where}: {line!r} is no parameter; write each as name: type = value, "
                    f"type being one of {', '.join(_TYPES)}"
                )
        try:
            default = ast.literal_eval(value)
        except (ValueError, TypeError):
            raise SourceError(f"{where}: the default of {name} must be a plain value, not {line!r}") from None
        if not _fits(default, kind):
            raise SourceError(f"{where}: {name} is declared {kind}, but its default is {_shown(default)}")
        found.append(Parameter(name, kind, default))
    return tuple(found)


def override(parameters: Sequence[Parameter], given: Mapping[str, Value], *, where: str) -> dict[str, Value]:
    """The values of `given`, checked against the parameters and in their order.

    `where` says in errors who gave the values. Raises UsageError for an unknown name or a value of another type.
    """
    by_name = {parameter.name: parameter for parameter in parameters}
    for name, value in given.items():
        if name not in by_name:
            known = ", ".join(by_name) or "none"
            raise UsageError(f"{where}: there is no parameter {name!r}{did_you_mean(name, by_name)}; known: {known}")
        if not _fits(value, by_name[name].kind):
            raise UsageError(
                f"{where}: the parameter {name} is of type {by_name[name].kind}, but {_shown(value)} was given"
            )
    return {
        name: float(given[name]) if parameter.kind == "float" else given[name]
        for name, parameter in by_name.items()
        if name in given
    }


def parse_assignments(parameters: Sequence[Parameter], texts: Sequence[str]) -> dict[str, Value]:
    """Values from the command line's `name=value` texts, read by each parameter's type.

    Raises UsageError for a text of another form, an unknown name, or a value that is not of the type.
    """
    by_name = {parameter.name: parameter for parameter in parameters}
    given: dict[str, Value] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"-p {text}: write it as name=value")
        if name not in by_name:
            override(parameters, {name: value}, where=f"-p {text}")
        given[name] = _read(value, kind=by_name[name].kind, where=f"-p {text}")
    return given


def _read(text: str, *, kind: str, where: str) -> Value:
    if kind == "str":
        return text
    if kind == "bool":
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise UsageError(f"{where}: {text!r} is not of type bool; write true or false")
    try:
        value = int(text) if kind == "int" else float(text)
    except ValueError:
        raise UsageError(f"{where}: {text!r} is not of type {kind}") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{where}: a number must be finite")
    if not _fits(value, kind):
        raise UsageError(f"{where}: a whole number has 64 bits at most")
    return value


def _fits(value: object, kind: str) -> bool:
    if type(value) is int:
        return kind in ("int", "float") and value.bit_length() < 64
    if type(value) is float:
        return kind == "float" and math.isfinite(value)
    return type(value) is _TYPES[kind]


def _shown(value: object) -> str:
    """The value as it is written; of a whole number that no machine holds, its size."""
    if isinstance(value, int) and value.bit_length() >= 64:
        return f"a whole number of {value.bit_length():,} bits"
    return repr(value)
