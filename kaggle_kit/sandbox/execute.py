"""Run a built notebook in a room, with papermill, and tell what it says as it says it."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.evaluation.run_files import NOTEBOOK_BYTES, cells_of, mappings
from kaggle_kit.runtime.record import EXECUTED, LOG, REPORT, REPORT_TEXT
from kaggle_kit.sandbox.kaggle_room import OUT
from kaggle_kit.sandbox.log_file import LogFile, lines_of
from kaggle_kit.sandbox.memory import MemoryWatch
from kaggle_kit.sandbox.seal import driver_command
from kaggle_kit.sandbox.take_out import Bounds, Inlet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from kaggle_kit.sandbox.seal import Room, Seal
    from kaggle_kit.sandbox.space import SpaceWatch

KEPT = frozenset({LOG, REPORT, REPORT_TEXT})
"""Names that kit's own files have in a run's folder."""
_MOST_ERROR = 2000
_TIME_IS_UP = "the session's time is up"
_CELL = re.compile(r"Executing Cell (\d+)-+")


@dataclass(frozen=True)
class Execution:
    """How a notebook's run ended. `seconds` from start to end; `limit_reached`: the session's time was up.

    `stopped`: why kit ended it otherwise. `left` and `failed`: what of its files was not taken out, and why.
    """

    exit_code: int
    seconds: float
    limit_reached: bool
    peak_bytes: int
    stopped: str | None = None
    left: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def execute(
    seal: Seal,
    room: Room,
    *,
    python: Path,
    results: Path,
    log: Path,
    limit_seconds: float,
    show: Callable[[str], None],
    space: SpaceWatch | None = None,
) -> Execution:
    """Execute /kit/notebook.ipynb as Kaggle does, within `limit_seconds`.

    Every line that it prints goes to `log`, with the seconds since the start, and to `show`. The executed notebook, and
    what stands in /kaggle/working at the end or when the limit is reached, come to the folder `results`. `space`
    watches what the run writes elsewhere, and ends it too.
    """
    command = [str(python), "-m", "papermill", "/kit/notebook.ipynb", f"{OUT}/{EXECUTED}"]
    command += ["--kernel", "python3", "--cwd", "/kaggle/working", "--log-output", "--no-progress-bar"]
    most = (room.working_bytes or 0) + NOTEBOOK_BYTES
    stopped: list[str] = []
    started = time.monotonic()

    with Inlet(results, bounds=Bounds(most), reserved=KEPT) as inlet:
        driven = driver_command(python, command, outlet=inlet.outlet, most_bytes=most, also=(f"{OUT}/{EXECUTED}",))
        with seal.start(
            room, driven, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=(inlet.outlet,)
        ) as sealed:
            inlet.close_outlet()

            def end(why: str) -> None:
                stopped.append(why)
                sealed.stop()

            timer = threading.Timer(limit_seconds, end, (_TIME_IS_UP,))
            timer.start()
            try:
                with MemoryWatch(sealed.process.pid) as memory, _watched(space, end), LogFile(log) as written:
                    for line in lines_of(sealed.process.stdout):
                        if written.line(f"{time.monotonic() - started:9.2f}  {line}"):
                            show(line)
                    code = sealed.process.wait()
            finally:
                timer.cancel()
                if timer.is_alive():
                    timer.join()
    return Execution(
        exit_code=code,
        seconds=time.monotonic() - started,
        limit_reached=_TIME_IS_UP in stopped,
        peak_bytes=memory.peak_bytes,
        stopped=next((why for why in stopped if why != _TIME_IS_UP), None),
        left=tuple(inlet.taken.left),
        failed=tuple(inlet.taken.failed),
    )


def _watched(space: SpaceWatch | None, end: Callable[[str], None]) -> AbstractContextManager[object]:
    return nullcontext() if space is None else space.watching(end)


def cell_started(line: str, names: Sequence[str]) -> str | None:
    """The name of the cell that a line of papermill's log says is starting, if it says so."""
    if not (match := _CELL.search(line)):
        return None
    number = int(match[1])
    return names[number - 1] if 0 < number <= len(names) else None


def cell_names(notebook: Path) -> list[str]:
    """The names of a notebook's cells, in order."""
    body = json.loads(notebook.read_text(encoding="utf-8"))
    return [str(cell["metadata"].get("name", cell.get("id", ""))) for cell in body["cells"]]


def failed_cell(executed: Path) -> tuple[str, str] | None:
    """The name of the cell that failed in an executed notebook, and its error in one line; None if none did."""
    for cell in cells_of(executed):
        for output in mappings(cell, "outputs"):
            if output.get("output_type") == "error" and output.get("ename") != "SystemExit":
                metadata = cell.get("metadata")
                name = metadata.get("name", "?") if isinstance(metadata, dict) else "?"
                return _one_line(name), f"{_one_line(output.get('ename'))}: {_one_line(output.get('evalue', ''))}"
    return None


def _one_line(value: object) -> str:
    return " ".join(str(value).split())[:_MOST_ERROR]
