"""The versions of datasets and models: the files that one is made of, and the way to where it can be attached."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NotRequired, Protocol, TypedDict, TypeVar
from urllib.parse import unquote

from kaggle_kit.errors import RemoteError
from kaggle_kit.remote.client.absence import find_pages
from kaggle_kit.remote.client.client import entries, filled, whole
from kaggle_kit.suggest import some

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from kaggle_kit.remote.client.absence import Sought
    from kaggle_kit.remote.client.client import Client
    from kaggle_kit.remote.client.uploads import Sent

NOT_SHOWN = "a state that Kaggle does not show"
"""Of a dataset that Kaggle shows otherwise: it is another's, or was made a moment ago."""
READY, DELETED = "READY", "DELETED"
FAILED = frozenset({"FAILED", DELETED})
UNDER_WAY = frozenset(
    {
        "NOT_YET_PERSISTED",
        "BLOBS_RECEIVED",
        "BLOBS_DECOMPRESSED",
        "BLOBS_COPIED_TO_SDS",
        "INDIVIDUAL_BLOBS_COMPRESSED",
        "REPROCESSING",
    }
)


@dataclass(frozen=True)
class RemoteFile:
    """A file of a version: its path inside it, and bytes, None where Kaggle leaves them out. It gives no hash."""

    name: str
    size: int | None


def sizes_of(files: Iterable[RemoteFile]) -> dict[str, int | None]:
    """The bytes of each file by its path, None where Kaggle does not say."""
    return {file.name: file.size for file in files}


class Page(Protocol):
    """Something that Kaggle has."""

    @property
    def url(self) -> str:
        """Where a person looks at it."""


@dataclass(frozen=True)
class Version:
    """What Kaggle says of a dataset or a variation now. `version` is None, and `files` empty, where it does not say.

    `version` is the newest that is ready. `status` is in Kaggle's words how far it is with the newest, ready or not;
    "" where it is missing.
    """

    ref: Any
    version: int | None
    licence: str | None
    url: str
    files: tuple[RemoteFile, ...] = ()
    status: str = ""

    @property
    def sizes(self) -> dict[str, int | None]:
        """The bytes of each file by its path, None where Kaggle does not say."""
        return sizes_of(self.files)


Seen = TypeVar("Seen", bound=Version)


class Awaited(TypedDict):
    """The version that is waited for; see `wait_ready`."""

    version: int
    files: Mapping[str, int] | None
    deadline: float
    tell: NotRequired[Callable[[str], None] | None]


def wait_ready(
    client: Client,
    look: Callable[[], Seen | None],
    list_files: Callable[[], tuple[RemoteFile, ...] | None],
    *,
    what: str,
    version: int,
    files: Mapping[str, int] | None,
    deadline: float,
    tell: Callable[[str], None] | None = None,
) -> Seen:
    """Wait until `look()` shows `version`, READY, and its list of files is exactly `files` (path → bytes).

    `what` names the dataset or model. `files` is None for what was not sent from here: it may hold anything, and
    Kaggle need not tell its state, which it keeps from those who do not own it; that the version is the newest one is
    enough then. Of one's own whose state is not shown that is enough after `patience.settle_s` seconds; what else
    Kaggle does not say is told. `deadline` is a moment of `client.clock()`, in seconds. Each state is told once; one
    that kit does not know is waited on. Raises RemoteError: the version failed, another came after it, its files still
    differ after `patience.settle_s` seconds, or time is up.
    """
    tell = tell or client.tell
    subject, said = f"{what} version {version}", ""
    ready_since: float | None = None
    while True:
        seen = look()
        state = _state(seen, version, what=what, foreign=files is None)
        if seen is not None and state in (READY, NOT_SHOWN):
            ready = replace(seen, files=list_files() or ())
            compared = compare_files(ready.sizes, files) if files is not None else Comparison()
            problem = compared.difference
            ready_since = client.clock() if ready_since is None else ready_since
            settled = client.clock() - ready_since >= client.patience.settle_s
            if not problem and (settled or (state == READY and not compared.unlisted)):
                for untold in _untold(state, compared):
                    tell(f"{subject}: {untold}")
                return ready
            if settled:
                raise RemoteError(
                    f"{subject} is ready, but {problem}. Kaggle renames or unpacks some files, and leaves out what "
                    f"failed: see {ready.url}, then push again"
                )
            state = f"{state}, but {problem}" if problem else state
        if state != said:
            tell(f"{subject}: {state}")
            said = state
        if client.clock() >= deadline:
            raise RemoteError(
                f"{subject} is not ready in time (last seen: {state}). "
                "It goes on at Kaggle: run the same command again, nothing is sent twice"
            )
        client.sleep(client.patience.poll_s)


