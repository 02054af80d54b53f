"""Competitions: their data, and submissions of a run's output or of an uploaded file."""

from __future__ import annotations

import threading
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit.loopback.kernels import find_kernel, output_file
from kaggle_kit.loopback.protocol import Answer, Json, Refusal, page, reference
from kaggle_kit.loopback.records import COMPLETE, ERROR, Competition, Submission, numbered
from kaggle_kit.loopback.runs import files_below
from kaggle_kit.loopback.uploads import finished_blob, open_session

if TYPE_CHECKING:
    from kaggle_kit.loopback.records import KernelVersion
    from kaggle_kit.loopback.service import Handler, Service


def submit_code(service: Service, request: Json) -> Json:
    """Submit the output of a notebook's version. The run must be COMPLETE, hold the file, and have had no internet."""
    competition = _open(service, request)
    kernel = find_kernel(service, reference(request.get("kernelOwner"), request.get("kernelSlug")))
    number = request.get("kernelVersion")
    version = numbered(kernel.versions, int(number)) if number else kernel.versions[-1]
    if version is None:
        raise Refusal(404, f"{kernel.ref} has no version {number}")

    if complaint := _code_complaint(competition, version):
        raise Refusal(400, f"{kernel.ref} version {version.number} cannot be submitted: {complaint}")
    name = str(request.get("fileName") or "submission.csv")
    try:
        path = output_file(service, kernel.ref, version.number, name)
    except Refusal as refusal:
        raise Refusal(400, refusal.message) from None
    ref = f"{kernel.ref}/{version.number}"
    return _submit(service, competition, request, path=path, file_name=name, kernel=ref)


def start_upload(service: Service, request: Json) -> Json:
    """Open an upload session for a submission file."""
    _find(service, request)
    return open_session(service, "submission", request.get("fileName"), request.get("contentLength"))


def submit_file(service: Service, request: Json) -> Json:
    """Submit an uploaded file, where the competition takes files."""
    competition = _open(service, request)
    if competition.code_only:
        raise Refusal(400, f"{competition.slug} takes submissions from notebooks only")

    blob = finished_blob(service, request.get("blobFileTokens"))
    path = service.store.object(blob.sha256)
    return _submit(service, competition, request, path=path, file_name=blob.name, kernel="")


def get_submission(service: Service, request: Json) -> Json:
    """One submission, by its number."""
    submission = service.store.get(Submission, str(request.get("ref")))
    if submission is None:
        raise Refusal(404, "Submission not found")
    return _polled(service, submission)


def list_submissions(service: Service, request: Json) -> Json:
    """The submissions to a competition, newest first, by pages."""
    competition = _find(service, request)
    shown, token = page(_submissions(service, competition)[::-1], request)
    return {"submissions": [_polled(service, submission) for submission in shown], "nextPageToken": token}


def limits(service: Service, request: Json) -> Json:
    """How many submissions were made, and how many are allowed now."""
    competition = _find(service, request)
    today = _today(service, competition)
    allowed = max(0, competition.daily_submissions - today)
    return {"numToday": today, "numTotal": len(_submissions(service, competition)), "numAllowedNow": allowed}


def list_data(service: Service, request: Json) -> Json:
    """The competition's files by pages."""
    competition = _find(service, request)
    shown, token = page(data_files(competition), request)
    listed = [
        {"ref": name, "name": name, "totalBytes": path.stat().st_size, "creationDate": service.now()}
        for name, path in shown
    ]
    return {"files": listed, "nextPageToken": token}


def download(service: Service, request: Json) -> Answer:
    """A competition's data, or one file of them, by their address."""
    return service.download(f"competition/{_find(service, request).slug}", request.get("fileName"))


def get_competition(service: Service, request: Json) -> Json:
    """A competition's page."""
    return _page(service, _find(service, request))


def list_competitions(service: Service, request: Json) -> Json:
    """All competitions of this server."""
    shown, token = page(service.store.all(Competition), request)
    return {"competitions": [_page(service, competition) for competition in shown], "nextPageToken": token}


def data_files(competition: Competition) -> tuple[tuple[str, Path], ...]:
    """The files of a competition's folder: path in it, and where that file lies."""
    return files_below(Path(competition.folder))


def find_competition(service: Service, slug: object) -> Competition:
    """The competition with this slug. Raises Refusal."""
    competition = service.store.get(Competition, str(slug))
    if competition is None:
        raise Refusal(404, f"Competition not found: {slug}")
    return competition


def judge_again(service: Service) -> None:
    """Judge what an earlier server on this folder left unjudged."""
    for submission in service.store.all(Submission):
        if not submission.judged:
            _judge(service, submission)


def _find(service: Service, request: Json) -> Competition:
    return find_competition(service, request.get("competitionName"))


