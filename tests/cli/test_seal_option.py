"""`--seal`: what runs a stranger's code runs sealed, or says so and stops."""

import pytest

from kaggle_kit.cli.main import run
from kaggle_kit.sandbox import seal


@pytest.fixture
def no_seal(minimal, monkeypatch, tmp_path):
    """The minimal project on a machine on which no strong seal works."""
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(minimal)
    monkeypatch.setattr(seal, "_why_not", lambda _: "user namespaces are not permitted")
    return minimal


@pytest.mark.parametrize("command", ["dryrun", "rehearse"])
def test_without_a_seal_nothing_is_run(no_seal, listing, capsys, command):
    """Exit code 2, the reason, and the ways out; nothing is built, fetched or written."""
    before = listing(no_seal)
    assert run([command, "answer"]) == 2
    said = capsys.readouterr().err
    assert "nothing was started" in said
    assert "user namespaces are not permitted" in said
    assert "--seal none" in said
    assert listing(no_seal) == before


@pytest.mark.parametrize("command", ["dryrun", "rehearse"])
@pytest.mark.usefixtures("no_seal")
def test_to_run_unsealed_is_said_before_the_run(capsys, command):
    """What is open stands above everything else, and not only at the end."""
    assert run([command, "answer", "--seal", "none"]) == 2, "the project has no data"
    said = capsys.readouterr().err
    assert said.index("NOT SEALED: The network is not closed") < said.index("no data")
