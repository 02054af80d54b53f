"""Uploads: a session is opened by a call, and its bytes come by PUT, whole or resumed by Content-Range.

The rules are those of the storage behind Kaggle's upload addresses, as far as the official client relies on them. A PUT
is cut, or answered otherwise, as a fault says.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from kaggle_kit.loopback.faults import UPLOAD, Cut, Delay, Instead, Lose, Page
from kaggle_kit.loopback.protocol import Json, Refusal
from kaggle_kit.loopback.records import Blob

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from kaggle_kit.loopback.faults import Effect
    from kaggle_kit.loopback.service import Handler, Service, Traffic
    from kaggle_kit.loopback.store import Store


_RANGE = re.compile(r"bytes (?:\*|(\d+)-(\d+))/(\d+)")
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Span:
    """What a Content-Range says: the first byte that comes, or None for a question about what has come.

    `total` is None without a Content-Range: the whole file comes.
    """

    start: int | None
    total: int | None


def start_blob_upload(service: Service, request: Json) -> Json:
    """Open an upload session for a file of a dataset or model."""
    return open_session(service, str(request.get("type") or ""), request.get("name"), request.get("contentLength"))


def open_session(service: Service, kind: str, name: object, size: object) -> Json:
    """Open an upload session, and answer its token and its address on this server."""
    if not name or "/" in str(name):
        raise Refusal(400, f"an upload needs a file name without folders, not {name!r}")
    token = secrets.token_urlsafe(32)
    service.store.put(_key(token), Blob(token=token, kind=kind.lower(), name=str(name), size=int(str(size or 0))))
    return {"token": token, "createUrl": f"{service.url}/upload/{token}"}


def find_upload(store: Store, token: str) -> Blob | None:
    """The upload session with this token. Who knows it needs no login to send its bytes."""
    return store.get(Blob, _key(token))


def _key(token: str) -> str:
    """What a session is looked up by: how long that takes says nothing of the token."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def finished_blob(service: Service, token: object) -> Blob:
    """The upload with this token. Raises Refusal if it is not known or not all of it has come."""
    blob = find_upload(service.store, str(token))
    if blob is None:
        raise Refusal(400, f"no upload has the token {token!r}")
    if not blob.sha256:
        raise Refusal(400, f"the upload of {blob.name!r} is not finished")
    return blob


def read_span(header: str) -> Span:
    """What a Content-Range header says. Raises Refusal if it says nothing."""
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        raise Refusal(400, f"Content-Range: {header!r} cannot be read")
    return Span(int(match[1]) if match[1] is not None else None, int(match[3]))


@dataclass
class Receiver:
    """The bytes of one session as they come: counted, hashed, and written unless the store keeps none."""

    store: Store
    blob: Blob
    received: int = 0
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    @classmethod
    def restored(cls, store: Store, blob: Blob) -> Receiver:
        """A session that an earlier server began: what it wrote down counts as received."""
        receiver = cls(store, blob)
        if receiver.path.is_file():
            with receiver.path.open("rb") as stream:
                while chunk := stream.read(_READ_BYTES):
                    receiver._count(chunk)
        return receiver

    @property
    def path(self) -> Path:
        """Where the bytes lie until all have come."""
        return self.store.uploads / f"{self.blob.token}.part"

    @property
    def keeps(self) -> bool:
        """Whether the bytes are written: a submission's always, for the judge reads them."""
        return self.store.keep_bytes or self.blob.kind == "submission"

    def restart(self) -> None:
        """Forget what came: a PUT without Content-Range sends the file from its first byte."""
        self.path.unlink(missing_ok=True)
        self.received = 0
        self._digest = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        """Take the next bytes. Zeros become a hole in the file, so that a sparse one stays sparse."""
        if self.keeps:
            with self.path.open("r+b" if self.path.exists() else "w+b") as stream:
                if chunk == bytes(len(chunk)):
                    stream.truncate(self.received + len(chunk))
                else:
                    stream.seek(self.received)
                    stream.write(chunk)
        self._count(chunk)

    def finish(self) -> None:
        """All has come: the file goes into the store, and the session knows its hash."""
        digest = self._digest.hexdigest()
        if self.keeps:
            self.path.touch()
            self.store.take(self.path, digest)
        self.blob = replace(self.blob, sha256=digest)
        self.store.put(_key(self.blob.token), self.blob)

    def _count(self, chunk: bytes) -> None:
        self.received += len(chunk)
        self._digest.update(chunk)


class Receivers(dict[str, Receiver]):
    """The sessions that this server has open, by their tokens."""

    def of(self, store: Store, blob: Blob) -> Receiver:
        """The session's receiver, restored from the folder where this server has not seen it yet."""
        if blob.token not in self:
            self[blob.token] = Receiver.restored(store, blob)
        return self[blob.token]


_WRITE_BYTES = 1 << 20
_REFUSED_BYTES = 1 << 20


