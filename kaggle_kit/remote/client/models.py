"""Kaggle Models: what is there, and new models, variations and versions. A *variation* is the SDK's model instance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from kaggle_kit.errors import RemoteError, UsageError
from kaggle_kit.remote.client import versions
from kaggle_kit.remote.client.absence import Sought, find, find_pages, own_model
from kaggle_kit.remote.client.client import LostReplyError, RefusedError, entries, enum_name, filled, whole
from kaggle_kit.remote.client.downloads import read_small_file
from kaggle_kit.remote.references import framework_value, same_framework, split_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kaggle_kit.remote.client.client import Client
    from kaggle_kit.remote.client.uploads import Sent
    from kaggle_kit.remote.client.versions import RemoteFile
    from kaggle_kit.remote.references import Reference


@dataclass(frozen=True)
class Model:
    """A model's page, which may have no variation yet."""

    ref: str
    title: str
    private: bool
    url: str


@dataclass(frozen=True)
class Variation(versions.Version):
    """What Kaggle says of a variation now; its `status` where that was asked."""

    ref: Reference


def read_model(client: Client, owner: str, model: str, *, fresh: bool = False) -> Model | None:
    """The page of a model, or None where there is none (see `absence`). `fresh`: it was made a moment ago."""
    from kagglesdk.models.types.model_api_service import ApiGetModelRequest

    request = filled(ApiGetModelRequest(), owner_slug=owner, model_slug=model)
    listed = None if fresh else partial(own_model, client, f"{owner}/{model}")
    sought = Sought(f"model {owner}/{model}", owner, listed)
    reply = find(client, _service(client).get_model, request, sought)
    if reply is None:
        return None
    return Model(
        ref=f"{owner}/{model}",
        title=str(reply.get("title") or ""),
        private=bool(reply.get("isPrivate", False)),
        url=str(reply.get("url") or f"https://www.kaggle.com/models/{owner}/{model}"),
    )


def read(client: Client, ref: Reference, *, files: bool = True, fresh: bool = False) -> Variation | None:
    """What is at Kaggle under a variation's name, or None where there is none (see `absence`).

    `fresh`: it was made from here a moment ago.
    """
    from kagglesdk.models.types.model_api_service import ApiGetModelInstanceRequest

    request = place(ApiGetModelInstanceRequest(), ref)
    listed = None if fresh else lambda: newest(client, ref) is not None
    reply = find(client, _service(client).get_model_instance, request, replace(_part(ref), listed=listed))
    if reply is None:
        return None
    version = versions.whole_number(reply.get("versionNumber"))
    return Variation(
        ref=ref,
        version=version,
        licence=reply.get("licenseName"),
        url=str(reply.get("url") or _page(ref)),
        files=(list_files(client, ref, version) or ()) if files and version else (),
    )


@dataclass(frozen=True)
class Newest:
    """A variation's newest version, ready or not, in the words of the model's list of variations."""

    status: str
    version_id: int
    notes: str


def newest(client: Client, ref: Reference) -> Newest | None:
    """The newest version of a variation, also while it is processed; None where there is no such variation."""
    from kagglesdk.models.types.model_api_service import ApiListModelInstancesRequest

    request = filled(ApiListModelInstancesRequest(), owner_slug=ref.owner, model_slug=ref.slug)
    for reply in find_pages(client, _service(client).list_model_instances, request, _part(ref)) or ():
        for one in entries(reply, "instances", what=_what(ref), kind=dict):
            same = str(one.get("slug") or "").lower() == ref.variation.lower()
            if same and same_framework(one.get("framework"), ref.framework):
                number = whole(one.get("lastVersionId")) or whole(one.get("versionId"))
                return Newest(enum_name(one.get("status")), number, str(one.get("versionNotes") or ""))
    return None


def list_files(client: Client, ref: Reference, version: int) -> tuple[RemoteFile, ...] | None:
    """The files of a version, sorted by name; None where Kaggle does not know that version."""
    from kagglesdk.models.types.model_api_service import ApiListModelInstanceVersionFilesRequest

    request = filled(place(ApiListModelInstanceVersionFilesRequest(), ref), version_number=version)
    method = _service(client).list_model_instance_version_files
    return versions.list_files(client, method, request, _part(ref), key="files", size="size")


def read_file(client: Client, ref: Reference, version: int, path: str) -> bytes | None:
    """The small file `path` of a version; None where Kaggle has no such file or version (404). Raises RemoteError."""
    from kagglesdk.models.types.model_api_service import ApiDownloadModelInstanceVersionRequest

    request = filled(place(ApiDownloadModelInstanceVersionRequest(), ref), version_number=version, path=path)
    asked = type(request).to_dict(request)
    sought = replace(_part(ref), what=f"{_what(ref)} version {version}: {path}")
    return read_small_file(client, "models.ModelApiService/DownloadModelInstanceVersion", asked, sought)


def create_model(client: Client, owner: str, model: str, *, title: str, private: bool = True) -> Model:
    """Make a model's page, without a variation. Raises RefusedError, RemoteError; see `create_variation`."""
    from kagglesdk.models.types.model_api_service import ApiCreateModelRequest

    request = filled(ApiCreateModelRequest(), owner_slug=owner, slug=model, title=title, is_private=private)
    what = f"model {owner}/{model}"

    def send() -> Model:
        reply = client.make(_service(client).create_model, request, what=what)
        url = _accept(reply, call="CreateModel", what=what)
        return Model(f"{owner}/{model}", title, private, url)

    versions.refuse_existing(read_model(client, owner, model), what=what)
    return client.make_once(send, lambda: read_model(client, owner, model, fresh=True), what=what)


