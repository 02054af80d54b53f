"""A push of a notebook that attaches what is not sent from here: as Kaggle has it, ready or soon to be."""

import json
import shutil
from dataclasses import replace

import pytest
from push_project import ENGINE, KIT, MODEL, rebuild

from kaggle_kit.loopback.faults import DATASETS, MODELS, Fault, setting, status
from kaggle_kit.remote.client import client
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


def test_a_version_under_way_is_waited_for_before_another_is_sent(world, monkeypatch):
    """Files that changed while Kaggle still processes a version that nobody noted are its next one."""
    assert world.push().code == 0
    world.change_model()
    monkeypatch.setattr(client, "REHEARSAL", replace(client.REHEARSAL, settle_s=30))
    world.kaggle.faults.add(
        Fault("working", "a status", DATASETS + "GetDatasetStatus", setting(status="BLOBS_RECEIVED"), times=4)
    )
    told = world.push()
    assert told.code == 0, told.text
    assert "Kaggle still processes version 2, which was not noted here" in told.text
    assert world.versions(MODEL) == 2
    assert world.is_released()


@pytest.mark.parametrize("place", ["dataset", "kaggle_model"])
def test_anothers_public_model_is_attached_as_it_is(world, tmp_path, place):
    """It has no manifest of kit's: the plan shows what Kaggle lists of it, and the release goes to its score."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "config.json").write_text("{}")
    (theirs / "model.safetensors").write_bytes(b"x" * 1000)
    reference, newest = {"dataset": ("eve/big-model", ""), "kaggle_model": ("eve/big/transformers/awq", "/1")}[place]
    world.kaggle.add_model(reference, theirs) if newest else world.kaggle.add_dataset(reference, theirs)
    config = world.root / "kit.toml"
    config.write_text(config.read_text().replace(f'dataset = "{MODEL}"', f'{place} = "{reference}{newest}"'))
    rebuild(world.root, "answer")
    plan = world.kit("plan", "answer", "--unproved")
    assert plan.code == 0, plan.text
    assert "2 files, 1,002 bytes; without kit's manifest it is found by its reference" in plan.text
    told = world.push()
    assert told.code == 0, told.text
    assert world.given()[reference][0] == 1
    assert world.push().code == 0
    assert world.counts()["submissions"] == 1
    assert "REFERENCES" in (world.root / "build" / "answer" / "answer.ipynb").read_text()


def test_anothers_model_with_terms_to_accept_is_told(world, tmp_path):
    """Its page is shown and its files are denied: both possible reasons are named, and nothing is pushed."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "config.json").write_text("{}")
    world.kaggle.add_model("eve/gated/transformers/awq", theirs)
    config = world.root / "kit.toml"
    new = 'kaggle_model = "eve/gated/transformers/awq/1"'
    config.write_text(config.read_text().replace(f'dataset = "{MODEL}"', new))
    rebuild(world.root, "answer")
    denied = status(403, "Permission 'models.get' was denied")
    world.kaggle.faults.add(Fault("terms", "denied", MODELS + "DownloadModelInstanceVersion", denied, times=100))
    told = world.push()
    assert told.code == 1
    assert "with terms that its page on Kaggle asks you to accept" in told.text
    assert not any(world.counts().get(reference) for reference in (ENGINE, KIT))
