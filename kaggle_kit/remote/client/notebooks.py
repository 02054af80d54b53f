"""Notebooks at Kaggle: push one, read it back, and follow the run of exactly the version that was pushed."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import RemoteError, UsageError
from kaggle_kit.remote.client.absence import Sought, find, own_notebook
from kaggle_kit.remote.client.client import LostReplyError, RefusedError, entries, enum_name, number, whole
from kaggle_kit.remote.references import bare, parse, parse_pair, split_version, without_prefix
from kaggle_kit.runtime.record import COMPLETE, ENDED, GOING_ON
from kaggle_kit.secrets import mask

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kaggle_kit.remote.client.client import Client

UNKNOWN = "UNKNOWN"
"""No state, or one that kit does not know."""
_INVALID = {
    "invalidDatasetSources": "dataset",
    "invalidCompetitionSources": "competition",
    "invalidKernelSources": "notebook",
    "invalidModelSources": "model",
    "invalidTags": "tag",
}
_PYTHON = "python3"
_SOURCES = {"datasets": "dataset", "kernels": "kernel", "competitions": "competition", "models": "model"}


@dataclass(frozen=True)
class Pushed:
    """A version of a notebook that Kaggle took. `found` is True where the reply was lost and it was read instead."""

    ref: str
    version: int
    url: str
    found: bool = False


@dataclass(frozen=True)
class RemoteNotebook:
    """A notebook as Kaggle has it. `version` is the newest one's number, whichever version's `source` this is.

    Values that Kaggle does not say are None, not a default.
    """

    ref: str
    version: int | None
    title: str
    source: str
    language: str | None
    kernel_type: str | None
    private: bool | None
    gpu: bool | None
    tpu: bool | None
    internet: bool | None
    machine_shape: str | None
    docker_image: str | None
    datasets: tuple[str, ...]
    """References, with the version (owner/slug/3) where Kaggle says it."""
    kernels: tuple[str, ...]
    competitions: tuple[str, ...]
    models: tuple[str, ...]


@dataclass(frozen=True)
class RunState:
    """The state of one version's run. `state` is UNKNOWN where Kaggle says none, or one that kit does not know."""

    state: str
    failure: str | None
    said: str

    @property
    def ended(self) -> bool:
        """Whether the run is over, well or badly."""
        return self.state in ENDED

    @property
    def complete(self) -> bool:
        """Whether the run is over and went well."""
        return self.state == COMPLETE

    @property
    def words(self) -> str:
        """The state in words, with Kaggle's own word where kit does not know it."""
        known = self.state.lower().replace("_", " ")
        return known if self.state != UNKNOWN else f"{known}: {self.said or 'Kaggle says no status'}"


def read(client: Client, ref: str, *, version: int | None = None, fresh: bool = False) -> RemoteNotebook | None:
    """The notebook `owner/slug`, of one version or the newest; None where there is none (see `absence`).

    One of the account's own surely is not there where Kaggle's list of these lacks it: a push would go over what is
    there. `fresh`: it was pushed from here, so Kaggle may not show it yet.
    """
    from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelRequest

    request, sought = place(ApiGetKernelRequest(), ref, version), part(ref, version)
    if not fresh:
        sought = replace(sought, listed=partial(own_notebook, client, ref), guarded=False)
    reply = find(client, _service(client).get_kernel, request, sought)
    if reply is None:
        return None
    facts, blob = reply.get("metadata"), reply.get("blob")
    if not isinstance(facts, dict) or not isinstance(blob, dict):
        raise RemoteError(f"GetKernel for {what(ref, version)}: the answer holds no notebook. Run the command again")
    return RemoteNotebook(
        ref=ref,
        version=whole(facts.get("currentVersionNumber")) or None,
        title=str(facts.get("title") or ""),
        source=str(blob.get("source") or ""),
        language=facts.get("language") or blob.get("language"),
        kernel_type=facts.get("kernelType") or blob.get("kernelType"),
        private=facts.get("isPrivate"),
        gpu=facts.get("enableGpu"),
        tpu=facts.get("enableTpu"),
        internet=facts.get("enableInternet"),
        machine_shape=facts.get("machineShape"),
        docker_image=facts.get("dockerImage"),
        **{
            part: tuple(entries(facts, f"{kind}DataSources", what=what(ref, version), kind=str))
            for part, kind in _SOURCES.items()
        },
    )


