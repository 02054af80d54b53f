"""A template, with the author's cells in it, becomes the cells of a notebook."""

from __future__ import annotations

import ast
import json
import signal
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit.child import child_environment
from kaggle_kit.errors import SourceError
from kaggle_kit.notebook.source import SOURCE_BYTES, Cell, Source, parse_cells, parse_python, percent
from kaggle_kit.places import homes, inside
from kaggle_kit.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

TEMPLATES = "templates"
PROCESSOR_SECONDS = 5
"""Templates as they should be take a tenth of one."""
MEMORY_BYTES = 1 << 30
_WAIT_SECONDS = 120
_CHILD = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from kaggle_kit.notebook import template_child
template_child.main()
"""
"""The child finds modules where this process does, and in no folder that it stands in."""
_JUPYTER = ("display", "get_ipython")
"""Names that the notebook's kernel defines by itself."""


def shipped_templates() -> Path:
    """The folder of the templates that come with the kit: in its wheel, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "templates"
    return inside if inside.is_dir() else package.parent / "templates"


def render(
    source: Source, *, template: str, project: Path, parameters: Mapping[str, Any], context: Mapping[str, Any]
) -> tuple[Cell, ...]:
    """The notebook's cells: `template` (from the project's `templates/`, else the shipped ones) filled in.

    `parameters` are the checked overrides; `context` is what the template may name besides `cell(name)`,
    `cells()` and `defines(name)`.

    Raises SourceError if the template is wrong, leaves out a cell, or uses an undefined name.
    """
    answer = _filled_in(source, template, project, parameters, context)
    placed = frozenset(answer["placed"])

    if left := [cell.name for cell in source.cells if cell.name not in placed]:
        raise SourceError(
            f"the template {template} leaves out the cells {', '.join(left)} of {source.path}; "
            f"place them with cell(name), or the rest with cells()"
        )

    cells = parse_cells(answer["text"], where=f"the template {template}")
    _check_code(tuple((cell.name, cell.text) for cell in cells if cell.kind == "code"))
    return cells


def _filled_in(
    source: Source, template: str, project: Path, parameters: Mapping[str, Any], context: Mapping[str, Any]
) -> dict[str, Any]:
    """The template's text, and the names of the cells that it placed, by `template_child` in a process of its own.

    Raises SourceError if the template is wrong or takes too much, ProjectError for one outside of the project.
    """
    own = inside(project, TEMPLATES)
    request = {
        "template": template,
        "most": SOURCE_BYTES,
        "seconds": PROCESSOR_SECONDS,
        "memory": MEMORY_BYTES,
        "folders": [(str(own), [str(home) for home in homes(project)]), (str(shipped_templates()), None)],
        "context": dict(context),
        "source": str(source.path),
        "cells": {cell.name: _with_parameters(cell, parameters) for cell in source.cells},
        "defined": sorted(source.defined()),
    }

    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _CHILD, json.dumps([path for path in sys.path if Path(path).is_absolute()])],
            input=json.dumps(request).encode(),
            env=child_environment(),
            cwd="/",
            capture_output=True,
            check=False,
            timeout=_WAIT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise SourceError(f"the template {template} was not filled in within {_WAIT_SECONDS} s") from None

    if done.returncode:
        if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL, -signal.SIGSEGV):
            raise SourceError(
                f"the template {template} takes more than {PROCESSOR_SECONDS} s or {MEMORY_BYTES >> 20} MB: look for a "
                f"loop in it, or a text that it makes longer and longer"
            )
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise SourceError(f"the template {template} could not be filled in: {words[-1] if words else done.returncode}")

    answer: dict[str, Any] = json.loads(done.stdout)
    if link := answer.get("leaves"):
        inside(project, link)
    if "text" not in answer:
        raise SourceError(str(answer.get("error")))
    return answer


def _with_parameters(cell: Cell, parameters: Mapping[str, Any]) -> str:
    """A cell in py:percent form, its name in writing; after the parameters' own, those that are overridden."""
    cell = replace(cell, unnamed=False)
    if "parameters" not in cell.tags or not parameters:
        return percent(cell)
    lines = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
    return percent(cell) + "\n" + percent(Cell("injected-parameters", "code", lines, ("injected-parameters",)))


@lru_cache(maxsize=16)
def _check_code(code: tuple[tuple[str, str], ...]) -> None:
    """Raise SourceError if the rendered code, each cell's name and text, is not Python or reads an undefined name.

    What passed is not checked again: a push and a rehearsal build the same notebook several times.
    """
    from pyflakes import checker, messages

    owners: list[str] = []  # of each line of the joined code
    for name, text in code:
        try:
            parse_python(text)
        except SyntaxError as error:
            raise SourceError(
                f"the rendered cell {name!r}, line {error.lineno}, is not valid Python: {error.msg}"
            ) from error
        owners += [name] * (text.count("\n") + 1)

    tree = parse_python("\n".join(text for _, text in code), joined=True)
    try:
        problems = checker.Checker(tree, builtins=_JUPYTER).messages
    except RecursionError as error:
        raise SourceError(
            "the notebook's code has an expression that is too long or nested too deep to be checked: cut it in two"
        ) from error

    for message in problems:
        if not isinstance(message, messages.UndefinedName):
            continue
        name, owner = str(message.message_args[0]), owners[message.lineno - 1]
        defined = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id != name}
        raise SourceError(
            f"the cell {owner!r} uses {name!r}, which no cell before it defines{did_you_mean(name, defined)}"
        )
