"""Models, their variations (the protocol says instances) and the variations' versions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kaggle_kit.loopback import protocol
from kaggle_kit.loopback.protocol import Answer, Json, Refusal, complaint_of, owner_of, page, reference
from kaggle_kit.loopback.records import READY, Model, Variation, Version, following
from kaggle_kit.loopback.versions import count_poll, current_size, find_owned, new_version, readable, search_owned

if TYPE_CHECKING:
    from kaggle_kit.loopback.service import Handler, Service


def create_model(service: Service, request: Json) -> Json:
    """Make a model's page, without any file. What is wrong with it is said in `error`, under HTTP 200."""
    ref = reference(request.get("ownerSlug"), request.get("slug"))
    service.check_own(ref, "models.create")
    title = str(request.get("title") or "")

    if complaint := complaint_of(
        protocol.slug_complaint(ref.split("/")[1], protocol.MODEL_SLUG_CHARACTERS),
        "" if title else "a model needs a title",
        f"the slug is already in use: {ref}" if service.store.get(Model, ref) else "",
    ):
        return {"error": complaint, "errorCode": 400}

    model = Model(
        id=service.store.next_id(),
        ref=ref,
        title=title,
        private=bool(request.get("isPrivate", True)),
        subtitle=str(request.get("subtitle") or ""),
        description=str(request.get("description") or ""),
    )
    service.store.put(ref, model)
    return {"id": model.id, "ref": ref, "url": f"{service.url}/models/{ref}"}


def create_variation(service: Service, request: Json) -> Json:
    """Make a variation of a model with its first version."""
    body = dict(request.get("body") or {})
    model = _own_model(service, request)
    framework, slug = protocol.framework_of(body.get("framework")), str(body.get("instanceSlug") or "")
    ref = f"{model.ref}/{framework}/{slug}"

    if complaint := complaint_of(
        protocol.slug_complaint(slug, protocol.MODEL_SLUG_CHARACTERS),
        "" if framework else f"the framework {body.get('framework')!r} is not one of Kaggle's",
        "" if body.get("licenseName") in protocol.MODEL_LICENCES else "the licence is not one of Kaggle's",
        f"the variation is already there: {ref}" if service.store.get(Variation, ref) else "",
    ):
        return {"error": complaint, "errorCode": 400}
    try:
        version = _new_version(service, 1, body)
    except Refusal as refusal:
        return {"error": refusal.message, "errorCode": refusal.status}

    variation = Variation(
        id=service.store.next_id(),
        ref=ref,
        framework=framework,
        licence=str(body["licenseName"]),
        overview=str(body.get("overview") or ""),
        usage=str(body.get("usage") or ""),
        versions=(version,),
    )
    service.store.put(ref, variation)
    return _reply(service, variation)


def create_version(service: Service, request: Json) -> Json:
    """Give a variation its next version: a full snapshot."""
    _own_model(service, request)
    body = dict(request.get("body") or {})
    variation = _find_variation(service, request)
    try:
        version = _new_version(service, following(variation.versions), body)
    except Refusal as refusal:
        return {"error": refusal.message, "errorCode": refusal.status}

    variation = replace(variation, versions=(*variation.versions, version))
    service.store.put(variation.ref, variation)
    return _reply(service, variation)


def get_model(service: Service, request: Json) -> Json:
    """A model's page with its variations."""
    return _model_page(service, _find_model(service, request))


def get_variation(service: Service, request: Json) -> Json:
    """A variation; `versionNumber` is the newest version that is ready, 0 if none is."""
    variation = _find_variation(service, request)
    count_poll(service, variation)
    return _variation_page(service, variation)


def list_models(service: Service, request: Json) -> Json:
    """The models that the user may see; `owner` and `search` narrow them down."""
    models = search_owned(service, Model, owner=request.get("owner"), text=request.get("search"))
    shown, token = page(models, request)
    answer = [_model_page(service, model) for model in shown]
    return {"models": answer, "nextPageToken": token, "totalResults": len(models)}


def list_variations(service: Service, request: Json) -> Json:
    """A model's variations, with how far the newest version of each is."""
    model = _find_model(service, request)
    shown, token = page(_variations(service, model), request)
    owner, slug = model.ref.split("/")

    answer = [
        {
            # The licence has another shape here than in the reply about one variation.
            **{key: value for key, value in _variation_page(service, variation).items() if key != "licenseName"},
            "ownerSlug": owner,
            "modelSlug": slug,
            "lastVersionId": variation.versions[-1].number,
            "versionNotes": variation.versions[-1].notes,
            "status": variation.versions[-1].status,
        }
        for variation in shown
    ]

    for variation in shown:
        count_poll(service, variation)

    return {"instances": answer, "nextPageToken": token}


