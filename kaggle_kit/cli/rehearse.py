"""`kit rehearse`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kaggle_kit.cli.options import open_project, run_options
from kaggle_kit.cli.terminal import say, show
from kaggle_kit.files import user_config
from kaggle_kit.places import inside_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kaggle_kit.evaluation.metrics import Solution
    from kaggle_kit.loopback.faults import Fault
    from kaggle_kit.loopback.runs import KernelInput, KernelRun, Runner, RunOutcome
    from kaggle_kit.loopback.server import LoopbackKaggle
    from kaggle_kit.loopback.worlds import World
    from kaggle_kit.notebook.build import Build
    from kaggle_kit.project import Project
    from kaggle_kit.sandbox.seal import Seal
    from kaggle_kit.targets import Target

_FOLDER = click.Path(path_type=Path)
_GROUPS = {"dataset": "datasets", "model": "models", "competition": "competitions"}
"""Kind of an input → the folder below /kaggle/input in which Kaggle mounts it."""


def _list_faults(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    from kaggle_kit.loopback.faults import FAULTS

    for fault in FAULTS.values():
        show(f"{fault.name:<32}{fault.does}")
    context.exit()


class _Rehearse(click.Command):
    """The command, whose help lists the worlds there are."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the worlds below the options."""
        from kaggle_kit.loopback.worlds import WORLDS

        with formatter.section("Worlds"):
            formatter.write_dl([(world.name, world.does) for world in WORLDS.values()])
        super().format_epilog(ctx, formatter)


@click.command(cls=_Rehearse)
@click.argument("name")
@click.option("--rows", metavar="N", type=click.IntRange(min=1), help="Only the first N rows of the sample.")
@click.option("--data", metavar="DIR", type=_FOLDER, help="A folder with test.csv and sample_submission.csv.")
@click.option("--solution", metavar="FILE", type=_FOLDER, help="The true outcomes, for the score.")
@click.option("--target", "target_name", metavar="T", default="local-cpu", show_default=True, help="The target.")
@click.option(
    "--fault", "faults", metavar="FAULT", multiple=True, help="Let this go wrong; may be given several times."
)
@click.option(
    "--faults",
    "list_faults",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_faults,
    help="List what can go wrong.",
)
@click.option(
    "--world",
    "worlds",
    metavar="WORLD",
    multiple=True,
    help="How Kaggle answers (see below), or all; of several, one after the other.",
)
@click.option(
    "--stand-in",
    is_flag=True,
    help="Run no notebook: hand in the sample submission. For any target, without its wheels.",
)
@click.option("--again", is_flag=True, help="Go on with the Kaggle of the last rehearsal instead of an empty one.")
@click.option("--out", metavar="DIR", type=_FOLDER, help="Where the rehearsal lies (default: runs/rehearsal-NAME).")
@run_options
def rehearse(
    name: str,
    faults: tuple[str, ...],
    worlds: tuple[str, ...],
    stand_in: bool,
    again: bool,
    out: Path | None,
    **given: Any,
) -> int:
    """Rehearse a whole release on this machine: push, ready, run, output, submission, score.

    Starts a Kaggle of its own on 127.0.0.1, and pushes to it with kit push and the official client, as to the real
    one. The pushed notebook runs in the sealed /kaggle with the inputs that were attached. Nothing leaves the machine.
    A notebook with internet, which makes a model, ends with its model here, and finds its packages in a folder.

    Kaggle's answers are known in several forms. With --world this Kaggle answers in one of them; a release must come to
    the same end in all. With --stand-in nothing is run, so that every world takes some seconds.

    \b
    Examples:
      kit rehearse lmsys
      kit rehearse lmsys --world absence-403
      kit rehearse lmsys --world all --stand-in
      kit rehearse lmsys --rows 20 --again
      kit rehearse lmsys -p token_budget=384 --fault push-reply-lost --again

    Exit code 0 where the release went through to its score, or to a whole model; in a world in which it cannot, where
    it said so.
    """
    from kaggle_kit.errors import UsageError
    from kaggle_kit.loopback.faults import find_fault
    from kaggle_kit.loopback.worlds import find_worlds
    from kaggle_kit.sandbox.dryrun import chosen_seal
    from kaggle_kit.targets import load_target

    project = open_project(given["project_folder"])
    project.notebook(name)
    target = load_target(given["target_name"], project=project.root)
    folder = (out or project.place("runs", f"rehearsal-{name}")).absolute()
    if again and out is None:
        inside_whole(project.root, folder)
    asked = [find_fault(fault) for fault in faults]
    chosen = find_worlds(worlds or ("plain",))
    if stand_in and project.notebook(name).internet:
        raise UsageError(f"--stand-in is of notebooks that are handed in; {name} makes a model")
    runner = _stand_in if stand_in else _sealed_runner(project, target, chosen_seal(given["seal_name"], say))

    _make_folder(folder, again=again)
    data, solution = _prepare(project, name, target, folder, given, stand_in=stand_in)
    release = _Release(project, name, data, solution, runner, builds=folder / "build")
    if len(chosen) == 1:
        return release.rehearse(folder, chosen[0], asked)

    codes = {}
    for world in chosen:
        say(f"world {world.name}: {world.does}")
        codes[world.name] = release.rehearse(folder / "worlds" / world.name, world, asked)
    for world_name, code in codes.items():
        show(f"{world_name:<28}{'as it must' if code == 0 else 'NOT as it must: see above'}")
    return max(codes.values())


