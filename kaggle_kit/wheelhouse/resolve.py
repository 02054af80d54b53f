"""From a target to a lock, or to the lock that is there and fits; and which wheel a machine would choose.

The order of preference is that of PEP 425 as `packaging.tags` gives it; the manylinux platforms follow PEP 600
(`manylinux_2_X`, and the older names manylinux2014 = 2.17, 2010 = 2.12, 1 = 2.5).
"""

import functools
import hashlib
import platform
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path

from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from kaggle_kit.errors import UsageError, WheelhouseError
from kaggle_kit.files import user_cache
from kaggle_kit.outside import shown
from kaggle_kit.targets import Target
from kaggle_kit.wheelhouse.engine_table import choose_engine, refuse_misfit
from kaggle_kit.wheelhouse.fetch import size_of
from kaggle_kit.wheelhouse.index import Offer, Question, ask, torch_sources
from kaggle_kit.wheelhouse.lock import (
    Lock,
    LockedWheel,
    Mode,
    Preinstalled,
    lock_name,
    read_lock,
    write_lock,
)
from kaggle_kit.wheelhouse.version_notes import version_notes


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """A lock, the address of each of its files by file name, and why its engine was taken, in sentences.

    `notes`: what wheels only, or several Pythons, made of the versions.
    """

    lock: Lock
    urls: Mapping[str, str]
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def resolve(
    target: Target,
    *,
    python: str | None = None,
    machine: str | None = None,
    glibc: str | None = None,
    engine: str | None = None,
    mode: Mode | None = None,
    exclude_newer: str | None = None,
) -> Resolution:
    """Resolve the engine and extras of `target`, for its own Pythons, machine and glibc or for those given.

    `engine` and `mode` stand in for the target's. `exclude_newer` is a date (the whole of that day counts, in UTC)
    or a moment (RFC 3339): nothing that its index dates later is taken. That does not repeat an earlier answer if the
    index has since changed what it offers of before.
    Raises WheelhouseError: the engine cannot run on the target, there is no answer, a package comes without a wheel
    that fits, an overlay without a freeze; UsageError for a date that is none.
    """
    given = {"pythons": (python,) if python else None, "machine": machine, "glibc": glibc, "mode": mode}
    target = target.model_copy(update={key: value for key, value in given.items() if value})
    choice = choose_engine(target, requirement=engine)
    if target.mode == "overlay":
        _refuse_unknown_image(target)

    question = Question(
        requirements=(choice.requirement, *target.extras),
        python=target.python,
        machine=target.machine,
        glibc=target.glibc,
        exclude=target.exclude,
        constraints=choice.constraints,
        exclude_newer=_moment(exclude_newer) if exclude_newer else None,
    )

    answers: dict[str, list[Offer]] = {}
    searched_again: set[str] = set()
    for version in target.pythons:
        answers[version] = _answer(target, replace(question, python=version), [*answers.values()], searched_again)
    _check_engine(target, choice.requirement, answers)

    preinstalled = {version: _preinstalled(target, version, offers) for version, offers in answers.items()}
    kept = {
        version: [offer for offer in offers if offer.name not in {package.name for package in preinstalled[version]}]
        for version, offers in answers.items()
    }

    lock = Lock(
        target=target.name,
        pythons=target.pythons,
        machine=target.machine,
        glibc=target.glibc,
        engine=choice.requirement,
        engine_given=engine is not None,
        mode=target.mode,
        extras=target.extras,
        exclude=target.exclude,
        torch_backend=target.torch_backend,
        exclude_newer=exclude_newer,
        preinstalled=_merge_packages(preinstalled),
        wheels=_merge_wheels(kept),
    )
    urls = {offer.file: offer.url for offers in kept.values() for offer in offers}
    notes = version_notes(kept, question, searched_again=searched_again, source=torch_sources(target.torch_backend)[0])
    return Resolution(lock=lock, urls=urls, reasons=choice.reasons, notes=notes)


