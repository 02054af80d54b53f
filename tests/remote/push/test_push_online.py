"""A notebook whose run has internet, since it makes a model: pushed as asked, never handed in, its model checked."""

import json

import pytest
from push_project import BOTH, KIT, MODEL, VARIATION, rebuild, run

from kaggle_kit.loopback.records import Kernel, Submission
from kaggle_kit.loopback.runs import RunOutcome
from kaggle_kit.loopback.worlds import WORLDS
from kaggle_kit.runtime.manifest import dump_manifest, file_entry, make_manifest, read_manifest
from kaggle_kit.wheelhouse.folder import build_kit_wheel, kit_wheel_name

NOTEBOOK = "ada/model-maker"
TABLE = """
[notebooks.maker]
source = "notebooks_src/answer.py"
template = "maker.py.j2"
title = "Model maker"
model = "small"
target = "kaggle-t4x2"
internet = true
session_hours = 0.0003
"""
TEMPLATE = '{{ cell("title") }}\n{{ cells() }}\n'


def make_model(given, *, damaged: bool = False) -> RunOutcome:
    """A run that leaves a model folder, and a submission that must not be handed in."""
    folder = given.out / "small-awq"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"four bits" * 1_000)
    (folder / "config.json").write_text("{}\n")
    manifest = make_manifest(folder, kind="model", name="small-awq")
    (folder / "manifest.json").write_text(dump_manifest(manifest))
    if damaged:
        (folder / "model.safetensors").write_bytes(b"four bitz" * 1_000)
    (given.out / "submission.csv").write_text("id,first,second\n1,0.5,0.5\n")
    return RunOutcome("COMPLETE", log=("made",))


def add_maker(root) -> None:
    """The notebook that makes a model, built."""
    (root / "kit.toml").write_text((root / "kit.toml").read_text() + TABLE)
    (root / "templates").mkdir(exist_ok=True)
    (root / "templates" / "maker.py.j2").write_text(TEMPLATE)
    rebuild(root, "maker")


@pytest.fixture
def world(make):
    """A project with such a notebook, and a Kaggle that runs it."""
    world = make(runner=make_model)
    add_maker(world.root)
    return world


def rewrite(world, **changed) -> None:
    """Change the build's metadata, its manifest adapted to them."""
    folder = world.root / "build" / "maker"
    path = folder / "kernel-metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed, indent=2) + "\n")
    manifest = read_manifest(folder / "manifest.json")
    files = tuple(file_entry(folder / entry.path, folder) for entry in manifest.files)
    (folder / "manifest.json").write_text(dump_manifest(type(manifest)(**vars(manifest) | {"files": files})))


def receipt(world, version=1) -> dict:
    """What was kept of a version."""
    return json.loads((world.root / "receipts" / f"maker-v{version}.json").read_text())


@pytest.mark.parametrize("name", ["absence-403", "absence-in-body", "new-403", "owner-capitals", "output-late"])
def test_its_model_comes_home_in_other_worlds(make, name):
    """A new user's first push of it is one version, however Kaggle answers, and the model is whole."""
    world = make(runner=make_model, worlds=(WORLDS[name],))
    add_maker(world.root)
    told = world.kit("push", "maker", "--wait")
    assert told.code == 0, told.text
    assert "each with the SHA-256 of its manifest" in told.text
    assert world.kit("push", "maker", "--wait").code == 0
    assert world.versions(NOTEBOOK) == 1
    assert world.kit("status", "maker").code == 0
    assert world.kit("output", "maker").code == 0


def test_it_is_planned_with_a_word_on_what_it_is_not_for(world):
    """The plan allows it, without a proved wheelhouse, and says that no version of it can be handed in."""
    told = world.kit("plan", "maker", "--json")
    assert told.code == 0, told.text
    plan = json.loads(told.out)
    assert plan["allowed"] is True
    (problem,) = plan["problems"]
    assert problem["warning"] is True
    assert "its run has internet, so no version of it can be handed in" in problem["what"]
    assert {step["reference"] for step in plan["steps"]} == {KIT, MODEL, NOTEBOOK}


