"""What a proof says: each check, whether it ran, and what it found."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

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
        return {
            "version": 1,
            "target": self.target,
            "verdict": self.verdict,
            "subject": dict(self.subject),
            "figures": dict(self.figures),
            "checks": [
                {"name": check.name, "result": check.result, "notes": list(check.notes)}
                | ({"python": check.python} if check.python else {})
                for check in self.checks
            ],
        }

    def lines(self) -> list[str]:
        """The proof for a person: a line a check, its notes below."""
        width = max(len(_title(check)) for check in self.checks)
        found = []
        for check in self.checks:
            found.append(f"{_title(check):{width}}  {check.result}")
            found += [f"    {line}" for note in check.notes[:_SHOWN] for line in note.splitlines()]
            if len(check.notes) > _SHOWN:
                found.append(f"    … and {len(check.notes) - _SHOWN} more")
        left = [check for check in self.checks if check.result == "not run"]
        tail = f" ({len(left)} checks could not be run here)" if left else ""
        return [*found, f"{self.target}: {self.verdict}{tail}"]


def judged(
    name: str,
    *,
    python: str | None = None,
    faults: list[str],
    warnings: list[str] | None = None,
    said: list[str] | None = None,
) -> Check:
    """A check that ran: failed where there are faults, else warned, else passed; all of it is noted."""
    result: Result = "failed" if faults else "warned" if warnings else "passed"
    return Check(name=name, result=result, notes=(*faults, *(warnings or ()), *(said or ())), python=python)


def not_run(name: str, reason: str, *, python: str | None = None) -> Check:
    """A check that could not be run, and why."""
    return Check(name=name, result="not run", notes=(reason,), python=python)


def _title(check: Check) -> str:
    return f"{check.name} (Python {check.python})" if check.python else check.name
