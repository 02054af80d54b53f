"""Models, their variations (the protocol says instances) and the variations' versions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kaggle_kit.loopback import rules
from kaggle_kit.loopback.records import READY, Model, Variation, Version
from kaggle_kit.loopback.replies import Json, Refusal, page
from kaggle_kit.loopback.service import Handler, Service, owner_of, reference
from kaggle_kit.loopback.versions import asked_about, current, following, new_version, readable, sent_files


def create_model(service: Service, request: Json) -> Json:
    """Make a model's page, without any file. What is wrong with it is said in `error`, under HTTP 200."""
    ref = reference(request.get("ownerSlug"), request.get("slug"))
    service.own(request.get("ownerSlug"), "models.create")
    title = str(request.get("title") or "")
    complaints = (
        rules.slug_complaint(ref.split("/")[1], rules.MODEL_SLUG_CHARACTERS),
        "" if title else "a model needs a title",
        f"the slug is already in use: {ref}" if service.store.get(Model, ref) else "",
    )
    if complaint := next(filter(None, complaints), ""):
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
    model = _find_model(service, reference(request.get("ownerSlug"), request.get("modelSlug")), write=True)
    framework, slug = rules.framework_of(body.get("framework")), str(body.get("instanceSlug") or "")
    ref = f"{model.ref}/{framework}/{slug}"
    complaints = (
        rules.slug_complaint(slug, rules.MODEL_SLUG_CHARACTERS),
        "" if framework else f"the framework {body.get('framework')!r} is not one of Kaggle's",
        "" if body.get("licenseName") in rules.MODEL_LICENCES else "the licence is not one of Kaggle's",
        f"the variation is already there: {ref}" if service.store.get(Variation, ref) else "",
    )
    if complaint := next(filter(None, complaints), ""):
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
    return _made(service, variation)


def create_version(service: Service, request: Json) -> Json:
    """Give a variation its next version: a full snapshot."""
    _find_model(service, reference(request.get("ownerSlug"), request.get("modelSlug")), write=True)
    body = dict(request.get("body") or {})
    variation = _find_variation(service, request)
    try:
        version = _new_version(service, following(variation.versions), body)
    except Refusal as refusal:
        return {"error": refusal.message, "errorCode": refusal.status}
    variation = replace(variation, versions=(*variation.versions, version))
    service.store.put(variation.ref, variation)
    return _made(service, variation)


def get_model(service: Service, request: Json) -> Json:
    """A model's page with its variations."""
    return _model_page(service, _find_model(service, reference(request.get("ownerSlug"), request.get("modelSlug"))))


def get_variation(service: Service, request: Json) -> Json:
    """A variation; `versionNumber` is the newest version that is ready, 0 where none is."""
    variation = _find_variation(service, request)
    asked_about(service, variation)
    return _variation_page(service, variation)


def list_models(service: Service, request: Json) -> Json:
    """The models that the user may see; `owner` and `search` narrow them down."""
    found = [
        model
        for model in service.store.all(Model)
        if (not request.get("owner") or model.ref.startswith(f"{request['owner']}/"))
        and str(request.get("search") or "").lower() in f"{model.ref} {model.title}".lower()
        and _visible(service, model)
    ]
    shown, token = page(found, request)
    answer = [_model_page(service, model) for model in shown]
    return {"models": answer, "nextPageToken": token, "totalResults": len(found)}


def list_variations(service: Service, request: Json) -> Json:
    """A model's variations, with how far the newest version of each is."""
    model = _find_model(service, reference(request.get("ownerSlug"), request.get("modelSlug")))
    shown, token = page(_variations(service, model), request)
    owner, slug = model.ref.split("/")
    answer = [
        {
            **_variation_page(service, variation),
            "ownerSlug": owner,
            "modelSlug": slug,
            "lastVersionId": variation.versions[-1].number,
            "versionNotes": variation.versions[-1].notes,
            "status": variation.versions[-1].status,
        }
        for variation in shown
    ]
    for variation in shown:
        asked_about(service, variation)
    # These fields have another shape here than in the reply about one variation.
    return {"instances": [_without(one, "licenseName") for one in answer], "nextPageToken": token}


def list_versions(service: Service, request: Json) -> Json:
    """A variation's versions that are ready, newest first."""
    variation = _find_variation(service, request)
    asked_about(service, variation)
    owner, model, _, slug = variation.ref.split("/")
    shown, token = page([one for one in reversed(variation.versions) if one.status == READY], request)
    answer = [
        {
            "id": version.number,
            "versionNumber": version.number,
            "framework": rules.framework_enum(variation.framework),
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


def find_variation(service: Service, ref: str) -> Variation:
    """A variation that the user may read, by OWNER/MODEL/FRAMEWORK/SLUG. Raises Refusal."""
    owner, model, framework, slug = ref.split("/")
    _find_model(service, f"{owner}/{model}")
    variation = service.store.get(Variation, f"{owner}/{model}/{rules.framework_of(framework)}/{slug}")
    if variation is None:
        raise Refusal(404, f"Model variation not found: {ref}")
    return variation


def _find_variation(service: Service, request: Json) -> Variation:
    model = reference(request.get("ownerSlug"), request.get("modelSlug"))
    return find_variation(service, f"{model}/{request.get('framework', '')}/{request.get('instanceSlug', '')}")


def _find_model(service: Service, ref: str, *, write: bool = False) -> Model:
    model = service.store.get(Model, ref)
    if write:
        service.own(owner_of(ref), "models.update")
    if model is not None and _visible(service, model):
        return model
    service.own(owner_of(ref), "models.get")
    raise Refusal(404, f"Model not found: {ref}")


def _visible(service: Service, model: Model) -> bool:
    return not model.private or owner_of(model.ref) == service.settings.username


def _variations(service: Service, model: Model) -> list[Variation]:
    return [one for one in service.store.all(Variation) if one.ref.startswith(f"{model.ref}/")]


def _new_version(service: Service, number: int, body: Json) -> Version:
    return new_version(service, number, sent_files(service, body), notes=str(body.get("versionNotes") or ""))


def _made(service: Service, variation: Variation) -> Json:
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
    ready = current(variation.versions)
    return {
        "id": variation.id,
        "slug": variation.ref.split("/")[3],
        "framework": rules.framework_enum(variation.framework),
        "overview": variation.overview,
        "usage": variation.usage,
        "licenseName": variation.licence,
        "versionNumber": ready.number if ready else 0,
        "totalUncompressedBytes": sum(file.size for file in ready.files) if ready else 0,
        "url": f"{service.url}/models/{variation.ref}",
    }


def _without(reply: Json, name: str) -> Json:
    return {key: value for key, value in reply.items() if key != name}


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
}
