"""Code submissions: a run's output, submitted once, and what it scored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import RemoteError, UsageError
from kaggle_kit.remote.client.absence import Sought, find
from kaggle_kit.remote.client.client import entries, enum_name, filled, number
from kaggle_kit.remote.references import parse_pair
from kaggle_kit.secrets import mask

if TYPE_CHECKING:
    from collections.abc import Callable

    from kaggle_kit.remote.client.client import Client

PENDING, COMPLETE, ERROR, UNKNOWN = "PENDING", "COMPLETE", "ERROR", "UNKNOWN"
_PAGE = 100


@dataclass(frozen=True)
class Submission:
    """A submission as Kaggle has it. Scores are None until there are some; `found`: not made by this call."""

    ref: int
    state: str
    description: str
    date: str | None
    file_name: str | None
    public_score: float | None
    private_score: float | None
    error: str | None
    found: bool = False


@dataclass(frozen=True)
class Limits:
    """How often the team may still submit; None where Kaggle does not say."""

    allowed_now: int | None
    today: int | None
    total: int | None


def submit_code(
    client: Client,
    competition: str,
    *,
    kernel: str,
    version: int,
    file_name: str,
    message: str | None,
    otherwise: str = "",
) -> Submission:
    """Submit `file_name` of the output of `kernel` (`owner/slug`) version `version`.

    The description becomes `message [owner/slug vN]`. A submission with this very description is not made a second
    time, without a `message` (then `otherwise` is it) none of this version with any: the newest that did not end in
    ERROR is returned with `found` True. After a lost reply the list is looked at before it is sent again, at most
    once. Raises UsageError, RefusedError (rules not accepted, run not complete), RemoteError (none is left today).
    """
    from kagglesdk.competitions.types.competition_api_service import ApiCreateCodeSubmissionRequest

    notebook = parse_pair(kernel)
    if version < 1:
        raise UsageError(f"notebook {kernel}: {version} is no version number; submit a version that ran")
    description = describe(message or otherwise, kernel=kernel, version=version)
    of_version = [one for one in submissions(client, competition) if _marks(one.description, kernel, version)]
    same = [one for one in of_version if _same_text(one.description, description)]
    standing = [one for one in (same[:1] if message else of_version) if one.state != ERROR]
    if standing:
        return replace(standing[0], found=True)
    failed = same[0].ref if same else None
    if limits(client, competition).allowed_now == 0:
        raise RemoteError(f"{competition}: no submission is left today; submit it tomorrow with kit submit")
    request = filled(ApiCreateCodeSubmissionRequest(), competition_name=competition)
    request.kernel_owner, request.kernel_slug, request.kernel_version = notebook.owner, notebook.slug, version
    request.file_name, request.submission_description = file_name, description
    what = f"notebook {kernel} version {version} in {competition}"

    def send() -> Submission:
        method = client.sdk.competitions.competition_api_client.create_code_submission
        reply = client.make(method, request, what=what)
        said = f" ({reply['message']})" if reply.get("message") else ""
        advice = f"Kaggle's word{said}. Look at the competition's submissions before trying again"
        ref = number(reply, "ref", call="CreateCodeSubmission", what=what, advice=advice)
        return Submission(ref, PENDING, description, None, file_name, None, None, None)

    def look() -> Submission | None:
        there = submissions(client, competition)
        now = [one for one in there if _same_text(one.description, description) and one.ref != failed]
        return replace(now[0], found=True) if now else None

    return client.make_once(send, look, what=what)


def describe(message: str, *, kernel: str, version: int) -> str:
    """A submission's description, by which it is known again."""
    mark = _mark(kernel, version)
    return message if message.endswith(mark) else f"{message} {mark}".strip()


def _same_text(one: str, other: str) -> bool:
    """Whether two descriptions are one, wherever white space was taken out or put in."""
    return one.split() == other.split()


def _marks(description: str, kernel: str, version: int) -> bool:
    return description.rstrip().lower().endswith(_mark(kernel, version).lower())


