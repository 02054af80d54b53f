"""The one user that the loopback Kaggle knows."""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import TYPE_CHECKING

from kaggle_kit.loopback.replies import Refusal

if TYPE_CHECKING:
    from kaggle_kit.loopback.replies import Json
    from kaggle_kit.loopback.service import Handler, Service

INTROSPECT = "security.OAuthService/IntrospectToken"


def introspect_token(service: Service, request: Json) -> Json:
    """Whose token this is: the answer by which the client learns its user name."""
    if not _same(str(request.get("token") or ""), service.settings.token):
        return {"active": False}
    return {"active": True, "username": service.settings.username, "userId": 1, "scope": "resources.admin:*"}


def check_login(service: Service, authorization: str) -> None:
    """Raise Refusal unless the header carries the user's token, as bearer or as the key of a legacy login."""
    kind, _, value = authorization.partition(" ")
    expected = service.settings.token
    if kind.lower() == "basic":
        try:
            value = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            value = ""
        expected = f"{service.settings.username}:{expected}"
    if not _same(value, expected):
        raise Refusal(401, "Unauthenticated")


def _same(given: str, expected: str) -> bool:
    """Whether two texts are the same, in a time that does not tell how much of them is."""
    return secrets.compare_digest(given.encode(errors="surrogatepass"), expected.encode())


ROUTES: dict[str, Handler] = {INTROSPECT: introspect_token}
