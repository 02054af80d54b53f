"""What is at hand about a run that a report is asked for: its files, its receipt, its log decoded, its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.cli.options import open_project

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.evaluation.run_facts import Run
    from kaggle_kit.evaluation.run_texts import Texts
    from kaggle_kit.project import Project
    from kaggle_kit.runtime.submission import Sample

_TEST, _SAMPLE, _SOLUTION = "test.csv", "sample_submission.csv", "solution.csv"
_LOG_BYTES = 256 << 20


@dataclass(frozen=True)
class Given:
    """What a user says of the rows and of the project; None where nothing is said."""

    data: Path | None = None
    solution: Path | None = None
    calibration: Path | None = None
    project_folder: Path | None = None


@dataclass(frozen=True)
class Rows:
    """What is known of a run's rows."""

    outcomes: Mapping[str, str] | None = None
    sample: Sample | None = None
    texts: Texts | None = None
    notes: Sequence[str] = ()


def load_run(named: Path, given: Given) -> tuple[Run, Path]:
    """The run that `named` means, and where its page goes by default.

    Raises UsageError where it names no run, DataError or ProjectError where a file of it is damaged.
    """
    from kaggle_kit.errors import UsageError

    project = _project(given)
    path = _found(named, project)
    if path.is_dir():
        return _from_folder(path, project, given), path / "report.html"
    if path.suffix == ".parquet":
        return _from_scores(path, given), path.with_suffix(".html")
    if path.suffix == ".json" and path.parent.name == "receipts":
        folder = path.parent.parent / "runs" / path.stem
        return _from_folder(folder, project, given), folder / "report.html" if folder.is_dir() else path.with_suffix(
            ".html"
        )
    raise UsageError(f"{path} is no run: name the folder of a dry run or of a pushed run, a receipt, or a scores file")


def _project(given: Given) -> Project | None:
    """The project around; None where there is none and none was named."""
    from kaggle_kit.errors import ProjectError

    try:
        return open_project(given.project_folder)
    except ProjectError:
        if given.project_folder is not None:
            raise
        return None


def _found(named: Path, project: Project | None) -> Path:
    """The path itself, or the run of that name in the project's runs/."""
    from kaggle_kit.errors import UsageError

    if named.exists():
        return named
    plain = not named.is_absolute() and ".." not in named.parts
    if project is not None and plain and (below := project.place("runs", *named.parts)).exists():
        return below
    raise UsageError(f"{named} is missing; name a run's folder, a receipt, or a scores file of kit eval")


def _from_scores(path: Path, given: Given) -> Run:
    from kaggle_kit.evaluation.scores import read_scores
    from kaggle_kit.evaluation.scores_run import scores_run
    from kaggle_kit.runtime.combine import read_calibration_file

    scores = read_scores(path)
    calibration = read_calibration_file(given.calibration, columns=scores.columns) if given.calibration else None
    return scores_run(scores, path.stem, calibration=calibration)


def _from_folder(folder: Path, project: Project | None, given: Given) -> Run:
    from kaggle_kit.evaluation.read_run import Material, read_run
    from kaggle_kit.evaluation.record import read_record
    from kaggle_kit.evaluation.run_facts import read_report
    from kaggle_kit.remote.runs import kept_log
    from kaggle_kit.runtime.summary import RECORD

    report, record = read_report(folder), read_record(folder / RECORD)
    receipt = None if report else _receipt(folder)
    name = str(report.get("notebook") or (receipt or {}).get("name") or folder.name)
    rows = _rows(folder, name, project, given)
    log, findings = _log(kept_log(folder), failed=_failed(report, record, receipt), receipt=receipt or {})
    material = Material(
        log=log,
        findings=findings,
        outcomes=rows.outcomes,
        sample=rows.sample,
        texts=rows.texts,
        receipt=receipt,
        notes=rows.notes,
    )
    return read_run(folder, material)


