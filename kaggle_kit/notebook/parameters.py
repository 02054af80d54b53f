"""The parameters cell: typed names with literal defaults, the values that override them, and where those are edited."""

from __future__ import annotations

import ast
import math
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import SourceError, UsageError
from kaggle_kit.places import CONFIG
from kaggle_kit.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, MutableMapping, Sequence

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


def assignment(node: ast.stmt) -> tuple[str, ast.expr] | None:
    """The name and the value of a statement that assigns one name; None for any other statement."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            return name, value
    return None


def literal_values(code: str) -> dict[str, Any] | None:
    """The values of `name = literal` lines; None if a line is something else."""
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None

    values: dict[str, Any] = {}
    for node in body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        assigned = assignment(node)
        if assigned is None:
            return None
        try:
            values[assigned[0]] = ast.literal_eval(assigned[1])
        except (ValueError, TypeError):
            return None
    return values


def parse_parameters(code: str, *, where: str) -> tuple[Parameter, ...]:
    """Read `name: type = literal` lines.

    Raises SourceError for anything else: a parameter without a type could not be checked when it is overridden.
    """
    parameters: list[Parameter] = []
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
        parameters.append(Parameter(name, kind, default))
    return tuple(parameters)


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


@dataclass(frozen=True)
class ParameterEdit:
    """An overridden parameter with another value in the browser; None if it is not overridden.

    `place` is "kit.toml" or "-p" (where the value was given), and `advice` what to do with it.
    """

    name: str
    before: Value | None
    after: Value | None
    place: str
    advice: str


@dataclass(frozen=True)
class Overrides:
    """Where overridden values come from: `kit.toml`'s own for the notebook `notebook` (`text` is the whole file), and
    the names that were given with -p at the push."""

    notebook: str = ""
    values: Mapping[str, Value] | None = None
    assigned: Collection[str] = ()
    text: str | None = None


def parameter_edits(
    before: Mapping[str, Any], after: Mapping[str, Any], *, parameters: Sequence[Parameter], overrides: Overrides
) -> tuple[list[ParameterEdit], list[tuple[str, str]]]:
    """What changed between the pushed and the pulled overrides, and (name, reason) of each that cannot be taken."""
    edits: list[ParameterEdit] = []
    refused: list[tuple[str, str]] = []
    known = dict(overrides.values or {})

    for name in [*before, *(name for name in after if name not in before)]:
        old, new, now = before.get(name), after.get(name), known.get(name)
        if old == new and type(old) is type(new):
            continue
        if name not in overrides.assigned and overrides.values is not None and now not in (old, new):
            refused.append((name, f"{CONFIG} now says {now!r}, the browser {new!r}, and {old!r} was pushed"))
            continue
        if new is not None:
            try:
                new = override(parameters, {name: new}, where="the pulled notebook")[name]
            except UsageError as error:
                refused.append((name, str(error)))
                continue
        if name in overrides.assigned or now != new:
            edits.append(_edit(name, old, new, overrides))
    return edits, refused


def _edit(name: str, old: Value | None, new: Value | None, overrides: Overrides) -> ParameterEdit:
    import tomlkit

    if name in overrides.assigned:
        advice = f"it was given on the command line: leave out -p {name}=…"
        if new is not None:
            text = str(new).lower() if isinstance(new, bool) else str(new)
            advice = f"it was given on the command line: say -p {name}={text} the next time, or put it into {CONFIG}"
        return ParameterEdit(name, old, new, "-p", advice)

    line = f"take out {name}" if new is None else f"{name} = {tomlkit.item(new).as_string()}"
    advice = f"in {CONFIG}, [notebooks.{overrides.notebook}.parameters]: {line}"
    return ParameterEdit(name, old, new, CONFIG, advice)


def edit_config(text: str, notebook: str, edit: ParameterEdit) -> str | None:
    """`kit.toml` with the edited value, comments, layout and all other values as they are; None if it cannot be."""
    import tomlkit
    import tomlkit.exceptions

    end = "\r\n" if "\r\n" in text else "\n"
    plain = text.replace("\r\n", "\n")
    wanted = tomllib.loads(text)
    _set_value(wanted, notebook, edit)
    try:
        document = tomlkit.parse(plain)
        if tomlkit.dumps(document).replace("\n", end) != text:
            return None
        _set_value(document, notebook, edit)
        result = tomlkit.dumps(document).replace("\n", end)
        result.encode()  # a half of a surrogate pair cannot be written
        return result if tomllib.loads(result) == wanted else None
    except (tomlkit.exceptions.TOMLKitError, ValueError, TypeError, LookupError, RecursionError):
        return None


def _set_value(document: MutableMapping[str, Any], notebook: str, edit: ParameterEdit) -> None:
    table = document
    for key in ("notebooks", notebook, "parameters"):
        if key not in table:
            _put(table, key, {})
        table = table[key]

    if edit.after is not None:
        _put(table, edit.name, edit.after)
    elif edit.name in table:
        del table[edit.name]


def _put(table: MutableMapping[str, Any], key: str, value: object) -> None:
    """Set a key; a new one stands before the comments at the table's end, which belong to what follows."""
    from tomlkit.items import Table

    after: list[Any] = []
    if isinstance(table, Table) and key not in table:
        body = table.value.body
        while body and body[-1][0] is None:
            after.insert(0, body.pop())
        table[key] = value
        body.extend(after)
    else:
        table[key] = value


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