def test_it_runs_with_internet_and_the_receipt_says_so(world):
    """Kaggle has it with internet on, which is what was asked, and a second push sends nothing."""
    told = world.kit("push", "maker", "--wait")
    assert told.code == 0, told.text
    assert world.store.get(Kernel, NOTEBOOK).versions[-1].internet is True
    (check,) = [check for check in receipt(world)["checks"] if check["what"] == "internet"]
    assert (check["asked"], check["found"], check["agrees"]) == (True, True, True)
    world.kaggle.traffic.reset()
    assert world.kit("push", "maker", "--wait").code == 0
    assert (world.versions(NOTEBOOK), world.kaggle.traffic.uploaded) == (1, 0)


def test_the_model_that_it_makes_comes_here_and_is_verified(world):
    """After the run the model folder is here, each file compared with its manifest, and kit says so."""
    told = world.kit("push", "maker", "--wait")
    folder = world.root / "runs" / "maker-v1" / "small-awq"
    assert f"model small-awq: {folder}: 2 files, 0.0 MB, each with the SHA-256 of its manifest" in told.text
    told = world.kit("output", "maker", "-o", str(world.root / "again"))
    assert told.code == 0
    assert "model small-awq" in told.text
    assert (world.root / "again" / "small-awq" / "model.safetensors").read_bytes() == b"four bits" * 1_000


def test_a_damaged_model_is_told(make):
    """A model that is not what its manifest says ends the push and `kit output` with 1, and the file is named."""
    world = make(runner=lambda given: make_model(given, damaged=True))
    add_maker(world.root)
    told = world.kit("push", "maker", "--wait")
    assert told.code == 1
    assert "model small-awq: NOT whole: model.safetensors" in told.text
    told = world.kit("output", "maker")
    assert told.code == 1
    assert "model small-awq: NOT whole: model.safetensors" in told.text
    assert world.kit("output", "maker", "--pattern", "config.json").code == 0


def test_a_run_that_left_no_model_is_told(make):
    """A run that ends well without a model ends the push and `kit output` with 1, which say so."""
    world = make(runner=run)
    add_maker(world.root)
    told = world.kit("push", "maker", "--wait")
    assert told.code == 1
    assert f"the run left no model: no folder of its output in {world.root / 'runs' / 'maker-v1'}" in told.text
    told = world.kit("output", "maker")
    assert told.code == 1
    assert "the run left no model" in told.text
    assert world.kit("output", "maker", "--pattern", "given.json").code == 0


def test_without_a_receipt_kit_toml_says_that_a_model_is_wanted(make):
    """`kit output` of a version that was pushed from elsewhere looks for the model as well."""
    world = make(runner=run)
    add_maker(world.root)
    world.kit("push", "maker", "--wait")
    (world.root / "receipts" / "maker-v1.json").unlink()
    assert world.kit("output", "maker").code == 1


def test_of_a_failed_run_its_failure_is_told(make):
    """That it left no model is no news."""
    world = make(runner=lambda _: RunOutcome("ERROR", "Notebook Threw Exception"))
    add_maker(world.root)
    told = world.kit("push", "maker", "--wait")
    assert told.code == 1
    assert "Notebook Threw Exception" in told.text
    assert "left no model" not in told.text


def test_the_wheel_of_another_kit_is_refused(world):
    """A kit part that was made by another state of kit than the build forbids the push, with the command that helps."""
    folder = world.root / "build" / "wheels-kaggle-t4x2" / "kit"
    (folder / kit_wheel_name()).write_bytes(b"of another state")
    _list(folder)
    told = world.kit("push", "maker")
    assert told.code == 1
    assert f"{kit_wheel_name()} of {KIT} is of another state of kit than the notebook's build" in told.text
    assert "kit wheels fetch --target kaggle-t4x2, then kit build maker" in told.text
    assert world.kaggle.traffic.uploaded == 0
    build_kit_wheel(folder)
    _list(folder)
    assert world.kit("push", "maker").code == 0


