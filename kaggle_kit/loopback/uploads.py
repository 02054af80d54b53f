"""The HTTP side of uploads: one PUT, whole or resumed, cut or answered as a fault says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from kaggle_kit.loopback.blobs import Receiver, Receivers, Span, find_upload, read_span
from kaggle_kit.loopback.effects import Cut, Delay, Instead, Lose
from kaggle_kit.loopback.faults import UPLOAD
from kaggle_kit.loopback.replies import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from kaggle_kit.loopback.effects import Effect
    from kaggle_kit.loopback.records import Blob
    from kaggle_kit.loopback.service import Service
    from kaggle_kit.loopback.traffic import Traffic

_WRITE_BYTES = 1 << 20
_REFUSED_BYTES = 1 << 20


class Hangup(Response):
    """No answer at all: the connection is cut."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Cut the connection, and let the server notice before it misses an answer."""
        scope["state"]["cut"]()
        await asyncio.sleep(0)


async def upload(request: Request, *, service: Service, receivers: Receivers, traffic: Traffic) -> Response:
    """Take one PUT: a question about what has come, or bytes."""
    header = request.headers.get("content-range", "")
    blob = find_upload(service.store, request.path_params["token"])
    if blob is None:
        await drained(request)
        return _json(Refusal(403, "no such upload"))
    try:
        span = read_span(header) if header else Span(0, -1)
    except Refusal as refusal:
        await _drained(request, traffic)
        return _json(refusal)
    if span.start is None:
        traffic.count(f"{UPLOAD} query")
        return _progress(blob, receivers)
    traffic.count(UPLOAD)
    fault = service.faults.candidate(UPLOAD)
    effect = fault.effect if fault else None
    if isinstance(effect, Instead):
        await _drained(request, traffic)
        response: Response = JSONResponse(effect.answer.body, effect.answer.status)
    elif blob.sha256:
        await _drained(request, traffic)
        response = Response(status_code=200)
    else:
        response = await _taken(request, receivers.of(blob), effect, span=span, whole=not header, traffic=traffic)
        if receivers.of(blob).complete:
            receivers.done(blob)
    if fault:
        service.faults.struck(fault)
    return await _delivered(effect, response)


async def drained(request: Request) -> None:
    """Read what a refused client is still sending, so that it sees the answer; not more than is usual."""
    seen = 0
    try:
        async for chunk in request.stream():
            seen += len(chunk)
            if seen > _REFUSED_BYTES:
                return
    except ClientDisconnect:
        return


async def _taken(
    request: Request, receiver: Receiver, effect: Effect | None, *, span: Span, whole: bool, traffic: Traffic
) -> Response:
    """Take the bytes that come, up to where a fault cuts them off."""
    if whole:
        receiver.restart()
    start = span.start or 0
    if start > receiver.received:
        await _drained(request, traffic)
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


def _progress(blob: Blob, receivers: Receivers) -> Response:
    return Response(status_code=200) if blob.sha256 else _incomplete(receivers.of(blob))


def _incomplete(receiver: Receiver) -> Response:
    """308 with the range that has come; no range where nothing has."""
    come = {"Range": f"bytes=0-{receiver.received - 1}"} if receiver.received else {}
    return Response(status_code=308, headers=come)


async def _delivered(effect: Effect | None, response: Response) -> Response:
    if isinstance(effect, Lose):
        return Hangup()
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


async def _drained(request: Request, traffic: Traffic) -> None:
    async for _ in _pieces(request, traffic):
        pass


def _json(refusal: Refusal) -> Response:
    return JSONResponse({"code": refusal.status, "message": refusal.message}, refusal.status)
