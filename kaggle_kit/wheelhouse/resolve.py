"""From a target to a lock, and from a lock back to the addresses of its files."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby

from packaging.requirements import Requirement
from packaging.tags import Tag
from packaging.utils import canonicalize_name
from packaging.version import Version

from kaggle_kit.errors import UsageError, WheelhouseError
from kaggle_kit.targets import Target
from kaggle_kit.wheelhouse.download import size_of
from kaggle_kit.wheelhouse.engine_table import choose_engine, refuse_misfit
from kaggle_kit.wheelhouse.index import Offer, Question, ask, torch_sources
from kaggle_kit.wheelhouse.lock import Lock, LockedWheel, Mode, Preinstalled
from kaggle_kit.wheelhouse.tags import best_wheel, target_tags


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """A lock, the address of each of its files by file name, and why its engine was taken, in sentences."""

    lock: Lock
    urls: Mapping[str, str]
    reasons: tuple[str, ...] = ()


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
    for one in target.pythons:
        answers[one] = _answer(target, replace(question, python=one), [*answers.values()])
    _check_engine(target, choice.requirement, answers)
    found = {one: _preinstalled(target, one, offers) for one, offers in answers.items()}
    kept = {
        one: [offer for offer in offers if offer.name not in {package.name for package in found[one]}]
        for one, offers in answers.items()
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
        preinstalled=_merge_packages(found),
        wheels=_merge_wheels(kept),
    )
    urls = {offer.file: offer.url for offers in kept.values() for offer in offers}
    return Resolution(lock=lock, urls=urls, reasons=choice.reasons)


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


def locate(wheels: Sequence[LockedWheel], lock: Lock) -> dict[str, str]:
    """The addresses of `wheels` (all or some of `lock`'s), by file name.

    A file counts only with the locked SHA-256. Raises WheelhouseError naming the first that no index offers.
    """
    wanted = {wheel.file: wheel for wheel in wheels}
    urls: dict[str, str] = {}
    seen: dict[str, str] = {}
    failures: list[str] = []
    for source in torch_sources(lock.torch_backend):
        missing = [wheel for file, wheel in wanted.items() if file not in urls]
        if not missing:
            break
        for offer in _pinned_offers(missing, lock, source=source, failures=failures):
            seen[offer.file] = offer.sha256
            if offer.file in wanted and wanted[offer.file].sha256 == offer.sha256:
                urls[offer.file] = offer.url
    _refuse_missing(wanted, target=lock.target, urls=urls, seen=seen, failures=failures)
    return urls


def _pinned_offers(
    wheels: Sequence[LockedWheel], lock: Lock, *, source: tuple[str, ...], failures: list[str]
) -> list[Offer]:
    """What the index offers of exactly these versions, for each of the lock's Pythons that still wants one."""
    offers: list[Offer] = []
    for python in lock.pythons:
        asked = [wheel for wheel in wheels if wheel in lock.wheels_for(python) or wheel not in lock.wheels]
        asked = [wheel for wheel in asked if wheel.file not in {offer.file for offer in offers}]
        if not asked:
            continue
        try:
            offers += ask(_pins(asked, lock, python), source=source)
        except WheelhouseError as error:
            failures.append(str(error))
    return offers


def _pins(wheels: Sequence[LockedWheel], lock: Lock, python: str) -> Question:
    return Question(
        requirements=tuple(f"{wheel.name}=={wheel.version}" for wheel in wheels),
        python=python,
        machine=lock.machine,
        glibc=lock.glibc,
        dependencies=False,
    )


def _refuse_missing(
    wanted: Mapping[str, LockedWheel],
    *,
    target: str,
    urls: Mapping[str, str],
    seen: Mapping[str, str],
    failures: Sequence[str],
) -> None:
    missing = [wheel for file, wheel in sorted(wanted.items()) if file not in urls]
    if not missing:
        return
    wheel = missing[0]
    more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    if wheel.file in seen:
        found = f"the index offers it with SHA-256 {seen[wheel.file]}, the lock wants {wheel.sha256}"
    elif failures:
        found = failures[0]
    else:
        found = "the index does not offer this file"
    raise WheelhouseError(
        f"{wheel.file}{more} cannot be had: {found}\n"
        f"Try again where the index has it, or make the lock anew with: kit wheels lock --target {target}"
    )


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


def _answer(target: Target, question: Question, former: Sequence[Sequence[Offer]]) -> list[Offer]:
    """The chosen wheel of each package for one Python.

    Versions that an overlay's image has are kept wherever they will do; so are those that the Pythons before took,
    so that pure wheels travel once.
    """
    wanted = {offer.name: offer.version for offers in former for offer in offers}
    if target.mode == "overlay":
        wanted |= {name: Version(version).public for name, version in target.installed[question.python].items()}
    question = replace(question, preferences=tuple(sorted(wanted.items())))
    offers = _first_answer(functools.partial(ask, question), torch_backend=target.torch_backend)
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


def _merge_packages(found: Mapping[str, Sequence[Preinstalled]]) -> tuple[Preinstalled, ...]:
    pythons: dict[tuple[str, str], list[str]] = {}
    for python, packages in found.items():
        for package in packages:
            pythons.setdefault((package.name, package.version), []).append(python)
    return tuple(
        Preinstalled(name=name, version=version, pythons=_unless_all(of, found))
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
    tags = _tags(question.python, question.glibc, question.machine)
    best = best_wheel((offer.file for offer in offers), tags)
    for offer in offers:
        if offer.file == best:
            return offer
    raise WheelhouseError(
        f"no wheel of {offers[0].name} {offers[0].version} loads on Python {question.python}, "
        f"{question.machine}, glibc {question.glibc}; offered: {', '.join(offer.file for offer in offers)}"
    )


@functools.cache
def _tags(python: str, glibc: str, machine: str) -> tuple[Tag, ...]:
    return target_tags(python=python, glibc=glibc, machine=machine)


def _locked(offer: Offer, pythons: tuple[str, ...]) -> LockedWheel:
    return LockedWheel(
        name=offer.name,
        version=offer.version,
        file=offer.file,
        sha256=offer.sha256,
        size=offer.size if offer.size is not None else size_of(offer.url),
        pythons=pythons,
    )
