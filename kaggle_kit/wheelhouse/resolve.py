"""From a target to a lock, and from a lock back to the addresses of its files."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from packaging.tags import Tag

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.targets import Target
from kaggle_kit.wheelhouse.download import size_of
from kaggle_kit.wheelhouse.index import Offer, Question, ask, torch_sources
from kaggle_kit.wheelhouse.lock import Lock, LockedWheel
from kaggle_kit.wheelhouse.tags import best_wheel, target_tags


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """A lock, and the address of each of its files by file name."""

    lock: Lock
    urls: Mapping[str, str]


def resolve(
    target: Target,
    *,
    python: str | None = None,
    machine: str | None = None,
    glibc: str | None = None,
    exclude_newer: str | None = None,
) -> Resolution:
    """Resolve the engine and extras of `target`, for its own Python, machine and glibc or for those given.

    `exclude_newer` is a date or time (RFC 3339): nothing that appeared later is taken.
    Raises WheelhouseError where there is no answer, or a package comes without a wheel that fits.
    """
    question = Question(
        requirements=(target.engine, *target.extras),
        python=python or target.python,
        machine=machine or target.machine,
        glibc=glibc or target.glibc,
        exclude=target.exclude,
        exclude_newer=exclude_newer,
    )
    offers = _first_answer(functools.partial(ask, question), torch_backend=target.torch_backend)
    chosen = [_choose(offers_of_one, question) for offers_of_one in _by_package(offers)]
    lock = Lock(
        target=target.name,
        python=question.python,
        machine=question.machine,
        glibc=question.glibc,
        engine=target.engine,
        extras=target.extras,
        exclude=target.exclude,
        torch_backend=target.torch_backend,
        exclude_newer=exclude_newer,
        wheels=tuple(sorted((_locked(offer) for offer in chosen), key=lambda wheel: wheel.file)),
    )
    return Resolution(lock=lock, urls={offer.file: offer.url for offer in chosen})


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
        try:
            offers = ask(_pins(missing, lock), source=source)
        except WheelhouseError as error:
            failures.append(str(error))
            continue
        for offer in offers:
            seen[offer.file] = offer.sha256
            if offer.file in wanted and wanted[offer.file].sha256 == offer.sha256:
                urls[offer.file] = offer.url
    _refuse_missing(wanted, target=lock.target, urls=urls, seen=seen, failures=failures)
    return urls


def _pins(wheels: Sequence[LockedWheel], lock: Lock) -> Question:
    return Question(
        requirements=tuple(f"{wheel.name}=={wheel.version}" for wheel in wheels),
        python=lock.python,
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


def _locked(offer: Offer) -> LockedWheel:
    return LockedWheel(
        name=offer.name,
        version=offer.version,
        file=offer.file,
        sha256=offer.sha256,
        size=offer.size if offer.size is not None else size_of(offer.url),
    )
