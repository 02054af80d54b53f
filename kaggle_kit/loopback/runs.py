"""Runs of pushed notebooks, each in a thread, by a runner that the caller passes in."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit.loopback.records import (
    COMPLETE,
    ERROR,
    NEVER_RUN,
    QUEUED,
    RUNNING,
    Competition,
    Dataset,
    Kernel,
    Variation,
    numbered,
)

if TYPE_CHECKING:
    from kaggle_kit.loopback.faults import ActiveFaults
    from kaggle_kit.loopback.records import KernelVersion, Source, SourceKind
    from kaggle_kit.loopback.store import Store

UNFINISHED = frozenset({QUEUED, RUNNING})


@dataclass(frozen=True)
class KernelInput:
    """One attached source: what it is, the version that this run uses, and the folder that holds its files.

    `reference` is OWNER/SLUG for a dataset or notebook, OWNER/MODEL/FRAMEWORK/VARIATION for a model, the slug for a
    competition (whose `version` is 0). The files of datasets and models are read-only.
    """

    kind: SourceKind
    reference: str
    version: int
    folder: Path


@dataclass(frozen=True)
class KernelRun:
    """What a runner is given: a notebook, its inputs and the machine that was asked for.

    `accelerator` is the machine shape, or an empty text; `timeout` is in seconds, 0 if none was asked. What lies in
    `out` at the end is the run's output. `say` adds a line to the live log; `cancelled` is set when the server stops.
    """

    owner: str
    slug: str
    version: int
    notebook: bytes
    inputs: tuple[KernelInput, ...]
    competition: str | None
    accelerator: str
    internet: bool
    timeout: int
    out: Path
    say: Callable[[str], None]
    cancelled: threading.Event


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended: COMPLETE or ERROR, why it failed, and log lines that were not said while it ran."""

    status: str
    failure_message: str = ""
    log: tuple[str, ...] = ()


Runner = Callable[[KernelRun], RunOutcome]


@dataclass
class _Live:
    """A run of this process: its log so far, and the polls to which it still says QUEUED."""

    events: list[dict[str, Any]] = field(default_factory=list)
    queued_polls: int = 0


