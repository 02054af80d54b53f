"""`kit plan`, `kit push`, `kit submit`: a release, from what would be sent to the score."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from kaggle_kit.cli.options import open_project
from kaggle_kit.cli.remote_options import (
    PlanOptions,
    json_option,
    open_client,
    plan_of,
    plan_options,
    pushed_options,
    pushed_version,
    session_seconds,
)
from kaggle_kit.cli.runs import bring, keep_receipt
from kaggle_kit.cli.terminal import Bars, say, show, show_json, show_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kaggle_kit.project import Project
    from kaggle_kit.remote.client.client import Client
    from kaggle_kit.remote.client.notebooks import RunState
    from kaggle_kit.remote.plan.plan import Plan
    from kaggle_kit.remote.plan.resources import Notebook, Resource
    from kaggle_kit.remote.push import Applied, Listener
    from kaggle_kit.remote.receipt import Receipt


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…]")
@json_option
@plan_options
def plan(
    names: tuple[str, ...], as_json: bool, records: Path | None, project_folder: Path | None, **chosen: Any
) -> int:
    """Show what kit push would do to each dataset, model and notebook. Nothing is sent.

    Compares the builds, wheelhouses and models here with the last push and with what Kaggle has now, by content.
    Whatever forbids a push is listed with its way out.

    \b
    Examples:
      kit plan
      kit plan lmsys --json

    Exit code 0 where a push may begin, 1 where something forbids it.
    """
    project = open_project(project_folder)
    for name in names:
        project.notebook(name)
    options = PlanOptions(**chosen)
    with open_client() as client:
        result, _ = plan_of(project, names, client=client, records=records or project.root, options=options)
    if as_json:
        show_json(result.to_json())
    else:
        _show_plan(result)
    return 0 if result.allowed else 1


def _show_plan(plan: Plan) -> None:
    """The plan as a table, and below it what speaks against it."""
    rows = [
        (key, action, versions, _amount(size, seconds), reason)
        for key, action, versions, reason, size, seconds in plan.rows()
    ]
    show_table(("what", "action", "version", "to send", "why"), rows, right=("to send",))
    if plan.sent:
        show("", "To be sent, with all that it holds:")
    for step in plan.sent:
        for origin in step.resource.origins:
            show(f"- {step.resource.key}: {origin}")
    for title, problems in (("This forbids a push:", plan.refusals), ("Worth knowing:", plan.warnings)):
        if problems:
            show("", title)
            for problem in problems:
                show(f"- {problem}")
    if plan.allowed:
        whole = _amount(plan.send_bytes, plan.seconds())
        show("", f"To send: {whole or 'nothing'}" if plan.sent else "Nothing to push.")


def _amount(size: int, seconds: float | None) -> str:
    if not size:
        return ""
    amount = f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size:,} B"
    return f"{amount}, about {_time(seconds)}" if seconds and seconds >= 1 else amount


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


@click.command()
@click.argument("name")
@click.option("--wait", is_flag=True, help="Wait for the run's end; bring its log and output here.")
@click.option("--submit", is_flag=True, help="Then submit its submission.csv, and wait for the score.")
@click.option("-m", "--message", metavar="TEXT", help="The versions' notes and the submission's description.")
@plan_options
def push(
    name: str,
    wait: bool,
    submit: bool,
    message: str | None,
    records: Path | None,
    project_folder: Path | None,
    **chosen: Any,
) -> int:
    """Push a built notebook and all that it needs: only what changed is uploaded.

    Uploads go on where they were cut off. The notebook is pushed when exactly the versions that it needs are ready,
    with these versions pinned. Then it is read back from Kaggle and compared; receipts/ keeps the result.

    \b
    Examples:
      kit push lmsys
      kit push lmsys --wait
      kit push lmsys --submit -m "budget 768"

    Exit code 0 where all came out as asked, 1 where not. Run it again after a failure: nothing is made twice.
    """
    from kaggle_kit.errors import UsageError
    from kaggle_kit.places import inside
    from kaggle_kit.remote.plan.resources import Notebook
    from kaggle_kit.remote.plan.state import STATE, push_lock
    from kaggle_kit.remote.push import apply
    from kaggle_kit.remote.receipt import FOLDER

    project = open_project(project_folder)
    if project.notebook(name).internet and submit:
        raise UsageError(
            f"{name} runs with internet (notebooks.{name}.internet in kit.toml), and a competition takes no notebook "
            f"that did: push it with kit push {name} --wait, which brings here what it makes"
        )
    place = records or project.root
    for kept in (STATE, FOLDER, "runs"):
        inside(place, kept)
    with push_lock(project.root), open_client() as client:
        options = PlanOptions(**chosen)
        plan, resources = _decided_plan(project, name, client=client, records=place, options=options)
        _show_plan(plan)
        if not plan.allowed:
            return 1
        notes = message or f"kit push {name}"
        with _uploads() as listener:
            applied = apply(plan, client=client, records=place, notes=notes, listener=listener)
        notebook = next(resource for resource in resources if isinstance(resource, Notebook))
        receipt = _read_back(project, plan, applied, notebook, client=client, records=place)
        if receipt is None:
            return 1
        code = 0
        if wait or submit:
            code = _finish(project, receipt, client=client, records=place, submit=submit, message=message)
    return code if applied.noted else 1


def _decided_plan(
    project: Project, name: str, *, client: Client, records: Path, options: PlanOptions
) -> tuple[Plan, tuple[Resource, ...]]:
    """The plan, once Kaggle is done with versions that nothing here knows: such as an interrupted push has made."""
    deadline = client.clock() + client.patience.ready_s
    waiting, said = client, set[str]()
    while True:
        plan, resources = plan_of(project, (name,), client=waiting, records=records, options=options)
        undecided = [step for step in plan.steps if step.undecided]
        if not undecided or client.clock() >= deadline:
            return plan, resources
        for step in undecided:
            if step.resource.key not in said:
                say(f"{step.resource.key}: {step.reason}. Waiting for it, up to {client.patience.ready_s / 60:.0f} min")
            said.add(step.resource.key)
        waiting = client.until(deadline)
        client.sleep(client.patience.poll_s)


def _read_back(
    project: Project, plan: Plan, applied: Applied, notebook: Notebook, *, client: Client, records: Path
) -> Receipt | None:
    """The receipt of the notebook's version, new or kept; None, with the reason said, where Kaggle has it otherwise."""
    from datetime import UTC, datetime

    from kaggle_kit.project.git import project_commit
    from kaggle_kit.remote.receipt import load_receipt, read_back

    step = plan.step(notebook.key)
    version = applied.versions.get(notebook.key, step.becomes if step else None)
    made, receipt = notebook.key in applied.notebooks, None
    if version and not made:
        kept = load_receipt(records, notebook.name, version, notebook=notebook.reference)
        receipt = kept if kept is not None and not kept.differing else None
    receipt = receipt or read_back(
        plan,
        applied,
        notebook,
        version=version or 1,
        client=client,
        pushed=datetime.now(UTC).isoformat(timespec="seconds"),
        made_by=project_commit(project.root),
    )
    if path := keep_receipt(records, receipt):
        say(f"receipt: {path}")
    else:
        applied.noted = False
    for unchecked in receipt.unchecked:
        say(f"{notebook.key} version {receipt.version}: could not be checked: {unchecked}")
    for check in receipt.differing:
        say(f"{notebook.key} version {version}: {check.what} is {check.found!r} on Kaggle, asked was {check.asked!r}")
    if receipt.differing:
        say(f"Kaggle did not take what was asked; see {receipt.url}. {_way_out(receipt, made=made)}")
        return None
    return receipt


