"""Competitions on the loopback Kaggle."""

import zipfile
from datetime import UTC, datetime
from io import BytesIO

import pytest
from loopback_client import COMPETITION

from kaggle_kit.loopback.runs import RunOutcome
from kaggle_kit.loopback.service import Settings

C = "competitions.CompetitionApiService/"


@pytest.fixture
def pushed(caller):
    """A complete run."""
    caller.push()
    caller.finished(1)
    return caller


def test_a_runs_output_is_submitted_and_scored(pushed):
    """PENDING first, then COMPLETE with the judge's score."""
    ref = pushed.submit(1).json()["ref"]
    assert pushed.call(C + "GetSubmission", ref=ref)["status"] == "PENDING"
    assert pushed.scored(ref)["publicScore"] == "0.25000"


def test_a_judges_complaint_is_the_submissions_error(make, caller_of):
    """What the judge raises is errorDescription."""

    def strict(_competition, _submission):
        raise ValueError("row 1 is missing")

    make(judge=strict)
    caller = caller_of()
    caller.push()
    caller.finished(1)
    said = caller.scored(caller.submit(1).json()["ref"])
    assert (said["status"], said["errorDescription"]) == ("ERROR", "row 1 is missing")


def test_submissions_are_limited_per_day(make, caller_of):
    """The third of a day is refused; the next day there are two again."""
    now = [datetime(2026, 11, 24, 12, tzinfo=UTC)]
    make(settings=Settings(clock=lambda: now[0]))
    caller = caller_of()
    caller.push()
    caller.finished(1)
    assert [caller.submit(1).status_code for _ in range(3)] == [200, 200, 400]
    now[0] = datetime(2026, 11, 25, 1, tzinfo=UTC)
    assert caller.call(C + "GetSubmissionLimits", competitionName=COMPETITION)["numAllowedNow"] == 2


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"fileName": "other.csv"}, "no file"), ({"kernelVersion": 9}, "no version"), ({"kernelSlug": "none"}, "found")],
)
def test_only_what_is_there_can_be_submitted(pushed, fields, reason):
    """A file, version or notebook that is missing is refused with a reason."""
    refused = pushed.submit(1, **fields)
    assert refused.status_code in {400, 404}
    assert reason in refused.json()["message"]


def test_a_failed_run_cannot_be_submitted(make, caller_of):
    """Only COMPLETE runs are taken."""
    make(runner=lambda _: RunOutcome("ERROR", "out of memory"))
    caller = caller_of()
    caller.push()
    caller.finished(1)
    assert "its run failed" in caller.submit(1).json()["message"]


def test_a_run_with_internet_cannot_be_submitted(caller):
    """A code competition takes offline runs only."""
    caller.push(enableInternet=True)
    caller.finished(1)
    assert "internet" in caller.submit(1).json()["message"]


def test_a_file_is_submitted_where_files_are_taken(server, caller, tmp_path):
    """Upload, submission, score; a code competition refuses files."""
    opened = caller.call(C + "StartSubmissionUpload", competitionName=COMPETITION, fileName="s.csv", contentLength=9)
    caller.session.put(opened["createUrl"], data=b"id,s\n1,.5", timeout=10)
    request = {"competitionName": COMPETITION, "blobFileTokens": opened["token"]}
    assert caller.raw(C + "CreateSubmission", **request).status_code == 400
    server.add_competition(COMPETITION, tmp_path / "data", code_only=False)
    assert caller.scored(caller.call(C + "CreateSubmission", **request)["ref"])["publicScore"] == "0.50000"


def test_submissions_are_listed_newest_first(pushed):
    """Both submissions, the second one in front."""
    refs = [pushed.submit(1).json()["ref"] for _ in range(2)]
    listed = pushed.call(C + "ListSubmissions", competitionName=COMPETITION)["submissions"]
    assert [one["ref"] for one in listed] == refs[::-1]


def test_the_data_are_listed_and_fetched(caller):
    """One file by a redirect, all of them as one archive."""
    listed = caller.call(C + "ListDataFiles", competitionName=COMPETITION)["files"]
    assert [one["name"] for one in listed] == ["nested/test.csv", "train.csv"]
    one = caller.raw(C + "DownloadDataFile", competitionName=COMPETITION, fileName="nested/test.csv")
    assert one.text == "id\n2\n"
    whole = caller.raw(C + "DownloadDataFiles", competitionName=COMPETITION)
    assert zipfile.ZipFile(BytesIO(whole.content)).namelist() == ["nested/test.csv", "train.csv"]
