"""What a fault does to a request: the few ways in which a service can fail its client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kaggle_kit.loopback.replies import Answer, Json

# Given a reply, what is sent instead of it; None where the fault has nothing to change in this one.
Rewrite = Callable[[Json], Json | Answer | None]


@dataclass(frozen=True)
class Instead:
    """The request is not carried out; this is answered."""

    answer: Answer


@dataclass(frozen=True)
class Edit:
    """The request is carried out, and its reply is changed on the way."""

    rewrite: Rewrite


@dataclass(frozen=True)
class Drop:
    """The first entry of a list in the request is ignored; the reply names it under `reported`, if that is set."""

    field: str
    reported: str = ""


@dataclass(frozen=True)
class Lose:
    """The request is carried out, and the connection is cut before the reply."""


@dataclass(frozen=True)
class Cut:
    """The connection is cut when so many bytes of the request's body have come; those are kept."""

    after_bytes: int


@dataclass(frozen=True)
class Delay:
    """The request is carried out, and the reply comes so many seconds later."""

    seconds: float


@dataclass(frozen=True)
class Inside:
    """The service itself goes wrong: its handlers ask for this fault by its name."""


Effect = Instead | Edit | Drop | Lose | Cut | Delay | Inside


def setting(**fields: object) -> Edit:
    """An edit that sets fields of the reply."""
    return Edit(lambda reply: {**reply, **fields})


def removing(*names: str) -> Edit:
    """An edit that takes fields out of the reply; it leaves a reply alone that has none of them."""

    def rewrite(reply: Json) -> Json | None:
        kept = {key: value for key, value in reply.items() if key not in names}
        return kept if len(kept) < len(reply) else None

    return Edit(rewrite)


def status(code: int, message: str, **headers: str) -> Instead:
    """An HTTP status instead of the reply, with a body as Kaggle's."""
    return Instead(Answer(code, {"code": code, "message": message}, headers))
