"""A kernel's sources: which of those that a push names exist and are ready, and which versions its run uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kaggle_kit.loopback import datasets, models
from kaggle_kit.loopback.records import COMPLETE, Competition, Kernel, Source, SourceKind
from kaggle_kit.loopback.replies import Json, Refusal
from kaggle_kit.loopback.versions import readable

if TYPE_CHECKING:
    from kaggle_kit.loopback.service import Service

# Request field, kind, and the reply's field for those that are not attached.
FIELDS: tuple[tuple[str, SourceKind, str], ...] = (
    ("competitionDataSources", "competition", "invalidCompetitionSources"),
    ("datasetDataSources", "dataset", "invalidDatasetSources"),
    ("kernelDataSources", "kernel", "invalidKernelSources"),
    ("modelDataSources", "model", "invalidModelSources"),
)


def attach(service: Service, request: Json) -> tuple[tuple[Source, ...], Json]:
    """The sources that a run gets, pinned to the versions of this moment, and the lists of those that it does not.

    A source without a version gets the newest one that is ready: while the next is processed, that is the old one.
    """
    found: list[Source] = []
    refused: Json = {}
    for field, kind, reported in FIELDS:
        for text in request.get(field) or ():
            try:
                found.append(_resolve(service, kind, str(text)))
            except Refusal:
                refused.setdefault(reported, []).append(text)
    return tuple(found), refused


def sources_of(sources: tuple[Source, ...], kind: SourceKind) -> list[str]:
    """The sources of one kind, as the client wrote them."""
    return [source.text for source in sources if source.kind == kind]


def _resolve(service: Service, kind: SourceKind, text: str) -> Source:
    """The source with the version that a run would use. Raises Refusal where it cannot be attached."""
    parts = text.split("/")
    match kind, len(parts):
        case "competition", 1:
            if service.store.get(Competition, text) is None:
                raise Refusal(404, f"no competition is called {text}")
            return Source(kind, text, text, 0)
        case "dataset", 2 | 3:
            dataset = datasets.find_dataset(service, "/".join(parts[:2]))
            version = readable(dataset, _number(parts, 2))
            return Source(kind, dataset.ref, text, version.number)
        case "kernel", 2 | 3:
            return _kernel(service, text, parts)
        case "model", 4 | 5:
            variation = models.find_variation(service, "/".join(parts[:4]))
            return Source(kind, variation.ref, text, readable(variation, _number(parts, 4)).number)
        case _:
            raise Refusal(400, f"{text!r} names no {kind}")


def _kernel(service: Service, text: str, parts: list[str]) -> Source:
    kernel = service.store.get(Kernel, "/".join(parts[:2]))
    asked = _number(parts, 2)
    complete = [one for one in (kernel.versions if kernel else ()) if one.status == COMPLETE]
    fitting = [one for one in complete if asked is None or one.number == asked]
    if kernel is None or not fitting:
        raise Refusal(404, f"the notebook {text} has no output")
    return Source("kernel", kernel.ref, text, fitting[-1].number)


def _number(parts: list[str], place: int) -> int | None:
    if len(parts) == place:
        return None
    if not parts[place].isdecimal() or int(parts[place]) < 1:
        raise Refusal(400, f"{'/'.join(parts)!r} ends in no version number")
    return int(parts[place])