@dataclass(frozen=True)
class _Release:
    """What is rehearsed: a built notebook, its data, and what runs it."""

    project: Project
    name: str
    data: Path
    solution: Solution | None
    runner: Runner
    builds: Path

    def rehearse(self, folder: Path, world: World, faults: Sequence[Fault]) -> int:
        """One rehearsal in `folder`, and its exit code: 0 if it ended as `world` says that it must."""
        for part in ("kaggle", "home", "tmp"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        with _kaggle(self, folder, world, faults) as kaggle:
            code = _push(self.project, self.name, kaggle, folder, builds=self.builds)
            for fault in faults:
                times = kaggle.faults.fired[fault.name]
                struck = f"struck {times} of {fault.times} times" if times else "never came to strike"
                say(f"fault {fault.name}: {struck}")
            if kaggle.mistakes:
                raise kaggle.mistakes[0]
        code = _end(folder, self.name, code, online=self.project.notebook(self.name).internet)
        if world.ends:
            return code
        if code == 1:
            show(f"world {world.name}: no release can come to its end there, and this one said so")
        return 0 if code == 1 else 1


def _make_folder(folder: Path, *, again: bool) -> None:
    """An empty folder, or with `again` the last rehearsal's. Raises UsageError where something else lies there."""
    from kaggle_kit.errors import UsageError
    from kaggle_kit.files import remove_aside

    if folder.exists() and not ((folder / "kaggle").is_dir() or (folder.is_dir() and not any(folder.iterdir()))):
        raise UsageError(f"--out {folder} exists and is not a rehearsal's folder; name a new one, or an empty one")
    if folder.exists() and not again:
        remove_aside(folder)
    for part in ("kaggle", "home", "tmp"):
        (folder / part).mkdir(parents=True, exist_ok=True)


def _prepare(
    project: Project, name: str, target: Target, folder: Path, given: dict[str, Any], *, stand_in: bool = False
) -> tuple[Path, Solution | None]:
    """Build the notebook, lay out the wheelhouse's parts that it attaches, check the data.

    Returns the competition's folder as the run will see it, and the true outcomes, None where nothing is handed in.
    """
    from kaggle_kit.cli.wheels import fetch_progress
    from kaggle_kit.notebook.build import build
    from kaggle_kit.sandbox.dryrun import quantizer_packages, refuse_cards
    from kaggle_kit.wheelhouse.dataset import make_kit_part, make_stand_in, ready_parts
    from kaggle_kit.wheelhouse.folder import ready_wheelhouse, wheelhouse_path

    if not stand_in:
        refuse_cards(target, "a rehearsal")
    online = project.notebook(name).internet
    built = build(
        project,
        name,
        target=target,
        assignments=given["assignments"],
        out=folder / "build" / name,
        packages=quantizer_packages(target).lock if online else None,
    )
    parts, reference = folder / "build" / f"wheels-{target.name}", project.wheelhouses[target.name]
    if online:
        data = _data_only(project, name, given)
        make_kit_part(target.name, reference=reference, out=parts)
        return data, None
    data, solution = _competition(project, built, folder, given)
    if stand_in:
        make_stand_in(target.name, wheelhouse_path(project.root, target.name), reference=reference, out=parts)
        return data, solution
    with fetch_progress() as fetching:
        wheelhouse = ready_wheelhouse(target, project=project.root, progress=fetching)
    ready_parts(wheelhouse.folder, reference=reference, out=parts)
    return data, solution


def _data_only(project: Project, name: str, given: dict[str, Any]) -> Path:
    """The data of a notebook that makes a model. Raises UsageError for options of notebooks that are handed in."""
    from kaggle_kit.errors import UsageError

    for option in ("rows", "solution"):
        if given[option] is not None:
            raise UsageError(f"--{option} is of notebooks that are handed in; {name} makes a model")
    return project.data_folder(name, given["data"])


def _competition(project: Project, built: Build, folder: Path, given: dict[str, Any]) -> tuple[Path, Solution]:
    """The competition's files, whole or cut to the rows that are wanted, and the true outcomes."""
    from kaggle_kit.errors import UsageError
    from kaggle_kit.sandbox.preflight import check_scoring, cut_competition

    inputs = check_scoring(project, built, data=given["data"], solution=given["solution"])
    if inputs.solution is None:
        raise UsageError(
            f"no solution: name the true outcomes with --solution FILE, or as notebooks.{built.name}.solution"
        )
    shutil.rmtree(folder / "data", ignore_errors=True)
    competition = cut_competition(inputs.competition, rows=given["rows"], out=folder / "data")
    return competition.folder, inputs.solution


def _sealed_runner(project: Project, target: Target, seal: Seal) -> Runner:
    """Runs a pushed notebook in `seal` as `target` would, with what was attached, for at most its session."""
    from kaggle_kit.loopback.runs import RunOutcome
    from kaggle_kit.sandbox.dryrun import package_folder, quantizer_packages
    from kaggle_kit.sandbox.execute import run_pushed
    from kaggle_kit.wheelhouse.environments import ready_bytecode
    from kaggle_kit.wheelhouse.folder import ready_wheelhouse

    def bytecode() -> Path | None:
        return ready_bytecode(ready_wheelhouse(target, project=project.root).folder, say=say)

    def run(asked: KernelRun) -> RunOutcome:
        problem = run_pushed(
            asked.notebook,
            sources=[_mounted(given) for given in asked.inputs if given.kind in _GROUPS],
            out=asked.out,
            working_bytes=target.working_bytes,
            limit_seconds=min(asked.timeout or target.session_seconds, target.session_seconds),
            seal=seal,
            say=_shown_too(asked.say),
            packages=package_folder(target, quantizer_packages(target)) if asked.internet else None,
            bytecode=None if asked.internet else bytecode(),
        )
        return RunOutcome("ERROR", problem) if problem else RunOutcome("COMPLETE")

    return run


def _stand_in(asked: KernelRun) -> RunOutcome:
    """What stands for a notebook's run: the competition's sample is its submission."""
    from kaggle_kit.loopback.runs import RunOutcome
    from kaggle_kit.sandbox.preflight import SAMPLE

    asked.say("a stand-in for the run: no cell is run, and the sample is handed in")
    (competition,) = (given.folder for given in asked.inputs if given.kind == "competition")
    shutil.copyfile(competition / SAMPLE, asked.out / "submission.csv")
    return RunOutcome("COMPLETE")


def _mounted(given: KernelInput) -> tuple[tuple[str, str], Path]:
    reference = f"{given.reference}/{given.version}" if given.kind == "model" else given.reference
    return (_GROUPS[given.kind], reference), given.folder


def _shown_too(log: Callable[[str], None]) -> Callable[[str], None]:
    """Into the run's log; the notebook's own lines also to the person who waits."""
    from kaggle_kit.cli.dryrun import is_notebook_line

    def say_line(line: str) -> None:
        log(line)
        if is_notebook_line(line):
            say(f"  {line}")

    return say_line


def _kaggle(release: _Release, folder: Path, world: World, faults: Sequence[Fault]) -> LoopbackKaggle:
    """The Kaggle of a rehearsal, which knows the competition, and the project's owner as its user."""
    from kaggle_kit.errors import RemoteError
    from kaggle_kit.evaluation.metrics import log_loss
    from kaggle_kit.loopback.server import LoopbackKaggle
    from kaggle_kit.loopback.service import Settings

    def judge(_: str, submission: Path) -> float:
        if release.solution is None:
            raise RemoteError("a notebook that ran with internet was handed in")
        return log_loss(submission, release.solution)

    kaggle = LoopbackKaggle(
        folder / "kaggle",
        runner=release.runner,
        judge=judge,
        settings=Settings(username=release.project.owner),
        faults=faults,
        worlds=(world,),
    )
    kaggle.add_competition(release.project.competition, release.data)
    return kaggle


def _push(project: Project, name: str, kaggle: LoopbackKaggle, folder: Path, *, builds: Path) -> int:
    """`kit push NAME --submit` in a process of its own, which can reach this Kaggle and nothing else.

    What ran with internet is not handed in: there it is `--wait`.
    """
    from kaggle_kit.runtime.permitted import TRUST_OPTION

    end = "--wait" if project.notebook(name).internet else "--submit"
    command = [sys.executable, "-P", "-m", "kaggle_kit.cli.main", "push", name, end, "--unproved"]
    command += ["--project", str(project.root), "--records", str(folder), "--builds", str(builds)]
    command += [TRUST_OPTION] if project.trusted else []
    say(f"a Kaggle for {project.owner} at {kaggle.url}")
    around = kaggle.environment(folder / "home", folder / "tmp") | {"KIT_CONFIG_DIR": str(user_config().absolute())}
    return subprocess.run(command, env=around, check=False).returncode


def _end(folder: Path, name: str, code: int, *, online: bool) -> int:
    """Say how the release ended, by its newest receipt."""
    receipts = sorted((folder / "receipts").glob(f"{name}-v*.json"), key=lambda path: path.stat().st_mtime_ns)
    body = json.loads(receipts[-1].read_text(encoding="utf-8")) if receipts else {}
    score = body.get("submission", {}).get("public_score")
    if code == 0 and receipts:
        show(f"receipt: {receipts[-1]}")
        end = f"its output is in {folder / 'runs'}" if online else f"score {score}"
        show(f"rehearsed: {body['notebook']} version {body['version']}, {end}")
    elif score is not None:
        say(f"the release came to its end, with the score {score}, but is not good: see above; it lies in {folder}")
    else:
        say(f"the release did not come to its end (kit push ended with {code}); what there is lies in {folder}")
        say("go on with: kit rehearse " + name + " --again")
    return code
