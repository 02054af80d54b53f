"""Who is logged in to Kaggle: the places and the order of the official client, without what its import does.

`import kaggle` asks the network without a time limit, prints, and makes a folder (facts, section 1). So the login is
put together here from its typed SDK: access token, then user name and key, then the browser's login.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import CredentialsError, RemoteError
from kaggle_kit.remote.client.client import Client, RefusedError, filled
from kaggle_kit.remote.client.endpoint import endpoint_from_environment
from kaggle_kit.remote.client.login import Login, Secret

if TYPE_CHECKING:
    from kaggle_kit.remote.client.endpoint import Endpoint
    from kaggle_kit.retry import Patience

HOW_TO_LOG_IN = (
    "Log in with `kaggle auth login`, or set KAGGLE_API_TOKEN to a token from https://www.kaggle.com/settings/api, "
    "or save the token as ~/.kaggle/access_token"
)
_UNKNOWN_TOKEN = {400, 401, 403, 404}


def log_in(*, patience: Patience | None = None) -> Login:
    """The account that the official client would use here.

    An access token is checked with Kaggle, which also says whose it is; one that is not accepted is passed over, as the
    official client does, and said in `notes`. A key is checked by the first call that uses it.
    Raises CredentialsError where there is no login or it is not accepted, RemoteError where Kaggle cannot be asked.
    """
    endpoint = endpoint_from_environment()
    notes: list[str] = []
    for way in (_by_token, _by_key, _by_browser):
        try:
            login = way(endpoint, notes, patience)
        except RuntimeError:
            # pathlib's, where neither HOME nor the system's list of users names a home.
            raise CredentialsError("This user has no home folder, where a login would be: set HOME to one") from None
        if login is not None:
            return login
    passed = "".join(f"{note}. " for note in notes)
    raise CredentialsError(f"{passed}There is no login for Kaggle on this machine. {HOW_TO_LOG_IN}")


def _by_token(endpoint: Endpoint, notes: list[str], patience: Patience | None) -> Login | None:
    """The access token of the environment or of `~/.kaggle`."""
    token, source = _access_token()
    if token is None:
        return None
    _refuse_unsendable(token, f"the access token of {source}")
    username = _owner(endpoint, token, patience)
    if username is None:
        notes.append(f"The access token of {source} is not accepted by Kaggle: it is wrong, expired or revoked")
        return None
    return Login(username, f"access token of {source}", endpoint, tuple(notes), token=Secret(token))


def _by_key(endpoint: Endpoint, notes: list[str], patience: Patience | None) -> Login | None:  # noqa: ARG001
    """User name and key, from `kaggle.json` with KAGGLE_USERNAME and KAGGLE_KEY laid over it."""
    path = _config_folder() / "kaggle.json"
    found = _read_key_file(path)
    source = path.name
    for name in ("username", "key"):
        if value := os.environ.get(f"KAGGLE_{name.upper()}"):
            found[name] = value
            source = "KAGGLE_USERNAME and KAGGLE_KEY"
    if found and not (found.get("username") and found.get("key")):
        missing = "user name" if found.get("key") else "key"
        notes.append(f"{source} gives no {missing}")
        return None
    if not found:
        return None
    for name, text in found.items():
        _refuse_unsendable(text, f"the {name} of {source}")
    return Login(found["username"], f"key of {source}", endpoint, tuple(notes), key=Secret(found["key"]))


def _by_browser(endpoint: Endpoint, notes: list[str], patience: Patience | None) -> Login | None:
    """The login that `kaggle auth login` left, renewed where Kaggle no longer takes its token."""
    from kagglesdk import KaggleCredentials

    anonymous = Client(Login("", "browser login", endpoint), patience=patience)
    try:
        kept = KaggleCredentials.load(client=anonymous.sdk)
    except (ValueError, OSError, AttributeError, TypeError):
        notes.append("~/.kaggle/credentials.json cannot be read")
        return None
    if kept is None:
        return None
    for renew in (kept.get_access_token, kept.refresh_access_token):
        token = _renewed(anonymous, kept, renew)
        username = _owner(endpoint, token, patience) if token else None
        if token and username:
            return Login(username, "browser login", endpoint, tuple(notes), token=Secret(token))
    notes.append("The browser's login in ~/.kaggle/credentials.json has ended, or is damaged")
    return None


def _refuse_unsendable(text: str, what: str) -> None:
    """Raise CredentialsError where a text cannot stand in a request's head, as every login of Kaggle's can."""
    if not _is_sendable(text):
        raise CredentialsError(f"{what} holds characters that no login of Kaggle has: copy it again. {HOW_TO_LOG_IN}")


def _is_sendable(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _renewed(client: Client, kept: Any, renew: Any) -> str | None:
    """The access token after `renew`, which may ask Kaggle for a new one; None where Kaggle refuses.

    None, too, where no request can be made of what the file holds.
    """
    found: list[Any] = []

    def method(_: None) -> None:
        renew()
        found.append(kept.get_access_token())

    try:
        client.read(method, None, what="the browser's login")
    except (RefusedError, CredentialsError, TypeError, ValueError, AttributeError):
        return None
    token = found[0] if found else None
    return token if isinstance(token, str) and _is_sendable(token) else None


def _owner(endpoint: Endpoint, token: str, patience: Patience | None) -> str | None:
    """Whose access token this is, or None where Kaggle does not take it. Raises RemoteError if it cannot be asked."""
    from kagglesdk.security.types.oauth_service import IntrospectTokenRequest

    client = Client(Login("", "access token", endpoint, token=Secret(token)), patience=patience)
    request = filled(IntrospectTokenRequest(), token=token)
    try:
        reply = client.read(client.sdk.security.oauth_client.introspect_token, request, what="the access token")
    except CredentialsError:
        return None
    except RefusedError as error:
        if error.status in _UNKNOWN_TOKEN:
            return None
        raise
    finally:
        client.close()
    username = reply.get("username")
    if not reply.get("active") or not username:
        return None
    if not isinstance(username, str):
        raise RemoteError("IntrospectToken: Kaggle named the account in a way that kit does not know")
    return username


def _access_token() -> tuple[str | None, str]:
    """The access token and where it stands, by the official client's own rules."""
    from kagglesdk import get_access_token_from_env

    try:
        token, source = get_access_token_from_env()
    except (OSError, ValueError):
        # The client asks whether KAGGLE_API_TOKEN is a file, which a long token cannot be, and a bad file breaks.
        literal = os.environ.get("KAGGLE_API_TOKEN", "")
        if "." in literal or len(literal) > 200:
            return literal, "KAGGLE_API_TOKEN"
        raise CredentialsError(f"The access token's file cannot be read. {HOW_TO_LOG_IN}") from None
    return token, "~/.kaggle/access_token" if source == "access_token" else str(source)


def _config_folder() -> Path:
    """Where `kaggle.json` is looked for (facts, section 1)."""
    if chosen := os.environ.get("KAGGLE_CONFIG_DIR"):
        return Path(chosen)
    old = Path.home() / ".kaggle"
    if old.exists():
        return old
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "kaggle"


def _read_key_file(path: Path) -> dict[str, str]:
    """User name and key of a `kaggle.json`, as far as it has them. Other keys are not a login."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError):
        raise CredentialsError(f"{path} cannot be read as JSON. {HOW_TO_LOG_IN}, and remove that file") from None
    if not isinstance(content, dict):
        return {}
    return {name: value for name in ("username", "key") if isinstance(value := content.get(name), str) and value}
