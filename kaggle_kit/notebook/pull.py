"""`kit pull`: what was edited in the browser comes back as a patch to the source, and shows what cannot.

Three texts meet: the notebook as it was pushed, as Kaggle gives it back, and the source as it is now. Only contents
decide, never the times of files. A cell that was changed in the browser alone is taken; one that was changed on both
sides is merged where the lines differ. Lines that both sides changed, and cells of the template, are shown and left.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.errors import KitError, OutsideError, SourceError
from kaggle_kit.files import write_atomic
from kaggle_kit.notebook.build import render_build
from kaggle_kit.notebook.cells import INJECTED, NotebookCell, match_cells, read_cells
from kaggle_kit.notebook.cut import cut_source
from kaggle_kit.notebook.merge import Change, Conflict, Merge, Sides, merge, text_diff
from kaggle_kit.notebook.parameters import (
    Overrides,
    ParameterEdit,
    edit_config,
    literal_values,
    parameter_edits,
    parse_parameters,
)
from kaggle_kit.notebook.source import NOTEBOOK, SOURCE_BYTES
from kaggle_kit.outside import read_text
from kaggle_kit.places import inside
from kaggle_kit.project.config import CONFIG

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from kaggle_kit.project import Project
    from kaggle_kit.targets import Target

_MOST_TRIED = 40
"""Cells that are tried one by one where the notebook would not build with all of them."""
_LONGEST_SHOWN = 60
__all__ = ["Change", "Conflict", "Pull", "apply", "pull", "pull_notebook"]


@dataclass(frozen=True)
class Pull:
    """What a pull found. `before` and `after`: the source's text now, and with every clean change in it; the same for
    `kit.toml` in `config_before` and `config_after`.

    `path`: the source's place below the project, with `/`. `broken`: why the notebook would no longer build; else "".
    `notes`: what else was changed in the browser, and stays there.
    """

    path: str
    before: str
    after: str
    changes: tuple[Change, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    parameters: tuple[ParameterEdit, ...] = ()
    config_before: str = ""
    config_after: str = ""
    broken: str = ""
    notes: tuple[str, ...] = ()

    @property
    def unchanged(self) -> bool:
        """Whether nothing was edited in the browser that is not here already."""
        return not (self.changes or self.conflicts or self.parameters)

    @property
    def clean(self) -> bool:
        """Whether all of it can be taken as it is."""
        return not self.conflicts and not self.broken

    @property
    def patch(self) -> str:
        """The clean changes as a unified diff, for `git apply` or `patch -p1` in the project's folder."""
        config = text_diff(self.config_before, self.config_after, before=f"a/{CONFIG}", after=f"b/{CONFIG}")
        return text_diff(self.before, self.after, before=f"a/{self.path}", after=f"b/{self.path}") + config


def pull(
    *,
    pulled: str,
    pushed: str,
    source: str,
    path: str,
    overrides: Overrides | None = None,
    rebuild: Callable[[str], str] | None = None,
) -> Pull:
    """Compare a pulled notebook with the pushed one and with the source (texts of all three).

    `rebuild` makes the notebook's text from a source's text, as `kit build` would; with it, a change that the template
    would place elsewhere, or that would come out differently, is found. Raises SourceError if a text cannot be read.
    """
    overrides = overrides or Overrides()

    base = read_cells(pushed, where="the pushed notebook")
    theirs = read_cells(pulled, where="the pulled notebook")
    ours = cut_source(source, where=path)
    now, broken = _rebuilt(rebuild, source)

    frame = _frame(base, now, ours.names)
    sides = Sides(base, theirs, tuple(match_cells(base, theirs)), ours, frame, {cell.name: cell.text for cell in now})
    merged = merge(sides)
    if not merged.reads and not broken:
        broken = "the source with these changes would be read as other cells"
    if rebuild is not None and not broken and merged.changes:
        merged, broken = _checked(sides, merged, rebuild)

    edits, refused = _parameters(sides, merged, overrides)
    edits, config, unwritten = _config(overrides, edits)
    return Pull(
        path=path,
        before=source,
        after=merged.text,
        changes=tuple(merged.changes),
        conflicts=(*merged.conflicts, *refused, *unwritten),
        parameters=tuple(edits),
        config_before=overrides.text or "",
        config_after=config,
        broken=broken,
        notes=(*merged.notes, *_notebook_notes(pushed, pulled)),
    )


