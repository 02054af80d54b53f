"""When a call is tried again: which answers may pass, how long to wait, and when to give up."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from kaggle_kit.errors import KitError, RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NOTHING_DONE = frozenset({425, 429})
"""Refusals before anything was done: also what makes something may be sent again after them."""
_LONGEST_WAIT_S = 600
_SAID_AGAIN_S = 600
_MOST_DOUBLINGS = 60
"""Beyond every wait; the attempts of a day would leave the range of numbers."""


@dataclass(frozen=True)
class Patience:
    """How long kit keeps trying. Seconds; a wait doubles from `first_s` to `longest_s`, give or take half.

    `settle_s` is how long something that was perhaps made is looked for before it counts as not made. The last three
    are how long a version may be processed, a run wait for a machine beyond its session's length, and a submission
    be scored; its hidden run may take as long as a session.
    """

    attempts: int = 6
    first_s: float = 1.0
    longest_s: float = 30.0
    settle_s: float = 60.0
    poll_s: float = 10.0
    connect_s: float = 10.0
    read_s: float = 60.0
    make_s: float = 300.0
    ready_s: float = 3600.0
    queue_s: float = 3600.0
    score_s: float = 12 * 3600.0

    def pause(self, attempt: int, *, chance: float) -> float:
        """Seconds to wait after attempt number `attempt` (from 1); `chance` is from 0 to 1."""
        doubled = self.first_s * 2.0 ** min(attempt - 1, _MOST_DOUBLINGS)
        return min(doubled, self.longest_s) * (0.5 + chance)


REHEARSAL = Patience(first_s=0.1, longest_s=2.0, settle_s=4.0, poll_s=0.2, connect_s=5.0)
"""For a server on this machine, which has no queue to wait for."""


def may_pass(status: int) -> bool:
    """Whether the same request may later get another answer than this HTTP status."""
    return status >= 500 or status == 408 or status in NOTHING_DONE


@dataclass(frozen=True)
class Failed:
    """An attempt that is worth another: `error` is raised if there is none left.

    `after_s`: how many seconds the server asks to wait, None where it does not.
    """

    why: str
    error: KitError
    after_s: float | None = None


@dataclass
class Wait:
    """Something that ends at `deadline`, a moment of `clock` (seconds), whoever does not answer before that.

    It outlasts every outage, and says of each how long it has gone on: at first, then every ten minutes.
    """

    deadline: float
    clock: Callable[[], float]
    _since: float | None = field(default=None, init=False)
    _said: float = field(default=0.0, init=False)

    def left(self) -> float:
        """Seconds to the deadline, 0 after it."""
        return max(0.0, self.deadline - self.clock())

    def outage(self, why: str, tell: Callable[[str], None]) -> None:
        """Note a failure beyond the ordinary number of attempts, and say so unless that was said a moment ago."""
        now = self.clock()
        if self._since is None:
            self._since = now
        elif now - self._said < _SAID_AGAIN_S:
            return

        self._said = now
        going_on = f" It has been so for {_duration(now - self._since)}." if now > self._since else ""
        tell(f"{why}.{going_on} kit goes on asking, for up to {_duration(self.left())}")

    def answered(self, tell: Callable[[str], None]) -> None:
        """Note an answer: an outage that was spoken of is over."""
        if self._since is not None:
            tell(f"the answers are back, after {_duration(self.clock() - self._since)}")
        self._since = None


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


class Retries:
    """The attempts of one operation, counted. Whoever sees progress begins to count again."""

    def __init__(
        self,
        patience: Patience,
        *,
        tell: Callable[[str], None],
        sleep: Callable[[float], None],
        chance: Callable[[], float],
        refusal: type[KitError] = RemoteError,
        wait: Wait | None = None,
    ) -> None:
        """`tell` hears why kit waits; `sleep` waits seconds; `chance` gives numbers from 0 to 1.

        `refusal` is the error if the server asks to wait too long. Within a `wait` neither failures nor what the
        server asks end the attempts, but the wait's own deadline.
        """
        self._patience = patience
        self._tell = tell
        self._sleep = sleep
        self._chance = chance
        self._refusal = refusal
        self._within = wait
        self.count = 0

    def reset(self) -> None:
        """Forget the failures: there was progress."""
        self.count = 0

    def rest(self) -> None:
        """Forget the failures, and wait a little before the next attempt."""
        self.reset()
        self._sleep(self._patience.pause(1, chance=self._chance()))

    def wait(self, failed: Failed) -> None:
        """Wait before the next attempt: as long as the server asks, else longer each time.

        Raises `failed.error` after the last attempt, the refusal if the server asks for more than ten minutes; within
        a wait `failed.error` at its deadline, and nothing else.
        """
        self.count += 1
        left = self._within.left() if self._within else 0.0
        if self.count >= self._patience.attempts and left <= 0:
            raise failed.error
        if failed.after_s is not None and failed.after_s > max(_LONGEST_WAIT_S, left):
            minutes = failed.after_s / 60
            raise self._refusal(
                f"{failed.why}, and asks to wait {minutes:.0f} minutes. Run the same command again then"
            )

        if failed.after_s is None:
            seconds = self._patience.pause(self.count, chance=self._chance())
        else:
            seconds = failed.after_s + self._chance() * self._patience.first_s
        if self.count < self._patience.attempts:
            following = f"attempt {self.count + 1} of {self._patience.attempts}"
            self._tell(f"{failed.why}; again in {seconds:.1f} s ({following})")
        elif self._within:
            seconds = min(seconds, left)
            self._within.outage(failed.why, self._tell)
        self._sleep(seconds)


def retry_after(headers: Mapping[str, str], *, now: Callable[[], float] = time.time) -> float | None:
    """Seconds that a Retry-After header asks for: a number or a date (RFC 9110, section 10.2.3)."""
    value = next((text for name, text in headers.items() if name.lower() == "retry-after"), None)
    if value is None:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", value.strip()):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now())
    except (ValueError, TypeError):
        return None
