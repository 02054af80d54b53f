"""The forms in which any call can go wrong: each call of a release by each of them is a fault of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.loopback.faults import (
    BLOBS,
    COMPETITIONS,
    DATASETS,
    FILE,
    KERNELS,
    MODELS,
    UPLOAD,
    Cut,
    Delay,
    Edit,
    Endless,
    Fault,
    Instead,
    Lose,
    Page,
    status,
)
from kaggle_kit.loopback.protocol import Answer, Json

if TYPE_CHECKING:
    from kaggle_kit.loopback.faults import Effect

READS = (
    *(DATASETS + name for name in ("GetDataset", "GetDatasetStatus", "ListDatasetFiles", "DownloadDataset")),
    *(MODELS + name for name in ("GetModel", "GetModelInstance", "ListModelInstances")),
    *(MODELS + name for name in ("ListModelInstanceVersionFiles", "DownloadModelInstanceVersion")),
    *(KERNELS + name for name in ("GetKernel", "GetKernelSessionStatus", "ListKernelSessionOutput")),
    *(COMPETITIONS + name for name in ("ListSubmissions", "GetSubmissionLimits", "GetSubmission")),
    BLOBS + "StartBlobUpload",
)
"""Calls of a release that change nothing, or nothing that anybody sees."""
MAKES = (
    *(DATASETS + name for name in ("CreateDataset", "CreateDatasetVersion")),
    *(MODELS + name for name in ("CreateModel", "CreateModelInstance", "CreateModelInstanceVersion")),
    KERNELS + "SaveKernel",
    COMPETITIONS + "CreateCodeSubmission",
)
"""Calls after which something is there."""
TRANSFERS = (UPLOAD, FILE)
"""Where the contents of files go."""

_HTML = "<html><head><title>Bad gateway</title></head><body>The server is out for lunch.</body></html>"


@dataclass(frozen=True)
class Form:
    """One way in which a call goes wrong.

    `passes`: whether the same call, asked again, is right. `of`: the calls that can have it. `word` stands in what a
    user should be told where the call is not repeated, "" where any word does.
    """

    name: str
    effect: Effect
    of: tuple[str, ...]
    passes: bool = False
    word: str = ""


def _carried_out(http: int, **body: Any) -> Edit:
    """The request is carried out, and this is answered."""
    return Edit(lambda _: Answer(http, body))


def _nested(reply: Json) -> Json:
    """A reply whose every value has another type."""
    return {name: {"value": value} for name, value in reply.items()}


def _next_number(reply: Json) -> Json | None:
    """A reply that names the version after the one that was made."""
    if isinstance(reply.get("versionNumber"), int):
        return {**reply, "versionNumber": reply["versionNumber"] + 1}
    path, _, number = str(reply.get("ref") or "").rpartition("/")
    return {**reply, "ref": f"{path}/{int(number) + 1}"} if number.isdecimal() and path.count("/") >= 3 else None


_PRETENDED: Json = {"ref": "/ada/best-answer", "url": "https://www.kaggle.com/x", "status": "ok", "id": 7}
_CALLS = READS + MAKES
_ALL = _CALLS + TRANSFERS
_BUSY: Json = {"message": "internal error"}
_ERROR: Json = {"error": "the request could not be processed"}

FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form("400", status(400, "invalid argument"), _CALLS, word="400"),
        Form("401", status(401, "unauthenticated"), _CALLS, word="log in"),
        Form("403", status(403, "permission denied"), _CALLS, word="403"),
        Form(
            "404",
            status(404, "not found"),
            _ALL,
        ),
        Form("409", status(409, "aborted"), _CALLS, word="409"),
        Form("408", status(408, "timeout"), _CALLS, passes=True),
        Form("429", status(429, "too many requests"), _ALL, passes=True),
        Form("429-after", status(429, "too many requests", **{"Retry-After": "0"}), _ALL, passes=True),
        Form("500", status(500, "internal error"), _ALL, passes=True),
        Form("502-html", Page(502, _HTML), _ALL, passes=True),
        Form("503-html", Page(503, _HTML), _ALL, passes=True),
        Form("504-empty", Page(504, ""), _ALL, passes=True),
        Form("500-in-200", Instead(Answer(200, {"code": 500, **_BUSY})), _CALLS, passes=True),
        Form("error-in-200", Instead(Answer(200, _ERROR)), _CALLS, word="processed"),
        Form("html-in-200", Page(200, _HTML), _CALLS),
        Form("empty", Page(200, "", "application/json"), _CALLS),
        Form("nothing", Instead(Answer()), _CALLS),
        Form("list", Page(200, "[]", "application/json"), _CALLS),
        Form("half", Page(200, '{"ref": "/ada/be', "application/json"), _CALLS),
        Form("other-types", Edit(_nested), _CALLS),
        Form("endless", Endless(), _CALLS, passes=True),
        Form("cut-before", Cut(after_bytes=0), _ALL, passes=True),
        Form("cut-after", Lose(), _ALL, passes=True),
        Form("slow", Delay(0.2), (*_CALLS, UPLOAD), passes=True),
        Form("made-500", _carried_out(500, code=500, **_BUSY), MAKES, passes=True),
        Form("made-502-html", Page(502, _HTML, after=True), (*MAKES, UPLOAD), passes=True),
        Form("made-error", _carried_out(200, **_ERROR), MAKES, word="processed"),
        Form("made-403", _carried_out(403, code=403, message="permission denied"), MAKES, word="403"),
        Form("made-nothing", _carried_out(200), MAKES),
        Form("made-empty", Page(200, "", "application/json", after=True), MAKES),
        Form("made-html", Page(200, _HTML, after=True), MAKES),
        Form("made-next-number", Edit(_next_number), MAKES),
        Form("pretended", Instead(Answer(200, _PRETENDED)), (*MAKES, UPLOAD)),
    )
}


def form_fault(route: str, form: str, *, after: int = 0, times: int = 1) -> Fault:
    """A call in one of the forms, from its call number `after` on, counted from 0, so many `times`."""
    called = route.rpartition("/")[2]
    does = f"{called} is answered in the form {form}"
    return Fault(f"{called}:{form}", does, route, FORMS[form].effect, times=times, after=after)
