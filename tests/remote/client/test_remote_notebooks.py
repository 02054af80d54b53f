"""Notebooks at Kaggle: pushed once, with everything that was asked for, or an error that says what is missing."""

import json

import pytest
from scripted import Reply

from kaggle_kit.errors import RemoteError, UsageError
from kaggle_kit.remote.client import notebooks
from kaggle_kit.remote.client.client import RefusedError

REF = "rehearsal/score-it"
SOURCE = json.dumps({"cells": [{"cell_type": "code", "source": ["x = 1\n", "y = 2"], "outputs": [], "metadata": {}}]})
META = {
    "id": REF,
    "title": "Score it",
    "code_file": "score-it.ipynb",
    "language": "python",
    "kernel_type": "notebook",
    "is_private": True,
    "enable_gpu": True,
    "enable_internet": False,
    "machine_shape": "NvidiaTeslaT4",
    "competition_sources": ["preferences"],
}


def same(one, other):
    """Whether two texts are of one notebook."""
    return notebooks.source_identity(one) == notebooks.source_identity(other)


def push(client, meta=None, source=SOURCE, **options):
    """A push with usual settings."""
    return notebooks.push(client, META | (meta or {}), source, session_timeout_s=3600, **options)


def newest(client):
    """The number of the newest version."""
    return notebooks.read(client, REF).version


def wait(client, version):
    """The state at the end of a run."""
    for _ in range(200):
        state = notebooks.status(client, REF, version)
        if state.ended:
            return state
        client.sleep(0.02)
    return None


@pytest.fixture
def datasets_there(kaggle, tmp_path):
    """Datasets, a model and a notebook's place that a push may attach."""
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "a.txt").write_text("a")
    kaggle.add_dataset("rehearsal/wheels-of-kit", tmp_path / "things")
    kaggle.add_model("rehearsal/judge/transformers/awq", tmp_path / "things")
    return {"dataset_sources": ["rehearsal/wheels-of-kit"], "model_sources": ["rehearsal/judge/transformers/awq/1"]}


def test_a_notebook_is_pushed_and_read_back(inside, datasets_there):
    """What Kaggle has is what was sent: source, sources, machine, no internet."""
    pushed = push(inside, datasets_there)
    there = notebooks.read(inside, REF)
    assert (pushed.ref, pushed.version, there.version, pushed.found) == (REF, 1, 1, False)
    assert same(there.source, SOURCE)
    assert (there.internet, there.gpu, there.machine_shape, there.private) == (False, True, "NvidiaTeslaT4", True)
    assert (there.datasets, there.competitions) == (("rehearsal/wheels-of-kit",), ("preferences",))


def test_what_does_not_exist_is_none(inside):
    """A 404 is absence."""
    assert notebooks.read(inside, REF) is None


DENIED = Reply(403, {"code": 403, "message": "Permission 'kernels.get' was denied"})


def test_ones_own_that_kaggle_does_not_list_is_none(inside, fault):
    """A refusal to show one's own notebook is absence where the list of one's own notebooks lacks it."""
    fault("notebook-missing-403")
    assert notebooks.read(inside, REF) is None
    assert push(inside, before=0).version == 1


@pytest.mark.parametrize("refusal", [DENIED, Reply(401)])
@pytest.mark.parametrize(
    "listed",
    [
        {"kernels": [{"ref": "/me/Score-It"}]},
        {"kernels": [{"ref": ""}]},
        {"kernels": [{"ref": f"me/other-{number}"} for number in range(100)]},
        Reply(401),
    ],
    ids=["listed", "unreadable", "not whole", "not told"],
)
def test_a_refusal_is_no_absence_otherwise(script, client, refusal, listed):
    """Where the list has the notebook, or does not surely lack it, the refusal is the error that it is."""
    script.on("GetKernel", refusal)
    script.on("ListKernels", listed)
    with pytest.raises(RemoteError, match="GetKernel for notebook me/score-it"):
        notebooks.read(client, "me/score-it")


def test_a_refusal_for_anothers_notebook_is_no_absence(script, client):
    """Another's notebook may be there and private."""
    script.on("GetKernel", DENIED)
    script.on("ListKernels", {})
    with pytest.raises(RefusedError, match="403"):
        notebooks.read(client, "eve/score-it")


def test_the_list_of_ones_own_is_read_to_its_end(script, client):
    """A notebook on the second page of the list is there."""
    script.on("GetKernel", DENIED)
    pages = [{"kernels": [{"ref": "me/other"}], "nextPageToken": "2"}, {"kernels": [{"ref": "me/score-it"}]}]
    script.on("ListKernels", *pages)
    with pytest.raises(RefusedError, match="403"):
        notebooks.read(client, "me/score-it")
    assert [one.json.get("pageToken", "") for one in script.calls("ListKernels")] == ["", "2"]


