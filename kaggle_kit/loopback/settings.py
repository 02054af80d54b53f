"""Who the loopback Kaggle's one user is, and how strict and how slow it is."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

USERNAME = "rehearsal"


def _new_token() -> str:
    return secrets.token_urlsafe(32)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Settings:
    """The user and the limits.

    `token` is the user's login, another one for each server: whoever knows it can push a notebook, which then runs.
    `polls_until_ready` is how often a client is told that a dataset or model version is still processed;
    `polls_until_scored` the same for a submission; `queued_polls` how often a started run still says QUEUED.
    `gpu_sessions` is how many GPU runs may be queued or running at once, `gpu_hours` the week's allowance.
    `refuse_while_processing`: a dataset takes no new version before the last one is processed (403, as reported for
    Kaggle); without it, a client that repeats a call makes two versions.
    `clock` gives the time in UTC; a day's submissions are counted by its date.
    """

    username: str = USERNAME
    token: str = field(default_factory=_new_token, repr=False)
    polls_until_ready: int = 2
    polls_until_scored: int = 1
    queued_polls: int = 1
    gpu_sessions: int = 2
    cpu_sessions: int = 10
    gpu_hours: float = 30.0
    refuse_while_processing: bool = True
    clock: Callable[[], datetime] = _now
