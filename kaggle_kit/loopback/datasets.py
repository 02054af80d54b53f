"""Datasets: made, given new versions, read back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kaggle_kit.loopback import rules
from kaggle_kit.loopback.records import Dataset, Version
from kaggle_kit.loopback.replies import Json, Refusal, page
from kaggle_kit.loopback.service import Handler, Service, owner_of, reference
from kaggle_kit.loopback.unpack import unpacked
from kaggle_kit.loopback.versions import asked_about, current, following, new_version, readable, sent_files


def create_dataset(service: Service, request: Json) -> Json:
    """Make a dataset with its first version. What is wrong with it is said in `error`, under HTTP 200."""
    ref = reference(request.get("ownerSlug"), request.get("slug"))
    service.own(request.get("ownerSlug"), "datasets.create")
    title, slug = str(request.get("title") or ""), ref.split("/")[1]
    taken = service.store.get(Dataset, ref) is not None or any(
        dataset.title == title for dataset in service.store.all(Dataset) if owner_of(dataset.ref) == owner_of(ref)
    )
    complaints = (
        rules.slug_complaint(slug, rules.DATASET_SLUG_CHARACTERS),
        rules.length_complaint("title", title, rules.DATASET_TITLE_CHARACTERS),
        _subtitle_complaint(request),
        "" if request.get("licenseName") in rules.DATASET_LICENCES else "the licence is not one of Kaggle's",
        f"the title or the slug is already in use: {title!r}, {slug!r}" if taken else "",
    )
    if complaint := next(filter(None, complaints), ""):
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
    return _made(service, dataset)


def create_version(service: Service, request: Json) -> Json:
    """Give a dataset its next version: a full snapshot of the files that the request names."""
    return _create_version(service, reference(request.get("ownerSlug"), request.get("datasetSlug")), request)


def create_version_by_id(service: Service, request: Json) -> Json:
    """Give the dataset with this number its next version."""
    known = next((one for one in service.store.all(Dataset) if one.id == request.get("id")), None)
    if known is None:
        raise Refusal(404, f"no dataset has the id {request.get('id')}")
    return _create_version(service, known.ref, request)


def _create_version(service: Service, ref: str, request: Json) -> Json:
    service.own(owner_of(ref), "datasets.update")
    body = dict(request.get("body") or {})
    dataset = _find(service, ref)
    if complaint := _subtitle_complaint(body):
        return {"status": "error", "error": complaint}
    if dataset.versions[-1].polls_left and service.settings.refuse_while_processing:
        raise Refusal(403, f"{ref} cannot be updated while version {dataset.versions[-1].number} is processed")
    try:
        version = _new_version(service, following(dataset.versions), body, notes=str(body.get("versionNotes") or ""))
    except Refusal as refusal:
        return {"status": "error", "error": refusal.message}
    kept = () if body.get("deleteOldVersions") else dataset.versions
    dataset = replace(dataset, versions=(*kept, version))
    service.store.put(ref, dataset)
    return _made(service, dataset)


def get_status(service: Service, request: Json) -> Json:
    """How far the newest version is. It takes no version: before a new one is known, READY means the old one.

    Only the owner is told: for another's dataset, public or not, Kaggle answers 404.
    """
    dataset = _find(service, reference(request.get("ownerSlug"), request.get("datasetSlug")))
    if owner_of(dataset.ref) != service.settings.username:
        raise Refusal(404, f"Dataset not found: {dataset.ref}")
    asked_about(service, dataset)
    return {"status": dataset.versions[-1].status}


def get_dataset(service: Service, request: Json) -> Json:
    """A dataset's page. `currentVersionNumber` is the newest version that is ready."""
    dataset = _find(service, reference(request.get("ownerSlug"), request.get("datasetSlug")))
    asked_about(service, dataset)
    return _page_of(service, dataset)


