"""Notebooks on the loopback Kaggle."""

import json
import threading

import pytest
import requests
from loopback_client import COMPETITION, DATASET, KERNEL

from kaggle_kit.loopback.runs import RunOutcome
from kaggle_kit.loopback.service import Settings

STREAM = "http://localhost/api/v1/kernels/logs/stream/rehearsal/kit-notebook"


def outputs(caller, version: int) -> dict[str, requests.Response]:
    """The files of a run's output, fetched without a login as the client does."""
    files = caller.kernel("ListKernelSessionOutput", versionLabel=f"v{version}")["files"]
    return {one["fileName"]: requests.get(one["url"], timeout=10) for one in files}


def given(caller, version: int) -> dict:
    """What the runner was given."""
    return outputs(caller, version)["nested/given.json"].json()


def test_a_run_goes_from_queued_to_complete(caller):
    """The first answer is QUEUED, the last one COMPLETE."""
    caller.push()
    assert caller.kernel("GetKernelSessionStatus", versionLabel="v1")["status"] == "QUEUED"
    assert caller.finished(1) == "COMPLETE"


def test_the_runner_gets_the_inputs_of_the_push(caller):
    """Datasets are pinned, the competition's data are there, internet, machine and timeout are as asked."""
    caller.dataset()
    caller.ready()
    caller.push(datasetDataSources=[f"{DATASET}/1"], machineShape="NvidiaL4", sessionTimeoutSeconds=600)
    caller.finished(1)
    assert given(caller, 1) == {
        "inputs": {
            f"dataset {DATASET}": [1, ["a.whl"]],
            f"competition {COMPETITION}": [0, ["nested", "train.csv"]],
        },
        "competition": COMPETITION,
        "accelerator": "NvidiaL4",
        "internet": False,
        "timeout": 600,
    }


def test_a_source_without_a_version_is_the_ready_one(caller):
    """A push while version 2 is processed runs on version 1, and no reply says so."""
    caller.dataset()
    caller.ready()
    caller.version()
    reply = caller.push(datasetDataSources=[DATASET])
    caller.finished(1)
    assert "invalidDatasetSources" not in reply
    assert given(caller, 1)["inputs"][f"dataset {DATASET}"][0] == 1


@pytest.mark.parametrize(
    ("field", "source", "reported"),
    [
        ("datasetDataSources", "rehearsal/nonesuch", "invalidDatasetSources"),
        ("datasetDataSources", f"{DATASET}/2", "invalidDatasetSources"),
        ("competitionDataSources", "nonesuch", "invalidCompetitionSources"),
        ("kernelDataSources", "rehearsal/nonesuch", "invalidKernelSources"),
        ("modelDataSources", "a/b/transformers/c/1", "invalidModelSources"),
    ],
)
def test_a_source_that_is_not_there_is_dropped_and_listed(caller, field, source, reported):
    """The run goes on without it: GetKernel does not know it."""
    caller.dataset()
    caller.ready()
    assert caller.push(**{field: [source]})[reported] == [source]
    assert caller.kernel("GetKernel")["metadata"][field] == []


def test_an_unready_dataset_cannot_be_attached(caller):
    """A dataset of which no version is ready is an invalid source."""
    caller.dataset()
    assert caller.push(datasetDataSources=[DATASET])["invalidDatasetSources"] == [DATASET]


def test_versions_count_up_and_are_told_apart(caller):
    """Status and source are those of the version asked for; the current number is the newest."""
    caller.push()
    caller.finished(1)
    assert caller.push(enableInternet=True)["versionNumber"] == 2
    first = caller.kernel("GetKernel", versionLabel="v1")["metadata"]
    assert (first["enableInternet"], first["currentVersionNumber"]) == (False, 2)


@pytest.mark.parametrize("label", ["1", "v9"])
def test_a_version_that_is_not_there_is_404(caller, label):
    """A bare number is no label, and an unknown one no version."""
    caller.push()
    owner, slug = KERNEL.split("/")
    response = caller.raw(
        "kernels.KernelsApiService/GetKernelSessionStatus", userName=owner, kernelSlug=slug, versionLabel=label
    )
    assert response.status_code == 404


def test_a_new_notebooks_slug_is_made_of_its_title(caller):
    """Kaggle names a notebook by its title, whatever slug was asked."""
    assert caller.push(newTitle="Something Else 2")["ref"] == "/rehearsal/something-else-2"


@pytest.mark.parametrize(
    "wrong",
    [{"newTitle": "four"}, {"newTitle": "t" * 51}, {"text": "{}"}, {"text": "print()"}],
    ids=["short", "long", "no cells", "no JSON"],
)
def test_what_cannot_be_pushed_is_an_error_in_a_200(caller, wrong):
    """Title and notebook are checked, and no version is made."""
    assert caller.push(**wrong)["error"]
    assert caller.call("kernels.KernelsApiService/ListKernels", user="rehearsal")["kernels"] == []


@pytest.mark.parametrize(
    ("asked", "given_"), [("NvidiaTeslaP100", "NvidiaTeslaT4"), ("TpuV232", ""), ("nonesuch", "NvidiaTeslaT4")]
)
def test_a_retired_machine_is_silently_replaced(caller, asked, given_):
    """The reply says nothing; GetKernel shows the machine that there is."""
    caller.push(machineShape=asked)
    assert caller.kernel("GetKernel")["metadata"]["machineShape"] == given_


