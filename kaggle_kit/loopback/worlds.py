"""Worlds: the forms in which Kaggle's answers are known to come, each by name, with where and when it was seen.

A world changes how the loopback Kaggle tells what is so, not what is so: a release must end in every one of them as it
does in the plain one, but where a world says otherwise. Faults (see `faults`) go wrong once; a world stays.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import UsageError
from kaggle_kit.loopback.faults import ANY_CALL, COMPETITIONS, DATASETS, KERNELS, MODELS
from kaggle_kit.loopback.protocol import FRAMEWORK_PREFIX, Answer, Json
from kaggle_kit.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

Rewrite = Callable[[Json], Json | Answer]
"""What is sent instead of a good reply."""
_INTROSPECT = "security.OAuthService/*"


@dataclass(frozen=True)
class World:
    """One form of Kaggle's answers.

    `does` says it in one sentence; `source` and `date`: where it was read, and of when that is. `absent` gives the
    answer to a question for what is not there, by route. `replies` are changed on their way, by route. `late`: how
    many questions for what was made a moment ago are answered as if it were not there, by route. `busy` is answered
    instead of every so many-th call of a route. `end` is what a release must come to.
    """

    name: str
    does: str
    source: str
    date: str
    absent: tuple[tuple[str, Answer], ...] = ()
    replies: tuple[tuple[str, Rewrite], ...] = ()
    late: tuple[tuple[str, int], ...] = ()
    busy: tuple[tuple[str, int, Answer], ...] = ()
    ends: bool = True
    """Whether a release comes to its score. If not, it must say so and end with exit code 1."""


@dataclass
class ActiveWorlds:
    """The worlds of one server, and what was made in them. Used from the server's threads."""

    worlds: tuple[World, ...] = ()
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _asked: Counter[str] = field(default_factory=Counter)
    _made: set[str] = field(default_factory=set)

    def instead(self, route: str) -> Answer | None:
        """The answer to a call that is not carried out, because this Kaggle is busy."""
        for world in self.worlds:
            for pattern, every, answer in world.busy:
                if fnmatchcase(route, pattern) and self._count(f"busy {world.name} {pattern}") % every == 0:
                    return answer
        return None

    def told(self, route: str, request: Json, answer: Answer) -> Answer:
        """An answer as these worlds give it."""
        if answer.status == 200 and self._is_late(route, request):
            answer = Answer(404, {"code": 404, "message": "Not found"})
        for world in self.worlds:
            if answer.status == 404:
                absent = (other for pattern, other in world.absent if fnmatchcase(route, pattern))
                answer = next(absent, answer)
            elif answer.status == 200:
                for pattern, rewrite in world.replies:
                    if fnmatchcase(route, pattern):
                        told = rewrite(answer.body)
                        answer = told if isinstance(told, Answer) else Answer(200, told, answer.headers)
        return answer

    def _is_late(self, route: str, request: Json) -> bool:
        """Whether this is one of the first questions for something that was made in these worlds."""
        if made := _made(route, request):
            with self._lock:
                self._made.add(made)
            return False
        asked = _asked(route, request)
        for world in self.worlds:
            for pattern, questions in world.late:
                if (asked in self._made or route.startswith(COMPETITIONS)) and fnmatchcase(route, pattern):
                    return self._count(f"late {route} {asked}") <= questions
        return False

    def _count(self, what: str) -> int:
        with self._lock:
            self._asked[what] += 1
            return self._asked[what]


def _made(route: str, request: Json) -> str:
    """What a call makes, by its slug; "" where it makes nothing of its own."""
    match route.rpartition("/")[2]:
        case "CreateDataset" | "CreateModel":
            return f"{request.get('slug')}"
        case "CreateModelInstance":
            return f"{request.get('modelSlug')}/{(request.get('body') or {}).get('instanceSlug')}"
        case "SaveKernel":
            return str(request.get("slug")).rpartition("/")[2]
    return ""


