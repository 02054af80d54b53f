"""What a plan decides, against a Kaggle of plain values."""

import json

import pytest
from plan_memory import Memory, dataset, model, notebook, notebook_text

from kaggle_kit.remote.client.notebooks import source_identity
from kaggle_kit.remote.client.versions import RemoteFile
from kaggle_kit.remote.plan.plan import make_plan
from kaggle_kit.remote.plan.resources import Dataset, Model, Problem
from kaggle_kit.remote.plan.state import Merged, State


@pytest.fixture
def kaggle():
    """An empty Kaggle."""
    return Memory()


def only(*resources, state=None, kaggle, **options):
    """The step of the last resource."""
    return make_plan(resources, state=state or State(), remote=kaggle, **options).steps[-1]


def pushed(kaggle, one, book=None, version=1):
    """The state after a push, and Kaggle as it left it."""
    kaggle.put(one, version)
    state = State().with_pushed(one, version)
    if book:
        kaggle.put_notebook(book, version)
        state = state.with_notebook(book, version, (f"{one.reference}/{version}",))
    return state


def test_what_is_not_there_is_made(tmp_path, kaggle):
    """Without anything on Kaggle everything is created, all bytes are sent, and the plan may be carried out."""
    one, book = dataset(tmp_path), notebook(tmp_path)
    plan = make_plan([one, book], state=State(), remote=kaggle, rate=10.0)
    assert [(step.action, step.becomes) for step in plan.steps] == [("create", 1), ("create", 1)]
    assert plan.send_bytes == one.size + book.size
    assert plan.seconds() == pytest.approx((one.size + book.size) / 10)
    assert plan.allowed


def test_a_second_push_sends_nothing(tmp_path, kaggle):
    """What was pushed and is the same here and there is left alone: zero bytes."""
    one, book = dataset(tmp_path), notebook(tmp_path)
    plan = make_plan([one, book], state=pushed(kaggle, one, book), remote=kaggle)
    assert [step.action for step in plan.steps] == ["unchanged", "unchanged"]
    assert plan.send_bytes == 0


def test_a_changed_file_is_a_new_version_of_all(tmp_path, kaggle):
    """The plan names what changed, and counts every byte: a version is a snapshot."""
    state = pushed(kaggle, dataset(tmp_path, a=b"1", b=b"1"))
    now = dataset(tmp_path, a=b"22", c=b"1")
    step = only(now, state=state, kaggle=kaggle)
    assert (step.action, step.becomes, step.send_bytes) == ("new version", 2, now.size)
    assert (step.changes.added, step.changes.removed) == (("c",), ("b",))
    assert "a" in step.changes.changed


def test_a_new_input_makes_the_notebook_new(tmp_path, kaggle):
    """A notebook that did not change is pushed again when a dataset of its gets a version."""
    book = notebook(tmp_path)
    state = pushed(kaggle, dataset(tmp_path, a=b"1"), book)
    step = only(dataset(tmp_path, a=b"2"), book, state=state, kaggle=kaggle)
    assert (step.action, step.becomes) == ("new version", 2)
    assert step.reason == "ada/small-model is version 2, was 1"


def test_a_newer_version_of_somebody_else_is_not_overwritten(tmp_path, kaggle):
    """Kaggle's newer version with other content stops the plan, though nothing changed here."""
    one = dataset(tmp_path, a=b"1")
    state = pushed(kaggle, one)
    kaggle.put(dataset(tmp_path, a=b"other"), 2)
    plan = make_plan([one], state=state, remote=kaggle)
    assert plan.steps[0].action == "changed remotely"
    assert not plan.allowed
    assert "--overwrite" in plan.refusals[0].next_step


