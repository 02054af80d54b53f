"""A lock as the requirements that pip and uv read: for a notebook that installs from the package index itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kaggle_kit.wheelhouse.lock import Lock, LockedWheel
    from kaggle_kit.wheelhouse.own_environment import SourceArchive


def requirement_lines(lock: Lock) -> tuple[str, ...]:
    """A line for each package and set of Pythons, with the SHA-256 of each of its wheels; sorted.

    Together the lines are all that is installed: an installer takes them with --require-hashes and --no-deps.
    """
    packages: dict[tuple[str, str], list[LockedWheel]] = {}
    for wheel in lock.wheels:
        packages.setdefault((wheel.name, wheel.version), []).append(wheel)
    return tuple(_line(wheels, lock) for _, wheels in sorted(packages.items()))


def archive_lines(archives: Sequence[SourceArchive]) -> tuple[str, ...]:
    """The same for source archives."""
    return tuple(archive.requirement for archive in archives)


def _line(wheels: Sequence[LockedWheel], lock: Lock) -> str:
    pythons = {python for wheel in wheels for python in wheel.pythons or lock.pythons}
    wanted = "" if pythons == set(lock.pythons) else " ; " + " or ".join(map(_is_python, sorted(pythons)))
    hashes = " ".join(f"--hash=sha256:{sha256}" for sha256 in sorted({wheel.sha256 for wheel in wheels}))
    return f"{wheels[0].name}=={wheels[0].version}{wanted} {hashes}"


def _is_python(version: str) -> str:
    return f"python_version == '{version}'"