def test_internet_is_on_where_nothing_is_said(caller):
    """A push without enableInternet gets internet."""
    body = {"slug": "rehearsal/other-notebook", "newTitle": "Other notebook", "text": '{"cells": []}'}
    caller.call("kernels.KernelsApiService/SaveKernel", **body, kernelType="notebook")
    reply = caller.call("kernels.KernelsApiService/GetKernel", userName="rehearsal", kernelSlug="other-notebook")
    assert reply["metadata"]["enableInternet"] is True


def test_no_more_sessions_than_allowed(make, caller_of):
    """The third GPU run at once is refused in a 200."""
    make(runner=lambda run: run.cancelled.wait(20) and RunOutcome("COMPLETE"))
    caller = caller_of()
    assert [caller.push().get("error", "") for _ in range(3)] == [
        "", "", "Maximum batch GPU session count of 2 reached.",
    ]  # fmt: skip


def test_a_used_up_quota_refuses_gpu_runs(make, caller_of):
    """No hours left: the push is refused in a 200, and quota says so."""
    make(settings=Settings(gpu_hours=0.0))
    caller = caller_of()
    assert "quota" in caller.push()["error"]
    quota = caller.call("kernels.KernelsApiService/GetAcceleratorQuotaStatistics")
    assert quota["gpuQuota"]["totalTimeAllowed"] == "0.000s"


def test_a_failing_runner_is_a_failed_run(make, caller_of):
    """What a runner raises ends the run in ERROR, with its text."""

    def broken(_run):
        raise RuntimeError("no kernel image")

    make(runner=broken)
    caller = caller_of()
    caller.push()
    assert caller.finished(1) == "ERROR"
    assert "no kernel image" in caller.kernel("GetKernelSessionStatus")["failureMessage"]


def test_output_comes_by_pages(caller):
    """One file a page, two pages, the log with each."""
    caller.push()
    caller.finished(1)
    first = caller.kernel("ListKernelSessionOutput", pageSize=1)
    second = caller.kernel("ListKernelSessionOutput", pageSize=1, pageToken=first["nextPageToken"])
    names = [one["fileName"] for one in first["files"] + second["files"]]
    assert names == ["nested/given.json", "submission.csv"]
    assert [event["data"] for event in json.loads(first["log"])] == ["started\n", "finished\n"]


def test_output_files_can_be_resumed(caller):
    """A file says its size and answers a range."""
    caller.push()
    caller.finished(1)
    files = caller.kernel("ListKernelSessionOutput")["files"]
    url = next(one["url"] for one in files if one["fileName"] == "submission.csv")
    part = requests.get(url, headers={"Range": "bytes=3-"}, timeout=10)
    assert (part.status_code, part.text) == (206, "score\n1,0.25\n")


def test_the_log_of_a_live_run_is_streamed(make, caller_of):
    """Events come while the run is on, and the stream ends with it."""
    go = threading.Event()

    def slow(run):
        run.say("first")
        go.wait(20)
        return RunOutcome("COMPLETE", log=("last",))

    make(runner=slow)
    caller = caller_of()
    caller.push()
    with caller.session.get(f"{STREAM}?versionLabel=v1", stream=True, timeout=20) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        lines = (line for line in response.iter_lines(chunk_size=1, decode_unicode=True) if line)
        assert '"first\\n"' in next(lines)
        go.set()
        assert '"last\\n"' in next(lines)
        assert next(lines) == "data: END_OF_LOG"


def test_the_log_of_an_ended_run_is_one_list(caller):
    """Afterwards the stream's address answers JSON."""
    caller.push()
    caller.finished(1)
    events = caller.session.get(STREAM, timeout=10).json()
    assert [event["data"] for event in events] == ["started\n", "finished\n"]


def test_a_save_without_a_run_runs_nothing(caller):
    """QUICK_SAVE stores a version and starts no session."""
    caller.push(kernelExecutionType="QUICK_SAVE")
    assert caller.kernel("GetKernelSessionStatus")["status"] == "NEW_SCRIPT"


def test_an_earlier_notebooks_output_can_be_an_input(caller):
    """A notebook source is the folder of its last complete run."""
    caller.push()
    caller.finished(1)
    caller.push(kernelDataSources=[KERNEL])
    caller.finished(2)
    assert given(caller, 2)["inputs"][f"kernel {KERNEL}"] == [1, ["nested", "submission.csv"]]


def test_a_runner_cannot_change_what_was_uploaded(make, caller_of):
    """Inputs are read-only files."""
    modes = []

    def look(run):
        (folder,) = (one.folder for one in run.inputs if one.kind == "dataset")
        modes.extend(path.stat().st_mode & 0o222 for path in folder.iterdir())
        return RunOutcome("COMPLETE")

    make(runner=look)
    caller = caller_of()
    caller.dataset()
    caller.ready()
    caller.push(datasetDataSources=[DATASET])
    caller.finished(1)
    assert modes == [0]
