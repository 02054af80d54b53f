"""Every fault of the loopback Kaggle against a whole `kit push NAME --submit`: it never lies, and again it finishes."""

import dataclasses
from dataclasses import dataclass, field

import pytest
from push_project import ENGINE, KERNEL, MODEL, VARIATION, World, rebuild

from kaggle_kit.loopback.faults import ANY_CALL, FAULTS, Fault, Lose, status

FIRST = {ENGINE: 1, "ada/wheels-t4-kit": 1, MODEL: 1, KERNEL: 1, "submissions": 1}
LARGEST = 300_000
"""Bytes that a cut or refused upload may cost again: one file."""
SLACK = {"upload-cut", "upload-500", "upload-503", "upload-expired"}
NEVER_MET = {"push-drops-kernel": "kit's builds attach no notebook (kernel_sources is empty); tests of the client do"}


@dataclass(frozen=True)
class Case:
    """What a fault does to a push. `code` is the first run's; `says` stands in what it says where that is not 0.

    `start` is what is on Kaggle before: nothing, or a first release, after which a model's file changed. `name` is the
    notebook: `both` uses a Kaggle model too. `more` are the versions and submissions beyond one each: those that
    replace what the fault left bad.
    """

    code: int = 0
    says: tuple[str, ...] = ()
    start: str = "nothing"
    name: str = "answer"
    more: dict[str, int] = field(default_factory=dict)


REPLACED = {KERNEL: 1}
"""The version without its source, on the wrong machine, with internet on, or whose run failed is replaced."""
STRIDE = 7
AGAIN = "run the same command again"
CASES = {
    "push-refused": Case(1, (KERNEL, "session count", AGAIN)),
    "push-drops-dataset": Case(1, (KERNEL, MODEL, "push again"), more=REPLACED),
    "push-drops-competition": Case(1, (KERNEL, "competition best-answer", "push again"), more=REPLACED),
    "push-drops-model": Case(1, (KERNEL, VARIATION, "push again"), name="both", more=REPLACED),
    "push-drops-dataset-unsaid": Case(1, (KERNEL, "datasets is", "kit push answer makes a new version"), more=REPLACED),
    "push-drops-model-unsaid": Case(1, (KERNEL, "models is []", "kit push both makes"), name="both", more=REPLACED),
    "push-empty-reply": Case(1, (KERNEL, "answer is empty", AGAIN)),
    "push-no-version": Case(1, (KERNEL, "no versionNumber", "push again")),
    "push-other-machine": Case(1, (KERNEL, "accelerator is ''", "makes a new version"), more=REPLACED),
    "push-internet-on": Case(1, (KERNEL, "internet is True", "makes a new version"), more=REPLACED),
    "run-fails": Case(1, ("answer version 1: error", "kit push answer runs it as a new version"), more=REPLACED),
    "run-never-starts": Case(1, (KERNEL, "queued", "kit status")),
    "run-never-ends": Case(1, (KERNEL, "running", "kit status")),
    "dataset-slug-taken": Case(1, (ENGINE, "already in use", AGAIN)),
    "version-refused": Case(1, (MODEL, "could not be processed", AGAIN), "first release"),
    "version-empty-reply": Case(1, (MODEL, "answer is empty", AGAIN), "first release"),
    "version-tags-hide-error": Case(1, (MODEL, "could not be processed", AGAIN), "first release"),
    "version-reply-lost": Case(start="first release"),
    "dataset-fails": Case(1, (ENGINE, "FAILED", "push again"), more={ENGINE: 1}),
    "model-refused": Case(1, ("ada/small", "could not be made", AGAIN), name="both"),
    "variation-refused": Case(1, (VARIATION, "could not be made", AGAIN), name="both"),
    "variation-reply-lost": Case(name="both"),
    "model-version-refused": Case(1, (VARIATION, "could not be made", AGAIN), "first release", "both"),
    "model-version-reply-lost": Case(start="first release", name="both"),
    "submit-refused": Case(1, (KERNEL, "cannot be submitted", AGAIN)),
    # A submission that failed counts as none: it is handed in again.
    "submission-fails": Case(1, ("submission", "could not score", "submit again"), more={"submissions": 1}),
    "submission-no-score": Case(1, ("answer version 1", "no score", "kit submit answer --wait")),
}


def begin(world: World, case: Case) -> dict[str, int]:
    """Bring Kaggle to where the case starts; what must be there in the end."""
    world.use(case.name)
    wanted = FIRST | ({VARIATION: 1} if case.name == "both" else {})
    if case.start == "first release":
        assert world.push(case.name).code == 0
        changed = VARIATION if case.name == "both" else MODEL
        world.change_model("published" if case.name == "both" else "model")
        if case.name == "both":
            config = world.root / "kit.toml"
            config.write_text(config.read_text().replace(f"{VARIATION}/1", f"{VARIATION}/2"))
            rebuild(world.root, "both")
        wanted |= {changed: 2, KERNEL: 2, "submissions": 2}
        world.kaggle.traffic.reset()
    return {name: count + case.more.get(name, 0) for name, count in wanted.items()}


