"""A package index on the loopback, with small true wheels, that can be told to misbehave."""

import hashlib
import io
import json
import re
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote


def make_wheel(file: str, *, requires: tuple[str, ...] = (), padding: int = 0) -> bytes:
    """A wheel that installs one module of one line; `padding` bytes make it longer."""
    name, version, *tag = file.removesuffix(".whl").split("-")
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {need}\n" for need in requires)
    members = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {'-'.join(tag[-3:])}\n",
    }
    if padding:
        members[f"{name}_padding.txt"] = "0123456789abcdef" * (padding // 16)
    record = "".join(f"{member},,\n" for member in [*members, f"{info}/RECORD"])
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for member, text in (members | {f"{info}/RECORD": record}).items():
            archive.writestr(zipfile.ZipInfo(member), text)
    return body.getvalue()


@dataclass
class Index:
    """Serves `files`; `cuts` and `statuses` are taken from the front, one for each request of that file.

    With `uploaded` (file to moment) its pages are JSON (PEP 691, 700), which alone can tell of upload times.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    honours_range: bool = True
    told_hashes: dict[str, str] = field(default_factory=dict)
    uploaded: dict[str, str] = field(default_factory=dict)
    withdrawn: set[str] = field(default_factory=set)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    port: int = 0

    def add(self, file: str, *, requires: tuple[str, ...] = (), padding: int = 0) -> bytes:
        self.files[file] = make_wheel(file, requires=requires, padding=padding)
        return self.files[file]

    def url(self, file: str) -> str:
        return f"http://127.0.0.1:{self.port}/files/{quote(file)}"

    @property
    def simple(self) -> str:
        return f"http://127.0.0.1:{self.port}/simple/"

    def page(self, package: str) -> str | None:
        links = [
            f'<a href="{self.url(file)}#sha256={self.told_hashes.get(file) or hashlib.sha256(body).hexdigest()}"'
            f"{' data-yanked' if file in self.withdrawn else ''}>{file}</a>"
            for file, body in self.files.items()
            if re.sub(r"[-_.]+", "-", file.split("-")[0]).lower() == package
        ]
        return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>" if links else None

    def json_page(self, package: str) -> str | None:
        files = [
            {
                "filename": file,
                "url": self.url(file),
                "hashes": {"sha256": hashlib.sha256(body).hexdigest()},
                "size": len(body),
                **({"upload-time": self.uploaded[file]} if file in self.uploaded else {}),
            }
            for file, body in self.files.items()
            if re.sub(r"[-_.]+", "-", file.split("-")[0]).lower() == package
        ]
        body = {"meta": {"api-version": "1.1"}, "name": package, "versions": [], "files": files}
        return json.dumps(body) if files else None

    def gets(self, file: str) -> list[str | None]:
        """The Range header of each GET of `file` so far."""
        return [span for method, name, span in self.requests if method == "GET" and name == file]

    def start(self) -> ThreadingHTTPServer:
        handler = type("Handler", (_Handler,), {"index": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server


class _Handler(BaseHTTPRequestHandler):
    index: Index
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two packets: the second waits for no answer to the first

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_GET(self) -> None:
        self._answer("GET")

    def _answer(self, method: str) -> None:
        where, _, name = self.path.strip("/").partition("/")
        name = unquote(name)
        self.index.requests.append((method, name, self.headers.get("Range")))
        if where == "simple":
            told = bool(self.index.uploaded)
            page = (self.index.json_page if told else self.index.page)(name.strip("/"))
            kind = "application/vnd.pypi.simple.v1+json" if told else "text/html"
            self._send(method, 200 if page else 404, (page or "").encode(), {"Content-Type": kind})
        elif method == "GET" and self.index.statuses.get(name):
            self._send(method, self.index.statuses[name].pop(0), b"", {})
        elif name in self.index.files:
            self._send_file(method, name, self.index.files[name])
        else:
            self._send(method, 404, b"", {})

    def _send_file(self, method: str, name: str, body: bytes) -> None:
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        status, headers = 200, {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        if span and self.index.honours_range:
            first, last = int(span[1]), min(int(span[2] or len(body) - 1), len(body) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            status, body = 206, body[first : last + 1]
        cuts = self.index.cuts.get(name, [])
        cut = cuts.pop(0) if cuts and method == "GET" else None
        self._send(method, status, body, headers, cut=cut)

    def _send(self, method: str, status: int, body: bytes, headers: dict[str, str], *, cut: int | None = None) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if method == "GET":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True
