"""Notebooks: pushed with their sources, run, read back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from slugify import slugify

from kaggle_kit.loopback import datasets, models, protocol
from kaggle_kit.loopback.protocol import Answer, Json, Refusal, complaint_of, owner_of, page, reference, version_asked
from kaggle_kit.loopback.records import (
    COMPLETE,
    NEVER_RUN,
    QUEUED,
    Competition,
    Kernel,
    KernelVersion,
    Source,
    SourceKind,
    following,
    numbered,
)
from kaggle_kit.loopback.runs import UNFINISHED
from kaggle_kit.loopback.versions import readable, search_owned

if TYPE_CHECKING:
    from pathlib import Path

    from kaggle_kit.loopback.service import Handler, Service


# Request field, kind, and the reply's field for those that are not attached.
_FIELDS: tuple[tuple[str, SourceKind, str], ...] = (
    ("competitionDataSources", "competition", "invalidCompetitionSources"),
    ("datasetDataSources", "dataset", "invalidDatasetSources"),
    ("kernelDataSources", "kernel", "invalidKernelSources"),
    ("modelDataSources", "model", "invalidModelSources"),
)


def save_kernel(service: Service, request: Json) -> Json:
    """Save a notebook's next version and run it. Refusals are said in `error`, under HTTP 200.

    Sources that cannot be attached are left out, listed in the reply, and the run goes on. A new notebook's slug is
    made of its title. A machine that is retired is silently replaced.
    """
    ref, known = _named(service, request)
    service.check_own(ref, "kernels.update")
    title = str(request.get("newTitle") or (known.title if known else ref.split("/")[1]))
    if known is None:
        ref = f"{owner_of(ref)}/{slugify(title)}"
        known = service.store.get(Kernel, ref)
    earlier = known.versions if known else ()
    runs = not str(request.get("kernelExecutionType") or "").endswith("QUICK_SAVE")

    if complaint := complaint_of(
        protocol.slug_complaint(ref.split("/")[1], protocol.KERNEL_SLUG_CHARACTERS),
        protocol.length_complaint("title", title, protocol.KERNEL_TITLE_CHARACTERS),
        _text_complaint(request),
        _limit_complaint(service, request) if runs else "",
    ):
        return {"error": complaint}

    sources, refused = _attached(service, request)
    version = _version(service, request, following(earlier), sources=sources, runs=runs)
    kernel = Kernel(
        id=known.id if known else service.store.next_id(),
        ref=ref,
        title=title,
        language=str(request.get("language") or "python"),
        kernel_type=str(request.get("kernelType") or "notebook"),
        private=bool(request.get("isPrivate", True)),
        versions=(*earlier, version),
    )
    service.store.put(ref, kernel)
    if runs:
        service.runs.start(ref, version.number)

    url = f"{service.url}/code/{ref}"
    return {"ref": f"/{ref}", "url": url, "versionNumber": version.number, "kernelId": kernel.id, **refused}


def get_status(service: Service, request: Json) -> Json:
    """How far a version's run is; without a label, the newest version's."""
    kernel, version = find_version(service, request)
    status = service.runs.status(kernel.ref, version)
    if service.faults.strikes("run-queued-again"):
        status = "RUNNING" if service.faults.fired["run-queued-again"] == 1 else QUEUED

    if status != version.status or not version.failure:
        return {"status": status}
    return {"status": status, "failureMessage": version.failure}


def list_output(service: Service, request: Json) -> Json:
    """The files of a run's output by pages, and its log; while it runs, no files and the log so far."""
    kernel, version = find_version(service, request)
    shown, token = page(_output(service, kernel, version), request)
    place = f"output/{kernel.ref}/v{version.number}"
    listed = [{"fileName": name, "url": service.file_url(f"{place}/{name}")} for name, _ in shown]
    return {"files": listed, "log": service.runs.log(kernel.ref, version.number), "nextPageToken": token}


def list_kernel_files(service: Service, request: Json) -> Json:
    """The names and sizes of a run's output."""
    kernel, version = find_version(service, request)
    shown, token = page(_output(service, kernel, version), request)
    listed = [{"name": name, "size": path.stat().st_size, "creationDate": version.created} for name, path in shown]
    return {"files": listed, "nextPageToken": token}


def _output(service: Service, kernel: Kernel, version: KernelVersion) -> tuple[tuple[str, Path], ...]:
    """The files of a run's output; none before its end."""
    return () if version.status in UNFINISHED else service.runs.output(kernel.ref, version.number)


def download(service: Service, request: Json) -> Answer:
    """One file of a run's output, by its address."""
    kernel = find_kernel(service, reference(request.get("ownerSlug"), request.get("kernelSlug")))
    number = request.get("versionNumber") or kernel.versions[-1].number
    return service.download(f"output/{kernel.ref}/v{number}", request.get("filePath"))


