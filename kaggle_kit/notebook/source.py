"""A notebook's source: a py:percent file of named cells, one of them tagged `parameters`."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import DataError, OutsideError, SourceError
from kaggle_kit.notebook.parameters import (
    Parameter,
    Value,
    assignment,
    override,
    parse_assignments,
    parse_parameters,
)
from kaggle_kit.outside import BYTE_ORDER_MARK, read_json, read_text
from kaggle_kit.places import CONFIG
from kaggle_kit.runtime.job import Task

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.project import Project

SOURCE_BYTES = 2 << 20
"""A source has at most so many, and a rendered notebook so many letters: Kaggle takes about a million."""
_MOST_CELLS = 2000
NEEDED = ("labels", "prior", "fields", "template")
OPTIONAL = ("row_format", "swap", "rules", "chat", "chat_variables", "chat_system", "chat_date", "answer_prefix")
"""The parts of a task, by the names that a source gives them."""
_MARKERS = re.compile(r"^[ \t]*#[ \t]*%%", re.MULTILINE)
_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
"""Cell names become cell ids, of which nbformat takes 64 characters."""
_HEAD = re.compile(r"(#!.*\n?)?(#.*coding[:=].*\n?)?(#\s*---\s*\n(#.*\n)*?#\s*---)?")
"""What may stand before the first cell."""
_INDENTED = re.compile(r"^([ \t]+#[ \t]*)%%", re.MULTILINE)
"""A comment within a function or a loop, which jupytext would take for the beginning of a cell."""
_MAGIC = re.compile(r"# ?(%{1,2}[a-zA-Z]\w+|![\w./~$\"'])")
_NOT_KEPT = frozenset(
    (
        *("name", "tags", "active", "title", "region_name", "cell_depth", "cell_marker", "skipline", "noskipline"),
        *("lines_to_next_cell", "lines_to_end_of_cell_marker"),
    )
)
"""Metadata that stand elsewhere in a cell, or are jupytext's own, about the form of the file."""
_FILE = "__file__"
_LONGEST_LINE = 80
_LINE_ENDS = "\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""What jupytext takes for the end of a line, and Python does not."""


@dataclass(frozen=True)
class Cell:
    """One cell: its name, its kind ("code" or "markdown"), its text, its tags and its other metadata (key, JSON).

    `unnamed`: the file gives it no name, and this one is made of its text.
    """

    name: str
    kind: str
    text: str
    tags: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    unnamed: bool = False


@dataclass(frozen=True)
class Source:
    """A parsed source; `cells` in the file's order."""

    path: Path
    cells: tuple[Cell, ...]
    parameters: tuple[Parameter, ...]

    @property
    def defaults(self) -> dict[str, Value]:
        """The parameters' own values."""
        return {parameter.name: parameter.default for parameter in self.parameters}

    def overrides(self, project: Project, name: str, assignments: Sequence[str]) -> dict[str, Value]:
        """The values that the notebook's table in kit.toml, and then the `name=value` texts, give in their place.

        Raises UsageError if one fits no parameter.
        """
        where = f"{project.root / CONFIG}: notebooks.{name}.parameters"
        values = override(self.parameters, project.notebook(name).parameters, where=where)
        return values | parse_assignments(self.parameters, assignments)

    @property
    def _statements(self) -> list[ast.stmt]:
        """The statements at the top level of the code cells."""
        return [node for cell in self.cells if cell.kind == "code" for node in parse_python(cell.text).body]

    def defined(self) -> frozenset[str]:
        """The names that code cells assign at their top level."""
        names: set[str] = set()
        for node in self._statements:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
        return frozenset(names)

    def literals(self) -> dict[str, Any]:
        """The plain values (numbers, texts, dicts, …) that the code cells assign at their top level.

        Values are read, never run: what is not a literal is left out.
        """
        values: dict[str, Any] = {}
        for node in self._statements:
            if assigned := assignment(node):
                name, value = assigned
                try:
                    values[name] = ast.literal_eval(value)
                except (ValueError, TypeError):
                    values.pop(name, None)
        return values