def test_overwrite_is_consent(tmp_path, kaggle):
    """With consent what differs on Kaggle gets a version after its newest."""
    one = dataset(tmp_path, a=b"1")
    state = pushed(kaggle, one)
    kaggle.put(dataset(tmp_path, a=b"other"), 5)
    plan = make_plan([one], state=state, remote=kaggle, overwrite=True)
    assert (plan.steps[0].action, plan.steps[0].becomes, plan.steps[0].sends) == ("changed remotely", 6, True)
    assert plan.allowed


def test_a_team_mates_push_of_the_same_is_taken_over(tmp_path, kaggle):
    """A newer version with this very manifest is what is here: the state learns it, nothing is sent."""
    one = dataset(tmp_path)
    state = pushed(kaggle, one)
    kaggle.put(one, 4)
    plan = make_plan([one], state=state, remote=kaggle)
    assert (plan.steps[0].action, plan.send_bytes) == ("unchanged", 0)
    assert plan.state.datasets["ada/small-model"].version == 4


def test_a_lost_state_is_made_anew(tmp_path, kaggle):
    """Without a state, manifests on Kaggle prove what is there, and the state is as it was."""
    one = dataset(tmp_path)
    state = pushed(kaggle, one, version=3)
    assert make_plan([one], state=State(), remote=kaggle).state == state


def test_a_lost_state_without_a_manifest_asks(tmp_path, kaggle):
    """The same names and sizes are no proof: the user may accept them."""
    one = dataset(tmp_path, manifest=False)
    pushed(kaggle, one, version=3)
    plan = make_plan([one], state=State(), remote=kaggle)
    assert plan.steps[0].action == "unknown"
    assert "--accept ada/small-model" in plan.refusals[0].next_step


def test_what_was_accepted_is_unchanged(tmp_path, kaggle):
    """Accepted content is in the state afterwards."""
    one = dataset(tmp_path, manifest=False)
    pushed(kaggle, one, version=3)
    plan = make_plan([one], state=State(), remote=kaggle, accept=["ada/small-model"])
    assert (plan.steps[0].action, plan.allowed) == ("unchanged", True)
    assert plan.state.datasets["ada/small-model"].version == 3


def test_other_sizes_are_another_content(tmp_path, kaggle):
    """Without a state and a manifest, a differing size is a difference."""
    kaggle.put(dataset(tmp_path, manifest=False, a=b"1"), 1)
    assert only(dataset(tmp_path, manifest=False, a=b"22"), kaggle=kaggle).action == "changed remotely"


def test_a_version_that_kaggle_could_not_process(tmp_path, kaggle):
    """A failed version is broken, and a new one is sent."""
    one = dataset(tmp_path)
    state = pushed(kaggle, one)
    kaggle.put(one, 1, status="FAILED")
    step = only(one, state=state, kaggle=kaggle)
    assert (step.action, step.sends, step.becomes) == ("broken", True, 2)


def test_a_version_without_one_of_its_files(tmp_path, kaggle):
    """A file that Kaggle lost on the way is found by the listing."""
    one = dataset(tmp_path, a=b"1", b=b"1")
    state = pushed(kaggle, one)
    kaggle.put(one, 1, files={"a": 1, "manifest.json": one.manifest().size})
    step = only(one, state=state, kaggle=kaggle)
    assert (step.action, step.reason) == ("broken", "version 1 on Kaggle lacks b")


def test_kaggle_at_work_is_waited_for(tmp_path, kaggle):
    """While Kaggle processes a version its listing proves nothing, and nothing is sent before it is done."""
    one = dataset(tmp_path)
    state = pushed(kaggle, one)
    kaggle.put(one, 1, status="BLOBS_RECEIVED", files={})
    step = only(one, state=state, kaggle=kaggle)
    assert (step.action, step.waits) == ("unchanged", True)


def test_a_version_that_kaggle_does_not_count_yet(tmp_path, kaggle):
    """Just after a push Kaggle may still name the version before: that is no deletion."""
    one = dataset(tmp_path)
    state = pushed(kaggle, one, version=3)
    kaggle.put(one, 2, status="BLOBS_RECEIVED", files={})
    step = only(one, state=state, kaggle=kaggle)
    assert (step.action, step.becomes, step.waits) == ("unchanged", 3, True)