def _way_out(receipt: Receipt, *, made: bool) -> str:
    """What makes a version in place of a differing one, as the next plan will have it; `made` by this push or not."""
    name = receipt.name
    if any(check.what == "source" for check in receipt.differing):
        return f"See what differs with kit pull {name}, or send yours over it with kit push {name} --overwrite"
    if not made:
        return f"The plan takes it for what is here: change and build {name}, and kit push {name} makes a new version"
    return f"kit push {name} makes a new version in place of it"


@contextmanager
def _uploads() -> Iterator[Listener]:
    """Bars for the uploads on a terminal, with rate and time to go; elsewhere a line where one begins."""
    from kaggle_kit.remote.push import Listener

    with Bars() as bars:
        sent: dict[object, int] = {}

        def begin(resource: Resource) -> None:
            sent.clear()
            bars.begin(resource.key, resource.size)
            if not bars.shown:
                say(f"{resource.key}: sending {len(resource.files)} files, {resource.size / 1e6:,.1f} MB")

        def moved(path: object, size: int) -> None:
            sent[path] = size
            bars.done(sum(sent.values()))

        yield Listener(say=say, begin=begin, sent=moved)


def _finish(
    project: Project, receipt: Receipt, *, client: Client, records: Path, submit: bool, message: str | None
) -> int:
    """Wait for the run of the receipt's version; with `submit`, submit it too. Returns the exit code.

    It is submitted before anything else is brought here: no file that does not come stands in the way of that.
    """
    from kaggle_kit.errors import CredentialsError, RemoteError
    from kaggle_kit.remote.runs import wait_ended

    deadline = client.clock() + session_seconds(project, receipt.name, target=receipt.target) + client.patience.queue_s
    state = wait_ended(
        client,
        receipt.notebook,
        receipt.version,
        deadline=deadline,
        tell=lambda state: say(_state_line(receipt, state)),
    )

    problem: RemoteError | None = None
    if submit and state.complete:
        try:
            receipt, _ = _submit(project, receipt, client=client, records=records, message=message, wait=False)
        except RemoteError as error:
            problem = error  # what the run left may show why

    try:
        receipt, whole = bring(receipt, state, client=client, records=records)
    except CredentialsError:
        raise
    except (RemoteError, OSError) as error:
        say(f"warning: log and output are not here: {error}", f"  next: kit output {receipt.name}")
        whole = False
    if problem is not None:
        raise problem

    if not state.complete:
        say(f"when that is fixed, or was Kaggle's fault: kit push {receipt.name} runs it as a new version")
        return 1
    code = 0 if whole else 1
    if submit:
        _, scored = _submit(project, receipt, client=client, records=records, message=message)
        return max(code, scored)
    return code


