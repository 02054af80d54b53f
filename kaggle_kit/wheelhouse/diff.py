"""What changed between two locks, or between a lock and an image, in sentences; and what of it breaks."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.suggest import some
from kaggle_kit.targets import Target
from kaggle_kit.wheelhouse.engine_table import refuse_misfit
from kaggle_kit.wheelhouse.lock import Lock, LockedWheel
from kaggle_kit.wheelhouse.resolve import best_wheel, number_pair, target_tags

_NAMED = 8


@dataclass(frozen=True, kw_only=True)
class Change:
    """One difference: of which kind, in a sentence, and whether something stops working by it."""

    kind: Literal["package", "python", "glibc", "machine", "engine", "mode", "wheels", "image"]
    text: str
    breaks: bool = False
    package: str | None = None
    old: str | None = None
    new: str | None = None


@dataclass(frozen=True, kw_only=True)
class Image:
    """What an image has: `python` and `glibc` are None if nobody says."""

    packages: Mapping[str, str]
    python: str | None = None
    glibc: str | None = None


def diff_locks(old: Lock, new: Lock) -> tuple[Change, ...]:
    """What `new` has otherwise than `old`; a change breaks where something that `old` served is served no more."""
    gone = [python for python in old.pythons if python not in new.pythons]
    changes = [Change(kind="python", text=f"Python {python} is not served any more", breaks=True) for python in gone]
    come = [python for python in new.pythons if python not in old.pythons]
    changes += [Change(kind="python", text=f"Python {python} is served too") for python in come]
    if old.machine != new.machine:
        changes.append(Change(kind="machine", text=f"{old.machine} → {new.machine}", breaks=True))
    if old.mode != new.mode:
        changes.append(Change(kind="mode", text=f"{old.mode} → {new.mode}"))
    changes += _engine_changes(old, new)
    changes += _glibc_changes(old, new)
    return (*changes, *_package_changes(old, new))


def diff_image(lock: Lock, image: Image) -> tuple[Change, ...]:
    """What an image has otherwise than `lock`, or than the image that it was made for.

    A change breaks where a wheel will not load, or where an overlay stands on what is there no more.
    """
    python = image.python
    changes: list[Change] = []
    if python is None:
        text = f"the freeze does not name its Python (a line `# python 3.12` does); taken for {lock.python}"
        changes.append(Change(kind="python", text=text))
        python = lock.python
    changes += _loading_changes(lock, python, image.glibc or lock.glibc)
    served = lock.wheels_for(python) if python in lock.pythons else _nearest(lock)
    changes += _overlay_changes(lock, python, image.packages)
    for wheel in served:
        there = image.packages.get(wheel.name)
        if there is None or Version(there).public == Version(wheel.version).public:
            continue
        over = f"{wheel.name} {wheel.version} is laid over {there} of the image"
        text = over if lock.mode == "overlay" else f"{wheel.name} {wheel.version} → {there} in the image"
        changes.append(Change(kind="package", text=text, package=wheel.name, old=wheel.version, new=there))
    return tuple(changes)


def diff_target(lock: Lock, target: Target) -> tuple[Change, ...]:
    """What `target` has otherwise than `lock`: its engine's needs, and each of its images."""
    changes: list[Change] = []
    engine = _engine_name(lock)
    for wheel in lock.wheels:
        if wheel.name == engine:
            try:
                refuse_misfit(target, package=wheel.name, version=Version(wheel.version))
            except WheelhouseError as error:
                changes.append(Change(kind="engine", text=str(error), breaks=True, package=engine))
    for python in target.pythons:
        image = Image(packages=target.installed.get(python, {}), python=python, glibc=target.glibc)
        differences = diff_image(lock, image)
        several = len(target.pythons) > 1
        changes += [_with_python(change, python) if several else change for change in differences]
    return tuple(dict.fromkeys(changes))


def breaks(changes: Iterable[Change]) -> bool:
    """Whether any of `changes` stops something from working."""
    return any(change.breaks for change in changes)


def _engine_changes(old: Lock, new: Lock) -> list[Change]:
    changes = []
    if old.engine != new.engine:
        changes.append(Change(kind="engine", text=f"{old.engine} → {new.engine}", old=old.engine, new=new.engine))
    name = _engine_name(old)
    had, has = (any(wheel.name == name for wheel in lock.wheels) for lock in (old, new))
    if had and not has:
        changes.append(
            Change(kind="engine", text=f"the engine {name} is not in it any more", breaks=True, package=name)
        )
    return changes


def _glibc_changes(old: Lock, new: Lock) -> list[Change]:
    if old.glibc == new.glibc:
        return []
    changes = [Change(kind="glibc", text=f"glibc {old.glibc} → {new.glibc}", old=old.glibc, new=new.glibc)]
    if number_pair(new.glibc, what="glibc version") > number_pair(old.glibc, what="glibc version"):
        for python in new.pythons:
            unfit = _unfit(new.wheels_for(python), python=python, glibc=old.glibc, machine=new.machine)
            if unfit:
                text = f"{_wheels(unfit)} will not load on glibc {old.glibc} (Python {python}): {_names(unfit)}"
                changes.append(Change(kind="wheels", text=text, breaks=True))
    return changes