def get_kernel(service: Service, request: Json) -> Json:
    """A version's source and settings; `currentVersionNumber` is the newest version's, whichever was asked."""
    kernel, version = find_version(service, request)
    slug = kernel.ref.split("/")[1]
    blob = {"source": version.text, "language": kernel.language, "kernelType": kernel.kernel_type, "slug": slug}
    return {"metadata": _metadata(kernel, version), "blob": blob}


def list_kernels(service: Service, request: Json) -> Json:
    """The notebooks that the user may see; `user`, `search` and `competition` narrow them down."""
    profile = str(request.get("group") or "") == "PROFILE"
    owner = request.get("user") or (service.settings.username if profile else None)
    kernels = search_owned(service, Kernel, owner=owner, text=request.get("search"))
    if competition := request.get("competition"):
        kernels = [kernel for kernel in kernels if competition in _source_texts(kernel.versions[-1], "competition")]
    shown, token = page(kernels, request)
    return {"kernels": [_metadata(kernel, kernel.versions[-1]) for kernel in shown], "nextPageToken": token}


def delete_kernel(service: Service, request: Json) -> Json:
    """Forget a notebook with all its versions."""
    ref = reference(request.get("userName"), request.get("kernelSlug"))
    service.check_own(ref, "kernels.delete")
    service.store.delete(Kernel, find_kernel(service, ref).ref)
    return {}


def quota(service: Service, _request: Json) -> Json:
    """The week's accelerator hours: used by the runs so far, and allowed."""
    used = f"{gpu_seconds(service):.3f}s"
    allowed = f"{service.settings.gpu_hours * 3600:.3f}s"
    return {
        "quotaRefreshTime": service.now(),
        "gpuQuota": {"timeUsed": used, "timeReserved": "0s", "totalTimeAllowed": allowed, "hasEverRun": True},
        "tpuQuota": {"timeUsed": "0s", "timeReserved": "0s", "totalTimeAllowed": "72000s"},
    }


def gpu_seconds(service: Service) -> float:
    """The seconds that all GPU runs have taken."""
    return sum(version.seconds for version in _every_version(service) if version.gpu)


def _every_version(service: Service) -> list[KernelVersion]:
    return [version for kernel in service.store.all(Kernel) for version in kernel.versions]


def find_kernel(service: Service, ref: str) -> Kernel:
    """The user's notebook. Raises Refusal: 404 for one's own, 403 for another's, as if it were private."""
    kernel = service.store.get(Kernel, ref)
    if kernel is None:
        service.check_own(ref, "kernels.get")
        if service.faults.strikes("notebook-missing-403"):
            raise Refusal(403, "Permission 'kernels.get' was denied")
        raise Refusal(404, f"Notebook not found: {ref}")
    return kernel


def find_version(service: Service, request: Json) -> tuple[Kernel, KernelVersion]:
    """The notebook and the version that a request names, the newest one where it names none. Raises Refusal."""
    kernel = find_kernel(service, reference(request.get("userName"), request.get("kernelSlug")))
    number = version_asked(request.get("versionLabel"))
    version = kernel.versions[-1] if number is None else numbered(kernel.versions, number)
    if version is None:
        raise Refusal(404, f"{kernel.ref} has no version {number}")
    return kernel, version


def output_file(service: Service, ref: str, number: int, name: str) -> Path:
    """A file of a run's output. Raises Refusal if there is none of this name."""
    for known, path in service.runs.output(ref, number):
        if known == name:
            return path
    raise Refusal(404, f"the output of {ref} version {number} has no file {name}")


def _named(service: Service, request: Json) -> tuple[str, Kernel | None]:
    """The notebook that a push names, by its number if it gives one."""
    if number := request.get("id"):
        known = next((kernel for kernel in service.store.all(Kernel) if kernel.id == number), None)
        if known is None:
            raise Refusal(404, "Notebook not found")
        return known.ref, known
    slug = str(request.get("slug") or "")
    ref = slug if "/" in slug else f"{service.settings.username}/{slug}"
    return ref, service.store.get(Kernel, reference(*ref.split("/", 1)))


def _text_complaint(request: Json) -> str:
    text = str(request.get("text") or "")
    if request.get("kernelType") != "notebook":
        return "" if text else "the script is empty"
    try:
        cells = json.loads(text).get("cells")
    except (ValueError, AttributeError, RecursionError):
        cells = None
    return "" if isinstance(cells, list) else "the notebook's text is no notebook"


def _limit_complaint(service: Service, request: Json) -> str:
    limits = service.settings
    gpu = _machine(request).startswith("Nvidia")
    most = limits.gpu_sessions if gpu else limits.cpu_sessions
    busy = sum(run.gpu == gpu and run.status in UNFINISHED for run in _every_version(service))

    if busy >= most:
        return f"Maximum batch {'GPU' if gpu else 'CPU'} session count of {most} reached."
    if gpu and gpu_seconds(service) >= limits.gpu_hours * 3600:
        return f"Your weekly GPU quota of {limits.gpu_hours:g} hours is used up."
    return ""