def replaced(lock: Lock, target: Target) -> tuple[tuple[str, str, str], ...]:
    """What an overlay puts over the image's packages: name, version of the image, version of the lock."""
    pairs = {
        (wheel.name, packages[wheel.name], wheel.version)
        for python, packages in target.installed.items()
        if lock.mode == "overlay" and python in lock.pythons
        for wheel in lock.wheels_for(python)
        if wheel.name in packages
    }
    return tuple(sorted(pairs))


def _moment(text: str) -> str:
    """A date or a moment as uv wants it. A bare date means another moment in each time zone; here it is UTC's.

    Raises UsageError for anything else.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no date like 2026-11-24 and no time like 2026-11-24T12:00:00Z") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment + timedelta(days=1) if len(text) == len("2026-11-24") else moment).isoformat()


def _refuse_unknown_image(target: Target) -> None:
    missing = [python for python in target.pythons if not target.installed.get(python)]
    if missing:
        raise WheelhouseError(
            f"an overlay for {target.name} needs to know what its image has for Python {' and '.join(missing)}. Write "
            f'it there with `pip freeze`, and name the file in the target: freeze = {{ "{missing[0]}" = "FILE" }}; '
            "or lock with --mode isolated"
        )


def _answer(
    target: Target, question: Question, former: Sequence[Sequence[Offer]], searched_again: set[str]
) -> list[Offer]:
    """The chosen wheel of each package for one Python; `searched_again` as `ask` has it.

    Versions that an overlay's image has are kept wherever they will do; so are those that the Pythons before took,
    so that pure wheels travel once.
    """
    wanted = {offer.name: offer.version for offers in former for offer in offers}
    if target.mode == "overlay":
        wanted |= {name: Version(version).public for name, version in target.installed[question.python].items()}
    question = replace(question, preferences=tuple(sorted(wanted.items())))
    asked = functools.partial(ask, question, searched_again=searched_again)
    offers = _first_answer(asked, torch_backend=target.torch_backend)
    if target.torch_backend is None:
        offers = _without_local_versions(question, offers)
    return [_choose(offers_of_one, question) for offers_of_one in _by_package(offers)]


def _without_local_versions(question: Question, offers: tuple[Offer, ...]) -> tuple[Offer, ...]:
    """The same without local versions (`1.0+cu130`) where the index has such an answer: Kaggle takes the `+` out of
    file names.
    """
    local = sorted({f"{offer.name}!={offer.version}" for offer in offers if Version(offer.version).local})
    if not local:
        return offers
    try:
        return ask(replace(question, constraints=(*question.constraints, *local)))
    except WheelhouseError:
        return offers


def _check_engine(target: Target, requirement: str, answers: Mapping[str, Sequence[Offer]]) -> None:
    """A requirement without a version was not checked before: its answer is."""
    name = canonicalize_name(Requirement(requirement).name)
    for offers in answers.values():
        for offer in offers:
            if offer.name == name:
                refuse_misfit(target, package=name, version=Version(offer.version))


def _preinstalled(target: Target, python: str, offers: Sequence[Offer]) -> tuple[Preinstalled, ...]:
    """The packages of the answer that an overlay's image has in that very version."""
    if target.mode != "overlay":
        return ()
    installed = target.installed[python]
    return tuple(
        Preinstalled(name=offer.name, version=installed[offer.name], pythons=(python,))
        for offer in offers
        if offer.name in installed and Version(installed[offer.name]).public == Version(offer.version).public
    )


def _merge_packages(preinstalled: Mapping[str, Sequence[Preinstalled]]) -> tuple[Preinstalled, ...]:
    pythons: dict[tuple[str, str], list[str]] = {}
    for python, packages in preinstalled.items():
        for package in packages:
            pythons.setdefault((package.name, package.version), []).append(python)
    return tuple(
        Preinstalled(name=name, version=version, pythons=_unless_all(of, preinstalled))
        for (name, version), of in sorted(pythons.items())
    )


