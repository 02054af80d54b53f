"""What `kit push` advises where Kaggle did not take what was asked: the next push does what was said."""

from kaggle_kit.loopback.faults import FAULTS, KERNELS, Edit, Fault


def rewritten(reply: dict) -> dict:
    """A notebook's reply in which a text of its source is another."""
    blob = reply["blob"]
    return reply | {"blob": blob | {"source": blob["source"].replace("Which one is it?", "Which one?")}}


def rewired(reply: dict) -> dict:
    """A notebook's reply that tells of another machine."""
    return reply | {"metadata": reply["metadata"] | {"machineShape": "NvidiaTeslaP100"}}


def test_a_source_that_kaggle_changed_is_sent_over_with_overwrite(desk):
    """A plain push would be refused, so that is not what is advised."""
    desk.kaggle.faults.add(Fault("rewrites", "", KERNELS + "GetKernel", Edit(rewritten), times=100_000))
    told = desk.push()
    assert told.code == 1
    assert "kit pull answer, or send yours over it with kit push answer --overwrite" in told.err
    assert "makes a new version in place" not in told.err
    assert desk.push().code == 1
    desk.kaggle.faults._faults.clear()
    assert desk.push("--overwrite").code == 0


def test_another_machine_is_mended_by_the_next_push(desk):
    """The version in its place is as it was asked."""
    desk.kaggle.faults.add(FAULTS["push-other-machine"])
    told = desk.push()
    assert told.code == 1
    assert "kit push answer makes a new version in place of it" in told.err
    assert desk.push().code == 0
    assert (desk.root / "receipts" / "answer-v2.json").is_file()


def test_what_the_plan_takes_for_the_same_is_not_said_to_be_pushed_again(desk):
    """Where this push made no version, neither would the next: only a changed build makes one."""
    assert desk.push("--wait").code == 0
    (desk.root / "receipts" / "answer-v1.json").unlink()
    desk.kaggle.faults.add(Fault("late", "", KERNELS + "GetKernel", Edit(rewired), times=100_000, after=1))
    told = desk.push()
    assert told.code == 1
    assert "change and build answer, and kit push answer makes a new version" in told.err
