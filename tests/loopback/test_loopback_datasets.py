"""Datasets on the loopback Kaggle."""

import io
import zipfile

import pytest
from loopback_client import DATASET, until


def test_a_version_is_ready_after_some_polls(caller):
    """A new dataset is processed first, and READY in the end."""
    caller.dataset()
    seen = [caller.about("GetDatasetStatus")["status"] for _ in range(3)]
    assert seen == ["BLOBS_DECOMPRESSED", "BLOBS_COPIED_TO_SDS", "READY"]


def test_the_current_version_is_the_old_one_until_the_new_one_is_ready(caller):
    """While version 2 is processed, readers get version 1."""
    caller.dataset()
    caller.ready()
    caller.version()
    assert caller.about("GetDataset")["currentVersionNumber"] == 1
    caller.ready()
    assert caller.about("GetDataset")["currentVersionNumber"] == 2


def test_no_version_is_taken_while_one_is_processed(caller):
    """A version on top of an unready one is refused with 403."""
    caller.dataset()
    assert caller.version().status_code == 403


def test_a_version_that_exists_is_listed_before_it_is_ready(caller):
    """After a lost reply, a client can see in the list of versions that its version was made."""
    caller.dataset()
    caller.ready()
    caller.version()
    assert [v["versionNumber"] for v in caller.about("GetDataset")["versions"]] == [2, 1]


def test_files_are_listed_by_pages(caller):
    """Every file is on one page, with its size."""
    caller.dataset(**{f"{n}.bin": bytes(n) for n in range(1, 6)})
    caller.ready()
    first = caller.about("ListDatasetFiles", pageSize=3)
    rest = caller.about("ListDatasetFiles", pageSize=3, pageToken=first["nextPageToken"])
    assert [f["totalBytes"] for f in first["datasetFiles"] + rest["datasetFiles"]] == [1, 2, 3, 4, 5]
    assert rest["nextPageToken"] == ""


def test_an_older_versions_files_stay(caller):
    """A version number asks for that version's files."""
    caller.dataset(**{"old.bin": b"old"})
    caller.ready()
    caller.version(**{"new.bin": b"new"})
    caller.ready()
    assert [f["name"] for f in caller.about("ListDatasetFiles", datasetVersionNumber=1)["datasetFiles"]] == ["old.bin"]


def test_a_file_can_be_read_back(caller):
    """A dataset's file is downloaded through a redirect."""
    caller.dataset(**{"manifest.json": b"{}"})
    caller.ready()
    owner, slug = DATASET.split("/")
    response = caller.raw(
        "datasets.DatasetApiService/DownloadDataset", ownerSlug=owner, datasetSlug=slug, fileName="manifest.json"
    )
    assert response.content == b"{}"


def test_zip_files_are_unpacked_and_wheels_are_not(caller):
    """A zip becomes a folder, its single top folder taken off; a wheel stays a file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("code/a/b.py", "pass")
    caller.dataset(**{"code.zip": content.getvalue(), "x.whl": content.getvalue()})
    caller.ready()
    assert [f["name"] for f in caller.about("ListDatasetFiles")["datasetFiles"]] == ["code/a/b.py", "x.whl"]


@pytest.mark.parametrize(
    "wrong",
    [{"title": "short"}, {"title": "t" * 51}, {"licenseName": "nonesuch"}, {"slug": "Upper-Case"}, {"subtitle": "s"}],
    ids="-".join,
)
def test_what_kaggle_does_not_accept_is_an_error_in_a_200(caller, wrong):
    """Title, licence, slug and subtitle are checked, and nothing is made."""
    body = {"ownerSlug": "rehearsal", "slug": "kit-wheels", "title": "Kit wheels", "licenseName": "CC0-1.0"}
    files = [{"token": caller.upload("a", b"a")}]
    reply = caller.call("datasets.DatasetApiService/CreateDataset", **(body | wrong), files=files)
    assert reply["status"] == "error"
    assert caller.call("datasets.DatasetApiService/ListDatasets", group="DATASET_SELECTION_GROUP_MY")["datasets"] == []


def test_a_slug_is_taken_once(caller):
    """The second dataset of a name is refused."""
    assert caller.dataset()["status"] == "ok"
    assert caller.dataset()["status"] == "error"


def test_nobody_writes_what_is_anothers(caller):
    """A dataset for another owner is refused with 403."""
    body = {"ownerSlug": "somebody", "slug": "kit-wheels", "title": "Kit wheels", "licenseName": "CC0-1.0"}
    assert caller.raw("datasets.DatasetApiService/CreateDataset", **body).status_code == 403


def test_an_absent_dataset_is_404_and_anothers_403(caller):
    """What is not there and what must not be seen are told apart as Kaggle does."""
    route = "datasets.DatasetApiService/GetDatasetStatus"
    assert caller.raw(route, ownerSlug="rehearsal", datasetSlug="nonesuch").status_code == 404
    assert caller.raw(route, ownerSlug="somebody", datasetSlug="nonesuch").status_code == 403


def test_an_at_sign_in_a_name_fails_the_processing(caller):
    """A file name with @ is taken, and the version FAILED later."""
    caller.dataset(**{"a@b.txt": b"a"})
    until(lambda: caller.about("GetDatasetStatus")["status"] == "FAILED")


def test_an_unfinished_upload_cannot_be_used(caller):
    """A token whose bytes have not come makes no dataset."""
    token = caller.call("blobs.BlobApiService/StartBlobUpload", type="DATASET", name="a", contentLength=4)["token"]
    reply = caller.call(
        "datasets.DatasetApiService/CreateDataset",
        ownerSlug="rehearsal", slug="kit-wheels", title="Kit wheels", licenseName="CC0-1.0", files=[{"token": token}],
    )  # fmt: skip
    assert "not finished" in reply["error"]


def test_own_datasets_are_listed(server, caller, tmp_path):
    """A lost state can be rebuilt: one's own datasets are found, another's public ones are not among them."""
    server.add_dataset("somebody/public-data", tmp_path / "data")
    caller.dataset()
    reply = caller.call("datasets.DatasetApiService/ListDatasets", user="rehearsal")
    assert [one["ref"] for one in reply["datasets"]] == [DATASET]