class Hangup(Response):
    """No answer at all: the connection is cut."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Cut the connection, and let the server notice before it misses an answer."""
        scope["state"]["cut"]()
        await asyncio.sleep(0)


async def take_put(request: Request, *, service: Service, receivers: Receivers) -> Response:
    """Take one PUT: a question about what has come, or bytes."""
    header = request.headers.get("content-range", "")
    blob = find_upload(service.store, request.path_params["token"])
    if blob is None:
        await read_to_end(request)
        return _json(Refusal(403, "no such upload"))

    try:
        span = read_span(header) if header else Span(0, None)
    except Refusal as refusal:
        await _discard(request, service.traffic)
        return _json(refusal)

    if span.start is None:
        service.traffic.count(f"{UPLOAD} query")
        return Response(status_code=200) if blob.sha256 else _incomplete(receivers.of(service.store, blob))

    service.traffic.count(UPLOAD)
    fault = service.faults.candidate(UPLOAD)
    effect = fault.effect if fault else None
    if isinstance(effect, Instead):
        await _discard(request, service.traffic)
        response: Response = JSONResponse(effect.answer.body, effect.answer.status)
    elif isinstance(effect, Page) and not effect.after:
        await _discard(request, service.traffic)
        response = Response(effect.text, effect.status, media_type=effect.kind)
    elif blob.sha256:
        await _discard(request, service.traffic)
        response = Response(status_code=200)
    else:
        receiver = receivers.of(service.store, blob)
        response = await _receive(request, receiver, effect, span=span, traffic=service.traffic)
        if receiver.blob.sha256:
            receivers.pop(blob.token, None)

    if fault:
        service.faults.struck(fault)
    return await _delivered(effect, response)


async def read_to_end(request: Request) -> None:
    """Read what a refused client is still sending, so that it sees the answer; not more than is usual."""
    seen = 0
    try:
        async for chunk in request.stream():
            seen += len(chunk)
            if seen > _REFUSED_BYTES:
                return
    except ClientDisconnect:
        return


async def _receive(
    request: Request, receiver: Receiver, effect: Effect | None, *, span: Span, traffic: Traffic
) -> Response:
    """Take the bytes that come, up to where a fault cuts them off."""
    if span.total is None:
        receiver.restart()
    start = span.start or 0
    if start > receiver.received:
        await _discard(request, traffic)
        return _json(Refusal(400, f"bytes from {start} came, those from {receiver.received} are missing"))

    # Bytes that are here already come again after a cut that the client did not notice.
    skip = receiver.received - start
    limit = receiver.blob.size
    if isinstance(effect, Cut):
        limit = min(receiver.received + effect.after_bytes, (receiver.received + limit) // 2)
    async for piece in _pieces(request, traffic):
        fresh, skip = piece[skip:], max(0, skip - len(piece))
        if isinstance(effect, Cut) and receiver.received + len(fresh) >= limit:
            receiver.write(fresh[: limit - receiver.received])
            return Hangup()
        receiver.write(fresh)

    if receiver.received > receiver.blob.size:
        receiver.restart()
        return _json(Refusal(400, f"more came than the {receiver.blob.size} bytes that were announced"))
    if receiver.received < receiver.blob.size:
        return _incomplete(receiver)
    receiver.finish()
    return Hangup() if isinstance(effect, Cut) else Response(status_code=200)


def _incomplete(receiver: Receiver) -> Response:
    """308 with the range that has come; no range where nothing has."""
    headers = {"Range": f"bytes=0-{receiver.received - 1}"} if receiver.received else {}
    return Response(status_code=308, headers=headers)


async def _delivered(effect: Effect | None, response: Response) -> Response:
    if isinstance(effect, Lose):
        return Hangup()
    if isinstance(effect, Page) and effect.after:
        return Response(effect.text, effect.status, media_type=effect.kind)
    if isinstance(effect, Delay):
        await asyncio.sleep(effect.seconds)
    return response


async def _pieces(request: Request, traffic: Traffic) -> AsyncIterator[bytes]:
    """The body in pieces of a good size for writing; it ends early, without complaint, where the client goes away."""
    waiting = bytearray()
    try:
        async for chunk in request.stream():
            traffic.count(UPLOAD, len(chunk), requests=0)
            waiting += chunk
            if len(waiting) >= _WRITE_BYTES:
                yield bytes(waiting)
                waiting.clear()
    except ClientDisconnect:
        pass
    if waiting:
        yield bytes(waiting)


async def _discard(request: Request, traffic: Traffic) -> None:
    async for _ in _pieces(request, traffic):
        pass


def _json(refusal: Refusal) -> Response:
    return JSONResponse(refusal.answer().body, refusal.status)


ROUTES: dict[str, Handler] = {"blobs.BlobApiService/StartBlobUpload": start_blob_upload}
