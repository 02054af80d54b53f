"""Files to Kaggle: streamed, resumed where they were cut, several at once, and never to another host.

Kaggle takes a file as one PUT to an address that it names; after a cut, `Content-Range: bytes */N` asks how much has
come and the rest is sent (facts, section 3).
"""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from copy import copy
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from kaggle_kit.errors import RemoteError
from kaggle_kit.files import Stamp, stamp_of
from kaggle_kit.remote.client.client import saying, whole
from kaggle_kit.remote.client.upload_records import Session, Sessions
from kaggle_kit.remote.client.wire import Answer, NoAnswer, no_answer, read_whole, transfer_session
from kaggle_kit.retry import Failed, may_pass, retry_after

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kaggle_kit.remote.client.client import Client

    Progress = Callable[[Path, int], None]

DATASET = "DATASET"
MODEL = "MODEL"
_GONE = {404, 410}
_READ_BYTES = 1 << 20
_MARK_BYTES = 64 << 20


@dataclass(frozen=True)
class Upload:
    """A file to send, as it was hashed when it was checked. `name` is its path inside the dataset."""

    path: Path
    name: str
    sha256: str


@dataclass(frozen=True)
class Sent:
    """A file that Kaggle holds, not yet part of any version. `token` names it in the call that makes the version."""

    name: str
    size: int
    token: str = field(repr=False)


class _StoppedError(Exception):
    """Another file failed: this one stops where it is."""


class _SentHash:
    """The SHA-256 of what was read to be sent, with marks to go back to: a server may have less than that."""

    def __init__(self) -> None:
        self._marks = [(0, hashlib.sha256())]
        self._hash = hashlib.sha256()
        self.at = 0

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        self._hash.update(data)
        self.at += len(data)
        if self.at - self._marks[-1][0] >= _MARK_BYTES:
            self._marks.append((self.at, self._hash.copy()))

    def move(self, stream: BinaryIO, at: int) -> None:
        """Stand at `at`, before or after what was added, with the bytes that `stream` has since the last mark."""
        while self._marks[-1][0] > at:
            self._marks.pop()
        self.at, known = self._marks[-1] if self.at > at else (self.at, self._hash)
        self._hash = known.copy()
        stream.seek(self.at)
        while self.at < at and (data := stream.read(min(_READ_BYTES, at - self.at))):
            self.add(data)

    def hexdigest(self) -> str:
        """Of all that was added."""
        return self._hash.hexdigest()


@dataclass
class _Job:
    """One file on its way: what it was when it began, what of it was sent, and how to tell of it."""

    client: Client
    upload: Upload
    kind: str
    sessions: Sessions
    progress: Progress
    stop: threading.Event
    stamp: Stamp = field(init=False)
    sent: _SentHash = field(init=False, default_factory=_SentHash)

    def __post_init__(self) -> None:
        try:
            self.stamp = stamp_of(self.upload.path.stat())
        except OSError as error:
            raise RemoteError(f"{self.upload.path} cannot be sent: {error.strerror}") from None

    @property
    def size(self) -> int:
        """Bytes that the file had when it began."""
        return self.stamp.size

    @property
    def what(self) -> str:
        """The file in an error's sentence."""
        return f"file {self.upload.name}"

    @property
    def key(self) -> str:
        """What the file is known by in the kept sessions."""
        parts = (self.kind, self.upload.name, self.upload.path.resolve(), *self.stamp[1:], self.upload.sha256)
        return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()

    def refuse_changed(self) -> None:
        """Raise RemoteError, and forget the session, where the file is no longer the one that was begun."""
        try:
            same = stamp_of(self.upload.path.stat()).content == self.stamp.content
        except OSError:
            same = False
        if not same:
            self.sessions.forget(self.key)
            raise RemoteError(f"{self.upload.path} changed while it was sent: let it rest, then run the command again")

    def refuse_other(self, *, earlier: bool) -> None:
        """Raise RemoteError, and forget the session, where what was sent is not what was hashed before.

        `earlier`: all of it was sent by an earlier run, which began with the file in this very state.
        """
        self.refuse_changed()
        if earlier and self.sent.at == 0:
            return
        try:
            with self.upload.path.open("rb") as stream:
                self.sent.move(stream, self.size)
        except OSError as error:
            raise RemoteError(f"{self.upload.path} cannot be read: {error.strerror}") from None
        if self.sent.hexdigest() != self.upload.sha256:
            self.sessions.forget(self.key)
            raise RemoteError(
                f"{self.upload.path} changed after it was checked: what was sent is not what the plan says, and no "
                "version is made of it. Let it rest, then run the command again"
            )