def test_a_version_older_than_the_last_push(tmp_path, kaggle):
    """A dataset that was deleted and made anew is not overwritten without consent."""
    one = dataset(tmp_path, a=b"1")
    state = pushed(kaggle, one, version=3)
    kaggle.put(dataset(tmp_path, a=b"other"), 1)
    step = only(one, state=state, kaggle=kaggle)
    assert step.action == "changed remotely"
    assert "deleted and made anew" in step.reason


@pytest.mark.parametrize("gone", ["absent", "DELETED"])
def test_what_was_deleted_is_made_again(tmp_path, kaggle, gone):
    """A dataset that is gone is created, and the plan says that it was there."""
    one = dataset(tmp_path)
    state = pushed(kaggle, one)
    if gone == "absent":
        kaggle.datasets.clear()
    else:
        kaggle.put(one, 1, status="DELETED")
    step = only(one, state=state, kaggle=kaggle)
    assert (step.action, step.becomes) == ("create", 1)
    assert "gone from Kaggle" in step.reason


def test_a_public_dataset_is_a_warning(tmp_path, kaggle):
    """A dataset made public on Kaggle would publish what is sent; the user is told."""
    one = dataset(tmp_path)
    state = pushed(kaggle, one)
    kaggle.put(one, 1, private=False)
    plan = make_plan([one], state=state, remote=kaggle)
    assert plan.allowed
    assert "public on Kaggle" in plan.warnings[0].what


def test_an_edit_in_the_browser_is_not_overwritten(tmp_path, kaggle):
    """A notebook whose source changed on Kaggle is pulled first, or sent over with consent."""
    one, book = dataset(tmp_path), notebook(tmp_path)
    state = pushed(kaggle, one, book)
    kaggle.put_notebook(book, 2, source=notebook_text("x = 2"))
    plan = make_plan([one, book], state=state, remote=kaggle)
    assert plan.steps[1].action == "changed remotely"
    assert "kit pull answer" in plan.refusals[0].next_step
    assert make_plan([one, book], state=state, remote=kaggle, overwrite=True).steps[1].becomes == 3


def test_an_edit_that_was_brought_here_is_pushed_over(tmp_path, kaggle):
    """A version that was edited in the browser and merged here is gone over, and no later edit."""
    one, book = dataset(tmp_path), notebook(tmp_path, "x = 3")
    state = pushed(kaggle, one, notebook(tmp_path))
    kaggle.put_notebook(book, 2, source=notebook_text("x = 2"))
    merged = Merged(version=2, source=source_identity(notebook_text("x = 2")))
    state = state.with_merged(book.reference, merged)
    step = only(one, book, state=state, kaggle=kaggle)
    assert (step.action, step.version, step.becomes, step.problems) == ("new version", 2, 3, ())
    kaggle.put_notebook(book, 3, source=notebook_text("x = 4"))
    assert only(one, book, state=state, kaggle=kaggle).action == "changed remotely"


def test_kaggles_own_form_of_a_notebook_is_the_same_source(tmp_path, kaggle):
    """Cells joined to one text, outputs and line ends are no edit."""
    one, book = dataset(tmp_path), notebook(tmp_path, "a = 1\nb = 2\n")
    state = pushed(kaggle, one, book)
    kaggle.put_notebook(book, 1, source=notebook_text("a = 1\r\nb = 2", form=str))
    assert only(one, book, state=state, kaggle=kaggle).action == "unchanged"


def test_a_run_again_in_the_browser_is_no_change(tmp_path, kaggle):
    """A newer version of the same source is told of; the pushed version stays the one that counts."""
    one, book = dataset(tmp_path), notebook(tmp_path)
    state = pushed(kaggle, one, book)
    kaggle.put_notebook(book, 2)
    step = only(one, book, state=state, kaggle=kaggle)
    assert (step.action, step.becomes, step.version) == ("unchanged", 1, 2)


