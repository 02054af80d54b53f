"""`kit wheels`: the wheelhouse of a target, from lock to proof and upload, and what a lock holds."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kaggle_kit.cli.options import open_project, project_option
from kaggle_kit.cli.terminal import Bars, say, show, show_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kaggle_kit.targets import Target
    from kaggle_kit.wheelhouse.diff import Change
    from kaggle_kit.wheelhouse.fetch import Progress
    from kaggle_kit.wheelhouse.lock import Lock, Mode
    from kaggle_kit.wheelhouse.resolve import Resolution
    from kaggle_kit.wheelhouse.sbom import Licence

MEGA = 1_000_000
_UNKNOWN = "unknown"
_LONGEST_LICENCE = 40

target_option = click.option("--target", "name", required=True, metavar="T", help="Name of the target.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def open_target(name: str, project_folder: Path | None) -> tuple[Path, Target]:
    """The project's folder and the target that a command works on."""
    from kaggle_kit.errors import UsageError
    from kaggle_kit.project import find_project
    from kaggle_kit.project.config import CONFIG
    from kaggle_kit.targets import load_target

    if project_folder is not None and not (project_folder / CONFIG).is_file():
        raise UsageError(f"{project_folder / CONFIG} is missing; --project names the folder of a project")
    folder = project_folder or find_project(Path.cwd())
    return folder, load_target(name, project=folder)


def summary(lock: Lock) -> str:
    """One line on a lock: how many wheels, how heavy, for what."""
    pythons = " and ".join(lock.pythons)
    over = ", over the image's packages" if lock.mode == "overlay" else ""
    return f"{len(lock.wheels)} wheels, {lock.size / MEGA:,.0f} MB, Python {pythons}, {lock.engine}{over}"


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


@wheels.command("list")
@target_option
@json_option
@project_option
def list_wheels(name: str, as_json: bool, project_folder: Path | None) -> None:
    """Show what a lock holds, the largest first, and the sums of its parts.

    The part "engine" is all that is locked, "kit" the kit's own wheel: the two datasets in which they travel. Licences
    are those that the fetched wheels name themselves.

    \b
    Examples:
      kit wheels list --target local-cpu
      kit wheels list --target local-cpu --json
    """
    lock, licences = _read(name, project_folder)
    if as_json:
        show_json(_as_data(lock, licences), sort_keys=True)
        return
    rows = [
        (wheel.name, wheel.version, f"{wheel.size / MEGA:8.2f} MB", _short(_licence(licences, wheel.file)), wheel.file)
        for wheel in sorted(lock.wheels, key=lambda wheel: (-wheel.size, wheel.name, wheel.file))
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        show("  ".join([*(f"{text:{width}}" for text, width in zip(row, widths, strict=False)), row[4]]))
    for label, (count, size) in _totals(lock).items():
        show(f"{label:<12} {count:>4} wheels {size / MEGA:>11,.2f} MB")
    unknown = len(lock.wheels) - len(licences)
    if unknown:
        show(f"{unknown} licences are unknown; those of wheels that are not fetched are among them")
    show(summary(lock))


@wheels.command()
@click.argument("old", metavar="A")
@click.argument("new", metavar="B")
@click.option("--python", metavar="3.N", help="The Python of an image whose freeze does not name it.")
@json_option
@project_option
def diff(old: str, new: str, python: str | None, as_json: bool, project_folder: Path | None) -> None:
    """Compare two locks, or a lock with an image; exit code 1 if something would break.

    A and B are targets (their locks) or lock files. B may also be image:TARGET, what is known of that target's
    images, or a freeze: the text of `pip freeze`, with a line `# python 3.13`.

    \b
    Examples:
      kit wheels diff old/pylock.kaggle-t4x2.toml kaggle-t4x2
      kit wheels diff kaggle-t4x2 image:kaggle-t4x2
      kit wheels diff kaggle-t4x2 freeze.txt --python 3.13
    """
    from dataclasses import asdict

    from kaggle_kit.wheelhouse.diff import breaks

    changes = _compare(old, new, python, project_folder)
    broken = breaks(changes)
    if as_json:
        body = {"breaks": broken, "changes": [asdict(change) for change in changes]}
        show_json(body, sort_keys=True)
    else:
        for change in changes:
            show(f"{'breaks: ' if change.breaks else ''}{change.text}")
        show(_verdict(changes))
    raise click.exceptions.Exit(1 if broken else 0)


@wheels.command()
@target_option
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="Write it there instead of printing it.")
@project_option
def sbom(name: str, out: Path | None, project_folder: Path | None) -> None:
    """Print the bill of materials of a target's wheelhouse: CycloneDX 1.6, JSON.

    Each file with its SHA-256 and its package URL; licences where the wheels are fetched.

    \b
    Examples:
      kit wheels sbom --target local-cpu
      kit wheels sbom --target kaggle-t4x2 --out wheels/kaggle-t4x2.cdx.json
    """
    from kaggle_kit.files import write_atomic
    from kaggle_kit.wheelhouse.sbom import dump_sbom

    lock, licences = _read(name, project_folder)
    text = dump_sbom(lock, licences)
    if out is None:
        show_json(json.loads(text), sort_keys=True)
        return
    write_atomic(out, text)
    show(f"{out}: {len(lock.wheels)} wheels and the kit's own, {len(licences)} licences known")


