"""Runs `quantize_worker.py` in its own environment and hears what it says."""

from __future__ import annotations

import json
import math
import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError
from kaggle_kit.files import write_atomic
from kaggle_kit.runtime.events import WorkerError, count, optional, parse_event, text
from kaggle_kit.runtime.launch import heard, launch_plain, log_tail
from kaggle_kit.runtime.permitted import session_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kaggle_kit.runtime.events import Kinds
    from kaggle_kit.runtime.launch import Hearing, Launch

    Tell = Callable[[dict[str, Any]], None]

PROGRAM = Path(__file__).with_name("quantize_worker.py")
_LAST_LINES = 15
_PATIENCE_SECONDS = 10.0
_OUTPUT = "1"
"""The descriptor that the program tells its events on: it lets nothing else write there."""
_TOLD: Kinds = {"stage": {"name": text}, "layer": {"done": count, "total": count}, "note": {"message": text}}
_LAST: Kinds = {"done": None, "failed": {"message": text, "foreseen": optional(bool)}}
_EVENTS: Kinds = {**_TOLD, **_LAST}
_MOST_TOLD = 100_000


def run_worker(
    python: Path,
    request: Mapping[str, Any],
    *,
    scratch: Path,
    tell: Tell,
    program: Path = PROGRAM,
    launch: Launch = launch_plain,
    reads: Sequence[Path] = (),
    writes: Path | None = None,
) -> dict[str, Any]:
    """What the worker answers to `request`; its events on the way go to `tell`.

    The program is named by its path and run isolated (`-I`): neither kit's environment nor a setting of this process
    leads it astray. `launch` starts it; it reads `reads`, writes and works in `writes` (`scratch` where it is not
    given), and every path in `request` must be absolute. Its answer is a stranger's: whoever uses it looks at it.
    Raises ModelError where it fails, with its own words; the worker never outlives this call.
    """
    scratch = scratch.absolute()
    path, log = scratch / f"{request['do']}.json", scratch / f"{request['do']}.log"
    write_atomic(path, json.dumps(request))
    program, folder = program.absolute(), (writes or scratch).absolute()
    running = launch(
        [str(python.absolute()), "-I", str(program), str(path), _OUTPUT],
        environment=_environment(scratch),
        reads=(program, path, *reads),
        writes=(folder,),
        folder=folder,
    )
    # A crash would leave all of the model's memory as a file. Not every kernel lets one process limit another.
    with suppress(OSError):
        resource.prlimit(running.process.pid, resource.RLIMIT_CORE, (0, 0))
    try:
        with heard(running, log) as hearing:
            try:
                last = _hear(hearing, tell)
                if last:
                    _wait(hearing)
            finally:
                code = running.stop(grace_seconds=0)
            for line in hearing.rest():
                hearing.log.write(line + b"\n")
    except WorkerError as error:
        raise ModelError(f"the quantiser failed: {error}") from error
    if last.get("event") == "done":
        return {key: value for key, value in last.items() if key != "event"}
    if last.get("foreseen"):
        raise ModelError(str(last["message"]))
    words = "\n".join(log_tail(log).strip().splitlines()[-_LAST_LINES:])
    what = last.get("message") or f"its program ended with {code} (killed for memory?)"
    raise ModelError(f"the quantiser failed: {what}\nThe end of its log:\n{words}")


def _hear(hearing: Hearing, tell: Tell) -> dict[str, Any]:
    """The last event; all before it are told."""
    told = 0
    for line in hearing.lines(lambda: math.inf):
        event = parse_event(line, _EVENTS)
        if event is None:
            # A library that prints before the program has its output for events alone.
            hearing.log.write(line + b"\n")
            continue
        if event["event"] in _LAST:
            return event
        told += 1
        if told > _MOST_TOLD:
            raise WorkerError(f"it has told more than {_MOST_TOLD:,} things, and no end")
        tell(event)
    return {}


def _wait(hearing: Hearing) -> None:
    """Let it go: what was told last decides, however long torch and CUDA take for that."""
    until = time.monotonic() + _PATIENCE_SECONDS
    for _ in hearing.lines(lambda: until - time.monotonic()):
        pass


def _environment(scratch: Path) -> dict[str, str]:
    return session_environment(
        {
            "HF_HOME": str(scratch / "cache"),
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "USE_TF": "0",
            # Threads that spin while they wait for each other lose a time slice each time another program runs too.
            "OMP_WAIT_POLICY": "PASSIVE",
        }
    )
