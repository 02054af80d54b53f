"""A push that is killed, interrupted, or not alone: the next one finishes, and nothing is made or sent twice."""

import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
from push_project import ENGINE, KERNEL, KIT, MODEL, SETTINGS, VARIATION, World

from kaggle_kit.loopback.faults import DATASETS, KERNELS, MODELS, UPLOAD, Delay, Fault
from kaggle_kit.loopback.service import Settings
from kaggle_kit.remote.client import client

ONCE = {ENGINE: 1, KIT: 1, MODEL: 1, KERNEL: 1, "submissions": 1}
LONG = Delay(20.0)
PUSH = ("push", "answer", "--submit", "--unproved")


@pytest.fixture(autouse=True)
def _patient(make, monkeypatch):  # noqa: ARG001  after `make`, which sets it too
    """The next push waits for what the killed one made, however busy this machine is."""
    monkeypatch.setattr(client, "REHEARSAL", replace(client.REHEARSAL, ready_s=30))


@contextmanager
def pushing(world: World, name: str = "answer"):
    """A push in a process of its own; it is gone afterwards."""
    process = world.process("push", name, "--submit", "--unproved")
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(true, process: subprocess.Popen[str]) -> None:
    """Wait until something holds, as long as the process lives."""
    ends = time.monotonic() + 60
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends, "it never came to this"
        time.sleep(0.002)


def slow(world: World, route: str, after: int = 0) -> None:
    """What this call makes is made, and its reply does not come."""
    world.kaggle.faults.add(Fault("slow", "a reply is very late", route, LONG, after=after))


def finish(world: World, name: str = "answer", counts: dict[str, int] = ONCE) -> None:
    """The next push ends well, and everything is there once."""
    world.kaggle.faults._faults.clear()
    told = world.push(name)
    assert told.code == 0, told.text
    assert world.is_released(name)
    assert world.counts() == counts


def test_a_push_killed_in_an_upload_goes_on_from_there(world):
    """Killed in the middle of a file: the rest of it is sent, and all that was sent counts once."""
    big = world.root / "model" / "model.safetensors"
    with big.open("wb") as stream:
        stream.truncate(60_000_000)
    with pushing(world) as process:
        until(lambda: world.kaggle.traffic.uploaded > 300_000, process)
        process.kill()
        process.wait()
    assert world.counts() == {ENGINE: 1, KIT: 1, "submissions": 0}
    assert world.kaggle.traffic.uploaded < 55_000_000
    finish(world)
    assert world.kaggle.traffic.uploaded == sum(world.size(ref) for ref in (ENGINE, KIT, MODEL))


@pytest.mark.parametrize(
    ("route", "made", "name"),
    [
        (DATASETS + "CreateDataset", ENGINE, "answer"),
        (MODELS + "CreateModelInstance", VARIATION, "both"),
        (KERNELS + "SaveKernel", KERNEL, "answer"),
    ],
    ids=["dataset", "model", "notebook"],
)
def test_a_push_killed_before_it_noted_what_it_made_finds_it(make, route, made, name):
    """A version that was made and never noted here is found by its content, and not made again."""
    world = make(settings=Settings(**vars(SETTINGS) | {"polls_until_ready": 6}))
    world.use(name)
    slow(world, route)
    with pushing(world, name) as process:
        until(lambda: world.versions(made) == 1, process)
        process.kill()
    counts = ONCE | ({VARIATION: 1} if name == "both" else {})
    finish(world, name, counts)
    sent = [ref for ref in counts if ref not in {KERNEL, "submissions"}]
    assert world.kaggle.traffic.uploaded == sum(world.size(ref) for ref in sent)


@pytest.mark.parametrize(("name", "last"), [("answer", MODEL), ("both", VARIATION)])
def test_a_push_killed_between_datasets_and_notebook_sends_none_again(make, name, last):
    """While the datasets are processed the push dies: the next one waits for them, and pushes the notebook."""
    world = make(settings=Settings(**vars(SETTINGS) | {"polls_until_ready": 40}))
    world.use(name)
    state = world.root / "kit.state.json"
    with pushing(world, name) as process:
        until(lambda: state.is_file() and f'"{last}"' in state.read_text(), process)
        process.kill()
    assert world.versions(KERNEL) == 0
    sent = world.kaggle.traffic.uploaded
    finish(world, name, ONCE | ({VARIATION: 1} if name == "both" else {}))
    assert world.kaggle.traffic.uploaded == sent


def test_an_interrupted_push_says_so_and_can_be_repeated(world):
    """Ctrl-C: exit code 130, one line, no traceback; the next push finishes."""
    world.kaggle.faults.add(Fault("slow", "an upload is late", UPLOAD, Delay(1.0), times=3))
    with pushing(world) as process:
        until(lambda: world.kaggle.traffic.uploaded > 0, process)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    finish(world)
    assert world.kaggle.traffic.uploaded == sum(world.size(ref) for ref in (ENGINE, KIT, MODEL))


def test_two_pushes_at_once_are_one(world):
    """The second is refused with exit code 2 and the first's process; after that one's end it may go on."""
    slow(world, DATASETS + "CreateDataset")
    with pushing(world) as process:
        until(lambda: world.versions(ENGINE) == 1, process)
        told = world.push()
        assert told.code == 2
        assert f"({process.pid})" in told.text
    finish(world)
