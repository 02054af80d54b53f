"""`kit status`, `kit logs`, `kit output`, `kit submit`, `kit quota`, `kit history`: what became of a pushed version."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kaggle_kit.cli.displays import show_table
from kaggle_kit.cli.options import open_project, project_option
from kaggle_kit.cli.remote_options import (
    json_option,
    open_client,
    pushed_version,
    records_option,
    version_option,
)
from kaggle_kit.cli.terminal import say, show, show_json, show_log

if TYPE_CHECKING:
    from kaggle_kit.remote.receipt import Receipt

RUNNING, UNKNOWN = 3, 4


@click.command()
@click.argument("name")
@version_option
@json_option
@records_option
@project_option
def status(name: str, version: int | None, as_json: bool, records: Path | None, project_folder: Path | None) -> int:
    """Tell how the run of the last pushed version stands; never that of another version.

    \b
    Examples:
      kit status lmsys
      kit status lmsys --version 3 --json

    Exit code 0 complete, 1 failed, 3 still queued or running, 4 unknown.
    """
    from kaggle_kit import run_states
    from kaggle_kit.remote.client import notebooks
    from kaggle_kit.remote.receipt import load_receipt, save_receipt, with_run

    project = open_project(project_folder)
    place = records or project.root
    reference, number = pushed_version(project, name, records=place, version=version)
    with open_client() as client:
        state = notebooks.status(client, reference, number)
    receipt = load_receipt(place, name, number, notebook=reference)
    if receipt is not None and state.ended:
        save_receipt(place, with_run(receipt, state))
    if as_json:
        told = {"notebook": reference, "version": number, "state": state.state, "failure": state.failure}
        show_json(told)
    else:
        failure = f": {state.failure}" if state.failure else ""
        show(f"{reference} version {number}: {state.state.lower().replace('_', ' ')}{failure}")
    if state.state == run_states.UNKNOWN:
        return UNKNOWN
    return (0 if state.complete else 1) if state.ended else RUNNING


@click.command()
@click.argument("name")
@click.option("--follow", is_flag=True, help="Go on until the run ends.")
@version_option
@records_option
@project_option
def logs(name: str, follow: bool, version: int | None, records: Path | None, project_folder: Path | None) -> int:
    """Print the log of the last pushed version's run; of a failed one also what it means.

    \b
    Examples:
      kit logs lmsys
      kit logs lmsys --follow

    Exit code 1 where the run has failed.
    """
    from kaggle_kit.remote.client import notebooks, outputs
    from kaggle_kit.remote.client.outputs import follow_log
    from kaggle_kit.remote.diagnosis import decode
    from kaggle_kit.remote.log_text import read_log
    from kaggle_kit.secrets import mask

    project = open_project(project_folder)
    reference, number = pushed_version(project, name, records=records or project.root, version=version)
    with open_client() as client:
        if follow:
            for line in follow_log(client, reference, number):
                show_log(mask(line.text))
        raw = outputs.log(client, reference, number)
        if not follow:
            show_log(mask(read_log(raw).text).rstrip("\n"))
        state = notebooks.status(client, reference, number)
    if not state.ended or state.complete:
        return 0
    for finding in decode(raw, failure_message=state.failure or "")[:3]:
        say(f"cause: {finding.cause}", f"  next: {finding.next_step}")
    return 1


@click.command()
@click.argument("name")
@click.option("-o", "--out", metavar="DIR", type=click.Path(path_type=Path), help="Default: runs/NAME-vN.")
@click.option("--pattern", "patterns", metavar="GLOB", multiple=True, help="Only files of this name; several times.")
@version_option
@records_option
@project_option
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

    Exit code 1 where the run has not completed, a model is not whole, or one that was to be made is not there.
    """
    from kaggle_kit.cli.run_end import run_folder, show_corrupt, show_findings, show_models
    from kaggle_kit.remote.client import notebooks
    from kaggle_kit.remote.receipt import load_receipt
    from kaggle_kit.remote.runs import fetch, why_failed

    project = open_project(project_folder)
    place = records or project.root
    reference, number = pushed_version(project, name, records=place, version=version)
    with open_client() as client:
        state = notebooks.status(client, reference, number)
        folder = out or run_folder(place, name, number, notebook=reference)
        fetched = fetch(client, reference, number, folder, ended=state.ended, patterns=patterns or ("*",))
    for file in (fetched.log, *fetched.files):
        show(f"{file}  {file.stat().st_size:,} bytes")
    receipt = load_receipt(place, name, number, notebook=reference)
    makes_model = receipt.makes_model if receipt else project.notebook(name).internet
    whole = bool(patterns) or show_models(fetched, wanted=makes_model and state.complete)
    show_corrupt(fetched)
    if state.complete:
        return 0 if whole else 1
    say(f"{reference} version {number}: {state.state.lower()}; these files are what it has left so far")
    if state.ended:
        show_findings(why_failed(fetched, state), fetched)
    return 1


@click.command()
@click.argument("name")
@click.option("--wait", is_flag=True, help="Stay until the submission is scored.")
@click.option("-m", "--message", metavar="TEXT", help="The submission's description (default: as the last one's).")
@version_option
@records_option
@project_option
def submit(
    name: str,
    wait: bool,
    message: str | None,
    version: int | None,
    records: Path | None,
    project_folder: Path | None,
) -> int:
    """Hand in the submission.csv of the last pushed version; the same version and message never twice.

    Without -m a version that was handed in with any message is not handed in again, unless that failed.

    \b
    Examples:
      kit submit lmsys --wait
      kit submit lmsys --version 3 -m "budget 768"

    Exit code 1 where the run is not complete, the version is not as it was asked, no submission is left today, or
    Kaggle says that it failed; 2 where it ran with internet, which no competition takes.
    """
    from kaggle_kit.cli.run_end import hand_in
    from kaggle_kit.remote.runs import refuse_unfit

    project = open_project(project_folder)
    place = records or project.root
    reference, number = pushed_version(project, name, records=place, version=version)
    receipt = _receipt(reference, name, number, records=place)
    refuse_unfit(receipt)
    with open_client() as client:
        return hand_in(project, receipt, client=client, records=place, message=message, wait=wait)


def _receipt(reference: str, name: str, version: int, *, records: Path) -> Receipt:
    from kaggle_kit.errors import UsageError
    from kaggle_kit.remote.receipt import load_receipt

    receipt = load_receipt(records, name, version, notebook=reference)
    if receipt is None:
        raise UsageError(
            f"there is no receipt of {reference} version {version} in {records / 'receipts'}: it was not pushed from "
            f"here; push it with kit push {name}"
        )
    return receipt


@click.command()
@json_option
def quota(as_json: bool) -> None:
    """Show how much of the week's accelerator time is used.

    \b
    Example:
      kit quota
    """
    from dataclasses import asdict

    from kaggle_kit.remote.client.account import read_quota

    with open_client() as client:
        found = read_quota(client)
        name = client.username
    if as_json:
        show_json({"account": name, **asdict(found)})
        return
    for what, used, allowed in (
        ("GPU", found.gpu_used_s, found.gpu_allowed_s),
        ("TPU", found.tpu_used_s, found.tpu_allowed_s),
    ):
        if used is not None or allowed is not None:
            show(f"{what}: {_hours(used)} of {_hours(allowed)} used")
    if found.renewed:
        show(f"renewed: {found.renewed}")


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

    def told(value: Any) -> str:
        return "–" if value is None else str(value)

    run = told(receipt.run.get("state")).lower()
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
        told(receipt.submission.get("public_score")),
    )
