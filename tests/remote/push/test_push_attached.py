"""A push of a notebook that attaches what is not sent from here: as Kaggle has it, ready or soon to be."""

import json
import shutil

import pytest
from push_project import ENGINE, KIT, MODEL, rebuild

from kaggle_kit.loopback.faults import DATASETS, Fault, setting
from kaggle_kit.runtime.manifest import dump_manifest, make_manifest


@pytest.fixture
def attached(world):
    """A world whose wheelhouse is on Kaggle, and is not here any more."""
    assert world.push().code == 0
    shutil.rmtree(world.root / "build" / "wheels-kaggle-t4x2")
    world.kaggle.traffic.reset()
    return world


def test_what_kaggle_still_processes_is_waited_for(attached):
    """An attached dataset that is not ready at the plan is used as soon as it is, whatever it holds."""
    working = Fault("working", "a status", DATASETS + "GetDatasetStatus", setting(status="BLOBS_RECEIVED"), times=2)
    attached.kaggle.faults.add(working)
    attached.change_model()
    told = attached.push()
    assert told.code == 0, told.text
    assert attached.kaggle.faults.fired["working"] == 2
    assert (attached.versions(ENGINE), attached.versions(KIT)) == (1, 1)
    assert attached.kaggle.traffic.uploaded == attached.size(MODEL)


def test_anothers_dataset_is_attached(world, tmp_path):
    """A dataset of another account, whose state Kaggle tells to nobody else, is pinned and used."""
    config = world.root / "kit.toml"
    config.write_text(config.read_text().replace(MODEL, "eve/small-model"))
    rebuild(world.root, "answer")
    theirs = tmp_path / "theirs"
    shutil.copytree(world.root / "model", theirs)
    (theirs / "manifest.json").write_text(dump_manifest(make_manifest(theirs, kind="model", name="small")))
    world.kaggle.add_dataset("eve/small-model", theirs)
    told = world.push()
    assert told.code == 0, told.text
    assert json.loads((world.root / "receipts" / "answer-v1.json").read_text())["run"]["state"] == "COMPLETE"
    assert world.given()["eve/small-model"][0] == 1


def test_a_version_under_way_is_waited_for_before_another_is_sent(world):
    """Files that changed while Kaggle still processes the last version are its next one."""
    assert world.push().code == 0
    world.change_model()
    world.kaggle.faults.add(
        Fault("working", "a status", DATASETS + "GetDatasetStatus", setting(status="BLOBS_RECEIVED"), times=4)
    )
    told = world.push()
    assert told.code == 0, told.text
    assert "Kaggle still processes version 1" in told.text
    assert world.versions(MODEL) == 2
    assert world.is_released()