def _merge_wheels(kept: Mapping[str, Sequence[Offer]]) -> tuple[LockedWheel, ...]:
    """Each file once, with the Pythons that it is for."""
    pythons: dict[str, list[str]] = {}
    files: dict[str, Offer] = {}
    for python, offers in kept.items():
        for offer in offers:
            files[offer.file] = offer
            pythons.setdefault(offer.file, []).append(python)
    return tuple(_locked(files[file], _unless_all(pythons[file], kept)) for file in sorted(files))


def _unless_all(pythons: Sequence[str], of: Mapping[str, object]) -> tuple[str, ...]:
    return () if len(pythons) == len(of) else tuple(pythons)


def _first_answer(question: Callable[..., tuple[Offer, ...]], *, torch_backend: str | None) -> tuple[Offer, ...]:
    failures = []
    for source in torch_sources(torch_backend):
        try:
            return question(source=source)
        except WheelhouseError as error:
            failures.append(f"{error}\n  (asked with {source[0]})" if source else str(error))
    raise WheelhouseError("\n".join(failures))


def _by_package(offers: Sequence[Offer]) -> list[list[Offer]]:
    ordered = sorted(offers, key=lambda offer: (offer.name, offer.version))
    return [list(group) for _, group in groupby(ordered, key=lambda offer: (offer.name, offer.version))]


def _choose(offers: Sequence[Offer], question: Question) -> Offer:
    tags = target_tags(python=question.python, glibc=question.glibc, machine=question.machine)
    best = best_wheel((offer.file for offer in offers), tags)
    for offer in offers:
        if offer.file == best:
            return offer
    raise WheelhouseError(
        f"no wheel of {offers[0].name} {offers[0].version} loads on Python {question.python}, "
        f"{question.machine}, glibc {question.glibc}; offered: {', '.join(offer.file for offer in offers)}"
    )


def _locked(offer: Offer, pythons: tuple[str, ...]) -> LockedWheel:
    return LockedWheel(
        name=offer.name,
        version=offer.version,
        file=offer.file,
        sha256=offer.sha256,
        size=offer.size if offer.size is not None else size_of(offer.url),
        pythons=pythons,
    )


@dataclass(frozen=True, kw_only=True)
class Host:
    """The machine that will install: Python ("3.12"), processor ("x86_64"), glibc ("2.36"; None: unknown)."""

    python: str
    machine: str
    glibc: str | None


def this_host() -> Host:
    """The machine and the Python that run now."""
    name, version = platform.libc_ver()
    return Host(
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        machine=platform.machine(),
        glibc=version if name == "glibc" else None,
    )


@dataclass(frozen=True, kw_only=True)
class FittingLock:
    """A lock that serves a machine: its file, the addresses that are known, and why it is not the one asked for."""

    lock: Lock
    path: Path
    urls: Mapping[str, str]
    note: str | None


def fitting_lock(target: Target, path: Path, *, host: Host) -> FittingLock:
    """The lock of `target` in `path` where it fits `host`, else one resolved again, once, into the user's cache.

    Raises WheelhouseError: no lock there, or one that was made for another engine.
    """
    locked = read_lock(path)
    refuse_old_lock(locked, target, path=path)
    reason = _misfit(locked, host)
    if reason is None:
        return FittingLock(lock=locked, path=path, urls={}, note=None)
    own, lock, urls = _own_lock(target, host)
    return FittingLock(lock=lock, path=own, urls=urls, note=f"{reason}: resolved again into {own}")


def refuse_old_lock(lock: Lock, target: Target, *, path: Path) -> None:
    """Raise WheelhouseError if `lock`, read from `path`, is not for what `target` asks now."""
    asked = {
        "target": target.name,
        "pythons": target.pythons,
        "machine": target.machine,
        "glibc": target.glibc,
        "engine": lock.engine if lock.engine_given else target.engine,
        "extras": target.extras,
        "exclude": target.exclude,
        "torch_backend": target.torch_backend,
    }
    for key, now in asked.items():
        if (then := getattr(lock, key)) != now:
            raise WheelhouseError(
                f"{path} was made for {key} {_said(then)}, the target {target.name} now says {_said(now)}. "
                f"Make it again with: kit wheels lock --target {target.name}"
            )


