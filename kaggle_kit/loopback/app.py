"""The loopback Kaggle's HTTP side: calls, uploads, downloads and logs, with the faults that were asked for."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import threading
import zipfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from kaggle_kit.loopback import competitions, datasets, kernels, models, service, uploads
from kaggle_kit.loopback.competitions import data_files, find_competition
from kaggle_kit.loopback.faults import FILE, LOG_STREAM, Cut, Delay, Drop, Edit, Instead, Lose
from kaggle_kit.loopback.protocol import Answer, Json, Refusal, version_asked
from kaggle_kit.loopback.runs import ended
from kaggle_kit.loopback.uploads import Hangup, Receivers, read_to_end, take_put
from kaggle_kit.loopback.versions import readable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from kaggle_kit.loopback.faults import Fault
    from kaggle_kit.loopback.records import StoredFile
    from kaggle_kit.loopback.service import Service, Traffic


Files = tuple[tuple[str, Path], ...]

HANDLERS = service.ROUTES | datasets.ROUTES | models.ROUTES | kernels.ROUTES | competitions.ROUTES | uploads.ROUTES
# Of the address of a file: how many parts name the version; the rest is the file's path in it.
_DEPTHS = {"dataset": 3, "model": 5, "competition": 1, "output": 3}
_LOG_POLL_SECONDS = 0.05
_QUESTION_BYTES = 1 << 16


class CuttableProtocol(H11Protocol):
    """Applications find `cut` in `scope["state"]`: called, it drops the connection without a word."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection, and hand its abort to the application."""
        connected = cast("asyncio.Transport", transport)
        super().connection_made(connected)
        self.app_state = {**self.app_state, "cut": connected.abort}

    def data_received(self, data: bytes) -> None:
        """Take bytes, and say so at once.

        Towards a proxy the clients' urllib3 keeps Nagle's algorithm on: a request's body waits until its head is
        acknowledged, which by default takes 40 ms. Systems without the option are that much slower.
        """
        if option := getattr(socket, "TCP_QUICKACK", None):
            self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, option, 1)
        super().data_received(data)


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

    def __init__(self, service: Service) -> None:
        self._service = service
        self._receivers = Receivers()
        self.closing = threading.Event()
        self.mistakes: list[BaseException] = []

    def asgi(self) -> ASGIApp:
        """The application as the server library takes it."""
        starlette = Starlette(routes=self.routes(), exception_handlers={Refusal: _refused})
        return Gate(starlette, self._service.traffic)

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
        self._check_caller(route, request)
        content = await request.body()
        self._service.traffic.count(route, len(content))
        body = _json(content)

        fault = self._service.faults.candidate(route, body)
        if instead := self._instead(fault):
            return instead
        if busy := self._service.worlds.instead(route):
            return _response(busy)
        answer = await run_in_threadpool(self._answered, route, _without_dropped(fault, body))
        answer = self._service.worlds.told(route, body, answer)
        return await self._delivered(fault, body, answer)

    def _instead(self, fault: Fault | None) -> Response | None:
        """What a fault gives in place of any handler's answer."""
        match fault.effect if fault else None:
            case Instead(answer):
                return self._struck(fault, _response(answer))
            case Cut():
                return self._struck(fault, Hangup())
        return None

    async def put(self, request: Request) -> Response:
        """One PUT of an upload."""
        return await take_put(request, service=self._service, receivers=self._receivers)

    async def file(self, request: Request, *, kind: str) -> Response:
        """A file or an archive, by an address that this server has made. Range requests are answered."""
        signature, path = request.path_params["signature"], request.path_params["path"]
        self._service.check_file_url(kind, signature, path)
        self._service.traffic.count(FILE)
        if instead := self._instead(self._service.faults.candidate(FILE, {})):
            return instead
        behind = archive_behind if kind == "archives" else file_behind
        return FileResponse(await run_in_threadpool(behind, self._service, path))

    async def log_stream(self, request: Request) -> Response:
        """A run's log: events as they come while it runs, all at once afterwards."""
        asked = {
            "userName": request.path_params["owner"],
            "kernelSlug": request.path_params["slug"],
            "versionLabel": request.query_params.get("versionLabel"),
        }
        self._service.check_login(request.headers.get("authorization", ""))
        self._service.traffic.count(LOG_STREAM)
        if instead := self._instead(self._service.faults.candidate(LOG_STREAM, {})):
            return instead
        kernel, version = kernels.find_version(self._service, asked)

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
        if route != service.INTROSPECT:
            self._service.check_login(request.headers.get("authorization", ""))
            return
        # The one question without a login, for it is asked with the token: from anybody, so only a short one.
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > _QUESTION_BYTES:
            raise Refusal(413, "a token is not as long as this")

    def _answered(self, route: str, body: Json) -> Answer:
        """What the call's handler says. All that it changes is written together."""
        try:
            with self._service.store.change():
                handler = HANDLERS.get(route)
                if handler is None:
                    return Refusal(501, f"the loopback Kaggle has no {route}").answer()
                return _whole(handler(self._service, body))
        except Refusal as refusal:
            return refusal.answer()
        except Exception as mistake:  # noqa: BLE001 - kept for who rehearses, and answered as a failure
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
                    return self._struck(fault, _response(_whole(changed)))
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