_OF_PROGRAMS = frozenset(("language_info", "papermill", "widgets", "toc", "varInspector", "jupytext"))
"""A notebook's metadata that programs write by themselves."""


def _notebook_notes(pushed: str, pulled: str) -> list[str]:
    """What was changed of the metadata of the whole notebook, which a source does not hold."""
    before, after = (json.loads(text).get("metadata") for text in (pushed, pulled))
    if not isinstance(before, dict) or not isinstance(after, dict):
        return []
    changed = [key for key in before if key in after and before[key] != after[key] and key not in _OF_PROGRAMS]
    return [
        f"the notebook's metadata {key} were changed in the browser ({_shown(before[key])} -> {_shown(after[key])}): a "
        f"source does not hold them; what kit.toml says of accelerator and internet goes with the next push"
        for key in changed
    ]


def _shown(value: object) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]} …"


def _rebuilt(rebuild: Callable[[str], str] | None, source: str) -> tuple[tuple[NotebookCell, ...], str]:
    if rebuild is None:
        return (), ""
    try:
        return read_cells(rebuild(source), where="the built notebook"), ""
    except KitError as error:
        return (), str(error)


def _frame(base: Sequence[NotebookCell], now: Sequence[NotebookCell], names: Sequence[str]) -> frozenset[str]:
    """The names of the template's own cells in the pushed notebook."""
    every = {cell.name for cell in base if INJECTED not in cell.tags}
    rendered = {cell.name for cell in now}
    # A cell that neither the source nor the template has any more was the author's: it was renamed or taken out.
    return frozenset(name for name in every - set(names) if not rendered or name in rendered)


def _checked(sides: Sides, merged: Merge, rebuild: Callable[[str], str]) -> tuple[Merge, str]:
    """The merge without the changes that would not come out of a build as they stand in the browser."""
    for _ in range(len(sides.theirs) + 2):
        now, broken = _rebuilt(rebuild, merged.text)
        removed = frozenset(change.name for change in merged.changes if change.kind == "removed")
        if broken:
            # The template may place one of them by its name: other changes are not lost for that.
            others = merge(sides, refused=merged.refused, kept=merged.kept | removed) if removed else merged
            if not removed or not others.changes:
                return _without_the_broken(sides, merged, broken, rebuild)
            merged = others
            continue
        wrong = merged.wrong(now)
        if not wrong:
            return merged, ""
        merged = merge(sides, refused={**merged.refused, **wrong}, kept=merged.kept)
    return merged, "the source and the template do not give the notebook that was edited"


def _without_the_broken(sides: Sides, merged: Merge, broken: str, rebuild: Callable[[str], str]) -> tuple[Merge, str]:
    """The merge without the cells for which it would not build, if it builds without them and something is left."""
    places = sorted(set(merged.taken.values()) - set(merged.refused))
    if len(places) < 2:
        return merged, broken
    left = dict.fromkeys(places, f"the notebook would not build with it: {broken}")
    for n in places[:_MOST_TRIED]:
        without = {place: why for place, why in left.items() if place != n}
        tried = merge(sides, refused={**merged.refused, **without}, kept=merged.kept)
        if not _rebuilt(rebuild, tried.text)[1]:
            left = without
    result = merge(sides, refused={**merged.refused, **left}, kept=merged.kept)
    now, still = _rebuilt(rebuild, result.text)
    return (merged, broken) if still or result.wrong(now) or not result.changes else (result, "")


def _parameters(sides: Sides, merged: Merge, overrides: Overrides) -> tuple[list[ParameterEdit], tuple[Conflict, ...]]:
    before, after = sides.injected()
    if before == after:
        return [], ()

    old, new = literal_values(before), literal_values(after)
    diff = text_diff(f"{before}\n", f"{after}\n", before="pushed", after="browser")
    if old is None or new is None:
        reason = "it holds more than name = value lines"
        return [], (Conflict(INJECTED, reason, "write code into a cell of your own", diff),)

    code = next((cell.text for cell in merged.cells if "parameters" in cell.tags), "")
    try:
        known = parse_parameters(code, where="the parameters cell")
    except (KitError, SyntaxError) as error:
        return [], (Conflict(INJECTED, str(error), "correct the parameters cell first", diff),)

    edits, refused = parameter_edits(old, new, parameters=known, overrides=overrides)
    conflicts = [
        Conflict(f"parameter {name}", reason, f"set {name} in kit.toml, or give it with -p", diff)
        for name, reason in refused
    ]
    return edits, tuple(conflicts)