def _untold(state: str, compared: Comparison) -> Iterator[str]:
    """What could not be checked of a version that is ready."""
    if state == NOT_SHOWN:
        yield "Kaggle does not show its state; it is the current version, with all that was sent"
    if compared.untold:
        yield f"ready; Kaggle's list of its files does not say {compared.untold}, which could not be checked"


def _state(seen: Version | None, version: int, *, what: str, foreign: bool) -> str:
    """Where a version is, in words: READY only for that version itself. Raises RemoteError where it never will be."""
    if seen is None:
        return "not there yet"
    if seen.status in FAILED:
        raise RemoteError(
            f"{what} version {version}: Kaggle says {seen.status}. See {seen.url}; names with @ and broken archives "
            "are known causes. Then push again"
        )

    if seen.version is None or seen.version < version:
        shown = f"version {seen.version}" if seen.version else "no version"
        return f"{seen.status or 'no status'}, and Kaggle still shows {shown}"
    if seen.version > version:
        raise RemoteError(
            f"{what}: version {seen.version} came after version {version}, from somebody else or the browser. "
            "Run `kit plan`, then push again"
        )

    if foreign and seen.status in ("", NOT_SHOWN):
        return READY
    if seen.status in UNDER_WAY or seen.status in (READY, NOT_SHOWN):
        return seen.status
    return f"{seen.status or 'no status'} (kit does not know this state and keeps waiting)"


def refuse_existing(found: Page | None, *, what: str) -> None:
    """Raise RemoteError where what is to be made is there already."""
    if found is not None:
        raise RemoteError(f"{what} exists already: {found.url}. Run `kit plan`, then push again")


def refuse_busy(status: str, *, what: str) -> None:
    """Raise RemoteError where an earlier version is still processed: Kaggle takes no other before that is done."""
    if status in UNDER_WAY:
        raise RemoteError(
            f"{what}: an earlier version is still processed ({status}), and Kaggle takes no other before that is "
            "done. Wait some minutes, run `kit plan`, then push again"
        )


def refuse_unexpected(found: Seen | None, before: int, *, what: str) -> Seen:
    """What is there, where its newest version is `before`; raises RemoteError where not."""
    if found is None or found.version != before:
        seen = f"version {found.version}" if found is not None and found.version else "nothing"
        raise RemoteError(
            f"{what}: Kaggle shows {seen} where version {before} was expected. Run `kit plan`, then push again"
        )
    return found


def whole_number(value: Any) -> int | None:
    """A version's number in a reply, None where it holds none."""
    return whole(value) or None


def list_files(
    client: Client, method: Callable[[Any], Any], request: Any, sought: Sought, *, key: str, size: str
) -> tuple[RemoteFile, ...] | None:
    """The files of all pages of a list, sorted by name; None where Kaggle does not know that version.

    `key` and `size` are how a reply names files and bytes.
    """
    replies = find_pages(client, method, request, sought)
    if replies is None:
        return None
    listed = [one for reply in replies for one in entries(reply, key, what=sought.what, kind=dict)]
    files = [RemoteFile(_path(one), whole(one[size]) if size in one else None) for one in listed]
    return tuple(sorted(files, key=lambda one: one.name))


def sent_sizes(files: Sequence[Sent]) -> dict[str, int]:
    """Bytes by path of what was sent."""
    return {one.name: one.size for one in files}


def _path(listed: Mapping[str, Any]) -> str:
    """A file's path in its version, as it was sent."""
    return str(listed.get("name") or "").removeprefix("./").lstrip("/")


