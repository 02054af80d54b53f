"""Every world of the loopback Kaggle: a release ends there as it does in the plain one, and again it sends nothing."""

import pytest
from push_project import ENGINE, KERNEL, KIT, MODEL, VARIATION

from kaggle_kit.loopback.worlds import WORLDS

WANTED = {ENGINE: 1, KIT: 1, MODEL: 1, VARIATION: 1, KERNEL: 1, "submissions": 1}
MAKES = {"CreateDataset", "CreateDatasetVersion", "CreateModel", "CreateModelInstance", "SaveKernel"}


@pytest.mark.parametrize("name", WORLDS)
def test_a_release_ends_in_every_world(make, name):
    """The first push makes each thing once and ends as the world says; the second makes nothing, and ends so too."""
    place = make(worlds=(WORLDS[name],))
    place.use("both")
    first = place.push("both")
    assert first.code == (0 if WORLDS[name].ends else 1), first.text
    assert not WORLDS[name].ends or place.is_released("both")
    assert place.counts() == WANTED | ({} if WORLDS[name].ends else {"submissions": 0})
    place.kaggle.traffic.reset()
    second = place.push("both")
    assert second.code == first.code, second.text
    assert place.counts() == WANTED | ({} if WORLDS[name].ends else {"submissions": 0})
    assert not MAKES & {route.rpartition("/")[2] for route in place.kaggle.traffic.requests}


TOGETHER = [
    *("absence-403", "new-403", "sources-without-versions", "framework-display-case", "owner-capitals"),
    *("sources-with-prefixes", "files-by-name", "shape-of-the-editor", "source-rewritten", "output-late"),
]


def test_a_release_ends_where_all_is_told_otherwise_at_once(make):
    """Absence, owners, frameworks, addresses, files, machine and source in other forms, all in one Kaggle."""
    place = make(worlds=[WORLDS[name] for name in TOGETHER])
    place.use("both")
    first = place.push("both")
    assert first.code == 0, first.text
    assert "could not be checked: models (Kaggle does not say in which version" in first.text
    assert place.is_released("both")
    assert place.push("both").code == 0
    assert place.counts() == WANTED


@pytest.mark.parametrize("name", ["absence-403", "new-403", "files-by-name", "owner-capitals", "shape-gpu"])
def test_a_changed_model_becomes_one_more_version(make, name):
    """The second release of a project sends what changed, once, in a world too; a lost state changes nothing."""
    place = make(worlds=(WORLDS[name],))
    assert place.push().code == 0
    place.change_model()
    again = place.push()
    assert again.code == 0, again.text
    (place.root / "kit.state.json").unlink()
    third = place.push()
    assert third.code == 0, third.text
    assert place.is_released()
    assert place.counts() == {ENGINE: 1, KIT: 1, MODEL: 2, KERNEL: 2, "submissions": 2}


TOLD = {
    "shape-gpu": "could not be checked: accelerator (Kaggle says 'Gpu')",
    "sources-without-versions": "could not be checked: datasets (Kaggle does not say in which version it attached ada",
    "files-by-name": "does not say the folders of its files, which could not be checked",
    "files-at-the-top": "does not say what lies in folders (wheels/",
    "sizes-left-out": "does not say the size of",
    "status-denied": "Kaggle does not show its state; it is the current version, with all that was sent",
    "defaults-left-out": "could not be checked: internet (Kaggle does not say)",
}


@pytest.mark.parametrize("name", TOLD)
def test_what_kaggle_does_not_say_is_told(make, name):
    """Kit says what it could not check, and goes on."""
    told = make(worlds=(WORLDS[name],)).push()
    assert told.code == 0, told.text
    assert TOLD[name] in told.text


@pytest.mark.parametrize("name", ["plain", "absence-403", "absence-401"])
def test_questions_about_what_was_never_pushed(make, name):
    """A status, a log and an output of nothing are told as such, with an exit code that says so, in each form."""
    place = make(worlds=(WORLDS[name],))
    status = place.kit("status", "answer", "--version", "3")
    assert (status.code, "unknown" in status.text) == (4, True)
    assert place.kit("logs", "answer", "--version", "3").code == 1
    assert place.kit("output", "answer", "--version", "3").code == 1
    assert place.kit("plan", "answer", "--unproved").code == 0
    assert place.counts() == {"submissions": 0}
