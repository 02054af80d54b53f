"""Kaggle datasets: what is there, a new one, a new version, and waiting until exactly that version can be attached."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from kaggle_kit.errors import RemoteError, UsageError
from kaggle_kit.remote.client import versions
from kaggle_kit.remote.client.absence import Sought, find, own_dataset
from kaggle_kit.remote.client.client import RefusedError, entries, enum_name, filled, whole
from kaggle_kit.remote.client.downloads import read_small_file
from kaggle_kit.remote.references import parse_pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kaggle_kit.remote.client.client import Client
    from kaggle_kit.remote.client.uploads import Sent
    from kaggle_kit.remote.client.versions import RemoteFile

SLUG_LETTERS = TITLE_LETTERS = range(6, 51)
SUBTITLE_LETTERS = range(20, 81)
"""Letters, as Kaggle's client checks them and its server is reported to (facts, section 4)."""


@dataclass(frozen=True)
class Dataset(versions.Version):
    """What Kaggle says of a dataset now. `version` is the current one; `newest` may still be processed.

    `notes` are the version notes by version number, as far as Kaggle lists them.
    """

    ref: str
    title: str = field(kw_only=True)
    private: bool = field(kw_only=True)
    notes: tuple[tuple[int, str], ...] = ()

    @property
    def newest(self) -> int:
        """The highest version number that is to be seen; whatever is there has a first one."""
        return max([self.version or 1, *(number for number, _ in self.notes)])


def read(client: Client, ref: str, *, files: bool = True, fresh: bool = False) -> Dataset | None:
    """What is at Kaggle under `owner/slug`, or None where there is none (see `absence`).

    Absence is what both GetDataset and GetDatasetStatus must say. Any other error is raised (RemoteError), so that no
    slug is ever taken for free because Kaggle had trouble. `fresh`: it was made from here a moment ago.
    """
    from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest

    request, sought = _place(ApiGetDatasetRequest(), ref), _part(ref)
    if not fresh:
        sought = replace(sought, listed=partial(own_dataset, client, ref))
    reply = find(client, _service(client).get_dataset, request, sought)
    state = status(client, ref, shown=reply is not None)
    if reply is None and state is None:
        return None
    reply = reply or {}
    version = versions.whole_number(reply.get("currentVersionNumber"))
    return Dataset(
        ref=ref,
        version=version,
        status=versions.NOT_SHOWN if state is None else state,
        title=str(reply.get("title") or ""),
        private=bool(reply.get("isPrivate", False)),
        licence=reply.get("licenseName"),
        url=str(reply.get("url") or f"https://www.kaggle.com/datasets/{ref}"),
        files=(list_files(client, ref, version=version) or ()) if files and version else (),
        notes=_notes(reply),
    )


def status(client: Client, ref: str, *, shown: bool = False) -> str | None:
    """The state of the newest version in Kaggle's words (`READY`), "" where missing, None where Kaggle has no answer.

    That is where there is no dataset, where it is another's (then `shown`, Kaggle has shown the dataset itself), and
    for a moment after it was made. It does not say which version it means: go by `wait_ready`.
    """
    from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetStatusRequest

    request = _place(ApiGetDatasetStatusRequest(), ref)
    reply = find(client, _service(client).get_dataset_status, request, _part(ref, shown=shown))
    return None if reply is None else enum_name(reply.get("status"))


def list_files(client: Client, ref: str, *, version: int | None = None) -> tuple[RemoteFile, ...] | None:
    """The files of a version, over all pages, sorted by name; None where Kaggle does not list that version (404)."""
    from kagglesdk.datasets.types.dataset_api_service import ApiListDatasetFilesRequest

    request, what = _place(ApiListDatasetFilesRequest(), ref), _what(ref)
    if version:
        request.dataset_version_number = version
        what = f"{what} version {version}"
    sought = replace(_part(ref), what=what)
    return versions.list_files(
        client, _service(client).list_dataset_files, request, sought, key="datasetFiles", size="totalBytes"
    )


def read_file(client: Client, ref: str, version: int, path: str) -> bytes | None:
    """The small file `path` of a version; None where Kaggle has no such file or version (404). Raises RemoteError."""
    place = parse_pair(ref)
    asked = {
        "ownerSlug": place.owner,
        "datasetSlug": place.slug,
        "datasetVersionNumber": str(version),
        "fileName": path,
    }
    sought = replace(_part(ref), what=f"{_what(ref)} version {version}: {path}")
    return read_small_file(client, "datasets.DatasetApiService/DownloadDataset", asked, sought)


def create(
    client: Client,
    ref: str,
    *,
    title: str,
    files: Sequence[Sent],
    licence: str,
    private: bool = True,
    subtitle: str | None = None,
) -> int:
    """Make a dataset with its first version, and return that version's number: 1.

    After a lost reply it is looked for before it is sent again, at most once. Raises UsageError for what Kaggle would
    not take (facts, section 4), RefusedError where it refuses (the name is taken, say), RemoteError.
    """
    from kagglesdk.datasets.types.dataset_api_service import ApiCreateDatasetRequest

    _refuse_outside_limits(ref, title, subtitle, files)
    versions.refuse_existing(read(client, ref, files=False), what=_what(ref))
    request = ApiCreateDatasetRequest()
    place = parse_pair(ref)
    request.owner_slug, request.slug = place.owner, place.slug
    request.title, request.license_name, request.is_private = title, licence, private
    if subtitle:
        request.subtitle = subtitle
    versions.attach(request, files)

    def send() -> int:
        reply = client.make(_service(client).create_dataset, request, what=_what(ref))
        _refuse_failure(reply, call="CreateDataset", ref=ref)
        return 1

    def look() -> int | None:
        found = read(client, ref, fresh=True)
        if found is None:
            return None
        _refuse_foreign(found, files, version=1)
        return 1

    return client.make_once(send, look, what=_what(ref))


