"""The loopback Kaggle: a server on 127.0.0.1 in a thread of this process, its memory in a folder."""

from __future__ import annotations

import os
import socket
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import uvicorn

from kaggle_kit.errors import RemoteError, UsageError
from kaggle_kit.loopback.app import Application, CuttableProtocol
from kaggle_kit.loopback.competitions import judge_again
from kaggle_kit.loopback.faults import ActiveFaults
from kaggle_kit.loopback.protocol import framework_of
from kaggle_kit.loopback.records import Competition, Dataset, Model, Variation, Version, following
from kaggle_kit.loopback.runs import Runner, Runs, files_below
from kaggle_kit.loopback.service import Judge, Service, Settings
from kaggle_kit.loopback.store import Store, check_mark
from kaggle_kit.loopback.worlds import ActiveWorlds
from kaggle_kit.owners import own_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from kaggle_kit.loopback.faults import Fault
    from kaggle_kit.loopback.versions import Versioned
    from kaggle_kit.loopback.worlds import World

_START_SECONDS = 20.0
_OWN_FOLDER = "What it holds is run and handed out: choose a folder that is yours alone, or a new one"


# A port on which nothing listens: what would go to the real service over TLS ends there.
DEAD_END = "http://127.0.0.1:9"
_UNWANTED_PREFIXES = ("KAGGLE", "XDG_")
_UNWANTED = {"NETRC", "PYTHONPATH", "PYTHONSTARTUP"}


def variables(port: int, home: Path, tmp: Path, *, token: str) -> dict[str, str]:
    """Exactly the variables that point the client to a loopback Kaggle on `port`.

    The client honours LOCALHOST only, and then speaks to http://localhost, port 80: a proxy for plain HTTP brings it to
    any port. `home` must hold no `.kaggle` of its own. `tmp` must belong to this rehearsal: the client keeps unfinished
    uploads there, and would take them up at another server.
    """
    return {
        "HOME": str(home),
        "TMPDIR": str(tmp),
        "KAGGLE_API_TOKEN": token,
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "http_proxy": f"http://127.0.0.1:{port}",
        "https_proxy": DEAD_END,
        "no_proxy": "127.0.0.1",
    }


