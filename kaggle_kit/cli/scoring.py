"""`kit score`, and what a notebook's rows are scored with on this machine: for every command that starts a worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kaggle_kit.cli.options import open_project, run_options
from kaggle_kit.cli.terminal import say, show, show_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kaggle_kit.evaluation.score_file import Scoring
    from kaggle_kit.project import Project
    from kaggle_kit.runtime.launch import Launch
    from kaggle_kit.runtime.record import RunRecord
    from kaggle_kit.sandbox.seal import Seal

HERE = "local-cpu"
"""The target whose wheelhouse runs anywhere."""
NOT_SEALED = "none"
_FILE = click.Path(path_type=Path)
UNSEALED = "The model's worker sees and may change every file that this user may, and reaches the network."


def notebook_name(project: Project, name: str | None) -> str:
    """The notebook that is meant: `name`, or the only one that scores. Raises UsageError if it must be named."""
    from kaggle_kit.errors import UsageError

    if name is not None:
        return name
    scoring = [each for each, notebook in project.notebooks.items() if not notebook.internet]
    if len(scoring) == 1:
        return scoring[0]
    raise UsageError(f"name the notebook with --notebook; the project has {', '.join(sorted(project.notebooks))}")


def model_of(project: Project, name: str, model_name: str | None) -> str:
    """The model that is meant: `model_name`, or the notebook's own. Raises UsageError for an unknown one."""
    from kaggle_kit.errors import UsageError
    from kaggle_kit.suggest import did_you_mean

    if model_name is None:
        return project.notebook(name).model
    if model_name not in project.models:
        raise UsageError(
            f"kit.toml has no model {model_name!r}{did_you_mean(model_name, project.models)}; "
            f"known: {', '.join(sorted(project.models))}"
        )
    return model_name


@dataclass(frozen=True)
class WorkerSeal:
    """What workers run in: its name, and plain sentences about what it leaves open."""

    name: str
    unsealed: tuple[str, ...]
    seal: Seal | None

    def launch(self, *, cards: bool) -> Launch:
        """What starts workers in it; with `cards` they see this machine's."""
        from kaggle_kit.runtime.launch import launch_plain
        from kaggle_kit.sandbox.worker_seal import SealedLaunch

        return launch_plain if self.seal is None else SealedLaunch(self.seal, cards=cards)


def open_seal(wanted: str | None) -> WorkerSeal:
    """The seal of workers, said before anything starts. Raises KitError if the wanted one does not work here."""
    from kaggle_kit.sandbox.seal import choose_seal

    seal = choose_seal(wanted)
    if seal.name == NOT_SEALED:
        say(f"seal: none. {UNSEALED}")
        return WorkerSeal(NOT_SEALED, (UNSEALED,), None)
    sentence = " ".join((f"seal: {seal.name}, without a network.", *seal.unsealed))
    say(sentence)
    return WorkerSeal(seal.name, seal.unsealed, seal)


def labelled_rows(project: Project, name: str, data: Path | None, *, named: str) -> Path:
    """The table of labelled rows: of `data`, or the notebook's own. UsageError asks for `named` if there is neither."""
    from kaggle_kit.errors import UsageError
    from kaggle_kit.evaluation.evaluate import labelled_table

    if project.notebook(name).data is None and data is None:
        raise UsageError(f"notebooks.{name} of kit.toml has no data; name {named} with --data")
    return labelled_table(project.data_folder(name, data))


