"""Kaggle Models: made once, versions counted right."""

import pytest
from scripted import Reply

from kaggle_kit.errors import RemoteError, UsageError
from kaggle_kit.files import sha256_file
from kaggle_kit.remote.client import models
from kaggle_kit.remote.client.client import RefusedError
from kaggle_kit.remote.client.uploads import MODEL, Sent, Upload, upload_files
from kaggle_kit.remote.references import parse_variation

REF = parse_variation("rehearsal/judge/transformers/awq")
SIZES = {"config.json": 2, "model.safetensors": 4}


@pytest.fixture
def sent(inside, tmp_path):
    """A small checkpoint at Kaggle."""
    for name, size in SIZES.items():
        (tmp_path / name).write_bytes(b"x" * size)
    return upload_files(
        inside, [Upload(tmp_path / name, name, sha256_file(tmp_path / name)) for name in SIZES], kind=MODEL
    )


def create(client, files):
    """The model's page and its variation."""
    models.create_model(client, REF.owner, REF.slug, title="Judge")
    return models.create_variation(client, REF, files=files, licence="Apache 2.0")


def wait(client, version):
    """Wait for a version of the variation."""
    return models.wait_ready(client, REF, version=version, files=SIZES, deadline=client.clock() + 3)


def test_what_does_not_exist_is_none(inside):
    """A 404 is absence, of the page and of the variation."""
    assert models.read_model(inside, "rehearsal", "judge") is None
    assert models.read(inside, REF) is None


def test_trouble_is_not_absence(script, client):
    """A 500 is raised."""
    script.on("GetModelInstance", Reply(500))
    with pytest.raises(RefusedError):
        models.read(client, REF)


def test_a_model_is_made_and_read(inside, sent):
    """Page, variation and files are there."""
    found = wait(inside, create(inside, sent))
    assert (found.version, found.sizes) == (1, SIZES)
    assert models.read_model(inside, "rehearsal", "judge").private


def test_a_version_is_made(inside, sent):
    """A second version is number 2."""
    wait(inside, create(inside, sent))
    assert models.add_version(inside, REF, files=sent, notes="again", before=1) == 2
    assert wait(inside, 2).version == 2
    assert models.newest(inside, REF).version_id == 2


@pytest.mark.parametrize("name", ["variation-reply-lost", "model-version-reply-lost"])
def test_a_lost_reply_makes_no_second(inside, sent, fault, name):
    """After a lost reply the version is found, also while it is processed."""
    fault(name)
    wait(inside, create(inside, sent))
    assert models.add_version(inside, REF, files=sent, notes="again", before=1) == 2
    wait(inside, 2)
    assert models.newest(inside, REF).version_id == 2


@pytest.mark.parametrize("name", ["model-refused", "variation-refused"])
def test_an_error_under_200_is_an_error(inside, sent, fault, name):
    """The refusal names what was refused and why."""
    fault(name)
    with pytest.raises(RefusedError, match=r"judge.*could not be made"):
        create(inside, sent)


def test_a_refused_version_is_an_error(inside, sent, fault):
    """A version's refusal is told, and nothing was made."""
    wait(inside, create(inside, sent))
    fault("model-version-refused")
    with pytest.raises(RefusedError, match="could not be made"):
        models.add_version(inside, REF, files=sent, notes="again", before=1)
    assert models.newest(inside, REF).version_id == 1


def test_an_error_code_alone_is_an_error(script, client):
    """A code without a word is a refusal."""
    script.on("CreateModel", {"errorCode": 7})
    with pytest.raises(RefusedError, match="error code 7"):
        models.create_model(client, "me", "judge", title="Judge")


def test_an_empty_answer_is_an_error(script, client):
    """An answer that names nothing, with nothing to be seen, is no success."""
    script.on("CreateModel", {})
    with pytest.raises(RemoteError, match="empty"):
        models.create_model(client, "me", "judge", title="Judge")
    assert len(script.calls("CreateModel")) == 1


def test_what_exists_is_not_made_again(inside, sent):
    """A second variation of the same name is stopped before it is sent."""
    create(inside, sent)
    with pytest.raises(RemoteError, match="exists already"):
        models.create_variation(inside, REF, files=sent, licence="Apache 2.0")


@pytest.mark.parametrize("text", ["a/b/transformers", "a/b!/transformers/c", "a/b/transformers/-c", "a/b/torchy/c"])
def test_a_wrong_name_is_said(text):
    """Parts, slugs and frameworks are checked before anything is asked."""
    with pytest.raises(UsageError, match=r"is not|is no"):
        parse_variation(text)