def parse_python(text: str, *, joined: bool = False) -> ast.Module:
    """The syntax tree of a cell's code, which may await at its top level as Jupyter allows.

    Raises SyntaxError, for a return outside of a function too, and for an expression that is nested too deep.
    `joined`: the text is several cells, each checked before, of which a later one may begin with a __future__ import.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if not joined:
                compile(text, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            return ast.parse(text)
        except (RecursionError, MemoryError) as error:
            raise SyntaxError("an expression is longer or nested deeper than Python reads: cut it in two") from error


def read_source(path: Path) -> Source:
    """Read a py:percent file, or a notebook as one.

    Raises SourceError if it is not valid Python, a cell has the name of another, or the parameters cell is not one of
    typed, literal defaults.
    """
    if path.suffix == NOTEBOOK:
        return parse_source(notebook_text(path), path)
    try:
        text = read_text(path, most_bytes=SOURCE_BYTES, follow=True)
    except OutsideError as error:
        raise SourceError(f"the source {error}") from error
    return parse_source(text, path)


def parse_source(text: str, path: Path) -> Source:
    """The source of this text, which stands at `path` or will. Raises SourceError as `read_source` does."""
    text = text.removeprefix(BYTE_ORDER_MARK).replace("\r\n", "\n").replace("\r", "\n")
    try:
        parse_python(text)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f"{path}:{line}" if line else str(path)
        message = getattr(error, "msg", str(error))
        magic = (getattr(error, "text", None) or "").lstrip().startswith(("%", "!"))
        hint = "; a line that Jupyter alone understands has no place in a source" if magic else ""
        raise SourceError(f"{where}: the source is not valid Python: {message}{hint}") from error

    cells = parse_cells(text, where=str(path), unnamed=True)
    _check_cells(cells, path)
    _check_names(cells, path)
    tagged = [cell for cell in cells if "parameters" in cell.tags]
    if len(tagged) > 1:
        raise SourceError(f"{path}: {len(tagged)} cells are tagged parameters; keep one")
    parameters = parse_parameters(tagged[0].text, where=f"{path}, cell {tagged[0].name!r}") if tagged else ()
    return Source(path, cells, parameters)


def _check_cells(cells: tuple[Cell, ...], path: Path) -> None:
    """Raise SourceError for a cell that is not Python by itself, though the whole file is."""
    for cell in cells:
        if cell.kind != "code":
            continue
        try:
            parse_python(cell.text)
        except SyntaxError as error:
            line = (error.text or "").strip()
            raise SourceError(
                f"{path}, cell {cell.name!r}: {line!r} is not valid Python in a cell of its own: {error.msg}"
            ) from error


def _check_names(cells: tuple[Cell, ...], path: Path) -> None:
    """Raise SourceError for a cell that reads `__file__`, which no notebook has, unless it is ready for that."""
    code = [(cell, parse_python(cell.text)) for cell in cells if cell.kind == "code"]
    stored = any(
        isinstance(node, ast.Name) and node.id == _FILE and isinstance(node.ctx, ast.Store)
        for _, tree in code
        for node in ast.walk(tree)
    )
    for cell, tree in code:
        tried = [part for node in ast.walk(tree) if isinstance(node, ast.Try) for part in node.body]
        guarded = {id(node) for part in tried for node in ast.walk(part)}
        for node in ast.walk(tree):
            if not stored and isinstance(node, ast.Name) and node.id == _FILE and id(node) not in guarded:
                raise SourceError(
                    f"{path}, cell {cell.name!r}, line {node.lineno}: a notebook has no {_FILE}: name the folder, "
                    f"/kaggle/input/… or /kaggle/working"
                )


def paired_magics(source: Source) -> list[str]:
    """The comments that Jupytext makes of a notebook's magics and commands, each with its cell: they do nothing."""
    return [
        f"cell {cell.name!r}: {line.strip()[:_LONGEST_LINE]}"
        for cell in source.cells
        if cell.kind == "code"
        for line in cell.text.split("\n")
        if _MAGIC.match(line)
    ]


