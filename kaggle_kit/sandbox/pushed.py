"""A notebook that was pushed to the loopback Kaggle, run as it was pushed, with the inputs that it was given."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.sandbox.execute import EXECUTED, LOG, execute, failed_cell
from kaggle_kit.sandbox.image import ready_image
from kaggle_kit.sandbox.kaggle_room import kaggle_room, room_folder
from kaggle_kit.sandbox.layout import mounts_of
from kaggle_kit.sandbox.seal import choose_seal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


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
    say: Callable[[str], None],
    offer: Path | None = None,
) -> PushedRun:
    """Execute `notebook` in a sealed /kaggle that holds `sources`; its files come to `out`, as Kaggle keeps them.

    `sources`: each its group ("competitions", "datasets", "models") and reference, and its folder here. `offer`:
    what stands in for the package index, of a notebook with internet (`model_run.offer_of`). Raises SandboxError where
    this machine cannot make the room.
    """
    seal = choose_seal(None)
    image = ready_image(progress=say)
    with room_folder() as scratch:
        path = scratch / "notebook.ipynb"
        path.write_bytes(notebook)
        results = scratch / "results"
        results.mkdir()
        room = kaggle_room(
            path,
            inputs=mounts_of(sources),
            image=image,
            scratch=scratch,
            results=results,
            working_bytes=working_bytes,
            offer=offer,
        )
        execution = execute(seal, room, python=image.python, log=scratch / LOG, limit_seconds=limit_seconds, show=say)
        executed = scratch / "out" / EXECUTED
        shutil.copytree(results, out, dirs_exist_ok=True)
        if executed.is_file():
            shutil.copyfile(executed, out / EXECUTED)
        if execution.limit_reached:
            return PushedRun(execution.seconds, f"the session's {limit_seconds:g} s were over")
        if execution.exit_code:
            failed = failed_cell(executed) if executed.is_file() else None
            return PushedRun(execution.seconds, "in cell {}: {}".format(*failed) if failed else "papermill failed")
        return PushedRun(execution.seconds, None)
