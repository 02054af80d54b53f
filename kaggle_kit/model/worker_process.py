"""Runs a quantiser in its own environment, hears what it says, and looks at what it made before it is taken."""

from __future__ import annotations

import json
import math
import os
import re
import resource
import stat
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError
from kaggle_kit.files import write_atomic
from kaggle_kit.runtime.events import WorkerError, count, optional, parse_event, text, texts
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


_MOST_FILES = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.(safetensors|json|jinja|txt|model)")
"""Weights and settings. What else a library leaves (a recipe, code) is no part of a model, and stays behind."""
_MOST_SETTINGS = 1 << 20
_MOST_DEPTH = 12


def take_files(made: Path, target: Path) -> None:
    """Move the model's files in the folder `made`, whose writer has ended, into the new folder `target`.

    Both are on one disk. Raises ModelError where something else than files lies there: a link, a folder, a device.
    """
    target.mkdir()
    with ExitStack() as stack:

        def opened(path: Path) -> int:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            return descriptor

        try:
            source, place = opened(made), opened(target)
        except OSError as error:
            raise ModelError(f"the quantiser left no folder {made.name}: {error.strerror}") from error
        names = sorted(os.listdir(source))  # noqa: PTH208  of the folder that was opened
        if len(names) > _MOST_FILES:
            raise ModelError(f"the quantiser left {len(names):,} files where a model has a few")
        for name in names:
            told = os.stat(name, dir_fd=source, follow_symlinks=False)
            if not stat.S_ISREG(told.st_mode) or told.st_nlink != 1:
                raise ModelError(f"the quantiser left {name!r}, which is no file of its own: nothing of it is taken")
            if not _NAME.fullmatch(name):
                continue
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=place)
            os.chmod(name, 0o644, dir_fd=place)


def names_in(answer: Mapping[str, Any], key: str) -> list[str]:
    """A list of texts in a quantiser's answer. Raises ModelError for anything else."""
    try:
        return texts(answer.get(key))
    except TypeError as error:
        raise _wrong(key, error) from error


def versions_in(answer: Mapping[str, Any]) -> dict[str, str]:
    """The versions of its libraries. Raises ModelError for anything else."""
    try:
        return {text(name): text(version) for name, version in dict(answer.get("versions") or {}).items()}
    except (TypeError, ValueError) as error:
        raise _wrong("versions", error) from error


def counts_in(answer: Mapping[str, Any], *keys: str) -> dict[str, int]:
    """Those of the counts that it gives. Raises ModelError for anything else."""
    try:
        return {key: count(answer[key]) for key in keys if key in answer}
    except TypeError as error:
        raise _wrong(keys[0], error) from error


def settings_in(answer: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A JSON object of some depth and size. Raises ModelError for anything else."""
    found = answer.get(key)
    if not isinstance(found, dict) or not _is_flat(found, _MOST_DEPTH) or len(json.dumps(found)) > _MOST_SETTINGS:
        raise _wrong(key, "no object of settings")
    return found


def _is_flat(value: Any, depth: int) -> bool:
    if depth == 0:
        return False
    if isinstance(value, dict):
        return all(_is_flat(one, depth - 1) for one in value.values())
    return not isinstance(value, list) or all(_is_flat(one, depth - 1) for one in value)


def _wrong(key: str, why: object) -> ModelError:
    return ModelError(f"the quantiser's answer {key!r} is {why}: nothing of it is taken")
