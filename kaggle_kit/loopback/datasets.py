"""Datasets: created, given new versions, read back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kaggle_kit.loopback import protocol
from kaggle_kit.loopback.protocol import Answer, Json, Refusal, complaint_of, owner_of, page, reference
from kaggle_kit.loopback.records import Dataset, Version, following
from kaggle_kit.loopback.versions import count_poll, current_size, find_owned, new_version, readable, search_owned

if TYPE_CHECKING:
    from kaggle_kit.loopback.service import Handler, Service


def create_dataset(service: Service, request: Json) -> Json:
    """Make a dataset with its first version. What is wrong with it is said in `error`, under HTTP 200."""
    ref = reference(request.get("ownerSlug"), request.get("slug"))
    service.check_own(ref, "datasets.create")
    title, slug = str(request.get("title") or ""), ref.split("/")[1]
    owned = [dataset for dataset in service.store.all(Dataset) if owner_of(dataset.ref) == owner_of(ref)]
    taken = any(dataset.ref == ref or dataset.title == title for dataset in owned)

    if complaint := complaint_of(
        protocol.slug_complaint(slug, protocol.DATASET_SLUG_CHARACTERS),
        protocol.length_complaint("title", title, protocol.DATASET_TITLE_CHARACTERS),
        _subtitle_complaint(request),
        "" if request.get("licenseName") in protocol.DATASET_LICENCES else "the licence is not one of Kaggle's",
        f"the title or the slug is already in use: {title!r}, {slug!r}" if taken else "",
    ):
        return {"status": "error", "error": complaint}
    try:
        version = _new_version(service, 1, request, notes="Initial release")
    except Refusal as refusal:
        return {"status": "error", "error": refusal.message}

    dataset = Dataset(
        id=service.store.next_id(),
        ref=ref,
        title=title,
        licence=str(request["licenseName"]),
        private=bool(request.get("isPrivate")),
        subtitle=str(request.get("subtitle") or ""),
        description=str(request.get("description") or ""),
        versions=(version,),
    )
    service.store.put(ref, dataset)
    return _reply(service, dataset)


def create_version(service: Service, request: Json) -> Json:
    """Give a dataset its next version: a full snapshot of the files that the request names."""
    return _create_version(service, _ref(request), request)


def create_version_by_id(service: Service, request: Json) -> Json:
    """Give the dataset with this number its next version."""
    known = next((dataset for dataset in service.store.all(Dataset) if dataset.id == request.get("id")), None)
    if known is None:
        raise Refusal(404, f"no dataset has the id {request.get('id')}")
    return _create_version(service, known.ref, request)


def _create_version(service: Service, ref: str, request: Json) -> Json:
    service.check_own(ref, "datasets.update")
    body = dict(request.get("body") or {})
    dataset = find_dataset(service, ref)

    if complaint := _subtitle_complaint(body):
        return {"status": "error", "error": complaint}
    if dataset.versions[-1].polls_left and service.settings.refuse_while_processing:
        raise Refusal(403, f"{ref} cannot be updated while version {dataset.versions[-1].number} is processed")
    try:
        version = _new_version(service, following(dataset.versions), body, notes=str(body.get("versionNotes") or ""))
    except Refusal as refusal:
        return {"status": "error", "error": refusal.message}

    earlier = () if body.get("deleteOldVersions") else dataset.versions
    dataset = replace(dataset, versions=(*earlier, version))
    service.store.put(ref, dataset)
    return _reply(service, dataset)


def get_status(service: Service, request: Json) -> Json:
    """How far the newest version is. It takes no version: before a new one is known, READY means the old one.

    Only the owner gets an answer: for another's dataset, public or not, Kaggle answers 404.
    """
    dataset = _find(service, request)
    if not service.is_own(dataset.ref):
        raise Refusal(404, f"Dataset not found: {dataset.ref}")
    count_poll(service, dataset)
    return {"status": dataset.versions[-1].status}


def get_dataset(service: Service, request: Json) -> Json:
    """A dataset's page. `currentVersionNumber` is the newest version that is ready."""
    dataset = _find(service, request)
    count_poll(service, dataset)
    return _page_of(service, dataset)


def get_metadata(service: Service, request: Json) -> Json:
    """A dataset's settings."""
    dataset = _find(service, request)
    owner, slug = dataset.ref.split("/")
    return {
        "info": {
            "datasetId": dataset.id,
            "datasetSlug": slug,
            "ownerUser": owner,
            "title": dataset.title,
            "subtitle": dataset.subtitle,
            "description": dataset.description,
            "isPrivate": dataset.private,
            "licenses": [{"name": dataset.licence}],
        }
    }


