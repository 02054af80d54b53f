"""The files that Kaggle lists for a version, and how they differ from what was sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class RemoteFile:
    """A file of a version: its path inside it, and bytes. Kaggle tells no hash."""

    name: str
    size: int


def difference(there: Mapping[str, int], sent: Mapping[str, int]) -> str:
    """How two lists of files differ, in words; "" where they do not."""
    parts = []
    if missing := sorted(set(sent) - set(there)):
        parts.append(f"does not list {_some(missing)}")
    if extra := sorted(set(there) - set(sent)):
        parts.append(f"lists {_some(extra)}, which was not sent")
    if other := sorted(name for name in set(sent) & set(there) if sent[name] != there[name]):
        sizes = f"{there[other[0]]} bytes of {other[0]} instead of {sent[other[0]]}"
        parts.append(f"has {sizes}" + (f", and {len(other) - 1} more such files" if len(other) > 1 else ""))
    return "; ".join(parts)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
