"""`kit push`: a whole release; what a second one sends, what it refuses, and what it needs no state for."""

import json
import shutil

import pytest
from push_project import ENGINE, KERNEL, KIT, MODEL, TOKEN, VARIATION, rebuild

from kaggle_kit.loopback.faults import DATASETS, Edit, Fault
from kaggle_kit.loopback.records import Kernel
from kaggle_kit.loopback.runs import RunOutcome


@pytest.fixture
def released(world):
    """A world after its first release."""
    assert world.push().code == 0
    world.kaggle.traffic.reset()
    return world


def actions(world, name="answer") -> dict[str, str]:
    """What `kit plan` would do to each thing."""
    told = json.loads(world.kit("plan", name, "--unproved", "--json").out)
    return {step["reference"]: step["action"] for step in told["steps"]}


def test_a_whole_release_goes_through(world):
    """One command: push, ready, run, output, submission and score; the newest of everything holds what is here."""
    told = world.push()
    assert told.code == 0, told.text
    assert world.is_released()


def test_an_unchanged_push_sends_nothing(world):
    """The second push uploads no byte, makes no version and no submission, and leaves state and receipt as they are."""
    world.push()
    kept = [(path, path.read_bytes()) for path in (world.root / "kit.state.json", *world.root.glob("receipts/*"))]
    counts = world.counts()
    world.kaggle.traffic.reset()
    told = world.push()
    assert told.code == 0, told.text
    assert (world.kaggle.traffic.uploaded, world.counts()) == (0, counts)
    assert kept == [(path, path.read_bytes()) for path, _ in kept]


def test_one_changed_file_is_one_new_version(released):
    """A changed model is a new version of its dataset alone, and the run uses that version."""
    released.change_model()
    assert released.push().code == 0
    assert released.counts() == {ENGINE: 1, KIT: 1, MODEL: 2, KERNEL: 2, "submissions": 2}
    assert released.kaggle.traffic.uploaded == released.size(MODEL)
    assert released.is_released()


def test_a_changed_notebook_uploads_nothing(released):
    """A notebook's new version needs no byte of its datasets."""
    source = released.root / "notebooks_src" / "answer.py"
    source.write_text(source.read_text().replace('"hello"', '"good day"'))
    rebuild(released.root, "answer")
    assert released.push().code == 0
    assert released.kaggle.traffic.uploaded == 0
    assert released.counts() == {ENGINE: 1, KIT: 1, MODEL: 1, KERNEL: 2, "submissions": 2}
    assert released.is_released()


def test_a_lost_state_is_found_again(released):
    """Without its state file everything is unchanged by content, and the push sends nothing and makes nothing."""
    (released.root / "kit.state.json").unlink()
    assert set(actions(released).values()) == {"unchanged"}
    counts = released.counts()
    assert released.push().code == 0
    assert (released.kaggle.traffic.uploaded, released.counts()) == (0, counts)
    assert (released.root / "kit.state.json").is_file()


def test_a_fresh_clone_without_records_sends_nothing(released):
    """With state, receipts, runs and cache gone, the second push makes no version, and has a receipt again."""
    counts = released.counts()
    (released.root / "kit.state.json").unlink()
    for folder in (released.root / "receipts", released.root / "runs", released.root.parent / "cache"):
        shutil.rmtree(folder)
    assert released.push().code == 0
    assert (released.kaggle.traffic.uploaded, released.counts()) == (0, counts)
    assert released.is_released()


def test_a_half_merged_state_is_refused(released):
    """Conflict markers in the state: exit code 2, the line, and what to do; nothing is sent."""
    state = released.root / "kit.state.json"
    state.write_text("<<<<<<< HEAD\n" + state.read_text())
    told = released.push()
    assert told.code == 2
    assert all(part in told.text for part in ("kit.state.json, line 1", "merge was not finished", "may be deleted"))
    state.unlink()
    assert released.push().code == 0


def test_somebody_elses_dataset_version_is_not_run_over(released, tmp_path):
    """A version that another person made is refused with its ways out, and sent over only with --overwrite."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.safetensors").write_bytes(b"another person's")
    released.kaggle.add_dataset(MODEL, other, private=True)
    told = released.push()
    assert told.code == 1
    assert all(part in told.text for part in (MODEL, "version 2", "--overwrite"))
    assert (released.versions(MODEL), released.versions(KERNEL)) == (2, 1)
    assert released.push("answer", "--overwrite").code == 0
    assert (released.versions(MODEL), released.versions(KERNEL)) == (3, 2)
    assert released.is_released()


def test_a_notebook_that_was_edited_on_kaggle_is_not_run_over(released):
    """Another source in the newest version is refused, with kit pull as the way out, and --overwrite as the other."""
    kernel = released.store.get(Kernel, KERNEL)
    body = json.loads(kernel.versions[-1].text)
    body["cells"][0]["source"] = "# edited in the browser"
    released.kaggle._service.store.put(
        KERNEL,
        Kernel(**vars(kernel) | {"versions": (*kernel.versions, newer(kernel.versions[-1], json.dumps(body)))}),
    )
    told = released.push()
    assert told.code == 1
    assert all(part in told.text for part in (KERNEL, "changed on Kaggle", "kit pull answer", "--overwrite"))
    assert released.versions(KERNEL) == 2
    assert released.push("answer", "--overwrite").code == 0
    assert released.versions(KERNEL) == 3
    assert released.is_released()


def test_a_notebook_that_is_edited_during_the_upload_is_not_run_over(released):
    """What the browser saves between the plan and the push stops the push, which says so; the edit stays the newest."""

    def edit(_reply):
        kernel = released.store.get(Kernel, KERNEL)
        text = kernel.versions[-1].text.replace("hello", "edited meanwhile")
        versions = (*kernel.versions, newer(kernel.versions[-1], text))
        released.store.put(KERNEL, Kernel(**vars(kernel) | {"versions": versions}))

    released.kaggle.faults.add(Fault("edit", "the notebook is edited", DATASETS + "CreateDatasetVersion", Edit(edit)))
    released.change_model()
    told = released.push()
    assert told.code == 1
    assert all(part in told.text for part in (KERNEL, "version 2 where version 1 was expected", "kit plan"))
    assert released.versions(KERNEL) == 2
    assert "kit pull answer" in released.push().text


def newer(version, text):
    """A version after `version` with another source."""
    return type(version)(**vars(version) | {"number": version.number + 1, "text": text})


def test_a_model_version_is_made_once(world):
    """A Kaggle model's version that exists with the same content is used, one with other content refused."""
    world.use("both")
    assert world.push("both").code == 0
    world.change_model("published")
    told = world.push("both")
    assert told.code == 1
    assert all(part in told.text for part in (VARIATION, "holds something else", "write /2 in kit.toml"))
    assert world.versions(VARIATION) == 1


def test_the_token_is_written_nowhere(released):
    """No file of the project, its records, the home or the cache holds the login's token."""
    released.change_model()
    released.push()
    below = released.root.parent
    files = [
        path for part in ("project", "home", "tmp", "cache") for path in (below / part).rglob("*") if path.is_file()
    ]
    assert len(files) > 20
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []


def test_a_run_that_left_nothing_is_told_all_the_same(make):
    """A run that fails without output or log: exit code 1, the failure, and that the log tells nothing."""
    world = make(runner=lambda _: RunOutcome("ERROR", "the kernel died"))
    told = world.push()
    assert told.code == 1
    assert all(part in told.text for part in ("answer version 1: error: the kernel died", "kit push answer runs it"))
