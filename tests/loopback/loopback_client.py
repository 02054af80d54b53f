"""What the tests of the loopback Kaggle share: a runner, a judge, and a client that says the protocol's words."""

import atexit
import json
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import requests

from kaggle_kit.loopback.runs import KernelRun, RunOutcome

KAGGLE = Path(sys.executable).with_name("kaggle")
COMPETITION = "preference-rehearsal"
DATASET = "rehearsal/kit-wheels"
KERNEL = "rehearsal/kit-notebook"
NOTEBOOK = json.dumps(
    {
        "cells": [{"cell_type": "code", "source": "1 + 1", "metadata": {}, "outputs": [], "execution_count": None}],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
)


def run(run: KernelRun) -> RunOutcome:
    """Write a submission, and what the run was given."""
    run.say("started")
    given = {
        "inputs": {
            f"{i.kind} {i.reference}": [i.version, sorted(one.name for one in i.folder.iterdir())] for i in run.inputs
        },
        "competition": run.competition,
        "accelerator": run.accelerator,
        "internet": run.internet,
        "timeout": run.timeout,
    }
    (run.out / "nested").mkdir(exist_ok=True)
    (run.out / "nested" / "given.json").write_text(json.dumps(given))
    (run.out / "submission.csv").write_text("id,score\n1,0.25\n")
    return RunOutcome("COMPLETE", log=("finished",))


def judge(competition: str, submission: Path) -> float:
    """The number in the submission's second line."""
    assert competition == COMPETITION
    return float(submission.read_text().splitlines()[1].split(",")[1])


class Caller:
    """Calls of the protocol, through the environment's proxy as the official client makes them."""

    def __init__(self, token: str) -> None:
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {token}"

    def raw(self, route: str, **body):
        """The HTTP response of one call."""
        return self.session.post(f"http://localhost/api/v1/{route}", json=body, timeout=20)

    def call(self, route: str, **body) -> dict:
        """The reply of one call, which must succeed."""
        response = self.raw(route, **body)
        assert response.status_code == 200, response.text
        return response.json()

    def upload(self, name: str, content: bytes, kind: str = "DATASET") -> str:
        """Upload a file; its token."""
        opened = self.call("blobs.BlobApiService/StartBlobUpload", type=kind, name=name, contentLength=len(content))
        assert self.session.put(opened["createUrl"], data=content, timeout=20).status_code == 200
        return opened["token"]

    def dataset(self, ref: str = DATASET, **files: bytes) -> dict:
        """Make a dataset of these files."""
        owner, slug = ref.split("/")
        tokens = [{"token": self.upload(name, content)} for name, content in (files or {"a.whl": b"a"}).items()]
        return self.call(
            "datasets.DatasetApiService/CreateDataset",
            ownerSlug=owner, slug=slug, title=slug, licenseName="CC0-1.0", isPrivate=True, files=tokens,
        )  # fmt: skip

    def version(self, ref: str = DATASET, **files: bytes):
        """Give a dataset its next version; the HTTP response."""
        owner, slug = ref.split("/")
        tokens = [{"token": self.upload(name, content)} for name, content in (files or {"a.whl": b"b"}).items()]
        return self.raw(
            "datasets.DatasetApiService/CreateDatasetVersion",
            ownerSlug=owner, datasetSlug=slug, body={"versionNotes": "next", "files": tokens},
        )  # fmt: skip

    def about(self, method: str, ref: str = DATASET, **more) -> dict:
        """A reading call about a dataset."""
        owner, slug = ref.split("/")
        return self.call(f"datasets.DatasetApiService/{method}", ownerSlug=owner, datasetSlug=slug, **more)

    def ready(self, ref: str = DATASET) -> None:
        """Ask until a dataset is ready."""
        until(lambda: self.about("GetDatasetStatus", ref)["status"] == "READY")

    def push(self, **fields) -> dict:
        """Push the notebook, GPU and no internet, in the competition."""
        body = {
            "slug": KERNEL, "newTitle": "Kit notebook", "text": NOTEBOOK, "language": "python",
            "kernelType": "notebook", "isPrivate": True, "enableGpu": True, "enableInternet": False,
            "competitionDataSources": [COMPETITION],
        }  # fmt: skip
        return self.call("kernels.KernelsApiService/SaveKernel", **(body | fields))

    def kernel(self, method: str, **more) -> dict:
        """A reading call about the notebook."""
        owner, slug = KERNEL.split("/")
        return self.call(f"kernels.KernelsApiService/{method}", userName=owner, kernelSlug=slug, **more)

    def finished(self, version: int) -> str:
        """Ask until a run has ended; its status."""
        label = f"v{version}"
        ends = {"COMPLETE", "ERROR"}
        until(lambda: self.kernel("GetKernelSessionStatus", versionLabel=label)["status"] in ends)
        return self.kernel("GetKernelSessionStatus", versionLabel=label)["status"]

    def submit(self, version: int, **more):
        """Submit a version's output; the HTTP response."""
        owner, slug = KERNEL.split("/")
        body = {"competitionName": COMPETITION, "kernelOwner": owner, "kernelSlug": slug, "kernelVersion": version}
        return self.raw("competitions.CompetitionApiService/CreateCodeSubmission", **(body | more))

    def scored(self, ref: int) -> dict:
        """Ask until a submission is judged; what is said of it."""
        route = "competitions.CompetitionApiService/GetSubmission"
        until(lambda: self.call(route, ref=ref)["status"] != "PENDING")
        return self.call(route, ref=ref)


def until(done, seconds: float = 10.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not come to hold"
        time.sleep(0.01)


_ONE_BY_ONE = """
import json, os, runpy, sys
import bleach, dateutil.relativedelta, dotenv, google.protobuf.field_mask_pb2, kagglesdk, packaging.version
import requests, slugify, tqdm, urllib3
for line in sys.stdin:
    asked = json.loads(line)
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    os.setsid()
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in enumerate(("out", "err"), start=1):
        os.dup2(os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = asked["command"]
    runpy.run_path(sys.argv[0], run_name="__main__")
    sys.exit(0)
"""
"""Has read what the official command line imports, and becomes it, a process for each command."""


@cache
def _ready() -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _ONE_BY_ONE]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(process.communicate)
    return process


def cli(environment: dict[str, str], *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the official command line, as it is installed, in a process and an environment of its own."""
    command = [str(KAGGLE), *arguments]
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / name for name in ("out", "err")}
        asked = {"command": command, "environment": environment, "cwd": cwd, **files}
        print(json.dumps(asked, default=str), file=_ready().stdin, flush=True)
        code = int(_ready().stdout.readline())
        return subprocess.CompletedProcess(command, code, *(path.read_text() for path in files.values()))
