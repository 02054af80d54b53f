"""A notebook's cells as Kaggle gives them back, and which of the pushed cells each of them was."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import SourceError
from kaggle_kit.notebook.source import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

INJECTED = "injected-parameters"
_ALIKE = 0.6
"""Below this share of equal text two cells are two cells, not one that was edited."""
_LONG = 4000
FOLDING = ("_kg_hide-input", "_kg_hide-output", "jupyter")
"""Metadata by which Kaggle and Jupyter fold a cell."""


@dataclass(frozen=True)
class NotebookCell:
    """One cell of a notebook file. `name` is what kit wrote into its metadata, `id` the format's own; each may be
    missing ("") in what Kaggle gives back."""

    id: str
    name: str
    kind: str
    text: str
    tags: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    """The rest, each key with its value as JSON."""
    attachments: tuple[str, ...] = ()
    """The names of pictures that were pasted into it."""


def read_cells(text: str, *, where: str) -> tuple[NotebookCell, ...]:
    """The cells of a notebook file, texts made plain (`plain`). Raises SourceError if it is no notebook."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{where} is no notebook: {error}; pull it again") from error
    cells = body.get("cells") if isinstance(body, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise SourceError(f"{where} is no notebook of the present format: it has no cells; save it on Kaggle again")
    return tuple(_cell(cell) for cell in cells)


def _cell(cell: dict[str, Any]) -> NotebookCell:
    source = cell.get("source", "")
    metadata = cell.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    tags, attachments = metadata.get("tags"), cell.get("attachments")
    return NotebookCell(
        id=str(cell.get("id") or ""),
        name=str(metadata.get("name") or ""),
        kind=str(cell.get("cell_type", "code")),
        text=plain("".join(map(str, source)) if isinstance(source, list) else str(source)),
        tags=tuple(map(str, tags)) if isinstance(tags, list) else (),
        metadata=tuple(
            (str(key), json.dumps(value, sort_keys=True))
            for key, value in sorted(metadata.items())
            if key not in ("name", "tags")
        ),
        attachments=tuple(sorted(map(str, attachments))) if isinstance(attachments, dict) else (),
    )


def match_cells(pushed: Sequence[NotebookCell], pulled: Sequence[NotebookCell]) -> list[int | None]:
    """For each pulled cell the place of the pushed cell that it was; None for a cell that is new.

    By id, then by kit's own name in the metadata, then by equal text, and what is left by the most similar text.
    """
    matches: list[int | None] = [None] * len(pulled)
    for mark in (attrgetter("id"), attrgetter("name"), attrgetter("kind", "text")):
        _pair(pushed, pulled, matches, mark)
    _pair_alike(pushed, pulled, matches)
    return matches


def _pair(
    pushed: Sequence[NotebookCell],
    pulled: Sequence[NotebookCell],
    matches: list[int | None],
    mark: Callable[[NotebookCell], object],
) -> None:
    """Match the cells that have the same mark, if they have it at all."""
    for place, cell in enumerate(pushed):
        own = mark(cell)
        if not own or place in matches:
            continue
        same = [n for n, other in enumerate(pulled) if matches[n] is None and mark(other) == own]
        if same:
            # A cell that was copied keeps its marks: the copy that still has the text is the cell itself.
            matches[next((n for n in same if pulled[n].text == cell.text), same[0])] = place


def _pair_alike(pushed: Sequence[NotebookCell], pulled: Sequence[NotebookCell], matches: list[int | None]) -> None:
    free = [place for place in range(len(pushed)) if place not in matches]
    scores = [
        (ratio, place, n)
        for n, cell in enumerate(pulled)
        if matches[n] is None and cell.text
        for place in free
        if pushed[place].kind == cell.kind and (ratio := _alike(pushed[place].text, cell.text)) >= _ALIKE
    ]
    for _, place, n in sorted(scores, key=lambda score: (-score[0], score[1], score[2])):
        if matches[n] is None and place not in matches:
            matches[n] = place


def _alike(first: str, second: str) -> float:
    if len(first) + len(second) > _LONG:
        # Letter by letter takes seconds there, and lines say enough.
        return difflib.SequenceMatcher(None, first.split("\n"), second.split("\n"), autojunk=False).ratio()
    matcher = difflib.SequenceMatcher(None, first, second, autojunk=False)
    if matcher.real_quick_ratio() < _ALIKE or matcher.quick_ratio() < _ALIKE:
        return 0.0
    return matcher.ratio()


def moved_cells(places: Sequence[int], heavy: Sequence[bool]) -> set[int]:
    """Which of `places` (a permutation in its new order) moved: the fewest, and none that is `heavy` if others can."""
    best: list[tuple[int, int | None]] = []
    for n, place in enumerate(places):
        weight = len(places) + 1 if heavy[n] else 1
        before = [(best[m][0], m) for m in range(n) if places[m] < place]
        most, link = max(before, default=(0, -1))
        best.append((most + weight, link if link >= 0 else None))

    in_order: set[int] = set()
    at = max(range(len(best)), key=lambda n: best[n][0], default=None)
    while at is not None:
        in_order.add(places[at])
        at = best[at][1]
    return set(places) - in_order
