"""Faults of the loopback Kaggle: each fires, and a client can see it."""

import json
import time
from collections import Counter
from dataclasses import replace

import pytest
import requests
from loopback_client import COMPETITION, DATASET, KERNEL, NOTEBOOK, until

from kaggle_kit.errors import UsageError
from kaggle_kit.loopback.faults import FAULTS, Delay, find_fault
from kaggle_kit.loopback.records import Kernel, KernelVersion, Submission

SLOW_SECONDS = 1.0
VOLATILE = {"token", "createUrl", "url", "date", "creationDate", "lastUpdated", "lastRunTime", "id", "kernelId"}
D, M, K, C = (
    f"{name}ApiService/" for name in ("datasets.Dataset", "models.Model", "kernels.Kernels", "competitions.Competition")
)
OWN = {"ownerSlug": "rehearsal"}
SET = OWN | {"datasetSlug": "kit-wheels"}
MODEL = OWN | {"modelSlug": "kit-model"}
VARIATION = MODEL | {"framework": "TRANSFORMERS", "instanceSlug": "awq"}
NOTE = {"userName": "rehearsal", "kernelSlug": "kit-notebook"}


def steady(value):
    """What a reply says that is the same in every run."""
    if isinstance(value, dict):
        return {k: bool(v) if k == "log" else steady(v) for k, v in value.items() if k not in VOLATILE}
    return [steady(one) for one in value] if isinstance(value, list) else value


class Release:
    """One whole release in a fixed number of calls, and all that its client saw."""

    def __init__(self, server, caller) -> None:
        self.server, self.caller = server, caller
        self.seen: list = []

    def note(self, route: str, send) -> dict:
        """Do one request and write down what came of it."""
        began = time.monotonic()
        try:
            response = send()
        except requests.RequestException:
            self.seen.append((route, "no reply"))
            return {}
        body = response.json() if response.content else {}
        slow = time.monotonic() - began > SLOW_SECONDS * 0.9
        self.seen.append((route, response.status_code, response.headers.get("Retry-After"), slow, steady(body)))
        return body

    def call(self, route: str, **body) -> dict:
        """One call."""
        return self.note(route, lambda: self.caller.raw(route, **body))

    def upload(self) -> list:
        """One upload; the files of the request that uses it."""
        start = {"type": "DATASET", "name": "a.whl", "contentLength": 1000}
        opened = self.call("blobs.BlobApiService/StartBlobUpload", **start)
        if "createUrl" in opened:
            self.note("PUT", lambda: requests.put(opened["createUrl"], data=b"w" * 1000, timeout=20))
        return [{"token": opened.get("token")}]

    def datasets(self) -> None:
        """Make a dataset and its second version, and read both back."""
        self.call(D + "GetDatasetStatus", **SET)
        about = {"slug": "kit-wheels", "title": "Kit wheels", "licenseName": "other"}
        self.call(D + "CreateDataset", **OWN, **about, files=self.upload())
        self.read_back()
        self.call(D + "CreateDatasetVersion", **SET, body={"files": self.upload()})
        self.read_back()

    def read_back(self) -> None:
        """What a careful client asks after a version."""
        for _ in range(3):
            self.call(D + "GetDatasetStatus", **SET)
        self.call(D + "GetDataset", **SET)
        self.call(D + "ListDatasetFiles", **SET)

    def models(self) -> None:
        """Make a model, a variation and its second version."""
        body = {"instanceSlug": "awq", "framework": "TRANSFORMERS", "licenseName": "other"}
        self.call(M + "CreateModel", **OWN, slug="kit-model", title="Kit model")
        self.call(M + "CreateModelInstance", **MODEL, body=body | {"files": self.upload()})
        self.call(M + "CreateModelInstanceVersion", **VARIATION, body={"files": self.upload()})
        for _ in range(3):
            self.call(M + "GetModelInstance", **VARIATION)

    def notebook(self) -> None:
        """Ask whether it is there, push with one source of each kind, follow the run, read all back."""
        self.call(K + "GetKernel", **NOTE)
        self.call(
            K + "SaveKernel", slug=KERNEL, newTitle="Kit notebook", text=NOTEBOOK, kernelType="notebook",
            enableGpu=True, enableInternet=False, datasetDataSources=[DATASET], competitionDataSources=[COMPETITION],
            kernelDataSources=["rehearsal/earlier"], modelDataSources=["rehearsal/kit-model/transformers/awq/1"],
        )  # fmt: skip
        if self.server._store.get(Kernel, KERNEL):
            until(self.run_is_over)
        for _ in range(5):
            self.call(K + "GetKernelSessionStatus", **NOTE, versionLabel="v1")
        self.call(K + "ListKernelSessionOutput", **NOTE, versionLabel="v1")
        self.call(K + "GetKernel", **NOTE, versionLabel="v1")

    def run_is_over(self) -> bool:
        """Whether the run has ended, or will not."""
        status = self.server._store.get(Kernel, KERNEL).versions[0].status
        endless = {"run-never-starts", "run-never-ends"} & set(self.server.faults.fired)
        return status in {"COMPLETE", "ERROR"} or bool(endless)

    def submission(self) -> None:
        """Submit and follow."""
        made = self.call(
            C + "CreateCodeSubmission", competitionName=COMPETITION, kernelOwner="rehearsal",
            kernelSlug="kit-notebook", kernelVersion=1,
        )  # fmt: skip
        ref = made.get("ref", 0)
        if ref:
            until(lambda: self.server._store.get(Submission, str(ref)).judged)
        for _ in range(4):
            self.call(C + "GetSubmission", ref=ref)

    def run(self) -> list:
        """The whole release; what was seen, with submissions' numbers left out."""
        for part in (self.datasets, self.models, self.notebook, self.submission):
            part()
        return json.loads(json.dumps(self.seen), object_hook=lambda one: {k: v for k, v in one.items() if k != "ref"})


