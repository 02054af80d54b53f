"""What is not there, in each form in which Kaggle says so; and what only looks like it."""

from dataclasses import replace
from functools import partial

import pytest
from scripted import META, SOURCE, Reply

from kaggle_kit.errors import CredentialsError, RemoteError
from kaggle_kit.remote.client import competitions, datasets, models, notebooks, outputs
from kaggle_kit.remote.client.absence import unless_absent
from kaggle_kit.remote.client.client import RefusedError
from kaggle_kit.remote.client.uploads import Sent
from kaggle_kit.remote.references import parse_variation

DENIED = "Permission 'datasets.get' was denied"
FORMS = {
    "404": Reply(404, {"code": 404, "message": "Not found"}),
    "404 without a body": Reply(404),
    "403": Reply(403, {"code": 403, "message": DENIED}),
    "403 in an error": Reply(403, {"error": {"code": 403, "message": DENIED, "status": "PERMISSION_DENIED"}}),
    "403 as a page": Reply(403, b"<html>Forbidden</html>", {"Content-Type": "text/html"}),
    "200 and code 404": Reply(200, {"code": 404, "message": "Not found"}),
    "200 and an error of 403": Reply(200, {"error": {"code": 403, "message": DENIED}}),
}
CALLS = (
    *("GetDataset", "GetDatasetStatus", "ListDatasetFiles", "DownloadDataset"),
    *("GetModel", "GetModelInstance", "ListModelInstances", "ListModelInstanceVersionFiles"),
    *("DownloadModelInstanceVersion", "GetKernel", "GetSubmission"),
)
LISTS = {"ListDatasets": "datasets", "ListModels": "models", "ListKernels": "kernels"}
SENT = [Sent("config.json", 3, "token")]


def lookups(owner):
    """Every question whose answer may be that there is no such thing, for things of `owner`."""
    pair, variation = f"{owner}/wheels-t4", parse_variation(f"{owner}/small/transformers/awq")
    return {
        "dataset": lambda client: datasets.read(client, pair),
        "dataset's state": lambda client: datasets.status(client, pair),
        "dataset's files": lambda client: datasets.list_files(client, pair, version=2),
        "dataset's file": lambda client: datasets.read_file(client, pair, 2, "manifest.json"),
        "model": lambda client: models.read_model(client, owner, "small"),
        "variation": lambda client: models.read(client, variation),
        "variation's newest": lambda client: models.newest(client, variation),
        "variation's files": lambda client: models.list_files(client, variation, 2),
        "variation's file": lambda client: models.read_file(client, variation, 2, "manifest.json"),
        "notebook": lambda client: notebooks.read(client, pair),
        "notebook's version": lambda client: notebooks.read(client, pair, version=2, fresh=True),
    }


def deny(script, reply, *, listed=()):
    """Every question about one thing is answered with `reply`; the account's lists hold `listed`."""
    for call in CALLS:
        script.on(call, reply)
    for call, key in LISTS.items():
        script.on(call, {key: [{"ref": ref} for ref in listed]})


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", lookups("me"))
def test_ones_own_that_is_not_there_is_none(script, client, what, form):
    """In every form: nothing of the account's own of that name is listed."""
    deny(script, FORMS[form], listed=["me/another"])
    assert lookups("Me")[what](client) is None


@pytest.mark.parametrize("form", [form for form in FORMS if "403" in form])
@pytest.mark.parametrize("what", lookups("me"))
def test_anothers_that_is_denied_is_told_with_both_reasons(script, client, what, form):
    """It may be private or not there, and nobody can tell: no name is taken for free."""
    deny(script, FORMS[form])
    with pytest.raises(RefusedError, match=r"(?s)403.*Either there is no .* or it is bob's and not yours to see"):
        lookups("bob")[what](client)


@pytest.mark.parametrize("what", lookups("me"))
@pytest.mark.parametrize("status", [400, 409, 500, 503])
def test_trouble_is_no_absence(script, client, what, status):
    """Any other refusal is the error that it is, also of one's own."""
    deny(script, Reply(status, {"code": status, "message": "no"}))
    with pytest.raises(RemoteError):
        lookups("me")[what](client)


@pytest.mark.parametrize("what", lookups("me"))
def test_a_wrong_login_is_no_absence(script, client, what):
    """A 401 to every question, the account's lists too, is the login's."""
    deny(script, Reply(401))
    for call in LISTS:
        script.on(call, Reply(401))
    with pytest.raises(CredentialsError, match=r"401|not accept the"):
        lookups("me")[what](client)


@pytest.mark.parametrize("what", ["dataset", "model", "notebook", "notebook's version"])
def test_a_401_beside_lists_that_come_is_absence(script, client, what):
    """The official client takes it so: the lists prove the login."""
    deny(script, Reply(401))
    assert lookups("me")[what](client) is None


@pytest.mark.parametrize(
    ("what", "ref"), [("dataset", "/Me/Wheels-T4"), ("model", "me/small"), ("notebook", "me/wheels-t4")]
)
def test_ones_own_that_is_listed_and_denied_is_an_error(script, client, what, ref):
    """It is there: nothing is made over it, and what may help is said. It is asked for again before that."""
    deny(script, FORMS["403 in an error"], listed=[ref])
    with pytest.raises(RefusedError, match="among your own and does not show it"):
        lookups("me")[what](client)


