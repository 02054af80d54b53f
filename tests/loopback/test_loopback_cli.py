"""The official command line, as it is installed, against the loopback Kaggle."""

import json
import os
import re
from pathlib import Path

import pytest
from loopback_client import COMPETITION, DATASET, KERNEL, NOTEBOOK, cli, judge, run

from kaggle_kit.loopback.faults import FAULTS
from kaggle_kit.loopback.server import LoopbackKaggle


class Desk:
    """A server, and the command line in an environment that knows nothing else."""

    def __init__(self, room: Path, *faults) -> None:
        for name in ("home", "tmp", "dataset", "notebook", "out", "data"):
            (room / name).mkdir()
        (room / "data" / "train.csv").write_text("id\n1\n")
        (room / "dataset" / "a.whl").write_bytes(os.urandom(300_000))
        (room / "dataset" / "empty.txt").write_bytes(b"")
        about = {"id": DATASET, "title": "Kit wheels", "licenses": [{"name": "CC0-1.0"}]}
        (room / "dataset" / "dataset-metadata.json").write_text(json.dumps(about))
        (room / "notebook" / "kit.ipynb").write_text(NOTEBOOK)
        self.room = room
        self.server = LoopbackKaggle(room / "kaggle", runner=run, judge=judge, faults=faults)
        self.server.start()
        self.server.add_competition(COMPETITION, room / "data")
        self.environment = self.server.environment(room / "home", room / "tmp")
        self.describe([DATASET])

    def describe(self, datasets: list[str], models: list[str] = ()) -> None:
        """Write the notebook's metadata."""
        about = {
            "id": KERNEL, "title": "Kit notebook", "code_file": "kit.ipynb", "language": "python",
            "kernel_type": "notebook", "is_private": True, "enable_gpu": True, "enable_internet": False,
            "dataset_sources": datasets, "competition_sources": [COMPETITION], "model_sources": list(models),
        }  # fmt: skip
        (self.room / "notebook" / "kernel-metadata.json").write_text(json.dumps(about))

    def kaggle(self, *arguments: str) -> tuple[int, str]:
        """Exit code and output of one command."""
        done = cli(self.environment, *arguments, cwd=self.room)
        return done.returncode, done.stdout + done.stderr

    def until(self, wanted: str, *arguments: str) -> str:
        """Ask again until the answer holds a word."""
        for _ in range(6):
            said = self.kaggle(*arguments)[1]
            if wanted in said:
                return said
        raise AssertionError(said)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A whole release by the command line: what each step said."""
    desk = Desk(tmp_path_factory.mktemp("release"))
    said = {
        "create": desk.kaggle("datasets", "create", "-p", "dataset"),
        "ready": desk.until("ready", "datasets", "status", DATASET),
        "version": desk.kaggle("datasets", "version", "-p", "dataset", "-m", "second"),
        "ready again": desk.until("ready", "datasets", "status", DATASET),
        "files": desk.kaggle("datasets", "files", DATASET),
        "push": desk.kaggle("kernels", "push", "-p", "notebook", "--accelerator", "NvidiaL4", "-t", "600"),
        "status": desk.until("COMPLETE", "kernels", "status", KERNEL),
        "output": desk.kaggle("kernels", "output", KERNEL, "-p", "out"),
        "logs": desk.kaggle("kernels", "logs", KERNEL),
        "pull": desk.kaggle("kernels", "pull", KERNEL, "-p", "pulled", "-m"),
        "submit": desk.kaggle(
            "competitions", "submit", COMPETITION, "-f", "submission.csv", "-k", KERNEL, "-v", "1", "-m", "first"
        ),
        "score": desk.until("0.25", "competitions", "submissions", COMPETITION),
        "quota": desk.kaggle("quota"),
        "data": desk.kaggle("competitions", "download", COMPETITION, "-f", "train.csv", "-p", "out"),
    }
    yield desk, said
    desk.server.stop()


def test_every_command_succeeds(release):
    """No step of a release ends with another exit code than 0."""
    _, said = release
    assert {name: step for name, step in said.items() if isinstance(step, tuple) and step[0]} == {}


def test_the_server_made_no_mistake(release):
    """The server's own code failed nowhere."""
    assert release[0].server.mistakes == ()


def test_a_dataset_and_its_version_are_there(release):
    """Both files are listed, and version 2 is the current one."""
    desk, said = release
    assert "a.whl" in said["files"][1]
    assert "empty.txt" in said["files"][1]
    assert desk.server.traffic.requests["datasets.DatasetApiService/CreateDatasetVersion"] == 1