@pytest.mark.parametrize(
    ("there", "word"),
    [({"internet": True}, "internet is on"), ({"accelerator": "NvidiaL4"}, "NvidiaL4"), ({"private": False}, "public")],
)
def test_other_settings_on_kaggle(tmp_path, kaggle, there, word):
    """Settings that were changed on Kaggle are a reason to push."""
    one, book = dataset(tmp_path), notebook(tmp_path)
    state = pushed(kaggle, one, book)
    kaggle.put_notebook(book, 1, **there)
    step = only(one, book, state=state, kaggle=kaggle)
    assert step.action == "new version"
    assert word in step.reason


def test_a_notebook_with_internet_is_unchanged_where_kaggle_has_it_so(tmp_path, kaggle):
    """Internet on both sides, or on Kaggle's nothing said of it, is no change; off at Kaggle's it is."""
    one, book = dataset(tmp_path), notebook(tmp_path, internet=True)
    state = pushed(kaggle, one, book)
    for internet, action in ((True, "unchanged"), (None, "unchanged"), (False, "new version")):
        kaggle.put_notebook(book, 1, internet=internet)
        assert only(one, book, state=state, kaggle=kaggle).action == action


def test_other_settings_here(tmp_path, kaggle):
    """The same source with another accelerator is a new version."""
    one, book = dataset(tmp_path), notebook(tmp_path)
    state = pushed(kaggle, one, book)
    step = only(one, notebook(tmp_path, session_seconds=60), state=state, kaggle=kaggle)
    assert (step.action, step.reason) == ("new version", "its settings changed")


def test_a_notebook_of_unknown_inputs(tmp_path, kaggle):
    """Without a state the same source asks for consent, unless Kaggle says the inputs' versions."""
    one, book = dataset(tmp_path), notebook(tmp_path)
    kaggle.put(one, 1)
    kaggle.put_notebook(book, 7)
    assert only(one, book, kaggle=kaggle).action == "unknown"
    kaggle.put_notebook(book, 7, datasets=("ada/small-model/1",))
    plan = make_plan([one, book], state=State(), remote=kaggle)
    assert plan.steps[1].action == "unchanged"
    assert plan.state.notebooks["ada/best-answer"].inputs == ["ada/small-model/1"]


def test_a_notebook_that_was_not_pushed_from_here(tmp_path, kaggle):
    """Another source under the same address is somebody's work."""
    one, book = dataset(tmp_path), notebook(tmp_path)
    kaggle.put_notebook(notebook(tmp_path, "other"), 2)
    assert only(one, book, kaggle=kaggle).action == "changed remotely"


@pytest.mark.parametrize(
    ("newest", "wanted", "same", "action", "becomes"),
    [
        (0, 1, False, "create", 1),
        (3, 4, False, "new version", 4),
        (3, 3, True, "unchanged", 3),
        (3, 2, True, "unchanged", 2),
        (3, 3, False, "refused", 3),
        (3, 4, True, "refused", 4),
        (3, 5, False, "refused", 5),
        (0, 2, False, "refused", 2),
    ],
)
def test_a_models_version(tmp_path, kaggle, newest, wanted, same, action, becomes):
    """kit.toml names the version that holds what is here, or the next one."""
    if newest:
        old = model(tmp_path, newest, a=b"old")
        for version in range(1, newest + 1):
            kaggle.put(model(tmp_path, version, a=b"new") if same else old, version)
    step = only(model(tmp_path, wanted, a=b"new"), kaggle=kaggle)
    assert (step.action, step.becomes) == (action, becomes)
    assert bool(step.problems) == (action == "refused")


def test_a_new_model_needs_a_licence(tmp_path, kaggle):
    """Kaggle asks for a licence where a model is made."""
    [problem] = only(model(tmp_path, 1, licence=None), kaggle=kaggle).problems
    assert "licence" in problem.what


