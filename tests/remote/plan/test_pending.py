"""What a killed push had asked for is known again by its source or manifest and its inputs, and by nothing less."""

from dataclasses import replace

import pytest
from plan_memory import Memory, dataset, model, notebook, notebook_text

from kaggle_kit.remote.plan.plan import make_plan
from kaggle_kit.remote.plan.state import State

ONE, TWO = ("ada/small-model/1",), ("ada/small-model/2",)


@pytest.fixture
def kaggle():
    """An empty Kaggle."""
    return Memory()


@pytest.fixture
def killed(tmp_path, kaggle):
    """A project whose notebook was pushed with one version of its dataset, and asked for with the next, and no more.

    The dataset, the notebook, and the state.
    """
    data, book = dataset(tmp_path, a=b"new"), notebook(tmp_path)
    kaggle.put(data, 2)
    kaggle.put_notebook(book, 1, datasets=ONE)
    state = State().with_pushed(data, 2).with_notebook(book, 1, ONE).with_pending(book, 2, TWO)
    return data, book, state


def planned(*resources, state, kaggle, **options):
    """The plan, its last step, and what the state has pending then."""
    plan = make_plan(resources, state=state, remote=kaggle, **options)
    return plan, plan.steps[-1], plan.state.pending


@pytest.mark.parametrize("told", [(), ("ada/small-model",), TWO], ids=["dropped", "without versions", "with versions"])
def test_a_notebook_made_before_it_was_noted_is_not_pushed_again(killed, kaggle, told):
    """Only its inputs changed, and Kaggle says their versions or not: the version is the one that was asked for.

    One that Kaggle gave fewer inputs is known too, and replaced for that reason.
    """
    data, book, state = killed
    kaggle.put_notebook(book, 2, datasets=told)
    plan, step, pending = planned(data, book, state=state, kaggle=kaggle, settled=False)
    assert pending == {}
    if told:
        assert (step.action, step.becomes, step.sends) == ("unchanged", 2, False)
        known = plan.state.notebooks[book.reference]
        assert (known.version, known.inputs) == (2, list(TWO))
    else:
        assert (step.becomes, step.reason) == (3, "Kaggle did not attach ada/small-model")


def test_a_notebook_made_before_it_was_noted_is_ones_own(killed, kaggle, tmp_path):
    """Changed again since: what was asked for is nobody else's work, and is sent over without consent."""
    data, book, state = killed
    kaggle.put_notebook(book, 2)
    now = notebook(tmp_path, "x = 2")
    _, step, _ = planned(data, now, state=state, kaggle=kaggle)
    assert (step.action, step.becomes, step.reason) == ("new version", 3, "its source changed")


def test_a_version_that_kaggle_does_not_show_yet_is_waited_for(killed, kaggle):
    """Just after the kill nothing is sent: Kaggle may be late to show it. Later it was not made."""
    data, book, state = killed
    plan, step, pending = planned(data, book, state=state, kaggle=kaggle, settled=False)
    assert (step.undecided, step.sends, plan.allowed, list(pending)) == (True, False, False, [book.key])
    assert "an interrupted push asked for version 2" in step.reason
    _, step, pending = planned(data, book, state=state, kaggle=kaggle)
    assert (step.sends, step.becomes, pending) == (True, 2, {})


def test_a_first_version_is_waited_for_too(tmp_path, kaggle):
    """Neither a notebook nor a dataset that nobody has seen yet is made twice."""
    data, book = dataset(tmp_path), notebook(tmp_path)
    state = State().with_pending(data, 1).with_pending(book, 1, ONE)
    plan = make_plan([data, book], state=state, remote=kaggle, settled=False)
    assert [step.undecided for step in plan.steps] == [True, True]
    plan = make_plan([data, book], state=state, remote=kaggle)
    assert [step.action for step in plan.steps] == ["create", "create"]