def environment(
    port: int, home: Path, tmp: Path, *, token: str, base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """A whole environment: `base` (this process's one) without what `unwanted` names, with `variables`."""
    known = dict(os.environ) if base is None else dict(base)
    rest = {name: value for name, value in known.items() if not unwanted(name)}
    return rest | variables(port, home, tmp, token=token)


def unwanted(name: str) -> bool:
    """Whether a variable could lead the client elsewhere: other logins, proxies, configuration and code."""
    return name.startswith(_UNWANTED_PREFIXES) or name in _UNWANTED or name.lower().endswith("_proxy")


class LoopbackKaggle:
    """A Kaggle for rehearsals. Use it as a context manager, or call `start` and `stop`.

    `folder` holds all that it remembers; another server on the same folder goes on. `runner` runs pushed notebooks,
    `judge` scores submissions. It answers as each of `worlds` does. `port` 0 takes any free one. `keep_bytes=False`
    keeps only hashes and sizes of uploads. `folder` is closed to other users. Raises RemoteError if another server uses
    it, UsageError where somebody else could change it, or where it holds what no server of this user has made.
    """

    def __init__(
        self,
        folder: Path,
        *,
        runner: Runner,
        judge: Judge,
        settings: Settings | None = None,
        faults: Iterable[Fault] = (),
        worlds: Iterable[World] = (),
        port: int = 0,
        keep_bytes: bool = True,
    ) -> None:
        own_folder(folder, what="the loopback Kaggle's folder", remedy=_OWN_FOLDER)
        check_mark(folder)

        self.settings = settings or Settings()
        self.faults = ActiveFaults(faults)
        self._store = Store(folder, keep_bytes=keep_bytes)
        runs = Runs(self._store, self.faults, runner, queued_polls=self.settings.queued_polls)
        told = ActiveWorlds(tuple(worlds))
        self._service = Service(self._store, self.settings, self.faults, runs, judge, told)
        self.traffic = self._service.traffic

        self._port = port
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self._application: Application | None = None

    def __enter__(self) -> Self:
        """Start the server."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server."""
        self.stop()

    @property
    def port(self) -> int:
        """The port on which it listens; 0 before `start`, unless one was asked for."""
        return self._port

    @property
    def url(self) -> str:
        """Its address, http://127.0.0.1:PORT."""
        return self._service.url

    @property
    def mistakes(self) -> tuple[BaseException, ...]:
        """Failures of the server's own code. Anything here is a fault of kit, not of what was rehearsed."""
        return tuple(self._application.mistakes) if self._application else ()

    def start(self) -> None:
        """Listen, in a thread. Runs and submissions that an earlier server left unfinished begin again.

        Raises RemoteError if the port is taken.
        """
        listener = self._listener()
        self._application = Application(self._service)
        config = uvicorn.Config(
            self._application.asgi(),
            http=CuttableProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="loopback", daemon=True)
        self._thread.start()

        end = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > end:
                raise RemoteError(f"the loopback Kaggle did not start on port {self._port}")
            time.sleep(0.005)

        self._service.runs.resume()
        judge_again(self._service)

    def stop(self, *, seconds: float = 5.0) -> None:
        """Stop listening, tell the runs to stop, wait so long for them, and close the memory. Twice is no error."""
        if self._application:
            self._application.closing.set()
        if self._server and self._thread:
            self._server.should_exit = True
            self._thread.join(seconds)
        self._service.runs.stop(seconds=seconds)
        self._store.close()

    def environment(self, home: Path, tmp: Path, *, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment in which the official client speaks to this server only; see `environment`."""
        return environment(self.port, home, tmp, token=self.settings.token, base=base)

    def add_competition(
        self,
        slug: str,
        folder: Path,
        *,
        daily_submissions: int = 5,
        code_only: bool = True,
        internet_allowed: bool = False,
    ) -> None:
        """Make a competition known, whose data are the files below `folder`."""
        competition = Competition(slug, str(folder.resolve()), daily_submissions, code_only, internet_allowed)
        self._store.put(slug, competition)

    def add_dataset(self, ref: str, folder: Path, *, private: bool = False) -> None:
        """Make a dataset known, ready, with the files below `folder`: another user's, or one of long ago."""
        known = self._store.get(Dataset, ref)
        if known is None:
            known = Dataset(self._store.next_id(), ref, ref.split("/")[1], "other", private)
        self._store.put(ref, self._with_version(known, folder))

    def add_model(self, ref: str, folder: Path) -> None:
        """Make a public model's variation known, by OWNER/MODEL/FRAMEWORK/VARIATION, ready, with the files of `folder`.

        Raises UsageError if `ref` is not of this form.
        """
        parts = ref.split("/")
        framework = framework_of(parts[2]) if len(parts) == 4 else ""
        if not framework:
            raise UsageError(f"{ref!r} is not of the form OWNER/MODEL/FRAMEWORK/VARIATION")
        owner, model, _, slug = parts
        if self._store.get(Model, f"{owner}/{model}") is None:
            self._store.put(f"{owner}/{model}", Model(self._store.next_id(), f"{owner}/{model}", model, private=False))
        key = f"{owner}/{model}/{framework}/{slug}"
        known = self._store.get(Variation, key) or Variation(self._store.next_id(), key, framework, "other")
        self._store.put(key, self._with_version(known, folder))

    def _with_version(self, known: Versioned, folder: Path) -> Versioned:
        files = tuple(self._store.adopt(path, name) for name, path in files_below(folder))
        version = Version(following(known.versions), files, "", self._service.now())
        return replace(known, versions=(*known.versions, version))

    def _listener(self) -> socket.socket:
        # With its protocol named, asyncio turns Nagle's algorithm off: without that, each reply takes 40 ms.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", self._port))
        except OSError as error:
            listener.close()
            raise RemoteError(f"port {self._port} of 127.0.0.1 cannot be used: {error.strerror}") from None

        self._port = listener.getsockname()[1]
        self._service.url = f"http://127.0.0.1:{self._port}"
        return listener