def open_scoring(
    project: Project,
    name: str,
    *,
    assignments: Sequence[str],
    engine: str | None,
    python: Path | None = None,
    swapped: bool = False,
    target_name: str = HERE,
    model_name: str | None = None,
    seal_name: str | None = None,
) -> Scoring:
    """The scoring of the notebook `name` in the environment of a target's wheelhouse, fetched and installed if needed.

    `engine`, `python` and `model_name` take the place of the notebook's engine, of that environment, and of its model;
    `seal_name` names the seal of its worker.
    """
    from kaggle_kit.cli.wheels import fetch_progress
    from kaggle_kit.evaluation.score_file import Scoring
    from kaggle_kit.notebook.source import notebook_task
    from kaggle_kit.runtime.engine_plan import EngineSetup
    from kaggle_kit.runtime.engines import is_vllm
    from kaggle_kit.runtime.machine import engine_cards, engine_version, find_cards
    from kaggle_kit.runtime.permitted import check_options
    from kaggle_kit.targets import load_target
    from kaggle_kit.targets.rates import load_rates
    from kaggle_kit.wheelhouse.environments import ready_environment
    from kaggle_kit.wheelhouse.folder import kit_wheel, ready_wheelhouse

    notebook = project.notebook(name)
    model = model_of(project, name, model_name)
    task, parameters = notebook_task(project, name, assignments=assignments)
    target = load_target(target_name, project=project.root)
    engine = engine or notebook.engine
    options = target.options_for(engine)
    if is_vllm(engine) == is_vllm(notebook.engine):
        options |= notebook.engine_options
    check_options(options, where=f"engine_options of {name} for {target.name}", trusted=project.trusted)
    seal = open_seal(seal_name)
    measured = load_rates(target.name, project=project.root)
    with fetch_progress() as progress:
        wheelhouse = ready_wheelhouse(target, project=project.root, progress=progress)
    if wheelhouse.note:
        say(wheelhouse.note)
    cards = find_cards() if python else engine_cards([wheelhouse.folder])
    return Scoring(
        task=task,
        model=project.model_folder(model),
        python=(python or ready_environment(wheelhouse.folder, say=say)).absolute(),
        setup=EngineSetup(
            engine=engine,
            version=engine_version([wheelhouse.folder]),
            cards=cards,
            options=options,
            environment=target.worker_environment | {"PYTHONPATH": str(kit_wheel(wheelhouse.folder))},
            rates=measured.by_kernel if measured else {},
            kernel=notebook.kernel,
        ),
        token_budget=int(parameters["token_budget"]),
        swapped=swapped,
        launch=seal.launch(cards=bool(cards)),
        seal=seal.name,
        unsealed=seal.unsealed,
    )


def open_vllm(project: Project, name: str, given: Mapping[str, Any]) -> Scoring:
    """`open_scoring` with vLLM, and with a command's parameters and seal."""
    return open_scoring(project, name, assignments=given["assignments"], engine="vllm", seal_name=given["seal_name"])


@click.command()
@click.argument("source", metavar="INPUT", type=_FILE)
@click.option("-o", "--out", metavar="OUT", type=_FILE, required=True, help="Where the probabilities go.")
@click.option("--notebook", "name", metavar="NAME", help="The notebook whose task and model are used (if several).")
@click.option("--id", "id_column", metavar="COLUMN", help="The id column (default: id, else the row's number).")
@click.option("--rows", metavar="N", type=click.IntRange(min=1), help="Only the first N rows.")
@click.option("--engine", metavar="E", help="vllm, vllm-classify, or transformers (default: the notebook's).")
@click.option("--python", metavar="FILE", type=_FILE, help="An environment's Python that has the engine already.")
@click.option("--plain", is_flag=True, help="Without the swapped pass.")
@click.option("--json", "as_json", is_flag=True, help="Print the run's figures as JSON.")
@run_options
def score(source: Path, out: Path, as_json: bool, project_folder: Path | None, **given: Any) -> int:
    """Score the rows of a table on this machine, with a notebook's own prompt, model and worker.

    INPUT and OUT are .csv, .jsonl or .parquet. OUT gets each row's id, the labels' probabilities, the label mass,
    and what was cut or could not be read. A call that was interrupted goes on where it stopped.

    \b
    Examples:
      kit score validation.csv -o scores.csv
      kit score pseudo.jsonl -o labels.parquet --notebook lmsys --plain
      kit score train.csv -o reference.csv --engine transformers --rows 200

    Exit code 1 where the label mass is low: the model would rather say something else than a label.
    """
    from kaggle_kit.evaluation.score_file import score_file
    from kaggle_kit.evaluation.tables import check_ending
    from kaggle_kit.runtime.progress import ProgressLine
    from kaggle_kit.runtime.record import RunRecord

    check_ending(source)
    check_ending(out)
    project = open_project(project_folder)
    scoring = open_scoring(
        project,
        notebook_name(project, given["name"]),
        assignments=given["assignments"],
        engine=given["engine"],
        python=given["python"],
        swapped=not given["plain"],
        seal_name=given["seal_name"],
    )
    line = ProgressLine(deadline=float("inf"), write=say)
    scored = score_file(
        source, out, scoring=scoring, id_column=given["id_column"], rows=given["rows"], on_event=line.show
    )
    if as_json:
        show_json({**scored.figures, "seal": dict(scored.seal), "out": str(out)}, sort_keys=True)
    else:
        rows = scored.counts.rows
        show(
            f"{out}: {rows.total:,} rows, {rows.scored:,} scored by the model ({rows.swapped:,} in both orders), "
            f"{rows.ruled:,} by a rule, {rows.prior:,} with the prior"
        )
    return low_mass(RunRecord(label_mass=scored.counts.label_mass))


def low_mass(record: RunRecord) -> int:
    """Say so if the model would rather say something else than a label. Returns the command's exit code."""
    if not record.low_mass:
        return 0
    say(record.low_mass)
    return 1
