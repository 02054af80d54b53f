"""What is wrong with a checkpoint: file, what, next step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Problem:
    """One finding. An "error" would fail later; a "warning" is a doubt that the author should know of."""

    file: str
    what: str
    next_step: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        """The sentence that a user reads."""
        return f"{self.file}: {self.what}; {self.next_step}"


def warning(file: str, what: str, next_step: str) -> Problem:
    """A finding that does not stop the checkpoint from being used."""
    return Problem(file, what, next_step, "warning")