def attached(model_name=None, *, reference="eve/shared", by_reference=False):
    """A dataset of somebody else's, or of one's own that is not here."""
    named = {"reference": reference, "name": "small", "title": "s", "sent": False}
    return Dataset(**named, model=model_name, by_reference=by_reference)


def test_somebody_elses_dataset_is_attached(tmp_path, kaggle):
    """What another owns is pinned as Kaggle has it and never sent."""
    kaggle.put(dataset(tmp_path, "eve/shared"), 9)
    step = only(attached(), kaggle=kaggle)
    assert (step.action, step.becomes, step.send_bytes) == ("attached", 9, 0)


def test_an_attached_dataset_that_is_not_there(kaggle):
    """A reference that leads nowhere stops the plan."""
    step = only(attached(), kaggle=kaggle)
    assert step.action == "missing"
    assert step.problems


def test_an_attached_model_must_be_found_by_its_notebook(tmp_path, kaggle):
    """One's own model without kit's manifest could not be found by the notebook."""
    kaggle.put(dataset(tmp_path, "ada/shared", manifest=False), 9)
    assert "no manifest.json" in only(attached("small", reference="ada/shared"), kaggle=kaggle).reason
    manifest = json.dumps({"kind": "model", "name": "small"}).encode()
    kaggle.files["ada/shared", 9, "manifest.json"] = manifest
    assert only(attached("small", reference="ada/shared"), kaggle=kaggle).action == "attached"


PUBLIC = {"config.json": 600, "model.safetensors": 1_000_000, "original/params.json": 20}


@pytest.mark.parametrize("manifest", [None, b"", b"[]", b'{"kind": "model", "name": "another"}', b"[" * 100_000])
def test_anothers_model_is_found_by_its_reference(tmp_path, kaggle, manifest):
    """As its owner has made it; what Kaggle lists of it is pinned in the plan."""
    kaggle.put(dataset(tmp_path, "eve/shared", manifest=False), 9, files=PUBLIC)
    kaggle.files |= {("eve/shared", 9, "manifest.json"): manifest} if manifest is not None else {}
    plan = make_plan([attached("small", by_reference=True)], state=State(), remote=kaggle)
    (step,) = plan.steps
    assert (step.action, step.becomes, step.problems) == ("attached", 9, ())
    assert "3 files, 1,000,620 bytes; without kit's manifest it is found by its reference" in step.reason
    assert plan.to_json()["steps"][0]["listed"] == PUBLIC


def test_anothers_model_of_a_kaggle_model_is_listed_in_its_version(kaggle):
    """The version that kit.toml names, not the newest."""
    one = Model(
        reference="eve/big/transformers/awq", name="small", title="s", sent=False, model="small", version=2,
        by_reference=True,
    )  # fmt: skip
    kaggle.put_variation(one.reference, 3)
    kaggle.listed[one.reference, 2] = tuple(RemoteFile(*file) for file in PUBLIC.items())
    step = only(one, kaggle=kaggle)
    assert (step.action, step.becomes, step.listed) == ("attached", 2, PUBLIC)


@pytest.mark.parametrize(
    ("files", "action", "said"),
    [
        ({"weights.gguf": 5}, "missing", "version 9 holds no config.json: weights.gguf"),
        ({}, "attached", "Kaggle does not list the files of version 9"),
    ],
)
def test_anothers_model_that_may_be_none_is_told(tmp_path, kaggle, files, action, said):
    """Without config.json it is refused; where Kaggle lists nothing, that could not be checked, and kit goes on."""
    kaggle.put(dataset(tmp_path, "eve/shared", manifest=False), 9, files=files)
    plan = make_plan([attached("small", by_reference=True)], state=State(), remote=kaggle)
    assert plan.steps[0].action == action
    assert plan.allowed is (action == "attached")
    assert said in str(plan.problems[0])