def _machine(request: Json) -> str:
    gpu, tpu = bool(request.get("enableGpu")), bool(request.get("enableTpu"))
    return protocol.machine(str(request.get("machineShape") or ""), gpu=gpu, tpu=tpu)


def _version(service: Service, request: Json, number: int, *, sources: tuple[Source, ...], runs: bool) -> KernelVersion:
    shape, internet = _machine(request), bool(request.get("enableInternet", True))
    if service.faults.strikes("push-other-machine"):
        shape = "" if shape == protocol.DEFAULT_GPU else protocol.DEFAULT_GPU

    return KernelVersion(
        number=number,
        text=str(request["text"]),
        sources=sources,
        machine_shape=shape,
        gpu=shape.startswith("Nvidia"),
        tpu=shape.startswith("Tpu"),
        internet=internet or service.faults.strikes("push-internet-on"),
        docker_image=str(request.get("dockerImage") or ""),
        timeout=int(request.get("sessionTimeoutSeconds") or 0),
        created=service.now(),
        status=QUEUED if runs else NEVER_RUN,
    )


def _metadata(kernel: Kernel, version: KernelVersion) -> dict[str, Any]:
    owner, slug = kernel.ref.split("/")
    return {
        "id": kernel.id,
        "ref": kernel.ref,
        "title": kernel.title,
        "author": owner,
        "slug": slug,
        "lastRunTime": version.created,
        "language": kernel.language,
        "kernelType": kernel.kernel_type,
        "isPrivate": kernel.private,
        "enableGpu": version.gpu,
        "enableTpu": version.tpu,
        "enableInternet": version.internet,
        "datasetDataSources": _source_texts(version, "dataset"),
        "kernelDataSources": _source_texts(version, "kernel"),
        "competitionDataSources": _source_texts(version, "competition"),
        "modelDataSources": _source_texts(version, "model"),
        "currentVersionNumber": kernel.versions[-1].number,
        "dockerImage": version.docker_image,
        "machineShape": version.machine_shape,
    }


def _attached(service: Service, request: Json) -> tuple[tuple[Source, ...], Json]:
    """The sources that a run gets, pinned to the versions of this moment, and the lists of those that it does not.

    A source without a version gets the newest one that is ready: while the next is processed, that is the old one.
    """
    attached: list[Source] = []
    refused: Json = {}

    for field, kind, reported in _FIELDS:
        for text in request.get(field) or ():
            try:
                attached.append(_resolve(service, kind, str(text)))
            except Refusal:
                refused.setdefault(reported, []).append(text)

    return tuple(attached), refused


def _source_texts(version: KernelVersion, kind: SourceKind) -> list[str]:
    """The sources of one kind, as the client wrote them."""
    return [source.text for source in version.sources if source.kind == kind]


def _resolve(service: Service, kind: SourceKind, text: str) -> Source:
    """The source with the version that a run would use. Raises Refusal if it cannot be attached."""
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
            return _kernel_source(service, text, parts)
        case "model", 4 | 5:
            variation = models.find_variation(service, "/".join(parts[:4]))
            return Source(kind, variation.ref, text, readable(variation, _number(parts, 4)).number)
        case _:
            raise Refusal(400, f"{text!r} names no {kind}")


def _kernel_source(service: Service, text: str, parts: list[str]) -> Source:
    kernel = service.store.get(Kernel, "/".join(parts[:2]))
    asked = _number(parts, 2)
    fitting = [
        version
        for version in (kernel.versions if kernel else ())
        if version.status == COMPLETE and asked in (None, version.number)
    ]
    if kernel is None or not fitting:
        raise Refusal(404, f"the notebook {text} has no output")
    return Source("kernel", kernel.ref, text, fitting[-1].number)


def _number(parts: list[str], place: int) -> int | None:
    if len(parts) == place:
        return None
    if not parts[place].isdecimal() or int(parts[place]) < 1:
        raise Refusal(400, f"{'/'.join(parts)!r} ends in no version number")
    return int(parts[place])


_SERVICE = "kernels.KernelsApiService/"
ROUTES: dict[str, Handler] = {
    _SERVICE + "SaveKernel": save_kernel,
    _SERVICE + "GetKernelSessionStatus": get_status,
    _SERVICE + "ListKernelSessionOutput": list_output,
    _SERVICE + "ListKernelFiles": list_kernel_files,
    _SERVICE + "GetKernel": get_kernel,
    _SERVICE + "ListKernels": list_kernels,
    _SERVICE + "DeleteKernel": delete_kernel,
    _SERVICE + "DownloadKernelOutput": download,
    _SERVICE + "GetAcceleratorQuotaStatistics": quota,
}
