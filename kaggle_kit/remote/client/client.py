"""One call to Kaggle: read as often as it takes, make once, and say plainly what came of it."""

from __future__ import annotations

import random
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from kaggle_kit.errors import CredentialsError, RemoteError
from kaggle_kit.remote.client.wire import Answer, NoAnswer, fresh_connections

if TYPE_CHECKING:
    from collections.abc import Callable

    from kaggle_kit.remote.client.credentials import Login

T = TypeVar("T")
_AGAIN = {408, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524}
_LONGEST_SAYING = 400
_ADVICE = {
    403: "Check owner and name; the account may not see it, or rules or a phone number are still to be confirmed",
    404: "Check owner and name",
    409: "Another change of it is under way, or the name is taken: run `kit plan`, then try again",
    413: "It is larger than Kaggle takes: split it",
    429: "Kaggle limits how often it is asked: wait some minutes, then run the same command again",
}
_TROUBLE = "Kaggle has trouble, or the way to it has: run the same command again later"
_REFUSED = "Correct what Kaggle names, then run the same command again"


class RefusedError(RemoteError):
    """Kaggle answered, and the answer is no. `status` is the HTTP status, 200 where only the body says no."""

    def __init__(self, message: str, *, status: int, said: str) -> None:
        """Keep what the answer was beside the sentence."""
        super().__init__(message)
        self.status = status
        self.said = said


class LostReplyError(RemoteError):
    """A call that makes something was sent and its reply is lost: look what is there before it is sent again.

    `again` is False where the server did answer, with nothing in it: sending that again would be no wiser.
    """

    def __init__(self, message: str, *, again: bool = True) -> None:
        """Keep whether it may be sent again."""
        super().__init__(message)
        self.again = again


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


REHEARSAL = Patience(first_s=0.1, longest_s=2.0, settle_s=4.0, poll_s=0.2, connect_s=5.0)
"""For a server on this machine, which has no queue to wait for."""