def newest_version(found: RemoteNotebook) -> int:
    """The number of a notebook's newest version. Raises RemoteError where Kaggle's answer does not say it."""
    if found.version is None:
        raise RemoteError(
            f"GetKernel for {what(found.ref)}: Kaggle's answer holds no currentVersionNumber, so it cannot be told "
            f"what is there. See {page_of(found.ref)}, and run the same command again later"
        )
    return found.version


def push(
    client: Client,
    metadata: Mapping[str, Any],
    source: str,
    *,
    session_timeout_s: int,
    before: int | None = None,
    pinned: Mapping[str, int] | None = None,
    internet: bool = False,
    run: bool = True,
) -> Pushed:
    """Save a version of the notebook that a `kernel-metadata.json` describes, and run it unless `run` is False.

    `before`: the newest version that the caller knows, 0 where it knows of none. Where Kaggle has another, somebody
    saved it meanwhile, and nothing is sent over it (RemoteError); None sends over whatever is there. `internet`:
    whether its run may have the network; metadata that ask for more are refused. `pinned` gives dataset sources
    (`owner/slug`) the version that they are attached in. Every source that Kaggle did not take, an error in the reply
    and a missing version number raise RefusedError that says which. After a lost reply the version is looked for by
    number and source before it is sent again, at most once.
    """
    ref = str(metadata.get("id") or "")
    _check_internet(metadata, ref, allowed=internet)
    request = _request(metadata, source, session_timeout_s=session_timeout_s, pinned=pinned or {}, run=run)
    there = read(client, ref)
    newest = newest_version(there) if there is not None else 0

    if before is not None and newest != before:
        raise RemoteError(
            f"{what(ref)}: Kaggle shows {f'version {newest}' if newest else 'nothing'} where "
            f"{f'version {before}' if before else 'nothing'} was expected: it was changed in the browser, or by "
            "somebody else. Nothing was sent over it. Run `kit plan`, then push again"
        )

    def send() -> Pushed:
        return _accept(client.make(_service(client).save_kernel, request, what=what(ref)), ref)

    def look() -> Pushed | None:
        now = read(client, ref, fresh=True)
        if now is None or now.version is None or now.version <= newest:
            return None
        if now.version > newest + 1 or source_identity(now.source) != source_identity(source):
            raise RemoteError(
                f"{what(ref)}: the reply was lost, and version {now.version} there now is not what was sent. "
                f"See {page_of(ref)}, `kit pull` what others changed, then push again"
            )
        _refuse_dropped(now, request, ref)
        return Pushed(ref, now.version, page_of(ref), found=True)

    return client.make_once(send, look, what=what(ref))


def status(client: Client, ref: str, version: int) -> RunState:
    """The state of the run of `version`, never of another.

    A missing state is UNKNOWN, where the typed client reads QUEUED; so is a version that Kaggle does not show, as it
    may do with a new one at first.
    """
    from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelSessionStatusRequest

    request = place(ApiGetKernelSessionStatusRequest(), ref, version)
    reply = find(client, _service(client).get_kernel_session_status, request, part(ref, version))
    if reply is None:
        return RunState(UNKNOWN, None, "not found")
    said = str(reply.get("status") or "")
    name = enum_name(said, prefix="KERNEL_WORKER_STATUS_")
    failure = reply.get("failureMessage")
    return RunState(
        state=name if name in ENDED | GOING_ON else UNKNOWN,
        failure=mask(failure) if isinstance(failure, str) and failure else None,
        said=said,
    )