def _asked(route: str, request: Json) -> str:
    """What a question is for, as `_made` names it; a submission is new in any case, and named by its number."""
    if route.startswith(COMPETITIONS):
        return str(request.get("ref"))
    if instance := request.get("instanceSlug"):
        return f"{request.get('modelSlug')}/{instance}"
    return str(request.get("datasetSlug") or request.get("modelSlug") or request.get("kernelSlug") or "")


def find_world(name: str) -> World:
    """The world of this name. Raises UsageError, which names a near one."""
    if name not in WORLDS:
        near = did_you_mean(name, WORLDS)
        raise UsageError(f"no world is called {name!r}{near}; `kit rehearse --help` lists them")
    return WORLDS[name]


def find_worlds(names: Iterable[str]) -> tuple[World, ...]:
    """The worlds of these names, each once; `all` is every one. Raises UsageError."""
    asked = list(names)
    return tuple(WORLDS.values()) if "all" in asked else tuple(find_world(name) for name in dict.fromkeys(asked))


def _denied(permission: str) -> Answer:
    message = f"Permission '{permission}' was denied"
    return Answer(403, {"error": {"code": 403, "message": message, "status": "PERMISSION_DENIED"}})


def _within(body: Any, change: Callable[[str, Any], Any]) -> Any:
    """A reply with each of its fields as `change` (name, value) gives it, those of its parts too."""
    if isinstance(body, dict):
        return {name: _within(change(name, value), change) for name, value in body.items()}
    return [_within(part, change) for part in body] if isinstance(body, list) else body


def _in_metadata(change: Callable[[Json], Json]) -> Rewrite:
    """A change of what GetKernel says beside the source."""
    return lambda reply: {**reply, "metadata": change(dict(reply["metadata"]))}


def _in_sources(change: Callable[[str, str], str]) -> Rewrite:
    """A change of each source (kind, text) that GetKernel names."""

    def changed(facts: Json) -> Json:
        kinds = ("dataset", "model", "kernel", "competition")
        named = {kind: f"{kind}DataSources" for kind in kinds}
        return facts | {name: [change(kind, text) for text in facts[name]] for kind, name in named.items()}

    return _in_metadata(changed)


_PAGES_NAMES = {"transformers": "Transformers", "pytorch": "PyTorch", "other": "Other", "vllm": "vLLM"}


def _display(kind: str, text: str) -> str:
    parts = text.split("/")
    if kind == "model" and len(parts) > 2:
        parts[2] = _PAGES_NAMES.get(parts[2].lower(), parts[2].capitalize())
    return "/".join(parts)


_VERSIONED = {"dataset": 2, "kernel": 2, "model": 4}


def _unversioned(kind: str, text: str) -> str:
    return "/".join(text.split("/")[: _VERSIONED.get(kind, 1)])


_SITE = {"dataset": "datasets/", "kernel": "code/", "model": "models/", "competition": "competitions/"}


def _capital(name: str, value: Any) -> Any:
    """An owner's name with a capital, wherever a reply has it."""
    if name in ("ref", "url") and isinstance(value, str) and not value.startswith("http"):
        slash = value[: len(value) - len(value.lstrip("/"))]
        return slash + value.lstrip("/")[:1].upper() + value.lstrip("/")[1:]
    if name in ("author", "ownerSlug", "ownerName", "ownerRef", "creatorName", "username", "userName"):
        return str(value)[:1].upper() + str(value)[1:]
    return value


def _with_listed(change: Callable[[list[Json]], list[Json]]) -> Rewrite:
    """A change of the list of a version's files."""

    def rewrite(reply: Json) -> Json:
        return reply | {name: change(reply[name]) for name in ("datasetFiles", "files") if name in reply}

    return rewrite


