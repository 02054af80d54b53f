"""Numbered versions of datasets, variations and notebooks: find one, add one, let the time pass for them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from kaggle_kit.remote.loopback.records import READY, Version

if TYPE_CHECKING:
    from collections.abc import Sequence


class Numbered(Protocol):
    """Anything that has a version number."""

    @property
    def number(self) -> int:
        """1 for the first one."""


Some = TypeVar("Some", bound=Numbered)


def numbered(versions: Sequence[Some], number: int) -> Some | None:
    """The version with this number, or None."""
    return next((version for version in versions if version.number == number), None)


def current(versions: Sequence[Version]) -> Version | None:
    """The newest version that is ready: the one that readers get."""
    return next((version for version in reversed(versions) if version.status == READY), None)


def polled(versions: tuple[Version, ...]) -> tuple[Version, ...]:
    """The versions after a client has asked once more: whatever is processed is one step further."""
    return tuple(replace(v, polls_left=max(0, v.polls_left - 1)) for v in versions)


def following(versions: Sequence[Numbered]) -> int:
    """The number of the next version."""
    return versions[-1].number + 1 if versions else 1
