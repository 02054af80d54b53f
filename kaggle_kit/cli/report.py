"""`kit report` and `kit compare`: a run, or two side by side, as a page to look at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kaggle_kit.cli.options import open_project, project_option, stacked
from kaggle_kit.cli.terminal import say, show

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kaggle_kit.evaluation.run import Run, RunContext
    from kaggle_kit.evaluation.run_files import DryRun, Finding, Push
    from kaggle_kit.evaluation.texts import RunPrompts
    from kaggle_kit.project import Project
    from kaggle_kit.runtime.record import RunRecord
    from kaggle_kit.runtime.submission import Sample

_PATH = click.Path(path_type=Path)
_TEST, _SAMPLE, _SOLUTION = "test.csv", "sample_submission.csv", "solution.csv"
_LOG_BYTES = 256 << 20


_row_options = stacked(
    click.option("--data", metavar="DIR", type=_PATH, help="The rows' folder with test.csv (default: kit.toml's)."),
    click.option("--solution", metavar="FILE", type=_PATH, help="The true outcomes (default: kit.toml's)."),
    click.option("--calibration", metavar="FILE", type=_PATH, help="Another calibration.json for a scores file."),
    project_option,
)
"""What both commands take about a run's rows."""


@click.command()
@click.argument("run", type=_PATH)
@click.option("-o", "--out", metavar="FILE", type=_PATH, help="The page (default: report.html in the run's folder).")
@_row_options
def report(run: Path, out: Path | None, **given: Any) -> None:
    """Make one HTML page of a run: what ran, how it ended, where the time went, how good the answers are.

    RUN is the folder of a dry run or of a pushed run, a name in runs/, a receipt, or a scores file of kit eval. The
    page needs nothing else: no network, no script.

    \b
    Examples:
      kit report runs/lmsys
      kit report lmsys-v3 -o lmsys-v3.html
      kit report big.parquet --calibration calibration.json
    """
    from kaggle_kit.evaluation.report_page import report_page

    loaded, default = load_run(run, Given(**given))
    show(loaded.outcome)
    _write(out or default, report_page(loaded))


@click.command()
@click.argument("first", metavar="A", type=_PATH)
@click.argument("second", metavar="B", type=_PATH)
@click.option("-o", "--out", metavar="FILE", type=_PATH, help="The page (default: compare-A-B.html here).")
@_row_options
def compare(first: Path, second: Path, out: Path | None, **given: Any) -> None:
    """Make one HTML page of two runs side by side: what differs, metrics with paired differences, time.

    A and B are runs as in kit report, of any kind. Differences are B less A, over the rows of both,
    with 95 % intervals.

    \b
    Examples:
      kit compare small.parquet big.parquet
      kit compare runs/lmsys lmsys-v3 -o compare.html
    """
    from kaggle_kit.evaluation.assess import difference_if_any
    from kaggle_kit.evaluation.report_page import compare_page

    one, other = (load_run(named, Given(**given))[0] for named in (first, second))
    page = compare_page(one, other)
    difference = difference_if_any(one.predictions, other.predictions)
    for name, less in (difference.figures if difference else {}).items():
        show(f"{name:<12}{less.signed}")
    _write(out or Path(f"compare-{_stem(first)}-{_stem(second)}.html"), page)


def _stem(path: Path) -> str:
    return path.stem if path.suffix in (".parquet", ".json") else path.absolute().name


def _write(path: Path, page: str) -> None:
    from kaggle_kit.files import write_atomic

    body = page.encode("utf-8")
    write_atomic(path, body)
    say(f"{path}  {len(body):,} bytes")


@dataclass(frozen=True)
class Given:
    """What a user says of the rows and of the project; None if nothing is said."""

    data: Path | None = None
    solution: Path | None = None
    calibration: Path | None = None
    project_folder: Path | None = None