def _shape(words: Callable[[str], str | None]) -> Rewrite:
    """Other words for the machine; None leaves them out."""

    def changed(facts: Json) -> Json:
        shape = words(str(facts.get("machineShape") or ""))
        rest = {name: value for name, value in facts.items() if name != "machineShape"}
        return rest if shape is None else rest | {"machineShape": shape}

    return _in_metadata(changed)


_EDITOR = {"NvidiaTeslaT4": "GPU T4 x2", "NvidiaL4": "GPU L4 x4", "TpuV5E8": "TPU v5e-8", "": "None"}


def _without_defaults(body: Any) -> Any:
    """A reply as the protocol's encoding sends it: no field that holds its type's default."""
    if isinstance(body, dict):
        kept = {name: _without_defaults(value) for name, value in body.items()}
        return {name: value for name, value in kept.items() if value not in (False, 0, "", [], {}, None)}
    return [_without_defaults(part) for part in body] if isinstance(body, list) else body


def _camel(name: str, value: Any) -> Any:
    """A state or a framework in the other spelling of the protocol: `blobsReceived`, `complete`, `pyTorch`."""
    if name not in ("status", "framework") or not isinstance(value, str):
        return value
    first, *rest = value.removeprefix(FRAMEWORK_PREFIX).lower().split("_")
    return first + "".join(word.capitalize() for word in rest)


def _rewritten(reply: Json) -> Json:
    """A notebook's source as a save in another tool leaves it: other JSON, sources as lists, ids, no outputs."""
    blob = dict(reply["blob"])
    try:
        body = json.loads(blob["source"])
        for number, cell in enumerate(body["cells"]):
            text = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
            cell["source"] = text.splitlines(keepends=True)
            cell["id"] = f"saved-{number}"
            if cell["cell_type"] == "code":
                cell |= {"outputs": [], "execution_count": None}
        body["metadata"]["kaggle"] = {"accelerator": "nvidiaTeslaT4", "dataSources": []}
        blob["source"] = json.dumps(body, indent=4, sort_keys=True)
    except (ValueError, KeyError, TypeError):
        return reply
    return {**reply, "blob": blob}


def _without_metadata(reply: Json) -> Json:
    """A notebook's source with its cells alone."""
    blob = dict(reply["blob"])
    try:
        body = json.loads(blob["source"])
        blob["source"] = json.dumps({name: body[name] for name in ("cells", "nbformat", "nbformat_minor")})
    except (ValueError, KeyError, TypeError):
        return reply
    return {**reply, "blob": blob}


