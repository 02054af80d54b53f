"""The official client's HTTP session, made safe: time limits, one endpoint, one login, and the answer as it came."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kaggle_kit import __version__
from kaggle_kit.errors import OutsideError
from kaggle_kit.outside import parse_json, whole_characters

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from kaggle_kit.remote.client.endpoint import Endpoint

TIMEOUTS_S = (10.0, 60.0)
"""To connect, and between two pieces of an answer. The official client has none (facts, section 3)."""

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Answer:
    """What a server answered. `body` is the JSON value, None where there is none to read."""

    status: int
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class NoAnswer:
    """No whole answer came. `sent` is False only where the request surely did not reach a server."""

    why: str
    sent: bool
    lasting: bool = False


@dataclass
class Wire:
    """The typed client, its session, and the last answer of each thread."""

    sdk: Any
    session: requests.Session
    endpoint: Endpoint
    local: threading.local = field(default_factory=threading.local)

    def ask(self, method: Callable[[Any], Any], request: Any, *, timeouts: tuple[float, float]) -> Answer | NoAnswer:
        """One call of the typed client. Its reading of the answer is not used: an unknown enum value breaks it.

        `method` is a service's method (`sdk.kernels.kernels_api_client.get_kernel`).
        """
        import requests

        self.local.timeouts = timeouts
        self.local.response = None
        try:
            method(request)
        except (requests.exceptions.HTTPError, requests.exceptions.InvalidJSONError):
            pass
        except requests.exceptions.RequestException as error:
            return no_answer(error, timeouts=timeouts, whom=self.endpoint.name)
        except (KeyError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError):
            if self.local.response is None:
                raise
        except OSError as error:
            # Before anything is sent requests looks for the certificates that these variables name.
            why = f"{error} (see REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE)"
            return NoAnswer(why, sent=False, lasting=True)
        return answer_of(self.local.response) if self.local.response is not None else Answer(200, {}, {})

    def get(self, path: str, *, timeouts: tuple[float, float], headers: dict[str, str]) -> requests.Response:
        """An open answer to a GET below the API's address, with the login. Raises requests' own errors."""
        self.local.timeouts = timeouts
        wanted = {"Content-Type": None, **headers}
        return self.session.get(f"{self.endpoint.api}/{path}", headers=wanted, stream=True)  # type: ignore[arg-type]

    def post(self, path: str, body: Any, *, timeouts: tuple[float, float]) -> requests.Response:
        """The answer to a POST below the API's address, with the login; a redirect is not followed. As `get`."""
        self.local.timeouts = timeouts
        return self.session.post(f"{self.endpoint.api}/{path}", json=body, allow_redirects=False)


def connect(endpoint: Endpoint, *, token: str | None = None, key: tuple[str, str] | None = None) -> Wire:
    """The typed client with exactly the login given: nothing is read again from files or the environment."""
    from kagglesdk import KaggleClient, KaggleEnv

    env = KaggleEnv.LOCAL if endpoint.loopback else KaggleEnv.PROD
    client = KaggleClient(env=env, api_token=token or "-", user_agent=f"kaggle-kit/{__version__}")
    client.__enter__()
    # The session is private in the SDK, and the one place where time limits can be set.
    session: requests.Session = client.http_client()._session  # noqa: SLF001
    if token is None:
        # Left to itself the SDK sends a stale token of the environment instead of the key (facts, section 1).
        session.auth = key
    _read_environment_once(session)
    wire = Wire(sdk=client, session=session, endpoint=endpoint)
    adapter = _guarded_adapter(wire)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return wire


def _read_environment_once(session: requests.Session) -> None:
    """Have the session ask for proxies and certificates once for each server: asking costs more than a short call.

    requests goes through all variables four times for each call; a kit process does not change its own.
    """
    from urllib.parse import urlsplit

    read = session.merge_environment_settings
    known: dict[tuple[str, str], dict[str, Any]] = {}

    def settings(url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> dict[str, Any]:
        if proxies or verify is not None or cert is not None:
            return dict(read(url, proxies, stream, verify, cert))

        parts = urlsplit(str(url))
        place = (parts.scheme, parts.netloc)
        if place not in known:
            known[place] = dict(read(url, {}, None, None, None))
        own = {} if stream is None else {"stream": stream}
        return {**known[place], "proxies": dict(known[place]["proxies"]), **own}

    session.merge_environment_settings = settings  # type: ignore[method-assign]


def _guarded_adapter(wire: Wire) -> Any:
    """An adapter that keeps requests to the endpoint, sets time limits and remembers the answer."""
    from requests.adapters import HTTPAdapter

    class Guarded(HTTPAdapter):
        def send(self, request: Any, **options: Any) -> Any:  # type: ignore[override]
            wire.endpoint.guard(request.url, options.get("proxies"))
            options["timeout"] = getattr(wire.local, "timeouts", TIMEOUTS_S)
            wire.local.response = super().send(request, **options)
            return wire.local.response

    return Guarded(max_retries=0)


def fresh_connections(wire: Wire) -> None:
    """Forget idle connections: one that the server has closed meanwhile would look like a lost reply."""
    for adapter in wire.session.adapters.values():
        adapter.close()


def transfer_session(endpoint: Endpoint) -> requests.Session:
    """A session for file contents: no login in it, and none of a .netrc; it never tries again by itself.

    Off loopback the user's proxy and certificate settings count.
    """
    import requests
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    session.trust_env = not endpoint.loopback
    session.auth = lambda request: request
    adapter = HTTPAdapter(max_retries=0)
    adapter.init_poolmanager(1, 1, blocksize=_PIECE_BYTES)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def answer_of(response: requests.Response) -> Answer:
    try:
        body = parse_json(whole_characters(response.content), "the answer")
    except OutsideError:
        body = None
    return Answer(status=response.status_code, headers=dict(response.headers), body=body)


def no_answer(error: Exception, *, timeouts: tuple[float, float], whom: str) -> NoAnswer:
    """Why there was no answer, in words that hold no address with a secret in it."""
    import requests
    from urllib3.exceptions import NameResolutionError, NewConnectionError

    causes = list(_causes(error))
    if any(isinstance(one, NameResolutionError) for one in causes):
        return NoAnswer(f"the name of {whom} is not known here: is there a network?", sent=False)
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return NoAnswer(f"no connection to {whom} within {timeouts[0]:g} s", sent=False)
    if any(isinstance(one, NewConnectionError | ConnectionRefusedError) for one in causes):
        return NoAnswer(f"nothing listens at {whom}, or the network is down", sent=False)
    if isinstance(error, requests.exceptions.SSLError):
        return NoAnswer(f"the certificate of {whom} is not accepted here", sent=False, lasting=True)
    if isinstance(error, requests.exceptions.Timeout):
        return NoAnswer(f"{whom} did not answer within {timeouts[1]:g} s", sent=True)
    return NoAnswer(f"the connection to {whom} was cut", sent=True)


def _causes(error: BaseException) -> list[BaseException]:
    """An error and all that stand behind it: causes, contexts, and what urllib3 keeps as arguments and reasons."""
    found: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        one = todo.pop()
        if not isinstance(one, BaseException) or any(one is seen for seen in found):
            continue
        found.append(one)
        todo += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
    return found
