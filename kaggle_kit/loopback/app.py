"""The loopback Kaggle's HTTP side: calls, uploads, downloads and logs, with the faults that were asked for."""

from __future__ import annotations

import asyncio
import json
import threading
from functools import partial
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from kaggle_kit.loopback import account, blobs, competitions, datasets, downloads, kernels, models
from kaggle_kit.loopback.effects import Cut, Delay, Drop, Edit, Instead, Lose
from kaggle_kit.loopback.replies import Answer, Json, Refusal
from kaggle_kit.loopback.runs import ended
from kaggle_kit.loopback.uploads import Hangup, drained, upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from kaggle_kit.loopback.faults import Fault
    from kaggle_kit.loopback.service import Service
    from kaggle_kit.loopback.traffic import Traffic

HANDLERS = (
    account.ROUTES
    | datasets.ROUTES
    | models.ROUTES
    | kernels.ROUTES
    | competitions.ROUTES
    | {"blobs.BlobApiService/StartBlobUpload": blobs.start_blob_upload}
)
_BEHIND = {"files": downloads.file_behind, "archives": downloads.archive_behind}
_LOG_POLL_SECONDS = 0.05
_QUESTION_BYTES = 1 << 16


class Gate:
    """Where requests come in: the absolute form of a proxy's is made plain, and other hosts are refused."""

    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self._app = app
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is meant for this server."""
        if scope["type"] != "http":
            return
        host, path = _target(scope)
        self._traffic.hosts[host] += 1
        if scope["method"] == "CONNECT" or host.rsplit(":", 1)[0] not in {"localhost", "127.0.0.1"}:
            self._traffic.strangers[host] += 1
            refusal = Refusal(403, f"this is a rehearsal on 127.0.0.1; {host} is not reached from here")
            await _response(refusal.answer())(scope, receive, send)
            return
        raw = path.encode()
        await self._app({**scope, "path": path, "raw_path": raw, "root_path": ""}, receive, send)


def _target(scope: Scope) -> tuple[str, str]:
    """The host that a request means, and its path there."""
    path = str(scope["path"])
    if path.startswith("http://"):
        host, _, rest = path.removeprefix("http://").partition("/")
        return host, f"/{rest}"
    headers = dict(scope["headers"])
    return headers.get(b"host", b"").decode("latin-1"), path


class Application:
    """The routes of one server. `mistakes` are failures of the server itself, which a test wants to see empty."""

    def __init__(self, service: Service, traffic: Traffic) -> None:
        self._service = service
        self._traffic = traffic
        self._receivers = blobs.Receivers(service.store)
        self.closing = threading.Event()
        self.mistakes: list[BaseException] = []

    def asgi(self) -> ASGIApp:
        """The application as the server library takes it."""
        return Gate(Starlette(routes=self.routes()), self._traffic)

    def routes(self) -> list[Route]:
        """All that is answered. Nothing is without the user's login, or an address that nobody can guess."""
        return [
            Route("/api/v1/kernels/logs/stream/{owner}/{slug}", self.log_stream, methods=["GET"]),
            Route("/api/v1/{service}/{method}", self.call, methods=["POST"]),
            Route("/upload/{token}", self.put, methods=["PUT"]),
            Route("/files/{signature}/{path:path}", partial(self.file, kind="files"), methods=["GET"]),
            Route("/archives/{signature}/{path:path}", partial(self.file, kind="archives"), methods=["GET"]),
        ]

    async def call(self, request: Request) -> Response:
        """One call of the protocol: the login is checked, a fault may strike, a handler answers."""
        route = f"{request.path_params['service']}/{request.path_params['method']}"
        try:
            self._check_caller(route, request)
        except Refusal as refusal:
            await drained(request)
            return _response(refusal.answer())
        content = await request.body()
        self._traffic.count(route, len(content))
        body = _json(content)
        if isinstance(body, Answer):
            return _response(body)
        fault = self._service.faults.candidate(route, body)
        match fault.effect if fault else None:
            case Instead(answer):
                return self._struck(fault, _response(answer))
            case Cut():
                return self._struck(fault, Hangup())
        answer = await run_in_threadpool(self._answered, route, _without_dropped(fault, body))
        return await self._delivered(fault, body, answer)

    async def put(self, request: Request) -> Response:
        """One PUT of an upload."""
        return await upload(request, service=self._service, receivers=self._receivers, traffic=self._traffic)

    async def file(self, request: Request, *, kind: str) -> Response:
        """A file or an archive, by an address that this server has made. Range requests are answered."""
        signature, path = request.path_params["signature"], request.path_params["path"]
        try:
            self._service.check_file_url(kind, signature, path)
            self._traffic.count("GET file")
            found = await run_in_threadpool(_BEHIND[kind], self._service, path)
        except Refusal as refusal:
            return _response(refusal.answer())
        return FileResponse(found)

    async def log_stream(self, request: Request) -> Response:
        """A run's log: events as they come while it runs, all at once afterwards."""
        asked = {
            "userName": request.path_params["owner"],
            "kernelSlug": request.path_params["slug"],
            "versionLabel": request.query_params.get("versionLabel"),
        }
        try:
            account.check_login(self._service, request.headers.get("authorization", ""))
            self._traffic.count("GET log stream")
            kernel, version = kernels.find_version(self._service, asked)
        except Refusal as refusal:
            return _response(refusal.answer())
        if ended(version):
            return JSONResponse(self._service.runs.events(kernel.ref, version.number))
        stream = self._events({**asked, "versionLabel": f"v{version.number}"})
        return StreamingResponse(stream, media_type="text/event-stream")

    async def _events(self, asked: Json) -> AsyncIterator[str]:
        sent = 0
        while not self.closing.is_set():
            kernel, version = kernels.find_version(self._service, asked)
            finished = ended(version)
            events = self._service.runs.events(kernel.ref, version.number)
            for event in events[sent:]:
                yield f"data: {json.dumps(event)}\n\n"
            sent = len(events)
            if finished:
                break
            await asyncio.sleep(_LOG_POLL_SECONDS)
        yield "data: END_OF_LOG\n\n"

    def _check_caller(self, route: str, request: Request) -> None:
        """Raise Refusal unless the login is there, before anything of the body is read."""
        if route != account.INTROSPECT:
            account.check_login(self._service, request.headers.get("authorization", ""))
            return
        # The one question without a login, for it is asked with the token: from anybody, so only a short one.
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > _QUESTION_BYTES:
            raise Refusal(413, "a token is not as long as this")

    def _answered(self, route: str, body: Json) -> Answer:
        """What the call's handler says. All that it changes is written together."""
        try:
            with self._service.store.change():
                if redirect := downloads.ROUTES.get(route):
                    return Answer(302, {}, {"Location": redirect(self._service, body)})
                if handler := HANDLERS.get(route):
                    return Answer(200, handler(self._service, body))
                return Refusal(501, f"the loopback Kaggle has no {route}").answer()
        except Refusal as refusal:
            return refusal.answer()
        except Exception as mistake:  # noqa: BLE001 - kept for the one who rehearses, and answered as a failure
            self.mistakes.append(mistake)
            return Answer(500, {"code": 500, "message": f"the loopback Kaggle failed: {mistake!r}"})

    async def _delivered(self, fault: Fault | None, body: Json, answer: Answer) -> Response:
        """The answer on its way back, where a fault may change, delay or lose it."""
        if fault is None or answer.status != 200:
            return _response(answer)
        match fault.effect:
            case Edit(rewrite):
                changed = rewrite(answer.body)
                if changed is not None:
                    return self._struck(
                        fault, _response(changed if isinstance(changed, Answer) else Answer(200, changed))
                    )
            case Drop(field, reported):
                listed = {reported: [*answer.body.get(reported, ()), body[field][0]]} if reported else {}
                return self._struck(fault, _response(Answer(200, answer.body | listed)))
            case Lose():
                return self._struck(fault, Hangup())
            case Delay(seconds):
                await asyncio.sleep(seconds)
                return self._struck(fault, _response(answer))
        return _response(answer)

    def _struck(self, fault: Fault | None, response: Response) -> Response:
        if fault:
            self._service.faults.struck(fault)
        return response


def _json(content: bytes) -> Json | Answer:
    try:
        body = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        body = None
    return body if isinstance(body, dict) else Refusal(400, "the body is no JSON object").answer()


def _without_dropped(fault: Fault | None, body: Json) -> Json:
    """The request as the handler sees it: without the entry that a fault drops."""
    if fault and isinstance(fault.effect, Drop):
        return body | {fault.effect.field: body[fault.effect.field][1:]}
    return body


def _response(answer: Answer) -> Response:
    return JSONResponse(answer.body, answer.status, dict(answer.headers))