def _open(service: Service, request: Json) -> Competition:
    """The competition, if the user has a submission left today. Raises Refusal."""
    competition = _find(service, request)
    if _today(service, competition) >= competition.daily_submissions:
        raise Refusal(400, f"You have used all {competition.daily_submissions} submissions of today (UTC).")
    return competition


def _submissions(service: Service, competition: Competition) -> list[Submission]:
    every = service.store.all(Submission)
    return sorted((each for each in every if each.competition == competition.slug), key=attrgetter("id"))


def _today(service: Service, competition: Competition) -> int:
    day = service.now()[:10]
    return sum(submission.date[:10] == day for submission in _submissions(service, competition))


def _code_complaint(competition: Competition, version: KernelVersion) -> str:
    if version.status == ERROR:
        return "its run failed"
    if version.status != COMPLETE:
        return f"its run is {version.status}, not COMPLETE"
    if version.internet and not competition.internet_allowed:
        return f"its internet is on, which {competition.slug} does not allow"
    if not any(source.kind == "competition" and source.ref == competition.slug for source in version.sources):
        return f"{competition.slug} is not among its sources"
    return ""


def _submit(
    service: Service, competition: Competition, request: Json, *, path: Path, file_name: str, kernel: str
) -> Json:
    file = service.store.adopt(path, file_name, always=True)
    submission = Submission(
        id=service.store.next_id(),
        competition=competition.slug,
        file_name=file_name,
        sha256=file.sha256,
        size=file.size,
        description=str(request.get("submissionDescription") or ""),
        date=service.now(),
        kernel=kernel,
        polls_left=service.settings.polls_until_scored,
    )
    service.store.put(str(submission.id), submission)
    # The thread waits for this call's change of the state, and so finds the submission.
    _judge(service, submission)
    return {"message": f"Successfully submitted to {competition.slug}", "ref": submission.id}


def _judge(service: Service, submission: Submission) -> None:
    threading.Thread(target=_score, args=(service, submission), name=f"judge {submission.id}", daemon=True).start()


def _score(service: Service, submission: Submission) -> None:
    """Ask the judge, and write down the score, or why there is none."""
    score, error = None, ""
    try:
        score = service.judge(submission.competition, service.store.object(submission.sha256))
    except Exception as failure:  # noqa: BLE001 - whatever the judge says is the submission's error
        error = str(failure) or type(failure).__name__

    if service.faults.strikes("submission-fails"):
        score, error = None, "Submission Scoring Error"

    with service.store.late_change() as is_open:
        if not is_open:
            return
        known = service.store.get(Submission, str(submission.id)) or submission
        service.store.put(str(submission.id), replace(known, judged=True, score=score, error=error))


def _polled(service: Service, submission: Submission) -> dict[str, Any]:
    """A submission as it is reported, which is PENDING for the first polls."""
    known = replace(submission, polls_left=max(0, submission.polls_left - 1))
    service.store.put(str(known.id), known)
    status = "ERROR" if known.error else "COMPLETE"
    if not known.judged or submission.polls_left > 0:
        status = "PENDING"

    answer: dict[str, Any] = {
        "ref": known.id,
        "date": known.date,
        "description": known.description,
        "fileName": known.file_name,
        "totalBytes": known.size,
        "status": status,
        "submittedBy": service.settings.username,
        "submittedByRef": service.settings.username,
        "teamName": service.settings.username,
    }

    if status == "ERROR":
        answer["errorDescription"] = known.error
    if status == "COMPLETE":
        answer |= {"publicScore": f"{known.score:.5f}", "privateScore": ""}
    return answer


def _page(service: Service, competition: Competition) -> dict[str, Any]:
    return {
        "ref": f"{service.url}/competitions/{competition.slug}",
        "url": f"{service.url}/competitions/{competition.slug}",
        "title": competition.slug,
        "userHasEntered": True,
        "maxDailySubmissions": competition.daily_submissions,
        "isKernelsSubmissionsOnly": competition.code_only,
    }


_SERVICE = "competitions.CompetitionApiService/"
ROUTES: dict[str, Handler] = {
    _SERVICE + "CreateCodeSubmission": submit_code,
    _SERVICE + "StartSubmissionUpload": start_upload,
    _SERVICE + "CreateSubmission": submit_file,
    _SERVICE + "GetSubmission": get_submission,
    _SERVICE + "ListSubmissions": list_submissions,
    _SERVICE + "GetSubmissionLimits": limits,
    _SERVICE + "ListDataFiles": list_data,
    _SERVICE + "DownloadDataFile": download,
    _SERVICE + "DownloadDataFiles": download,
    _SERVICE + "GetCompetition": get_competition,
    _SERVICE + "ListCompetitions": list_competitions,
}
