"""A login for Kaggle: whose it is, the secret in it, and how that is kept out of every text."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kaggle_kit.remote.client.wire import connect
from kaggle_kit.secrets.redaction import forms, proxy_forms, redact

if TYPE_CHECKING:
    from kaggle_kit.remote.client.endpoint import Endpoint
    from kaggle_kit.remote.client.wire import Wire


class Secret:
    """A text that shows itself to nobody who does not ask for it by name."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Keep `text`."""
        self._text = text

    def __repr__(self) -> str:
        """Never the text."""
        return "<secret>"

    def __reduce__(self) -> str:
        """A secret is not pickled or copied into a state file."""
        raise TypeError("a secret is not written down")

    def reveal(self) -> str:
        """The text itself."""
        return self._text


@dataclass(frozen=True)
class Login:
    """An account at one endpoint. `notes` are sentences for the user about what was passed over on the way."""

    username: str
    method: str
    endpoint: Endpoint
    notes: tuple[str, ...] = ()
    token: Secret | None = field(default=None, repr=False)
    key: Secret | None = field(default=None, repr=False)

    def connect(self) -> Wire:
        """A new typed client with this login, and no other, in it."""
        if self.token is not None:
            return connect(self.endpoint, token=self.token.reveal())
        return connect(self.endpoint, key=(self.username, self.key.reveal()) if self.key else None)

    def forms(self) -> frozenset[str]:
        """Every text by which the token or the key may be told: as it is, escaped, in Base64 as headers have it."""
        secrets = [secret.reveal() for secret in (self.token, self.key) if secret is not None]
        return frozenset(form for secret in secrets for form in forms(secret, self.username))

    def redact(self, text: str) -> str:
        """`text` without the token, the key or a proxy's password, should a server or a library have said them."""
        return redact(text, self.forms() | proxy_forms())

    def redact_reply(self, value: Any) -> Any:
        """A JSON value without them; the source of a notebook, which is compared and merged, stays as it is."""
        known = self.forms() | proxy_forms()
        text = json.dumps(value, ensure_ascii=False)
        return _redacted(value, known) if any(form in text for form in known) else value


def _redacted(value: Any, known: frozenset[str]) -> Any:
    if isinstance(value, str):
        return redact(value, known)
    if isinstance(value, list):
        return [_redacted(one, known) for one in value]
    if isinstance(value, dict):
        return {key: one if key == "source" else _redacted(one, known) for key, one in value.items()}
    return value