def _said(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _misfit(lock: Lock, host: Host) -> str | None:
    """Why `lock` does not serve `host`, as the first half of a sentence; None if it does."""
    if host.python not in lock.pythons:
        return f"Python {host.python} here, the lock is for {' and '.join(lock.pythons)}"
    if host.machine != lock.machine:
        return f"{host.machine} here, the lock is for {lock.machine}"
    if host.glibc is None or _older(lock.glibc, host.glibc) == lock.glibc:
        return None
    tags = target_tags(python=host.python, glibc=host.glibc, machine=host.machine)
    for wheel in lock.wheels_for(host.python):
        if best_wheel([wheel.file], tags) is None:
            return f"glibc {host.glibc} here, and the lock's {wheel.file} needs a newer one"
    return None


def _own_lock(target: Target, host: Host) -> tuple[Path, Lock, Mapping[str, str]]:
    """The lock of `target` for `host` in the user's cache, made where it is not there yet."""
    glibc = _older(target.glibc, host.glibc) if host.glibc else target.glibc
    question = repr((target.engine, target.extras, target.exclude, target.torch_backend, glibc))
    key = hashlib.sha256(question.encode()).hexdigest()[:12]
    path = user_cache() / "locks" / lock_name(f"{target.name}-py{host.python.replace('.', '')}-{host.machine}-{key}")
    if path.is_file():
        with suppress(WheelhouseError):  # a lock of the cache that cannot be read is made again
            return path, read_lock(path), {}
    resolution = resolve(target, python=host.python, machine=host.machine, glibc=glibc)
    write_lock(path, resolution.lock)
    return path, resolution.lock, resolution.urls


def _older(glibc: str, other: str) -> str:
    return min(glibc, other, key=lambda text: number_pair(text, what="glibc version"))


_PAIR = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})")
_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_OLDEST_MINOR = {"x86_64": 5, "i686": 5}  # every other machine's manylinux begins with glibc 2.17


@functools.cache
def target_tags(*, python: str, glibc: str, machine: str) -> tuple[Tag, ...]:
    """The tags that CPython `python` ("3.11") on Linux with `glibc` ("2.35") accepts, the best first."""
    version = number_pair(python, what="Python version")
    platforms = _platforms(glibc=glibc, machine=machine)
    return (
        *cpython_tags(python_version=version, platforms=platforms),
        *compatible_tags(python_version=version, interpreter=f"cp{version[0]}{version[1]}", platforms=platforms),
    )


def best_wheel(files: Iterable[str], tags: Sequence[Tag]) -> str | None:
    """The file that an installer with these `tags` would take: best tag first, then the highest build number.

    None if no file fits. Names that are not wheel file names never fit.
    """
    rank = {tag: place for place, tag in reversed(list(enumerate(tags)))}
    fitting = []
    for file in files:
        try:
            _, _, build, file_tags = parse_wheel_filename(file)
        except (InvalidWheelFilename, ValueError):  # ValueError: a number of 5,000 digits
            continue
        places = [rank[tag] for tag in file_tags if tag in rank]
        if places:
            fitting.append((-min(places), build, file))
    return max(fitting)[2] if fitting else None


def number_pair(text: str, *, what: str) -> tuple[int, int]:
    """ "3.11" as (3, 11). Raises WheelhouseError for anything but two numbers."""
    if not (pair := _PAIR.fullmatch(text)):
        raise WheelhouseError(f"{what} {shown(text)} is not two numbers with a dot between, like 3.11")
    return int(pair[1]), int(pair[2])


def _platforms(*, glibc: str, machine: str) -> list[str]:
    major, newest = number_pair(glibc, what="glibc version")
    names = []
    for minor in range(newest, _OLDEST_MINOR.get(machine, 17) - 1, -1):
        names.append(f"manylinux_{major}_{minor}_{machine}")
        if minor in _OLD_NAMES:
            names.append(f"{_OLD_NAMES[minor]}_{machine}")
    return [*names, f"linux_{machine}"]
