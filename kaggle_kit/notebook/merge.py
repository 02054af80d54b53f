"""The merge of a pull, cell by cell: pushed, browser, source. What two sides changed in one cell is merged by git."""

from __future__ import annotations

import difflib
import re
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kaggle_kit.errors import KitError
from kaggle_kit.notebook.cells import FOLDING, INJECTED, NotebookCell, moved_cells
from kaggle_kit.notebook.cut import Segment, SourceText, changed_segment, marked_segment, new_segment, reads_as
from kaggle_kit.notebook.source import OF_ONE_RUN, Cell, plain
from kaggle_kit.project.git import run_git
from kaggle_kit.suggest import some

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
_MOST_CONFLICTS = 127
"""What git says of a merge is the number of its conflicts, up to this one; above are its errors."""
_TO_TEMPLATE = (
    "it belongs to the template: undo it in the browser, or override its block in a template of your own "
    '({% extends "offline.py.j2" %})'
)
_ELSEWHERE = "put it beside your own cells in the browser, or place it in a template of your own with cell(name)"
_SWALLOWS = "a py:percent file with it would be read otherwise: look for an open ``` or quotes"
_PICTURE = "a source holds text alone: put the picture into a dataset, or link to its address"
_BY_HAND = "edit the source by hand, then `kit build` and push"


@dataclass(frozen=True)
class Change:
    """A clean change of an author's cell; "merged": it was changed in the source too, in other lines; "metadata": its
    tags, or how it is folded."""

    name: str
    kind: Literal["changed", "merged", "added", "removed", "moved", "metadata"]


@dataclass(frozen=True)
class Conflict:
    """A change that is not taken: why, what to do about it, and the change itself as a diff."""

    name: str
    reason: str
    advice: str
    diff: str = ""


@dataclass(frozen=True)
class Sides:
    """All that is compared. `matches`: for each pulled cell the place of its pushed one. `frame`: names of the
    template's cells; `now`: the texts of a build of the source as it is, by cell name (empty where it is not known)."""

    base: tuple[NotebookCell, ...]
    theirs: tuple[NotebookCell, ...]
    matches: tuple[int | None, ...]
    ours: SourceText
    frame: frozenset[str]
    now: Mapping[str, str]

    def role(self, place: int) -> Literal["author", "frame", "injected"]:
        """Whose a pushed cell is."""
        cell = self.base[place]
        if INJECTED in cell.tags:
            return "injected"
        return "frame" if cell.name in self.frame else "author"

    def injected(self) -> tuple[str, str]:
        """The texts of the cell with the overridden parameters, pushed and pulled ("" where there is none)."""
        place = next((n for n in range(len(self.base)) if self.role(n) == "injected"), None)
        if place is None:
            return "", ""
        after = self.theirs[self.matches.index(place)].text if place in self.matches else ""
        return self.base[place].text, after

    @cached_property
    def moved(self) -> set[int]:
        """The places of the pushed cells that stand in another order now."""
        places = [place for place in self.matches if place is not None]
        return moved_cells(places, [self.role(place) != "author" for place in places])

    def frame_before(self, n: int) -> set[str]:
        """The template's cells that stand before the pulled cell `n`."""
        return self._frame_among(place for place in self.matches[:n] if place is not None)

    def crossed(self, n: int, place: int) -> bool:
        """Whether a cell stands on another side of one of the template's cells than when it was pushed."""
        return self._frame_among(range(place)) != self.frame_before(n)

    def _frame_among(self, places: Iterable[int]) -> set[str]:
        return {self.base[place].name for place in places if self.role(place) == "frame"}


def merge(sides: Sides, *, refused: Mapping[int, str] | None = None, kept: frozenset[str] = frozenset()) -> Merge:
    """Take every change of the browser that is clean.

    Those in `refused` (place in the pulled notebook → why) are not, and the cells named in `kept` stay in the source.
    """
    merged = Merge(sides, refused or {}, kept)
    if merged.reads:
        return merged

    # Together they cannot be read: take one after the other, as long as they can.
    left = dict.fromkeys(merged.taken.values(), _SWALLOWS)
    for n in sorted(left):
        why = left.pop(n)
        if not Merge(sides, {**merged.refused, **left}, kept).reads:
            left[n] = why
    return Merge(sides, {**merged.refused, **left}, kept)


