"""A project and a Kaggle for each test of a whole push; nothing here can reach the real one."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from push_project import COMPETITION, SETTINGS, TOKEN, World, judge, make_project, run

from kaggle_kit.loopback.server import LoopbackKaggle, unwanted, variables
from kaggle_kit.remote.client import client

QUICK = replace(
    client.REHEARSAL, first_s=0.01, longest_s=0.05, settle_s=0.3, poll_s=0.01, ready_s=1, queue_s=0, score_s=1
)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project that tests copy: built once."""
    root = tmp_path_factory.mktemp("push") / "project"
    make_project(root)
    return root


@pytest.fixture
def make(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> Iterator[Callable[..., World]]:
    """A function: a copy of the project, an empty Kaggle, and this process's environment pointed to it."""
    servers: list[LoopbackKaggle] = []
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path / "cache"))
    root = Path(shutil.copytree(project, tmp_path / "project", dirs_exist_ok=True))
    for name in ("home", "tmp", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "data" / "test.csv").write_text("id\n1\n")
    monkeypatch.setattr(client, "REHEARSAL", QUICK)

    def make(*, settings=SETTINGS, runner=run, port=0, worlds=()) -> World:
        folder = tmp_path / "kaggle"
        server = LoopbackKaggle(folder, runner=runner, judge=judge, settings=settings, worlds=worlds, port=port)
        server.start()
        servers.append(server)
        server.add_competition(COMPETITION, tmp_path / "data")
        for name in [name for name in os.environ if unwanted(name)]:
            monkeypatch.delenv(name)
        told = variables(server.port, tmp_path / "home", tmp_path / "tmp", token=TOKEN)
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        return World(root, server, dict(os.environ), lambda: tuple(capsys.readouterr()))

    yield make
    for server in servers:
        server.stop()
        assert server.mistakes == ()
        assert not server.traffic.strangers


@pytest.fixture
def world(make: Callable[..., World]) -> World:
    """A project, and an empty Kaggle."""
    return make()
