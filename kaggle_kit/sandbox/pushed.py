"""A notebook that was pushed to the loopback Kaggle, run as it was pushed, with the inputs that it was given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.runtime.record import EXECUTED, LOG
from kaggle_kit.sandbox.execute import Execution, execute, failed_cell
from kaggle_kit.sandbox.image import ready_image
from kaggle_kit.sandbox.kaggle_room import kaggle_room, room_folder
from kaggle_kit.sandbox.layout import mounts_of
from kaggle_kit.sandbox.space import TEMPORARY_BYTES, SpaceWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from kaggle_kit.sandbox.seal import Seal


@dataclass(frozen=True)
class PushedRun:
    """How it ended: `problem` says what went wrong, None where nothing did."""

    seconds: float
    problem: str | None


def run_pushed(
    notebook: bytes,
    *,
    sources: Sequence[tuple[tuple[str, str], Path]],
    out: Path,
    working_bytes: int,
    limit_seconds: float,
    seal: Seal,
    say: Callable[[str], None],
    offer: Path | None = None,
) -> PushedRun:
    """Execute `notebook` in a sealed /kaggle that holds `sources`; its files come to `out`, as Kaggle keeps them.

    `sources`: each its group ("competitions", "datasets", "models") and reference, and its folder here. `offer`:
    what stands in for the package index, of a notebook with internet (`model_run.offer_of`). Raises SandboxError where
    this machine cannot make the room.
    """
    image = ready_image(progress=say)
    with room_folder() as scratch:
        path = scratch / "notebook.ipynb"
        path.write_bytes(notebook)
        room = kaggle_room(
            path,
            inputs=mounts_of(sources),
            image=image,
            scratch=scratch,
            working_bytes=working_bytes,
            offer=offer,
        )
        out.mkdir(parents=True, exist_ok=True)
        execution = execute(
            seal,
            room,
            python=image.python,
            results=out,
            log=scratch / LOG,
            limit_seconds=limit_seconds,
            show=say,
            space=SpaceWatch(scratch, TEMPORARY_BYTES),
        )
    return PushedRun(execution.seconds, _problem(execution, out / EXECUTED, limit_seconds))


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
