"""`kit status`, `kit logs`, `kit output`, `kit quota`, `kit history`: what became of a pushed version."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kaggle_kit.cli.options import open_project, project_option
from kaggle_kit.cli.remote_options import (
    json_option,
    open_client,
    pushed_options,
    pushed_version,
    records_option,
    session_seconds,
)
from kaggle_kit.cli.terminal import say, show, show_json, show_log, show_table
from kaggle_kit.places import inside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kaggle_kit.project import Project
    from kaggle_kit.remote.client.client import Client
    from kaggle_kit.remote.client.notebooks import RunState
    from kaggle_kit.remote.diagnosis import Finding
    from kaggle_kit.remote.receipt import Receipt
    from kaggle_kit.remote.runs import Fetched

RUNNING, UNKNOWN = 3, 4


@click.command()
@click.argument("name")
@json_option
@pushed_options
def status(name: str, version: int | None, as_json: bool, records: Path | None, project_folder: Path | None) -> int:
    """Report how the run of the last pushed version stands; never that of another version.

    \b
    Examples:
      kit status lmsys
      kit status lmsys --version 3 --json

    Exit code 0 complete, 1 failed, 3 still queued or running, 4 unknown.
    """
    from kaggle_kit.remote.client import notebooks
    from kaggle_kit.remote.receipt import load_receipt, with_run

    project = open_project(project_folder)
    place = records or project.root
    reference, number = pushed_version(project, name, records=place, version=version)
    with open_client() as client:
        state = notebooks.status(client, reference, number)
    if as_json:
        show_json({"notebook": reference, "version": number, "state": state.state, "failure": state.failure})
    else:
        failure = f": {state.failure}" if state.failure else ""
        show(f"{reference} version {number}: {state.state.lower().replace('_', ' ')}{failure}")
    receipt = load_receipt(place, name, number, notebook=reference)
    if receipt is not None and state.ended:
        keep_receipt(place, with_run(receipt, state))
    if state.state == notebooks.UNKNOWN:
        return UNKNOWN
    return (0 if state.complete else 1) if state.ended else RUNNING


@click.command()
@click.argument("name")
@click.option("--follow", is_flag=True, help="Go on until the run ends.")
@pushed_options
def logs(name: str, follow: bool, version: int | None, records: Path | None, project_folder: Path | None) -> int:
    """Print the log of the last pushed version's run; of a failed one also what it means.

    \b
    Examples:
      kit logs lmsys
      kit logs lmsys --follow

    Exit code 1 where the run has failed, or there is no log and it is not under way.
    """
    from kaggle_kit.remote.client import notebooks, outputs
    from kaggle_kit.remote.diagnosis import decode, read_log
    from kaggle_kit.secrets import mask

    project = open_project(project_folder)
    place = records or project.root
    reference, number = pushed_version(project, name, records=place, version=version)
    with open_client() as client:
        shown = follow and _follow(project, name, number, client=client, records=place)
        raw = outputs.log(client, reference, number)
        if raw and not shown:
            show_log(mask(read_log(raw).text).rstrip("\n"))
        state = notebooks.status(client, reference, number)

    if not raw and not shown:
        say(f"{reference} version {number}: the run is {state.words}, and Kaggle has no log of it (yet)")
        if state.complete or state.state == notebooks.UNKNOWN:
            return 1
    if not state.ended or state.complete:
        return 0
    for finding in decode(raw, failure_message=state.failure or "")[:3]:
        say(f"cause: {finding.cause}", f"  next: {finding.next_step}")
    return 1


def _follow(project: Project, name: str, version: int, *, client: Client, records: Path) -> bool:
    """Print the log as it grows, for as long as a session may last; whether there was any line."""
    from kaggle_kit.remote.client.outputs import follow_log
    from kaggle_kit.remote.receipt import load_receipt
    from kaggle_kit.secrets import mask

    reference = f"{project.owner}/{project.notebook(name).slug}"
    receipt = load_receipt(records, name, version, notebook=reference)
    longest = session_seconds(project, name, target=receipt.target if receipt else None)
    patient = client.until(client.clock() + longest + client.patience.queue_s)
    shown = False
    for line in follow_log(patient, reference, version):
        show_log(mask(line.text))
        shown = True
    return shown


@click.command()
@click.argument("name")
@click.option("-o", "--out", metavar="DIR", type=click.Path(path_type=Path), help="Default: runs/NAME-vN.")
@click.option("--pattern", "patterns", metavar="GLOB", multiple=True, help="Only files of this name; several times.")
@pushed_options
def output(
    name: str,
    out: Path | None,
    patterns: tuple[str, ...],
    version: int | None,
    records: Path | None,
    project_folder: Path | None,
) -> int:
    """Fetch the output and the log of the last pushed version's run.

    A file comes whole or not at all, over an older one of its name. What a failed run left is fetched too. A model
    that the run has made is checked against its manifest, unless --pattern leaves files out.

    \b
    Examples:
      kit output lmsys
      kit output lmsys --pattern submission.csv -o out

    Exit code 1 where the run has not completed, left nothing, a file does not come, a model is not whole, one that was
    to be made is not there, or the label mass is low: the model would rather say something else than a label.
    """
    from kaggle_kit.remote.client import notebooks
    from kaggle_kit.remote.receipt import load_receipt
    from kaggle_kit.remote.runs import fetch, why_failed

    project = open_project(project_folder)
    place = records or project.root
    reference, number = pushed_version(project, name, records=place, version=version)
    with open_client() as client:
        state = notebooks.status(client, reference, number)
        folder = out or _run_folder(place, name, number, notebook=reference)
        fetched = fetch(
            client,
            reference,
            number,
            folder,
            ended=state.ended,
            complete=state.complete,
            patterns=patterns or ("*",),
        )
    for file in (fetched.log, *fetched.files):
        if file.is_file():
            show(f"{file}  {file.stat().st_size:,} bytes")
    receipt = load_receipt(place, name, number, notebook=reference)
    makes_model = receipt.makes_model if receipt else project.notebook(name).internet
    whole = _show_whole(fetched, state)
    whole = (bool(patterns) or _show_models(fetched, wanted=makes_model and state.complete)) and whole
    sound = _show_problems(fetched)
    if state.complete:
        return 0 if whole and sound else 1
    say(f"{reference} version {number}: {state.state.lower()}; these files are what it has left so far")
    if state.ended:
        _show_findings(why_failed(fetched, state), fetched)
    return 1


@click.command()
@json_option
def quota(as_json: bool) -> None:
    """Show how much of the week's accelerator time is used.

    \b
    Example:
      kit quota
    """
    from kaggle_kit.remote.client.account import read_quota

    with open_client() as client:
        hours = read_quota(client)
        name = client.username
    if as_json:
        show_json({"account": name, **asdict(hours)})
        return
    for what, used, allowed in (
        ("GPU", hours.gpu_used_s, hours.gpu_allowed_s),
        ("TPU", hours.tpu_used_s, hours.tpu_allowed_s),
    ):
        if used is not None or allowed is not None:
            show(f"{what}: {_hours(used)} of {_hours(allowed)} used")
    if hours.renewed:
        show(f"renewed: {hours.renewed}")


def _hours(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds / 3600:.1f} h"


@click.command()
@click.argument("name", required=False)
@json_option
@records_option
@project_option
def history(name: str | None, as_json: bool, records: Path | None, project_folder: Path | None) -> None:
    """List what was pushed from here, by its receipts: version, time, commit, run, score.

    \b
    Examples:
      kit history
      kit history lmsys --json
    """
    from kaggle_kit.remote.receipt import load_receipts

    project = open_project(project_folder)
    if name is not None:
        project.notebook(name)
    receipts = load_receipts(records or project.root, name)
    if as_json:
        show_json([receipt.to_json() for receipt in receipts])
        return
    if not receipts:
        show("nothing was pushed from here yet")
        return
    pairs = {(receipt.name, receipt.notebook) for receipt in receipts}
    several = {name for name, count in Counter(name for name, _ in pairs).items() if count > 1}
    rows = [_line(receipt, several=receipt.name in several) for receipt in receipts]
    show_table(("notebook", "version", "pushed", "commit", "run", "score"), rows)


def _line(receipt: Receipt, *, several: bool) -> tuple[str, ...]:
    """A row of the table; with the notebook where its table of kit.toml has made `several`."""

    def shown(value: Any) -> str:
        return "–" if value is None else str(value)

    run = shown(receipt.run.get("state")).lower()
    if receipt.differing:
        run = f"not as asked: {', '.join(check.what for check in receipt.differing)}"
    made_by = receipt.made_by or "–"
    commit = made_by[:9] + (made_by[-1] if made_by.endswith(("+", "?")) else "")
    return (
        f"{receipt.name} ({receipt.notebook})" if several else receipt.name,
        str(receipt.version),
        receipt.pushed,
        commit,
        run,
        shown(receipt.submission.get("public_score")),
    )


def keep_receipt(records: Path, receipt: Receipt) -> Path | None:
    """Write the receipt; None, with a warning, if the disk refuses: what it reports is done at Kaggle all the same."""
    from kaggle_kit.files import refusal
    from kaggle_kit.remote.receipt import save_receipt

    try:
        return save_receipt(records, receipt)
    except OSError as error:
        say(
            f"warning: the receipt of {receipt.name} version {receipt.version} could not be written "
            f"({refusal(error)}); make room, and kit status {receipt.name} brings it up to date"
        )
        return None


def bring(receipt: Receipt, state: RunState, *, client: Client, records: Path) -> tuple[Receipt, bool]:
    """Log and output of an ended run into its folder, into the receipt what they are, and why it failed if it did.

    Also whether all of it came, it is more than nothing, each model that the run has made is as its manifest says, and
    a model that scored says the labels.
    """
    from kaggle_kit.remote.receipt import with_run
    from kaggle_kit.remote.runs import fetch, output_facts, why_failed

    receipt = with_run(receipt, state)
    folder = _run_folder(records, receipt.name, receipt.version, notebook=receipt.notebook)
    fetched = fetch(client, receipt.notebook, receipt.version, folder, ended=state.ended, complete=state.complete)
    # What was listed once and is not any more was there all the same.
    receipt = replace(receipt, output=output_facts(fetched) or receipt.output)
    kept = keep_receipt(records, receipt)
    say(f"log and output: {fetched.folder}")
    whole = _show_whole(fetched, state) and _show_models(fetched, wanted=receipt.makes_model and state.complete)
    sound = _show_problems(fetched)
    if not state.complete:
        _show_findings(why_failed(fetched, state), fetched)
    return receipt, whole and sound and kept is not None


def _show_whole(fetched: Fetched, state: RunState) -> bool:
    """Whether all that the run left is here, and a complete run left anything; if not, that is said."""
    for missing in fetched.missing:
        say(f"warning: not fetched: {missing}")
    if state.complete and not fetched.files and not fetched.missing:
        say("the run is complete and left no file: see its log, and its page on Kaggle")
        return False
    return not fetched.missing


def _show_models(fetched: Fetched, *, wanted: bool) -> bool:
    """The models that a run has made, each checked against its manifest; whether all are whole.

    Where one is `wanted`, none at all is not.
    """
    from kaggle_kit.remote.runs import made_models

    models = made_models(fetched)
    if wanted and not models:
        say(f"the run left no model: no folder of its output in {fetched.folder} has a model's manifest.json")
        return False
    for model in models:
        if model.problem:
            say(f"model {model.name}: NOT whole: {model.problem}")
        else:
            amount = f"{model.files} files, {model.size / 1e6:,.1f} MB"
            say(f"model {model.name}: {model.folder}: {amount}, each with the SHA-256 of its manifest")
    return all(model.problem is None for model in models)


def _show_problems(fetched: Fetched) -> bool:
    """Say so if the run itself found that a model it was given is not what was uploaded, or hardly says the labels.

    Whether its models say the labels.
    """
    from kaggle_kit.runtime.record import RECORD, read_record

    path = fetched.folder / RECORD
    if path not in fetched.files:
        return True
    record = read_record(path)
    if bad := record.corrupt:
        say(f"CORRUPT MODEL: {bad} is not what its manifest says: do not trust these answers, upload the model again")
    if record.low_mass:
        say(record.low_mass)
    return not record.low_mass


def _run_folder(records: Path, name: str, version: int, *, notebook: str) -> Path:
    """Where the files of a version's run are kept."""
    from kaggle_kit.remote.receipt import record_name

    return inside(records, Path("runs", record_name(records, name, version, notebook=notebook)))


def _show_findings(findings: Sequence[Finding], fetched: Fetched) -> None:
    """The causes of a failure, the likeliest first, each with the line that shows it."""
    for finding in findings[:3]:
        where = f"{fetched.log}:{finding.line}" if finding.line and finding.place == "log" else finding.place
        say(f"cause: {finding.cause}", f"  next: {finding.next_step}", f"  {where}: {finding.text}")
        if finding.block:
            say(*(f"    {line}" for line in finding.block))
    if not findings:
        say(f"nothing in the log tells why; read {fetched.log}")