def _config(
    overrides: Overrides, edits: Sequence[ParameterEdit]
) -> tuple[list[ParameterEdit], str, tuple[Conflict, ...]]:
    """The edits that can be taken, `kit.toml` with those of its own, and the others as conflicts."""
    text = overrides.text
    taken: list[ParameterEdit] = []
    conflicts: list[Conflict] = []

    for edit in edits:
        if edit.place == CONFIG and text is not None:
            changed = edit_config(text, overrides.notebook, edit)
            if changed is None:
                reason = f"kit.toml cannot be written with this value: {edit.before} -> {edit.after}"
                conflicts.append(Conflict(f"parameter {edit.name}", reason, f"by hand, {edit.advice}"))
                continue
            text = changed
        taken.append(edit)
    return taken, text or "", tuple(conflicts)


def apply(result: Pull, *, root: Path, clean_only: bool = False) -> tuple[Path, ...]:
    """Write the source, and `kit.toml` where a parameter was edited, below the project's folder; the files written.

    Raises KitError, with nothing written, if the notebook would not build, if there are conflicts and not only
    the clean cells are asked for, or if a file is not the one that was compared.
    """
    if result.broken:
        raise KitError(
            f"nothing was written to {result.path}: the notebook would not build: {result.broken}; edit the source by "
            "hand (the patch says what was edited), or the notebook on Kaggle"
        )
    if result.conflicts and not clean_only:
        named = ", ".join(conflict.name for conflict in result.conflicts)
        raise KitError(
            f"nothing was written to {result.path}: {len(result.conflicts)} conflicts ({named}); "
            "resolve them, or take the clean cells only"
        )

    texts = [(result.path, result.before, result.after), (CONFIG, result.config_before, result.config_after)]
    wanted = [(inside(root, name), before, after) for name, before, after in texts if before != after]
    for path, before, _ in wanted:
        if _text(path) != before:
            raise KitError(f"{path} was changed since it was compared: nothing was written; pull again")

    for path, _, after in wanted:
        write_atomic(path.resolve(), after)  # where it is a link, it stays one
    return tuple(path for path, _, _ in wanted)


def _rebuilder(project: Project, name: str, *, target: Target, assignments: Sequence[str] = ()) -> Callable[[str], str]:
    """A function from a source's text to the text of the notebook that `kit build` makes of it; KitErrors pass."""

    def rebuild(text: str) -> str:
        rendered = render_build(project, name, target=target, assignments=assignments, text=text)
        return rendered.files[f"{name}.ipynb"].decode()

    return rebuild


def pull_notebook(
    project: Project,
    name: str,
    *,
    pulled: str,
    pushed: str,
    target: Target,
    assignments: Sequence[str] = (),
) -> Pull:
    """`pull` for a project's notebook, the source and `kit.toml` read from their files.

    `target` and `assignments` (name=value texts) are those of the push.
    """
    notebook = project.notebook(name)
    source = project.source(name)
    if source.suffix == NOTEBOOK:
        raise SourceError(
            f"{source} is a notebook, and what comes back from the browser is merged into Python: convert it once with "
            f"jupytext --to py:percent {source}, name the .py in kit.toml, and pull again"
        )
    return pull(
        pulled=pulled,
        pushed=pushed,
        source=_text(source),
        path=notebook.source,
        overrides=Overrides(
            notebook=name,
            values=notebook.parameters,
            assigned=[assignment.partition("=")[0] for assignment in assignments],
            text=_text(project.place(CONFIG)),
        ),
        rebuild=_rebuilder(project, name, target=target, assignments=assignments),
    )


def _text(path: Path) -> str:
    """A file's text with its own line ends."""
    try:
        return read_text(path, most_bytes=SOURCE_BYTES, follow=True)
    except OutsideError as error:
        raise SourceError(str(error)) from error