class Client:
    """All calls go through here. Safe to use from several threads.

    `read` repeats a call that changes nothing; `make` sends once. Both return the JSON reply as Kaggle sent it, since
    the typed client fills missing fields with defaults: a missing status reads as QUEUED (facts, section 3).
    """

    def __init__(
        self,
        login: Login,
        *,
        patience: Patience | None = None,
        tell: Callable[[str], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Connect with `login`; `tell` hears why kit waits. `clock` is in seconds."""
        self.login = login
        self.patience = patience or (REHEARSAL if login.endpoint.loopback else Patience())
        self.tell = tell or (lambda _: None)
        self.sleep = sleep
        self.clock = clock
        self._chance = chance
        self.wire = login.connect()

    @property
    def sdk(self) -> Any:
        """The official typed client."""
        return self.wire.sdk

    @property
    def username(self) -> str:
        """The account's name."""
        return self.login.username

    @property
    def loopback(self) -> bool:
        """Whether this is a server on this machine, not Kaggle."""
        return self.login.endpoint.loopback

    def close(self) -> None:
        """Close all connections."""
        self.wire.session.close()

    def read(self, method: Callable[[Any], Any], request: Any, *, what: str) -> dict[str, Any]:
        """The reply to a call that may be repeated. `what` names the resource in errors, as in "dataset a/b".

        Repeated on 408, 429, 5xx, cuts and timeouts. Raises CredentialsError (401), RefusedError, RemoteError.
        """
        name = call_name(method)
        limits = (self.patience.connect_s, self.patience.read_s)
        for attempt in range(1, self.patience.attempts + 1):
            answer = self.wire.ask(method, request, timeouts=limits)
            if isinstance(answer, NoAnswer):
                if answer.lasting or attempt == self.patience.attempts:
                    raise RemoteError(f"{name} for {what}: {answer.why}. {_TROUBLE}")
                self.wait(attempt, f"{name} for {what}: {answer.why}")
                continue
            if _status(answer) not in _AGAIN or attempt == self.patience.attempts:
                return self._accept(answer, name=name, what=what)
            self.wait(attempt, f"{name} for {what}: Kaggle answered {_status(answer)}", after_s=retry_after(answer))
        raise AssertionError("the last attempt returns or raises")

    def find(self, method: Callable[[Any], Any], request: Any, *, what: str) -> dict[str, Any] | None:
        """As `read`, but None where Kaggle says 404: it surely does not exist. No other answer means absence."""
        try:
            return self.read(method, request, what=what)
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    def make(self, method: Callable[[Any], Any], request: Any, *, what: str) -> dict[str, Any]:
        """The reply to a call that makes something: sent once, but for refusals that surely made nothing.

        Those are 429 and a connection that never came about. Raises LostReplyError where it is not known whether the
        thing was made (a cut, a timeout, 5xx, an unreadable or empty answer), RefusedError where Kaggle said no.
        """
        name = call_name(method)
        limits = (self.patience.connect_s, self.patience.make_s)
        for attempt in range(1, self.patience.attempts + 1):
            fresh_connections(self.wire)
            answer = self.wire.ask(method, request, timeouts=limits)
            last = attempt == self.patience.attempts
            if isinstance(answer, NoAnswer):
                if answer.sent:
                    raise LostReplyError(f"{name} for {what}: {answer.why}; it may have been made all the same")
                if answer.lasting or last:
                    raise RemoteError(f"{name} for {what}: {answer.why}. Nothing was made. {_TROUBLE}")
                self.wait(attempt, f"{name} for {what}: {answer.why}")
            elif _status(answer) == 429 and not last:
                self.wait(attempt, f"{name} for {what}: Kaggle answered 429", after_s=retry_after(answer))
            else:
                return self._accept_made(answer, name=name, what=what)
        raise AssertionError("the last attempt returns or raises")

    def make_once(self, make: Callable[[], T], look: Callable[[], T | None], *, what: str) -> T:
        """`make()`, or after a lost reply what `look()` finds; sent again at most once, after looking long enough.

        `make` and `look` return the same kind of thing. Raises RemoteError where both replies were lost and nothing
        is to be seen, or what `make` and `look` raise.
        """
        lost: LostReplyError | None = None
        for _ in range(2):
            try:
                return make()
            except LostReplyError as error:
                lost = error
                self.tell(f"{error}. Looking for it")
                found = self.settle(look)
                if found is not None:
                    return found
                if not error.again:
                    break
        raise RemoteError(
            f"{lost}, but {what} does not show it. See on Kaggle's page whether it is there, "
            "then run the same command again"
        )

    def settle(self, look: Callable[[], T | None]) -> T | None:
        """What `look()` finds within `patience.settle_s` seconds, or None."""
        ends = self.clock() + self.patience.settle_s
        attempt = 1
        while (found := look()) is None and self.clock() < ends:
            self.sleep(self._pause(attempt))
            attempt += 1
        return found

    def wait(self, attempt: int, why: str, *, after_s: float | None = None) -> None:
        """Wait before the next attempt: as long as Kaggle asks, else longer each time. More than 10 minutes: raise."""
        if after_s is not None and after_s > 600:
            raise RemoteError(f"{why}, and asks to wait {after_s / 60:.0f} minutes. Run the same command again then")
        seconds = self._pause(attempt) if after_s is None else after_s + self._chance() * self.patience.first_s
        self.tell(f"{why}; again in {seconds:.1f} s (attempt {attempt + 1} of {self.patience.attempts})")
        self.sleep(seconds)

    def _pause(self, attempt: int) -> float:
        whole = min(self.patience.first_s * 2.0 ** (attempt - 1), self.patience.longest_s)
        return float(whole * (0.5 + self._chance()))

    def _accept_made(self, answer: Answer, *, name: str, what: str) -> dict[str, Any]:
        status = _status(answer)
        if status >= 500 or status == 408:
            raise LostReplyError(
                f"{name} for {what}: Kaggle answered {status}{self._said(answer)}; it may have been made all the same"
            )
        if status < 300 and not (isinstance(answer.body, dict) and answer.body):
            raise LostReplyError(
                f"{name} for {what}: Kaggle's answer is empty; it may have been made all the same", again=False
            )
        return self._accept(answer, name=name, what=what)

    def _accept(self, answer: Answer, *, name: str, what: str) -> dict[str, Any]:
        """The body of a good answer; the right error for any other."""
        status = _status(answer)
        said = self._said(answer)
        if status == 401:
            raise CredentialsError(
                f"{name} for {what}: Kaggle does not accept the {self.login.method}{said}. "
                "Log in again with `kaggle auth login`, or set KAGGLE_API_TOKEN to a new token"
            )
        if status >= 300:
            advice = _ADVICE.get(status, _TROUBLE if status >= 500 else _REFUSED)
            raise RefusedError(f"{name} for {what}: Kaggle answered {status}{said}. {advice}", status=status, said=said)
        if not isinstance(answer.body, dict):
            raise RemoteError(f"{name} for {what}: the answer is not Kaggle's (no JSON object). {_TROUBLE}")
        if answer.body.get("error") or answer.body.get("errorMessage"):
            raise RefusedError(f"{name} for {what}: Kaggle refuses{said}. {_REFUSED}", status=status, said=said)
        body: dict[str, Any] = self.login.redact_reply(answer.body)
        return body

    def _said(self, answer: Answer) -> str:
        return saying(answer.body, self.login.redact)


def call_name(method: Any) -> str:
    """The remote call's name, as Kaggle writes it: `get_kernel` is GetKernel."""
    return "".join(part.capitalize() for part in getattr(method, "__name__", "call").split("_"))


def saying(body: Any, redact: Callable[[str], str]) -> str:
    """`: "what Kaggle said"`, shortened to one line, without a login; nothing where it said nothing."""
    if not isinstance(body, dict):
        return ""
    texts = [body.get(name) for name in ("error", "errorMessage", "message", "errorDescription")]
    # Before it is cut: half of a token would not be known for one.
    said = next((redact(" ".join(str(one).split())) for one in texts if one and isinstance(one, str | dict)), "")
    if len(said) > _LONGEST_SAYING:
        said = said[:_LONGEST_SAYING] + "…"
    return f': "{said.rstrip(".")}"' if said else ""


def retry_after(answer: Answer, *, now: Callable[[], float] = time.time) -> float | None:
    """Seconds that a Retry-After header asks for: a number or a date (RFC 9110, section 10.2.3)."""
    value = next((text for name, text in answer.headers.items() if name.lower() == "retry-after"), None)
    if value is None:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", value.strip()):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now())
    except (ValueError, TypeError):
        return None


def number(reply: dict[str, Any], name: str, *, call: str, what: str, advice: str) -> int:
    """A positive whole number that a reply must hold. Raises RemoteError where it is missing, zero or no number."""
    value = reply.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RemoteError(f"{call} for {what}: Kaggle's answer holds no {name}. {advice}")
    return value


def enum_name(value: Any, *, prefix: str = "") -> str:
    """An enum value as Kaggle spells it anywhere (`cancelAcknowledged`, `COMPLETE`) in capitals; "" where missing."""
    if not isinstance(value, str):
        return ""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", value) if not value.isupper() else value
    return spaced.upper().removeprefix(prefix)


def _status(answer: Answer) -> int:
    """The HTTP status, or the error code that stands in a body under status 200."""
    code = answer.body.get("code") if isinstance(answer.body, dict) else None
    if answer.status < 300 and isinstance(code, int) and 400 <= code < 600:
        return code
    return answer.status