def _read(name: str, project_folder: Path | None) -> tuple[Lock, Mapping[str, Licence]]:
    from kaggle_kit.files import user_cache
    from kaggle_kit.wheelhouse.folder import wheelhouse_path
    from kaggle_kit.wheelhouse.lock import lock_path, read_lock
    from kaggle_kit.wheelhouse.sbom import licences

    folder, _ = open_target(name, project_folder)
    lock = read_lock(lock_path(folder, name))
    return lock, licences(lock, cache=user_cache(), folder=wheelhouse_path(folder, name))


def _as_data(lock: Lock, licences: Mapping[str, Licence]) -> dict[str, Any]:
    from dataclasses import asdict

    body = asdict(lock)
    body["wheels"] = [asdict(wheel) | {"licence": _licence(licences, wheel.file)} for wheel in lock.wheels]
    body["totals"] = {label: {"wheels": count, "size": size} for label, (count, size) in _totals(lock).items()}
    return body


def _totals(lock: Lock) -> dict[str, tuple[int, int]]:
    """Wheels and bytes of each part, and of each Python where there are several."""
    from kaggle_kit.wheelhouse.folder import kit_wheel_bytes

    totals = {"engine part": (len(lock.wheels), lock.size), "kit part": (1, len(kit_wheel_bytes()))}
    if len(lock.pythons) > 1:
        for python in lock.pythons:
            wheels = lock.wheels_for(python)
            totals[f"Python {python}"] = (len(wheels), sum(wheel.size for wheel in wheels))
    return totals


def _licence(licences: Mapping[str, Licence], file: str) -> str:
    return licences[file].text if file in licences else _UNKNOWN


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_LICENCE else f"{text[: _LONGEST_LICENCE - 1]}…"


def _compare(old: str, new: str, python: str | None, project_folder: Path | None) -> tuple[Change, ...]:
    from kaggle_kit.targets import read_freeze
    from kaggle_kit.wheelhouse.diff import Image, diff_image, diff_locks, diff_target

    lock = _lock_of(old, project_folder)
    if new.startswith("image:"):
        _, target = open_target(new.removeprefix("image:"), project_folder)
        return diff_target(lock, target)
    if Path(new).is_file() and not _is_lock(new):
        freeze = read_freeze(Path(new))
        return diff_image(lock, Image(packages=freeze.packages, python=python or freeze.python))
    return diff_locks(lock, _lock_of(new, project_folder))


def _lock_of(text: str, project_folder: Path | None) -> Lock:
    from kaggle_kit.wheelhouse.lock import lock_path, read_lock

    if _is_lock(text):
        return read_lock(Path(text))
    folder, _ = open_target(text, project_folder)
    return read_lock(lock_path(folder, text))


def _is_lock(text: str) -> bool:
    """Whether `text` names a lock file; an earlier kit's ends in `.lock`."""
    return text.endswith((".toml", ".lock"))


def _verdict(changes: tuple[Change, ...]) -> str:
    if not changes:
        return "nothing differs"
    broken = sum(change.breaks for change in changes)
    said = f"{len(changes)} difference{'s' if len(changes) > 1 else ''}, "
    return said + (f"{broken} of which would break something" if broken else "none of which breaks anything")
