"""Runs `quantize_worker.py` in its own environment and hears what it says."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError
from kaggle_kit.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Tell = Callable[[dict[str, Any]], None]

PROGRAM = Path(__file__).with_name("quantize_worker.py")
_LAST_LINES = 15
_PATIENCE_SECONDS = 10


def run_worker(
    python: Path, request: Mapping[str, Any], *, scratch: Path, tell: Tell, program: Path = PROGRAM
) -> dict[str, Any]:
    """What the worker answers to `request`; its events on the way go to `tell`.

    The program is named by its path and run isolated (`-I`): neither kit's environment nor a setting of this process
    leads it astray. It works in `scratch`, so every path in `request` must be absolute. Raises ModelError where it
    fails, with its own words; the worker never outlives this call.
    """
    scratch = scratch.absolute()
    path = scratch / f"{request['do']}.json"
    write_atomic(path, json.dumps(request))
    log = scratch / f"{request['do']}.log"
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as events, log.open("wb") as stream:
        try:
            process = subprocess.Popen(
                [str(python.absolute()), "-I", str(program.absolute()), str(path), str(writing)],
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                pass_fds=[writing],
                env=_environment(scratch),
            )
        finally:
            os.close(writing)
        try:
            # A crash would leave all of the model's memory as a file. Not every kernel lets one process limit another.
            with suppress(OSError):
                resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
            last = _hear(events, tell)
            # What was told last decides, however long torch and CUDA take to go.
            with suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE_SECONDS)
        finally:
            process.kill()
            process.wait()
    if last.get("event") == "done":
        return {key: value for key, value in last.items() if key != "event"}
    if last.get("foreseen"):
        raise ModelError(str(last["message"]))
    words = "\n".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-_LAST_LINES:])
    what = last.get("message") or f"its program ended with {process.returncode} (killed for memory?)"
    raise ModelError(f"the quantiser failed: {what}\nThe end of its log:\n{words}")


def _hear(events: Iterator[str], tell: Tell) -> dict[str, Any]:
    """The last event; all before it are told."""
    for line in events:
        event: dict[str, Any] = json.loads(line)
        if event["event"] in {"done", "failed"}:
            return event
        tell(event)
    return {}


def _environment(scratch: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV", "HF_"))}
    return kept | {
        "HF_HOME": str(scratch / "cache"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "USE_TF": "0",
        # Threads that spin while they wait for each other lose a time slice each time another program runs too.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
