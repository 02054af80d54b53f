"""The attached models' files hashed while the engine scores, and compared with their manifests: nobody waits for it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import KitError
from kaggle_kit.runtime.manifest import MANIFEST, read_manifest
from kaggle_kit.runtime.record import BadFile, CheckedModel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.runtime.manifest import FileEntry, Manifest

_CHUNK_BYTES = 1 << 20
_LOADING = "engine start"


@dataclass
class Checked:
    """What is known of one model's files so far: `files` tried, `size` bytes of those that were read to their end."""

    manifest: Manifest
    files: int = 0
    size: int = 0
    seconds: float = 0.0
    bad: list[BadFile] = field(default_factory=list)

    def record(self) -> CheckedModel:
        """The model's part of the run's record."""
        return CheckedModel(
            files=len(self.manifest.files),
            bytes=sum(entry.size for entry in self.manifest.files),
            checked_files=self.files,
            checked_bytes=self.size,
            bad=tuple(self.bad),
            seconds=round(self.seconds, 3),
        )


class BackgroundHashes:
    """SHA-256 of every file of some model folders, in one thread of the lowest priority.

    A model's turn comes when its engine has loaded: what memory still holds of its files is not read a second time, and
    reading the rest disturbs no start.
    While any worker loads, the thread rests. A folder without a readable manifest is left out: the worker reports it.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._models: dict[Path, Checked] = {}
        for folder in folders:
            with contextlib.suppress(KitError):
                self._models[folder] = Checked(read_manifest(folder / MANIFEST))
        self._waiting: list[Path] = []
        self._begun: set[Path] = set()
        self._loading: set[int] = set()
        self._news: list[str] = []
        self._stopped = False
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None

    def see(self, event: Mapping[str, Any], folder: Path) -> None:
        """Take note of what a worker says that runs the model in `folder`."""
        worker = int(event.get("worker", 0))
        with self._change:
            if event["event"] == "stage" and event["name"] == _LOADING:
                self._loading.add(worker)
            elif event["event"] in {"stage", "engine", "restart", "error", "done"}:
                self._loading.discard(worker)
            if event["event"] == "engine":
                self._begin(folder)
            self._change.notify_all()

    def wait(self, seconds: float) -> None:
        """Begin what has not begun, stay until all is checked, `seconds` at most; the thread ends then."""
        with self._change:
            self._loading.clear()
            for folder in self._models:
                self._begin(folder)
            self._change.notify_all()
            self._change.wait_for(self._done, timeout=max(0.0, seconds))
            self._stopped = True
            self._change.notify_all()

    def record(self) -> dict[str, CheckedModel]:
        """By each model's name: how much was checked, and what was bad."""
        with self._change:
            return {checked.manifest.name: checked.record() for checked in self._models.values()}

    def news(self) -> list[str]:
        """A sentence for each bad file that was not told before."""
        with self._change:
            fresh, self._news = self._news, []
        return fresh

    @property
    def done(self) -> bool:
        """Whether every file was checked."""
        with self._change:
            return self._done()

    def _begin(self, folder: Path) -> None:
        if folder in self._begun or folder not in self._models:
            return
        self._begun.add(folder)
        self._waiting.append(folder)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="hashes", daemon=True)
            # Without a thread the record says that nothing was checked.
            with contextlib.suppress(RuntimeError):
                self._thread.start()

    def _done(self) -> bool:
        return all(checked.files == len(checked.manifest.files) for checked in self._models.values())

    def _work(self) -> None:
        # On Linux a thread has a priority of its own: the engine's threads always come first.
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._stopped)
                if self._stopped:
                    return
                folder = self._waiting.pop(0)
            for entry in self._models[folder].manifest.files:
                if not self._check(folder, entry):
                    return

    def _check(self, folder: Path, entry: FileEntry) -> bool:
        """Hash one file and note it; False if the thread is to end."""
        since = time.monotonic()
        bad: BadFile | None = None
        try:
            found = self._hash(folder / entry.path)
        except Exception as error:  # noqa: BLE001  whatever it is, the scoring goes on
            reason = getattr(error, "strerror", None) or type(error).__name__
            bad = BadFile(entry.path, reason, manifest=entry.sha256)
        else:
            if found is None:
                return False
            if found != entry.sha256:
                bad = BadFile(entry.path, "", manifest=entry.sha256, found=found)
        with self._change:
            checked = self._models[folder]
            checked.files += 1
            checked.seconds += time.monotonic() - since
            if bad is None or not bad.error:
                checked.size += entry.size
            if bad is not None:
                checked.bad.append(bad)
                self._news.append(_sentence(checked.manifest.name, bad))
            self._change.notify_all()
        return True

    def _hash(self, path: Path) -> str | None:
        """A file's SHA-256, read while nobody loads; None if the thread is to end. Raises OSError."""
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                with self._change:
                    self._change.wait_for(lambda: self._stopped or not self._loading)
                    if self._stopped:
                        return None
                digest.update(chunk)
        return digest.hexdigest()


def _sentence(model: str, bad: BadFile) -> str:
    what = (
        f"cannot be read ({bad.error})"
        if bad.error
        else f"is CORRUPT: its SHA-256 is {bad.found}, manifest.json says {bad.manifest}"
    )
    return (
        f"WARNING: {bad.path} of the model {model} {what}. The run goes on, but do not trust its answers: "
        f"check the model with kit model inspect, upload it again, and run again"
    )
