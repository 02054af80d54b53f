"""`kit push`."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from kaggle_kit.cli.displays import Bars
from kaggle_kit.cli.options import open_project, project_option, trust_option
from kaggle_kit.cli.plan import show_plan
from kaggle_kit.cli.remote_options import (
    PlanOptions,
    builds_option,
    open_client,
    plan_of,
    plan_options,
    records_option,
)
from kaggle_kit.cli.run_end import finish
from kaggle_kit.cli.terminal import say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kaggle_kit.project import Project
    from kaggle_kit.remote.client.client import Client
    from kaggle_kit.remote.plan.plan import Plan
    from kaggle_kit.remote.plan.resources import Notebook, Resource
    from kaggle_kit.remote.push import Applied, Listener
    from kaggle_kit.remote.receipt import Receipt


@click.command()
@click.argument("name")
@plan_options
@click.option("--wait", is_flag=True, help="Wait for the run's end; bring its log and output here.")
@click.option("--submit", is_flag=True, help="Then hand in its submission.csv, and wait for the score.")
@click.option("-m", "--message", metavar="TEXT", help="The versions' notes and the submission's description.")
@builds_option
@records_option
@trust_option
@project_option
def push(
    name: str,
    unproved: bool,
    overwrite: bool,
    accept: tuple[str, ...],
    wait: bool,
    submit: bool,
    message: str | None,
    builds: Path | None,
    records: Path | None,
    project_folder: Path | None,
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
        options = PlanOptions(unproved, overwrite, accept, builds)
        plan, resources = _decided_plan(project, name, client=client, records=place, options=options)
        show_plan(plan)
        if not plan.allowed:
            return 1
        notes = message or f"kit push {name}"
        with _uploads() as listener:
            applied = apply(plan, client=client, records=place, notes=notes, listener=listener)
        notebook = next(resource for resource in resources if isinstance(resource, Notebook))
        receipt = _receipt(project, plan, applied, notebook, client=client, records=place)
        if receipt is None:
            return 1
        if wait or submit:
            return finish(project, receipt, client=client, records=place, submit=submit, message=message)
    return 0


def _decided_plan(
    project: Project, name: str, *, client: Client, records: Path, options: PlanOptions
) -> tuple[Plan, tuple[Resource, ...]]:
    """The plan, once Kaggle is done with versions that nothing here knows: such as an interrupted push has made."""
    deadline = client.clock() + client.patience.ready_s
    told: set[str] = set()
    while True:
        plan, resources = plan_of(project, (name,), client=client, records=records, options=options)
        undecided = [step for step in plan.steps if step.undecided]
        if not undecided or client.clock() >= deadline:
            return plan, resources
        for step in undecided:
            if step.resource.key not in told:
                say(f"{step.resource.key}: {step.reason}. Waiting for it, up to {client.patience.ready_s / 60:.0f} min")
            told.add(step.resource.key)
        client.sleep(client.patience.poll_s)


def _receipt(
    project: Project, plan: Plan, applied: Applied, notebook: Notebook, *, client: Client, records: Path
) -> Receipt | None:
    """The receipt of the notebook's version, new or kept; None, with the reason said, where Kaggle has it otherwise."""
    from datetime import UTC, datetime

    from kaggle_kit.project.commit import project_commit
    from kaggle_kit.remote.receipt import load_receipt, read_back, save_receipt

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
    path = save_receipt(records, receipt)
    say(f"receipt: {path}")
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
