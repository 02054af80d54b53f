"""A template, with the author's cells in it, becomes the cells of a notebook."""

from __future__ import annotations

import ast
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import SourceError
from kaggle_kit.notebook.source import Cell, Source, parse_cells, parse_python
from kaggle_kit.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    import jinja2


_JUPYTER = ("display", "get_ipython")
"""Names that the notebook's kernel defines by itself."""


def shipped_templates() -> Path:
    """The folder of the templates that come with the kit: in its wheel, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "templates"
    return inside if inside.is_dir() else package.parent / "templates"


@dataclass
class _Placer:
    """What a template calls to place the author's cells; keeps account of those already placed."""

    source: Source
    parameters: Mapping[str, Any]
    placed: set[str] = field(default_factory=set)

    def cell(self, name: str) -> str:
        """The author's cell `name`."""
        by_name = {cell.name: cell for cell in self.source.cells}
        if name not in by_name:
            raise SourceError(
                f"the template places a cell {name!r}, which {self.source.path} does not have"
                f"{did_you_mean(name, by_name)}; its cells: {', '.join(by_name)}"
            )
        if name in self.placed:
            raise SourceError(f"the template places the cell {name!r} twice")
        self.placed.add(name)
        text = _percent(by_name[name])
        if "parameters" in by_name[name].tags and self.parameters:
            lines = "\n".join(f"{key} = {value!r}" for key, value in self.parameters.items())
            injected = Cell("injected-parameters", "code", lines, ("injected-parameters",))
            text += "\n" + _percent(injected)
        return text

    def cells(self) -> str:
        """All of the author's cells that no call has placed so far, in the source's order."""
        rest = [cell.name for cell in self.source.cells if cell.name not in self.placed]
        return "\n".join(self.cell(name) for name in rest)


def render(
    source: Source, *, template: str, project: Path, parameters: Mapping[str, Any], context: Mapping[str, Any]
) -> tuple[Cell, ...]:
    """The notebook's cells: `template` (from the project's `templates/`, else the shipped ones) filled in.

    `parameters` are the checked overrides; `context` is what the template may name besides `cell(name)`,
    `cells()` and `defines(name)`.

    Raises SourceError where the template is wrong, leaves out a cell, or uses an undefined name.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([project / "templates", shipped_templates()]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  the output is Python, not HTML
    )
    environment.filters["python"] = python_literal
    placer = _Placer(source, parameters)
    text = _render_text(
        environment, template, {**context, "cell": placer.cell, "cells": placer.cells, "defines": source.defines}
    )
    if left := [cell.name for cell in source.cells if cell.name not in placer.placed]:
        raise SourceError(
            f"the template {template} leaves out the cells {', '.join(left)} of {source.path}; "
            f"place them with cell(name), or the rest with cells()"
        )
    cells = parse_cells(text, where=f"the template {template}")
    _check_code(cells)
    return cells


def _render_text(environment: jinja2.Environment, template: str, context: Mapping[str, Any]) -> str:
    import jinja2

    try:
        return environment.get_template(template).render(context)
    except jinja2.TemplateNotFound as error:
        known = environment.list_templates(extensions=["j2"])
        raise SourceError(
            f"there is no template {error.name!r}{did_you_mean(str(error.name), known)}; known: {', '.join(known)}"
        ) from error
    except jinja2.TemplateSyntaxError as error:
        raise SourceError(f"the template {error.name}, line {error.lineno}: {error.message}") from error
    except jinja2.UndefinedError as error:
        known = sorted(key for key in context if not callable(context[key]))
        raise SourceError(f"the template {template}: {error.message}; a template may use {', '.join(known)}") from error
    except jinja2.TemplateError as error:
        raise SourceError(f"the template {template}: {error}") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"the template {template}, or one that it extends, is not UTF-8: {error}") from error
    except RecursionError as error:
        raise SourceError(
            f"the template {template} extends or includes itself; give yours another name than the one it extends"
        ) from error
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise SourceError(f"the template {template} fails: {type(error).__name__}: {error}") from error


def python_literal(value: Any) -> str:
    """A Python literal of a value made of plain parts, dict keys sorted. Raises SourceError for any other value."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {python_literal(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(python_literal(item) for item in value) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        raise SourceError(f"the filter python takes finite numbers, not {value}")
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    raise SourceError(f"the filter python takes plain values, not {type(value).__name__}")


def _percent(cell: Cell) -> str:
    """A cell in py:percent form."""
    marker = "# %% [markdown]" if cell.kind == "markdown" else "# %%"
    tags = f" tags={json.dumps(list(cell.tags))}" if cell.tags else ""
    body = cell.text
    if cell.kind == "markdown":
        body = "\n".join(f"# {line}" if line else "#" for line in cell.text.split("\n"))
    return f'{marker} name="{cell.name}"{tags}\n{body}\n'


def _check_code(cells: tuple[Cell, ...]) -> None:
    """Raise SourceError where the rendered code is not Python, or reads a name that nothing defines."""
    from pyflakes import checker, messages

    code = [cell for cell in cells if cell.kind == "code"]
    owners: list[str] = []
    for cell in code:
        try:
            parse_python(cell.text)
        except SyntaxError as error:
            raise SourceError(
                f"the rendered cell {cell.name!r}, line {error.lineno}, is not valid Python: {error.msg}"
            ) from error
        owners += [cell.name] * (cell.text.count("\n") + 1)
    tree = parse_python("\n".join(cell.text for cell in code), joined=True)
    try:
        found = checker.Checker(tree, builtins=_JUPYTER).messages
    except RecursionError as error:
        raise SourceError(
            "the notebook's code has an expression that is too long or nested too deep to be checked: cut it in two"
        ) from error
    for message in found:
        if isinstance(message, messages.UndefinedName):
            name = str(message.message_args[0])
            owner = owners[message.lineno - 1]
            defined = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id != name}
            raise SourceError(
                f"the cell {owner!r} uses {name!r}, which no cell before it defines{did_you_mean(name, defined)}"
            )