def test_what_was_noted_a_moment_ago_is_not_made_again(tmp_path, kaggle):
    """Kaggle shows an older state of it, or nothing: just after a push that is waited for, later it is gone."""
    data, book, one = dataset(tmp_path), notebook(tmp_path), model(tmp_path, 1)
    state = State().with_pushed(data, 2).with_pushed(one, 1).with_notebook(book, 2, TWO)
    kaggle.put(dataset(tmp_path, a=b"1"), 1)
    kaggle.put_notebook(book, 1)
    for resource in (data, one, book):
        _, step, _ = planned(resource, state=state, kaggle=kaggle, settled=False)
        assert (step.undecided, step.sends) == (True, False)
        _, step, _ = planned(resource, state=state, kaggle=kaggle)
        assert not step.undecided


@pytest.mark.parametrize(
    ("there", "action"),
    [
        ({"source": notebook_text("x = 9")}, "changed remotely"),
        ({"datasets": ("eve/other",)}, "new version"),
        ({"datasets": ("ada/small-model/1",)}, "new version"),
    ],
    ids=["source", "inputs", "version"],
)
def test_somebody_elses_version_is_not_the_one_that_was_asked_for(killed, kaggle, there, action):
    """Another source, other inputs, or another version of them: the number alone proves nothing."""
    data, book, state = killed
    kaggle.put_notebook(book, 2, **there)
    plan, step, pending = planned(data, book, state=state, kaggle=kaggle)
    assert (step.action, pending, plan.state.notebooks[book.reference].version) == (action, {}, 1)


def test_it_may_have_come_after_another(killed, kaggle):
    """A version from the browser took the number just before: the one that was asked for is the next."""
    data, book, state = killed
    kaggle.put_notebook(book, 2, source=notebook_text("x = 9"))
    kaggle.put_notebook(book, 3)
    plan, step, _ = planned(data, book, state=state, kaggle=kaggle)
    assert (step.action, step.becomes) == ("unchanged", 3)
    assert plan.state.notebooks[book.reference].version == 3


def test_without_a_note_the_inputs_tell(killed, kaggle):
    """A state older than Kaggle: told versions prove the newest to be what is here, untold ones ask."""
    data, book, state = killed
    state = state.without_pending(book)
    kaggle.put_notebook(book, 2, datasets=TWO)
    plan, step, _ = planned(data, book, state=state, kaggle=kaggle)
    assert (step.action, step.becomes) == ("unchanged", 2)
    assert plan.state.notebooks[book.reference].version == 2
    kaggle.put_notebook(book, 2)
    _, step, _ = planned(data, book, state=state, kaggle=kaggle)
    assert (step.action, step.sends) == ("unknown", False)
    assert "--accept" in step.problems[0].next_step


def test_a_later_version_says_nothing_of_the_pushed_one(tmp_path, kaggle):
    """A run from the browser with internet and on another machine: the pushed version is used, and the other told of.

    The same the other way round: a fault of the pushed version is not made good by the later one.
    """
    data, book = dataset(tmp_path), notebook(tmp_path)
    kaggle.put(data, 1)
    state = State().with_pushed(data, 1).with_notebook(book, 1, ONE)
    kaggle.put_notebook(book, 1)
    kaggle.put_notebook(book, 2, internet=True, accelerator="NvidiaL4", datasets=())
    plan, step, _ = planned(data, book, state=state, kaggle=kaggle)
    assert (step.action, step.becomes, step.version) == ("unchanged", 1, 2)
    assert "version 2 came after version 1" in plan.warnings[0].what
    kaggle.put_notebook(book, 1, internet=True)
    kaggle.put_notebook(book, 2, datasets=("ada/small-model",), internet=True)
    _, step, _ = planned(data, book, state=state, kaggle=kaggle)
    assert (step.action, step.becomes) == ("new version", 3)


@pytest.fixture(params=["dataset", "model"])
def asked(request, tmp_path, kaggle):
    """A dataset and a model whose second version was asked for: what was pushed, what is here, and the state."""
    make = dataset if request.param == "dataset" else lambda folder, **contents: model(folder, 2, **contents)
    old = dataset(tmp_path, a=b"1") if request.param == "dataset" else model(tmp_path, 1, a=b"1")
    now = make(tmp_path, a=b"22")
    kaggle.put(old, 1)
    return old, now, State().with_pushed(old, 1).with_pending(now, 2)


