"""One call to Kaggle: read as often as it takes, make once, and say plainly what came of it."""

from __future__ import annotations

import random
import re
import time
from copy import copy
from typing import TYPE_CHECKING, Any, TypeVar

from kaggle_kit.errors import CredentialsError, RemoteError
from kaggle_kit.remote.client.wire import Answer, NoAnswer, fresh_connections
from kaggle_kit.retry import (
    NOTHING_DONE,
    REHEARSAL,
    Failed,
    Patience,
    Retries,
    Wait,
    may_pass,
    retry_after,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from kaggle_kit.remote.client.login import Login

T = TypeVar("T")
R = TypeVar("R")
_LONGEST_SAYING = 400
_MOST_PAGES = 500
_MOST_DIGITS = 18
_ADVICE = {
    403: "Check owner and name: it may not exist, or the account may not see or change it; or rules or a phone number "
    "are still to be confirmed",
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


class Client:
    """All calls go through here. Safe to use from several threads.

    `read` repeats a call that changes nothing; `make` sends once. Both return the JSON reply as Kaggle sent it, since
    the typed SDK fills missing fields with defaults: a missing status reads as QUEUED (facts, section 3).
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
        self.wait: Wait | None = None
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

    def until(self, deadline: float) -> Client:
        """This client within a wait: what may be repeated is, until `deadline`, a moment of `clock`.

        A wait of hours does not end because Kaggle does not answer for some minutes.
        """
        waiting = copy(self)
        waiting.wait = Wait(deadline, self.clock)
        return waiting

    def read(self, method: Callable[[Any], Any], request: Any, *, what: str) -> dict[str, Any]:
        """The reply to a call that may be repeated. `what` names the resource in errors, as in "dataset a/b".

        Repeated on every answer that may pass, on cuts and timeouts (see `retry`). Raises CredentialsError (401),
        RefusedError, RemoteError.
        """
        subject = f"{call_name(method)} for {what}"
        limits = (self.patience.connect_s, self.patience.read_s)

        def attempt() -> dict[str, Any] | Failed:
            answer = self.wire.ask(method, request, timeouts=limits)
            if isinstance(answer, NoAnswer):
                failed = Failed(f"{subject}: {answer.why}", RemoteError(f"{subject}: {answer.why}. {_TROUBLE}"))
                if answer.lasting:
                    raise failed.error
                return failed
            return self._failed(answer, subject) if may_pass(status_of(answer)) else self._accept(answer, subject)

        return self.persist(attempt)

    def pages(
        self, method: Callable[[Any], Any], request: Any, *, what: str, size: int = 200
    ) -> Iterator[dict[str, Any]]:
        """Each page of a list, by `read`. Raises RemoteError where the list does not end."""
        request.page_size = size
        for _ in range(_MOST_PAGES):
            reply = self.read(method, request, what=what)
            yield reply
            token = str(reply.get("nextPageToken") or "")
            if not token:
                return
            request.page_token = token
        raise RemoteError(f"{call_name(method)} for {what}: Kaggle's list does not end. Look at its page on Kaggle")

    def make(self, method: Callable[[Any], Any], request: Any, *, what: str) -> dict[str, Any]:
        """The reply to a call that makes something: sent once, but for refusals that surely made nothing.

        Those are 425, 429 and a connection that never came about. Raises LostReplyError where it is not known whether
        the thing was made (a cut, a timeout, 5xx, an unreadable or empty answer), RefusedError where Kaggle said no.
        """
        subject = f"{call_name(method)} for {what}"
        limits = (self.patience.connect_s, self.patience.make_s)

        def attempt() -> dict[str, Any] | Failed:
            fresh_connections(self.wire)
            answer = self.wire.ask(method, request, timeouts=limits)
            if isinstance(answer, NoAnswer):
                why = f"{subject}: {answer.why}"
                if answer.sent:
                    raise LostReplyError(f"{why}; it may have been made all the same")
                failed = Failed(why, RemoteError(f"{why}. Nothing was made. {_TROUBLE}"))
                if answer.lasting:
                    raise failed.error
                return failed
            if status_of(answer) in NOTHING_DONE:
                return self._failed(answer, subject)
            return self._accept_made(answer, subject)

        return self.persist(attempt)

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
            self.sleep(self.patience.pause(attempt, chance=self._chance()))
            attempt += 1
        return found

    def persist(self, attempt: Callable[[], T | Failed]) -> T:
        """What `attempt()` gives in the end: tried again while it is Failed and attempts are left."""
        retries = self.retries()
        while isinstance(outcome := attempt(), Failed):
            retries.wait(outcome)
        if self.wait:
            self.wait.answered(self.tell)
        return outcome

    def retries(self, *, quiet: bool = False) -> Retries:
        """The attempts of an operation that counts them by itself; `quiet`: nobody hears why it waits."""
        tell = (lambda _: None) if quiet else self.tell
        return Retries(self.patience, tell=tell, sleep=self.sleep, chance=self._chance, wait=self.wait)

    def _failed(self, answer: Answer, subject: str) -> Failed:
        """An answer that may pass, as a failed attempt."""
        try:
            self._accept(answer, subject)
        except RemoteError as error:
            return Failed(f"{subject}: Kaggle answered {status_of(answer)}", error, retry_after(answer.headers))
        raise AssertionError("what may pass is no good answer")

    def _accept_made(self, answer: Answer, subject: str) -> dict[str, Any]:
        status = status_of(answer)
        if may_pass(status):
            raise LostReplyError(
                f"{subject}: Kaggle answered {status}{self._said(answer)}; it may have been made all the same"
            )
        if status < 300 and not (isinstance(answer.body, dict) and answer.body):
            raise LostReplyError(
                f"{subject}: Kaggle's answer is empty; it may have been made all the same", again=False
            )
        return self._accept(answer, subject)

    def _accept(self, answer: Answer, subject: str) -> dict[str, Any]:
        """The body of a good answer; the right error for any other."""
        status = status_of(answer)
        said = self._said(answer)
        if status == 401:
            raise CredentialsError(
                f"{subject}: Kaggle does not accept the {self.login.method}{said}. "
                "Log in again with `kaggle auth login`, or set KAGGLE_API_TOKEN to a new token"
            )
        if status >= 300:
            advice = _ADVICE.get(status, _TROUBLE if status >= 500 else _REFUSED)
            raise RefusedError(f"{subject}: Kaggle answered {status}{said}. {advice}", status=status, said=said)
        if not isinstance(answer.body, dict):
            raise RemoteError(f"{subject}: the answer is not Kaggle's (no JSON object). {_TROUBLE}")
        if answer.body.get("error") or answer.body.get("errorMessage"):
            raise RefusedError(f"{subject}: Kaggle refuses{said}. {_REFUSED}", status=status, said=said)
        body: dict[str, Any] = self.login.redact_reply(answer.body)
        return body

    def _said(self, answer: Answer) -> str:
        return saying(answer.body, self.login.redact)


def filled(request: R, **fields: Any) -> R:
    """A request, or a part of one, with these fields set."""
    for name, value in fields.items():
        setattr(request, name, value)
    return request


def call_name(method: Any) -> str:
    """The remote call's name, as Kaggle writes it: `get_kernel` is GetKernel."""
    return "".join(part.capitalize() for part in getattr(method, "__name__", "call").split("_"))


def saying(body: Any, redact: Callable[[str], str]) -> str:
    """`: "what Kaggle said"`, shortened to one line, without a login; nothing where it said nothing."""
    if not isinstance(body, dict):
        return ""
    texts = [body.get(name) for name in ("error", "errorMessage", "message", "errorDescription")]
    texts = [text.get("message") or text if isinstance(text, dict) else text for text in texts]
    # Before it is cut: half of a token would not be known for one.
    said = next((redact(" ".join(str(one).split())) for one in texts if one and isinstance(one, str | dict)), "")
    if len(said) > _LONGEST_SAYING:
        said = said[:_LONGEST_SAYING] + "…"
    return f': "{said.rstrip(".")}"' if said else ""


def number(reply: dict[str, Any], name: str, *, call: str, what: str, advice: str) -> int:
    """A positive whole number that a reply must hold. Raises RemoteError where it is missing, zero or no number."""
    value = whole(reply.get(name))
    if value < 1:
        raise RemoteError(f"{call} for {what}: Kaggle's answer holds no {name}. {advice}")
    return value


def entries(reply: Mapping[str, Any], name: str, *, what: str, kind: type[T]) -> list[T]:
    """A list in a reply, none where it is left out. Raises RemoteError where it is something else, or holds it."""
    listed = reply.get(name)
    if not listed:
        return []
    if not isinstance(listed, list) or not all(isinstance(one, kind) for one in listed):
        raise RemoteError(f"{what}: Kaggle's answer has a {name} that kit cannot read. {_TROUBLE}")
    return listed


def whole(value: object) -> int:
    """A whole number of a reply, which may be written as text; 0 for anything else."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else 0


def enum_name(value: Any, *, prefix: str = "") -> str:
    """An enum value as Kaggle spells it anywhere (`cancelAcknowledged`, `COMPLETE`) in capitals; "" where missing."""
    if not isinstance(value, str):
        return ""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", value) if not value.isupper() else value
    return spaced.upper().removeprefix(prefix)


def status_of(answer: Answer) -> int:
    """The HTTP status, or the error code that stands in a body under status 200, by itself or in its `error`."""
    body = answer.body if isinstance(answer.body, dict) else {}
    inner = body.get("error")
    code = body.get("code") or (inner.get("code") if isinstance(inner, dict) else None)
    if answer.status < 300 and isinstance(code, int) and 400 <= code < 600:
        return code
    return answer.status