@pytest.mark.parametrize("name", ["pyTorch", "PyTorch", "pytorch", "PY_TORCH", "MODEL_FRAMEWORK_PY_TORCH"])
def test_a_framework_has_many_spellings(script, client, name):
    """However it is written, the call names the SDK's value."""
    script.on("GetModelInstance", {"versionNumber": 3})
    models.read(client, parse_variation(f"me/judge/{name}/awq"), files=False)
    assert script.seen[0].json["framework"] == "MODEL_FRAMEWORK_PY_TORCH"


@pytest.mark.parametrize(
    "shown",
    [
        {"lastVersionId": 71, "status": "BLOBS_RECEIVED"},
        {"lastVersionId": 71, "status": "FAILED"},
        {"lastVersionId": 72, "status": "READY", "versionNotes": "ours"},
        {"lastVersionId": 72, "status": "READY"},
    ],
)
def test_a_version_under_way_counts_as_made(script, client, shown):
    """After a lost reply a version is found by its count, or by being worked on where it is not counted before."""
    variation = {"slug": "awq", "framework": "MODEL_FRAMEWORK_TRANSFORMERS"}
    before = variation | {"lastVersionId": 71, "status": "READY", "versionNotes": "theirs"}
    script.on("GetModelInstance", {"versionNumber": 1})
    script.on("ListModelInstances", {"instances": [before]}, {"instances": [variation | shown]})
    script.on("CreateModelInstanceVersion", Reply(502))
    assert models.add_version(client, REF, files=[Sent("a", 1, "t")], notes="ours", before=1) == 2
    assert len(script.calls("CreateModelInstanceVersion")) == 1


def test_somebody_elses_version_is_not_ours(script, client):
    """After a lost reply, a version with other notes is no success, and nothing is sent again."""
    variation = {
        "slug": "awq",
        "framework": "MODEL_FRAMEWORK_TRANSFORMERS",
        "status": "READY",
        "versionNotes": "theirs",
    }
    script.on("GetModelInstance", {"versionNumber": 1})
    listed = [{"instances": [variation | {"lastVersionId": number}]} for number in (71, 72)]
    script.on("ListModelInstances", *listed)
    script.on("CreateModelInstanceVersion", Reply(502))
    with pytest.raises(RemoteError, match="other notes"):
        models.add_version(client, REF, files=[Sent("a", 1, "t")], notes="ours", before=1)
    assert len(script.calls("CreateModelInstanceVersion")) == 1


def test_files_that_differ_are_an_error(inside, sent):
    """A version that does not hold what was sent is an error that names the file, long before time is up."""
    create(inside, sent)
    end = inside.clock() + 60
    with pytest.raises(RemoteError, match=r"is ready, but .*2 bytes of config\.json instead of 3"):
        models.wait_ready(inside, REF, version=1, files=SIZES | {"config.json": 3}, deadline=end)


def test_a_later_version_is_said(inside, sent):
    """Waiting for a version after which another came ends at once."""
    wait(inside, create(inside, sent))
    wait(inside, models.add_version(inside, REF, files=sent, notes="n", before=1))
    with pytest.raises(RemoteError, match="version 2 came after version 1"):
        wait(inside, 1)


def test_a_failed_version_is_an_error(inside, tmp_path):
    """FAILED ends the waiting, with known causes: a name with @ is one."""
    (tmp_path / "a@b.txt").write_text("x")
    files = upload_files(
        inside, [Upload(tmp_path / "a@b.txt", "a@b.txt", sha256_file(tmp_path / "a@b.txt"))], kind=MODEL
    )
    with pytest.raises(RemoteError, match=r"FAILED.*names with @"):
        wait(inside, create(inside, files))


def test_an_empty_version_is_not_sent(client):
    """A version without files is refused before the call."""
    with pytest.raises(UsageError, match="no file"):
        models.add_version(client, REF, files=[], notes="n", before=1)


def test_the_version_comes_from_the_reply(script, client):
    """Where the reply's ref ends in a version, that is the version."""
    script.on("GetModelInstance", {"versionNumber": 4})
    script.on("CreateModelInstanceVersion", {"id": 1, "ref": "me/judge/transformers/awq/6", "url": "u"})
    assert models.add_version(client, REF, files=[Sent("a", 1, "t")], notes="n", before=4) == 6