def _mark(kernel: str, version: int) -> str:
    return f"[{kernel} v{version}]"


def submission(client: Client, ref: int) -> Submission:
    """One submission. One that Kaggle does not show is PENDING: a new one may take a moment (facts, section 3)."""
    from kagglesdk.competitions.types.competition_api_service import ApiGetSubmissionRequest

    method = client.sdk.competitions.competition_api_client.get_submission
    sought = Sought(f"submission {ref}", client.username)
    reply = find(client, method, filled(ApiGetSubmissionRequest(), ref=ref), sought)
    if reply is None:
        return Submission(ref, PENDING, "", None, None, None, None, None)
    return _submission(reply, ref=ref)


def wait_scored(
    client: Client, ref: int, *, deadline: float, tell: Callable[[Submission], None] | None = None
) -> Submission:
    """Wait until a submission is COMPLETE; its score is None where Kaggle says none for `patience.settle_s` seconds.

    `deadline` is a moment of `client.clock()`, in seconds. Raises RemoteError: Kaggle says ERROR, or time is up.
    """
    said = ""
    complete_since: float | None = None
    client = client.until(deadline)
    while True:
        now = submission(client, ref)
        if now.state == COMPLETE:
            complete_since = client.clock() if complete_since is None else complete_since
            if now.public_score is not None or client.clock() - complete_since >= client.patience.settle_s:
                return now
        if tell is not None and now.state != said:
            tell(now)
            said = now.state
        if now.state == ERROR:
            reason = f': "{now.error}"' if now.error else ", without a reason"
            raise RemoteError(f"submission {ref}: Kaggle could not score it{reason}. Correct it, then submit again")
        if client.clock() >= deadline:
            raise RemoteError(
                f"submission {ref} is not scored in time (last seen: {now.state}). It goes on at Kaggle: "
                "run `kit submit --wait` for the same version, nothing is submitted twice"
            )
        client.sleep(client.patience.poll_s)


def submissions(client: Client, competition: str) -> tuple[Submission, ...]:
    """All submissions of one's own team, newest first, over all pages."""
    from kagglesdk.competitions.types.competition_api_service import ApiListSubmissionsRequest

    request = filled(ApiListSubmissionsRequest(), competition_name=competition)
    found: dict[int, Submission] = {}
    method = client.sdk.competitions.competition_api_client.list_submissions
    for reply in client.pages(method, request, what=f"submissions to {competition}", size=_PAGE):
        for one in entries(reply, "submissions", what=competition, kind=dict):
            ref = number(one, "ref", call="ListSubmissions", what=competition, advice="Run the same command again")
            found[ref] = _submission(one, ref=ref)
    return tuple(sorted(found.values(), key=lambda one: one.ref, reverse=True))


def limits(client: Client, competition: str) -> Limits:
    """How often the team may still submit today."""
    from kagglesdk.competitions.types.competition_api_service import ApiGetSubmissionLimitsRequest

    request = filled(ApiGetSubmissionLimitsRequest(), competition_name=competition)
    method = client.sdk.competitions.competition_api_client.get_submission_limits
    reply = client.read(method, request, what=f"submission limits of {competition}")
    now, today, total = (_count(reply.get(name)) for name in ("numAllowedNow", "numToday", "numTotal"))
    return Limits(allowed_now=now, today=today, total=total)


def _submission(reply: dict[str, Any], *, ref: int) -> Submission:
    state = enum_name(reply.get("status"), prefix="SUBMISSION_STATUS_")
    error = reply.get("errorDescription")
    return Submission(
        ref=ref,
        state=state if state in {PENDING, COMPLETE, ERROR} else UNKNOWN,
        description=str(reply.get("description") or ""),
        date=reply.get("date"),
        file_name=reply.get("fileName"),
        public_score=_score(reply.get("publicScore")),
        private_score=_score(reply.get("privateScore")),
        error=mask(str(error)) if error else None,
    )


def _score(value: Any) -> float | None:
    """A score, which Kaggle writes as text, "" while there is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
