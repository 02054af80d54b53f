"""What every handler is given: the memory, the settings, the faults, the runs, the judge."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from kaggle_kit.loopback.replies import Json, Refusal

if TYPE_CHECKING:
    from kaggle_kit.loopback.faults import ActiveFaults
    from kaggle_kit.loopback.runs import Runs
    from kaggle_kit.loopback.settings import Settings
    from kaggle_kit.loopback.store import Store

# The score of a submission file in a competition; an exception's text becomes the submission's error.
Judge = Callable[[str, Path], float]

_REFERENCE = re.compile(r"[^/\s]+/[^/\s]+")


@dataclass
class Service:
    """The parts of one loopback Kaggle. `url` is its address, known once it listens."""

    store: Store
    settings: Settings
    faults: ActiveFaults
    runs: Runs
    judge: Judge
    url: str = field(default="")
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def now(self) -> str:
        """The time as the protocol writes it."""
        return self.settings.clock().strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"

    def file_url(self, path: str, *, kind: str = "files") -> str:
        """The address of a file, or of an archive: clients fetch it without a login, so nobody else must guess it."""
        return f"{self.url}/{kind}/{self._signature(kind, path)}/{quote(path)}"

    def check_file_url(self, kind: str, signature: str, path: str) -> None:
        """Raise Refusal unless this server has made the address."""
        given = signature.encode(errors="surrogatepass")
        if not hmac.compare_digest(given, self._signature(kind, path).encode()):
            raise Refusal(403, "this address was not made by this server")

    def _signature(self, kind: str, path: str) -> str:
        made = hmac.digest(self._key, f"{kind}/{path}".encode(errors="surrogatepass"), hashlib.sha256)
        return base64.urlsafe_b64encode(made).decode().rstrip("=")

    def own(self, owner: object, what: str) -> None:
        """Raise Refusal unless `owner` is the server's user: nobody writes what is another's."""
        if owner != self.settings.username:
            raise Refusal(403, f"Permission '{what}' was denied")


Handler = Callable[[Service, Json], Json]


def owner_of(ref: str) -> str:
    """The OWNER of a reference."""
    return ref.partition("/")[0]


def reference(owner: object, slug: object) -> str:
    """OWNER/SLUG. Raises Refusal where one of the two is missing."""
    joined = f"{owner or ''}/{slug or ''}"
    if not _REFERENCE.fullmatch(joined):
        raise Refusal(400, f"{joined!r} is not of the form OWNER/SLUG")
    return joined


def version_asked(label: object) -> int | None:
    """The number in a version label `vN`, or None where no version was asked. A bare number is answered with 404."""
    if not label:
        return None
    text = str(label)
    if not re.fullmatch(r"v[1-9]\d*", text):
        raise Refusal(404, f"no version is called {text!r}; versions are called v1, v2 …")
    return int(text[1:])
