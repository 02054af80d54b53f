"""What a proof says, and the checks of a set of wheels by names and metadata alone, for any foreign target."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from email.message import Message
from email.parser import HeaderParser
from functools import cached_property
from typing import Any, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.runtime.manifest import kaggle_name
from kaggle_kit.wheelhouse.archive import Inspection
from kaggle_kit.wheelhouse.dataset import stored_names
from kaggle_kit.wheelhouse.lock import Lock
from kaggle_kit.wheelhouse.resolve import best_wheel, target_tags

Result = Literal["passed", "warned", "failed", "not run"]

_SHOWN = 12
"""Findings of one check that a person is shown; the rest are counted. The proof file holds all."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check: `python` ("3.12") where it is for one of several; `notes` what was found, each one sentence.

    Result "not run" comes with the reason as its note.
    """

    name: str
    result: Result
    notes: tuple[str, ...] = ()
    python: str | None = None


@dataclass(frozen=True, kw_only=True)
class Proof:
    """All checks of one wheelhouse; `subject` names by hashes what was checked, `figures` counts and bytes."""

    target: str
    subject: Mapping[str, str]
    figures: Mapping[str, Any]
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Literal["proved", "failed"]:
        """Failed where any check failed. What could not be run here does not fail a proof; it is named."""
        return "failed" if any(check.result == "failed" for check in self.checks) else "proved"

    def to_json(self) -> dict[str, Any]:
        """The proof file's content: no time, no place, so that the same wheelhouse gives the same file."""
        checks = [{key: part for key, part in asdict(check).items() if part is not None} for check in self.checks]
        return {"version": 1, "verdict": self.verdict, **asdict(self), "checks": checks}

    def lines(self) -> list[str]:
        """The proof for a person: a line a check, its notes below."""
        width = max(len(_title(check)) for check in self.checks)
        lines = []
        for check in self.checks:
            lines.append(f"{_title(check):{width}}  {check.result}")
            lines += [f"    {line}" for note in check.notes[:_SHOWN] for line in note.splitlines()]
            if len(check.notes) > _SHOWN:
                lines.append(f"    … and {len(check.notes) - _SHOWN} more")
        left = [check for check in self.checks if check.result == "not run"]
        tail = f" ({len(left)} checks could not be run here)" if left else ""
        return [*lines, f"{self.target}: {self.verdict}{tail}"]


def outcome(
    name: str,
    *,
    python: str | None = None,
    faults: list[str],
    warnings: list[str] | None = None,
    notes: list[str] | None = None,
) -> Check:
    """A check that ran: failed where there are faults, else warned, else passed; all of it is noted."""
    result: Result = "failed" if faults else "warned" if warnings else "passed"
    return Check(name=name, result=result, notes=(*faults, *(warnings or ()), *(notes or ())), python=python)


def not_run(name: str, reason: str, *, python: str | None = None) -> Check:
    """A check that could not be run, and why."""
    return Check(name=name, result="not run", notes=(reason,), python=python)


def _title(check: Check) -> str:
    return f"{check.name} (Python {check.python})" if check.python else check.name


_LAST_MICRO = "99"
"""A marker may compare the full version; the image's last part is not known, and later ones satisfy more."""


@dataclass(frozen=True)
class Package:
    """One package of the set: the wheel's file, and the requirements of its METADATA."""

    file: str
    metadata: str

    @cached_property
    def _headers(self) -> Message:
        return HeaderParser().parsestr(self.metadata)

    def header(self, key: str) -> str:
        """The first value of a header, empty where there is none."""
        return str(self._headers.get(key, ""))

    @property
    def name(self) -> str:
        """The canonical name."""
        return canonicalize_name(self.header("Name"))

    @property
    def version(self) -> Version:
        """The version. Raises InvalidVersion."""
        return Version(self.header("Version"))

    @property
    def requires(self) -> list[str]:
        """Its requirements as they stand there."""
        return [str(value) for value in self._headers.get_all("Requires-Dist", [])]


def check_only_wheels(files: Sequence[str]) -> Check:
    """Every file is a wheel: an sdist must be built, which fails offline, and Kaggle unpacks archives."""
    faults = []
    for file in files:
        if not file.endswith(".whl"):
            faults.append(f"{file} is no wheel: it cannot be installed offline; lock again with wheels only")
            continue
        try:
            parse_wheel_filename(file)
        except InvalidWheelFilename as error:
            faults.append(f"{file} has no wheel's name ({error}); was it renamed?")
    return outcome("only wheels", faults=faults)


def check_kaggle_names(files: Sequence[str]) -> Check:
    """No two files get one name on Kaggle; those that get another one are named."""
    try:
        stored = stored_names(files)
    except WheelhouseError as error:
        return outcome("names on Kaggle", faults=[str(error)])
    renamed = [
        f"{name} will be {kaggle_name(name)}: put right before the install" for name in stored if stored[name] != name
    ]
    return outcome("names on Kaggle", faults=[], notes=renamed)


def check_identity(inspections: Mapping[str, Inspection]) -> Check:
    """Each wheel is what its file name says: name and version, and tags (which installers do not mind)."""
    faults = []
    for file, inspection in inspections.items():
        package = Package(file, inspection.archive.metadata)
        name, version, _, _ = parse_wheel_filename(file)
        try:
            same = package.name == name and package.version == version
        except InvalidVersion:
            same = False
        if not same:
            faults.append(f"{file} holds {package.header('Name')} {package.header('Version')}: it was renamed")
    warnings = [
        f"{file}: its WHEEL file says {', '.join(sorted(tags))}; installers go by the file's name"
        for file, tags in mismatched(inspections).items()
    ]
    return outcome("names inside", faults=faults, warnings=warnings)


