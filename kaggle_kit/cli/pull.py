"""`kit pull`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kaggle_kit.cli.options import open_project, project_option
from kaggle_kit.cli.remote_options import open_door, pushed_version, records_option, say

if TYPE_CHECKING:
    from pathlib import Path

    from kaggle_kit.notebook.pull import Pull


@click.command()
@click.argument("name")
@click.option("--apply", "take", is_flag=True, help="Write the changes into the source and kit.toml.")
@click.option("--clean-only", is_flag=True, help="With --apply: also where some changes are conflicts; those stay out.")
@records_option
@project_option
def pull(name: str, take: bool, clean_only: bool, records: Path | None, project_folder: Path | None) -> int:
    """Bring back what was edited in the browser: as a patch to the notebook's source.

    The newest version on Kaggle, the last pushed one and the source here are compared cell by cell, by content.
    Changes of the author's cells become a patch; changes of the template's cells, and of cells that changed here too,
    are shown as conflicts. Without --apply nothing is written.

    \b
    Examples:
      kit pull lmsys
      kit pull lmsys > edits.patch
      kit pull lmsys --apply

    Exit code 1 where there are conflicts.
    """
    from kaggle_kit.errors import RemoteError
    from kaggle_kit.notebook.pull import apply, pull_notebook
    from kaggle_kit.remote.door import kernels
    from kaggle_kit.runtime.manifest import MANIFEST, read_manifest
    from kaggle_kit.targets import load_target

    project = open_project(project_folder)
    reference, number = pushed_version(project, name, records=records or project.root, version=None)
    with open_door() as door:
        newest = kernels.read(door, reference)
        pushed = kernels.read(door, reference, version=number)
    if newest is None or pushed is None:
        raise RemoteError(f"notebook {reference} version {number} is not on Kaggle any more; see kit plan {name}")
    extra = read_manifest(project.root / "build" / name / MANIFEST).extra
    assignments = extra.get("assignments")
    result = pull_notebook(
        project,
        name,
        pulled=newest.source,
        pushed=pushed.source,
        target=load_target(str(extra.get("target")), project=project.root),
        assignments=[str(one) for one in assignments] if isinstance(assignments, list) else [],
    )
    _show(result, name=name, version=newest.version)
    if take and not result.unchanged:
        for path in apply(result, root=project.root, clean_only=clean_only):
            say(f"written: {path}")
    return 1 if result.conflicts else 0


def _show(result: Pull, *, name: str, version: int | None) -> None:
    if result.unchanged and not result.conflicts:
        say(f"{name}: version {version} on Kaggle says what was pushed")
        return
    for change in result.changes:
        say(f"{change.kind}: cell {change.name}")
    for edit in result.parameters:
        say(f"parameter {edit.name}: {edit.before} -> {edit.after} ({edit.place}); {edit.advice}")
    if result.patch:
        click.echo(result.patch, nl=False)
    for conflict in result.conflicts:
        say(f"\nconflict in cell {conflict.name}: {conflict.reason}; {conflict.advice}\n{conflict.diff}")
    if result.broken:
        say(f"the notebook would not build with these changes: {result.broken}")
