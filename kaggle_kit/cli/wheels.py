"""`kit wheels`: the wheelhouse of a target, from lock to proof and upload."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kaggle_kit.cli.options import open_project, project_option
from kaggle_kit.cli.terminal import Bars, say, show, show_json
from kaggle_kit.cli.wheels_show import MEGA, diff, list_wheels, open_target, sbom, summary, target_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kaggle_kit.targets import Target
    from kaggle_kit.wheelhouse.fetch import Progress
    from kaggle_kit.wheelhouse.lock import Mode
    from kaggle_kit.wheelhouse.resolve import Resolution


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
@click.option(
    "--engine", metavar="E", help='Another engine than the target\'s, "vllm==0.31.0"; "auto": the best known.'
)
@click.option(
    "--mode",
    type=click.Choice(["isolated", "overlay"]),
    help="Everything, into an empty environment, or only what the image lacks (default: as the target says).",
)
@click.option("--exclude-newer", metavar="DATE", help="Take nothing that its index dates later (UTC).")
@project_option
def lock(
    name: str, engine: str | None, mode: Mode | None, exclude_newer: str | None, project_folder: Path | None
) -> None:
    """Resolve a target, for all of its Pythons and from any machine, and write its lock.

    Wheels alone are taken. If the newer versions of a package come as source only, or its versions are not the same
    for all Pythons, a note says so. An engine that cannot run on the target is refused, with the reason and with what
    would work. What is locked is what is fetched, on any day: keep the lock in git. To lock again may give other
    versions, with --exclude-newer too, because an index may show a release late or withdraw it.

    \b
    Examples:
      kit wheels lock --target kaggle-t4x2
      kit wheels lock --target kaggle-t4x2 --engine vllm==0.31.0 --exclude-newer 2026-11-23
      kit wheels lock --target offline-h200 --mode overlay
    """
    from kaggle_kit.wheelhouse.lock import lock_path, write_lock
    from kaggle_kit.wheelhouse.resolve import resolve

    folder, target = open_target(name, project_folder)
    started = time.monotonic()
    resolution = resolve(target, engine=engine, mode=mode, exclude_newer=exclude_newer)
    write_lock(lock_path(folder, name), resolution.lock)

    seconds = time.monotonic() - started
    show(f"{lock_path(folder, name)}: {summary(resolution.lock)}, resolved in {seconds:.0f} s")
    _explain(resolution, target)


def _explain(resolution: Resolution, target: Target) -> None:
    """Why this engine, what it must be told, and what the lock comes to for each Python."""
    from kaggle_kit.wheelhouse.engine_table import choose_engine
    from kaggle_kit.wheelhouse.resolve import replaced

    for reason in resolution.reasons:
        show(f"  {reason}")

    choice = choose_engine(target, requirement=resolution.lock.engine)
    for table, values in (("engine_options", choice.engine_options), ("worker_environment", choice.worker_environment)):
        have = getattr(target, table)
        for key, value in values.items():
            if have.get(key) != value:
                show(f"  set in the target's [{table}]: {key} = {value!r}")

    if len(resolution.lock.pythons) > 1:
        for python in resolution.lock.pythons:
            wheels = resolution.lock.wheels_for(python)
            show(f"  Python {python}: {len(wheels)} wheels, {sum(w.size for w in wheels) / MEGA:,.0f} MB")

    for note in resolution.notes:
        show(f"  note: {note}")

    if resolution.lock.preinstalled:
        show(f"  {len(resolution.lock.preinstalled)} packages of the image will do as they are")
    for package, there, ours in replaced(resolution.lock, target):
        show(f"  {package} {there} of the image will not do: {ours} is laid over it")


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
    locked = read_lock(lock_path(folder, name))
    refuse_old_lock(locked, target, path=lock_path(folder, name))

    started = time.monotonic()
    with fetch_progress() as progress:
        fetch_files(locked, cache=user_cache(), progress=progress, rehash=True)
    out = assemble(locked, cache=user_cache(), out=wheelhouse_path(folder, name))

    seconds = time.monotonic() - started
    show(f"{out}: {summary(locked)} and the kit's own wheel, ready in {seconds:.1f} s")


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
@click.option("--json", "as_json", is_flag=True, help="Print the proof as JSON.")
@click.option("--no-install", is_flag=True, help="Check files, metadata and libraries only; the proof says so.")
@project_option
def prove(name: str, as_json: bool, no_install: bool, project_folder: Path | None) -> None:
    """Prove that wheels/T/ installs and loads on the target, as far as this machine can tell.

    Checks every file, archive, tag, requirement, library and GPU code, and installs it all with no network where this
    machine has the target's Python. Each check says what it found, or why it could not be run. The proof is kept in
    wheels/T/proof.json. Ends with 1 if a check failed.

    \b
    Examples:
      kit wheels prove --target local-cpu
      kit wheels prove --target kaggle-t4x2 --json
    """
    from kaggle_kit.wheelhouse.prove import prove as prove_wheelhouse

    folder, target = open_target(name, project_folder)
    started = time.monotonic()
    proof = prove_wheelhouse(target, project=folder, install=not no_install, say=lambda text: say(f"{text} …"))

    if as_json:
        show_json(proof.to_json(), sort_keys=True)
    else:
        for line in proof.lines():
            show(line)
        say(f"({time.monotonic() - started:.0f} s)")
    if proof.verdict == "failed":
        click.get_current_context().exit(1)


@wheels.command()
@target_option
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where the folders engine/ and kit/ are written.",
)
@click.option("--unproved", is_flag=True, help="Also if `kit wheels prove` has not passed.")
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

        def advance(done: int, total: int) -> None:
            nonlocal begun
            if not begun:
                bars.begin("wheels", total, completed=done)
            begun = True
            bars.done(done)

        yield advance


def _plain_lines() -> Progress:
    shown = -1

    def advance(done: int, total: int) -> None:
        nonlocal shown
        tenth = done * 10 // total if total else 10
        if tenth > shown:
            shown = tenth
            say(f"wheels: {done / MEGA:,.0f} of {total / MEGA:,.0f} MB")

    return advance


for command in (list_wheels, diff, sbom):
    wheels.add_command(command)
