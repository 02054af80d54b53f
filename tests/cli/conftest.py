"""A desk for the tests of the commands that speak to Kaggle; nothing here can reach the real one."""

import os
from dataclasses import replace

import pytest
from desk import TOKEN, Desk

from kaggle_kit.loopback.server import LoopbackKaggle, unwanted, variables
from kaggle_kit.loopback.service import Settings
from kaggle_kit.remote.client import client

QUICK = replace(
    client.REHEARSAL, first_s=0.01, longest_s=0.05, settle_s=0.3, poll_s=0.01, ready_s=2, queue_s=1, score_s=2
)


@pytest.fixture(autouse=True)
def _filled_here(filled_here):
    """No test of a command is of the process that fills templates in: tests/notebook has those."""


@pytest.fixture
def desk(minimal, tmp_path, monkeypatch, capsys):
    """The minimal project, built, and an account at a Kaggle that has its wheelhouse."""
    for name in ("home", "tmp", "data", "wheels"):
        (tmp_path / name).mkdir()
    (tmp_path / "data" / "test.csv").write_text("id\n1\n")
    (tmp_path / "wheels" / "one.txt").write_text("one")
    (minimal / "model").mkdir()
    (minimal / "model" / "config.json").write_text("{}\n")
    monkeypatch.setattr(client, "REHEARSAL", QUICK)

    def run(asked):
        return desk.runner(asked)

    kaggle = LoopbackKaggle(
        tmp_path / "kaggle",
        runner=run,
        judge=lambda *_: 0.75,
        settings=Settings(username="ada", token=TOKEN),
    )
    desk = Desk(minimal, kaggle, lambda: tuple(capsys.readouterr()))
    with kaggle:
        kaggle.add_competition("best-answer", tmp_path / "data")
        for reference in ("ada/wheels-t4", "ada/wheels-t4-kit"):
            kaggle.add_dataset(reference, tmp_path / "wheels", private=True)
        for name in [name for name in os.environ if unwanted(name)]:
            monkeypatch.delenv(name)
        told = variables(kaggle.port, tmp_path / "home", tmp_path / "tmp", token=TOKEN)
        for name, value in (told | {"KIT_CACHE_DIR": str(tmp_path / "cache")}).items():
            monkeypatch.setenv(name, value)
        assert desk.kit("build", "answer", "--unproved").code == 0
        yield desk
    assert kaggle.mistakes == ()
    assert not kaggle.traffic.strangers
