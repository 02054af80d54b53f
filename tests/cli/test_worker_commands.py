"""The commands that start a worker: sealed, and with no code of the project's unless the user says so."""

import click
import pytest

from kaggle_kit.cli.main import run
from kaggle_kit.cli.model_compare import compare
from kaggle_kit.cli.model_quantize import quantize
from kaggle_kit.cli.scoring import open_seal, score
from kaggle_kit.errors import KitError
from kaggle_kit.runtime.launch import launch_plain
from kaggle_kit.sandbox.worker_seal import SealedLaunch


def commands():
    from kaggle_kit.cli.bench import bench
    from kaggle_kit.cli.evaluation import evaluate

    return {"score": score, "eval": evaluate, "bench": bench, "model compare": compare, "model quantize": quantize}


@pytest.mark.parametrize("name", ["score", "eval", "bench", "model compare", "model quantize"])
def test_each_has_the_seal_and_the_trust(name):
    """None of the five runs a model without the choice of its seal."""
    options = {word for one in commands()[name].params if isinstance(one, click.Option) for word in one.opts}
    assert {"--seal", "--trust-remote-code"} <= options


@pytest.fixture
def trusting(minimal, monkeypatch, edit):
    """A project whose kit.toml has the model's own code run, and a table."""
    edit(minimal / "kit.toml", "engine_options.trust_remote_code = true")
    (minimal / "in.csv").write_text("id,question,first,second\n1,x,1,0\n", encoding="utf-8")
    monkeypatch.chdir(minimal)
    return minimal


REFUSED = {
    "score": ["score", "in.csv", "-o", "out.csv"],
    "eval": ["eval", "answer", "-o", "out.parquet", "--data", "in.csv"],
    "bench": ["bench", "answer", "--data", "."],
    "build": ["build", "--unproved"],
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_clone_that_trusts_itself_is_refused(trusting, capsys, name, listing):
    """Before anything is fetched or written, with 2 and the way out."""
    before = listing(trusting)
    assert run(REFUSED[name]) == 2
    assert "trust_remote_code = True" in capsys.readouterr().err
    assert listing(trusting) == before


@pytest.mark.parametrize("name", ["bwrap", "unshare"])
def test_the_seal_is_said_before(capsys, name):
    """A strong seal by its name; what starts workers is sealed."""
    try:
        seal = open_seal(name)
    except KitError as error:
        pytest.skip(str(error))
    assert capsys.readouterr().err.startswith(f"seal: {name}")
    assert isinstance(seal.launch(cards=False), SealedLaunch)


def test_no_seal_is_said_plainly(capsys):
    """Who asks for none is told what that leaves open."""
    seal = open_seal("none")
    assert "reaches the network" in capsys.readouterr().err
    assert seal.launch(cards=True) is launch_plain
    assert seal.unsealed


def test_a_push_of_what_brings_code_needs_the_word_too(desk, edit):
    """A build that trusts is not sent by who did not say so himself: it would run on his account."""
    edit(desk.root / "kit.toml", "engine_options.trust_remote_code = true")
    assert desk.kit("build", "answer", "--unproved", "--trust-remote-code").code == 0
    for command in ("plan", "push"):
        refused = desk.kit(command, "answer", "--unproved")
        assert refused.code == 2
        assert "trust_remote_code = True" in refused.err
    assert desk.kit("push", "answer", "--unproved", "--trust-remote-code").code == 0
