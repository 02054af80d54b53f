"""The faults that the loopback Kaggle can be asked for, by name: what each does to a request, and which have fired."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from kaggle_kit.errors import UsageError
from kaggle_kit.loopback.protocol import Answer, Json
from kaggle_kit.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable


# Given a reply, what is sent instead of it; None if the fault has nothing to change in this reply.
Rewrite = Callable[[Json], Json | Answer | None]


@dataclass(frozen=True)
class Instead:
    """The request is not carried out; this is answered."""

    answer: Answer


@dataclass(frozen=True)
class Page:
    """This text is answered, which is no answer of the protocol. `after`: the request is carried out all the same."""

    status: int
    text: str
    kind: str = "text/html"
    after: bool = False


@dataclass(frozen=True)
class Endless:
    """The request is not carried out, and an answer begins that does not end."""


@dataclass(frozen=True)
class Edit:
    """The request is carried out, and its reply is changed on the way."""

    rewrite: Rewrite


@dataclass(frozen=True)
class Drop:
    """The first entry of a list in the request is ignored; the reply names it under `reported`, if that is set."""

    field: str
    reported: str = ""


@dataclass(frozen=True)
class Lose:
    """The request is carried out, and the connection is cut before the reply."""


@dataclass(frozen=True)
class Cut:
    """The connection is cut when so many bytes of the request's body have come; those are kept."""

    after_bytes: int


@dataclass(frozen=True)
class Delay:
    """The request is carried out, and the reply comes so many seconds later."""

    seconds: float


@dataclass(frozen=True)
class Inside:
    """The service itself goes wrong: its handlers ask for this fault by its name."""


Effect = Instead | Page | Endless | Edit | Drop | Lose | Cut | Delay | Inside


def setting(**fields: object) -> Edit:
    """An edit that sets fields of the reply."""
    return Edit(lambda reply: {**reply, **fields})


def removing(*names: str) -> Edit:
    """An edit that takes fields out of the reply; it leaves a reply alone that has none of them."""

    def rewrite(reply: Json) -> Json | None:
        rest = {key: value for key, value in reply.items() if key not in names}
        return rest if len(rest) < len(reply) else None

    return Edit(rewrite)


def status(code: int, message: str, **headers: str) -> Instead:
    """An HTTP status instead of the reply, with a body as Kaggle's."""
    return Instead(Answer(code, {"code": code, "message": message}, headers))


UPLOAD = "PUT upload"
FILE = "GET file"
LOG_STREAM = "GET log stream"
BLOBS = "blobs.BlobApiService/"
DATASETS = "datasets.DatasetApiService/"
MODELS = "models.ModelApiService/"
KERNELS = "kernels.KernelsApiService/"
COMPETITIONS = "competitions.CompetitionApiService/"
# Every call but the check of the login, which the client makes before it does anything else.
ANY_CALL = "*ApiService/*"


@dataclass(frozen=True)
class Fault:
    """One way in which the service goes wrong.

    `does` says in one sentence what happens. `route` is a pattern of `SERVICE/METHOD`, or UPLOAD, FILE, LOG_STREAM.
    It lets `after` matching calls pass and then strikes `times` times. `row` is the line of the table of silent
    failures that it stands for, 0 if there is none.
    """

    name: str
    does: str
    route: str
    effect: Effect
    times: int = 1
    after: int = 0
    row: int = 0