def test_a_login_of_another_cannot_make_a_notebook(tmp_path, kaggle):
    """Kaggle would make the notebook under the login's name; a dataset may be an organisation's."""
    plan = make_plan([dataset(tmp_path), notebook(tmp_path)], state=State(), remote=kaggle, login="eve")
    assert [(p.resource, p.warning) for p in plan.problems] == [
        ("notebook ada/best-answer", False),
        ("dataset ada/small-model", True),
    ]


def test_a_problem_stops_the_plan_and_a_warning_does_not(tmp_path, kaggle):
    """What the checks found counts as the steps' own problems do."""
    wrong = Problem(resource="kit.toml", what="it is wrong", next_step="mend it")
    for warning in (False, True):
        found = Problem(**vars(wrong) | {"warning": warning})
        plan = make_plan([dataset(tmp_path)], state=State(), remote=kaggle, problems=[found])
        assert plan.allowed == warning


def test_a_plan_is_the_same_twice(tmp_path, kaggle):
    """The same project, state and Kaggle give the same JSON, without a word of the machine."""
    resources = [dataset(tmp_path), notebook(tmp_path)]
    one, two = (json.dumps(make_plan(resources, state=State(), remote=kaggle).to_json()) for _ in range(2))
    assert one == two
    assert str(tmp_path) not in one


def test_the_table_has_a_row_for_each_resource(tmp_path, kaggle):
    """Rows hold resource, action, versions, reason, bytes and seconds."""
    one = dataset(tmp_path)
    plan = make_plan([one], state=State(), remote=kaggle, rate=1.0)
    assert plan.rows() == [("dataset ada/small-model", "create", "– → 1", "not on Kaggle yet", one.size, one.size)]


def test_a_failed_run_is_pushed_again(tmp_path, kaggle):
    """A version whose run failed is of no use: the same content becomes a new version, and the reason is told."""
    one, book = dataset(tmp_path), notebook(tmp_path)
    state = pushed(kaggle, one, book)
    kaggle.failures[book.reference, 1] = "ERROR"
    step = only(one, book, state=state, kaggle=kaggle)
    assert (step.action, step.becomes, step.reason) == ("new version", 2, "the run of version 1 ended with error")


def test_an_input_that_kaggle_dropped_is_attached_again(tmp_path, kaggle):
    """The last push named an input, and Kaggle's version has it not: that is no unchanged notebook."""
    one, book = dataset(tmp_path), notebook(tmp_path)
    state = pushed(kaggle, one, book)
    kaggle.put_notebook(book, 1, datasets=())
    step = only(one, book, state=state, kaggle=kaggle)
    assert (step.action, step.reason) == ("new version", "Kaggle did not attach ada/small-model")


def test_an_input_in_another_version_is_attached_again(tmp_path, kaggle):
    """Where Kaggle tells versions, a version with another one than the last push named is no unchanged notebook."""
    one, book = dataset(tmp_path), notebook(tmp_path)
    state = pushed(kaggle, one, book)
    kaggle.put_notebook(book, 1, datasets=("ada/small-model/7",))
    step = only(one, book, state=state, kaggle=kaggle)
    reason = "Kaggle attached ada/small-model/7, not ada/small-model/1"
    assert (step.action, step.becomes, step.reason) == ("new version", 2, reason)
    kaggle.put_notebook(book, 1, datasets=("ada/small-model/1",))
    assert only(one, book, state=state, kaggle=kaggle).action == "unchanged"


