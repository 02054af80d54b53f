"""A notebook's source: a py:percent file of named cells, one of them tagged `parameters`."""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import SourceError
from kaggle_kit.notebook.parameters import Parameter, parse_parameters

if TYPE_CHECKING:
    from pathlib import Path

_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
"""Cell names become cell ids, of which nbformat takes 64 characters."""


@dataclass(frozen=True)
class Cell:
    """One cell: its name, its kind ("code" or "markdown"), its text and its tags."""

    name: str
    kind: str
    text: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """A parsed source; `cells` in the file's order."""

    path: Path
    cells: tuple[Cell, ...]
    parameters: tuple[Parameter, ...]

    def defines(self, name: str) -> bool:
        """Whether a code cell assigns `name` at its top level."""
        for cell in self.cells:
            if cell.kind == "code":
                for node in ast.parse(cell.text).body:
                    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
                    if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                        return True
        return False

    def literals(self) -> dict[str, Any]:
        """The plain values (numbers, texts, dicts, …) that the code cells assign at their top level.

        Values are read, never run: what is not a literal is left out.
        """
        found: dict[str, Any] = {}
        for cell in self.cells:
            if cell.kind != "code":
                continue
            for node in parse_python(cell.text).body:
                match node:
                    case ast.Assign(targets=[ast.Name(id=name)], value=value):
                        pass
                    case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                        pass
                    case _:
                        continue
                try:
                    found[name] = ast.literal_eval(value)
                except (ValueError, TypeError):
                    found.pop(name, None)
        return found


def parse_python(text: str, *, joined: bool = False) -> ast.Module:
    """The syntax tree of a cell's code, which may await at its top level as Jupyter allows.

    Raises SyntaxError, for a return outside of a function too. `joined`: the text is several cells, each checked
    before, of which a later one may begin with a __future__ import.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not joined:
            compile(text, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        return ast.parse(text)


def read_source(path: Path) -> Source:
    """Read a py:percent file.

    Raises SourceError where it is not valid Python, a cell has no name or the name of another, or the
    parameters cell is not one of typed, literal defaults.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"the source {path} cannot be read: {error}") from error
    try:
        parse_python(text)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f"{path}:{line}" if line else str(path)
        message = getattr(error, "msg", str(error))
        raise SourceError(f"{where}: the source is not valid Python: {message}") from error
    cells = parse_cells(text, where=str(path))
    _refuse_magics(cells, path)
    tagged = [cell for cell in cells if "parameters" in cell.tags]
    if len(tagged) > 1:
        raise SourceError(f"{path}: {len(tagged)} cells are tagged parameters; keep one")
    parameters = parse_parameters(tagged[0].text, where=f"{path}, cell {tagged[0].name!r}") if tagged else ()
    return Source(path, cells, parameters)


def _refuse_magics(cells: tuple[Cell, ...], path: Path) -> None:
    """Raise SourceError for a line that Jupyter alone understands: in a py:percent file it hides in a comment."""
    for cell in cells:
        if cell.kind != "code":
            continue
        try:
            parse_python(cell.text)
        except SyntaxError as error:
            line = (error.text or "").strip()
            raise SourceError(
                f"{path}, cell {cell.name!r}: {line!r} is for Jupyter alone; a source is plain Python"
            ) from error


def parse_cells(text: str, *, where: str) -> tuple[Cell, ...]:
    """The cells of a py:percent text. Raises SourceError for a cell without a name, or two of one name."""
    import jupytext
    import nbformat

    try:
        notebook = jupytext.reads(text, fmt="py:percent")
    except nbformat.ValidationError as error:
        problem = str(error).splitlines()[0]
        raise SourceError(
            f'{where}: a cell\'s options are wrong: {problem}; write them as # %% name="some-name" tags=["some-tag"]'
        ) from error
    cells: list[Cell] = []
    for number, node in enumerate(notebook.cells, start=1):
        name = node.metadata.get("name")
        first = node.source.strip().splitlines()[0][:60] if node.source.strip() else "(empty)"
        if name is None:
            raise SourceError(f'{where}: cell {number} ({first}) has no name; begin it with: # %% name="some-name"')
        if not _NAME.fullmatch(str(name)):
            raise SourceError(
                f"{where}: cell {number} is named {name!r}; a name has lower-case letters, digits and hyphens, "
                f"64 at most"
            )
        if any(cell.name == name for cell in cells):
            raise SourceError(f"{where}: two cells are named {name!r}; names must differ")
        if node.cell_type not in ("code", "markdown"):
            raise SourceError(f"{where}: cell {name!r} is of the kind {node.cell_type!r}; use code or markdown")
        cells.append(Cell(name, node.cell_type, node.source, tuple(node.metadata.get("tags", ()))))
    return tuple(cells)