def upload_files(
    client: Client,
    uploads: Sequence[Upload],
    *,
    kind: str = DATASET,
    parallel: int = 3,
    progress: Progress | None = None,
) -> tuple[Sent, ...]:
    """Send files, `parallel` at a time, and return what Kaggle holds, in the order given.

    `progress(path, bytes)` hears, from several threads, how many bytes of a file are sent; it may go back after a cut.
    What an earlier run sent is not sent again. The first failure stops the others and is raised (RemoteError); what was
    sent is kept for the next run. A file whose bytes, as they were sent, are not those of its `sha256` is a failure: no
    version is made of what nobody has checked. Call `forget` once a version holds the files.
    """
    stop = threading.Event()
    client = _stoppable(client, stop)
    sessions = Sessions(server=client.login.endpoint.name, account=client.username)
    jobs = [_Job(client, one, kind, sessions, progress or (lambda _path, _sent: None), stop) for one in uploads]
    done: dict[int, Sent] = {}
    pool = ThreadPoolExecutor(max_workers=max(1, parallel), thread_name_prefix="upload")
    futures = {pool.submit(_send, job): index for index, job in enumerate(jobs)}
    try:
        for future in as_completed(futures):
            done[futures[future]] = future.result()
    except RemoteError as error:
        if done and type(error) is RemoteError:
            kept = f"{len(done)} of {len(jobs)} files are at Kaggle and are not sent again"
            raise RemoteError(f"{error}. {kept}") from None
        raise
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
    return tuple(done[index] for index in range(len(jobs)))


def _stoppable(client: Client, stop: threading.Event) -> Client:
    """The same client, whose waits, which Kaggle may ask to be minutes, end when `stop` is set."""

    def sleep(seconds: float) -> None:
        if stop.wait(seconds):
            raise _StoppedError

    other = copy(client)
    other.sleep = sleep
    return other


def forget(client: Client, uploads: Sequence[Upload], *, kind: str = DATASET) -> None:
    """Drop the kept sessions of files that a version holds now: their tokens are used up."""
    sessions = Sessions(server=client.login.endpoint.name, account=client.username)
    for one in uploads:
        sessions.forget(_Job(client, one, kind, sessions, lambda _path, _sent: None, threading.Event()).key)


def _send(job: _Job) -> Sent:
    """One file to Kaggle, over as many rounds as it takes."""
    retries = job.client.retries()
    session = job.sessions.get(job.key)
    earlier = session is not None
    offset = None if earlier else 0
    best, new_sessions = 0, 0
    while True:
        if job.stop.is_set():
            raise _StoppedError
        if session is None:
            session, offset = _begin(job), 0
            new_sessions += 1

        step = _ask_offset(job, session) if offset is None else _put(job, session, offset)
        if step is _End.WHOLE:
            job.refuse_other(earlier=earlier and not new_sessions)
            job.progress(job.upload.path, job.size)
            return Sent(job.upload.name, job.size, session.token)
        if step is _End.GONE and new_sessions < 3:
            job.sessions.forget(job.key)
            session = None
            continue

        if isinstance(step, int) and (step > best or offset is None):
            if step > best:
                retries.reset()
            best, offset = max(best, step), step
            continue
        retries.wait(step if isinstance(step, Failed) else _failed(job, "the server does not take it"))
        offset = None


def _begin(job: _Job) -> Session:
    """A new upload session, kept for the next run before a byte is sent."""
    from kagglesdk.blobs.types.blob_api_service import ApiBlobType, ApiStartBlobUploadRequest

    request = ApiStartBlobUploadRequest()
    request.type = ApiBlobType[job.kind]
    request.name = Path(job.upload.name).name
    request.content_length = job.size
    request.last_modified_epoch_seconds = job.stamp.mtime_ns // 1_000_000_000
    client = job.client
    reply = client.read(client.sdk.blobs.blob_api_client.start_blob_upload, request, what=job.what)
    token, url = reply.get("token"), reply.get("createUrl")
    if not (isinstance(token, str) and token and isinstance(url, str) and url):
        raise RemoteError(
            f"StartBlobUpload for {job.what}: the answer holds no token or no address. Run the same command again"
        )
    _refuse_elsewhere(job, url)
    session = Session(token, url)
    job.sessions.keep(job.key, session)
    return session


def _refuse_elsewhere(job: _Job, url: str) -> None:
    if not job.client.login.endpoint.allows_transfer(url):
        parts = urlsplit(url)
        raise RemoteError(
            f"StartBlobUpload for {job.what}: the file would go to {parts.scheme}://{parts.hostname}, which is not "
            f"where {job.client.login.endpoint.name} keeps files. Nothing was sent; see who answers there"
        )