class Runs:
    """All runs of one server. Their end is written to the store; a run cut short by a stop begins again."""

    def __init__(self, store: Store, faults: ActiveFaults, runner: Runner, *, queued_polls: int) -> None:
        self._store = store
        self._faults = faults
        self._runner = runner
        self._queued_polls = queued_polls
        self._cancelled = threading.Event()
        self._threads: list[threading.Thread] = []
        self._live: dict[tuple[str, int], _Live] = {}

    def resume(self) -> None:
        """Begin again what an earlier server on this folder left unfinished."""
        for kernel in self._store.all(Kernel):
            for version in kernel.versions:
                if version.status in UNFINISHED:
                    self.start(kernel.ref, version.number)

    def start(self, ref: str, number: int) -> None:
        """Run a kernel version in a thread of its own."""
        self._live[ref, number] = _Live(queued_polls=self._queued_polls)
        if self._faults.strikes("run-never-starts"):
            return
        thread = threading.Thread(target=self._run, args=(ref, number), name=f"run {ref} v{number}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self, *, seconds: float) -> None:
        """Tell the runs to stop, and wait so long for them."""
        self._cancelled.set()
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def folder(self, ref: str, number: int) -> Path:
        """The folder of one run; its output is in `out`."""
        return self._store.folder / "runs" / ref / f"v{number}"

    def out(self, ref: str, number: int) -> Path:
        """The folder of one run's output."""
        return self.folder(ref, number) / "out"

    def output(self, ref: str, number: int) -> tuple[tuple[str, Path], ...]:
        """The files of a run's output: path in it, and where that file lies."""
        return files_below(self.out(ref, number))

    def log(self, ref: str, number: int) -> str:
        """A run's log so far: a JSON list of {stream_name, time, data}, as Kaggle keeps it; or empty."""
        if live := self._live.get((ref, number)):
            return json.dumps(list(live.events)) if live.events else ""
        file = self.folder(ref, number) / "log.json"
        return file.read_text(encoding="utf-8") if file.is_file() else ""

    def events(self, ref: str, number: int) -> list[dict[str, Any]]:
        """A run's log so far, as its events."""
        text = self.log(ref, number)
        return list(json.loads(text)) if text else []

    def status(self, ref: str, version: KernelVersion) -> str:
        """A run's status as it is reported, which is QUEUED for the first polls whatever happens inside."""
        live = self._live.get((ref, version.number))
        if live is None or live.queued_polls == 0:
            return version.status
        live.queued_polls -= 1
        return QUEUED

    def _run(self, ref: str, number: int) -> None:
        began = time.monotonic()
        self._note(ref, number, status=RUNNING)
        if self._faults.strikes("run-never-ends"):
            self._cancelled.wait()
            return

        try:
            outcome = self._runner(self._prepared(ref, number, began))
        except Exception as error:  # noqa: BLE001 - a runner's failure is the run's, as on Kaggle
            outcome = RunOutcome(ERROR, f"{type(error).__name__}: {error}")
        if self._cancelled.is_set():
            return

        if self._faults.strikes("run-fails"):
            outcome = replace(outcome, status=ERROR, failure_message="the session ended with an error")
        for line in outcome.log:
            self._say(ref, number, line, began)

        text = self.log(ref, number)
        self.folder(ref, number).joinpath("log.json").write_text(text, encoding="utf-8")
        seconds = time.monotonic() - began
        status = outcome.status if outcome.status in {COMPLETE, ERROR} else ERROR
        self._note(ref, number, status=status, failure=outcome.failure_message, seconds=seconds)

    def _say(self, ref: str, number: int, line: str, began: float) -> None:
        event = {"stream_name": "stdout", "time": round(time.monotonic() - began, 3), "data": line.rstrip("\n") + "\n"}
        self._live[ref, number].events.append(event)

    def _note(self, ref: str, number: int, **changes: Any) -> None:
        """Write what a run has come to, unless the server has stopped."""
        with self._store.late_change() as is_open:
            kernel = self._store.get(Kernel, ref) if is_open else None
            if kernel is None:
                return
            versions = tuple(replace(v, **changes) if v.number == number else v for v in kernel.versions)
            self._store.put(ref, replace(kernel, versions=versions))

    def _prepared(self, ref: str, number: int, began: float) -> KernelRun:
        kernel = self._store.get(Kernel, ref)
        version = numbered(kernel.versions, number) if kernel else None
        if version is None:
            raise LookupError(f"{ref} version {number} is gone")

        owner, slug = ref.split("/")
        out = self.out(ref, number)
        out.mkdir(parents=True, exist_ok=True)
        return KernelRun(
            owner=owner,
            slug=slug,
            version=number,
            notebook=version.text.encode(),
            inputs=tuple(self._input(source) for source in version.sources),
            competition=next((source.ref for source in version.sources if source.kind == "competition"), None),
            accelerator=version.machine_shape,
            internet=version.internet,
            timeout=version.timeout,
            out=out,
            say=lambda line: self._say(ref, number, line, began),
            cancelled=self._cancelled,
        )

    def _input(self, source: Source) -> KernelInput:
        return KernelInput(source.kind, source.ref, source.version, self._input_folder(source))

    def _input_folder(self, source: Source) -> Path:
        """The folder with a source's files, filled once for all runs that use this version."""
        if source.kind == "competition":
            competition = self._store.get(Competition, source.ref)
            if competition is None:
                raise LookupError(f"the competition {source.ref} is gone")
            return Path(competition.folder)
        if source.kind == "kernel":
            return self.out(source.ref, source.version)

        record: Dataset | Variation | None = self._store.get(Variation, source.ref)
        if source.kind == "dataset":
            record = self._store.get(Dataset, source.ref)
        version = numbered(record.versions, source.version) if record else None
        if version is None:
            raise LookupError(f"the {source.kind} {source.ref} version {source.version} is gone")

        folder = self._store.folder / "inputs" / source.kind / source.ref / str(source.version)
        for file in version.files:
            self._store.place(file, folder / file.name)
        return folder


def files_below(folder: Path) -> tuple[tuple[str, Path], ...]:
    """The files of a folder, none where it is not there: path in it, and where that file lies."""
    return tuple((path.relative_to(folder).as_posix(), path) for path in sorted(folder.rglob("*")) if path.is_file())


def ended(version: KernelVersion) -> bool:
    """Whether a run has come to its end, or never was to run."""
    return version.status in {COMPLETE, ERROR, NEVER_RUN}
