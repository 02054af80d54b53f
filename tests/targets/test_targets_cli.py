"""`kit targets` as a user meets it."""

import json

import pytest
from click.testing import CliRunner

from kaggle_kit.cli.targets import targets
from kaggle_kit.errors import UsageError
from kaggle_kit.targets import load_target, target_names


@pytest.fixture(autouse=True)
def outside(tmp_path, monkeypatch):
    """Stand in a folder that is no project."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def kit(*arguments):
    """The output of one command line."""
    result = CliRunner().invoke(targets, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def test_the_list_names_each():
    """The list has a line for each target."""
    assert [line.split()[0] for line in kit().splitlines()] == target_names()


def test_one_target_with_dates_and_sources():
    """One target is shown with each value, its date, its confidence and its source."""
    text = kit("kaggle-t4x2")
    for fact in load_target("kaggle-t4x2").facts.values():
        assert f"{fact.confidence}, {fact.date}: {fact.source}" in text
    assert "15,633,680,957 (15.6 GB)" in text


def test_json_of_one():
    """As JSON one target is an object with all that its file says."""
    body = json.loads(kit("offline-h200", "--json"))
    assert (body["mode"], body["facts"]["driver"]["confidence"]) == ("overlay", "measured")


def test_json_of_all():
    """As JSON the list is a list of objects."""
    assert [body["name"] for body in json.loads(kit("--json"))] == target_names()


def test_a_projects_own(outside):
    """A project's own target is listed and shown."""
    (outside / "kit.toml").touch()
    (outside / "targets").mkdir()
    text = 'summary = "s"\npython = "3.12"\nglibc = "2.35"\nengine = "e"\nsession_seconds = 1\nworking_bytes = 1\n'
    (outside / "targets" / "mine.toml").write_text(text)
    assert "mine" in kit()
    assert kit("mine").startswith("mine: s")


def test_a_misspelt_name():
    """A name that is none is wrong use, with the one that was meant."""
    with pytest.raises(UsageError, match="did you mean 'kaggle-t4x2'"):
        kit("kaggle-t4")
