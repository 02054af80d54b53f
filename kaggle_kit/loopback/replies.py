"""What a handler answers: a JSON reply, a refusal, or a place to go to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Json = dict[str, Any]
DEFAULT_PAGE = 20
LARGEST_PAGE = 200


@dataclass(frozen=True)
class Answer:
    """An HTTP answer that is sent as it stands."""

    status: int = 200
    body: Json = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):  # noqa: N818 - it is an answer of the server, no failure of it
    """A request that the server does not carry out. It ends as JSON with `code` and `message`, as Kaggle's do."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def answer(self) -> Answer:
        """The refusal as it is sent."""
        return Answer(self.status, {"code": self.status, "message": self.message})


def page(items: Sequence[Any], request: Json) -> tuple[list[Any], str]:
    """The page of `items` that a request asks for, and the token of the next one or an empty text.

    The token is the index of the page's first item. Requests name a page by token, or by number from 1.
    """
    size = min(int(request.get("pageSize") or DEFAULT_PAGE), LARGEST_PAGE)
    token = str(request.get("pageToken") or "")
    if token and not token.isdecimal():
        raise Refusal(400, f"the page token {token!r} is not one of this server's")
    start = int(token) if token else (max(int(request.get("page") or 1), 1) - 1) * size
    following = start + size
    return list(items[start:following]), str(following) if following < len(items) else ""
