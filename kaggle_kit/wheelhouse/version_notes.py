"""What wheels only, and several Pythons, made of a lock's versions: newer ones passed over, different ones taken.

Nothing of a source archive is built or read: an index is only asked whether the newer versions have a wheel.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.wheelhouse.index import Offer, Question, ask, ask_passed_over

_OTHER_PYTHONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
_AT_ONCE = 4


def version_notes(
    answers: Mapping[str, Sequence[Offer]],
    question: Question,
    *,
    searched_again: Collection[str],
    source: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Sentences on the versions that `answers` gives each Python.

    The packages of `question`'s requirements and those of `searched_again` are looked at: of no other one was a version
    passed over.
    """
    specifiers: dict[str, SpecifierSet] = {
        canonicalize_name(one.name): one.specifier for one in map(Requirement, question.requirements)
    }
    pairs = [
        (python, offer)
        for python, offers in answers.items()
        for offer in offers
        if offer.name in searched_again or (offer.name in specifiers and not _pinned(specifiers[offer.name]))
    ]

    def newer(pair: tuple[str, Offer]) -> str | None:
        python, offer = pair
        above = SpecifierSet(f">{Version(offer.version).public}") & specifiers.get(offer.name, SpecifierSet())
        return ask_passed_over(replace(question, requirements=(f"{offer.name}{above}",), python=python), source=source)

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        newest = dict(zip(pairs, threads.map(newer, pairs), strict=True))
    passed_over: dict[tuple[str, str, str], list[str]] = {}
    for (python, offer), version in newest.items():
        if version is not None:
            passed_over.setdefault((offer.name, offer.version, version), []).append(python)
    notes = [_passed_over_note(*key, pythons, question, source) for key, pythons in sorted(passed_over.items())]
    return (*filter(None, notes), *_different(answers))


def _pinned(specifier: SpecifierSet) -> bool:
    """Whether one version alone was asked for."""
    return any(one.operator in {"==", "==="} and not one.version.endswith("*") for one in specifier)


def _passed_over_note(
    name: str, taken: str, newest: str, pythons: Sequence[str], question: Question, source: tuple[str, ...]
) -> str | None:
    """The note; None of a version that was withdrawn, which uv takes only if it is asked for by its number."""
    where = f"Python {' and '.join(pythons)}"
    if newest and _has_wheel(f"{name}=={newest}", pythons, question, source):
        return None
    if newest and _has_wheel(f"{name}=={newest}", _OTHER_PYTHONS, question, source):
        return f"{name} {taken} is locked for {where}: the newer {newest} has no wheel that fits there"
    version = f"the newer {newest} comes" if newest else "newer versions come"
    remedy = "if you need it, build its wheel and offer it by an index of your own, or ask for another package"
    return f"{name} {taken} is locked for {where}: {version} as source only, and kit takes wheels alone; {remedy}"


def _has_wheel(requirement: str, pythons: Sequence[str], question: Question, source: tuple[str, ...]) -> bool:
    """Whether a version has a wheel for one of these Pythons on this kind of machine."""
    alone = replace(question, requirements=(requirement,), dependencies=False, constraints=(), preferences=())
    for python in pythons:
        with suppress(WheelhouseError):
            ask(replace(alone, python=python), source=source)
            return True
    return False


def _different(answers: Mapping[str, Sequence[Offer]]) -> Iterator[str]:
    """A sentence for each package of which the Pythons get different versions."""
    versions: dict[str, dict[str, list[str]]] = {}
    for python, offers in answers.items():
        for offer in offers:
            versions.setdefault(offer.name, {}).setdefault(offer.version, []).append(python)
    for name, pythons in sorted(versions.items()):
        if len(pythons) > 1:
            listed = ", ".join(f"{version} for Python {' and '.join(of)}" for version, of in pythons.items())
            yield f"{name} is not the same for all Pythons: {listed}"
