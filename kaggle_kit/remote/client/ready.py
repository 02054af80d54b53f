"""From a version that was made until it is ready: Kaggle's words for that, and the waiting, of datasets and models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from kaggle_kit.errors import RemoteError
from kaggle_kit.remote.client.listing import difference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kaggle_kit.remote.client.client import Client

READY = "READY"
FAILED = frozenset({"FAILED", "DELETED"})
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


class Listed(Protocol):
    """A version that is ready: its page, and the bytes of each file by its path."""

    @property
    def url(self) -> str:
        """Where a person looks at it."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes by path."""


Seen = TypeVar("Seen", bound=Listed)


def wait_listed(
    client: Client,
    look: Callable[[], Seen | str],
    *,
    what: str,
    files: Mapping[str, int] | None,
    deadline: float,
    tell: Callable[[str], None] | None = None,
) -> Seen:
    """What `look()` gives once it is ready and lists exactly `files` (path → bytes); in words it is not ready yet.

    `files` is None for what was not sent from here, which may hold anything.
    `deadline` is a moment of `client.clock()`, in seconds. Each state is told once. Raises RemoteError where the files
    still differ after `patience.settle_s` seconds, or time is up; and what `look` raises.
    """
    tell = tell or client.tell
    said = ""
    ready_since: float | None = None
    while True:
        seen = look()
        if isinstance(seen, str):
            state = seen
        else:
            if files is None or not (problem := difference(seen.sizes, files)):
                return seen
            ready_since = client.clock() if ready_since is None else ready_since
            if client.clock() - ready_since >= client.patience.settle_s:
                raise RemoteError(
                    f"{what} is ready, but {problem}. Kaggle renames or unpacks some files, and leaves out what "
                    f"failed: see {seen.url}, then push again"
                )
            state = f"{READY}, but {problem}"
        if state != said:
            tell(f"{what}: {state}")
            said = state
        if client.clock() >= deadline:
            raise RemoteError(
                f"{what} is not ready in time (last seen: {state}). "
                "It goes on at Kaggle: run the same command again, nothing is sent twice"
            )
        client.sleep(client.patience.poll_s)


def refuse_failed(status: str, *, what: str, url: str) -> None:
    """Raise RemoteError where Kaggle gave the version up."""
    if status in FAILED:
        raise RemoteError(
            f"{what}: Kaggle says {status}. See {url}; names with @ and broken archives are known causes. "
            "Then push again"
        )


def refuse_later(shown: int | None, version: int, *, what: str) -> None:
    """Raise RemoteError where Kaggle shows a later version than the one that is waited for."""
    if shown is not None and shown > version:
        raise RemoteError(
            f"{what}: version {shown} came after version {version}, from somebody else or the browser. "
            "Run `kit plan`, then push again"
        )
