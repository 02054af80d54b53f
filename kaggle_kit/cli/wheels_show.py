"""`kit wheels list`, `diff` and `sbom`: what a lock holds; and what all commands of `kit wheels` share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kaggle_kit.cli.options import project_option
from kaggle_kit.cli.terminal import show, show_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kaggle_kit.targets import Target
    from kaggle_kit.wheelhouse.diff import Change
    from kaggle_kit.wheelhouse.lock import Lock
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


@click.command("list")
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


@click.command()
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


@click.command()
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