def _number_as_text(_: str, value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _nothing(reply: Json) -> Json:
    return {**reply, "files": [], "log": ""}


_TOO_MANY = Answer(429, {"code": 429, "message": "Too many requests"}, {"Retry-After": "0.05"})
_DOWN = Answer(503, {"code": 503, "message": "Service Unavailable"})
_READS = ("*Service/Get*", "*Service/List*")
_CLIENT = "the official client 2.2.5 and its SDK 0.1.38, as installed"

_LIST = (
    World("plain", "as the documentation and the official client have it: what is not there is answered with 404",
          "Kaggle/kaggle-cli issue 368 (404 for what one may not see)", "2021-07-27"),
    World("absence-403", "what is not there is answered with 403, as what one may not see",
          "kagglehub takes 403 for a model that is not there (models_helpers.py, 2024); logs of `kernels status` for a "
          "notebook that was never made, and of GetDataset: Permission 'kernels.get' (datasets.get) was denied",
          "2023 to 2026",
          absent=((DATASETS + "*", _denied("datasets.get")), (MODELS + "*", _denied("models.get")),
                  (KERNELS + "*", _denied("kernels.get")))),
    World("absence-401", "a notebook that is not there is answered with 401",
          f"{_CLIENT}: `kernels status` takes 401 and 403 for a wrong slug", "2026-10",
          absent=((KERNELS + "*", Answer(401, {"code": 401, "message": "Unauthenticated"})),)),
    World("absence-in-body", "what is not there is answered with HTTP 200, and the body says code 404",
          f"{_CLIENT}: a body with a code of 400 or more is an error under any status", "2026-10",
          absent=((ANY_CALL, Answer(200, {"code": 404, "message": "Not found"})),)),
    World("new-403", "what was made a moment ago is answered with 403 at the first three questions",
          "logs of GetDatasetStatus at once after CreateDataset, and of `kernels status` at once after a push",
          "2026-09-06",
          absent=((DATASETS + "*", _denied("datasets.get")), (MODELS + "*", _denied("models.get")),
                  (KERNELS + "*", _denied("kernels.get"))),
          late=((DATASETS + "Get*", 3), (MODELS + "Get*", 3), (KERNELS + "Get*", 3))),
    World("new-404", "what was made a moment ago is answered with 404 at the first three questions, and listed late",
          f"{_CLIENT}: `competitions submit --wait` takes 404 for what is not listed yet", "2026-10",
          late=((DATASETS + "*Get*", 3), (MODELS + "*", 3), (KERNELS + "Get*", 3), (KERNELS + "List*Output", 3))),
    World("framework-display-case", "a notebook's models are named as pages show them: o/m/Transformers/v/1",
          "metadata of pulled notebooks: qwen-lm/qwen2.5/Transformers/7b-instruct/1", "2026",
          replies=((KERNELS + "GetKernel", _in_sources(_display)),)),
    World("owner-capitals", "owners are shown with the capitals of their profile's name",
          "no dated report; Kaggle's addresses take an owner in any case", "2026-11",
          replies=((_INTROSPECT, lambda reply: _within(reply, _capital)),
                   (ANY_CALL, lambda reply: _within(reply, _capital)),
                   (KERNELS + "GetKernel", _in_sources(lambda _, text: text[:1].upper() + text[1:])))),
    World("sources-with-prefixes", "a notebook's sources are named as addresses on the site: datasets/o/s, code/o/s",
          "Kaggle/kaggle-cli issue 464", "read in 2026-11",
          replies=((KERNELS + "GetKernel", _in_sources(lambda kind, text: _SITE[kind] + text)),)),
    World("sources-without-versions", "a notebook's sources are named without the versions that it was given",
          "metadata of pulled notebooks: dataset_sources hold owner/slug alone", "2026",
          replies=((KERNELS + "GetKernel", _in_sources(_unversioned)),)),
    World("files-by-name", "a version's files are listed by their names alone, without their folders",
          "no report; the reply calls the field `name`, and no documentation speaks of folders", "2026-11",
          replies=tuple((route, _with_listed(lambda files: [
              {**file, "name": str(file["name"]).rpartition("/")[2]} for file in files]))
              for route in (DATASETS + "ListDatasetFiles", MODELS + "*Files"))),
    World("files-at-the-top", "of a version's files only those are listed that lie in no folder",
          "Kaggle/kaggle-cli issues 234, 370 and 386", "2019-12-10 to 2023-06-02",
          replies=tuple((route, _with_listed(lambda files: [file for file in files if "/" not in file["name"]]))
                        for route in (DATASETS + "ListDatasetFiles", MODELS + "*Files"))),
    World("sizes-left-out", "a version's files are listed without their sizes",
          f"{_CLIENT}: a field that is missing takes its default", "2026-10",
          replies=tuple((route, _with_listed(lambda files: [
              {name: value for name, value in file.items() if name not in ("totalBytes", "size")} for file in files]))
              for route in (DATASETS + "ListDatasetFiles", MODELS + "*Files"))),
    World("shape-in-small", "the machine is named as in a notebook's own metadata: nvidiaTeslaT4",
          "Kaggle/kaggle-cli issue 821", "2025-07-12",
          replies=((KERNELS + "GetKernel", _shape(lambda shape: shape[:1].lower() + shape[1:] if shape else "none")),)),
    World("shape-of-the-editor", "the machine is named as in the editor: GPU T4 x2, None",
          "Kaggle/kaggle-cli issue 1196", "2026-09-17",
          replies=((KERNELS + "GetKernel", _shape(lambda shape: _EDITOR.get(shape, shape))),)),
    World("shape-gpu", "of the machine no more is said than Gpu, or None",
          "metadata of pulled notebooks: machine_shape Gpu beside enable_gpu true; None without", "2026",
          replies=((KERNELS + "GetKernel", _shape(lambda shape: "Gpu" if shape.startswith("N") else "None")),)),
    World("shape-left-out", "the machine is not named",
          "Kaggle/kaggle-cli issue 490 (no word for it in metadata) and pull request 856, which added it", "2023-08-14",
          replies=((KERNELS + "GetKernel", _shape(lambda _: None)),)),
    World("defaults-left-out", "a field that holds its default (false, 0, no text, no list) is left out of every reply",
          f"{_CLIENT}: such fields are omitted in requests, and missing ones take defaults in replies", "2026-10",
          replies=((ANY_CALL, _without_defaults),)),
    World("words-in-camel-case", "states and frameworks are spelt in the protocol's other way: blobsReceived, complete",
          f"{_CLIENT}: takes COMPLETE, complete and cancelAcknowledged", "2026-10",
          replies=((ANY_CALL, lambda reply: _within(reply, _camel)),)),
    World("source-rewritten", "a notebook's source comes back in other JSON: lists of lines, ids, Kaggle's metadata",
          f"{_CLIENT} joins sources and clears outputs; pulled notebooks hold metadata.kaggle", "2026-10",
          replies=((KERNELS + "GetKernel", _rewritten),)),
    World("kernel-left-out", "a notebook's source comes back without its metadata, the kernel's name among them",
          "one report of a push that drops metadata.kernelspec, not confirmed", "2026-10",
          replies=((KERNELS + "GetKernel", _without_metadata),)),
    World("numbers-as-text", "whole numbers are texts, as protocol buffers write those of 64 bits in JSON",
          "the documentation of protocol buffers (JSON mapping of int64); sizes and scores of Kaggle's replies",
          "2026-11", replies=((ANY_CALL, lambda reply: _within(reply, _number_as_text)),)),
    World("status-denied", "the state of a dataset is never shown, not even to its owner, and its page is",
          "a log of GetDatasetStatus: Permission 'datasets.get' was denied, beside a dataset that is there",
          "2026-09-06", replies=((DATASETS + "GetDatasetStatus", lambda _: _denied("datasets.get")),)),
    World("rate-limited", "every sixth call is answered with 429 and Retry-After",
          f"{_CLIENT}: honours Retry-After on 429", "2026-10", busy=((ANY_CALL, 6, _TOO_MANY),)),
    World("unsteady", "every fifth question is answered with 503",
          "Kaggle/kaggle-cli issues 122, 138, 197 and 1053", "read in 2026-11",
          busy=tuple((route, 5, _DOWN) for route in _READS)),
    World("output-late", "a complete run's files and log are listed only at the fourth question",
          "no report; state and output are two questions, and nothing says that they agree", "2026-11",
          late=((KERNELS + "ListKernelSessionOutput", 3),)),
    World("score-late", "a submission is not shown at the first three questions",
          f"{_CLIENT}: `competitions submit --wait` takes 404 for pending", "2026-10",
          late=((COMPETITIONS + "GetSubmission", 3),)),
    World("nothing-left", "a run is complete, and neither a file nor a log of it is ever listed",
          f"{_CLIENT}: `kernels output` with nothing to fetch ends well", "2026-10", ends=False,
          replies=((KERNELS + "ListKernelSessionOutput", _nothing),)),
)  # fmt: skip

WORLDS: dict[str, World] = {world.name: world for world in _LIST}