def merge_texts(ours: str, base: str, theirs: str) -> str | None:
    """What two sides made of a text, by `git merge-file`; None where they changed the same lines.

    Raises KitError if git is missing, or fails.
    """
    texts = {"ours": ours, "base": base, "theirs": theirs}
    if any("\0" in text for text in texts.values()):
        return None  # no text for git

    with tempfile.TemporaryDirectory(prefix="kit-merge-") as folder:
        for name, text in texts.items():
            Path(folder, name).write_bytes(text.encode("utf-8", "surrogatepass"))
        files = [str(Path(folder, name)) for name in texts]
        done = run_git("merge-file", "--stdout", "--diff3", *files, home=Path(folder))

    if done is None:
        raise KitError(
            "a cell was changed in the browser and in the source, and git, which merges the two, is not installed here "
            "or does not answer: install git (on Debian and Ubuntu: apt install git), and pull again"
        )
    if done.returncode > _MOST_CONFLICTS or done.returncode < 0:
        words = done.stderr.decode(errors="replace").strip()
        raise KitError(f"git could not merge a cell: {words or done.returncode}; install a newer git, and pull again")
    return done.stdout.decode("utf-8", "surrogatepass") if done.returncode == 0 else None


@dataclass
class Merge:
    """A merge, done at once: the source's cells in their new order, and what was done.

    `taken`: name in the source → place in the pulled notebook of each cell that was taken from there; `refused`:
    place → why it is not to be taken; `kept`: cells that stay in the source, though the browser has them no more.
    """

    sides: Sides
    refused: Mapping[int, str]
    kept: frozenset[str] = frozenset()
    changes: list[Change] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    taken: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _here: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.segments = {segment.cell.name: segment for segment in self.sides.ours.segments}
        self.order = self.sides.ours.names
        matches = self.sides.matches

        for n, place in enumerate(matches):
            if place is not None:
                self._compare(n, place)
        for place in range(len(self.sides.base)):
            if place not in matches:
                self._remove(place)
        self._move()
        for n, place in enumerate(matches):
            if place is None and self.sides.theirs[n].text:
                self._add(n)

    @property
    def cells(self) -> list[Cell]:
        """The source's cells after the merge."""
        return [self.segments[name].cell for name in self.order]

    @property
    def text(self) -> str:
        """The source's new text."""
        return self.sides.ours.joined([self.segments[name] for name in self.order])

    @property
    def reads(self) -> bool:
        """Whether the text is read as the cells that it is made of."""
        return reads_as(self.text, self.cells)

    def wrong(self, now: Sequence[NotebookCell]) -> dict[int, str]:
        """Which of the taken cells a build (its cells are `now`) does not give back as they were merged, and why."""
        reasons: dict[int, str] = {}
        places = {cell.name: n for n, cell in enumerate(now)}
        texts = {change.name for change in self.changes if change.kind in ("added", "changed", "merged")}
        orders = {change.name for change in self.changes if change.kind in ("added", "moved")}

        for name, n in self.taken.items():
            text = plain(self.segments[name].cell.text)
            if name not in places or (name in texts and now[places[name]].text != text):
                reasons[n] = "it would not come out of a build as it stands in the browser"
            elif name in orders:
                before = {other.name for other in now[: places[name]]} & self.sides.frame
                if before != self.sides.frame_before(n):
                    reasons[n] = "the template would place it elsewhere"
        return reasons

    def _compare(self, n: int, place: int) -> None:
        """A cell that both notebooks have."""
        before, after = self.sides.base[place], self.sides.theirs[n]
        role = self.sides.role(place)
        segment = self.segments.get(before.name)
        if after.attachments:
            self._refuse(before, after, f"it holds pictures ({some(after.attachments)})", _PICTURE)
            return
        if role == "injected":
            return
        if _content(before) == _content(after):
            self._mark(n, before)
            return

        if role == "frame":
            if self.sides.now.get(before.name) != after.text:
                self._refuse(before, after, "it was changed in the browser", _TO_TEMPLATE)
        elif segment is None:
            self._refuse(before, after, "it was changed in the browser, and is not in the source any more", _BY_HAND)
        elif _content(segment.cell) != _content(after):
            self._change(n, before, segment)

    def _change(self, n: int, before: NotebookCell, segment: Segment) -> None:
        """A cell of the author's that was changed in the browser, and perhaps in the source."""
        after, (_, here) = self.sides.theirs[n], _content(segment.cell)
        if n in self.refused:
            self._refuse(before, after, self.refused[n], _BY_HAND)
            return

        untouched = _content(segment.cell) == _content(before)
        kinds = {before.kind, after.kind, segment.cell.kind}
        text = after.text
        if not untouched:
            merged = merge_texts(f"{here}\n", f"{before.text}\n", f"{text}\n") if len(kinds) == 1 else None
            if merged is None:
                reason = "the same lines of it were changed in the browser and in the source"
                self._refuse(before, after, reason, _BY_HAND, here=here)
                return
            text = plain(merged)
            if text == here:
                return

        new = changed_segment(segment, kind=after.kind, text=text, newline=self.sides.ours.newline)
        if isinstance(new, str):
            reason = new if untouched else f"with the source's own changes in it, {new}"
            self._refuse(before, after, reason, _BY_HAND, here=None if untouched else here)
            return
        self.segments[before.name] = new
        self.changes.append(Change(before.name, "changed" if untouched else "merged"))
        self.taken[before.name] = n
        self._mark(n, before)

    def _mark(self, n: int, before: NotebookCell) -> None:
        """Tags and metadata of a cell that were changed in the browser."""
        after, segment = self.sides.theirs[n], self.segments.get(before.name)
        changed = _changed_metadata(before, after)
        added, gone = _changed_tags(before, after)
        if not changed and not added and not gone:
            return
        if self.sides.role(self.sides.base.index(before)) == "frame" or segment is None:
            named = some(sorted([*changed, *(["tags"] if added or gone else [])]))
            self.notes.append(f"cell {before.name}: {named} changed in the browser; the template keeps its own")
            return

        here, base = dict(segment.cell.metadata), dict(before.metadata)
        for key, value in changed.items():
            if here.get(key) == value:
                continue
            if here.get(key) != base.get(key):
                reason = f"its metadata {key} were changed in the browser and in the source"
                self.conflicts.append(Conflict(before.name, reason, _BY_HAND))
                return
            here = {name: own for name, own in here.items() if name != key} | ({key: value} if value else {})
        tags = tuple(tag for tag in segment.cell.tags if tag not in gone)
        tags += tuple(tag for tag in added if tag not in tags)
        metadata = tuple(sorted(here.items()))
        if (tags, metadata) == (segment.cell.tags, tuple(sorted(segment.cell.metadata))):
            return
        new = marked_segment(segment, tags=tags, metadata=metadata, newline=self.sides.ours.newline)
        if isinstance(new, str):
            self.conflicts.append(Conflict(before.name, new, _BY_HAND))
            return
        self.segments[before.name] = new
        if before.name not in self.taken:
            self.changes.append(Change(before.name, "metadata"))

    def _remove(self, place: int) -> None:
        """A cell that is gone in the browser."""
        cell = self.sides.base[place]
        gone = NotebookCell("", cell.name, cell.kind, "")
        role = self.sides.role(place)
        segment = self.segments.get(cell.name)

        if role == "frame":
            if not self.sides.now or cell.name in self.sides.now:
                self._refuse(cell, gone, "it was taken out in the browser", _TO_TEMPLATE)
        elif role == "author" and segment and _content(segment.cell) != _content(cell):
            reason = "it was taken out in the browser, and changed in the source"
            self._refuse(cell, gone, reason, _BY_HAND, here=plain(segment.cell.text))
        elif role == "author" and segment and cell.name in self.kept:
            reason = "it was taken out in the browser, or rewritten, and the template places it by its name"
            self._refuse(cell, gone, reason, _BY_HAND)
        elif role == "author" and segment:
            self.order.remove(cell.name)
            self.changes.append(Change(cell.name, "removed"))

    def _move(self) -> None:
        """The cells that stand elsewhere in the browser."""
        moved: dict[str, int] = {}
        for n, place in enumerate(self.sides.matches):
            if place is None or place not in self.sides.moved or self.sides.role(place) == "injected":
                continue
            cell = self.sides.base[place]
            if self.sides.role(place) == "frame":
                self.conflicts.append(Conflict(cell.name, "it was moved in the browser", _TO_TEMPLATE))
            elif self.sides.crossed(n, place) or n in self.refused:
                reason = "it was moved to a place where the template has no cells of yours"
                self.conflicts.append(Conflict(cell.name, reason, _ELSEWHERE))
            elif cell.name in self.order:
                moved[cell.name] = n

        before = self.order
        self.order = [name for name in self.order if name not in moved]
        for name, n in moved.items():
            self._insert(name, n)
        if self.order != before:
            self.changes += [Change(name, "moved") for name in moved]
            self.taken = {**moved, **self.taken}

    def _add(self, n: int) -> None:
        """A cell that is new in the browser."""
        cell = self.sides.theirs[n]
        if self._is_here(cell):
            return

        name = self._new_name(cell)
        nothing = NotebookCell("", name, cell.kind, "")
        if cell.attachments:
            self._refuse(nothing, cell, f"it holds pictures ({some(cell.attachments)})", _PICTURE)
            return
        if n in self.refused:
            self._refuse(nothing, cell, self.refused[n], _ELSEWHERE)
            return
        if self.kept and not cell.name:
            self._refuse(nothing, cell, f"it may be {some(sorted(self.kept))}, rewritten", _BY_HAND)
            return

        tags = tuple(tag for tag in cell.tags if tag not in ("parameters", INJECTED))
        folding = tuple(item for item in cell.metadata if item[0] in FOLDING)
        new = new_segment(Cell(name, cell.kind, cell.text, tags, folding), newline=self.sides.ours.newline)
        if isinstance(new, str):
            self._refuse(nothing, cell, new, _BY_HAND)
            return
        self.segments[name] = new
        self._insert(name, n)
        self.changes.append(Change(name, "added"))
        self.taken[name] = n

    def _is_here(self, cell: NotebookCell) -> bool:
        """Whether the source has got this cell since the push, for instance by an earlier pull."""
        pushed = {other.name for other in self.sides.base} | self._here
        for segment in self.sides.ours.segments:
            if segment.cell.name not in pushed and _content(segment.cell) == _content(cell):
                self._here.add(segment.cell.name)
                return True
        return False

    def _new_name(self, cell: NotebookCell) -> str:
        used = {*self.segments, *(other.name for other in self.sides.base)}
        if _NAME.fullmatch(cell.name) and cell.name not in used:
            return cell.name
        return next(name for number in range(1, len(used) + 2) if (name := f"added-{number}") not in used)

    def _insert(self, name: str, n: int) -> None:
        """Put `name` behind the nearest of the source's cells that stands before the pulled cell `n`."""
        by_place = {place: other for other, place in self.taken.items()}
        for earlier in range(n - 1, -1, -1):
            place = self.sides.matches[earlier]
            other = by_place.get(earlier) if place is None else self.sides.base[place].name
            if other in self.order:
                self.order.insert(self.order.index(other) + 1, name)
                return
        self.order.insert(0, name)

    def _refuse(
        self, before: NotebookCell, after: NotebookCell, reason: str, advice: str, *, here: str | None = None
    ) -> None:
        """Note a conflict, with what was done to the cell in the browser, and here."""
        name = before.name or after.name
        diff = text_diff(_lines(before.text), _lines(after.text), before=f"{name} pushed", after=f"{name} browser")
        if here is not None:
            diff += text_diff(_lines(before.text), _lines(here), before=f"{name} pushed", after=f"{name} here")
        self.conflicts.append(Conflict(name, reason, advice, diff))