def test_the_request_leaves_nothing_to_defaults(script, client):
    """Internet, privacy, machine, image, pinning and time limit are sent, and the sources without prefixes."""
    script.on("SaveKernel", {"ref": "/me/score-it", "versionNumber": 1, "url": "u"})
    meta = META | {
        "id": "me/score-it",
        "docker_image": "gcr.io/x@sha256:1",
        "docker_image_pinning_type": "original",
        "dataset_sources": ["datasets/me/wheels", "me/model"],
        "enable_gpu": "true",
    }
    notebooks.push(client, meta, SOURCE, session_timeout_s=60, pinned={"me/wheels": 4})
    sent = script.calls("SaveKernel")[0].json
    assert (sent["enableInternet"], sent["enableGpu"], sent["enableTpu"], sent["isPrivate"]) == (
        False,
        True,
        False,
        True,
    )
    assert (sent["machineShape"], sent["dockerImage"]) == ("NvidiaTeslaT4", "gcr.io/x@sha256:1")
    assert (sent["dockerImagePinningType"], sent["sessionTimeoutSeconds"]) == ("original", 60)
    assert sent["datasetDataSources"] == ["me/wheels/4", "me/model"]
    assert sent["kernelExecutionType"] == "SAVE_AND_RUN_ALL"


@pytest.mark.parametrize(("built", "sent"), [({"enable_internet": True}, True), ({}, False)])
def test_internet_is_sent_as_built(script, client, built, sent):
    """Where the caller allows internet, the metadata decide; without a word there it stays off."""
    script.on("SaveKernel", {"ref": "/rehearsal/score-it", "versionNumber": 1})
    meta = {key: value for key, value in META.items() if key != "enable_internet"} | built
    notebooks.push(client, meta, SOURCE, session_timeout_s=60, internet=True)
    assert script.calls("SaveKernel")[0].json["enableInternet"] is sent


def test_saving_without_running(script, client):
    """A push that shall not run is a quick save."""
    script.on("SaveKernel", {"ref": "/rehearsal/score-it", "versionNumber": 1})
    push(client, run=False)
    assert script.calls("SaveKernel")[0].json["kernelExecutionType"] == "QUICK_SAVE"


@pytest.mark.parametrize(
    ("meta", "says"),
    [
        ({"enable_internet": True}, "enable_internet"),
        ({"enable_gpu": 1}, "enable_gpu"),
        ({"id": "no-slash"}, "owner/slug"),
        ({"dataset_sources": "me/wheels"}, "dataset_sources"),
    ],
)
def test_wrong_metadata_is_not_sent(script, client, meta, says):
    """What is wrong in the metadata stops the push before any call that makes something."""
    with pytest.raises(UsageError, match=says):
        push(client, meta)
    assert script.calls("SaveKernel") == []


def test_pinning_what_is_no_source(client):
    """A pinned dataset must be among the sources."""
    with pytest.raises(UsageError, match="me/other"):
        push(client, pinned={"me/other": 1})


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ("invalidDatasetSources", "dataset me/lost"),
        ("invalidModelSources", "model me/lost"),
        ("invalidKernelSources", "notebook me/lost"),
        ("invalidCompetitionSources", "competition me/lost"),
        ("invalidTags", "tag me/lost"),
    ],
)
def test_a_dropped_source_is_an_error(script, client, field, says):
    """Every list of what was not taken is an error that names it, and the version that runs without it."""
    script.on("SaveKernel", {"ref": "/rehearsal/score-it", "versionNumber": 3, field: ["me/lost"]})
    with pytest.raises(RefusedError, match=f"{says}.*Version 3 was made"):
        push(client)


def test_a_missing_model_is_an_error(inside, datasets_there):
    """A model that is not there, about which the official client is silent, fails the push."""
    with pytest.raises(RefusedError, match="model rehearsal/judge/transformers/awq/9"):
        push(inside, datasets_there | {"model_sources": ["rehearsal/judge/transformers/awq/9"]})


def test_a_refusal_is_an_error(inside, fault):
    """An error under status 200 is told with its words."""
    fault("push-refused")
    with pytest.raises(RefusedError, match="Maximum batch GPU session count"):
        push(inside)


def test_an_empty_answer_is_an_error(kaggle, inside, fault):
    """`{}` with nothing to be seen is an error, and is not sent a second time."""
    fault("push-empty-reply")
    with pytest.raises(RemoteError, match=f"SaveKernel for notebook {REF}"):
        push(inside)
    assert kaggle.traffic.requests["kernels.KernelsApiService/SaveKernel"] == 1


def test_a_missing_version_is_an_error(inside, fault):
    """An answer without a version number is an error with where to look."""
    fault("push-no-version")
    with pytest.raises(RemoteError, match=r"holds no versionNumber.*http"):
        push(inside)


def test_a_missing_ref_is_an_error(script, client):
    """An answer that does not name the notebook is an error."""
    script.on("SaveKernel", {"versionNumber": 3})
    with pytest.raises(RemoteError, match="holds no ref"):
        push(client)


def test_another_slug_is_an_error(inside):
    """A title that makes another slug saves another notebook: that is said."""
    with pytest.raises(RemoteError, match="saved it as rehearsal/quite-another"):
        push(inside, {"title": "Quite another"})


