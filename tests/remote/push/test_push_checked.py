"""What was checked is what is sent: a file that is another by the time of its upload stops the push."""

import json
import os

import pytest
from push_project import ENGINE, KERNEL, KIT, MODEL, VARIATION

from kaggle_kit.loopback.faults import BLOBS, DATASETS, Edit, Fault
from kaggle_kit.loopback.records import Kernel

PARTS = "build/wheels-kaggle-t4x2"
FILES = {
    ENGINE: f"{PARTS}/engine/wheels/engine_two-1.0-py3-none-any.whl",
    KIT: f"{PARTS}/kit/wheels/kit_one-1.0-py3-none-any.whl",
    MODEL: "model/model.safetensors",
    VARIATION: "published/config.json",
}


def at(world, route, act):
    """Have `act` happen while Kaggle answers the first call of `route`."""

    def once(reply):
        act()
        return reply

    world.kaggle.faults.add(Fault("meanwhile", "something happens here", route, Edit(once)))


@pytest.mark.parametrize("kept_time", [False, True], ids=["written now", "with its old time"])
@pytest.mark.parametrize("reference", FILES)
def test_a_file_that_is_replaced_while_another_is_sent(world, reference, kept_time):
    """Another file of the same size: no version holds it, the push says which file, and the next one sends it."""
    world.use("both")
    path = world.root / FILES[reference]
    manifest = path.parents[1] / "manifest.json"
    old, status = path.read_bytes(), path.stat()

    def replace():
        path.write_bytes(bytes(len(old)))
        if kept_time:
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    at(world, BLOBS + "StartBlobUpload", replace)
    told = world.push("both")
    assert told.code == 1, told.text
    assert all(part in told.text for part in (reference, path.name, "changed", "run the command again")), told.text
    assert world.versions(reference) == world.versions(KERNEL) == 0

    if reference in {ENGINE, KIT}:
        # The part's own manifest says what it was: so it has to be again.
        assert manifest.is_file()
        path.write_bytes(old)
    told = world.push("both")
    assert told.code == 0, told.text
    assert world.is_released("both")
    assert world.versions(reference) == 1


@pytest.mark.parametrize("word", ["create", "wait"])
def test_a_notebook_that_is_built_again_meanwhile_goes_out_as_it_was_checked(world, word):
    """Its source and its metadata are those of the plan: neither an unsearched secret nor internet goes out."""
    folder = world.root / "build" / "answer"
    notebook, metadata = folder / "answer.ipynb", folder / "kernel-metadata.json"
    checked = json.loads(notebook.read_text())

    def rebuild():
        body = json.loads(notebook.read_text())
        body["cells"][0]["source"] = "KAGGLE_KEY = 'd41d8cd98f00b204e9800998ecf8427e'"
        notebook.write_text(json.dumps(body))
        metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {"enable_internet": True}))

    at(world, DATASETS + {"create": "CreateDataset", "wait": "ListDatasetFiles"}[word], rebuild)
    told = world.push()
    assert told.code == 0, told.text
    assert "built again meanwhile" in told.text
    kernel = world.store.get(Kernel, KERNEL)
    assert len(kernel.versions) == 1
    assert json.loads(kernel.versions[0].text) == checked
    assert not kernel.versions[0].internet
