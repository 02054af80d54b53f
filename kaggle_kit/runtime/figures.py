"""What a run's entries say in figures: rows by how they were answered, tokens, label mass."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kaggle_kit.runtime.journal import Entry

_NAMED_PROBLEMS = 50
"""Rows that the record names; the rest are counted."""


def figures(ids: Sequence[str], plain: Mapping[str, Entry], swapped: Mapping[str, Entry]) -> dict[str, Any]:
    """The parts of a run's record that its entries decide; `ids` are the sample's.

    A row is `scored` by the model, `ruled` by one of the task's rules, or has the `prior`: because it is `unreadable`
    (or the engine refused it), or because it was `not_reached`.
    """
    entries = [plain[row_id] for row_id in ids if row_id in plain]
    ruled = [entry for entry in entries if any(flag.startswith("rule:") for flag in entry.flags)]
    scored = [entry for entry in entries if entry.log_probabilities is not None and entry.tokens]
    problems = {entry.id: entry.problem for entry in entries if entry.problem is not None}
    masses = [entry.mass for entry in scored if entry.mass is not None]
    both = [swapped[row_id] for row_id in ids if row_id in swapped and swapped[row_id].log_probabilities is not None]
    return {
        "rows": {
            "total": len(ids),
            "scored": len(scored),
            "swapped": len(both),
            "ruled": len(ruled),
            "copies": sum(any(flag.startswith("copy of") for flag in entry.flags) for entry in scored),
            "prior": len(ids) - len(scored) - len(ruled),
            "unreadable": len(problems),
            "unreadable_rows": dict(list(problems.items())[:_NAMED_PROBLEMS]),
            "not_reached": len(ids) - len(entries),
            "cut": sum(bool(entry.cut) for entry in scored),
            "cut_fields": dict(sorted(Counter(name for entry in scored for name in entry.cut).items())),
        },
        "prompt_tokens": sum(entry.tokens for entry in (*scored, *both)),
        "longest_prompt": max((entry.tokens for entry in scored), default=0),
        "label_mass": {"mean": sum(masses) / len(masses), "lowest": min(masses)} if masses else None,
    }
