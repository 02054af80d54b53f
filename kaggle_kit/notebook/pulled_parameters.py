"""Parameters that were edited in the browser: which value of `kit.toml` each of them is."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import UsageError
from kaggle_kit.notebook.parameters import Parameter, Value, override

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


@dataclass(frozen=True)
class ParameterEdit:
    """An overridden parameter with another value in the browser; None where it is not overridden.

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


def read_values(code: str) -> dict[str, Any] | None:
    """The values of `name = literal` lines; None where a line is something else."""
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found: dict[str, Any] = {}
    for node in body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case ast.Expr(value=ast.Constant()):
                continue
            case _:
                return None
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, TypeError):
            return None
    return found


def parameter_edits(
    before: Mapping[str, Any], after: Mapping[str, Any], *, parameters: Sequence[Parameter], overrides: Overrides
) -> tuple[list[ParameterEdit], list[tuple[str, str]]]:
    """What changed between the pushed and the pulled overrides, and (name, reason) of each that cannot be taken."""
    edits: list[ParameterEdit] = []
    refused: list[tuple[str, str]] = []
    known = dict(overrides.values or {})
    for name in [*before, *(name for name in after if name not in before)]:
        old, new = before.get(name), after.get(name)
        if old == new and type(old) is type(new):
            continue
        now = known.get(name)
        if name not in overrides.assigned and overrides.values is not None and now not in (old, new):
            refused.append((name, f"kit.toml now says {now!r}, the browser {new!r}, and {old!r} was pushed"))
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
    if name in overrides.assigned:
        advice = f"it was given on the command line: leave out -p {name}=…"
        if new is not None:
            said = str(new).lower() if isinstance(new, bool) else str(new)
            advice = f"it was given on the command line: say -p {name}={said} the next time, or put it into kit.toml"
        return ParameterEdit(name, old, new, "-p", advice)
    table = f"[notebooks.{overrides.notebook}.parameters]"
    line = f"{name} = {_toml(new)}" if new is not None else ""
    advice = f"in kit.toml, {table}: {line}" if line else f"in kit.toml, {table}: take out {name}"
    return ParameterEdit(name, old, new, "kit.toml", advice)


def edit_config(text: str, notebook: str, edit: ParameterEdit) -> str | None:
    """`kit.toml` with the edited value, every other byte kept; None where it cannot be done line by line."""
    wanted = tomllib.loads(text)
    table = wanted.setdefault("notebooks", {}).setdefault(notebook, {}).setdefault("parameters", {})
    newline = "\r\n" if "\r\n" in text else "\n"
    if edit.after is None:
        table.pop(edit.name, None)
    else:
        table[edit.name] = edit.after
    result = "\n".join(_with_value(text.split("\n"), notebook, edit, newline.removesuffix("\n")))
    try:
        return result if tomllib.loads(result) == wanted else None
    except tomllib.TOMLDecodeError:
        return None


def _with_value(lines: list[str], notebook: str, edit: ParameterEdit, end: str) -> list[str]:
    header = re.compile(rf"\s*\[\s*notebooks\s*\.\s*\"?{re.escape(notebook)}\"?\s*\.\s*parameters\s*\]")
    start = next((n for n, line in enumerate(lines) if header.match(line)), None)
    fresh = f"{edit.name} = {_toml(edit.after)}" if edit.after is not None else ""
    if start is None:
        while lines and not lines[-1].strip():
            lines = lines[:-1]
        return [*lines, end, f"[notebooks.{notebook}.parameters]{end}", f"{fresh}{end}", ""]
    stop = next((n for n in range(start + 1, len(lines)) if lines[n].lstrip().startswith("[")), len(lines))
    for n in range(start + 1, stop):
        if re.match(rf"\s*\"?{re.escape(edit.name)}\"?\s*=", lines[n]):
            return [*lines[:n], *([_replaced(lines[n], fresh)] if fresh else []), *lines[n + 1 :]]
    while stop > start + 1 and not lines[stop - 1].strip():
        stop -= 1
    return [*lines[:stop], f"{fresh}{end}", *lines[stop:]] if fresh else lines


def _replaced(line: str, fresh: str) -> str:
    """A `name = value # comment` line with a new value, its comment kept."""
    body = line.removesuffix("\r")
    end = line[len(body) :]
    for at in [n for n, sign in enumerate(body) if sign == "#"]:
        try:
            tomllib.loads(body[:at])
        except tomllib.TOMLDecodeError:
            continue
        gap = body[len(body[:at].rstrip()) : at]
        return f"{fresh}{gap}{body[at:]}{end}"
    return fresh + end


def _toml(value: Value | None) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
