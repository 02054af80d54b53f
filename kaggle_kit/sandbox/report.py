"""The report of a dry run: its first line says how it ended, the rest what it cost and what it was worth."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_GB = 1e9
PROJECTED_ROWS = 25_000
"""The rows of the hidden scoring run that the report speaks of."""


@dataclass(frozen=True)
class Report:
    """All that is known of one dry run. Times in seconds, sizes in bytes; None where it is not known."""

    notebook: str
    target: str
    outcome: str
    """The first line."""
    complete: bool
    """Every readable row was scored by the model, whose files are sound, and the submission is valid."""
    submission_valid: bool
    seal: str
    unsealed: tuple[str, ...]
    total_rows: int
    scored_rows: int
    prior_rows: int
    ruled_rows: int
    swapped_rows: int
    unreadable_rows: dict[str, str]
    unreadable_count: int
    cut_rows: int
    seconds: dict[str, float]
    rows_per_second: float | None
    tokens_per_second: float | None
    prompt_tokens: int
    longest_prompt: int
    peak_bytes: int
    label_mass_mean: float | None
    label_mass_lowest: float | None
    log_loss: float | None
    projected_seconds: float | None
    worker_starts: int
    left_open: tuple[str, ...] = ()
    """What no seal of this kind closes."""
    notes: tuple[str, ...] = field(default_factory=tuple)
    integrity: dict[str, str] = field(default_factory=dict)
    """By model, what the notebook's hashes of its files say."""

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report as a person reads it."""
        out = [self.outcome]
        out += [f"{'note':<18}{note}" for note in self.notes]
        out += [
            *seal_lines(self.seal, self.unsealed, self.left_open),
            (
                f"{'rows':<18}{self.total_rows:,} in all: {self.scored_rows:,} scored by the model "
                f"({self.swapped_rows:,} in both orders, {self.cut_rows:,} cut to the token budget), "
                f"{self.ruled_rows:,} by a rule, {self.prior_rows:,} with the prior"
            ),
        ]
        out += [f"  unreadable      {row_id}: {reason}" for row_id, reason in self.unreadable_rows.items()]
        if (left := self.unreadable_count - len(self.unreadable_rows)) > 0:
            out.append(f"  unreadable      and {left:,} more")
        out += [f"{name:<18}{seconds:,.1f} s" for name, seconds in self.seconds.items()]
        if self.rows_per_second is not None and self.tokens_per_second is not None:
            out.append(
                f"{'speed':<18}{self.rows_per_second:,.1f} rows/s, {self.tokens_per_second:,.0f} prompt tokens/s "
                f"({self.prompt_tokens:,} tokens, longest prompt {self.longest_prompt:,})"
            )
        if self.peak_bytes:
            out.append(f"{'peak memory':<18}{self.peak_bytes / _GB:.2f} GB")
        out += [f"{model:<18}{said}" for model, said in self.integrity.items()]
        if self.label_mass_mean is not None:
            out.append(
                f"{'label mass':<18}{self.label_mass_mean:.4f} on average, {self.label_mass_lowest:.4f} at the lowest"
            )
        if self.log_loss is not None:
            out.append(f"{'log loss':<18}{self.log_loss:.4f}")
        if self.projected_seconds is not None:
            hours = self.projected_seconds / 3600
            out.append(f"{f'{PROJECTED_ROWS:,} rows':<18}about {hours:.2f} h on this machine (estimated)")
        return out + unsealed_lines(self.unsealed)


def seal_lines(seal: str, unsealed: Sequence[str], left_open: Sequence[str]) -> list[str]:
    """The lines that say what held the run, and what no seal holds."""
    lines = [f"{'seal':<18}{seal}" + (" (not sealed: see below)" if unsealed else ", no network")]
    return [*lines, f"{'left open':<18}{'; '.join(left_open)}"] if left_open else lines


def unsealed_lines(unsealed: Sequence[str]) -> list[str]:
    """A line for each thing that a weak seal does not hold."""
    return [f"{'NOT SEALED':<18}{sentence}" for sentence in unsealed]
