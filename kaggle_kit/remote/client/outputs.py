"""What a run left behind: its files, each whole or not there, and its log, also while it is written.

`GET kernels/logs/stream/{owner}/{slug}?versionLabel=vN` answers with server-sent events that end in END_OF_LOG while
the run goes on, and with a JSON list when it is over (facts, section 3).
"""

from __future__ import annotations

import fnmatch
import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from kaggle_kit.errors import CredentialsError, RemoteError
from kaggle_kit.files import refusal
from kaggle_kit.remote.client.absence import find_pages, is_own, unless_absent
from kaggle_kit.remote.client.client import RefusedError, entries
from kaggle_kit.remote.client.downloads import fetch_file
from kaggle_kit.remote.client.notebooks import label, part, place, status, what
from kaggle_kit.remote.client.wire import no_answer
from kaggle_kit.remote.diagnosis import log_seconds
from kaggle_kit.remote.references import parse_pair
from kaggle_kit.retry import Failed, may_pass
from kaggle_kit.runtime.record import GOING_ON
from kaggle_kit.secrets import LineMask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import requests

    from kaggle_kit.remote.client.client import Client

    Progress = Callable[[str, int], None]

T = TypeVar("T")
_END = "END_OF_LOG"


@dataclass(frozen=True)
class OutputFile:
    """A file that a run left: its path below /kaggle/working, and the address to fetch it from."""

    name: str
    url: str = field(repr=False)


def settled(client: Client, ref: str, version: int, ask: Callable[[Client, str, int], T]) -> T:
    """What `ask` (`list_output`, `log`) gives of a run that has ended; for a while Kaggle may have nothing yet."""
    sought = part(ref, version)
    there = client.settle(lambda: unless_absent(client, lambda: ask(client, ref, version), sought) or None)
    return there or ask(client, ref, version)


def list_output(client: Client, ref: str, version: int) -> tuple[OutputFile, ...]:
    """The files of the run of `version`, over all pages. Raises RemoteError."""
    found: list[OutputFile] = []
    for reply in _pages(client, ref, version):
        listed = entries(reply, "files", what=what(ref, version), kind=dict)
        found += [OutputFile(str(one.get("fileName") or ""), str(one.get("url") or "")) for one in listed]
    return tuple(found)


def log(client: Client, ref: str, version: int) -> str:
    """The log of the run of `version` as Kaggle keeps it (see `diagnosis.read_log`), "" where there is none yet."""
    for reply in _pages(client, ref, version):
        if reply.get("log"):
            return client.login.redact(str(reply["log"]))
    return ""


@dataclass(frozen=True)
class Brought:
    """The files of an output that are here now, and of each that is not its name and why."""

    files: tuple[Path, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)


def output(
    client: Client,
    ref: str,
    version: int,
    folder: Path,
    *,
    patterns: Sequence[str] = ("*",),
    progress: Progress | None = None,
) -> Brought:
    """Fetch the run's files whose path or name matches one of `patterns` into `folder`, over what is there.

    A file is fetched under a temporary name and takes its own only when it is whole. One that does not come, or whose
    name would leave the folder, keeps no other back: it is tried once more in the end, by the address that a new list
    gives it. `progress(name, bytes)` hears how it goes on. Raises RemoteError where a pattern matches nothing, and
    where Kaggle does not list the files.
    """
    listed = list_output(client, ref, version)
    for pattern in patterns:
        if not any(_matches(one.name, pattern) for one in listed):
            names = ", ".join(sorted(one.name for one in listed)[:8]) or "nothing"
            raise RemoteError(
                f"{what(ref, version)}: its output has no {pattern!r}; it holds {names}. "
                "See `kit status` whether the run is complete, and `kit logs` for why"
            )

    def bring(files: Iterable[OutputFile]) -> dict[str, Path | str]:
        return {file.name: _bring(client, file, folder, whose=what(ref, version), progress=progress) for file in files}

    ends = bring(one for one in listed if any(_matches(one.name, pattern) for pattern in patterns))
    if lost := {name for name, end in ends.items() if isinstance(end, str)}:
        # Addresses live for a short time: they may have ended while the files before came.
        ends |= bring(one for one in list_output(client, ref, version) if one.name in lost)
    return Brought(
        tuple(end for end in ends.values() if not isinstance(end, str)),
        {name: end for name, end in ends.items() if isinstance(end, str)},
    )


def _bring(client: Client, file: OutputFile, folder: Path, *, whose: str, progress: Progress | None) -> Path | str:
    """Where the file is now, or why it is not there."""
    hear = partial(progress or (lambda _name, _got: None), file.name)
    try:
        place = _place(folder, file.name, whose)
        return fetch_file(client, file.url, place, what=f"output file {file.name}", progress=hear)
    except CredentialsError:
        raise
    except RemoteError as error:
        return str(error)
    except OSError as error:
        return refusal(error, None if error.filename else folder)


def _pages(client: Client, ref: str, version: int) -> list[dict[str, Any]]:
    """The pages about a run's output. Raises RefusedError (404) where Kaggle shows no such run."""
    from kagglesdk.kernels.types.kernels_api_service import ApiListKernelSessionOutputRequest

    method = client.sdk.kernels.kernels_api_client.list_kernel_session_output
    request = place(ApiListKernelSessionOutputRequest(), ref, version)
    pages = find_pages(client, method, request, part(ref, version))
    if pages is None:
        why = f"{what(ref, version)}: Kaggle shows no such run. Check name and version; a new one may take a moment"
        raise RefusedError(why, status=404, said="")
    return pages


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


