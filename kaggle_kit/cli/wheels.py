"""`kit wheels`: the wheelhouse of a target, from lock to checked folder."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kaggle_kit.cli.displays import Bars
from kaggle_kit.cli.options import open_project, project_option
from kaggle_kit.cli.prove import prove
from kaggle_kit.cli.terminal import say, show
from kaggle_kit.cli.wheels_lock import lock
from kaggle_kit.cli.wheels_options import MEGA, open_target, summary, target_option
from kaggle_kit.cli.wheels_show import diff, list_wheels, sbom

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kaggle_kit.wheelhouse.fetch import Progress


@click.group()
def wheels() -> None:
    """Lock, fetch and check the wheels that a notebook installs offline.

    \b
    Examples:
      kit wheels lock --target local-cpu      resolve and write wheels/pylock.local-cpu.toml
      kit wheels fetch --target local-cpu     bring its files to wheels/local-cpu/
      kit wheels verify --target local-cpu    hash every file there
      kit wheels diff kaggle-t4x2 image:kaggle-t4x2
    """


@wheels.command()
@target_option
@project_option
def fetch(name: str, project_folder: Path | None) -> None:
    """Bring exactly the locked files, and the kit's own wheel, to wheels/T/.

    Files come by way of the user's cache, where an interrupted fetch goes on. Files that are there already
    are hashed again, so this also repairs a wheelhouse.

    \b
    Example:
      kit wheels fetch --target local-cpu
    """
    from kaggle_kit.files import user_cache
    from kaggle_kit.wheelhouse.fetch import fetch as fetch_files
    from kaggle_kit.wheelhouse.folder import assemble, wheelhouse_path
    from kaggle_kit.wheelhouse.lock import lock_path, read_lock
    from kaggle_kit.wheelhouse.resolve import refuse_old_lock

    folder, target = open_target(name, project_folder)
    made = read_lock(lock_path(folder, name))
    refuse_old_lock(made, target, path=lock_path(folder, name))
    started = time.monotonic()
    with fetch_progress() as progress:
        fetch_files(made, cache=user_cache(), progress=progress, rehash=True)
    out = assemble(made, cache=user_cache(), out=wheelhouse_path(folder, name))
    seconds = time.monotonic() - started
    show(f"{out}: {summary(made)} and the kit's own wheel, ready in {seconds:.1f} s")


@wheels.command()
@target_option
@click.option("--quick", is_flag=True, help="Compare names and sizes only, no hashes.")
@project_option
def verify(name: str, quick: bool, project_folder: Path | None) -> None:
    """Check every file of wheels/T/ against its manifest: there, whole, unchanged, and nothing else.

    \b
    Example:
      kit wheels verify --target local-cpu
    """
    from kaggle_kit.wheelhouse.folder import verify as verify_folder
    from kaggle_kit.wheelhouse.folder import wheelhouse_path

    folder, _ = open_target(name, project_folder)
    out = wheelhouse_path(folder, name)
    started = time.monotonic()
    manifest = verify_folder(out, quick=quick)
    size = sum(entry.size for entry in manifest.files)
    checked = "names and sizes" if quick else "every SHA-256"
    seconds = time.monotonic() - started
    show(f"{out}: {len(manifest.files)} files, {size / MEGA:,.0f} MB, {checked} as in the manifest ({seconds:.1f} s)")


@wheels.command()
@target_option
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where the folders engine/ and kit/ are written.",
)
@click.option("--unproved", is_flag=True, help="Also where `kit wheels prove` has not passed.")
@project_option
def dataset(name: str, out: Path, unproved: bool, project_folder: Path | None) -> None:
    """Write the wheelhouse of a target as the two datasets that Kaggle gets.

    engine/ holds the locked wheels, kit/ the kit's own wheel: a change of the kit uploads kilobytes. File names are
    those that Kaggle will show. Nothing is uploaded.

    \b
    Example:
      kit wheels dataset --target kaggle-t4x2 --out build/wheels-t4x2
    """
    from kaggle_kit.errors import ProjectError, WheelhouseError
    from kaggle_kit.project.config import CONFIG
    from kaggle_kit.targets import load_target
    from kaggle_kit.wheelhouse.dataset import make_dataset
    from kaggle_kit.wheelhouse.folder import wheelhouse_path
    from kaggle_kit.wheelhouse.prove import proof_problem

    project = open_project(project_folder)
    target = load_target(name, project=project.root)
    if target.name not in project.wheelhouses:
        raise ProjectError(
            f"{project.root / CONFIG}: wheelhouses has no dataset for the target {name!r}; "
            f'add: {name} = "{project.owner}/kit-wheels-{name}"'
        )
    if not unproved and (problem := proof_problem(project.root, name)):
        raise WheelhouseError(f"{problem}\nOr write it all the same with --unproved")
    parts = make_dataset(wheelhouse_path(project.root, name), reference=project.wheelhouses[target.name], out=out)
    for part in parts:
        show(f"{part.folder}: {part.files} wheels, {part.size / MEGA:,.1f} MB, for {part.reference}")


@contextmanager
def fetch_progress() -> Iterator[Progress]:
    """Shows how far a fetch is, from its first byte on: a bar on a terminal, else a line every tenth part."""
    with Bars() as bars:
        if not bars.shown:
            yield _plain_lines()
            return
        begun = False

        def tell(done: int, total: int) -> None:
            nonlocal begun
            if not begun:
                bars.begin("wheels", total, completed=done)
            begun = True
            bars.done(done)

        yield tell


def _plain_lines() -> Progress:
    shown = -1

    def tell(done: int, total: int) -> None:
        nonlocal shown
        tenth = done * 10 // total if total else 10
        if tenth > shown:
            shown = tenth
            say(f"wheels: {done / MEGA:,.0f} of {total / MEGA:,.0f} MB")

    return tell


for command in (lock, list_wheels, diff, sbom, prove):
    wheels.add_command(command)