def _list(folder) -> None:
    """A part's manifest, of what it holds now."""
    made = make_manifest(folder, kind="wheelhouse", name="kaggle-t4x2", extra={"part": "kit"})
    files = tuple(entry for entry in made.files if entry.path != "dataset-metadata.json")
    (folder / "manifest.json").write_text(dump_manifest(type(made)(**vars(made) | {"files": files})))


def test_status_and_logs_are_as_of_any_notebook(world):
    """The run's state and its log are told."""
    assert world.kit("push", "maker", "--wait").code == 0
    assert world.kit("status", "maker").code == 0
    assert "made" in world.kit("logs", "maker").out


def test_it_is_not_handed_in(world):
    """`kit submit` ends with 2 and a sentence, and nothing at all is asked of Kaggle."""
    assert world.kit("push", "maker", "--wait").code == 0
    world.kaggle.traffic.reset()
    told = world.kit("submit", "maker", "--wait")
    assert told.code == 2
    assert f"notebook {NOTEBOOK} version 1 ran with internet on, and a competition takes no notebook" in told.text
    assert not world.kaggle.traffic.requests
    assert not world.store.all(Submission)


def test_a_push_that_would_hand_it_in_does_not_begin(world):
    """`kit push --submit` ends with 2 before anything is sent."""
    world.kaggle.traffic.reset()
    told = world.kit("push", "maker", "--submit")
    assert told.code == 2
    assert "a competition takes no notebook that did" in told.text
    assert not world.kaggle.traffic.requests


def test_a_version_that_ran_with_internet_stays_so(world):
    """With the internet taken out of kit.toml the old version is still not handed in: the receipt knows."""
    assert world.kit("push", "maker", "--wait").code == 0
    path = world.root / "kit.toml"
    path.write_text(path.read_text().replace("internet = true\n", ""))
    told = world.kit("submit", "maker")
    assert told.code == 2
    assert "ran with internet on" in told.text


def test_internet_that_kit_toml_does_not_ask_for_is_refused(world):
    """Metadata with internet on and a table without it: nothing is sent."""
    path = world.root / "kit.toml"
    path.write_text(path.read_text().replace("internet = true\n", ""))
    told = world.kit("push", "maker")
    assert told.code == 1
    assert "internet is on, and kit.toml does not ask for it" in told.text
    assert (world.kaggle.traffic.uploaded, world.counts()) == (0, {"submissions": 0})


def test_a_build_with_internet_off_is_not_what_kit_toml_asks(world):
    """The other way round it is refused as well, with the command that builds it."""
    rewrite(world, enable_internet=False)
    told = world.kit("push", "maker")
    assert told.code == 1
    assert "kit.toml asks for internet, and the build has it off" in told.text
    assert "kit build maker" in told.text


def test_a_base_model_is_not_held_to_a_limit_that_its_table_does_not_have(world):
    """`most_kl` of another table does not hold for the model that is to be quantised; its own does."""
    path = world.root / "kit.toml"
    limited = path.read_text().replace('kaggle_model = "', 'most_kl = 0.02\nkaggle_model = "')
    path.write_text(limited := limited + BOTH.replace("Best answer", "Both answer"))
    rebuild(world.root, "both")
    assert world.kit("plan", "maker").code == 0
    told = world.kit("plan", "both", "--unproved")
    assert told.code == 1
    assert VARIATION in told.text
    assert "nobody has compared it with its reference" in told.text
    path.write_text(limited.replace('dataset = "ada/small-model"', 'dataset = "ada/small-model"\nmost_kl = 0.02'))
    assert world.kit("plan", "maker").code == 1