def list_versions(service: Service, request: Json) -> Json:
    """A variation's versions that are ready, newest first."""
    variation = _find_variation(service, request)
    count_poll(service, variation)
    owner, model, _, slug = variation.ref.split("/")

    shown, token = page([version for version in reversed(variation.versions) if version.status == READY], request)
    answer = [
        {
            "id": version.number,
            "versionNumber": version.number,
            "framework": protocol.framework_enum(variation.framework),
            "variationSlug": slug,
            "ownerSlug": owner,
            "modelSlug": model,
            "modelInstanceId": variation.id,
            "url": f"{service.url}/models/{variation.ref}/{version.number}",
        }
        for version in shown
    ]
    return {"versionList": {"versions": answer}, "nextPageToken": token}


def list_version_files(service: Service, request: Json) -> Json:
    """The files of a version, of the newest ready one where none is asked."""
    version = readable(_find_variation(service, request), request.get("versionNumber"))
    shown, token = page(version.files, request)
    answer = [{"name": file.name, "size": file.size, "creationDate": version.created} for file in shown]
    return {"files": answer, "nextPageToken": token}


def download(service: Service, request: Json) -> Answer:
    """A variation's version, or one file of it, by its address."""
    variation = _find_variation(service, request)
    version = readable(variation, request.get("versionNumber"))
    return service.download(f"model/{variation.ref}/{version.number}", request.get("path"))


def find_variation(service: Service, ref: str) -> Variation:
    """A variation that the user may read, by OWNER/MODEL/FRAMEWORK/SLUG. Raises Refusal."""
    owner, model, framework, slug = ref.split("/")
    find_owned(service, Model, f"{owner}/{model}")
    variation = service.store.get(Variation, f"{owner}/{model}/{protocol.framework_of(framework)}/{slug}")
    if variation is None:
        raise Refusal(404, f"Model variation not found: {ref}")
    return variation


def _find_variation(service: Service, request: Json) -> Variation:
    return find_variation(service, f"{_ref(request)}/{request.get('framework', '')}/{request.get('instanceSlug', '')}")


def _find_model(service: Service, request: Json) -> Model:
    return find_owned(service, Model, _ref(request))


def _own_model(service: Service, request: Json) -> Model:
    """The model, which is the user's to change. Raises Refusal."""
    service.check_own(_ref(request), "models.update")
    return _find_model(service, request)


def _ref(request: Json) -> str:
    return reference(request.get("ownerSlug"), request.get("modelSlug"))


def _variations(service: Service, model: Model) -> list[Variation]:
    return [each for each in service.store.all(Variation) if each.ref.startswith(f"{model.ref}/")]


def _new_version(service: Service, number: int, body: Json) -> Version:
    return new_version(service, number, body, notes=str(body.get("versionNotes") or ""))


def _reply(service: Service, variation: Variation) -> Json:
    ref = f"{variation.ref}/{variation.versions[-1].number}"
    return {"id": variation.id, "ref": ref, "url": f"{service.url}/models/{ref}"}


def _model_page(service: Service, model: Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "ref": model.ref,
        "title": model.title,
        "subtitle": model.subtitle,
        "description": model.description,
        "author": owner_of(model.ref),
        "slug": model.ref.split("/")[1],
        "isPrivate": model.private,
        "url": f"{service.url}/models/{model.ref}",
        "instances": [_variation_page(service, variation) for variation in _variations(service, model)],
    }


def _variation_page(service: Service, variation: Variation) -> dict[str, Any]:
    number, size = current_size(variation.versions)
    return {
        "id": variation.id,
        "slug": variation.ref.split("/")[3],
        "framework": protocol.framework_enum(variation.framework),
        "overview": variation.overview,
        "usage": variation.usage,
        "licenseName": variation.licence,
        "versionNumber": number,
        "totalUncompressedBytes": size,
        "url": f"{service.url}/models/{variation.ref}",
    }


_SERVICE = "models.ModelApiService/"
ROUTES: dict[str, Handler] = {
    _SERVICE + "CreateModel": create_model,
    _SERVICE + "CreateModelInstance": create_variation,
    _SERVICE + "CreateModelInstanceVersion": create_version,
    _SERVICE + "GetModel": get_model,
    _SERVICE + "GetModelInstance": get_variation,
    _SERVICE + "ListModels": list_models,
    _SERVICE + "ListModelInstances": list_variations,
    _SERVICE + "ListModelInstanceVersions": list_versions,
    _SERVICE + "ListModelInstanceVersionFiles": list_version_files,
    _SERVICE + "DownloadModelInstanceVersion": download,
}