def test_a_version_made_before_it_was_noted_is_known(asked, kaggle):
    """By its manifest, and whatever is here now: of a dataset it is sent over without consent."""
    _, now, state = asked
    kaggle.put(now, 2)
    plan, step, pending = planned(now, state=state, kaggle=kaggle, settled=False)
    assert (step.action, step.becomes, pending) == ("unchanged", 2, {})
    assert plan.state.pushed(now).version == 2


def test_a_dataset_that_changed_since_is_sent_over_ones_own(tmp_path, kaggle):
    """What the killed push made is not somebody else's."""
    asked = dataset(tmp_path, a=b"22")
    kaggle.put(asked, 2)
    state = State().with_pushed(dataset(tmp_path, a=b"1"), 1).with_pending(asked, 2)
    _, step, _ = planned(dataset(tmp_path, a=b"333"), state=state, kaggle=kaggle)
    assert (step.action, step.becomes) == ("new version", 3)


def test_a_version_that_kaggle_does_not_count_before_it_is_ready(asked, kaggle):
    """It still names the one before and works on another: that is waited for, with and without the note."""
    old, now, state = asked
    if old.kind == "model":
        kaggle.put_variation(old.reference, 1, "BLOBS_RECEIVED")
    else:
        kaggle.put(old, 1, status="BLOBS_RECEIVED")
    for known in (state, state.without_pending(now)):
        _, step, _ = planned(now, state=known, kaggle=kaggle)
        assert (step.undecided, step.sends) == (True, False)


def test_a_version_that_becomes_ready_between_two_questions(asked, kaggle, monkeypatch):
    """Kaggle is asked for number and state apart: the old number with the new state is no answer yet."""
    old, now, state = asked
    kaggle.put(now, 2)
    name = "dataset" if now.kind == "dataset" else "model"
    there, torn = getattr(kaggle, name), replace(getattr(kaggle, name)(now.reference), version=1)
    answers = iter([torn])
    monkeypatch.setattr(kaggle, name, lambda reference: next(answers, there(reference)))
    _, step, _ = planned(now, state=state, kaggle=kaggle)
    assert (step.action, step.becomes, old.reference) == ("unchanged", 2, now.reference)


def test_a_version_that_failed_or_never_came_is_sent(asked, kaggle):
    """A processing that failed, or a request that made nothing: the version is asked for again."""
    _, now, state = asked
    _, step, _ = planned(now, state=state, kaggle=kaggle, settled=False)
    assert step.undecided
    _, step, _ = planned(now, state=state, kaggle=kaggle)
    assert (step.sends, step.becomes) == (True, 2)
    if now.kind == "dataset":
        kaggle.put(now, 2, status="FAILED")
        _, step, _ = planned(now, state=state, kaggle=kaggle)
        assert (step.action, step.becomes) == ("broken", 3)


def test_a_later_version_that_failed_says_nothing_of_the_pushed_one(tmp_path, kaggle):
    """Kaggle's one state of a dataset is the newest version's: what was pushed is there, and is not sent again.

    A changed file is, as the version after both.
    """
    one = dataset(tmp_path, a=b"1")
    state = State().with_pushed(one, 1)
    kaggle.put(one, 1, status="FAILED", notes=((1, ""), (2, "")))
    plan, step, _ = planned(one, state=state, kaggle=kaggle)
    assert (step.action, step.becomes, step.sends, step.waits) == ("unchanged", 1, False, False)
    assert "version 2, which was not pushed from here, failed" in plan.warnings[0].what
    _, step, _ = planned(dataset(tmp_path, a=b"22"), state=state, kaggle=kaggle)
    assert (step.action, step.becomes) == ("new version", 3)


def test_somebody_elses_version_of_a_dataset_is_not_taken(tmp_path, kaggle):
    """The number is right and the manifest another: refused as before."""
    asked = dataset(tmp_path, a=b"22")
    kaggle.put(dataset(tmp_path, a=b"4444"), 2)
    state = State().with_pushed(dataset(tmp_path, a=b"1"), 1).with_pending(asked, 2)
    _, step, pending = planned(asked, state=state, kaggle=kaggle)
    assert (step.action, pending) == ("changed remotely", {})