def update_metadata(service: Service, request: Json) -> Json:
    """Set title, subtitle, description and privacy; a missing `isPrivate` publishes the dataset, as is feared."""
    ref = _ref(request)
    service.check_own(ref, "datasets.update")
    dataset, settings = find_dataset(service, ref), dict(request.get("settings") or {})
    title = str(settings.get("title") or dataset.title)

    if complaint := complaint_of(
        protocol.length_complaint("title", title, protocol.DATASET_TITLE_CHARACTERS), _subtitle_complaint(settings)
    ):
        return {"errors": [complaint]}

    dataset = replace(
        dataset,
        title=title,
        private=bool(settings.get("isPrivate")),
        subtitle=str(settings.get("subtitle") or dataset.subtitle),
        description=str(settings.get("description") or dataset.description),
    )
    service.store.put(ref, dataset)
    return {"errors": []}


def list_files(service: Service, request: Json) -> Json:
    """The files of one version, of the current one where none is asked, by pages. No hash is shown."""
    dataset = _find(service, request)
    version = readable(dataset, request.get("datasetVersionNumber"))
    files, token = page(version.files, request)
    listed = [{"ref": f.name, "name": f.name, "totalBytes": f.size, "creationDate": version.created} for f in files]
    return {"datasetFiles": listed, "nextPageToken": token}


def list_datasets(service: Service, request: Json) -> Json:
    """The datasets that the user may see: another's where they are public; `user` and `search` narrow them down."""
    mine = "MY" in str(request.get("group") or "").split("_")
    owner = service.settings.username if mine else request.get("user")
    datasets = search_owned(service, Dataset, owner=owner, text=request.get("search"))
    shown, token = page(datasets, request)
    return {"datasets": [_page_of(service, dataset) for dataset in shown], "nextPageToken": token}


def delete_dataset(service: Service, request: Json) -> Json:
    """Forget a dataset with all its versions."""
    ref = _ref(request)
    service.check_own(ref, "datasets.delete")
    service.store.delete(Dataset, find_dataset(service, ref).ref)
    return {}


def download(service: Service, request: Json) -> Answer:
    """A dataset's version, or one file of it, by its address."""
    dataset = _find(service, request)
    version = readable(dataset, request.get("datasetVersionNumber"))
    return service.download(f"dataset/{dataset.ref}/{version.number}", request.get("fileName"))


def find_dataset(service: Service, ref: str) -> Dataset:
    """A dataset that the user may read. Raises Refusal."""
    return find_owned(service, Dataset, ref)


def _ref(request: Json) -> str:
    return reference(request.get("ownerSlug"), request.get("datasetSlug"))


def _find(service: Service, request: Json) -> Dataset:
    return find_dataset(service, _ref(request))


def _subtitle_complaint(request: Json) -> str:
    text = str(request.get("subtitle") or "")
    return protocol.length_complaint("subtitle", text, protocol.SUBTITLE_CHARACTERS) if text else ""


def _new_version(service: Service, number: int, body: Json, *, notes: str) -> Version:
    return new_version(service, number, body, notes=notes, unpack=True, fault="dataset-fails")


def _reply(service: Service, dataset: Dataset) -> Json:
    return {"ref": f"/{dataset.ref}", "url": f"{service.url}/datasets/{dataset.ref}", "status": "ok", "error": ""}


def _page_of(service: Service, dataset: Dataset) -> dict[str, Any]:
    number, size = current_size(dataset.versions)
    owner = owner_of(dataset.ref)
    return {
        "id": dataset.id,
        "ref": dataset.ref,
        "title": dataset.title,
        "subtitle": dataset.subtitle,
        "description": dataset.description,
        "licenseName": dataset.licence,
        "isPrivate": dataset.private,
        "creatorName": owner,
        "ownerName": owner,
        "ownerRef": owner,
        "url": f"{service.url}/datasets/{dataset.ref}",
        "lastUpdated": dataset.versions[-1].created,
        "totalBytes": size,
        "currentVersionNumber": number,
        "versions": [
            {
                "versionNumber": version.number,
                "creationDate": version.created,
                "creatorName": owner,
                "creatorRef": owner,
                "versionNotes": version.notes,
                "status": version.status.capitalize(),
            }
            for version in reversed(dataset.versions)
        ],
    }


_SERVICE = "datasets.DatasetApiService/"
ROUTES: dict[str, Handler] = {
    _SERVICE + "CreateDataset": create_dataset,
    _SERVICE + "CreateDatasetVersion": create_version,
    _SERVICE + "CreateDatasetVersionById": create_version_by_id,
    _SERVICE + "GetDatasetStatus": get_status,
    _SERVICE + "GetDataset": get_dataset,
    _SERVICE + "GetDatasetMetadata": get_metadata,
    _SERVICE + "UpdateDatasetMetadata": update_metadata,
    _SERVICE + "ListDatasetFiles": list_files,
    _SERVICE + "ListDatasets": list_datasets,
    _SERVICE + "DeleteDataset": delete_dataset,
    _SERVICE + "DownloadDataset": download,
    _SERVICE + "DownloadDatasetRaw": download,
}
