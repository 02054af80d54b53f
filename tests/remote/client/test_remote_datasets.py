"""Datasets at Kaggle: made once, versions counted right, ready only when they are."""

import pytest
from scripted import Reply

from kaggle_kit.errors import RemoteError, UsageError
from kaggle_kit.files import sha256_file
from kaggle_kit.remote.client import datasets
from kaggle_kit.remote.client.client import RefusedError
from kaggle_kit.remote.client.uploads import Sent, Upload, upload_files

REF = "rehearsal/wheels-of-kit"
SIZES = {"a.txt": 5, "sub/b.txt": 3}


@pytest.fixture
def sent(inside, tmp_path):
    """Two files at Kaggle, one of them in a folder."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_text("five5")
    (tmp_path / "sub" / "b.txt").write_text("thr")
    return upload_files(inside, [Upload(tmp_path / name, name, sha256_file(tmp_path / name)) for name in SIZES])


def create(client, files, **options):
    """A dataset with usual settings."""
    return datasets.create(client, REF, title="Wheels of kit", licence="CC0-1.0", files=files, **options)


def wait(client, version, files=None, *, tell=None, seconds=3.0):
    """Wait for a version of the dataset."""
    end = client.clock() + seconds
    return datasets.wait_ready(client, REF, version=version, files=files or SIZES, deadline=end, tell=tell)


def test_what_was_not_sent_from_here_may_hold_anything(inside, made):  # noqa: ARG001
    """Without files to compare, the version that is ready is enough."""
    assert datasets.wait_ready(inside, REF, version=1, files=None, deadline=inside.clock()).version == 1


def test_anothers_dataset_is_ready_without_a_state(kaggle, inside, tmp_path):
    """Kaggle tells its state to nobody else (404): that its version is the current one is enough."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "one.txt").write_text("one")
    kaggle.add_dataset("eve/wheels-of-hers", tmp_path / "theirs")
    assert datasets.status(inside, "eve/wheels-of-hers") is None
    end = inside.clock()
    assert datasets.wait_ready(inside, "eve/wheels-of-hers", version=1, files=None, deadline=end).version == 1