def _changed_metadata(before: NotebookCell, after: NotebookCell) -> dict[str, str | None]:
    """What the browser did to the metadata that a source keeps: by key the new value as JSON, None where it is gone.

    Kaggle and Jupyter add others by themselves. Where the name is gone all of them are: by a program, not by an author.
    """
    old, new = dict(before.metadata), dict(after.metadata)
    keys = {*old, *(key for key in new if key in FOLDING)} - OF_ONE_RUN
    changed = {key: new.get(key) for key in sorted(keys) if old.get(key) != new.get(key)}
    if before.name and not after.name:
        return {key: value for key, value in changed.items() if value is not None}
    return changed


def _changed_tags(before: NotebookCell, after: NotebookCell) -> tuple[list[str], list[str]]:
    """The tags that are new, and those that are gone; but not those by which kit and Jupytext know a cell."""
    if before.name and not after.name:
        return [], []

    def free(tags: Sequence[str], others: Sequence[str]) -> list[str]:
        own = ("parameters", INJECTED)
        return [tag for tag in tags if tag not in others and tag not in own and not tag.startswith("active-")]

    return free(after.tags, before.tags), free(before.tags, after.tags)


def _content(cell: Cell | NotebookCell) -> tuple[str, str]:
    """What two cells must have in common to be the same: the kind and the plain text."""
    return cell.kind, plain(cell.text)


def _lines(text: str) -> str:
    return f"{text}\n" if text else ""


def text_diff(old: str, new: str, *, before: str, after: str) -> str:
    """A unified diff of two texts, as `git apply` takes it; empty where they are the same."""
    if old == new:
        return ""
    lines = difflib.unified_diff(_split(old), _split(new), before, after)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _split(text: str) -> list[str]:
    """The lines with their ends; only a newline ends a line, as for git."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)