def source_identity(text: str) -> str:
    """What two texts of the same notebook share: the SHA-256 of its kernel's name and of kind and text of each cell.

    A text without a kernel's name, as one report has it of Kaggle's own copy, counts as Python's. Outputs, ids,
    metadata, line ends and the form of the JSON do not count: Kaggle and its client rewrite them. A text
    that is no notebook stands for itself.
    """
    try:
        cells = [[cell["cell_type"], _cell_text(cell.get("source", ""))] for cell in json.loads(text)["cells"]]
        content: object = [kernel_name(text) or _PYTHON, cells]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        content = _cell_text(text)
    return sha256(json.dumps(content).encode()).hexdigest()


def _cell_text(source: object) -> str:
    whole = "".join(map(str, source)) if isinstance(source, list) else str(source)
    return whole.replace("\r\n", "\n").rstrip("\n")


def kernel_name(text: str) -> str | None:
    """The kernel's name in a notebook's metadata, without which Kaggle runs nothing; None where it is missing."""
    try:
        name = json.loads(text)["metadata"]["kernelspec"]["name"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return str(name) if name else None


def label(version: int) -> str:
    """A version as `versionLabel` wants it: `v3`. A bare number is a 404 (facts, section 3)."""
    return f"v{version}"


def place(request: Any, ref: str, version: int | None = None) -> Any:
    """A request about the notebook `owner/slug`, or one version of it. Raises UsageError where that is none."""
    reference = parse_pair(ref)
    request.user_name, request.kernel_slug = reference.owner, reference.slug
    if version is not None:
        request.version_label = label(version)
    return request


def what(ref: str, version: int | None = None) -> str:
    """A notebook in an error's sentence."""
    return f"notebook {ref}" + (f" version {version}" if version is not None else "")


def part(ref: str, version: int | None = None) -> Sought:
    """A part of a notebook that is looked up; see `absence`."""
    return Sought(what(ref, version), parse_pair(ref).owner)


def _check_internet(metadata: Mapping[str, Any], ref: str, *, allowed: bool) -> None:
    """Raise UsageError where the metadata ask for the network and the caller does not."""
    if _flag(metadata, "enable_internet", default=False) and not allowed:
        raise UsageError(
            f"{what(ref)}: enable_internet is on; a notebook that is handed in is pushed with it off. Set it false, or "
            "say internet = true in its table of kit.toml where it makes a model and is never handed in"
        )


def _request(
    metadata: Mapping[str, Any], source: str, *, session_timeout_s: int, pinned: Mapping[str, int], run: bool
) -> Any:
    """The SaveKernel request. Switches are always sent: the service's defaults are not the metadata's."""
    from kagglesdk.kernels.types.kernels_api_service import ApiSaveKernelRequest
    from kagglesdk.kernels.types.kernels_enums import KernelExecutionType

    ref = str(metadata.get("id") or "")
    parse_pair(ref)
    request = ApiSaveKernelRequest()
    request.slug = ref
    if metadata.get("id_no"):
        request.id = int(metadata["id_no"])
    request.new_title = metadata.get("title") or None
    request.text = source
    request.language = metadata.get("language") or "python"
    request.kernel_type = metadata.get("kernel_type") or "notebook"
    request.is_private = _flag(metadata, "is_private", default=True)
    request.enable_gpu = _flag(metadata, "enable_gpu", default=False)
    request.enable_tpu = _flag(metadata, "enable_tpu", default=False)
    request.enable_internet = _flag(metadata, "enable_internet", default=False)
    request.machine_shape = metadata.get("machine_shape") or None
    request.docker_image = metadata.get("docker_image") or None
    request.docker_image_pinning_type = metadata.get("docker_image_pinning_type") or None
    request.session_timeout_seconds = session_timeout_s
    request.dataset_data_sources = _pin(_sources(metadata, "dataset_sources"), pinned, ref)
    request.kernel_data_sources = _sources(metadata, "kernel_sources")
    request.competition_data_sources = _sources(metadata, "competition_sources")
    request.model_data_sources = _sources(metadata, "model_sources")
    request.category_ids = list(metadata.get("keywords") or [])
    request.kernel_execution_type = KernelExecutionType.SAVE_AND_RUN_ALL if run else KernelExecutionType.QUICK_SAVE
    return request


def _accept(reply: Mapping[str, Any], ref: str) -> Pushed:
    """The version that a reply names; RefusedError for each way in which the official client is silent."""
    url = str(reply.get("url") or page_of(ref))
    version = reply.get("versionNumber")
    dropped = [
        f"{kind} {one}" for name, kind in _INVALID.items() for one in entries(reply, name, what=what(ref), kind=str)
    ]
    if dropped:
        made = f"Version {version} was made, and runs without them: {url}" if version else "No version is named"
        raise RefusedError(
            f"SaveKernel for {what(ref)}: Kaggle did not take {', '.join(dropped)}. {made}. "
            "Check that each exists, is ready and is yours to see, then push again",
            status=200,
            said=", ".join(dropped),
        )

    if not version and not reply.get("ref"):
        raise LostReplyError(f"SaveKernel for {what(ref)}: the answer names no notebook and no version", again=False)
    advice = f"See {url} for what was made, then push again"
    found = number(dict(reply), "versionNumber", call="SaveKernel", what=what(ref), advice=advice)
    if not reply.get("ref"):
        raise RemoteError(f"SaveKernel for {what(ref)}: Kaggle's answer holds no ref. {advice}")

    made = "/".join(str(reply["ref"]).strip("/").split("/")[-2:])
    if made.lower() != ref.lower():
        raise RemoteError(
            f"SaveKernel for {what(ref)}: Kaggle saved it as {made}: a new notebook's slug is made of its title. "
            f"Give `id` and `title` the same words, delete {url}, then push again"
        )
    return Pushed(ref, found, url)


def _refuse_dropped(now: RemoteNotebook, request: Any, ref: str) -> None:
    """Raise where a version whose reply was lost has fewer sources than were sent: that reply would have said so."""
    pairs = (
        ("dataset", request.dataset_data_sources, now.datasets),
        ("notebook", request.kernel_data_sources, now.kernels),
        ("competition", request.competition_data_sources, now.competitions),
        ("model", request.model_data_sources, now.models),
    )
    missing = [f"{kind} {one}" for kind, sent, there in pairs for one in _missing(sent, there)]
    if missing:
        raise RemoteError(
            f"{what(ref)} version {now.version}: the reply was lost; the version is there, without "
            f"{', '.join(missing)}. Check that each exists and is ready, then push again"
        )


def _missing(sent: Sequence[str], there: Sequence[str]) -> list[str]:
    """The sources that are not attached: a version at the end, and upper case, are not compared."""
    known = {bare(one) for one in there}
    return [one for one in sent if bare(one) not in known]


def _pin(sources: list[str], pinned: Mapping[str, int], ref: str) -> list[str]:
    """Dataset sources with the versions asked for. Raises UsageError for a version of what is no source."""
    wanted = {bare(one): version for one, version in pinned.items()}
    if lost := sorted(wanted.keys() - {bare(one) for one in sources}):
        raise UsageError(f"{what(ref)}: {', '.join(lost)} is to be pinned, but is not among the dataset_sources")
    named = [(split_version(one)[0], one) for one in sources]
    return [f"{parse(one).bare}/{wanted[name]}" if name in wanted else one for name, one in named]


def _sources(metadata: Mapping[str, Any], name: str) -> list[str]:
    """A list of sources without the prefixes that the site's addresses have."""
    found = metadata.get(name) or []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise UsageError(f"kernel-metadata.json: {name} is not a list of texts")
    return [without_prefix(one) for one in found]


def _flag(metadata: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """A switch that is true, false, or one of these as text; the client's own files have both."""
    value = metadata.get(name, default)
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise UsageError(f"kernel-metadata.json: {name} = {value!r} is not true or false")


def page_of(ref: str) -> str:
    """Where a notebook is seen."""
    return f"https://www.kaggle.com/code/{ref}"


def _service(client: Client) -> Any:
    return client.sdk.kernels.kernels_api_client