@dataclass(frozen=True)
class LogLine:
    """A piece of a log. `time_s` is seconds since the run began, None where it is not told."""

    stream: str
    time_s: float | None
    text: str


@dataclass
class _Joint:
    """What was given already, so that a server that starts from the beginning again is not heard twice."""

    given: int = 0
    first: LogLine | None = None
    finished: bool = False
    quiet: bool = False
    why: str = ""

    def fresh(self, lines: Iterator[LogLine]) -> Iterator[LogLine]:
        """The lines not given before: all but the first `given` where the server began with the same line again."""
        skip = 0
        for index, line in enumerate(lines):
            if index == 0 and line == self.first:
                skip = self.given
            if index < skip:
                continue
            self.first = self.first or line
            self.given += 1
            yield line


def follow_log(client: Client, ref: str, version: int) -> Iterator[LogLine]:
    """The lines of the run of `version` as they come, until the log ends.

    A silent run is waited for as long as Kaggle says that it goes on. Raises CredentialsError, RemoteError.
    """
    joint = _Joint()
    retries = client.retries(quiet=True)
    over = False
    while True:
        before = joint.given
        joint.quiet, joint.why = False, "the log ended too early"
        yield from joint.fresh(_connection(client, ref, version, joint))
        if joint.finished:
            return
        if joint.given > before:
            over = False
            retries.rest()
            continue
        if over:
            return
        state = status(client, ref, version)
        over = state.ended
        if over or joint.quiet or state.state in GOING_ON:
            retries.rest()
            continue
        error = RemoteError(
            f"the log of {what(ref, version)} cannot be followed: {joint.why}. The run goes on at Kaggle: "
            "see `kit status`, and run the same command again"
        )
        retries.wait(Failed(joint.why, error))


def _connection(client: Client, ref: str, version: int, joint: _Joint) -> Iterator[LogLine]:
    """The lines of one connection; `joint` then says whether the log is finished, or how it broke off."""
    import requests

    timeouts = (client.patience.connect_s, client.patience.read_s)
    path = f"kernels/logs/stream/{parse_pair(ref)}?versionLabel={label(version)}"
    headers = {"Accept": "text/event-stream, */*", "Accept-Encoding": "identity"}
    opened = False
    try:
        with client.wire.get(path, timeouts=timeouts, headers=headers) as response:
            if response.status_code != 200:
                joint.why = f"Kaggle answered {response.status_code}"
                _refuse(response.status_code, ref, version, own=is_own(client, parse_pair(ref).owner))
                return
            opened = True
            events = "event-stream" in (response.headers.get("Content-Type") or "").lower()
            hide = LineMask()
            for line in _events(response, joint) if events else _finished(response, joint):
                yield LogLine(line.stream, line.time_s, hide(client.login.redact(line.text)))
    except requests.exceptions.RequestException as error:
        missing = no_answer(error, timeouts=timeouts, whom=client.login.endpoint.name)
        joint.why = missing.why
        joint.quiet = opened and "did not answer" in missing.why


def _refuse(code: int, ref: str, version: int, *, own: bool) -> None:
    if code == 401:
        raise CredentialsError(f"the log of {what(ref, version)}: Kaggle does not accept the login. Log in again")
    # A log that is not there, or not shown, may only have no line yet.
    if not (may_pass(code) or code == 404 or (code == 403 and own)):
        raise RemoteError(
            f"the log of {what(ref, version)}: Kaggle answered {code}. "
            "Check owner and name, and that it is yours to see"
        )


def _events(response: requests.Response, joint: _Joint) -> Iterator[LogLine]:
    """The `data:` lines of server-sent events, as they come."""
    chunked = "chunked" in (response.headers.get("Transfer-Encoding") or "").lower()
    # Without chunks a read waits for its whole count: one byte at a time keeps the log live.
    for raw in _lines(response.iter_content(512 if chunked else 1)):
        if not raw.startswith(b"data:"):
            continue
        text = raw[5:].decode("utf-8", errors="replace").removeprefix(" ")
        if text.strip() == _END:
            joint.finished = True
            return
        try:
            yield _line(json.loads(text))
        except (ValueError, RecursionError):
            yield LogLine("stdout", None, text)


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The lines of a stream, each joined once: requests' iter_lines reads a long one again with every byte of it."""
    held: list[bytes] = []
    for piece in pieces:
        held.append(piece)
        if b"\n" in piece:
            whole, _, rest = b"".join(held).rpartition(b"\n")
            yield from whole.splitlines()
            held = [rest]

    yield from b"".join(held).splitlines()


def _finished(response: requests.Response, joint: _Joint) -> Iterator[LogLine]:
    """The whole log of a run that is over: a JSON list, or plain lines."""
    body = response.content.decode("utf-8", errors="replace")
    # Nothing at all is what a run that has not begun may answer.
    joint.finished = bool(body.strip())
    try:
        entries = json.loads(body) if joint.finished else []
    except (ValueError, RecursionError):
        entries = body.splitlines(keepends=True)
    yield from (_line(one) for one in (entries if isinstance(entries, list) else [entries]))


def _line(entry: Any) -> LogLine:
    if not isinstance(entry, dict):
        return LogLine("stdout", None, str(entry))
    return LogLine(
        stream=str(entry.get("stream_name") or "stdout"),
        time_s=log_seconds(entry),
        text=str(entry.get("data") or ""),
    )