async def _refused(request: Request, refusal: Exception) -> Response:
    """The answer to a request that is not carried out, once its body has come: then the client sees it."""
    await read_to_end(request)
    return _response(cast("Refusal", refusal).answer())


def _json(content: bytes) -> Json:
    try:
        body = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise Refusal(400, "the body is no JSON object")
    return body


def _without_dropped(fault: Fault | None, body: Json) -> Json:
    """The request as the handler sees it: without the entry that a fault drops."""
    if fault and isinstance(fault.effect, Drop):
        return body | {fault.effect.field: body[fault.effect.field][1:]}
    return body


def _whole(reply: Json | Answer) -> Answer:
    return reply if isinstance(reply, Answer) else Answer(200, reply)


def _response(answer: Answer) -> Response:
    return JSONResponse(answer.body, answer.status, dict(answer.headers))


def file_behind(service: Service, path: str) -> Path:
    """The file behind `/files/…`. Raises Refusal."""
    kind, _, rest = path.partition("/")
    parts = rest.split("/")
    depth = _DEPTHS.get(kind, 0)
    name = "/".join(parts[depth:])

    for known, file in _files(service, kind, parts[:depth]):
        if known == name and file.is_file():
            return file
    raise Refusal(404, f"there is no file {path}")


def archive_behind(service: Service, path: str) -> Path:
    """The zip file behind `/archives/….zip`, made at the first request. Raises Refusal."""
    kind, _, rest = path.removesuffix(".zip").partition("/")
    files = _files(service, kind, rest.split("/"))
    if not files:
        raise Refusal(404, f"there is no archive {path}")

    target = service.store.folder / "archives" / path
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        with zipfile.ZipFile(part, "w") as archive:
            for name, file in files:
                archive.write(file, name)
        shutil.move(part, target)
    return target


def _files(service: Service, kind: str, parts: list[str]) -> Files:
    """The files of the version that an address names; `parts` are those of the address after the kind."""
    if len(parts) != _DEPTHS.get(kind):
        return ()
    match kind:
        case "dataset":
            dataset = datasets.find_dataset(service, "/".join(parts[:2]))
            return _stored(service, readable(dataset, parts[2]).files)
        case "model":
            variation = models.find_variation(service, "/".join(parts[:4]))
            return _stored(service, readable(variation, parts[4]).files)
        case "competition":
            return data_files(find_competition(service, parts[0]))
        case _:
            return service.runs.output("/".join(parts[:2]), version_asked(parts[2]) or 0)


def _stored(service: Service, files: tuple[StoredFile, ...]) -> Files:
    return tuple((file.name, service.store.object(file.sha256)) for file in files)
