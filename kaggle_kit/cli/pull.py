"""`kit pull`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kaggle_kit.cli.options import open_project, project_option, trust_option
from kaggle_kit.cli.remote_options import open_client, pushed_version, records_option
from kaggle_kit.cli.terminal import say, show_text
from kaggle_kit.visible import unseen

if TYPE_CHECKING:
    from pathlib import Path

    from kaggle_kit.notebook.pull import Pull
    from kaggle_kit.remote.client.notebooks import RemoteNotebook


@click.command()
@click.argument("name")
@click.option("--apply", "take", is_flag=True, help="Write the changes into the source and kit.toml.")
@click.option("--clean-only", is_flag=True, help="With --apply: also where some changes are conflicts; those stay out.")
@records_option
@trust_option
@project_option
def pull(name: str, take: bool, clean_only: bool, records: Path | None, project_folder: Path | None) -> int:
    """Bring back what was edited in the browser: as a patch to the notebook's source.

    The newest version on Kaggle, the last pushed one and the source here are compared cell by cell, by content.
    Changes of the author's cells become a patch; a cell that changed here too is merged by git. Changes of the
    template's cells, and of lines that changed here too, are shown as conflicts, and so is a cell with which the
    notebook would not build; --clean-only takes all the others. Tags and hidden input or output come back as well;
    what a source cannot hold is a note. Without --apply nothing is written.

    What no eye sees in the patch is printed as an escape (\\r, \\u202e), into a file too, and told. Such a patch is
    there to be read; --apply writes what was edited.

    \b
    Examples:
      kit pull lmsys
      kit pull lmsys > edits.patch
      kit pull lmsys --apply

    Exit code 1 where there are conflicts, or where the notebook would not build with what --apply should write.
    """
    from kaggle_kit.errors import ProjectError, RemoteError
    from kaggle_kit.notebook.pull import apply, pull_notebook
    from kaggle_kit.remote.client import notebooks
    from kaggle_kit.remote.client.notebooks import source_identity
    from kaggle_kit.remote.plan.state import load_state
    from kaggle_kit.runtime.manifest import MANIFEST, read_manifest
    from kaggle_kit.targets import load_target

    project = open_project(project_folder)
    place = records or project.root
    reference, number = pushed_version(project, name, records=place, version=None)
    # What was brought here before is where the next edits begin.
    earlier = load_state(place).notebooks[reference].merged
    number = earlier.version if earlier else number
    build = project.place("build", name)
    if not (build / MANIFEST).is_file():
        raise ProjectError(
            f"{build} holds no build; make the one that was pushed (with its --target and -p) with: kit build {name}"
        )
    with open_client() as client:
        newest = notebooks.read(client, reference)
        pushed = notebooks.read(client, reference, version=number)
    if newest is None or pushed is None:
        raise RemoteError(f"notebook {reference} version {number} is not on Kaggle any more; see kit plan {name}")
    extra = read_manifest(build / MANIFEST).extra
    assignments = extra.get("assignments")
    result = pull_notebook(
        project,
        name,
        pulled=newest.source,
        pushed=pushed.source,
        target=load_target(str(extra.get("target")), project=project.root),
        assignments=[str(one) for one in assignments] if isinstance(assignments, list) else [],
    )
    edited = source_identity(newest.source) != source_identity(pushed.source)
    for note in result.notes:
        say(f"note: {note}")
    if result.unchanged:
        known = _known(name, edited=edited, take=take, before=earlier is not None)
        say(f"{name}: version {newest.version} on Kaggle {known}")
    else:
        _show(result, name)
    if take and not result.unchanged:
        for path in apply(result, root=project.root, clean_only=clean_only):
            say(f"written: {path}")
    if take and edited and _is_whole(result):
        _note(place, newest)
    return 1 if result.conflicts else 0


def _is_whole(result: Pull) -> bool:
    """Whether all that was edited is in the files after --apply: what was given with -p is not."""
    from kaggle_kit.project.config import CONFIG

    return not result.conflicts and all(edit.place == CONFIG for edit in result.parameters)


def _note(records: Path, brought: RemoteNotebook) -> None:
    """Keep in the state that this version's edits are here: the next push may go over it, and over no later one."""
    from kaggle_kit.remote.client.notebooks import newest_version, source_identity
    from kaggle_kit.remote.plan.state import Merged, load_state, save_state

    merged = Merged(version=newest_version(brought), source=source_identity(brought.source))
    save_state(records, load_state(records).with_merged(brought.ref, merged))


def _known(name: str, *, edited: bool, take: bool, before: bool) -> str:
    """Of a version from which nothing is to be brought: why, and how to go on."""
    if not edited:
        return "is here already" if before else "says what was pushed"
    if take:
        return f"is here already: kit push {name} goes on from it"
    return f"is here already: say so with kit pull {name} --apply, and kit push {name} goes on from it"


def _show(result: Pull, name: str) -> None:
    for change in result.changes:
        say(f"{change.kind}: cell {change.name}")
    for edit in result.parameters:
        say(f"parameter {edit.name}: {edit.before} -> {edit.after} ({edit.place}); {edit.advice}")
    if result.patch:
        show_text(result.patch)
        _tell_unseen(result.patch, name)
    for conflict in result.conflicts:
        say("", f"conflict in cell {conflict.name}: {conflict.reason}; {conflict.advice}")
        # Set in: the names in its head came from the browser too.
        say(*(f"  {line}" for line in conflict.diff.removesuffix("\n").split("\n")))
    if result.broken:
        say(f"the notebook would not build with these changes: {result.broken}")


def _tell_unseen(patch: str, name: str) -> None:
    """Say so where the patch that was printed is not what was edited, to the letter."""
    if hidden := unseen(patch):
        say(
            f"the patch holds characters that no eye sees ({', '.join(hidden)}), printed as these escapes: read its "
            f"lines twice. It applies only with them as they are: kit pull {name} --apply writes what was edited"
        )