def add_version(client: Client, ref: str, *, files: Sequence[Sent], notes: str, before: int) -> int:
    """Add a version, holding exactly `files`, to a dataset whose newest version is `before`; return its number.

    Kaggle names no version in its reply: it is the newest one's number plus 1. After a lost reply the versions, their
    notes and files, and the dataset's state are looked at before anything is sent again, at most once. Raises
    RefusedError, RemoteError; also where a version is still processed, or somebody else made one meanwhile.
    """
    from kagglesdk.datasets.types import dataset_api_service as types

    request = _place(types.ApiCreateDatasetVersionRequest(), ref)
    request.body = filled(types.ApiCreateDatasetVersionRequestBody(), version_notes=notes)
    versions.attach(request.body, files)
    there = _ready_for_next(read(client, ref, files=False), ref, before)
    version = there.newest + 1
    what = f"{_what(ref)} version {version}"

    def send() -> int:
        reply = client.make(_service(client).create_dataset_version, request, what=what)
        _refuse_failure(reply, call="CreateDatasetVersion", ref=ref)
        return version

    def look() -> int | None:
        found = read(client, ref)
        if found is None:
            return None
        if found.newest >= version:
            _refuse_foreign(found, files, version=version, notes=notes)
            return version
        # Where no version is listed before it is ready, being worked on is the sign that one came.
        changed = found.status != there.status and found.status in versions.UNDER_WAY | versions.FAILED
        return version if changed else None

    return client.make_once(send, look, what=what)


def wait_ready(client: Client, ref: str, **awaited: Unpack[versions.Awaited]) -> Dataset:
    """Wait until `version` is the current one, READY, and lists exactly `files` (see `versions.wait_ready`)."""
    look = partial(read, client, ref, files=False, fresh=True)
    listed = partial(list_files, client, ref, version=awaited["version"])
    return versions.wait_ready(client, look, listed, what=_what(ref), **awaited)


def _place(request: Any, ref: str) -> Any:
    """The request, about the dataset `owner/slug`. Raises UsageError where that is none."""
    place = parse_pair(ref)
    request.owner_slug, request.dataset_slug = place.owner, place.slug
    return request


def _ready_for_next(found: Dataset | None, ref: str, before: int) -> Dataset:
    """The dataset, where its newest version is `before`, ready or failed. Raises RemoteError."""
    if found is not None and found.status in versions.FAILED and found.newest == before:
        return found
    there = versions.refuse_unexpected(found, before, what=_what(ref))
    versions.refuse_busy(there.status, what=_what(ref))
    return there


def _refuse_foreign(found: Dataset, files: Sequence[Sent], *, version: int, notes: str | None = None) -> None:
    """Raise where the version that appeared is not the one that was sent: other notes, or other files when ready."""
    theirs = dict(found.notes).get(version)
    other = notes is not None and theirs not in {None, "", notes}
    listed = found.version == version and found.status == versions.READY and found.files
    differ = versions.difference(found.sizes, versions.sent_sizes(files)) if listed else ""
    if other or differ or found.newest > version:
        raise RemoteError(
            f"{_what(found.ref)}: the reply was lost, and the version there now ({found.newest}) is not what was sent "
            f"({differ or 'other notes or a later version'}). See {found.url}, run `kit plan`, then push again"
        )


def _refuse_failure(reply: dict[str, Any], *, call: str, ref: str) -> None:
    """Raise RefusedError for a reply that is not a plain success; `Client` has refused one with `error`."""
    state = enum_name(reply.get("status"))
    tags = entries(reply, "invalidTags", what=_what(ref), kind=str)
    if tags:
        raise RefusedError(
            f"{call} for {_what(ref)}: Kaggle does not know the tags {', '.join(tags)} "
            f"(status {state or 'missing'}). Remove them, run `kit plan`, then push again",
            status=200,
            said=", ".join(tags),
        )
    if state not in {"OK", "SUCCESS", ""} or not (state or reply.get("ref") or reply.get("url")):
        raise RefusedError(
            f"{call} for {_what(ref)}: Kaggle answered status {state or 'missing'} and gave no reason. "
            "Run `kit plan` to see what is there, then push again",
            status=200,
            said=state,
        )


def _refuse_outside_limits(ref: str, title: str, subtitle: str | None, files: Sequence[Sent]) -> None:
    """The limits of facts, section 4: lengths, and a dataset without files."""
    limits = [("slug", parse_pair(ref).slug, SLUG_LETTERS), ("title", title, TITLE_LETTERS)]
    if subtitle:
        limits.append(("subtitle", subtitle, SUBTITLE_LETTERS))
    for name, text, letters in limits:
        if len(text) not in letters:
            allowed = f"{letters[0]}-{letters[-1]}"
            raise UsageError(f"{_what(ref)}: the {name} {text!r} has {len(text)} characters; Kaggle takes {allowed}")
    if not files:
        raise UsageError(f"{_what(ref)}: there is no file to send; Kaggle would make an empty dataset")


def _notes(reply: dict[str, Any]) -> tuple[tuple[int, str], ...]:
    versions = entries(reply, "versions", what="the dataset's versions", kind=dict)
    return tuple((whole(one.get("versionNumber")), str(one.get("versionNotes") or "")) for one in versions)


def _what(ref: str) -> str:
    return f"dataset {ref}"


def _part(ref: str, *, shown: bool = False) -> Sought:
    """A part of a dataset that is looked up; see `absence`."""
    return Sought(_what(ref), parse_pair(ref).owner, shown=shown)


def _service(client: Client) -> Any:
    return client.sdk.datasets.dataset_api_client