@click.command()
@click.argument("name")
@click.option("--wait", is_flag=True, help="Stay until the submission is scored.")
@click.option("-m", "--message", metavar="TEXT", help="The submission's description (default: as the last one's).")
@pushed_options
def submit(
    name: str,
    wait: bool,
    message: str | None,
    version: int | None,
    records: Path | None,
    project_folder: Path | None,
) -> int:
    """Submit the submission.csv of the last pushed version; the same version and message never twice.

    Without -m a version that was submitted with any message is not submitted again, unless that failed.

    \b
    Examples:
      kit submit lmsys --wait
      kit submit lmsys --version 3 -m "budget 768"

    Exit code 1 where the run is not complete, the version is not as it was asked, no submission is left today, or
    Kaggle says that it failed; 2 where it ran with internet, which no competition takes.
    """
    from kaggle_kit.remote.runs import refuse_unfit

    project = open_project(project_folder)
    place = records or project.root
    reference, number = pushed_version(project, name, records=place, version=version)
    receipt = _kept_receipt(reference, name, number, records=place)
    refuse_unfit(receipt)
    with open_client() as client:
        return _submit(project, receipt, client=client, records=place, message=message, wait=wait)[1]


def _kept_receipt(reference: str, name: str, version: int, *, records: Path) -> Receipt:
    from kaggle_kit.errors import UsageError
    from kaggle_kit.remote.receipt import load_receipt

    receipt = load_receipt(records, name, version, notebook=reference)
    if receipt is None:
        raise UsageError(
            f"there is no receipt of {reference} version {version} in {records / 'receipts'}: it was not pushed from "
            f"here; push it with kit push {name}"
        )
    return receipt


def _submit(
    project: Project, receipt: Receipt, *, client: Client, records: Path, message: str | None, wait: bool = True
) -> tuple[Receipt, int]:
    """Submit the version's submission.csv and, with `wait`, stay until it is scored. Also the exit code."""
    from kaggle_kit.remote.runs import submit

    said, kept = "", False

    def tell(receipt: Receipt) -> None:
        nonlocal said, kept
        made = receipt.submission
        line = f"submission {made['ref']}: {made['state']}" + (f", {made['error']}" if made["error"] else "")
        if line != said:
            say(line)
        said = line
        kept = keep_receipt(records, receipt) is not None

    deadline = client.clock() + client.patience.score_s
    receipt = submit(
        client.until(deadline),
        project.competition,
        receipt,
        message=message,
        deadline=deadline if wait else None,
        tell=tell,
    )
    if not wait:
        return receipt, 0 if kept else 1

    kept = keep_receipt(records, receipt) is not None
    score = receipt.submission["public_score"]
    if score is None:
        say(
            f"submission {receipt.submission['ref']} of {receipt.name} version {receipt.version}: Kaggle calls it "
            f"complete and gives no score. See the submissions page of {project.competition}, or ask again with: "
            f"kit submit {receipt.name} --wait --version {receipt.version} (nothing is submitted twice)"
        )
        return receipt, 1
    show(f"{receipt.name} version {receipt.version}: score {score}")
    return receipt, 0 if kept else 1


def _state_line(receipt: Receipt, state: RunState) -> str:
    failure = f": {state.failure}" if state.failure else ""
    return f"{receipt.name} version {receipt.version}: {state.words}{failure}"