def plain(text: str) -> str:
    """A cell's text without what editors change by themselves: line ends of Windows, blank lines at the end."""
    lines = text.replace("\r\n", "\n").split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    return "\n".join(lines)


def percent(cell: Cell) -> str:
    """A cell in py:percent form."""
    return "\n".join([marker_line(cell), cell_body(cell), ""])


def marker_line(cell: Cell) -> str:
    """The line that begins a cell."""
    markdown = " [markdown]" if cell.kind == "markdown" else ""
    name = "" if cell.unnamed else f' name="{cell.name}"'
    tags = f" tags={json.dumps(list(cell.tags))}" if cell.tags else ""
    others = "".join(f" {key}={value}" for key, value in cell.metadata)
    return f"# %%{markdown}{name}{tags}{others}"


def cell_body(cell: Cell) -> str:
    """The text as it stands in a file: that of markdown, and of code for notebooks alone, as comments."""
    if cell.kind != "markdown" and not _for_notebooks(cell):
        return cell.text
    return "\n".join(f"# {line}" if line else "#" for line in cell.text.split("\n"))


def _for_notebooks(cell: Cell) -> bool:
    """Whether a tag such as active-ipynb says that the cell is code in notebooks, and none in the file."""
    kinds = [set(tag.split("-")[1:]) for tag in cell.tags if tag.startswith("active-")]
    return any("ipynb" in kind and "py" not in kind for kind in kinds)


def parse_cells(text: str, *, where: str, unnamed: bool = False) -> tuple[Cell, ...]:
    """The cells of a py:percent text.

    Raises SourceError for two cells of one name, and for one without a name unless `unnamed` ones are expected, which
    Jupyter makes.
    """
    if sum(1 for _ in _MARKERS.finditer(text)) > _MOST_CELLS:
        raise SourceError(f"{where}: more than {_MOST_CELLS:,} cells; a notebook of so many is not read")
    spare = (sign for sign in range(0xE000, 0xF900) if chr(sign) not in text)
    hidden = {ord(sign): next(spare) for sign in _LINE_ENDS}
    marker = next(spare)
    shown: dict[int, int | str] = {instead: sign for sign, instead in hidden.items()}
    shown[marker] = "%%"

    cells: dict[str, Cell] = {}
    for number, node in enumerate(
        _read_percent(_INDENTED.sub(rf"\1{chr(marker)}", text.translate(hidden)), where), start=1
    ):
        name, anonymous = node.metadata.get("name"), unnamed and "name" not in node.metadata
        if anonymous:
            name = _name_of_text(node, cells)
        first = node.source.strip().splitlines()[0][:60] if node.source.strip() else "(empty)"
        if name is None:
            raise SourceError(f'{where}: cell {number} ({first}) has no name; begin it with: # %% name="some-name"')
        if not _NAME.fullmatch(str(name)):
            raise SourceError(
                f"{where}: cell {number} is named {name!r}; a name has lower-case letters, digits and hyphens, "
                f"64 at most"
            )
        if name in cells:
            raise SourceError(f"{where}: two cells are named {name!r}; names must differ")
        if node.cell_type not in ("code", "markdown"):
            raise SourceError(f"{where}: cell {name!r} is of the kind {node.cell_type!r}; use code or markdown")
        tags = tuple(node.metadata.get("tags", ()))
        others = _others(node.metadata)
        cells[name] = Cell(name, node.cell_type, node.source.translate(shown), tags, others, anonymous)
    return tuple(cells.values())