def test_a_notebook_is_pushed_with_its_inputs(release):
    """The push says version 1 and no invalid source; the run had version 2 of the dataset, and the machine."""
    desk, said = release
    assert "version 1" in said["push"][1]
    assert "not valid" not in said["push"][1]
    given = json.loads((desk.room / "out" / "nested" / "given.json").read_text())
    assert given["inputs"][f"dataset {DATASET}"] == [2, ["a.whl", "empty.txt"]]
    assert (given["accelerator"], given["internet"], given["timeout"]) == ("NvidiaL4", False, 600)


def test_output_and_log_are_fetched(release):
    """The run's files and its log lie in the folder asked for."""
    desk, said = release
    assert (desk.room / "out" / "submission.csv").read_text() == "id,score\n1,0.25\n"
    assert "finished" in (desk.room / "out" / "kit-notebook.log").read_text()
    assert "started" in said["logs"][1]


def test_a_notebook_is_pulled_with_its_settings(release):
    """The metadata of a pulled notebook are those of the push."""
    about = json.loads((release[0].room / "pulled" / "kernel-metadata.json").read_text())
    assert (about["enable_internet"], about["dataset_sources"]) == (False, [DATASET])


def test_a_submission_is_scored(release):
    """The judge's score is shown."""
    assert "COMPLETE" in release[1]["score"]


def test_quota_is_shown(release):
    """Thirty hours of GPU."""
    assert "30.00h" in release[1]["quota"][1]


def test_a_competitions_file_is_downloaded(release):
    """The redirect leads to the file, alone or in a zip."""
    assert [path.name for path in (release[0].room / "out").glob("train.csv*")]


def test_only_this_server_was_asked(release):
    """Every request named localhost or 127.0.0.1."""
    hosts = {re.sub(r":\d+$", "", host) for host in release[0].server.traffic.hosts}
    assert hosts == {"localhost", "127.0.0.1"}
    assert not release[0].server.traffic.strangers


def test_a_cut_upload_ends_well(tmp_path):
    """The command line goes on after a cut, from wherever that was, and the dataset holds all of the file."""
    desk = Desk(tmp_path, FAULTS["upload-cut"])
    code, _ = desk.kaggle("datasets", "create", "-p", "dataset", "-q")
    desk.until("ready", "datasets", "status", DATASET)
    listed = desk.kaggle("datasets", "files", DATASET)[1]
    desk.server.stop()
    assert (code, "300000" in listed) == (0, True)
    assert desk.server.faults.fired["upload-cut"] == 1
    assert desk.server.traffic.uploaded >= 300_000


def test_an_upload_is_resumed_after_503(tmp_path):
    """The command line asks what has come, and goes on."""
    desk = Desk(tmp_path, FAULTS["upload-503"])
    code, _ = desk.kaggle("datasets", "create", "-p", "dataset", "-q")
    desk.server.stop()
    assert code == 0
    assert desk.server.traffic.requests["PUT upload query"] == 1


@pytest.mark.parametrize(
    ("name", "word"),
    [("push-refused", "Maximum batch GPU session"), ("push-empty-reply", "successfully"), ("push-drops-model", "")],
)
def test_the_command_line_calls_a_failed_push_a_success(tmp_path, name, word):
    """Exit code 0, whatever went wrong: what kit must not do."""
    desk = Desk(tmp_path, FAULTS[name])
    desk.server.add_model("somebody/llama/transformers/8b", tmp_path / "data")
    desk.describe([], ["somebody/llama/transformers/8b/1"])
    code, said = desk.kaggle("kernels", "push", "-p", "notebook")
    desk.server.stop()
    assert (code, word in said) == (0, True)
    assert desk.server.faults.fired[name] == 1


def test_a_wrong_machine_is_seen_in_its_metadata(tmp_path):
    """A retired machine is replaced without a word: only a pull shows it."""
    desk = Desk(tmp_path)
    desk.describe([])
    desk.kaggle("kernels", "push", "-p", "notebook", "--accelerator", "NvidiaTeslaP100")
    desk.kaggle("kernels", "pull", KERNEL, "-p", "pulled", "-m")
    desk.server.stop()
    assert json.loads((tmp_path / "pulled" / "kernel-metadata.json").read_text())["machine_shape"] == "NvidiaTeslaT4"