def _package_changes(old: Lock, new: Lock) -> list[Change]:
    common = [python for python in old.pythons if python in new.pythons]
    pythons_of: dict[tuple[str, str | None, str | None], list[str]] = {}
    for python in common:
        before, after = _files(old, python), _files(new, python)
        for name in sorted(before.keys() | after.keys()):
            was, now = before.get(name), after.get(name)
            if was != now:
                versions = (name, was.version if was else None, now.version if now else None)
                pythons_of.setdefault(versions, []).append(python)
    return [
        Change(kind="package", text=_sentence(*key, of=pythons, common=common), package=key[0], old=key[1], new=key[2])
        for key, pythons in sorted(pythons_of.items(), key=lambda item: (item[0][0], item[1]))
    ]


def _files(lock: Lock, python: str) -> dict[str, LockedWheel]:
    """The wheel of each package, without the Pythons that it is for: they are no change of the wheel."""
    return {wheel.name: replace(wheel, pythons=()) for wheel in lock.wheels_for(python)}


def _sentence(name: str, old: str | None, new: str | None, *, of: Sequence[str], common: Sequence[str]) -> str:
    only = "" if len(of) == len(common) else f" (Python {', '.join(of)})"
    if old is None:
        return f"{name} {new} is new{only}"
    if new is None:
        return f"{name} {old} is gone{only}"
    return f"{name} {old}: another file of the same version{only}" if old == new else f"{name} {old} → {new}{only}"


def _loading_changes(lock: Lock, python: str, glibc: str) -> list[Change]:
    """Wheels that the image's Python or glibc refuses, told by their interpreter tags."""
    served = python in lock.pythons
    wheels = lock.wheels_for(python) if served else _nearest(lock)
    unfit = _unfit(wheels, python=python, glibc=glibc, machine=lock.machine)
    changes = []
    if not served:
        text = f"Python {python} in the image, the lock is for {' and '.join(lock.pythons)}"
        changes.append(Change(kind="python", text=text, breaks=True))
    where = python if not served else f"{python} with glibc {glibc}"
    for tag, count in sorted(Counter(_interpreter(wheel) for wheel in unfit).items()):
        named = [wheel for wheel in unfit if _interpreter(wheel) == tag]
        text = f"{count} {tag} wheel{'s' if count > 1 else ''} will not load on {where}: {_names(named)}"
        changes.append(Change(kind="wheels", text=text, breaks=True))
    return changes


def _overlay_changes(lock: Lock, python: str, packages: Mapping[str, str]) -> list[Change]:
    changes = []
    for package in lock.preinstalled_for(python):
        there = packages.get(package.name)
        if there is None:
            text = f"{package.name} {package.version} is gone from the image, and the overlay stands on it"
        elif not _same_build(there, package.version):
            text = f"{package.name} {package.version} → {there} in the image, and the overlay stands on the former"
        else:
            continue
        change = Change(kind="image", text=text, breaks=True, package=package.name, old=package.version, new=there)
        changes.append(change)
    return changes


def _nearest(lock: Lock) -> tuple[LockedWheel, ...]:
    """The wheels of the newest Python that `lock` serves."""
    return lock.wheels_for(max(lock.pythons, key=lambda python: number_pair(python, what="Python version")))


def _unfit(wheels: Iterable[LockedWheel], *, python: str, glibc: str, machine: str) -> list[LockedWheel]:
    tags = target_tags(python=python, glibc=glibc, machine=machine)
    return [wheel for wheel in wheels if best_wheel([wheel.file], tags) is None]


def _interpreter(wheel: LockedWheel) -> str:
    return min(tag.interpreter for tag in parse_wheel_filename(wheel.file)[3])


def _wheels(unfit: Sequence[LockedWheel]) -> str:
    return f"{len(unfit)} wheel{'s' if len(unfit) > 1 else ''}"


def _names(wheels: Sequence[LockedWheel]) -> str:
    return some(sorted(wheel.name for wheel in wheels), _NAMED)


def _engine_name(lock: Lock) -> str | None:
    try:
        return canonicalize_name(Requirement(lock.engine).name)
    except InvalidRequirement:
        return None


def _with_python(change: Change, python: str) -> Change:
    return replace(change, text=f"{change.text} (Python {python})") if python not in change.text else change


def _same_build(one: str, other: str) -> bool:
    """Whether two versions agree; `+cu130` counts only where both say such a thing: metadata often leaves it out."""
    locals_ = {Version(one).local, Version(other).local} - {None}
    return Version(one).public == Version(other).public and len(locals_) < 2