class ActiveFaults:
    """The faults asked of one server, and how often each has fired. Used from the server's and the runs' threads."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = list(faults)
        self._passed: Counter[str] = Counter()
        self.fired: Counter[str] = Counter()

    def add(self, fault: Fault) -> None:
        """Ask for another fault."""
        with self._lock:
            self._faults.append(fault)

    def candidate(self, route: str, request: Json | None = None) -> Fault | None:
        """The fault that this call should meet. It counts as fired once `struck` is called."""
        with self._lock:
            matching = (fault for fault in self._faults if self._matches(fault, route, request))
            return next(filter(self._due, matching), None)

    def struck(self, fault: Fault) -> None:
        """Note that a fault had its effect."""
        with self._lock:
            self.fired[fault.name] += 1

    def strikes(self, name: str) -> bool:
        """Whether the fault with this name happens now: asked by the handlers, for faults inside the service."""
        with self._lock:
            named = [fault for fault in self._faults if fault.name == name and isinstance(fault.effect, Inside)]
            fault = next((each for each in named if self.fired[name] < each.times), None)
            if fault is None or not self._due(fault):
                return False
            self.fired[name] += 1
            return True

    def _due(self, fault: Fault) -> bool:
        """Whether a fault lets no more calls pass; this one is counted if it does."""
        if self._passed[fault.name] >= fault.after:
            return True
        self._passed[fault.name] += 1
        return False

    def _matches(self, fault: Fault, route: str, request: Json | None) -> bool:
        if isinstance(fault.effect, Inside) or self.fired[fault.name] >= fault.times:
            return False
        if isinstance(fault.effect, Drop) and not (request or {}).get(fault.effect.field):
            return False
        return fnmatchcase(route, fault.route)


def find_fault(name: str) -> Fault:
    """The fault with this name. Raises UsageError, which names a near one."""
    if name not in FAULTS:
        raise UsageError(f"no fault is called {name!r}{did_you_mean(name, FAULTS)}; `kit rehearse --faults` lists them")
    return FAULTS[name]


def _ready_early(reply: Json) -> Json | None:
    return None if reply["status"] in {"READY", "FAILED"} else {**reply, "status": "READY"}


def _with_first_file(change: Callable[[Json], list[Json]]) -> Edit:
    """An edit that puts what `change` makes of the first listed file in its place."""

    def rewrite(reply: Json) -> Json | None:
        files = reply.get("datasetFiles")
        return {**reply, "datasetFiles": [*change(files[0]), *files[1:]]} if files else None

    return Edit(rewrite)


def _saying(**body: object) -> Instead:
    """HTTP 200 with this body instead of the reply."""
    return Instead(Answer(200, body))


def _larger(file: Json) -> list[Json]:
    return [{**file, "totalBytes": file["totalBytes"] + 1}]


_BAD_FILES = {"status": "error", "error": "the files could not be processed"}


_LIST = (
    # Kernels: what SaveKernel says and does.
    Fault("push-refused", "a push is answered 200 with an error: the GPU session limit is reached; nothing is made",
          KERNELS + "SaveKernel",
          _saying(error="Maximum batch GPU session count of 2 reached."), row=1),
    Fault("push-drops-dataset", "a dataset of a push is not attached, and the run goes on; the reply lists it",
          KERNELS + "SaveKernel", Drop("datasetDataSources", "invalidDatasetSources"), row=2),
    Fault("push-drops-competition", "the competition of a push is not attached, the run goes on; the reply lists it",
          KERNELS + "SaveKernel", Drop("competitionDataSources", "invalidCompetitionSources"), row=2),
    Fault("push-drops-kernel", "a notebook source of a push is not attached, and the run goes on; the reply lists it",
          KERNELS + "SaveKernel", Drop("kernelDataSources", "invalidKernelSources"), row=2),
    Fault("push-drops-model", "a model of a push is not attached, and the run goes on; the reply lists it",
          KERNELS + "SaveKernel", Drop("modelDataSources", "invalidModelSources"), row=3),
    Fault("push-drops-dataset-unsaid", "a dataset of a push is not attached, and no reply says so",
          KERNELS + "SaveKernel", Drop("datasetDataSources")),
    Fault("push-drops-model-unsaid", "a model of a push is not attached, and no reply says so",
          KERNELS + "SaveKernel", Drop("modelDataSources")),
    Fault("push-empty-reply", "a push is answered with {} and nothing is made",
          KERNELS + "SaveKernel", Instead(Answer()), row=4),
    Fault("push-no-version", "a push is made, and its reply has no version number",
          KERNELS + "SaveKernel", removing("versionNumber")),
    Fault("push-reply-lost", "a push is made and runs, and the connection is cut before the reply",
          KERNELS + "SaveKernel", Lose(), row=13),
    Fault("push-500", "a push is answered with 500, and nothing is made",
          KERNELS + "SaveKernel", status(500, "internal error")),
    Fault("push-other-machine", "a push runs on another machine than it asked for, and no reply says so",
          KERNELS + "SaveKernel", Inside(), row=18),
    Fault("push-internet-on", "a push is stored with internet on, whatever it asked for",
          KERNELS + "SaveKernel", Inside()),
    Fault("notebook-missing-403", "the questions for a notebook that is not there are answered with 403",
          KERNELS + "GetKernel*", Inside(), times=100),
    # Kernels: the run.
    Fault("run-fails", "a run ends in ERROR with a message", KERNELS + "SaveKernel", Inside(), row=5),
    Fault("run-never-starts", "a run stays QUEUED for ever", KERNELS + "SaveKernel", Inside()),
    Fault("run-never-ends", "a run stays RUNNING for ever", KERNELS + "SaveKernel", Inside()),
    Fault("run-not-listed", "a pushed notebook is answered 404 at the first three questions about its run",
          KERNELS + "GetKernel*", Edit(lambda _: status(404, "Notebook not found").answer), times=3),
    Fault("run-queued-again", "a run is reported RUNNING, then QUEUED, then as it is",
          KERNELS + "GetKernelSessionStatus", Inside(), times=2),
    Fault("run-status-missing", "the reply about a run has no status, which the client reads as QUEUED",
          KERNELS + "GetKernelSessionStatus", removing("status"), times=2),
    Fault("run-status-unknown", "a run has a status that no client knows",
          KERNELS + "GetKernelSessionStatus", setting(status="PREEMPTED")),
    Fault("run-status-500", "the questions about a run are answered with 500, twice",
          KERNELS + "GetKernelSessionStatus", status(500, "internal error"), times=2),
    Fault("output-empty", "the output of a run is listed as empty, without a log",
          KERNELS + "ListKernelSessionOutput", Instead(Answer()), row=6),
    # Datasets.
    Fault("dataset-check-500", "the question whether a dataset exists is answered with 500",
          DATASETS + "GetDatasetStatus", status(500, "internal error"), row=8),
    Fault("dataset-check-403", "the question whether a dataset exists is answered with 403",
          DATASETS + "GetDatasetStatus", status(403, "Permission 'datasets.get' was denied"), row=8),
    Fault("dataset-slug-taken", "a new dataset is answered 200 with status error: its slug is taken",
          DATASETS + "CreateDataset",
          _saying(status="error", error="the slug is already in use"), row=7),
    Fault("dataset-reply-lost", "a new dataset is made, and the connection is cut before the reply",
          DATASETS + "CreateDataset", Lose(), row=12),
    Fault("dataset-error-in-200", "a new dataset is answered with HTTP 200 whose body says code 500",
          DATASETS + "CreateDataset", _saying(code=500, message="internal error"), row=16),
    Fault("version-refused", "a dataset version is answered 200 with status error, and nothing is made",
          DATASETS + "CreateDatasetVersion*", _saying(**_BAD_FILES), row=9),
    Fault("version-empty-reply", "a dataset version is answered with {} and nothing is made",
          DATASETS + "CreateDatasetVersion*", Instead(Answer()), row=9),
    Fault("version-tags-hide-error", "a dataset version is refused, and the reply names tags beside the reason",
          DATASETS + "CreateDatasetVersion*", _saying(**_BAD_FILES, invalidTags=["nonesuch"]), row=10),
    Fault("version-reply-lost", "a dataset version is made, and the connection is cut before the reply",
          DATASETS + "CreateDatasetVersion*", Lose(), row=12),
    Fault("dataset-ready-early", "a dataset is reported READY while only its old version is",
          DATASETS + "GetDatasetStatus", Edit(_ready_early), times=2),
    Fault("dataset-status-unknown", "a dataset has a status that no client knows",
          DATASETS + "GetDatasetStatus", setting(status="ARCHIVING")),
    Fault("dataset-status-missing", "the reply about a dataset's status has none",
          DATASETS + "GetDatasetStatus", removing("status")),
    Fault("dataset-no-version", "the reply about a dataset has no current version number",
          DATASETS + "GetDataset", removing("currentVersionNumber")),
    Fault("dataset-fails", "the processing of a dataset version ends in FAILED",
          DATASETS + "CreateDataset*", Inside()),
    Fault("dataset-wrong-size", "a file is listed with another size than was sent",
          DATASETS + "ListDatasetFiles", _with_first_file(_larger), times=2),
    Fault("dataset-file-missing", "a file that was sent is not listed",
          DATASETS + "ListDatasetFiles", _with_first_file(lambda _: []), times=2),
    # Models.
    Fault("model-refused", "a new model is answered 200 with an error",
          MODELS + "CreateModel", _saying(error="the model could not be made"), row=15),
    Fault("variation-refused", "a new model variation is answered 200 with an error",
          MODELS + "CreateModelInstance", _saying(error="the variation could not be made"), row=15),
    Fault("model-version-refused", "a new model version is answered 200 with an error",
          MODELS + "CreateModelInstanceVersion", _saying(error="the version could not be made"), row=15),
    Fault("model-version-reply-lost", "a model version is made, and the connection is cut before the reply",
          MODELS + "CreateModelInstanceVersion", Lose(), row=12),
    Fault("variation-reply-lost", "a model variation is made, and the connection is cut before the reply",
          MODELS + "CreateModelInstance", Lose(), row=12),
    # Uploads.
    Fault("upload-cut", "the connection is cut in the middle of an upload; what had come is kept",
          UPLOAD, Cut(after_bytes=1 << 16)),
    Fault("upload-reply-lost", "an upload arrives whole, and the connection is cut before the reply", UPLOAD, Lose()),
    Fault("upload-500", "an upload is answered with 500", UPLOAD, status(500, "internal error")),
    Fault("upload-503", "an upload is answered with 503", UPLOAD, status(503, "try again")),
    Fault("upload-expired", "an upload is answered with 404: its session has expired", UPLOAD, status(404, "expired")),
    Fault("upload-slow", "an upload is answered two seconds late", UPLOAD, Delay(2.0)),
    Fault("upload-start-500", "the start of an upload is answered with 500",
          BLOBS + "StartBlobUpload", status(500, "internal error")),
    # Competitions.
    Fault("submit-refused", "a submission is answered with 400",
          COMPETITIONS + "CreateCodeSubmission", status(400, "the notebook cannot be submitted")),
    Fault("submit-reply-lost", "a submission is made, and the connection is cut before the reply",
          COMPETITIONS + "CreateCodeSubmission", Lose()),
    Fault("submission-not-listed", "a submission is answered 404 at the first two questions about it",
          COMPETITIONS + "GetSubmission", status(404, "Submission not found"), times=2),
    Fault("submission-fails", "the scoring of a submission ends in an error",
          COMPETITIONS + "CreateCodeSubmission", Inside()),
    Fault("submission-no-score", "a submission is COMPLETE and has no score",
          COMPETITIONS + "GetSubmission", removing("publicScore", "privateScore"), times=100),
    # The service as a whole.
    Fault("rate-limited", "two calls are answered with 429 and Retry-After: 1",
          ANY_CALL, status(429, "too many requests", **{"Retry-After": "1"}), times=2),
    Fault("server-500", "a call is answered with 500", ANY_CALL, status(500, "internal error")),
    Fault("server-502", "a call is answered with 502", ANY_CALL, status(502, "bad gateway")),
    Fault("server-503", "a call is answered with 503", ANY_CALL, status(503, "unavailable")),
    Fault("call-cut", "the connection is cut before a call is carried out", ANY_CALL, Cut(after_bytes=0)),
    Fault("reply-slow", "the reply to a call comes two seconds late", ANY_CALL, Delay(2.0)),
)  # fmt: skip

FAULTS: dict[str, Fault] = {fault.name: fault for fault in _LIST}
