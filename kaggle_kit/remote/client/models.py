"""Kaggle Models: what is there, and new models, variations and versions. A *variation* is the SDK's model instance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import RemoteError, UsageError
from kaggle_kit.remote.client.client import LostReplyError, RefusedError, enum_name
from kaggle_kit.remote.client.listing import RemoteFile, difference
from kaggle_kit.remote.client.model_ref import ModelRef, framework_value, same_framework
from kaggle_kit.remote.client.new_files import attach
from kaggle_kit.remote.client.ready import FAILED, UNDER_WAY, refuse_failed, refuse_later, wait_listed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kaggle_kit.remote.client.client import Client
    from kaggle_kit.remote.client.uploads import Sent

_PAGE = 200
_PAGES = 500


@dataclass(frozen=True)
class Model:
    """A model's page, which may have no variation yet."""

    ref: str
    title: str
    private: bool
    url: str


@dataclass(frozen=True)
class Variation:
    """What Kaggle says of a variation now. `version` is None where it does not say."""

    ref: ModelRef
    version: int | None
    licence: str | None
    url: str
    files: tuple[RemoteFile, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """The bytes of each file by its path."""
        return {file.name: file.size for file in self.files}


def read_model(client: Client, owner: str, model: str) -> Model | None:
    """The page of a model, or None where it surely does not exist (404)."""
    from kagglesdk.models.types.model_api_service import ApiGetModelRequest

    request = ApiGetModelRequest()
    request.owner_slug, request.model_slug = owner, model
    reply = client.find(_service(client).get_model, request, what=f"model {owner}/{model}")
    if reply is None:
        return None
    return Model(
        ref=f"{owner}/{model}",
        title=str(reply.get("title") or ""),
        private=bool(reply.get("isPrivate", False)),
        url=str(reply.get("url") or f"https://www.kaggle.com/models/{owner}/{model}"),
    )


def read(client: Client, ref: ModelRef, *, files: bool = True) -> Variation | None:
    """What is at Kaggle under a variation's name, or None where it surely does not exist (404)."""
    from kagglesdk.models.types.model_api_service import ApiGetModelInstanceRequest

    request = place(ApiGetModelInstanceRequest(), ref)
    reply = client.find(_service(client).get_model_instance, request, what=_what(ref))
    if reply is None:
        return None
    number = reply.get("versionNumber")
    version = number if isinstance(number, int) and not isinstance(number, bool) and number > 0 else None
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


def newest(client: Client, ref: ModelRef) -> Newest | None:
    """The newest version of a variation, also while it is processed; None where there is no such variation."""
    from kagglesdk.models.types.model_api_service import ApiListModelInstancesRequest

    def request() -> Any:
        asked = ApiListModelInstancesRequest()
        asked.owner_slug, asked.model_slug = ref.owner, ref.model
        return asked

    for reply in _pages(client, ref, request, "list_model_instances") or ():
        for one in reply.get("instances") or ():
            if one.get("slug") == ref.variation and same_framework(one.get("framework"), ref.framework):
                number = one.get("lastVersionId") or one.get("versionId") or 0
                return Newest(enum_name(one.get("status")), int(number), str(one.get("versionNotes") or ""))
    return None


def list_versions(client: Client, ref: ModelRef) -> tuple[int, ...]:
    """The numbers of a variation's versions, ascending; empty where there is no such variation."""
    from kagglesdk.models.types.model_api_service import ApiListModelInstanceVersionsRequest

    found: set[int] = set()
    pages = _pages(
        client, ref, lambda: place(ApiListModelInstanceVersionsRequest(), ref), "list_model_instance_versions"
    )
    for reply in pages or ():
        listed = (reply.get("versionList") or {}).get("versions") or ()
        found |= {int(one.get("versionNumber") or 0) for one in listed}
    return tuple(sorted(found - {0}))


def list_files(client: Client, ref: ModelRef, version: int) -> tuple[RemoteFile, ...] | None:
    """The files of a version, sorted by name; None where Kaggle does not know that version (404)."""
    from kagglesdk.models.types.model_api_service import ApiListModelInstanceVersionFilesRequest

    def request() -> Any:
        asked = place(ApiListModelInstanceVersionFilesRequest(), ref)
        asked.version_number = version
        return asked

    pages = _pages(client, ref, request, "list_model_instance_version_files")
    if pages is None:
        return None
    listed = [one for reply in pages for one in reply.get("files") or ()]
    files = [RemoteFile(str(one.get("name") or ""), int(one.get("size") or 0)) for one in listed]
    return tuple(sorted(files, key=lambda one: one.name))


def create_model(
    client: Client,
    owner: str,
    model: str,
    *,
    title: str,
    private: bool = True,
    subtitle: str = "",
    description: str = "",
) -> Model:
    """Make a model's page, without a variation. Raises RefusedError, RemoteError; see `create_variation`."""
    from kagglesdk.models.types.model_api_service import ApiCreateModelRequest

    request = ApiCreateModelRequest()
    request.owner_slug, request.slug, request.title, request.is_private = owner, model, title, private
    if subtitle:
        request.subtitle = subtitle
    if description:
        request.description = description
    what = f"model {owner}/{model}"

    def send() -> Model:
        reply = client.make(_service(client).create_model, request, what=what)
        url = _accept(reply, call="CreateModel", what=what)
        return Model(f"{owner}/{model}", title, private, url)

    if (taken := read_model(client, owner, model)) is not None:
        raise RemoteError(f"{what} exists already: {taken.url}. Run `kit plan`, then push again")
    return client.make_once(send, lambda: read_model(client, owner, model), what=what)


def create_variation(
    client: Client, ref: ModelRef, *, files: Sequence[Sent], licence: str, overview: str = "", usage: str = ""
) -> int:
    """Make a variation with its first version, and return that version's number: 1.

    After a lost reply it is looked for before it is sent again, at most once. Raises RefusedError, RemoteError.
    """
    from kagglesdk.models.types import model_api_service as types

    _refuse_empty(ref, files)
    request = types.ApiCreateModelInstanceRequest()
    request.owner_slug, request.model_slug = ref.owner, ref.model
    body = types.ApiCreateModelInstanceRequestBody()
    body.instance_slug, body.framework, body.license_name = ref.variation, framework_value(ref.framework), licence
    if overview:
        body.overview = overview
    if usage:
        body.usage = usage
    attach(body, files)
    request.body = body

    def send() -> int:
        reply = client.make(_service(client).create_model_instance, request, what=_what(ref))
        _accept(reply, call="CreateModelInstance", what=_what(ref))
        return 1

    if (taken := read(client, ref, files=False)) is not None:
        raise RemoteError(f"{_what(ref)} exists already: {taken.url}. Run `kit plan`, then push again")
    return client.make_once(send, lambda: 1 if newest(client, ref) is not None else None, what=_what(ref))


def add_version(client: Client, ref: ModelRef, *, files: Sequence[Sent], notes: str, before: int) -> int:
    """Add a version after version `before`, holding exactly `files`, and return its number: `before` + 1.

    As `create_variation`; also raises RemoteError where the newest version is not `before`.
    """
    from kagglesdk.models.types import model_api_service as types

    _refuse_empty(ref, files)
    request = place(types.ApiCreateModelInstanceVersionRequest(), ref)
    body = types.ApiCreateModelInstanceVersionRequestBody()
    body.version_notes = notes
    attach(body, files)
    request.body = body
    version = before + 1
    what = f"{_what(ref)} version {version}"

    def send() -> int:
        reply = client.make(_service(client).create_model_instance_version, request, what=what)
        _accept(reply, call="CreateModelInstanceVersion", what=what)
        # The reply's ref ends in the version, where Kaggle writes it so.
        last = str(reply.get("ref") or "").rpartition("/")[2]
        return int(last) if last.isdigit() else version

    current = read(client, ref, files=False)
    if current is None or current.version != before:
        seen = "nothing" if current is None else f"version {current.version}"
        raise RemoteError(f"{what}: Kaggle shows {seen}, not version {before}. Run `kit plan`, then push again")
    earlier = newest(client, ref)
    if earlier is not None and earlier.status in UNDER_WAY:
        raise RemoteError(
            f"{what}: an earlier version is still processed ({earlier.status}). Wait some minutes, run `kit plan`, "
            "then push again"
        )

    def look() -> int | None:
        came = _came(newest(client, ref), earlier, notes=notes, what=what)
        return version if came or _shows(client, ref, files, version) else None

    return client.make_once(send, look, what=what)


def wait_ready(
    client: Client,
    ref: ModelRef,
    *,
    version: int,
    files: Mapping[str, int] | None,
    deadline: float,
    tell: Callable[[str], None] | None = None,
) -> Variation:
    """Wait until `version` is the newest that is ready, and lists exactly `files` (path → bytes; None: any).

    `deadline` is a moment of `client.clock()`, in seconds. Raises RemoteError where Kaggle says that the version
    failed, where a later version came, or time is up.
    """

    def look() -> Variation | str:
        found = read(client, ref, files=False)
        if found is not None:
            refuse_later(found.version, version, what=_what(ref))
            if found.version == version:
                return replace(found, files=list_files(client, ref, version) or ())
        seen = newest(client, ref)
        if seen is None or not seen.status:
            return "not there yet"
        refuse_failed(seen.status, what=what, url=_page(ref))
        return f"not there yet ({seen.status})"

    what = f"{_what(ref)} version {version}"
    return wait_listed(client, look, what=what, files=files, deadline=deadline, tell=tell)


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
    return counted or (changed and seen.status in UNDER_WAY | FAILED)


def _shows(client: Client, ref: ModelRef, files: Sequence[Sent], version: int) -> bool:
    """Whether a version is listed, with the files that were sent. Raises RemoteError where it has others."""
    listed = list_files(client, ref, version)
    if listed is None:
        return False
    differ = difference({one.name: one.size for one in listed}, {one.name: one.size for one in files})
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


def _pages(client: Client, ref: ModelRef, new_request: Callable[[], Any], method: str) -> list[dict[str, Any]] | None:
    """All pages of a list, or None where the first is a 404."""
    found: list[dict[str, Any]] = []
    page = ""
    for _ in range(_PAGES):
        request = new_request()
        request.page_size = _PAGE
        if page:
            request.page_token = page
        reply = client.find(getattr(_service(client), method), request, what=_what(ref))
        if reply is None:
            return found or None
        found.append(reply)
        page = str(reply.get("nextPageToken") or "")
        if not page:
            return found
    raise RemoteError(f"{_what(ref)}: Kaggle's list does not end. Look at the model's page")


def place(request: Any, ref: ModelRef) -> Any:
    request.owner_slug, request.model_slug, request.instance_slug = ref.owner, ref.model, ref.variation
    request.framework = framework_value(ref.framework)
    return request


def _refuse_empty(ref: ModelRef, files: Sequence[Sent]) -> None:
    if not files:
        raise UsageError(f"{_what(ref)}: there is no file to send")


def _what(ref: ModelRef) -> str:
    return f"model {ref}"


def _page(ref: ModelRef) -> str:
    return f"https://www.kaggle.com/models/{ref}"


def _service(client: Client) -> Any:
    return client.sdk.models.model_api_client
