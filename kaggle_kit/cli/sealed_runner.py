"""How the loopback Kaggle of a rehearsal runs what was pushed: in the sealed /kaggle, with what was attached."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from kaggle_kit.loopback.runs import KernelInput, KernelRun, Runner, RunOutcome
    from kaggle_kit.sandbox.seal import Seal
    from kaggle_kit.targets import Target

_GROUPS = {"dataset": "datasets", "model": "models", "competition": "competitions"}
"""Kind of an input → the folder below /kaggle/input in which Kaggle mounts it."""


def sealed_runner(target: Target, *, seal: Seal, tell: Callable[[str], None]) -> Runner:
    """Runs a pushed notebook in `seal` as `target` would, for at most its session.

    `tell` hears the notebook's own lines.
    """
    from kaggle_kit.loopback.runs import RunOutcome
    from kaggle_kit.sandbox.model_run import offer_of, packages_of
    from kaggle_kit.sandbox.pushed import run_pushed

    def run(asked: KernelRun) -> RunOutcome:
        ended = run_pushed(
            asked.notebook,
            sources=[((_GROUPS[one.kind], _reference(one)), one.folder) for one in asked.inputs if one.kind in _GROUPS],
            out=asked.out,
            working_bytes=target.working_bytes,
            limit_seconds=min(asked.timeout or target.session_seconds, target.session_seconds),
            seal=seal,
            say=_both(asked.say, tell),
            offer=offer_of(target, packages_of(target)) if asked.internet else None,
        )
        return RunOutcome("ERROR", ended.problem) if ended.problem else RunOutcome("COMPLETE")

    return run


def _reference(one: KernelInput) -> str:
    return f"{one.reference}/{one.version}" if one.kind == "model" else one.reference


def _both(log: Callable[[str], None], tell: Callable[[str], None]) -> Callable[[str], None]:
    """Into the run's log; the notebook's own lines also to the person who waits."""
    from kaggle_kit.cli.dryrun import PAPERMILL

    def say(line: str) -> None:
        log(line)
        if line and "Executing Cell" not in line and not line.startswith(PAPERMILL):
            tell(line)

    return say