def create_variation(client: Client, ref: Reference, *, files: Sequence[Sent], licence: str) -> int:
    """Make a variation with its first version, and return that version's number: 1.

    After a lost reply it is looked for before it is sent again, at most once. Raises RefusedError, RemoteError.
    """
    from kagglesdk.models.types import model_api_service as types

    _refuse_empty(ref, files)
    request = filled(types.ApiCreateModelInstanceRequest(), owner_slug=ref.owner, model_slug=ref.slug)
    body = types.ApiCreateModelInstanceRequestBody()
    body.instance_slug, body.framework, body.license_name = ref.variation, framework_value(ref.framework), licence
    versions.attach(body, files)
    request.body = body

    def send() -> int:
        reply = client.make(_service(client).create_model_instance, request, what=_what(ref))
        _accept(reply, call="CreateModelInstance", what=_what(ref))
        return 1

    versions.refuse_existing(read(client, ref, files=False), what=_what(ref))
    return client.make_once(send, lambda: 1 if newest(client, ref) is not None else None, what=_what(ref))


def add_version(client: Client, ref: Reference, *, files: Sequence[Sent], notes: str, before: int) -> int:
    """Add a version after version `before`, holding exactly `files`, and return its number: `before` + 1.

    As `create_variation`; also raises RemoteError where the newest version is not `before`.
    """
    from kagglesdk.models.types import model_api_service as types

    _refuse_empty(ref, files)
    request = place(types.ApiCreateModelInstanceVersionRequest(), ref)
    request.body = filled(types.ApiCreateModelInstanceVersionRequestBody(), version_notes=notes)
    versions.attach(request.body, files)
    version = before + 1
    what = f"{_what(ref)} version {version}"

    def send() -> int:
        reply = client.make(_service(client).create_model_instance_version, request, what=what)
        _accept(reply, call="CreateModelInstanceVersion", what=what)
        # The reply's ref ends in the version, where Kaggle writes it so.
        return split_version(str(reply.get("ref") or ""))[1] or version

    versions.refuse_unexpected(read(client, ref, files=False), before, what=_what(ref))
    earlier = newest(client, ref)
    versions.refuse_busy(earlier.status if earlier else "", what=_what(ref))

    def look() -> int | None:
        came = _came(newest(client, ref), earlier, notes=notes, what=what)
        return version if came or _shows(client, ref, files, version) else None

    return client.make_once(send, look, what=what)


def wait_ready(client: Client, ref: Reference, **awaited: Unpack[versions.Awaited]) -> Variation:
    """Wait until `version` is the newest that is ready, and lists exactly `files` (see `versions.wait_ready`)."""
    version = awaited["version"]

    def look() -> Variation | None:
        found = read(client, ref, files=False, fresh=True)
        if found is not None and found.version is not None and found.version >= version:
            return replace(found, status=versions.READY)
        seen = newest(client, ref)
        if seen is None:
            return None
        return Variation(ref, found.version if found else None, None, _page(ref), status=seen.status)

    return versions.wait_ready(client, look, partial(list_files, client, ref, version), what=_what(ref), **awaited)


def _came(seen: Newest | None, earlier: Newest | None, *, notes: str, what: str) -> bool:
    """Whether a version came since `earlier`. Raises RemoteError where it has other notes than `notes`.

    Where Kaggle counts no version before it is ready, being worked on is the sign that one came.
    """
    if seen is None:
        return False
    counted = earlier is not None and seen.version_id != earlier.version_id
    if counted and seen.notes not in {"", notes}:
        raise RemoteError(
            f"{what}: the reply was lost, and the newest version has other notes ({seen.notes!r}). "
            "Look at its page, run `kit plan`, then push again"
        )
    changed = earlier is None or seen.status != earlier.status
    return counted or (changed and seen.status in versions.UNDER_WAY | versions.FAILED)


def _shows(client: Client, ref: Reference, files: Sequence[Sent], version: int) -> bool:
    """Whether a version is listed, with the files that were sent. Raises RemoteError where it has others."""
    listed = list_files(client, ref, version)
    if listed is None:
        return False
    differ = versions.difference(versions.sizes_of(listed), versions.sent_sizes(files))
    if differ:
        raise RemoteError(
            f"{_what(ref)}: the reply was lost, and version {version} there now is not what was sent ({differ}). "
            "Look at its page, run `kit plan`, then push again"
        )
    return True


def _accept(reply: Mapping[str, Any], *, call: str, what: str) -> str:
    """The address in a reply to something made; RefusedError for an error code, LostReplyError for no content."""
    if reply.get("errorCode"):
        raise RefusedError(
            f"{call} for {what}: Kaggle refuses with error code {reply['errorCode']} and gives no reason. "
            "Run `kit plan` to see what is there, then push again",
            status=200,
            said=str(reply["errorCode"]),
        )
    if not (reply.get("id") or reply.get("ref") or reply.get("url")):
        raise LostReplyError(f"{call} for {what}: the answer names nothing that was made", again=False)
    return str(reply.get("url") or "")


def place(request: Any, ref: Reference) -> Any:
    request.owner_slug, request.model_slug, request.instance_slug = ref.owner, ref.slug, ref.variation
    request.framework = framework_value(ref.framework)
    return request


def _refuse_empty(ref: Reference, files: Sequence[Sent]) -> None:
    if not files:
        raise UsageError(f"{_what(ref)}: there is no file to send")


def _what(ref: Reference) -> str:
    return f"model {ref}"


def _part(ref: Reference) -> Sought:
    """A part of a variation that is looked up; see `absence`."""
    return Sought(_what(ref), ref.owner)


def _page(ref: Reference) -> str:
    return f"https://www.kaggle.com/models/{ref}"


def _service(client: Client) -> Any:
    return client.sdk.models.model_api_client