def test_ones_own_that_is_shown_after_a_moment_is_there(script, client):
    """A dataset that was made a moment ago is denied at first (seen on 2026-09-06)."""
    deny(script, FORMS["403"], listed=["me/wheels-t4"])
    page = {"ref": "me/wheels-t4", "title": "wheels", "currentVersionNumber": 1}
    script.on("GetDataset", FORMS["403"], FORMS["403"], page)
    script.on("GetDatasetStatus", {"status": "READY"})
    assert datasets.read(client, "me/wheels-t4", files=False).version == 1


def test_a_list_that_does_not_come_keeps_no_dataset_from_being_made(script, client):
    """Kaggle itself refuses to make a dataset or model that is there; a notebook would be written over."""
    deny(script, FORMS["403"])
    for call in LISTS:
        script.on(call, Reply(403))
    assert lookups("me")["dataset"](client) is None
    assert lookups("me")["model"](client) is None
    with pytest.raises(RemoteError, match="GetKernel for notebook me/wheels-t4"):
        lookups("me")["notebook"](client)


def test_a_state_that_is_denied_beside_its_page_is_a_state_not_shown(script, client):
    """The page says that the dataset is there, whoever it is of."""
    for owner in ("me", "bob"):
        deny(script, FORMS["403"])
        script.on("GetDataset", {"ref": f"{owner}/wheels-t4", "currentVersionNumber": 3})
        found = datasets.read(client, f"{owner}/wheels-t4", files=False)
        assert (found.version, found.status) == (3, "a state that Kaggle does not show")


TAKEN = {
    "dataset": ("CreateDataset", {"status": "error", "error": "the slug is already in use"}),
    "model": ("CreateModel", {"error": "the slug is already in use", "errorCode": 409}),
    "variation": ("CreateModelInstance", {"error": "it is already there", "errorCode": 409}),
}


@pytest.mark.parametrize("what", TAKEN)
def test_a_create_that_is_refused_since_it_exists_is_sent_once(script, client, what):
    """What was taken for absent is there after all: what Kaggle says of it is told, and nothing is sent again."""
    deny(script, FORMS["403"])
    call, reply = TAKEN[what]
    script.on(call, reply)
    ref = parse_variation("me/small/transformers/awq")
    make = {
        "dataset": partial(datasets.create, ref="me/wheels-t4", title="wheels t4", files=SENT, licence="other"),
        "model": partial(models.create_model, owner="me", model="small", title="small"),
        "variation": partial(models.create_variation, ref=ref, files=SENT, licence="MIT"),
    }
    with pytest.raises(RefusedError, match="already"):
        make[what](client)
    assert len(script.calls(call)) == 1


def test_a_notebook_that_is_denied_is_pushed_as_a_new_one(script, client):
    """A first push where 403 is absence: one version, and its number is Kaggle's."""
    deny(script, FORMS["403"])
    script.on("SaveKernel", {"ref": "/me/score-it", "versionNumber": 1, "url": "https://kaggle.test"})
    meta = META | {"id": "me/score-it"}
    assert notebooks.push(client, meta, SOURCE, session_timeout_s=60, before=0).version == 1
    assert len(script.calls("SaveKernel")) == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_run_and_a_submission_that_are_not_shown_yet(script, client, form):
    """Of what was made from here a refusal only means that it is not listed yet."""
    deny(script, FORMS[form])
    script.on("GetKernelSessionStatus", FORMS[form])
    assert notebooks.status(client, "me/score-it", 1).state == notebooks.UNKNOWN
    assert competitions.submission(client, 7).state == competitions.PENDING


def test_an_output_that_is_listed_late_is_waited_for(script, client):
    """A run that has ended may be denied, then empty, before its files are listed."""
    files = {"files": [{"fileName": "submission.csv", "url": "x"}]}
    script.on("ListKernelSessionOutput", FORMS["403"], FORMS["404"], {}, files)
    client.patience = replace(client.patience, settle_s=10)
    (file,) = outputs.settled(client, "me/score-it", 1, outputs.list_output)
    assert file.name == "submission.csv"
    script.on("ListKernelSessionOutput", FORMS["403"])
    client.patience = replace(client.patience, settle_s=0)
    with pytest.raises(RefusedError, match="Kaggle shows no such run"):
        outputs.settled(client, "me/score-it", 1, outputs.list_output)


def test_the_words_of_a_refusal_are_told(script, client):
    """Kaggle's own words stand in the error, whichever form the answer has, and no dictionary does."""
    deny(script, FORMS["403 in an error"])
    with pytest.raises(RefusedError) as told:
        datasets.read(client, "bob/wheels-t4")
    assert f'403: "{DENIED}"' in str(told.value)
    assert "{" not in str(told.value)


def test_what_is_asked_without_a_list_is_given_as_it_is(client):
    """An answer that comes is no refusal."""
    sought = notebooks.part("me/score-it")
    assert unless_absent(client, lambda: 5, sought) == 5