@pytest.mark.parametrize("name", ["push-reply-lost", "push-500", "call-cut", "rate-limited"])
def test_a_push_is_made_once(inside, fault, name):
    """A lost reply ends in exactly one version."""
    fault(name)
    assert push(inside).version == 1
    assert newest(inside) == 1
    assert push(inside).version == 2


def test_a_push_that_was_found_says_so(inside, fault):
    """A version that was read instead of answered is marked."""
    fault("push-reply-lost")
    assert push(inside).found


def metadata(version, **more):
    """A GetKernel answer."""
    return {"metadata": {"currentVersionNumber": version, **more}, "blob": {"source": SOURCE}}


def test_somebody_elses_version_is_not_ours(script, client):
    """After a lost reply, a version with another source is no success and nothing is sent again."""
    other = metadata(2)
    other["blob"] = {"source": SOURCE.replace("x = 1", "x = 9")}
    script.on("GetKernel", metadata(1), other)
    script.on("SaveKernel", Reply(502))
    with pytest.raises(RemoteError, match="version 2 there now is not what was sent"):
        push(client)
    assert len(script.calls("SaveKernel")) == 1


def test_a_found_version_must_have_its_sources(script, client):
    """A version whose reply was lost is compared with what was attached, since the lists of that reply are lost too."""
    script.on("GetKernel", metadata(1), metadata(2, competitionDataSources=[]))
    script.on("SaveKernel", Reply(502))
    with pytest.raises(RemoteError, match="without competition preferences"):
        push(client)


@pytest.mark.parametrize(("before", "shown"), [(0, "version 2 where nothing"), (1, "version 2 where version 1")])
def test_a_version_that_came_meanwhile_is_not_pushed_over(kaggle, inside, before, shown):
    """Where Kaggle's newest version is not the one that the caller knows, nothing is sent."""
    push(inside)
    push(inside)
    kaggle.traffic.reset()
    with pytest.raises(RemoteError, match=f"{shown} was expected.*kit plan"):
        push(inside, before=before)
    assert kaggle.traffic.requests["kernels.KernelsApiService/SaveKernel"] == 0


def test_a_notebook_that_went_away_meanwhile_is_not_made_anew(inside):
    """A version that the caller knows and Kaggle has no more is an error."""
    with pytest.raises(RemoteError, match="nothing where version 1 was expected"):
        push(inside, before=1)


def test_the_version_that_is_known_is_pushed_over(inside):
    """Where nobody saved meanwhile the next version is made."""
    push(inside, before=0)
    assert push(inside, before=1).version == 2


def test_a_notebook_without_a_version_number_is_not_pushed_over(script, client):
    """An answer that lacks the newest version's number is no absence: nothing is sent, and that is said."""
    script.on("GetKernel", {"metadata": {"title": "Score it"}, "blob": {"source": SOURCE}})
    with pytest.raises(RemoteError, match="holds no currentVersionNumber"):
        push(client)
    assert script.calls("SaveKernel") == []


def test_a_run_is_followed_to_its_end(inside):
    """The state of the pushed version goes on to COMPLETE."""
    push(inside)
    assert wait(inside, 1).complete


def test_a_failed_run_is_not_complete(inside, fault):
    """ERROR is an end, with its message, and no success."""
    fault("run-fails")
    push(inside)
    state = wait(inside, 1)
    assert (state.state, state.complete) == ("ERROR", False)
    assert state.failure


def test_a_state_is_asked_of_the_version(script, client):
    """The version is in every question, as Kaggle wants it."""
    script.on("GetKernelSessionStatus", {"status": "RUNNING"})
    notebooks.status(client, REF, 7)
    assert script.seen[0].json["versionLabel"] == "v7"


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ({}, "UNKNOWN"),
        ({"status": "PREEMPTED"}, "UNKNOWN"),
        (Reply(404), "UNKNOWN"),
        ({"status": "cancelAcknowledged"}, "CANCEL_ACKNOWLEDGED"),
        ({"status": "KERNEL_WORKER_STATUS_COMPLETE"}, "COMPLETE"),
        ({"status": "queued"}, "QUEUED"),
    ],
)
def test_a_state_is_never_guessed(script, client, answer, state):
    """A missing or new state is UNKNOWN, not QUEUED and not a crash."""
    script.on("GetKernelSessionStatus", answer)
    assert notebooks.status(client, REF, 1).state == state


def test_the_same_cells_are_the_same_source():
    """Joined or split lines, order of keys and outputs make no other notebook."""
    joined = json.dumps({"metadata": {}, "cells": [{"cell_type": "code", "source": "x = 1\ny = 2"}]})
    assert same(SOURCE, joined)
    assert not same(SOURCE, joined.replace("y = 2", "y = 3"))


def test_a_text_nested_without_end_is_another_source():
    """What Kaggle gives back in place of a notebook is compared as it is."""
    deep = "[" * 200_000
    assert not same(SOURCE, deep)
    assert same(deep, deep + "\n")
