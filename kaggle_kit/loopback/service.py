"""What every handler is given: the one user and the limits, the memory, the faults, the runs, the judge."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from kaggle_kit.loopback.protocol import Answer, Json, Refusal, owner_of
from kaggle_kit.loopback.worlds import ActiveWorlds

if TYPE_CHECKING:
    from kaggle_kit.loopback.faults import ActiveFaults
    from kaggle_kit.loopback.runs import Runs
    from kaggle_kit.loopback.store import Store

# The score of a submission file in a competition; an exception's text becomes the submission's error.
Judge = Callable[[str, Path], float]

USERNAME = "rehearsal"
INTROSPECT = "security.OAuthService/IntrospectToken"


@dataclass(frozen=True)
class Settings:
    """The user and the limits.

    `token` is the user's login, another one for each server: whoever knows it can push a notebook, which then runs.
    `polls_until_ready` is how often a client hears that a dataset or model version is still processed;
    `polls_until_scored` the same for a submission; `queued_polls` how often a started run still says QUEUED.
    `gpu_sessions` is how many GPU runs may be queued or running at once, `gpu_hours` the week's allowance.
    `refuse_while_processing`: a dataset takes no new version before the last one is processed (403, as reported for
    Kaggle); without it, a client that repeats a call makes two versions.
    `clock` gives the time in UTC; a day's submissions are counted by its date.
    """

    username: str = USERNAME
    token: str = field(default_factory=partial(secrets.token_urlsafe, 32), repr=False)
    polls_until_ready: int = 2
    polls_until_scored: int = 1
    queued_polls: int = 1
    gpu_sessions: int = 2
    cpu_sessions: int = 10
    gpu_hours: float = 30.0
    refuse_while_processing: bool = True
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass
class Traffic:
    """What came in, since the server was made or since `reset`: requests and bytes per route, and the hosts meant.

    Routes are `SERVICE/METHOD`, "PUT upload", "PUT upload query", "GET log stream", "GET file". `bytes` counts the
    bodies that came. `strangers` are requests for hosts other than this one: each was refused, none was passed on.
    """

    requests: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    hosts: Counter[str] = field(default_factory=Counter)
    strangers: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, route: str, size: int = 0, *, requests: int = 1) -> None:
        """Note a request, or some bytes of one."""
        with self._lock:
            self.requests[route] += requests
            self.bytes[route] += size

    @property
    def uploaded(self) -> int:
        """The bytes of all uploads' bodies, those of cut and repeated ones included."""
        return self.bytes["PUT upload"]

    def reset(self) -> None:
        """Count from zero again."""
        with self._lock:
            for counter in (self.requests, self.bytes, self.hosts, self.strangers):
                counter.clear()


@dataclass
class Service:
    """The parts of one loopback Kaggle. `url` is its address, known once it listens."""

    store: Store
    settings: Settings
    faults: ActiveFaults
    runs: Runs
    judge: Judge
    worlds: ActiveWorlds = field(default_factory=ActiveWorlds)
    traffic: Traffic = field(default_factory=Traffic)
    url: str = field(default="")
    _key: bytes = field(default_factory=partial(secrets.token_bytes, 32), repr=False)

    def now(self) -> str:
        """The time as the protocol writes it."""
        return self.settings.clock().strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"

    def file_url(self, path: str, *, kind: str = "files") -> str:
        """The address of a file, or of an archive: clients fetch it without a login, so nobody else must guess it."""
        return f"{self.url}/{kind}/{self._signature(kind, path)}/{quote(path)}"

    def download(self, place: str, name: object) -> Answer:
        """The way to a file of `place` (the path of a version), or to the archive of all its files."""
        url = self.file_url(f"{place}/{name}") if name else self.file_url(f"{place}.zip", kind="archives")
        return Answer(302, {}, {"Location": url})

    def check_file_url(self, kind: str, signature: str, path: str) -> None:
        """Raise Refusal unless this server has made the address."""
        given = signature.encode(errors="surrogatepass")
        if not hmac.compare_digest(given, self._signature(kind, path).encode()):
            raise Refusal(403, "this address was not made by this server")

    def _signature(self, kind: str, path: str) -> str:
        digest = hmac.digest(self._key, f"{kind}/{path}".encode(errors="surrogatepass"), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def is_own(self, ref: str) -> bool:
        """Whether a reference is to something of the server's user."""
        return owner_of(ref) == self.settings.username

    def check_own(self, ref: str, what: str) -> None:
        """Raise Refusal unless `ref` is the user's: nobody writes what belongs to another."""
        if not self.is_own(ref):
            raise Refusal(403, f"Permission '{what}' was denied")

    def check_login(self, authorization: str) -> None:
        """Raise Refusal unless the header carries the user's token, as bearer or as the key of a legacy login."""
        kind, _, value = authorization.partition(" ")
        expected = self.settings.token

        if kind.lower() == "basic":
            try:
                value = base64.b64decode(value, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                value = ""
            expected = f"{self.settings.username}:{expected}"

        if not _same(value, expected):
            raise Refusal(401, "Unauthenticated")


# What answers a call: a reply's body, or a whole answer.
Handler = Callable[[Service, Json], Json | Answer]


def introspect_token(service: Service, request: Json) -> Json:
    """Whose token this is: the answer by which the client learns its user name."""
    if not _same(str(request.get("token") or ""), service.settings.token):
        return {"active": False}
    return {"active": True, "username": service.settings.username, "userId": 1, "scope": "resources.admin:*"}


def _same(given: str, expected: str) -> bool:
    """Whether two texts are the same, in a time that does not say how much of them is."""
    return secrets.compare_digest(given.encode(errors="surrogatepass"), expected.encode())


ROUTES: dict[str, Handler] = {INTROSPECT: introspect_token}
