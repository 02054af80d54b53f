"""A table of kit.toml that has become another notebook, by its title or owner: each notebook has its own records."""

import dataclasses
import json

import pytest
from desk import NOTEBOOK

from kaggle_kit.loopback.faults import FAULTS
from kaggle_kit.loopback.records import Submission
from kaggle_kit.loopback.runs import RunOutcome

OTHER = "ada/other-answer"


@pytest.fixture
def renamed(desk, edit):
    """A desk with the first notebook handed in, and a build of the table with another title."""
    assert desk.push("--submit").code == 0
    edit(desk.root / "kit.toml", 'title = "Other answer"', 'title = "Best answer"')
    assert desk.kit("build", "answer", "--unproved").code == 0
    return desk


def handed_in(desk) -> list[str]:
    """Which notebooks' versions were."""
    return [one.description.partition("[")[2].rstrip("]") for one in desk.kaggle._store.all(Submission)]


def test_a_push_without_a_receipt_hands_in_its_own_notebook(renamed):
    """Where a push ended before its version had a receipt, the next one does not take the old notebook's for it."""
    renamed.kaggle.faults.add(dataclasses.replace(FAULTS["run-not-listed"], times=100_000))
    assert renamed.push().code == 1
    renamed.kaggle.faults._faults.clear()
    assert renamed.push("--submit").code == 0
    assert handed_in(renamed) == [f"{NOTEBOOK} v1", f"{OTHER} v1"]


def test_a_version_of_the_old_notebook_is_not_handed_in(renamed):
    """Before the new one has such a version `kit submit --version` is wrong use, and the notebook is named."""
    told = renamed.kit("submit", "answer", "--version", "1")
    assert told.code == 2
    assert f"there is no receipt of {OTHER} version 1" in told.err


def test_receipts_of_both_notebooks_are_kept(renamed):
    """The old one keeps its score, and the history lists both by their notebooks."""
    assert renamed.push("--wait").code == 0
    old, new = renamed.kit("history", "answer", "--json").json
    assert (old["notebook"], old["submission"]["public_score"]) == (NOTEBOOK, 0.75)
    assert (new["notebook"], new["submission"]) == (OTHER, {})
    out = renamed.kit("history").out
    assert f"answer ({NOTEBOOK})" in out
    assert f"answer ({OTHER})" in out


def test_a_status_is_written_into_its_own_receipt(renamed):
    """What Kaggle says of the new notebook's version leaves the old one's receipt alone."""
    path = renamed.root / "receipts" / "answer-v1.json"
    before = path.read_bytes()
    assert renamed.push("--wait").code == 0
    assert renamed.kit("status", "answer", "--version", "1").code == 0
    assert path.read_bytes() == before


def test_runs_of_both_notebooks_are_kept(renamed):
    """Each has a folder of its own, and `kit report` finds the receipt of each."""

    def run(asked):
        (asked.out / "new.txt").write_text("new")
        return RunOutcome("COMPLETE")

    renamed.runner = run
    assert renamed.push("--wait").code == 0
    runs = renamed.root / "runs"
    assert not (runs / "answer-v1" / "new.txt").exists()
    assert (runs / "answer-v1.ada.other-answer" / "new.txt").is_file()
    assert renamed.kit("report", str(runs / "answer-v1.ada.other-answer"), "-o", str(runs / "page.html")).code == 0
    assert OTHER in (runs / "page.html").read_text()


def test_the_receipts_of_one_notebook_are_called_as_ever(desk):
    """`NAME-vN.json`, and the second version's likewise."""
    assert desk.push("--wait").code == 0
    (path,) = (desk.root / "receipts").iterdir()
    assert path.name == "answer-v1.json"
    assert json.loads(path.read_text())["notebook"] == NOTEBOOK


def test_a_title_with_accents_is_pushed_under_its_own_address(desk, edit):
    """kit and Kaggle make the same address of it, so the notebook is where its build says."""
    edit(desk.root / "kit.toml", 'title = "Café réponse"', 'title = "Best answer"')
    assert desk.kit("build", "answer", "--unproved").code == 0
    assert desk.push().code == 0
    assert (desk.root / "receipts" / "answer-v1.json").is_file()
    assert json.loads((desk.root / "receipts" / "answer-v1.json").read_text())["notebook"] == "ada/cafe-reponse"
