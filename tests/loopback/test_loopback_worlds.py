"""Worlds: each says where it was seen, and changes how Kaggle tells a thing, not the thing."""

import re

import pytest

from kaggle_kit.errors import UsageError
from kaggle_kit.loopback.protocol import Answer
from kaggle_kit.loopback.worlds import WORLDS, ActiveWorlds, find_world, find_worlds

GET, STATUS = "datasets.DatasetApiService/GetDataset", "kernels.KernelsApiService/GetKernelSessionStatus"
NOT_THERE = Answer(404, {"code": 404, "message": "Dataset not found"})


@pytest.mark.parametrize("name", WORLDS)
def test_a_world_says_what_it_does_and_where_it_was_seen(name):
    """One sentence, a source, and a year; and no two say the same."""
    world = WORLDS[name]
    assert name == world.name
    assert world.does
    assert world.source
    assert re.search(r"20[12]\d", world.date)
    assert [other.name for other in WORLDS.values() if other.does == world.does] == [name]


@pytest.mark.parametrize("name", [name for name in WORLDS if name != "plain"])
def test_a_world_is_not_the_plain_one(name):
    """It changes something."""
    world = WORLDS[name]
    assert world.absent or world.replies or world.late or world.busy


def test_worlds_are_found_by_name():
    """Each once, in the order asked; `all` is every one."""
    assert [world.name for world in find_worlds(["absence-403", "plain", "absence-403"])] == ["absence-403", "plain"]
    assert find_worlds(["plain", "all"]) == tuple(WORLDS.values())
    with pytest.raises(UsageError, match=r"no world is called 'absence-402'; did you mean 'absence-40\d'"):
        find_world("absence-402")


@pytest.mark.parametrize(("name", "status"), [("absence-403", 403), ("absence-in-body", 200), ("plain", 404)])
def test_the_form_of_absence(name, status):
    """Only what is not there is answered so; what is there is as it was."""
    worlds = ActiveWorlds((WORLDS[name],))
    assert worlds.told(GET, {"datasetSlug": "x"}, NOT_THERE).status == status
    there = Answer(200, {"ref": "ada/x"})
    assert worlds.told(GET, {"datasetSlug": "x"}, there) == there


def test_what_was_made_is_late_and_what_was_there_is_not():
    """Three questions for it are answered as if it were not there, of each kind of question."""
    worlds = ActiveWorlds((WORLDS["new-403"],))
    there = Answer(200, {"status": "QUEUED"})
    assert worlds.told(STATUS, {"kernelSlug": "old"}, there) == there
    worlds.told("kernels.KernelsApiService/SaveKernel", {"slug": "ada/new"}, Answer(200, {"versionNumber": 1}))
    told = [worlds.told(STATUS, {"kernelSlug": "new"}, there).status for _ in range(5)]
    assert told == [403, 403, 403, 200, 200]
    assert worlds.told(STATUS, {"kernelSlug": "old"}, there) == there


def test_worlds_are_told_together():
    """A server may have several: what one changes, the next changes further."""
    worlds = ActiveWorlds((WORLDS["owner-capitals"], WORLDS["framework-display-case"], WORLDS["sources-with-prefixes"]))
    kinds = ("dataset", "kernel", "competition")
    facts = {f"{kind}DataSources": [] for kind in kinds} | {"modelDataSources": ["ada/m/pytorch/v/2"]}
    answer = Answer(200, {"metadata": {**facts, "author": "ada"}, "blob": {}})
    told = worlds.told("kernels.KernelsApiService/GetKernel", {"kernelSlug": "k"}, answer).body["metadata"]
    assert (told["modelDataSources"], told["author"]) == (["models/Ada/m/PyTorch/v/2"], "Ada")
