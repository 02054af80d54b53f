"""Run a built notebook in a room, with papermill, and tell what it says as it says it."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.sandbox.memory import MemoryWatch
from kaggle_kit.sandbox.seal import driver_command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from kaggle_kit.sandbox.seal import Room, Seal

EXECUTED = "executed.ipynb"
LOG = "log.txt"
_CELL = re.compile(r"Executing Cell (\d+)-+")


@dataclass(frozen=True)
class Execution:
    """How a notebook's run ended. `seconds` from start to end; `limit_reached`: the session's time was up."""

    exit_code: int
    seconds: float
    limit_reached: bool
    peak_bytes: int


def execute(
    seal: Seal,
    room: Room,
    *,
    python: Path,
    log: Path,
    limit_seconds: float,
    show: Callable[[str], None],
) -> Execution:
    """Execute /kit/notebook.ipynb into /kit/out/executed.ipynb as Kaggle does, within `limit_seconds`.

    Every line that it prints goes to `log`, with the seconds since the start, and to `show`. What stands in
    /kaggle/working at the end, or when the limit is reached, is brought to /kaggle/out.
    """
    command = [str(python), "-m", "papermill", "/kit/notebook.ipynb", f"/kit/out/{EXECUTED}"]
    command += ["--kernel", "python3", "--cwd", "/kaggle/working", "--log-output", "--no-progress-bar"]
    started = time.monotonic()
    limit_reached = threading.Event()
    with seal.start(room, driver_command(python, command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as sealed:

        def end() -> None:
            limit_reached.set()
            sealed.stop()

        timer = threading.Timer(limit_seconds, end)
        timer.start()
        try:
            with MemoryWatch(sealed.process.pid) as memory, log.open("w", encoding="utf-8") as stream:
                for raw in sealed.process.stdout or ():
                    line = raw.decode("utf-8", "replace").rstrip("\n")
                    stream.write(f"{time.monotonic() - started:9.2f}  {line}\n")
                    stream.flush()
                    show(line)
                code = sealed.process.wait()
        finally:
            timer.cancel()
            if timer.is_alive():
                timer.join()
    return Execution(code, time.monotonic() - started, limit_reached.is_set(), memory.peak_bytes)


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
    """The name of the cell that failed in an executed notebook, and its error in one line; None where none did."""
    try:
        body = json.loads(executed.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    for cell in body["cells"]:
        for output in cell.get("outputs", ()):
            if output.get("output_type") == "error" and output.get("ename") != "SystemExit":
                message = " ".join(str(output.get("evalue", "")).split())
                return str(cell["metadata"].get("name", "?")), f"{output.get('ename')}: {message}"
    return None