def _name_of_text(node: Any, taken: Container[str]) -> str:
    """A name for a cell that has none: the same as long as its text is."""
    name = "unnamed-" + hashlib.sha256(f"{node.cell_type}\n{plain(node.source)}".encode()).hexdigest()[:8]
    again = (name, *(f"{name}-{number}" for number in range(2, _MOST_CELLS + 2)))
    return next(each for each in again if each not in taken)


def _others(metadata: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """A cell's metadata besides name and tags, such as Kaggle's and Jupyter's for hidden input; each value as JSON."""
    kept = (item for item in sorted(metadata.items()) if item[0] not in _NOT_KEPT)
    return tuple((key, json.dumps(value, sort_keys=True)) for key, value in kept)


def _jupytext() -> Any:
    """jupytext, without the grammars of web addresses that jsonschema may build for it.

    Where Jupyter stands beside kit, the import of rfc3987_syntax takes two seconds; no notebook is checked by it.
    """
    if "jsonschema" in sys.modules or "rfc3987_syntax" in sys.modules:
        import jupytext

        return jupytext
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    try:
        import jupytext
    finally:
        del sys.modules["rfc3987_syntax"]
    return jupytext


def _read_percent(text: str, where: str) -> tuple[Any, ...]:
    """The notebook cells of a py:percent text. Raises SourceError for options that cannot be read."""
    try:
        return _nodes(text)
    except Exception as error:  # jupytext lets pass what YAML, nbformat and its own code raise
        problem = (str(error).splitlines() or [type(error).__name__])[0]
        raise SourceError(
            f'{where}: a cell\'s options are wrong: {problem}; write them as # %% name="some-name" tags=["some-tag"]'
        ) from error


def percent_text(nodes: Sequence[Mapping[str, Any]]) -> str:
    """A notebook's cells (JSON) as Jupytext writes them into a paired source: magics as comments, no outputs."""
    from nbformat import v4

    cells = []
    for node in nodes:
        lines, metadata = node.get("source", ""), node.get("metadata")
        text = "".join(map(str, lines)) if isinstance(lines, list) else str(lines)
        make = {"markdown": v4.new_markdown_cell, "raw": v4.new_raw_cell}.get(
            str(node.get("cell_type")), v4.new_code_cell
        )
        tags = metadata.get("tags") if isinstance(metadata, dict) else None
        cells.append(make(text, metadata={"tags": list(map(str, tags))} if isinstance(tags, list) and tags else {}))
    return str(_jupytext().writes(v4.new_notebook(cells=cells), fmt="py:percent"))


@lru_cache(maxsize=32)
def _nodes(text: str) -> tuple[Any, ...]:
    """The notebook cells of a py:percent text, its comments as they are: else `# copy this` would be a magic.

    A header between # --- lines is Jupyter's and left alone. jupytext would go by it: it may name another format, for
    which jupytext starts a program, and another language. So it stands in a cell of its own here, as comments.
    A pull, a push and a rehearsal build one notebook several times: the cells, which nobody changes, are kept.
    """
    percent = {"extension": ".py", "format_name": "percent", "comment_magics": False}
    head, *cells = _jupytext().reads(f'# %% name="head"\n{text}', fmt=percent).cells
    if not head.source.strip() or _HEAD.fullmatch(head.source.strip()):
        return tuple(cells)

    head.metadata["name"] = None  # no marker begins it: nothing can name it
    return (head, *cells)


NOTEBOOK = ".ipynb"
_NOTEBOOK_BYTES = 64 << 20
"""Of a notebook with its outputs; of its text a source may have SOURCE_BYTES."""
OF_ONE_RUN = frozenset(
    (
        *("execution", "papermill", "trusted", "ExecuteTime", "scrolled", "collapsed", "outputId", "executionInfo"),
        *("_uuid", "_cell_guid", "id", "colab", "vscode", "pycharm"),
    )
)
"""A cell's metadata that programs write by themselves, of one run or one editor."""


def notebook_text(path: Path) -> str:
    """A notebook's cells as a py:percent text, without outputs. Raises SourceError if a source could not hold them."""
    try:
        body = read_json(path, most_bytes=_NOTEBOOK_BYTES, follow=True)
    except OutsideError as error:
        raise SourceError(f"the source {error}") from error
    nodes = body.get("cells") if isinstance(body, dict) else None
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        raise SourceError(f"{path} is no notebook of the present format: it has no cells; save it in Jupyter again")
    language = _kernel_language(body)
    if language not in ("", "python"):
        raise SourceError(f"{path} is a notebook in {language}; a source is Python")

    cells = [_notebook_cell(node, number, path) for number, node in enumerate(nodes, start=1)]
    text = "\n".join(percent(cell) for cell in cells)
    if len(text) > SOURCE_BYTES:
        raise SourceError(f"{path} has more text than a source may have ({SOURCE_BYTES:,} letters)")
    read = parse_cells(text, where=str(path), unnamed=True)
    for number, cell in enumerate(cells, start=1):
        same = read[number - 1] if number <= len(read) else None
        if same is None or (same.kind, plain(same.text), same.tags, same.metadata) != (
            *(cell.kind, plain(cell.text), cell.tags, cell.metadata),
        ):
            raise SourceError(
                f"{path}: cell {number} cannot stand in a source as it is: look for a line like # %% in it, an open "
                f"```, or metadata with odd names"
            )
    return text


def _kernel_language(body: Mapping[str, Any]) -> str:
    """The language that a notebook says it is in, in lower case; empty where it says none."""
    metadata = body.get("metadata")
    for name, key in (("kernelspec", "language"), ("language_info", "name")):
        part = metadata.get(name) if isinstance(metadata, dict) else None
        if isinstance(part, dict) and isinstance(part.get(key), str):
            return str(part[key]).lower()
    return ""


def _notebook_cell(node: Mapping[str, Any], number: int, path: Path) -> Cell:
    lines, metadata = node.get("source", ""), node.get("metadata")
    if node.get("attachments"):
        raise SourceError(
            f"{path}: cell {number} holds pictures, and a source holds text alone: put them into a dataset, or link to "
            f"their addresses"
        )
    metadata = metadata if isinstance(metadata, dict) else {}
    name, tags = metadata.get("name"), metadata.get("tags")
    return Cell(
        str(name or ""),
        str(node.get("cell_type", "code")),
        plain("".join(map(str, lines)) if isinstance(lines, list) else str(lines)),
        tuple(map(str, tags)) if isinstance(tags, list) else (),
        _others({key: value for key, value in metadata.items() if key not in OF_ONE_RUN}),
        unnamed=not name,
    )


def literal_task(source: Source, values: Mapping[str, Any]) -> Task | None:
    """The task that the plain `values` of a source make; None if the source computes a part of it.

    Raises DataError if the parts make no task.
    """
    computed = source.defined().intersection(OPTIONAL) - set(values)
    if computed or not set(NEEDED) <= set(values):
        return None
    parts = {part: values[part] for part in (*NEEDED, *OPTIONAL) if part in values}
    try:
        return Task(**parts)
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{', '.join(parts)} make no task ({error}): labels, prior and fields are dicts by column, "
            f"template and row_format are texts"
        ) from error


def notebook_task(project: Project, name: str, *, assignments: Sequence[str]) -> tuple[Task, dict[str, Any]]:
    """The task of a notebook and its parameters' values.

    Raises SourceError if the source computes a part of the task: it could only be known by running it.
    """
    source = read_source(project.source(name))
    parameters = source.defaults | source.overrides(project, name, assignments)
    task = literal_task(source, source.literals() | parameters)
    if task is None:
        raise SourceError(
            f"{source.path} computes a part of its task ({', '.join((*NEEDED, *OPTIONAL))}); "
            f"write these as plain values, so that they can be used without the notebook"
        )
    if "token_budget" not in parameters:
        raise SourceError(f"{source.path} has no parameter token_budget")
    return task, parameters
