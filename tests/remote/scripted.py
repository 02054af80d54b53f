"""A server on 127.0.0.1 that answers what a test tells it to: for answers that no sound server gives."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from kaggle_kit.retry import REHEARSAL

QUICK = replace(REHEARSAL, attempts=3, first_s=0.01, longest_s=0.02, settle_s=0.1, poll_s=0.01, connect_s=2, read_s=2)
REF = "rehearsal/score-it"
SOURCE = json.dumps({"cells": [{"cell_type": "code", "source": "x = 1"}]})
META = {"id": REF, "title": "Score it", "competition_sources": ["preferences"]}

CUT = "cut"
TOKEN = "scripted-token-0123456789"
KEY = "scripted-key-9876543210"


@dataclass(frozen=True)
class Reply:
    """A whole answer. `length` is a Content-Length other than the body's, for answers that break off."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    after_s: float = 0.0


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.body)


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that hangs up is what some tests are about."""


class Scripted:
    """Answers by the last part of the path. A list's last answer is given again and again."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Any]] = {}
        self.seen: list[Seen] = []
        self._lock = threading.Lock()
        self._server = _Quiet(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def on(self, name: str, *answers: Any) -> None:
        """Answer calls of `name` with these: a dict, a Reply, CUT, or a function of the request that gives one."""
        self.answers[name] = list(answers)

    def calls(self, name: str) -> list[Seen]:
        """The requests to `name` that came."""
        return [one for one in self.seen if urlsplit(one.target).path.rpartition("/")[2] == name]

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, seen: Seen) -> Any:
        """The next answer to a request."""
        with self._lock:
            self.seen.append(seen)
            queue = self.answers.get(urlsplit(seen.target).path.rpartition("/")[2])
            if not queue:
                return Reply(404, {"code": 404, "message": "Not found"})
            found = queue.pop(0) if len(queue) > 1 else queue[0]
        return found(seen) if isinstance(found, Callable) else found

    def _handler(script) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Headers and body are two packets: the second waits for no answer to the first.
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                found = script.answer(Seen(self.command, self.path, dict(self.headers), body))
                if found == CUT:
                    self.close_connection = True
                    return
                reply = found if isinstance(found, Reply) else Reply(body=found)
                time.sleep(reply.after_s)
                self._write(reply)

            def _write(self, reply: Reply) -> None:
                text = isinstance(reply.body, bytes)
                data = reply.body if text else json.dumps(reply.body).encode() if reply.body is not None else b""
                headers = {"Content-Type": "application/json"} | reply.headers
                self.send_response(reply.status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data) if reply.length is None else reply.length))
                self.end_headers()
                self.wfile.write(data)
                self.close_connection = reply.length is not None

            do_GET = do_POST = do_PUT = _serve  # noqa: N815

        return Handler