def get_metadata(service: Service, request: Json) -> Json:
    """A dataset's settings."""
    dataset = _find(service, reference(request.get("ownerSlug"), request.get("datasetSlug")))
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
    ref = reference(request.get("ownerSlug"), request.get("datasetSlug"))
    service.own(request.get("ownerSlug"), "datasets.update")
    dataset, settings = _find(service, ref), dict(request.get("settings") or {})
    title = str(settings.get("title") or dataset.title)
    if complaint := rules.length_complaint("title", title, rules.DATASET_TITLE_CHARACTERS) or _subtitle_complaint(
        settings
    ):
        return {"errors": [complaint]}
    service.store.put(
        ref,
        replace(
            dataset,
            title=title,
            private=bool(settings.get("isPrivate")),
            subtitle=str(settings.get("subtitle") or dataset.subtitle),
            description=str(settings.get("description") or dataset.description),
        ),
    )
    return {"errors": []}


def list_files(service: Service, request: Json) -> Json:
    """The files of one version, of the current one where none is asked, by pages. No hash is shown."""
    dataset = _find(service, reference(request.get("ownerSlug"), request.get("datasetSlug")))
    version = readable(dataset, request.get("datasetVersionNumber"))
    files, token = page(version.files, request)
    listed = [{"ref": f.name, "name": f.name, "totalBytes": f.size, "creationDate": version.created} for f in files]
    return {"datasetFiles": listed, "nextPageToken": token}


def list_datasets(service: Service, request: Json) -> Json:
    """The datasets that the user may see: another's where they are public; `user` and `search` narrow them down."""
    mine = "MY" in str(request.get("group") or "").split("_")
    owner = service.settings.username if mine else request.get("user")
    found = [
        dataset
        for dataset in service.store.all(Dataset)
        if (not owner or dataset.ref.startswith(f"{owner}/"))
        and str(request.get("search") or "").lower() in f"{dataset.ref} {dataset.title}".lower()
        and _visible(service, dataset)
    ]
    shown, token = page(found, request)
    return {"datasets": [_page_of(service, dataset) for dataset in shown], "nextPageToken": token}


def delete_dataset(service: Service, request: Json) -> Json:
    """Forget a dataset with all its versions."""
    ref = reference(request.get("ownerSlug"), request.get("datasetSlug"))
    service.own(request.get("ownerSlug"), "datasets.delete")
    service.store.delete(Dataset, _find(service, ref).ref)
    return {}


def find_dataset(service: Service, ref: str) -> Dataset:
    """A dataset that the user may read. Raises Refusal: 404 for one's own, 403 for another's, as if it were private."""
    return _find(service, ref)


def _find(service: Service, ref: str) -> Dataset:
    dataset = service.store.get(Dataset, ref)
    if dataset is not None and _visible(service, dataset):
        return dataset
    service.own(owner_of(ref), "datasets.get")
    raise Refusal(404, f"Dataset not found: {ref}")


def _visible(service: Service, dataset: Dataset) -> bool:
    return not dataset.private or owner_of(dataset.ref) == service.settings.username


def _subtitle_complaint(request: Json) -> str:
    text = str(request.get("subtitle") or "")
    return rules.length_complaint("subtitle", text, rules.SUBTITLE_CHARACTERS) if text else ""


def _new_version(service: Service, number: int, body: Json, *, notes: str) -> Version:
    files = unpacked(service.store, sent_files(service, body))
    return new_version(service, number, files, notes=notes, failing=service.faults.strikes("dataset-fails"))


def _made(service: Service, dataset: Dataset) -> Json:
    return {"ref": f"/{dataset.ref}", "url": f"{service.url}/datasets/{dataset.ref}", "status": "ok", "error": ""}


def _page_of(service: Service, dataset: Dataset) -> dict[str, Any]:
    ready = current(dataset.versions)
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
        "totalBytes": sum(file.size for file in ready.files) if ready else 0,
        "currentVersionNumber": ready.number if ready else 0,
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
}
