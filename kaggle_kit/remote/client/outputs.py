"""What a run left behind: its files, each whole or not there, and its log."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from kaggle_kit.errors import RemoteError
from kaggle_kit.remote.client.notebooks import label, split, what
from kaggle_kit.remote.client.wire import no_answer, transfer_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import requests

    from kaggle_kit.remote.client.client import Client

    Progress = Callable[[str, int], None]

_PAGE = 200
_PAGES = 500
_PIECE_BYTES = 1 << 20
_REDIRECTS = 5
AGAIN = {408, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class OutputFile:
    """A file that a run left: its path below /kaggle/working, and the address to fetch it from."""

    name: str
    url: str = field(repr=False)


def list_output(client: Client, ref: str, version: int) -> tuple[OutputFile, ...]:
    """The files of the run of `version`, over all pages. Raises RemoteError."""
    found: list[OutputFile] = []
    for reply in _pages(client, ref, version):
        listed = [one for one in reply.get("files") or () if isinstance(one, dict)]
        found += [OutputFile(str(one.get("fileName") or ""), str(one.get("url") or "")) for one in listed]
    return tuple(found)


def log(client: Client, ref: str, version: int) -> str:
    """The log of the run of `version` as Kaggle keeps it (see `log_text.read_log`), "" where there is none yet."""
    for reply in _pages(client, ref, version):
        if reply.get("log"):
            return client.login.redact(str(reply["log"]))
    return ""


def output(
    client: Client,
    ref: str,
    version: int,
    folder: Path,
    *,
    patterns: Sequence[str] = ("*",),
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """Fetch the run's files whose path or name matches one of `patterns` into `folder`, over what is there.

    A file is fetched under a temporary name and takes its own only when it is whole. `progress(name, bytes)` hears how
    it goes on. Raises RemoteError: a pattern matches nothing, a name leaves the folder, a file does not come whole.
    """
    listed = list_output(client, ref, version)
    wanted = [one for one in listed if any(_matches(one.name, pattern) for pattern in patterns)]
    for pattern in patterns:
        if not any(_matches(one.name, pattern) for one in listed):
            names = ", ".join(sorted(one.name for one in listed)[:8]) or "nothing"
            raise RemoteError(
                f"{what(ref, version)}: its output has no {pattern!r}; it holds {names}. "
                "See `kit status` whether the run is complete, and `kit logs` for why"
            )
    places = [(one, _place(folder, one.name, what(ref, version))) for one in wanted]
    return tuple(_fetch(client, one, place, progress or (lambda _name, _got: None)) for one, place in places)


def _pages(client: Client, ref: str, version: int) -> Iterator[dict[str, Any]]:
    from kagglesdk.kernels.types.kernels_api_service import ApiListKernelSessionOutputRequest

    page = ""
    for _ in range(_PAGES):
        request = ApiListKernelSessionOutputRequest()
        request.user_name, request.kernel_slug = split(ref)
        request.version_label = label(version)
        request.page_size = _PAGE
        if page:
            request.page_token = page
        method = client.sdk.kernels.kernels_api_client.list_kernel_session_output
        reply = client.read(method, request, what=what(ref, version))
        yield reply
        page = str(reply.get("nextPageToken") or "")
        if not page:
            return
    raise RemoteError(f"ListKernelSessionOutput for {what(ref, version)}: the list does not end. Fetch it by hand")


def _matches(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(PurePosixPath(name).name, pattern)


def _place(folder: Path, name: str, whose: str) -> Path:
    """Where a file goes. Raises RemoteError for a name that would leave the folder, by itself or through a link."""
    parts = PurePosixPath(name).parts
    place = folder.joinpath(*parts)
    home = folder.resolve()
    outside = not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name
    if outside or place.is_dir() or home not in place.parent.resolve().joinpath(place.name).parents:
        raise RemoteError(f"{whose}: the output's file name {name!r} does not stay in {folder}: it is not fetched")
    return place


def _fetch(client: Client, file: OutputFile, place: Path, progress: Progress) -> Path:
    """One file, whole, in its place."""
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}.part")
    try:
        for attempt in range(1, client.patience.attempts + 1):
            why = _attempt(client, file, part, progress)
            if why is None:
                part.replace(place)
                return place
            if attempt < client.patience.attempts:
                client.wait(attempt, f"output file {file.name}: {why}")
    finally:
        part.unlink(missing_ok=True)
    raise RemoteError(f"output file {file.name} could not be fetched whole: {why}. Run the same command again")


def _attempt(client: Client, file: OutputFile, part: Path, progress: Progress) -> str | None:
    """Fetch into `part`; None where it came whole, else why not. Raises where another attempt would not help."""
    import requests

    timeouts = (client.patience.connect_s, client.patience.read_s)
    try:
        with transfer_session(client.login.endpoint) as session, open_file(client, session, file, timeouts) as response:
            if response.status_code in AGAIN:
                return f"the server answered {response.status_code}"
            if response.status_code != 200:
                raise RemoteError(
                    f"output file {file.name}: the server answered {response.status_code}; its address lives for a "
                    "short time only. Run the same command again"
                )
            got = 0
            with part.open("wb") as stream:
                for piece in response.iter_content(_PIECE_BYTES):
                    stream.write(piece)
                    got += len(piece)
                    progress(file.name, got)
            said = response.headers.get("Content-Length")
    except requests.exceptions.RequestException as error:
        return no_answer(error, timeouts=timeouts, whom="the file server").why
    if said is not None and said.isdigit() and int(said) != got:
        return f"{got} of {said} bytes came"
    return None


def open_file(
    client: Client, session: requests.Session, file: OutputFile, timeouts: tuple[float, float]
) -> requests.Response:
    """An open answer, redirects followed to places only where files may be fetched from. No login is sent."""
    url = file.url
    for _ in range(_REDIRECTS):
        if not client.login.endpoint.allows_transfer(url):
            parts = urlsplit(url)
            raise RemoteError(
                f"output file {file.name}: its address {parts.scheme}://{parts.hostname} is not one that kit fetches "
                f"from at {client.login.endpoint.name}. See who answers there"
            )
        response = session.get(
            url,
            stream=True,
            timeout=timeouts,
            allow_redirects=False,
            headers={"Accept-Encoding": "identity"},
            proxies=client.login.endpoint.transfer_proxies(url),
        )
        if not response.is_redirect:
            return response
        url = urljoin(url, response.headers["Location"])
        response.close()
    raise RemoteError(f"output file {file.name}: its address leads on and on. Run the same command again")