@pytest.mark.parametrize(
    "told",
    [{"datasets": ("ada/small-model/7",)}, {"datasets": ()}, {"accelerator": ""}, {"internet": True}],
    ids=["another version", "not attached", "another machine", "internet"],
)
def test_what_came_out_wrong_twice_is_not_tried_a_third_time(tmp_path, kaggle, told):
    """One more version is made, and then none: Kaggle does not take what is asked. --overwrite tries once more."""
    one, book = dataset(tmp_path), notebook(tmp_path)
    state = pushed(kaggle, one, book).with_notebook(book, 2, ("ada/small-model/1",))
    kaggle.put_notebook(book, 1, **told)
    kaggle.put_notebook(book, 2, **told)
    step = only(one, book, state=state, kaggle=kaggle)
    assert (step.action, step.sends) == ("refused", False)
    assert "so it was with version 1 already" in step.problems[0].what
    assert only(one, book, state=state, kaggle=kaggle, overwrite=True).sends

    good = dict.fromkeys(told) | {"datasets": ("ada/small-model/1",)}
    kaggle.put_notebook(book, 1, **good)
    kaggle.put_notebook(book, 2, **told)
    assert only(one, book, state=state, kaggle=kaggle).action == "new version"


def test_a_notebook_made_public_in_the_browser_is_made_private_again(tmp_path, kaggle):
    """Privacy is the page's and no version's: that an earlier version shows it too says nothing."""
    one, book = dataset(tmp_path), notebook(tmp_path)
    state = pushed(kaggle, one, book).with_notebook(book, 2, ("ada/small-model/1",))
    kaggle.put_notebook(book, 1, private=False)
    kaggle.put_notebook(book, 2, private=False)
    assert only(one, book, state=state, kaggle=kaggle).action == "new version"


def test_a_privacy_that_kaggle_leaves_out_is_no_difference(tmp_path, kaggle):
    """A field that is missing says nothing, whichever was asked."""
    one, book = dataset(tmp_path), notebook(tmp_path)
    state = pushed(kaggle, one, book)
    kaggle.put_notebook(book, 1, private=None)
    assert only(one, book, state=state, kaggle=kaggle).action == "unchanged"


def test_a_competition_that_kaggle_dropped_is_attached_again(tmp_path, kaggle):
    """The same for the competition, whether or not the state knows the version."""
    one, book = dataset(tmp_path), notebook(tmp_path)
    state = pushed(kaggle, one, book)
    kaggle.put_notebook(book, 1, datasets=("ada/small-model/1",), competitions=())
    for known in (state, State()):
        assert only(one, book, state=known, kaggle=kaggle).reason == "its competitions on Kaggle are none"


def test_a_run_on_a_machine_without_a_gpu_is_told(tmp_path, kaggle):
    """Where Kaggle says that it gave no accelerator, that is another machine; where it says nothing, it is not."""
    one, book = dataset(tmp_path), notebook(tmp_path)
    state = pushed(kaggle, one, book)
    kaggle.put_notebook(book, 1, accelerator="")
    assert "on a machine without a GPU, not on NvidiaTeslaT4" in only(one, book, state=state, kaggle=kaggle).reason
    kaggle.put_notebook(book, 1, accelerator=None)
    assert only(one, book, state=state, kaggle=kaggle).action == "unchanged"


def test_a_version_under_way_that_nobody_noted_is_undecided(tmp_path, kaggle):
    """An interrupted push may have made it: the plan refuses, says so, and a push can wait for it."""
    one = dataset(tmp_path)
    kaggle.put(one, 1, status="BLOBS_RECEIVED", files={})
    kaggle.files.clear()
    step = only(one, kaggle=kaggle)
    assert (step.undecided, step.sends) == (True, False)
    assert "an interrupted push" in step.problems[0].what


def test_a_model_version_under_way_is_not_sent_again(tmp_path, kaggle):
    """By the state it is the one that was pushed, and is waited for; without a state it is undecided."""
    one = model(tmp_path, 1)
    kaggle.put_variation(one.reference, None, "BLOBS_RECEIVED")
    step = only(one, state=State().with_pushed(one, 1), kaggle=kaggle)
    assert (step.action, step.sends, step.waits, step.becomes) == ("unchanged", False, True, 1)
    assert only(one, kaggle=kaggle).undecided