def mismatched(inspections: Mapping[str, Inspection]) -> dict[str, set[str]]:
    """The wheels whose WHEEL file has none of the tags of the file's name, and the tags that it has."""
    tags = {}
    for file, inspection in inspections.items():
        lines = inspection.archive.wheel.splitlines()
        inside = {line.removeprefix("Tag:").strip() for line in lines if line.startswith("Tag:")}
        if inside and not inside & {str(tag) for tag in parse_wheel_filename(file)[3]}:
            tags[file] = inside
    return tags


def check_tags(files: Sequence[str], *, python: str, glibc: str, machine: str) -> Check:
    """Each wheel loads on `python` with `glibc`, by the tags of its name."""
    faults = []
    tags = target_tags(python=python, glibc=glibc, machine=machine)
    anywhere = target_tags(python=python, glibc="2.999", machine=machine)
    for file in files:
        if best_wheel([file], tags):
            continue
        if best_wheel([file], anywhere):
            faults.append(f"{file} needs a newer glibc than the target's {glibc}")
        else:
            faults.append(f"{file} is not for Python {python} on Linux {machine}")
    return outcome("tags", python=python, faults=faults)


def check_versions(packages: Sequence[Package], *, python: str) -> Check:
    """No package is there in two versions, or twice, for one Python."""
    faults = []
    seen: dict[str, Package] = {}
    for package in packages:
        if other := seen.get(package.name):
            faults.append(f"{other.file} and {package.file} are two wheels of {package.name} for Python {python}")
        seen[package.name] = package
    return outcome("one version each", python=python, faults=faults)


def check_requirements(
    packages: Sequence[Package],
    *,
    lock: Lock,
    python: str,
    preinstalled: Mapping[str, str],
    unread: Collection[str] = (),
) -> Check:
    """Every requirement of every wheel is met in the set, or by the image's packages for an overlay.

    What the target leaves out on purpose is noted, not held against it. `unread` packages are there, in whatever
    version.
    """
    here = {package.name: package for package in packages}
    left_out = {canonicalize_name(Requirement(item).name) for item in lock.exclude}
    environment = marker_environment(python, machine=lock.machine)
    faults = _requires_python(packages, python)
    lacking: dict[str, str] = {}

    for asker, text, requirement in _asked(here, lock, environment):
        name = canonicalize_name(requirement.name)
        if name in here:
            if not requirement.specifier.contains(here[name].version, prereleases=True):
                faults.append(f"{asker} requires {text}, and {here[name].file} is there: a version conflict")
        elif name in left_out:
            lacking.setdefault(name, asker)
        elif name in preinstalled:
            if not requirement.specifier.contains(preinstalled[name], prereleases=True):
                faults.append(f"{asker} requires {text}, and the image has {name} {preinstalled[name]}")
        elif name not in unread:
            faults.append(f"{asker} requires {text}, and no wheel of {name} is there")

    notes = [f"{name} is left out on purpose (required by {asker})" for name, asker in sorted(lacking.items())]
    return outcome("requirements", python=python, faults=faults, notes=notes)


def marker_environment(python: str, *, machine: str) -> dict[str, str]:
    """What markers of requirements are compared with on Linux with CPython `python`."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.{_LAST_MICRO}",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python}.{_LAST_MICRO}",
        "python_version": python,
        "sys_platform": "linux",
    }


def _requires_python(packages: Sequence[Package], python: str) -> list[str]:
    faults = []
    for package in packages:
        required = package.header("Requires-Python")
        try:
            fits = SpecifierSet(required).contains(f"{python}.{_LAST_MICRO}", prereleases=True)
        except InvalidSpecifier:
            fits = True  # installers do not mind it either
        if not fits:
            faults.append(f"{package.file} requires Python {required}, the target has {python}")
    return faults


def _asked(
    here: Mapping[str, Package], lock: Lock, environment: Mapping[str, str]
) -> Iterator[tuple[str, str, Requirement]]:
    """Who asks, in which words, for what: from the target's engine and extras, through all wheels and their extras."""
    waiting: list[tuple[str, str]] = [(name, "") for name in here]
    for text in (lock.engine, *lock.extras):
        requirement = Requirement(text)
        yield f"the target {lock.target}", text, requirement
        waiting += [(canonicalize_name(requirement.name), extra) for extra in requirement.extras]
    seen: set[tuple[str, str]] = set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen or name not in here:
            continue
        seen.add((name, extra))
        for text in here[name].requires:
            requirement = _parsed(text, here[name].file)
            if not _applies(requirement, extra, environment):
                continue
            yield here[name].file, text, requirement
            waiting += [(canonicalize_name(requirement.name), wanted) for wanted in requirement.extras]


def _parsed(text: str, file: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise WheelhouseError(f"{file} has a requirement that cannot be read: {text!r} ({error})") from error


def _applies(requirement: Requirement, extra: str, environment: Mapping[str, str]) -> bool:
    """Whether a requirement holds: without an extra, or only because of `extra`."""
    if requirement.marker is None:
        return not extra
    plain = requirement.marker.evaluate({**environment, "extra": ""})
    if not extra:
        return plain
    return not plain and requirement.marker.evaluate({**environment, "extra": extra})
