"""One reason not to push, or to think before it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True, kw_only=True)
class Problem:
    """What is wrong with a resource and what to do about it; a `warning` does not stop a push."""

    resource: str
    what: str
    next_step: str
    warning: bool = False

    def __str__(self) -> str:
        """The sentence that a user reads."""
        return f"{self.resource}: {self.what}; {self.next_step}"

    def to_json(self) -> dict[str, str | bool]:
        """The same as plain values."""
        return {
            "resource": self.resource,
            "what": self.what,
            "next_step": self.next_step,
            "warning": self.warning,
        }