def test_anothers_next_version_is_waited_for(kaggle, inside, tmp_path):
    """A version that is not the current one is not ready, whatever its state."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "one.txt").write_text("one")
    kaggle.add_dataset("eve/wheels-of-hers", tmp_path / "theirs")
    with pytest.raises(RemoteError, match="still shows version 1"):
        datasets.wait_ready(inside, "eve/wheels-of-hers", version=2, files=None, deadline=inside.clock())


@pytest.fixture
def made(inside, sent):
    """A dataset whose first version is ready."""
    wait(inside, create(inside, sent))
    return sent


def versions(inside):
    """How many versions the dataset has."""
    return datasets.read(inside, REF).newest


def test_what_does_not_exist_is_none(inside):
    """A 404 is absence."""
    assert datasets.read(inside, REF) is None


@pytest.mark.parametrize("status", [500, 403, 429])
def test_trouble_is_not_absence(script, client, status):
    """Any error but 404 is raised: no slug is taken for free because Kaggle had trouble."""
    script.on("GetDatasetStatus", Reply(status))
    with pytest.raises(RefusedError, match=str(status)):
        datasets.read(client, REF)


def test_a_dataset_that_only_has_a_status_exists(script, client):
    """A dataset just begun may have a status and no page yet."""
    script.on("GetDatasetStatus", {"status": "NOT_YET_PERSISTED"})
    found = datasets.read(client, REF)
    assert (found.version, found.status) == (None, "NOT_YET_PERSISTED")


@pytest.mark.usefixtures("made")
def test_a_dataset_is_made_and_read(inside):
    """What was sent is there, in its folders, private, with its licence."""
    found = datasets.read(inside, REF)
    assert (found.version, found.status, found.title) == (1, "READY", "Wheels of kit")
    assert (found.private, found.licence, found.sizes) == (True, "CC0-1.0", SIZES)


def test_waiting_says_what_it_sees(inside, sent):
    """Each state is told once."""
    told = []
    wait(inside, create(inside, sent), tell=told.append)
    assert told
    assert len(told) == len(set(told))


def test_a_version_is_made(inside, made):
    """A second version is number 2, and is waited for as such."""
    assert datasets.add_version(inside, REF, files=made[:1], notes="less", before=1) == 2
    assert wait(inside, 2, {"a.txt": 5}).version == 2


@pytest.mark.parametrize("name", ["dataset-reply-lost", "call-cut", "server-500", "rate-limited"])
def test_a_dataset_is_made_once(inside, sent, fault, name):
    """A lost reply ends in one dataset with one version."""
    inside.sleep = lambda _: None
    fault(name)
    wait(inside, create(inside, sent))
    assert versions(inside) == 1


@pytest.mark.parametrize("name", ["version-reply-lost", "server-502", "call-cut"])
def test_a_version_is_made_once(inside, made, fault, name):
    """A lost reply ends in one more version, never two."""
    fault(name)
    assert datasets.add_version(inside, REF, files=made, notes="again", before=1) == 2
    wait(inside, 2)
    assert versions(inside) == 2


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("version-refused", "could not be processed"),
        ("version-tags-hide-error", "could not be processed"),
        ("version-empty-reply", "answer is empty"),
    ],
)
def test_a_refused_version_is_an_error(inside, made, fault, name, says):
    """An error under status 200 is an error, with the reason."""
    fault(name)
    with pytest.raises(RemoteError, match=says) as caught:
        datasets.add_version(inside, REF, files=made, notes="again", before=1)
    assert REF in str(caught.value)
    assert versions(inside) == 1


def test_unknown_tags_are_an_error(script, client):
    """Tags that Kaggle does not take fail the call, though it says ok."""
    script.on("CreateDataset", {"status": "ok", "url": "u", "invalidTags": ["nlpp"]})
    with pytest.raises(RefusedError, match="nlpp"):
        create(client, [Sent("a.txt", 5, "t")])


def test_a_status_error_without_reason(script, client):
    """Status error with no word of why is still an error."""
    script.on("CreateDataset", {"status": "error", "error": ""})
    with pytest.raises(RefusedError, match="status ERROR"):
        create(client, [Sent("a.txt", 5, "t")])


def test_a_taken_slug_is_an_error(inside, sent, fault):
    """The refusal of a slug is told, though it comes under status 200."""
    fault("dataset-slug-taken")
    with pytest.raises(RefusedError, match="already in use"):
        create(inside, sent)


def test_what_exists_is_not_made_again(inside, made):
    """A second create of the same slug is stopped before it is sent."""
    with pytest.raises(RemoteError, match="exists already"):
        create(inside, made)


def test_somebody_elses_version_is_not_ours(script, client):
    """After a lost reply, a version with other notes is no success."""
    before = {"currentVersionNumber": 1, "versions": [{"versionNumber": 1, "versionNotes": "x"}]}
    after = {"currentVersionNumber": 2, "versions": [{"versionNumber": 2, "versionNotes": "theirs"}]}
    script.on("GetDatasetStatus", {"status": "READY"})
    script.on("GetDataset", before, after)
    script.on("ListDatasetFiles", {"datasetFiles": [{"name": "a.txt", "totalBytes": 5}]})
    script.on("CreateDatasetVersion", Reply(502))
    with pytest.raises(RemoteError, match="not what was sent"):
        datasets.add_version(client, REF, files=[Sent("a.txt", 5, "t")], notes="ours", before=1)
    assert len(script.calls("CreateDatasetVersion")) == 1


def test_a_version_under_way_counts_as_made(script, client):
    """Where a new version shows only once it is ready, being worked on is the sign of it."""
    script.on("GetDatasetStatus", {"status": "READY"}, {"status": "BLOBS_RECEIVED"})
    script.on("GetDataset", {"currentVersionNumber": 1})
    script.on("ListDatasetFiles", {})
    script.on("CreateDatasetVersion", Reply(502))
    assert datasets.add_version(client, REF, files=[Sent("a.txt", 5, "t")], notes="ours", before=1) == 2
    assert len(script.calls("CreateDatasetVersion")) == 1


def test_a_dataset_at_work_takes_no_version(script, client):
    """While a version is processed no other is sent: Kaggle would refuse it after the upload."""
    script.on("GetDatasetStatus", {"status": "BLOBS_RECEIVED"})
    script.on("GetDataset", {"currentVersionNumber": 1})
    with pytest.raises(RemoteError, match="still processed"):
        datasets.add_version(client, REF, files=[Sent("a.txt", 5, "t")], notes="n", before=1)


def test_another_version_than_planned_is_said(inside, made):
    """A version that came since the plan was made stops the push."""
    with pytest.raises(RemoteError, match="shows version 1 where version 7"):
        datasets.add_version(inside, REF, files=made, notes="n", before=7)


def test_ready_means_the_new_version(inside, made, fault):
    """READY of the old version is not taken for the new one's."""
    fault("dataset-ready-early")
    datasets.add_version(inside, REF, files=made[:1], notes="less", before=1)
    assert wait(inside, 2, {"a.txt": 5}).version == 2


