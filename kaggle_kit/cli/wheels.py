"""`kit wheels`: the wheelhouse of a target, from lock to checked folder."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kaggle_kit.cli.options import project_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kaggle_kit.targets import Target
    from kaggle_kit.wheelhouse.fetch import Progress
    from kaggle_kit.wheelhouse.lock import Lock

_MEGA = 1_000_000
_target_option = click.option("--target", "name", required=True, metavar="T", help="Name of the target.")


@click.group()
def wheels() -> None:
    """Lock, fetch and check the wheels that a notebook installs offline.

    \b
    Examples:
      kit wheels lock --target local-cpu      resolve and write wheels/local-cpu.lock
      kit wheels fetch --target local-cpu     bring its files to wheels/local-cpu/
      kit wheels verify --target local-cpu    hash every file there
    """


@wheels.command()
@_target_option
@click.option("--exclude-newer", metavar="DATE", help="Take nothing that appeared after this date.")
@project_option
def lock(name: str, exclude_newer: str | None, project_folder: Path | None) -> None:
    """Resolve a target and write its lock.

    \b
    Examples:
      kit wheels lock --target local-cpu
      kit wheels lock --target local-cpu --exclude-newer 2026-11-24
    """
    from kaggle_kit.wheelhouse.lock import lock_path, write_lock
    from kaggle_kit.wheelhouse.resolve import resolve

    folder, target = _open(name, project_folder)
    started = time.monotonic()
    made = resolve(target, exclude_newer=exclude_newer).lock
    write_lock(lock_path(folder, name), made)
    seconds = time.monotonic() - started
    click.echo(f"{lock_path(folder, name)}: {_summary(made)}, resolved in {seconds:.0f} s")


@wheels.command()
@_target_option
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
    from kaggle_kit.wheelhouse.assemble import assemble, wheelhouse_path
    from kaggle_kit.wheelhouse.fetch import fetch as fetch_files
    from kaggle_kit.wheelhouse.lock import lock_path, read_lock
    from kaggle_kit.wheelhouse.ready import refuse_old_lock

    folder, target = _open(name, project_folder)
    made = read_lock(lock_path(folder, name))
    refuse_old_lock(made, target, path=lock_path(folder, name))
    started = time.monotonic()
    with fetch_progress() as progress:
        fetch_files(made, cache=user_cache(), progress=progress, rehash=True)
    out = assemble(made, cache=user_cache(), out=wheelhouse_path(folder, name))
    seconds = time.monotonic() - started
    click.echo(f"{out}: {_summary(made)} and the kit's own wheel, ready in {seconds:.1f} s")


@wheels.command()
@_target_option
@click.option("--quick", is_flag=True, help="Compare names and sizes only, no hashes.")
@project_option
def verify(name: str, quick: bool, project_folder: Path | None) -> None:
    """Check every file of wheels/T/ against its manifest: there, whole, unchanged, and nothing else.

    \b
    Example:
      kit wheels verify --target local-cpu
    """
    from kaggle_kit.wheelhouse.assemble import verify as verify_folder
    from kaggle_kit.wheelhouse.assemble import wheelhouse_path

    folder, _ = _open(name, project_folder)
    out = wheelhouse_path(folder, name)
    started = time.monotonic()
    manifest = verify_folder(out, quick=quick)
    size = sum(entry.size for entry in manifest.files)
    checked = "names and sizes" if quick else "every SHA-256"
    seconds = time.monotonic() - started
    click.echo(
        f"{out}: {len(manifest.files)} files, {size / _MEGA:,.0f} MB, {checked} as in the manifest ({seconds:.1f} s)"
    )


@wheels.command("list")
@_target_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@project_option
def list_wheels(name: str, as_json: bool, project_folder: Path | None) -> None:
    """Show what a lock holds, the largest first.

    \b
    Examples:
      kit wheels list --target local-cpu
      kit wheels list --target local-cpu --json
    """
    from dataclasses import asdict

    from kaggle_kit.wheelhouse.lock import lock_path, read_lock

    folder, _ = _open(name, project_folder)
    made = read_lock(lock_path(folder, name))
    if as_json:
        click.echo(json.dumps(asdict(made), indent=2, sort_keys=True))
        return
    widths = [max(len(getattr(wheel, key)) for wheel in made.wheels) for key in ("name", "version")]
    for wheel in sorted(made.wheels, key=lambda wheel: (-wheel.size, wheel.name)):
        columns = (
            f"{wheel.name:{widths[0]}}",
            f"{wheel.version:{widths[1]}}",
            f"{wheel.size / _MEGA:8.2f} MB",
        )
        click.echo("  ".join([*columns, wheel.file]))
    click.echo(_summary(made))


def _open(name: str, project_folder: Path | None) -> tuple[Path, Target]:
    """The project's folder and the target that a command works on."""
    from kaggle_kit.errors import ProjectError
    from kaggle_kit.project import find_project
    from kaggle_kit.project.config import CONFIG
    from kaggle_kit.targets import load_target

    folder = project_folder or find_project(Path.cwd())
    if not (folder / CONFIG).is_file():
        raise ProjectError(f"{folder / CONFIG} is missing: a project is a folder with a {CONFIG}")
    return folder, load_target(name, project=folder)


@contextmanager
def fetch_progress() -> Iterator[Progress]:
    """Shows how far a fetch is, from its first byte on: a bar on a terminal, else a line every tenth part."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_lines()
        return
    from rich import progress as bars

    columns = (
        *("{task.description}", bars.BarColumn(), bars.DownloadColumn()),
        *(bars.TransferSpeedColumn(), bars.TimeRemainingColumn()),
    )
    bar = bars.Progress(*columns, console=console)
    tasks: list[bars.TaskID] = []

    def show(done: int, total: int) -> None:
        if not tasks:
            tasks.append(bar.add_task("wheels", completed=done, total=total))
            bar.start()
        bar.update(tasks[0], completed=done, total=total)

    try:
        yield show
    finally:
        bar.stop()


def _plain_lines() -> Progress:
    shown = -1

    def show(done: int, total: int) -> None:
        nonlocal shown
        tenth = done * 10 // total if total else 10
        if tenth > shown:
            shown = tenth
            click.echo(f"wheels: {done / _MEGA:,.0f} of {total / _MEGA:,.0f} MB", err=True)

    return show


def _summary(made: Lock) -> str:
    return f"{len(made.wheels)} wheels, {made.size / _MEGA:,.0f} MB, Python {made.python}, {made.engine}"