def _receipt(folder: Path) -> dict[str, Any] | None:
    """The receipt of runs/NAME-vN, which stands by the same name in receipts/ beside runs/."""
    from kaggle_kit.remote.receipt import FOLDER, read_receipt

    path = folder.absolute().parent.parent / FOLDER / f"{folder.name}.json"
    return read_receipt(path).to_json() if path.is_file() else None


def _failed(report: Mapping[str, Any], record: Mapping[str, Any], receipt: Mapping[str, Any] | None) -> bool:
    from kaggle_kit.evaluation.read_run import GOING_ON

    if report:
        return not report.get("complete")
    state = ((receipt or {}).get("run") or {}).get("state")
    if state in (None, "COMPLETE"):
        return bool(record.get("failed")) or not record
    return state not in GOING_ON


def _log(path: Path, *, failed: bool, receipt: Mapping[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """The log of a failed run, readable and without secrets, and what it means."""
    from kaggle_kit.outside import read_bytes
    from kaggle_kit.remote.diagnosis import decode
    from kaggle_kit.remote.log_text import read_log
    from kaggle_kit.secrets import mask

    if not failed or not path.is_file():
        return "", []
    raw = read_bytes(path, most_bytes=_LOG_BYTES).decode("utf-8", "replace")
    message = (receipt.get("run") or {}).get("failure") or ""
    findings = [finding.to_json() for finding in decode(raw, failure_message=message)[:3]]
    for finding in findings:
        finding["text"], finding["block"] = mask(finding["text"]), [mask(line) for line in finding["block"]]
    return mask(read_log(raw).text), findings


def _rows(folder: Path, name: str, project: Project | None, given: Given) -> Rows:
    """The rows by what the user named, else by kit.toml where its data are the run's; nothing where neither is."""
    from kaggle_kit.errors import KitError
    from kaggle_kit.evaluation.run_facts import SUBMISSION
    from kaggle_kit.evaluation.submission_facts import read_submission

    found = read_submission(folder / SUBMISSION)
    data, solution = _places(name, project, given)
    if found is None or not found.ids:
        return Rows()
    said = given.data is not None or given.solution is not None
    outcomes = _outcomes(solution, found.columns, found.ids, said=said)
    if data is None or not (data / _TEST).is_file():
        return Rows(outcomes)
    sample = _sample(data / _SAMPLE, found.ids, said=said)
    if sample is None:
        return Rows(outcomes)
    try:
        texts = _texts(folder, name, project, data / _TEST, outcomes or {})
    except KitError as error:
        if said:
            raise
        return Rows(outcomes, sample, notes=(f"The prompts could not be made again: {error}",))
    return Rows(outcomes, sample, texts)


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
    """The outcomes of the run's rows; None where they are of other rows and were not asked for."""
    from kaggle_kit.errors import DataError
    from kaggle_kit.evaluation.solution import read_solution

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

    None where the run was of other data and these were not asked for.
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


def _texts(folder: Path, name: str, project: Project | None, test: Path, outcomes: Mapping[str, str]) -> Texts | None:
    """The prompts, by the sources as they are now and the token budget with which the run ran."""
    from kaggle_kit.evaluation.read_run import worst_ids
    from kaggle_kit.evaluation.run_facts import EXECUTED, parameters_of
    from kaggle_kit.evaluation.run_texts import make_texts
    from kaggle_kit.notebook.source import notebook_task

    if project is None or name not in project.notebooks:
        return None
    task, parameters = notebook_task(project, name, assignments=())
    ran = parameters_of(folder / EXECUTED).get("token_budget", "")
    model = project.notebooks[name].model
    id_column, ids, wanted = worst_ids(folder, outcomes)
    return make_texts(
        test,
        id_column=id_column,
        task=task,
        model=project.model_folder(model),
        token_budget=int(ran) if ran.isdecimal() else int(parameters["token_budget"]),
        ids=ids,
        wanted=wanted,
    )
