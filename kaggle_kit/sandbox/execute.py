"""A built notebook, executed in a sealed /kaggle with papermill; what it says is shown as it says it."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.evaluation.run_files import NOTEBOOK_BYTES, cells_of, mappings
from kaggle_kit.runtime.record import EXECUTED, LOG, REPORT, REPORT_TEXT
from kaggle_kit.sandbox.image import ready_image
from kaggle_kit.sandbox.kaggle_layout import OUT, kaggle_sandbox, mounts_of, scratch_folder
from kaggle_kit.sandbox.output import Limits, LogFile, Receiver, lines_of
from kaggle_kit.sandbox.seal import WORKING, driver_command
from kaggle_kit.sandbox.watch import MemoryWatch, SpaceWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from kaggle_kit.sandbox.mounts import Sandbox
    from kaggle_kit.sandbox.seal import Seal

_RESERVED = frozenset({LOG, REPORT, REPORT_TEXT})
"""Names that kit's own files have in a run's folder."""
_MOST_ERROR = 2000
_TIME_IS_UP = "the session's time is up"
_CELL = re.compile(r"Executing Cell (\d+)-+")


@dataclass(frozen=True)
class Execution:
    """How a notebook's run ended. `seconds` from start to end; `limit_reached`: the session's time was up.

    `stopped`: why kit ended it otherwise. `left` and `failed`: what of its files did not come out, and why.
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
    sandbox: Sandbox,
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
    executed = f"{OUT}/{EXECUTED}"
    command = [str(python), "-m", "papermill", "/kit/notebook.ipynb", executed]
    command += ["--kernel", "python3", "--cwd", WORKING, "--log-output", "--no-progress-bar"]
    most_bytes = (sandbox.working_bytes or 0) + NOTEBOOK_BYTES
    stopped: list[str] = []
    started = time.monotonic()

    with Receiver(results, limits=Limits(most_bytes), reserved=_RESERVED) as receiver:
        pipe = receiver.write_end
        driven = driver_command(python, command, pipe=pipe, most_bytes=most_bytes, also=(executed,))
        with seal.start(sandbox, driven, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=(pipe,)) as sealed:
            receiver.close_write_end()

            def end(why: str) -> None:
                stopped.append(why)
                sealed.stop()

            timer = threading.Timer(limit_seconds, end, (_TIME_IS_UP,))
            timer.start()
            try:
                with ExitStack() as stack:
                    memory = stack.enter_context(MemoryWatch(sealed.process.pid).watching())
                    if space is not None:
                        stack.enter_context(space.watching(end))
                    written = stack.enter_context(LogFile(log))
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
        left=tuple(receiver.received.left),
        failed=tuple(receiver.received.failed),
    )


def run_pushed(
    notebook: bytes,
    *,
    sources: Sequence[tuple[tuple[str, str], Path]],
    out: Path,
    working_bytes: int,
    limit_seconds: float,
    seal: Seal,
    say: Callable[[str], None],
    packages: Path | None = None,
    bytecode: Path | None = None,
) -> str | None:
    """Run a notebook that was pushed to the loopback Kaggle, with the inputs that it was given, its `sources`.

    Each source is its group ("competitions", "datasets", "models") and reference, and its folder here. Its files come
    to `out`, as Kaggle keeps them. `packages` and `bytecode`: see `kaggle_sandbox`. Returns what went wrong, None if
    nothing did. Raises SandboxError if this machine cannot run it.
    """
    image = ready_image(progress=say)
    with scratch_folder() as scratch:
        path = scratch / "notebook.ipynb"
        path.write_bytes(notebook)
        out.mkdir(parents=True, exist_ok=True)
        inputs = mounts_of(sources)
        sandbox = kaggle_sandbox(
            path,
            inputs=inputs,
            image=image,
            scratch=scratch,
            working_bytes=working_bytes,
            packages=packages,
            bytecode=bytecode,
        )
        execution = execute(
            seal,
            sandbox,
            python=image.python,
            results=out,
            log=scratch / LOG,
            limit_seconds=limit_seconds,
            show=say,
            space=SpaceWatch(scratch),
        )
    return _problem(execution, out / EXECUTED, limit_seconds)


def _problem(execution: Execution, executed: Path, limit_seconds: float) -> str | None:
    """What went wrong in a run; None if nothing did."""
    if execution.limit_reached:
        return f"the session's {limit_seconds:g} s were over"
    if execution.stopped:
        return f"it was ended: {execution.stopped}"
    if execution.exit_code:
        failed = failed_cell(executed)
        return "in cell {}: {}".format(*failed) if failed else "papermill failed"
    return execution.failed[0] if execution.failed else None


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