@dataclass(frozen=True)
class Comparison:
    """What was sent beside what Kaggle lists: how they differ, and what Kaggle does not say; "" where nothing.

    `unlisted`: all that lies in folders is left out of the list, as it may be for a while, or for ever.
    """

    lacking: str = ""
    added: str = ""
    untold: str = ""
    unlisted: bool = False

    @property
    def difference(self) -> str:
        """How they differ, in words."""
        return "; ".join(part for part in (self.lacking, self.added) if part)


def compare_files(there: Mapping[str, int | None], sent: Mapping[str, int]) -> Comparison:
    """Kaggle's list of a version's files beside the files that were sent.

    Kaggle lists paths, or the names alone of what lies in folders, or only what lies in none.
    """
    there = _as_sent(there, sent)
    nested = {path for path in sent if "/" in path}
    own_names = {_name(path) for path in nested} - sent.keys()
    flat = bool(nested and there) and not any("/" in path for path in there)
    alone = flat and bool(own_names & there.keys())
    told, untold = dict(sent), []
    if alone:
        # Several files of one name in several folders are one line of the list.
        several = {name for name, count in Counter(map(_name, sent)).items() if count > 1}
        told = {_name(path): size for path, size in sent.items()}
        there = {name: None if name in several else size for name, size in there.items()}
        untold.append("the folders of its files")
    elif flat:
        told = {path: size for path, size in sent.items() if path not in nested}
        untold.append(f"what lies in folders ({some(sorted(nested), 1)})")

    if sizeless := sorted(path for path in told.keys() & there.keys() if there[path] is None):
        untold.append(f"the size of {some(sizeless, 1)}")
    added = sorted(there.keys() - told.keys())
    return Comparison(
        lacking=_lacking(there, told),
        added=f"lists {some(added)}, which was not sent" if added else "",
        untold=" and ".join(untold),
        unlisted=flat and not alone,
    )


def _as_sent(there: Mapping[str, int | None], sent: Mapping[str, int]) -> Mapping[str, int | None]:
    """Kaggle's list with its paths as they were sent, if they are that in another spelling, all in the same one."""
    tops = {path.partition("/")[0] for path in there}
    top = f"{tops.pop()}/" if len(tops) == 1 else ""
    spellings: tuple[Callable[[str], str], ...] = (
        lambda path: path,
        lambda path: path.replace("\\", "/"),
        unquote,
        lambda path: path.removeprefix(top),
    )
    for spell in spellings:
        spelt = {spell(path): size for path, size in there.items()}
        if len(spelt) == len(there) and spelt.keys() <= sent.keys():
            return spelt
    return there


def _lacking(there: Mapping[str, int | None], sent: Mapping[str, int]) -> str:
    """Which of the files that were sent are not there, or of another size."""
    parts = []
    if missing := sorted(sent.keys() - there.keys()):
        parts.append(f"does not list {some(missing)}")
    if other := sorted(path for path in sent.keys() & there.keys() if there[path] not in (None, sent[path])):
        sizes = f"{there[other[0]]} bytes of {other[0]} instead of {sent[other[0]]}"
        parts.append(f"has {sizes}" + (f", and {len(other) - 1} more such files" if len(other) > 1 else ""))
    return "; ".join(parts)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def difference(there: Mapping[str, int | None], sent: Mapping[str, int]) -> str:
    """How two lists of files differ, in words; "" where they do not, as far as Kaggle says."""
    return compare_files(there, sent).difference


def attach(request: Any, files: Sequence[Sent]) -> None:
    """Put the files' tokens into a request (its `files` and `directories`), which names them by their tokens only."""
    _fill(request, [(one.name.split("/"), one) for one in files])


def _fill(folder: Any, below: list[tuple[list[str], Sent]]) -> None:
    from kagglesdk.datasets.types.dataset_api_service import ApiDatasetNewFile, ApiUploadDirectoryInfo

    folder.files = [filled(ApiDatasetNewFile(), token=one.token) for parts, one in below if len(parts) == 1]
    folders = []
    for name in sorted({parts[0] for parts, _ in below if len(parts) > 1}):
        inner = filled(ApiUploadDirectoryInfo(), name=name)
        _fill(inner, [(parts[1:], one) for parts, one in below if len(parts) > 1 and parts[0] == name])
        folders.append(inner)
    if folders:
        folder.directories = folders