def load_run(named: Path, given: Given) -> tuple[Run, Path]:
    """The run that `named` means, and where its page goes by default.

    Raises UsageError if it names no run, DataError or ProjectError if a file of it is damaged.
    """
    from kaggle_kit.errors import UsageError

    project = _project(given)
    path = _run_path(named, project)
    if path.is_dir():
        return _from_folder(path, project, given), path / "report.html"
    if path.suffix == ".parquet":
        return _from_scores(path, given), path.with_suffix(".html")
    if path.suffix == ".json" and path.parent.name == "receipts":
        folder = path.parent.parent / "runs" / path.stem
        page = folder / "report.html" if folder.is_dir() else path.with_suffix(".html")
        return _from_folder(folder, project, given), page
    raise UsageError(f"{path} is no run: name the folder of a dry run or of a pushed run, a receipt, or a scores file")


def _project(given: Given) -> Project | None:
    """The project around; None if there is none and none was named."""
    from kaggle_kit.errors import ProjectError

    try:
        return open_project(given.project_folder)
    except ProjectError:
        if given.project_folder is not None:
            raise
        return None


def _run_path(named: Path, project: Project | None) -> Path:
    """The path itself, or the run of that name in the project's runs/."""
    from kaggle_kit.errors import UsageError

    if named.exists():
        return named
    plain = not named.is_absolute() and ".." not in named.parts
    if project is not None and plain and (below := project.place("runs", *named.parts)).exists():
        return below
    raise UsageError(f"{named} is missing; name a run's folder, a receipt, or a scores file of kit eval")


def _from_scores(path: Path, given: Given) -> Run:
    from kaggle_kit.evaluation.run import scores_run
    from kaggle_kit.evaluation.scores import read_scores
    from kaggle_kit.runtime.combine import read_calibration_file

    scores = read_scores(path)
    calibration = read_calibration_file(given.calibration, columns=scores.columns) if given.calibration else None
    return scores_run(scores, path.stem, calibration=calibration)


def _from_folder(folder: Path, project: Project | None, given: Given) -> Run:
    from kaggle_kit.evaluation.run import read_run
    from kaggle_kit.evaluation.run_files import read_report
    from kaggle_kit.remote.runs import kept_log
    from kaggle_kit.runtime.record import RECORD, read_record

    report, record = read_report(folder), read_record(folder / RECORD)
    push = None if report else _push(folder)
    name = (report.notebook if report else push.name if push else "") or folder.name

    context = _rows(folder, name, project, given)
    failure = (push.run.failure if push else None) or ""
    log, findings = _log(kept_log(folder), failure) if _failed(report, record, push) else ("", [])
    return read_run(folder, replace(context, log=log, findings=findings, push=push))


def _push(folder: Path) -> Push | None:
    """The receipt of runs/NAME-vN, which has the same name in receipts/ beside runs/."""
    from kaggle_kit.evaluation.run_files import Push
    from kaggle_kit.remote.receipt import FOLDER, read_receipt

    path = folder.absolute().parent.parent / FOLDER / f"{folder.name}.json"
    return Push.from_json(read_receipt(path).to_json()) if path.is_file() else None


def _failed(report: DryRun | None, record: RunRecord, push: Push | None) -> bool:
    from kaggle_kit.runtime.record import COMPLETE, RunRecord

    if report:
        return not report.complete
    if push is None or push.run.state in (None, COMPLETE):
        return bool(record.failed) or record == RunRecord()
    return not push.going_on


def _log(path: Path, failure: str) -> tuple[str, list[Finding]]:
    """The log of a failed run, readable and without secrets, and what it means with Kaggle's message `failure`."""
    from kaggle_kit.evaluation.run_files import Finding
    from kaggle_kit.outside import read_bytes
    from kaggle_kit.remote.diagnosis import decode, read_log
    from kaggle_kit.secrets import mask

    if not path.is_file():
        return "", []
    raw = read_bytes(path, most_bytes=_LOG_BYTES).decode("utf-8", "replace")
    findings = [
        Finding(one.cause, one.next_step, one.place, one.line, mask(one.text), tuple(mask(line) for line in one.block))
        for one in decode(raw, failure_message=failure)[:3]
    ]
    return mask(read_log(raw).text), findings