class _End(Enum):
    """The server has the whole file, or does not know the session (any more)."""

    WHOLE = auto()
    GONE = auto()


_Step = int | _End | Failed
"""What an answer says: how many bytes the server has, that this is over, or that nothing is known."""


def _failed(job: _Job, why: str, *, after_s: float | None = None) -> Failed:
    """It is not known how far the server is."""
    error = RemoteError(f"{job.what} was not sent: {why}. Run the same command again: it goes on from there")
    return Failed(f"{job.what}: {why}", error, after_s)


def _put(job: _Job, session: Session, offset: int) -> _Step:
    """Send the bytes from `offset` to the end."""
    headers = {"Content-Type": "application/octet-stream"}
    if offset and offset < job.size:
        headers["Content-Range"] = f"bytes {offset}-{job.size - 1}/{job.size}"
    if offset >= job.size > 0:
        return _ask_offset(job, session)
    try:
        with job.upload.path.open("rb") as stream:
            job.sent.move(stream, offset)
            body = _Slice(stream, job, offset) if job.size else b""
            answer = _request(job, session.url, headers, body)
    except OSError as error:
        raise RemoteError(f"{job.upload.path} cannot be read: {error.strerror}") from None
    job.refuse_changed()
    return _read_step(answer, job, fresh=offset == 0)


def _ask_offset(job: _Job, session: Session) -> _Step:
    """Ask the server how much of the file it has."""
    answer = _request(job, session.url, {"Content-Range": f"bytes */{job.size}"}, b"")
    return _read_step(answer, job, fresh=False)


def _read_step(answer: Answer | NoAnswer, job: _Job, *, fresh: bool) -> _Step:
    """What an upload server's answer means. A session kept from an earlier run may have ended in other ways, too."""
    if isinstance(answer, NoAnswer):
        if answer.lasting:
            raise RemoteError(f"{job.what} was not sent: {answer.why}. Nothing is sent to a server that is not known")
        return _failed(job, answer.why)
    if answer.status in {200, 201}:
        return _End.WHOLE
    if answer.status == 308:
        return _range_end(answer, job.size)
    if answer.status in _GONE or (not fresh and answer.status in {400, 401, 403}):
        return _End.GONE
    if may_pass(answer.status):
        return _failed(job, f"the server answered {answer.status}", after_s=retry_after(answer.headers))
    said = saying(answer.body, job.client.login.redact)
    raise RemoteError(
        f"{job.what} was not taken: the server answered {answer.status}{said}. Check the file's name and size"
    )


def _range_end(answer: Answer, size: int) -> int | _End:
    """The bytes that a 308 says are there: `Range: bytes=0-K` is K + 1, no Range is none."""
    value = next((text for name, text in answer.headers.items() if name.lower() == "range"), "")
    last = value.rpartition("-")[2].strip()
    if not value:
        return 0
    known = last == "0" or 0 < whole(last) < size
    return whole(last) + 1 if known else _End.GONE


def _request(job: _Job, url: str, headers: dict[str, str], body: _Slice | bytes) -> Answer | NoAnswer:
    """One PUT without a login, on a connection of its own: an answer before the end leaves it unusable."""
    import requests

    _refuse_elsewhere(job, url)
    endpoint, patience = job.client.login.endpoint, job.client.patience
    timeouts = (patience.connect_s, patience.make_s)
    with transfer_session(endpoint) as session:
        proxies = endpoint.transfer_proxies(url)
        options: dict[str, Any] = {"headers": headers, "timeout": timeouts, "allow_redirects": False, "stream": True}
        try:
            response = session.put(url, data=body, proxies=proxies, **options)
            read_whole(response, seconds=patience.read_s)
        except requests.exceptions.RequestException as error:
            return no_answer(error, timeouts=timeouts, whom="the upload server")
        try:
            content = response.json()
        except ValueError:
            content = None
        return Answer(response.status_code, dict(response.headers), content)


class _Slice:
    """The rest of a file as a request's body: read in pieces, told of, and stopped when another file fails."""

    def __init__(self, stream: BinaryIO, job: _Job, offset: int) -> None:
        self._stream, self._job, self._at = stream, job, offset

    def __len__(self) -> int:
        return self._job.size - self._at

    def read(self, count: int = -1) -> bytes:
        """The next piece, at most up to the size that the file had."""
        if self._job.stop.is_set():
            raise _StoppedError
        left = len(self)
        data = self._stream.read(left if count < 0 else min(count, left))
        if left and not data:
            self._job.refuse_changed()
        self._at += len(data)
        if data:
            self._job.sent.add(data)
            self._job.progress(self._job.upload.path, self._at)
        return data