@pytest.mark.parametrize("name", ["dataset-status-unknown", "dataset-status-missing", "dataset-no-version"])
def test_odd_states_are_waited_on(inside, sent, fault, name):
    """An unknown or missing state is not READY and no failure; it is said."""
    told = []
    create(inside, sent)
    fault(name)
    assert wait(inside, 1, tell=told.append).status == "READY"


def test_an_unknown_state_is_said(script, client):
    """A state that kit does not know is named until time is up."""
    script.on("GetDatasetStatus", {"status": "ARCHIVING"})
    script.on("GetDataset", {"currentVersionNumber": 1})
    with pytest.raises(RemoteError, match=r"ARCHIVING.*nothing is sent twice"):
        wait(client, 1, seconds=0.05)


def test_a_later_version_that_fails_is_not_the_one_that_is_waited_for(inside, sent, fault):
    """Kaggle's state of a dataset is the newest version's; one before it that is current is ready."""
    create(inside, sent)
    wait(inside, 1)
    fault("dataset-fails")
    datasets.add_version(inside, REF, files=sent, notes="somebody", before=1)
    while datasets.status(inside, REF) != "FAILED":
        pass
    assert wait(inside, 1).version == 1


def test_a_failed_version_is_an_error(inside, sent, fault):
    """FAILED ends the waiting, with known causes."""
    fault("dataset-fails")
    create(inside, sent)
    with pytest.raises(RemoteError, match="FAILED"):
        wait(inside, 1)


@pytest.mark.parametrize("name", ["dataset-wrong-size", "dataset-file-missing"])
def test_a_list_may_need_a_moment(inside, sent, fault, name):
    """A list that is not right at first is asked again."""
    create(inside, sent)
    fault(name)
    assert wait(inside, 1).sizes == SIZES


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"a.txt": 6, "sub/b.txt": 3}, "5 bytes of a.txt instead of 6"),
        ({"a.txt": 5, "sub/b.txt": 3, "c": 1}, "does not list c"),
        ({"a.txt": 5}, "lists sub/b.txt, which was not sent"),
    ],
)
@pytest.mark.usefixtures("made")
def test_files_that_differ_are_an_error(inside, files, says):
    """A version that does not hold what was sent is an error that names the file."""
    with pytest.raises(RemoteError, match=says):
        wait(inside, 1, files)


def test_a_later_version_is_said(inside, made):
    """Waiting for a version after which another came ends at once."""
    wait(inside, datasets.add_version(inside, REF, files=made[:1], notes="n", before=1), {"a.txt": 5})
    with pytest.raises(RemoteError, match="version 2 came after version 1"):
        wait(inside, 1)


def test_files_come_over_all_pages(script, client):
    """A list of several pages is read to its end."""
    page = {"datasetFiles": [{"name": "b", "totalBytes": 1}], "nextPageToken": "2"}
    script.on("ListDatasetFiles", page, {"datasetFiles": [{"name": "a", "totalBytes": 2}]})
    assert [one.name for one in datasets.list_files(client, REF)] == ["a", "b"]
    assert script.seen[1].json["pageToken"] == "2"


@pytest.mark.parametrize(
    "options",
    [{"title": "short"}, {"title": "x" * 51}, {"subtitle": "too short"}, {"files": []}],
)
def test_limits_are_kept_before_sending(script, client, options):
    """What Kaggle would refuse after the upload is refused before the call."""
    wanted = {"title": "A good title", "licence": "CC0-1.0", "files": [Sent("a", 1, "t")]} | options
    with pytest.raises(UsageError):
        datasets.create(client, REF, **wanted)
    assert script.seen == []
