"""The client's tests: an empty home, a cache of their own, and no way to the real Kaggle."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from scripted import META, QUICK, REF, SOURCE, TOKEN, Scripted

from kaggle_kit.loopback.faults import FAULTS
from kaggle_kit.loopback.runs import KernelRun, RunOutcome
from kaggle_kit.loopback.server import LoopbackKaggle
from kaggle_kit.remote.client import notebooks
from kaggle_kit.remote.client.client import Client
from kaggle_kit.remote.client.credentials import log_in
from kaggle_kit.remote.client.endpoint import endpoint_from_environment
from kaggle_kit.remote.client.login import Login, Secret


@pytest.fixture(autouse=True)
def _filled_here(filled_here: None) -> None:
    """Builds are what these tests push, and not what they test."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, without proxies; what would go out over TLS ends at a port where nothing listens."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def point(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:  # noqa: ARG001
    """A function: point the client to a port of this machine."""

    def to(port: int) -> None:
        monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")

    return to


@pytest.fixture
def script(point: Callable[[int], None]) -> Iterator[Scripted]:
    """A server that answers what the test tells it to."""
    server = Scripted()
    point(server.port)
    yield server
    server.close()


@pytest.fixture
def client(script: Scripted) -> Iterator[Client]:  # noqa: ARG001
    """A client to the scripted server, whose waits are short."""
    login = Login("me", "access token", endpoint_from_environment(), token=Secret(TOKEN))
    opened = Client(login, patience=QUICK)
    yield opened
    opened.close()


def run(run: KernelRun) -> RunOutcome:
    """A notebook's run: two lines of log, a submission and a file in a folder."""
    run.say("begin")
    (run.out / "logs").mkdir()
    (run.out / "logs" / "worker.txt").write_text("worked\n")
    (run.out / "submission.csv").write_text("id,a\n1,0.5\n")
    run.say("end")
    return RunOutcome("COMPLETE")


@pytest.fixture
def kaggle(tmp_path: Path, point: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackKaggle]:
    """The loopback Kaggle with a competition, and the environment that points to it. It must not fail by itself."""
    data = tmp_path / "competition"
    data.mkdir()
    (data / "test.csv").write_text("id\n1\n")
    with LoopbackKaggle(tmp_path / "kaggle", runner=run, judge=lambda _slug, _path: 0.75) as server:
        server.add_competition("preferences", data)
        point(server.port)
        monkeypatch.setenv("KAGGLE_API_TOKEN", server.settings.token)
        yield server
        assert server.mistakes == ()
        assert not server.traffic.strangers


@pytest.fixture
def inside(kaggle: LoopbackKaggle) -> Iterator[Client]:  # noqa: ARG001
    """A client to the loopback Kaggle, by the real login."""
    opened = Client(log_in(patience=QUICK), patience=replace(QUICK, attempts=4, settle_s=1.0))
    yield opened
    opened.close()


@pytest.fixture
def fault(kaggle: LoopbackKaggle) -> Callable[[str], None]:
    """A function: ask the loopback Kaggle for a fault."""
    return lambda name: kaggle.faults.add(FAULTS[name])


@pytest.fixture
def ran(inside: Client) -> int | None:
    """A notebook whose run is complete."""
    version = notebooks.push(inside, META, SOURCE, session_timeout_s=60).version
    for _ in range(200):
        if notebooks.status(inside, REF, version).ended:
            return version
        inside.sleep(0.02)
    return None
