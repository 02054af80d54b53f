"""A source's text, cut at its cells: one of them can change while every other byte stays."""

from __future__ import annotations

import io
import json
import re
import tokenize
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from kaggle_kit.errors import SourceError
from kaggle_kit.notebook.source import Cell, cell_body, marker_line, parse_cells, parse_python, plain
from kaggle_kit.outside import BYTE_ORDER_MARK

if TYPE_CHECKING:
    from collections.abc import Sequence

_MARKER = re.compile(r"#\s*%%(%*\s|$)")


@dataclass(frozen=True)
class Segment:
    """A cell's part of the text: from its marker line to the next marker. `touched`: not as it stands in the file."""

    cell: Cell
    raw: str
    touched: bool = False


@dataclass(frozen=True)
class SourceText:
    """A whole source: what stands before the first cell, and the cells; `newline` is the file's own line end."""

    head: str
    segments: tuple[Segment, ...]
    newline: str

    @property
    def names(self) -> list[str]:
        """The cells' names in the file's order."""
        return [segment.cell.name for segment in self.segments]

    def joined(self, segments: Sequence[Segment]) -> str:
        """The text with these segments; between two cells that did not follow each other stands a blank line."""
        text = self.head
        following = dict(pairwise(self.names))
        names = set(self.names)

        for number, segment in enumerate(segments):
            last = number == len(segments) - 1
            after = None if last else segments[number + 1].cell.name
            together = segment.cell.name in names and following.get(segment.cell.name) == after
            if not segment.touched and together:
                text += segment.raw
            else:
                text += self._spaced(segment.raw, last=last, together=together)
        return text

    def _spaced(self, raw: str, *, last: bool, together: bool) -> str:
        body = raw.rstrip("\r\n")
        gap = raw[len(body) :]
        if together and (gap.count("\n") or last):
            return raw
        return body + self.newline * (1 if last else max(2, gap.count("\n")))


def cut_source(text: str, *, where: str) -> SourceText:
    """Cut a source's text at its cells. Raises SourceError if it is no valid source, or mixes line ends."""
    mark = BYTE_ORDER_MARK if text.startswith(BYTE_ORDER_MARK) else ""
    text = text.removeprefix(mark)
    newline = "\r\n" if "\r\n" in text else "\n"
    unix = text.replace("\r\n", "\n")
    if "\r" in unix:
        raise SourceError(f"{where}: a line ends on a lone carriage return; save the file with one kind of line ends")

    cells = parse_cells(unix, where=where, unnamed=True)
    lines = text.split("\n")
    places = _marker_lines(unix, where)
    if len(places) != len(cells):
        raise SourceError(f"{where}: {len(places)} cell markers, but {len(cells)} cells; write each as # %% name=…")

    keep = [f"{line}\n" for line in lines[:-1]] + lines[-1:]
    bounds = pairwise([*places, len(lines)])
    segments = [Segment(cell, "".join(keep[start:end])) for cell, (start, end) in zip(cells, bounds, strict=True)]
    head = "".join(keep[: places[0]]) if places else text
    return SourceText(mark + head, tuple(segments), newline)


def reads_as(text: str, cells: Sequence[Cell]) -> bool:
    """Whether a whole source is read as these cells: an open ``` of one markdown cell may swallow those after it."""
    try:
        unix = text.removeprefix(BYTE_ORDER_MARK).replace("\r\n", "\n")
        read = parse_cells(unix, where="the source", unnamed=True)
    except SourceError:
        return False
    return [_plain(cell) for cell in read] == [_plain(cell) for cell in cells]


def _plain(cell: Cell) -> Cell:
    return replace(cell, text=plain(cell.text), name="" if cell.unnamed else cell.name)


def _marker_lines(text: str, where: str) -> list[int]:
    """The lines (from 0) with a cell marker; a line inside of a text is not counted."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError) as error:
        raise SourceError(f"{where}: the source is not valid Python: {error}") from error
    return [
        token.start[0] - 1
        for token in tokens
        if token.type == tokenize.COMMENT and token.start[1] == 0 and _MARKER.match(token.string)
    ]


def changed_segment(segment: Segment, *, kind: str, text: str, newline: str) -> Segment | str:
    """The segment with another text, its marker line and the blank lines after it kept; or why it cannot be.

    A cell that had its name from its text gets it in writing: it is the same cell still.
    """
    first, _, rest = segment.raw.partition("\n")
    cell = replace(segment.cell, kind=kind, text=text, unnamed=False)
    marker = first.removesuffix("\r") if kind == segment.cell.kind else marker_line(cell)
    if segment.cell.unnamed and kind == segment.cell.kind:
        marker = _with_option(marker, "name", json.dumps(cell.name))
    gap = rest[len(rest.rstrip("\r\n")) :]
    ending = gap if rest.strip() else newline + gap
    quoted = kind == segment.cell.kind == "markdown" and rest.lstrip().startswith('"""')
    return _written(cell, marker, ending, newline, quoted=quoted)


def marked_segment(
    segment: Segment, *, tags: tuple[str, ...], metadata: tuple[tuple[str, str], ...], newline: str
) -> Segment | str:
    """The segment with other tags and metadata in its marker line, all else kept; or why it cannot be."""
    first, end, rest = segment.raw.partition("\n")
    marker = first.removesuffix("\r")
    before, after = dict(segment.cell.metadata), dict(metadata)
    if tags != segment.cell.tags:
        marker = _with_option(marker, "tags", json.dumps(list(tags)) if tags else None)
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            marker = _with_option(marker, key, after.get(key))

    cell = replace(segment.cell, tags=tags, metadata=tuple(sorted(metadata)))
    ending = newline if end else ""
    if reads_as(f"{marker}{ending}{rest}", [cell]):
        return Segment(cell, f"{marker}{ending}{rest}", touched=True)
    return "its metadata cannot be written in the line that begins it"


def _with_option(marker: str, key: str, value: str | None) -> str:
    """A marker line in which an option has another value (JSON), or is gone."""
    if found := re.search(rf"\s+{re.escape(key)}=", marker):
        try:
            _, stop = json.JSONDecoder().raw_decode(marker, found.end())
        except ValueError:
            stop = next((place for place in range(found.end(), len(marker)) if marker[place].isspace()), len(marker))
        marker = marker[: found.start()] + marker[stop:]
    return marker if value is None else f"{marker.rstrip()} {key}={value}"


def new_segment(cell: Cell, *, newline: str) -> Segment | str:
    """A segment for a new cell; or why there can be none."""
    return _written(cell, marker_line(cell), newline * 2, newline)


def _written(cell: Cell, marker: str, ending: str, newline: str, *, quoted: bool = False) -> Segment | str:
    if cell.kind not in ("code", "markdown"):
        return f"it is of the kind {cell.kind!r}; a source has code and markdown"
    if cell.kind == "code":
        try:
            parse_python(cell.text)
        except (SyntaxError, ValueError) as error:
            line = (getattr(error, "text", None) or "").strip()
            return f"it is not plain Python ({line or error}); magics and cells in progress stay in the browser"

    bodies = [f'"""\n{cell.text}\n"""'] if quoted else []
    for body in [*bodies, cell_body(cell)]:
        lines = [marker, *body.split("\n")] if body else [marker]
        if reads_as("\n".join(lines) + "\n", [cell]):
            return Segment(cell, newline.join(lines) + ending, touched=True)
    return "it cannot be written in a py:percent source: a line of it reads as a cell marker there"