def free(world: World) -> None:
    """No fault strikes any more; a run that a fault keeps for ever goes on."""
    world.kaggle.faults._faults.clear()
    world.kaggle._service.runs.resume()


def sent_once(world: World, counts: dict[str, int], before: dict[str, int], *, slack: bool) -> bool:
    """Whether what came over the line is what the new versions hold, and nothing of it twice."""
    new = {name: counts[name] - before.get(name, 0) for name in counts if name not in {KERNEL, "submissions"}}
    size = sum(world.size(name) * count for name, count in new.items())
    return size <= world.kaggle.traffic.uploaded <= size + (LARGEST if slack else 0)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_or_overcome_and_the_next_push_finishes(world, name):
    """The first run's exit code is 0 only for the whole release; the second one's is 0, and nothing was done twice."""
    case = CASES.get(name, Case())
    wanted = begin(world, case)
    before = world.counts() if case.start != "nothing" else {}
    world.kaggle.faults.add(FAULTS[name])
    first = world.push(case.name)
    assert bool(world.kaggle.faults.fired[name]) is (name not in NEVER_MET)
    assert first.code == case.code, first.text
    if first.code == 0:
        assert world.is_released(case.name)
    assert all(part in first.text for part in case.says), first.text
    free(world)
    second = world.push(case.name)
    assert second.code == 0, second.text
    assert world.is_released(case.name)
    assert world.counts() == wanted
    assert sent_once(world, wanted, before, slack=name in SLACK)


LASTING = {
    "dataset-wrong-size": (ENGINE, "bytes of", "push again"),
    "dataset-file-missing": (ENGINE, "does not list", "push again"),
    "dataset-status-unknown": (ENGINE, "ARCHIVING", "not ready in time", AGAIN),
    "dataset-status-missing": (ENGINE, "no status", "not ready in time", AGAIN),
    "dataset-no-version": (ENGINE, "still shows no version", "not ready in time", AGAIN),
    "dataset-check-500": (ENGINE, "500", AGAIN),
    "run-not-listed": (KERNEL, "does not show it yet", "kit plan"),
    "run-status-missing": (KERNEL, "no status", "kit status"),
    "run-status-unknown": (KERNEL, "PREEMPTED", "kit status"),
    "run-status-500": (KERNEL, "500", AGAIN),
    "output-empty": (KERNEL, "left no submission.csv", "kit logs"),
    "submission-not-listed": ("submission", "not scored in time", "kit submit --wait"),
    "submission-fails": ("submission", "could not score", "submit again"),
    "upload-500": (ENGINE, "500", "Run the same command again"),
    "upload-cut": (ENGINE, "cut", "Run the same command again"),
    "upload-start-500": (ENGINE, "500", AGAIN),
    "rate-limited": (ENGINE, "429", "wait some minutes"),
    "server-503": (ENGINE, "503", AGAIN),
    "call-cut": (ENGINE, "cut", AGAIN),
}
MORE = {"submission-fails": {"submissions": 1}}


@pytest.mark.parametrize("name", LASTING)
def test_a_fault_that_lasts_ends_the_push_in_time_and_is_told(world, name):
    """Kit gives up after its own limits with exit code 1, says what it last saw, and goes on when all is well again."""
    effect = FAULTS[name].effect
    if name == "rate-limited":
        effect = status(429, "too many requests", **{"Retry-After": "0"})
    world.kaggle.faults.add(dataclasses.replace(FAULTS[name], times=100_000, effect=effect))
    first = world.push()
    assert first.code == 1, first.text
    assert all(part in first.text for part in LASTING[name]), first.text
    free(world)
    second = world.push()
    assert second.code == 0, second.text
    assert world.is_released()
    assert world.counts() == FIRST | {key: FIRST[key] + more for key, more in MORE.get(name, {}).items()}


@pytest.mark.parametrize("name", ["dataset-fails", "run-fails"])
def test_what_fails_again_and_again_is_told_each_time(world, name):
    """A failure that repeats itself is exit code 1 as often, each with a version of its own."""
    world.kaggle.faults.add(dataclasses.replace(FAULTS[name], times=2))
    assert [world.push().code for _ in range(3)] == [1, 1, 0]
    assert world.is_released()


@pytest.mark.parametrize("begin_at", range(STRIDE))
def test_any_reply_may_be_lost(world, begin_at):
    """Every seventh reply is lost, whichever these are: all comes out in the first run, and once."""
    faults = [
        Fault(f"lost-{at}", "a reply is lost", ANY_CALL, Lose(), after=begin_at + (STRIDE - 1) * at) for at in range(12)
    ]
    for fault in faults:
        world.kaggle.faults.add(fault)
    world.use("both")
    first = world.push("both")
    assert world.kaggle.faults.fired.total() > 8
    assert first.code == 0, first.text
    assert world.is_released("both")
    assert world.counts() == FIRST | {VARIATION: 1}
    assert sent_once(world, world.counts(), {}, slack=False)
