"""From a pushed version to its end: wait, bring the files here, say why it failed, hand it in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_kit.cli.terminal import say, show
from kaggle_kit.places import inside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kaggle_kit.project import Project
    from kaggle_kit.remote.door.door import Door
    from kaggle_kit.remote.door.kernels import RunState
    from kaggle_kit.remote.failed.failures import Finding
    from kaggle_kit.remote.receipt import Receipt
    from kaggle_kit.remote.runs import Fetched


def finish(project: Project, receipt: Receipt, *, door: Door, records: Path, submit: bool, message: str | None) -> int:
    """Wait for the run of the receipt's version; with `submit`, hand it in too. Returns the exit code."""
    from kaggle_kit.remote.runs import wait_ended

    deadline = door.clock() + _session_seconds(project, receipt) + door.patience.queue_s
    state = wait_ended(
        door, receipt.notebook, receipt.version, deadline=deadline, tell=lambda state: say(_told(receipt, state))
    )
    receipt, whole = bring(receipt, state, door=door, records=records)
    if not state.complete or not whole:
        say(f"when that is mended, or was Kaggle's fault: kit push {receipt.name} runs it as a new version")
        return 1
    return hand_in(project, receipt, door=door, records=records, message=message) if submit else 0


def _session_seconds(project: Project, receipt: Receipt) -> float:
    """How long the run may take: as `kit.toml` says, else its target."""
    from kaggle_kit.targets import load_target

    hours = project.notebook(receipt.name).session_hours
    if hours is not None:
        return hours * 3600
    return load_target(receipt.target, project=project.root).session_seconds if receipt.target else 12 * 3600.0


def bring(receipt: Receipt, state: RunState, *, door: Door, records: Path) -> tuple[Receipt, bool]:
    """Log and output of an ended run into its folder, into the receipt what they are, and why it failed if it did.

    Also whether it has made the model that it is for, and each that it has made is as its manifest says.
    """
    from kaggle_kit.remote.receipt import save_receipt, with_run
    from kaggle_kit.remote.runs import fetch, output_facts, why_failed

    receipt = with_run(receipt, state)
    folder = run_folder(records, receipt.name, receipt.version, notebook=receipt.notebook)
    fetched = fetch(door, receipt.notebook, receipt.version, folder, ended=state.ended)
    receipt = replace(receipt, output=output_facts(fetched))
    save_receipt(records, receipt)
    say(f"log and output: {fetched.folder}")
    whole = show_models(fetched, wanted=receipt.makes_model and state.complete)
    show_corrupt(fetched)
    if not state.complete:
        show_findings(why_failed(fetched, state), fetched)
    return receipt, whole


def show_models(fetched: Fetched, *, wanted: bool) -> bool:
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


def show_corrupt(fetched: Fetched) -> None:
    """Say so where the run itself found that a model it was given is not what was uploaded."""
    from kaggle_kit.runtime.record import RECORD, read_record

    record = fetched.folder / RECORD
    if record in fetched.files and (bad := read_record(record).corrupt):
        say(f"CORRUPT MODEL: {bad} is not what its manifest says: do not trust these answers, upload the model again")


def run_folder(records: Path, name: str, version: int, *, notebook: str) -> Path:
    """Where the files of a version's run are kept."""
    from kaggle_kit.remote.receipt import record_name

    return inside(records, Path("runs", record_name(records, name, version, notebook=notebook)))


def hand_in(
    project: Project, receipt: Receipt, *, door: Door, records: Path, message: str | None, wait: bool = True
) -> int:
    """Hand in the version's submission.csv and, with `wait`, stay until it is scored. Returns the exit code."""
    from kaggle_kit.remote.receipt import save_receipt
    from kaggle_kit.remote.runs import submit

    said = ""

    def tell(receipt: Receipt) -> None:
        nonlocal said
        save_receipt(records, receipt)
        made = receipt.submission
        line = f"submission {made['ref']}: {made['state']}" + (f", {made['error']}" if made["error"] else "")
        if line != said:
            say(line)
        said = line

    receipt = submit(
        door,
        project.competition,
        receipt,
        message=message,
        deadline=door.clock() + door.patience.score_s if wait else None,
        tell=tell,
    )
    save_receipt(records, receipt)
    score = receipt.submission["public_score"]
    if wait and score is None:
        say(
            f"submission {receipt.submission['ref']} of {receipt.name} version {receipt.version}: Kaggle calls it "
            f"complete and tells no score. See the submissions page of {project.competition}, or ask again with: "
            f"kit submit {receipt.name} --wait --version {receipt.version} (nothing is handed in twice)"
        )
        return 1
    if wait:
        show(f"{receipt.name} version {receipt.version}: score {score}")
    return 0


def show_findings(findings: Sequence[Finding], fetched: Fetched) -> None:
    """The causes of a failure, the likeliest first, each with the line that shows it."""
    for finding in findings[:3]:
        where = f"{fetched.log}:{finding.line}" if finding.line and finding.place == "log" else finding.place
        say(f"cause: {finding.cause}", f"  next: {finding.next_step}", f"  {where}: {finding.text}")
        if finding.block:
            say(*(f"    {line}" for line in finding.block))
    if not findings:
        say(f"nothing in the log tells why; read {fetched.log}")


def _told(receipt: Receipt, state: RunState) -> str:
    failure = f": {state.failure}" if state.failure else ""
    return f"{receipt.name} version {receipt.version}: {state.told}{failure}"
