"""Code submissions: handed in once, and what became of them."""

import pytest
from scripted import REF, Reply

from kaggle_kit.errors import RemoteError, UsageError
from kaggle_kit.remote.client import competitions
from kaggle_kit.remote.client.client import RefusedError


def submit(client, version=1, message="first try"):
    """Hand in the submission file."""
    return competitions.submit_code(
        client, "preferences", kernel=REF, version=version, file_name="submission.csv", message=message
    )


def test_a_submission_is_scored(inside, ran):
    """What was handed in gets its score."""
    handed = submit(inside, ran)
    scored = competitions.wait_scored(inside, handed.ref, deadline=inside.clock() + 5)
    assert (scored.state, scored.public_score, scored.private_score) == ("COMPLETE", 0.75, None)
    assert handed.description == "first try [rehearsal/score-it v1]"


@pytest.mark.parametrize("name", ["submit-reply-lost", "call-cut", "server-502"])
def test_a_submission_is_made_once(inside, ran, fault, name):
    """A lost reply ends in one submission: they are counted, and each costs one of the day's."""
    fault(name)
    handed = submit(inside, ran)
    assert [one.ref for one in competitions.submissions(inside, "preferences")] == [handed.ref]


def test_the_same_submission_is_not_made_again(inside, ran):
    """A second call for the same version and message finds the first one's."""
    first = submit(inside, ran)
    again = submit(inside, ran)
    assert (again.ref, again.found) == (first.ref, True)


def test_a_refused_submission_is_told(inside, ran, fault):
    """The refusal's words are in the error."""
    fault("submit-refused")
    with pytest.raises(RefusedError, match=r"rehearsal/score-it version 1 in preferences.*cannot be submitted"):
        submit(inside, ran)


def test_a_version_must_be_a_number(script, client):
    """No submission is made of "the latest"."""
    with pytest.raises(UsageError, match="no version number"):
        submit(client, 0)
    assert script.seen == []


def test_an_answer_without_a_number_is_an_error(script, client):
    """A reply that names no submission is no success."""
    script.on("ListSubmissions", {})
    script.on("GetSubmissionLimits", {})
    script.on("CreateCodeSubmission", {"message": "Thanks"})
    with pytest.raises(RemoteError, match=r"holds no ref.*Thanks"):
        submit(client)


def test_an_earlier_failure_may_be_tried_again(script, client):
    """A submission that ended in ERROR does not stand in the way of a new one."""
    old = {"ref": 5, "status": "ERROR", "description": "first try [rehearsal/score-it v1]"}
    script.on("ListSubmissions", {"submissions": [old]})
    script.on("GetSubmissionLimits", {})
    script.on("CreateCodeSubmission", {"ref": 6, "message": "ok"})
    assert submit(client).ref == 6
    assert len(script.calls("ListSubmissions")) == 1


def test_a_submission_that_was_asked_for_is_looked_for_longer(script, client):
    """A killed run's submission that the list shows late is the one; only one that never shows is made."""
    one = {"ref": 7, "status": "PENDING", "description": "first try [rehearsal/score-it v1]"}
    script.on("ListSubmissions", {}, {"submissions": [one]})
    script.on("GetSubmissionLimits", {})
    script.on("CreateCodeSubmission", {"ref": 8, "message": "ok"})
    given = {"kernel": REF, "version": 1, "file_name": "submission.csv", "message": "first try"}
    found = competitions.submit_code(client, "preferences", **given, asked=True)
    assert (found.ref, found.found, script.calls("CreateCodeSubmission")) == (7, True, [])

    script.on("ListSubmissions", {})
    described = []
    made = competitions.submit_code(client, "preferences", **given, asked=True, asking=described.append)
    assert (made.ref, described) == (8, [one["description"]])


@pytest.mark.parametrize(
    "listed", [[], [{"ref": 5, "status": "ERROR", "description": "first try [rehearsal/score-it v1]"}]]
)
def test_where_none_is_left_nothing_is_handed_in(script, client, listed):
    """The day's limit is told before anything is sent, also where an earlier try failed."""
    script.on("ListSubmissions", {"submissions": listed})
    script.on("GetSubmissionLimits", {"numAllowedNow": 0})
    with pytest.raises(RemoteError, match="no submission is left today"):
        submit(client)
    assert script.calls("CreateCodeSubmission") == []


def test_a_failed_submission_is_an_error(inside, ran, fault):
    """ERROR ends the waiting with Kaggle's reason."""
    fault("submission-fails")
    handed = submit(inside, ran)
    with pytest.raises(RemoteError, match="Submission Scoring Error"):
        competitions.wait_scored(inside, handed.ref, deadline=inside.clock() + 5)


def test_a_submission_not_yet_listed_is_pending(inside, ran, fault):
    """A 404 right after the submission is waited out."""
    handed = submit(inside, ran)
    fault("submission-not-listed")
    assert competitions.submission(inside, handed.ref).state == "PENDING"
    assert competitions.wait_scored(inside, handed.ref, deadline=inside.clock() + 5).public_score == 0.75


def test_complete_without_a_score(inside, ran, fault):
    """COMPLETE with no score keeps None, which is no zero."""
    fault("submission-no-score")
    handed = submit(inside, ran)
    assert competitions.wait_scored(inside, handed.ref, deadline=inside.clock() + 5).public_score is None


def test_waiting_ends(script, client):
    """When time is up the error says that it goes on."""
    script.on("GetSubmission", {"ref": 1, "status": "PENDING"})
    with pytest.raises(RemoteError, match="nothing is submitted twice"):
        competitions.wait_scored(client, 1, deadline=client.clock())


def test_an_unknown_state_is_not_complete(script, client):
    """A state that kit does not know is UNKNOWN."""
    script.on("GetSubmission", {"ref": 1, "status": "REVIEWED"})
    assert competitions.submission(client, 1).state == "UNKNOWN"


def test_limits(inside, ran):
    """How many are left is told."""
    submit(inside, ran)
    found = competitions.limits(inside, "preferences")
    assert (found.allowed_now, found.today) == (4, 1)


def test_all_submissions_with_their_scores(script, client):
    """Submissions are listed over all pages, the newest first; a score that is not there yet is none."""
    one = [{"ref": 1, "publicScore": "0.9"}, {"ref": 2, "publicScore": ""}]
    script.on(
        "ListSubmissions",
        {"submissions": one, "nextPageToken": "2"},
        {"submissions": [{"ref": 3, "publicScore": "0.7"}]},
    )
    found = [(one.ref, one.public_score) for one in competitions.submissions(client, "c")]
    assert found == [(3, 0.7), (2, None), (1, 0.9)]


def test_trouble_with_the_list_stops_a_submission(script, client):
    """Where it cannot be seen what was handed in before, nothing is handed in."""
    script.on("ListSubmissions", Reply(500))
    with pytest.raises(RemoteError):
        submit(client)
    assert script.calls("CreateCodeSubmission") == []
