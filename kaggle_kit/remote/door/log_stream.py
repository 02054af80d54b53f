"""A run's log while it is written: server-sent events, joined again after every cut, each line once.

`GET kernels/logs/stream/{owner}/{slug}?versionLabel=vN` answers with events that end in END_OF_LOG while the run goes
on, and with a JSON list when it is over (facts, section 3).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import CredentialsError, RemoteError
from kaggle_kit.remote.door.kernels import GOING_ON, label, split, status, what
from kaggle_kit.remote.door.wire import no_answer
from kaggle_kit.secrets import LineMask

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

    from kaggle_kit.remote.door.door import Door

_END = "END_OF_LOG"
_AGAIN = {404, 408, 425, 429, 500, 502, 503, 504}


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


def follow_log(door: Door, ref: str, version: int) -> Iterator[LogLine]:
    """The lines of the run of `version` as they come, until the log ends.

    A silent run is waited for as long as Kaggle says that it goes on. Raises CredentialsError, RemoteError.
    """
    joint = _Joint()
    failures = 0
    over = False
    while True:
        before = joint.given
        joint.quiet, joint.why = False, "the log ended too early"
        yield from joint.fresh(_connection(door, ref, version, joint))
        if joint.finished:
            return
        if joint.given > before:
            failures, over = 0, False
        elif over:
            return
        else:
            state = status(door, ref, version)
            over = state.ended
            failures = 0 if joint.quiet or state.state in GOING_ON else failures + 1
        if failures >= door.patience.attempts and not over:
            raise RemoteError(
                f"the log of {what(ref, version)} cannot be followed: {joint.why}. The run goes on at Kaggle: "
                "see `kit status`, and run the same command again"
            )
        door.sleep(min(door.patience.first_s * 2.0 ** max(failures, 1), door.patience.longest_s))


def _connection(door: Door, ref: str, version: int, joint: _Joint) -> Iterator[LogLine]:
    """The lines of one connection; `joint` then says whether the log is finished, or how it broke off."""
    import requests

    timeouts = (door.patience.connect_s, door.patience.read_s)
    owner, slug = split(ref)
    path = f"kernels/logs/stream/{owner}/{slug}?versionLabel={label(version)}"
    headers = {"Accept": "text/event-stream, */*", "Accept-Encoding": "identity"}
    opened = False
    try:
        with door.wire.get(path, timeouts=timeouts, headers=headers) as response:
            if response.status_code != 200:
                joint.why = f"Kaggle answered {response.status_code}"
                _refuse(response.status_code, ref, version)
                return
            opened = True
            events = "event-stream" in (response.headers.get("Content-Type") or "").lower()
            hide = LineMask()
            for line in _events(response, joint) if events else _finished(response, joint):
                yield LogLine(line.stream, line.time_s, hide(door.login.redact(line.text)))
    except requests.exceptions.RequestException as error:
        missing = no_answer(error, timeouts=timeouts, whom=door.login.endpoint.name)
        joint.why = missing.why
        joint.quiet = opened and "did not answer" in missing.why


def _refuse(code: int, ref: str, version: int) -> None:
    if code == 401:
        raise CredentialsError(f"the log of {what(ref, version)}: Kaggle does not accept the login. Log in again")
    if code not in _AGAIN:
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
    time_s = entry.get("time")
    return LogLine(
        stream=str(entry.get("stream_name") or "stdout"),
        time_s=float(time_s) if isinstance(time_s, int | float) else None,
        text=str(entry.get("data") or ""),
    )