def _rows(folder: Path, name: str, project: Project | None, given: Given) -> RunContext:
    """What is known of the rows: by what the user named, else by kit.toml where its data are the run's."""
    from kaggle_kit.errors import KitError
    from kaggle_kit.evaluation.run import RunContext
    from kaggle_kit.evaluation.run_files import read_submission
    from kaggle_kit.runtime.record import SUBMISSION

    table = read_submission(folder / SUBMISSION)

    data, solution = _places(name, project, given)
    if table is None or not table.ids:
        return RunContext()
    said = given.data is not None or given.solution is not None
    outcomes = _outcomes(solution, table.columns, table.ids, said=said)

    if data is None or not (data / _TEST).is_file():
        return RunContext(outcomes=outcomes)
    sample = _sample(data / _SAMPLE, table.ids, said=said)
    if sample is None:
        return RunContext(outcomes=outcomes)

    try:
        prompts = _prompts(folder, name, project, data / _TEST, outcomes or {})
    except KitError as error:
        if said:
            raise
        note = f"The prompts could not be made again: {error}"
        return RunContext(outcomes=outcomes, sample=sample, notes=(note,))
    return RunContext(outcomes=outcomes, sample=sample, prompts=prompts)


def _places(name: str, project: Project | None, given: Given) -> tuple[Path | None, Path | None]:
    """The folder of the data and the file of the outcomes."""
    if given.data is not None:
        beside = given.data / _SOLUTION
        return given.data, given.solution or (beside if beside.is_file() else None)
    notebook = project.notebooks.get(name) if project else None
    if project is None or notebook is None:
        return None, given.solution
    data = project.data_folder(name, None) if notebook.data else None
    solution = project.path(notebook.solution, key=f"notebooks.{name}.solution") if notebook.solution else None
    return data, given.solution or solution


def _outcomes(
    solution: Path | None, columns: Sequence[str], ids: Sequence[str], *, said: bool
) -> Mapping[str, str] | None:
    """The outcomes of the run's rows; None if they are of other rows and were not asked for."""
    from kaggle_kit.errors import DataError
    from kaggle_kit.evaluation.metrics import read_solution

    if solution is None:
        return None
    try:
        outcomes = read_solution(solution, columns=columns).outcomes
    except DataError:
        if said:
            raise
        return None
    if any(row_id in outcomes for row_id in ids):
        return outcomes
    if said:
        raise DataError(f"{solution} has none of the run's rows; name the outcomes of its rows with --solution")
    return None


def _sample(path: Path, ids: Sequence[str], *, said: bool) -> Sample | None:
    """The sample's part that the run was about: a dry run may have been of its first rows only.

    None if the run was of other data and these were not asked for.
    """
    from kaggle_kit.errors import DataError
    from kaggle_kit.runtime.submission import Sample, read_sample

    try:
        sample = read_sample(path)
    except DataError:
        if said:
            raise
        return None
    if sample.ids[: len(ids)] == tuple(ids):
        return Sample(sample.id_column, sample.columns, sample.ids[: len(ids)])
    return sample if said or set(sample.ids) & set(ids) else None


def _prompts(
    folder: Path, name: str, project: Project | None, test: Path, outcomes: Mapping[str, str]
) -> RunPrompts | None:
    """The prompts, by the sources as they are now and the token budget with which the run ran."""
    from kaggle_kit.evaluation.run import worst_ids
    from kaggle_kit.evaluation.run_files import parameters_of
    from kaggle_kit.evaluation.texts import make_prompts
    from kaggle_kit.notebook.source import notebook_task
    from kaggle_kit.runtime.record import EXECUTED

    if project is None or name not in project.notebooks:
        return None
    task, parameters = notebook_task(project, name, assignments=())
    ran = parameters_of(folder / EXECUTED).get("token_budget", "")
    model = project.notebooks[name].model
    id_column, ids, wanted = worst_ids(folder, outcomes)
    return make_prompts(
        test,
        id_column=id_column,
        task=task,
        model=project.model_folder(model),
        token_budget=int(ran) if ran.isdecimal() else int(parameters["token_budget"]),
        ids=ids,
        wanted=wanted,
    )