def released(make, caller_of, *faults) -> tuple:
    """The server of a release with these faults, and what its client saw."""
    server = make(faults=faults)
    version = KernelVersion(1, NOTEBOOK, (), "", False, False, False, "", 0, "2026-11-24T00:00:00.000Z", "COMPLETE")
    earlier = Kernel(1, "rehearsal/earlier", "Earlier", "python", "notebook", private=True, versions=(version,))
    server._store.put("rehearsal/earlier", earlier)
    server._service.runs.out("rehearsal/earlier", 1).mkdir(parents=True)
    return server, Release(server, caller_of()).run()


CLEAN: list = []


@pytest.fixture
def clean(make, caller_of, tmp_path) -> list:
    """What a client sees where nothing goes wrong."""
    if not CLEAN:
        server, seen = released(lambda faults: make(tmp_path / "clean", faults=faults), caller_of)
        server.stop()
        CLEAN.extend(seen)
    return CLEAN


def test_a_release_without_faults_succeeds(clean):
    """Every call but the first questions is answered with 200, and nothing is refused in a 200."""
    assert [one[:2] for one in clean if one[1] != 200] == [[D + "GetDatasetStatus", 404], [K + "GetKernel", 404]]
    assert not [one for one in clean if any(key.startswith(("error", "invalid")) and one[4][key] for key in one[4])]
    assert clean[-1][4]["publicScore"] == "0.25000"


def test_a_release_looks_the_same_each_time(make, caller_of, clean):
    """What a fault changes is the fault's doing: two releases without any are alike."""
    assert released(make, caller_of)[1] == clean


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_fires_and_is_seen(make, caller_of, clean, name):
    """The fault is counted as fired, and its client's view of the release is another."""
    fault = FAULTS[name]
    if isinstance(fault.effect, Delay):
        fault = replace(fault, effect=Delay(SLOW_SECONDS))
    server, seen = released(make, caller_of, fault)
    assert server.faults.fired[name] >= 1
    assert seen != clean


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_says_what_it_does(name):
    """A name in lower case, and one sentence."""
    fault = FAULTS[name]
    assert name == fault.name == name.lower()
    assert len(fault.does) > 20


def test_every_row_of_the_table_has_a_fault():
    """All silent failures that are the server's doing can be asked for."""
    rows = {fault.row for fault in FAULTS.values()}
    assert {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 15, 16, 18} <= rows


def test_a_fault_strikes_as_often_as_asked(make, caller_of):
    """After two calls that pass, three strikes, and then none."""
    server = make(faults=[replace(FAULTS["server-500"], times=3, after=2)])
    caller = caller_of()
    seen = Counter(caller.raw(D + "ListDatasets").status_code for _ in range(8))
    assert seen == {200: 5, 500: 3}
    assert server.faults.fired["server-500"] == 3


def test_a_lost_reply_was_carried_out(make, caller_of):
    """The notebook exists and runs, though its push was not answered."""
    make(faults=[FAULTS["push-reply-lost"]])
    caller = caller_of()
    with pytest.raises(requests.ConnectionError):
        caller.push()
    assert caller.kernel("GetKernel")["metadata"]["currentVersionNumber"] == 1


def test_an_unknown_fault_is_named_with_a_near_one():
    """A slip of the pen is answered with what was meant."""
    with pytest.raises(UsageError, match="push-reply-lost"):
        find_fault("push-reply-los")
