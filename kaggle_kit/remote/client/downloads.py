"""Files from Kaggle: whole or not at all, from where they may come from only, and without the login."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from kaggle_kit.errors import CredentialsError, RemoteError
from kaggle_kit.files import naming
from kaggle_kit.remote.client.absence import unless_absent
from kaggle_kit.remote.client.client import RefusedError, status_of, whole
from kaggle_kit.remote.client.wire import answer_of, no_answer, transfer_session
from kaggle_kit.retry import Failed, may_pass

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import requests

    from kaggle_kit.remote.client.absence import Sought
    from kaggle_kit.remote.client.client import Client

_PIECE_BYTES = 1 << 20
_REDIRECTS = 5
_SMALL_BYTES = 16 << 20


def fetch_file(client: Client, url: str, place: Path, *, what: str, progress: Callable[[int], None]) -> Path:
    """The file at `url` in its `place`, over what is there: under a temporary name until it is whole.

    `what` names it in errors; `progress` hears how many bytes have come. Raises RemoteError.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}.part")
    try:
        client.persist(lambda: _fetch(client, url, part, what=what, progress=progress))
        return part.replace(place)
    finally:
        part.unlink(missing_ok=True)


def _fetch(client: Client, url: str, part: Path, *, what: str, progress: Callable[[int], None]) -> Failed | None:
    """One attempt to fetch into `part`. Raises where another would not help."""
    import requests

    failed = partial(_failed, what, "fetched whole")
    timeouts = (client.patience.connect_s, client.patience.read_s)
    try:
        with transfer_session(client.login.endpoint) as session, _open(client, session, url, what) as response:
            if may_pass(response.status_code):
                return failed(f"the server answered {response.status_code}")
            if response.status_code != 200:
                raise RemoteError(
                    f"{what}: the server answered {response.status_code}; its address lives for a short time only. "
                    "Run the same command again"
                )
            got = 0
            with naming(part), part.open("wb") as stream:
                for piece in response.iter_content(_PIECE_BYTES):
                    stream.write(piece)
                    got += len(piece)
                    progress(got)
            said = response.headers.get("Content-Length")
    except requests.exceptions.RequestException as error:
        return failed(no_answer(error, timeouts=timeouts, whom="the file server").why)
    if said is not None and (whole(said) or said == "0") and whole(said) != got:
        return failed(f"{got} of {said} bytes came")
    return None


def read_small_file(client: Client, call: str, asked: dict[str, Any], sought: Sought) -> bytes | None:
    """What a call such as DownloadDataset leads to; None where Kaggle has no such file or version (see `absence`).

    For the manifest that identifies a version. Raises RemoteError where Kaggle does not answer, or the file is larger
    than 16 MiB.
    """
    return unless_absent(client, lambda: client.persist(lambda: _read_small(client, call, asked, sought.what)), sought)


def _read_small(client: Client, call: str, asked: dict[str, Any], what: str) -> bytes | Failed | None:
    """One attempt. The call answers with another address; the login must not go there, so the typed SDK, which
    follows it, is not asked."""
    import requests

    failed = partial(_failed, what, "read")
    timeouts = (client.patience.connect_s, client.patience.read_s)
    try:
        with client.wire.post(call, asked, timeouts=timeouts) as reply:
            address = reply.headers.get("Location") if reply.is_redirect else None
            status = reply.status_code if address else status_of(answer_of(reply))
            if may_pass(status):
                return failed(f"Kaggle answered {status}")
        if address is None:
            why = f"{what} cannot be read: Kaggle answered {status}"
            if status == 401:
                raise CredentialsError(f"{why}. Log in again with `kaggle auth login`")
            raise RefusedError(f"{why}. Check owner and name", status=status, said="")
        with transfer_session(client.login.endpoint) as session, _open(client, session, address, what) as response:
            if response.status_code == 404:
                return None
            if response.status_code != 200:
                # Whatever it is: the next attempt gets an address of its own.
                return failed(f"the file server answered {response.status_code}")
            body = response.raw.read(_SMALL_BYTES + 1)
    except requests.exceptions.RequestException as error:
        return failed(no_answer(error, timeouts=timeouts, whom=client.login.endpoint.name).why)
    if len(body) > _SMALL_BYTES:
        raise RemoteError(f"{what} is larger than {_SMALL_BYTES:,} bytes: it is not a manifest of kit")
    return bytes(body)


def _failed(what: str, done: str, why: str) -> Failed:
    return Failed(f"{what}: {why}", RemoteError(f"{what} could not be {done}: {why}. Run the same command again"))


def _host_of(url: str) -> str:
    """The scheme and host of an address, for an error: the rest may hold a signature."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(no address)"
    return f"{parts.scheme}://{parts.hostname}"


def _open(client: Client, session: requests.Session, url: str, what: str) -> requests.Response:
    """An open answer, redirects followed to places only where files may be fetched from. No login is sent."""
    endpoint, patience = client.login.endpoint, client.patience
    for _ in range(_REDIRECTS):
        if not endpoint.allows_transfer(url):
            raise RemoteError(
                f"{what}: its address {_host_of(url)} is not one that kit fetches from at "
                f"{endpoint.name}. See who answers there"
            )
        response = session.get(
            url,
            stream=True,
            timeout=(patience.connect_s, patience.read_s),
            allow_redirects=False,
            headers={"Accept-Encoding": "identity"},
            proxies=endpoint.transfer_proxies(url),
        )
        if not response.is_redirect:
            return response
        response.close()
        try:
            url = urljoin(url, response.headers["Location"])
        except ValueError:
            break
    raise RemoteError(f"{what}: its address leads on and on. Run the same command again")
