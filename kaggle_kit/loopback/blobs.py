"""Uploads: a session is opened by a call, and its bytes come by PUT, whole or resumed by Content-Range.

The rules are those of the storage behind Kaggle's upload addresses, as far as the official client relies on them.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from kaggle_kit.loopback.records import Blob
from kaggle_kit.loopback.replies import Refusal

if TYPE_CHECKING:
    from pathlib import Path

    from kaggle_kit.loopback.replies import Json
    from kaggle_kit.loopback.service import Service
    from kaggle_kit.loopback.store import Store

_RANGE = re.compile(r"bytes (?:\*|(\d+)-(\d+))/(\d+)")
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Span:
    """What a Content-Range says: the first byte that comes, or None for a question about what has come."""

    start: int | None
    total: int


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
    """What a session is looked up by: how long that takes tells nothing of the token."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def finished_blob(service: Service, token: object) -> Blob:
    """The upload with this token. Raises Refusal where it is not known or not all of it has come."""
    blob = find_upload(service.store, str(token))
    if blob is None:
        raise Refusal(400, f"no upload has the token {token!r}")
    if not blob.sha256:
        raise Refusal(400, f"the upload of {blob.name!r} is not finished")
    return blob


def read_span(header: str) -> Span:
    """What a Content-Range header says. Raises Refusal where it says nothing."""
    found = _RANGE.fullmatch(header.strip())
    if found is None:
        raise Refusal(400, f"Content-Range: {header!r} cannot be read")
    return Span(int(found[1]) if found[1] is not None else None, int(found[3]))


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

    @property
    def complete(self) -> bool:
        """Whether all bytes have come and been put away."""
        return bool(self.blob.sha256)

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


class Receivers:
    """The sessions that this server has open."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: dict[str, Receiver] = {}

    def of(self, blob: Blob) -> Receiver:
        """The session's receiver, restored from the folder where this server has not seen it yet."""
        if blob.token not in self._open:
            self._open[blob.token] = Receiver.restored(self._store, blob)
        return self._open[blob.token]

    def done(self, blob: Blob) -> None:
        """Let go of a finished session."""
        self._open.pop(blob.token, None)
