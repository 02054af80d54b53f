"""A loopback Kaggle for each test, and this process's environment pointed to it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from loopback_client import COMPETITION, Caller, judge, run

from kaggle_kit.loopback.server import LoopbackKaggle, unwanted, variables

Make = Callable[..., LoopbackKaggle]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """A function that starts a server, on `tmp_path/kaggle` unless another folder is named."""
    servers: list[LoopbackKaggle] = []
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("home", "tmp", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "data" / "train.csv").write_text("id\n1\n")
    (tmp_path / "data" / "nested").mkdir()
    (tmp_path / "data" / "nested" / "test.csv").write_text("id\n2\n")

    def make(folder: Path | None = None, **options) -> LoopbackKaggle:
        server = LoopbackKaggle(folder or tmp_path / "kaggle", **({"runner": run, "judge": judge} | options))
        servers.append(server)
        server.start()
        server.add_competition(COMPETITION, tmp_path / "data", daily_submissions=2)
        for name in [name for name in os.environ if unwanted(name)]:
            monkeypatch.delenv(name)
        told = variables(server.port, tmp_path / "home", tmp_path / "tmp", token=server.settings.token)
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        return server

    yield make
    for server in servers:
        server.stop()
        assert server.mistakes == ()
        assert not server.traffic.strangers


@pytest.fixture
def server(make: Make) -> LoopbackKaggle:
    """A server with all settings as they are."""
    return make()


@pytest.fixture
def caller(server: LoopbackKaggle) -> Iterator[Caller]:
    """A client of `server`, logged in."""
    caller = Caller(server.settings.token)
    yield caller
    caller.session.close()


@pytest.fixture
def caller_of() -> Iterator[Callable[[], Caller]]:
    """A function that makes a client of whichever server the environment points to."""
    callers: list[Caller] = []

    def caller_of(token: str | None = None) -> Caller:
        callers.append(Caller(token or os.environ["KAGGLE_API_TOKEN"]))
        return callers[-1]

    yield caller_of
    for caller in callers:
        caller.session.close()
