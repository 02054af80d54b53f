"""A Python source and the notebook that Jupytext pairs with it: whether both hold the same cells."""

from __future__ import annotations

import difflib
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import OutsideError, SourceError
from kaggle_kit.notebook.source import NOTEBOOK, SOURCE_BYTES, parse_cells, percent_text, plain
from kaggle_kit.outside import read_json, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kaggle_kit.notebook.source import Source

_NOTEBOOK_BYTES = 64 << 20
_FORMATS = re.compile(r"^#\s+formats:\s*[\"']?([^\n\"']{1,300})", re.MULTILINE)
_SHOWN = 60


def pairing_problem(source: Source, *, root: Path) -> str | None:
    """What differs between a source and a notebook paired with it; None if nothing does.

    A notebook that is not in the project's folder `root`, or that a link leads out of it, is not looked at.

    Contents decide; times are only said. A further line of the text says what to do.
    """
    if source.path.suffix == NOTEBOOK:
        return None
    for notebook in _notebooks(source.path, root.resolve()):
        try:
            theirs = _cells(notebook)
        except (OutsideError, SourceError) as error:
            return f"{notebook}, the notebook beside {source.path}, cannot be compared with it: {error}\nremove it"
        ours = [(cell.kind, plain(cell.text)) for cell in source.cells]
        if difference := _difference(ours, theirs):
            newer = "it is newer" if notebook.stat().st_mtime > source.path.stat().st_mtime else "it is older"
            return (
                f"{notebook}, the notebook beside {source.path}, has other cells ({difference}; {newer}): the build is "
                f"made of {source.path.name}\n"
                f"bring them together with: jupytext --sync {source.path} (the newer of the two wins), or remove one"
            )
    return None


def _notebooks(path: Path, root: Path) -> Iterator[Path]:
    """The notebooks that are there of those that the source may be paired with."""
    text = read_text(path, most_bytes=SOURCE_BYTES, follow=True)
    beside = path.with_suffix(NOTEBOOK)
    places = {beside: None}
    head = text[: text.find("# %%")] if "# %%" in text else text[:2000]
    if formats := _FORMATS.search(head):
        for part in formats[1].split(","):
            folder, _, form = part.strip().rpartition("//")
            parts = PurePosixPath(folder).parts
            if folder and form.split(":")[0] == "ipynb" and ".." not in parts and not folder.startswith("/"):
                places[path.parent.parent / folder / beside.name] = None
    return (place for place in places if place.resolve().is_relative_to(root) and place.is_file())


def _cells(notebook: Path) -> list[tuple[str, str]]:
    """Kind and text of a notebook's cells as Jupytext would write them into the source."""
    body: Any = read_json(notebook, most_bytes=_NOTEBOOK_BYTES, follow=True)
    nodes = body.get("cells") if isinstance(body, dict) else None
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        raise SourceError("it has no cells")
    text = percent_text(nodes)
    if len(text) > SOURCE_BYTES:
        raise SourceError("it is larger than a source may be")
    cells = parse_cells(text, where=str(notebook), unnamed=True)
    return [(cell.kind, plain(cell.text)) for cell in cells]


def _difference(ours: list[tuple[str, str]], theirs: list[tuple[str, str]]) -> str:
    """How many cells differ, and how the first of them begins; empty if none does. Empty cells do not count."""
    ours, theirs = ([cell for cell in cells if cell[1]] for cells in (ours, theirs))
    changes = [
        change for change in difflib.SequenceMatcher(None, ours, theirs, False).get_opcodes() if change[0] != "equal"
    ]
    if not changes:
        return ""
    count = sum(max(i2 - i1, j2 - j1) for _, i1, i2, j1, j2 in changes)
    _, i1, _, j1, j2 = changes[0]
    first = (theirs[j1] if j1 < j2 else ours[i1])[1].split("\n")[0][:_SHOWN]
    return f"{count} of them, the first begins with {first!r}"
