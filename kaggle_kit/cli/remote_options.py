"""What the commands that speak to Kaggle share: the login, the plan, and what a person sees meanwhile."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kaggle_kit.cli.options import project_option, stacked, trust_option
from kaggle_kit.cli.terminal import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kaggle_kit.project import Project
    from kaggle_kit.remote.client.client import Client
    from kaggle_kit.remote.plan.plan import Plan
    from kaggle_kit.remote.plan.resources import Resource

_FOLDER = click.Path(path_type=Path)
records_option = click.option(
    "--records",
    metavar="DIR",
    type=_FOLDER,
    help="Where kit.state.json, receipts/ and runs/ are kept (default: the project's folder).",
)
builds_option = click.option(
    "--builds", metavar="DIR", type=_FOLDER, help="Where kit build has put the notebooks (default: build/)."
)
version_option = click.option(
    "--version", "version", metavar="N", type=click.IntRange(min=1), help="Another version than the last pushed one."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


plan_options = stacked(
    click.option("--unproved", is_flag=True, help="Also with a wheelhouse that kit wheels prove has not passed."),
    click.option("--overwrite", is_flag=True, help="Send over what was changed on Kaggle since the last push."),
    click.option(
        "--accept",
        metavar="REF",
        multiple=True,
        help="Take what Kaggle has under this reference for what is here; may be given several times.",
    ),
    builds_option,
    records_option,
    trust_option,
    project_option,
)
"""What `kit plan` and `kit push` take."""
pushed_options = stacked(version_option, records_option, project_option)
"""What commands take that are about a version pushed from here."""


@contextmanager
def open_client(tell: Callable[[str], None] = say) -> Iterator[Client]:
    """The client to Kaggle with the login that the official client would use here. Raises CredentialsError."""
    from kaggle_kit.remote.client.client import Client
    from kaggle_kit.remote.client.credentials import log_in

    login = log_in()
    for note in login.notes:
        tell(note)
    client = Client(login, tell=tell)
    try:
        yield client
    finally:
        client.close()


_LONGEST_SESSION_S = 12 * 3600.0
"""What Kaggle allows any notebook."""


@dataclass(frozen=True)
class PlanOptions:
    """What a user chooses for a plan."""

    unproved: bool = False
    overwrite: bool = False
    accept: tuple[str, ...] = ()
    builds: Path | None = None


def plan_of(
    project: Project, names: Sequence[str], *, client: Client, records: Path, options: PlanOptions
) -> tuple[Plan, tuple[Resource, ...]]:
    """The plan for `names` (all notebooks where none is given), and what it is about.

    Raises UsageError for an unknown name, ProjectError where a notebook is not built, RemoteError.
    """
    from kaggle_kit.notebook.build import stale
    from kaggle_kit.project.config import CONFIG
    from kaggle_kit.remote.client.upload_records import measured_rate
    from kaggle_kit.remote.plan.checks import check
    from kaggle_kit.remote.plan.hashes import open_cache
    from kaggle_kit.remote.plan.plan import make_plan
    from kaggle_kit.remote.plan.project_resources import merge, notebook_resources
    from kaggle_kit.remote.plan.remote import Remote
    from kaggle_kit.remote.plan.state import load_state, state_age
    from kaggle_kit.wheelhouse.prove import proof_problem

    state = load_state(records)
    cache = open_cache()
    needed: list[Resource] = []
    for name in names or sorted(project.notebooks):
        project.notebook(name)
        folder = _build_folder(project, name, options)
        needed += notebook_resources(project, name, build=folder, parts=_parts(project, name, folder), cache=cache)

    resources = merge(needed)
    problems = check(
        resources,
        unproved=lambda target: None if options.unproved else proof_problem(project.root, target),
        stale=lambda resource: stale(project, resource.name, _build_folder(project, resource.name, options)),
        config=project.root / CONFIG,
        known_secrets=client.login.forms(),
        passed={entry.split()[0] for pushed in state.datasets.values() for entry in pushed.files.values()},
        rehearsal=client.loopback,
    )
    plan = make_plan(
        resources,
        state=state,
        remote=Remote(client),
        problems=problems,
        login=client.username,
        rate=measured_rate(),
        overwrite=options.overwrite,
        accept=options.accept,
        settled=state_age(records) >= client.patience.settle_s,
    )
    return plan, resources


def _build_folder(project: Project, name: str, options: PlanOptions) -> Path:
    """Where the notebook's build is: as the user says, else in the project."""
    return options.builds / name if options.builds else project.place("build", name)


def _parts(project: Project, name: str, build: Path) -> dict[str, Path]:
    """The parts of the wheelhouse that a build uses; none where it is not on this machine.

    For a notebook with internet, which uses the kit's alone, a rehearsal makes that without a wheelhouse.
    """
    from kaggle_kit.errors import ProjectError
    from kaggle_kit.places import inside_whole
    from kaggle_kit.runtime.manifest import MANIFEST, read_manifest
    from kaggle_kit.wheelhouse.dataset import made_kit_part, made_parts, ready_parts
    from kaggle_kit.wheelhouse.folder import wheelhouse_path

    if not (build / MANIFEST).is_file():
        raise ProjectError(f"{build} holds no build; make it with: kit build {build.name}")
    target = str(read_manifest(build / MANIFEST).extra.get("target"))
    if target not in project.wheelhouses:
        return {}
    wheelhouse, parts = wheelhouse_path(project.root, target), build.parent / f"wheels-{target}"
    if parts.is_relative_to(project.root):
        inside_whole(project.root, parts)
    alone = made_kit_part(project.wheelhouses[target], parts) if project.notebook(name).internet else {}
    if alone:
        return alone
    if (wheelhouse / MANIFEST).is_file():
        return ready_parts(wheelhouse, reference=project.wheelhouses[target], out=parts)
    return made_parts(project.wheelhouses[target], parts)


def pushed_version(project: Project, name: str, *, records: Path, version: int | None) -> tuple[str, int]:
    """The reference of the notebook `name`, and `version` or the last one pushed from here.

    Raises UsageError where it was never pushed.
    """
    from kaggle_kit.errors import UsageError
    from kaggle_kit.remote.plan.state import load_state

    notebook = project.notebook(name)
    reference = f"{project.owner}/{notebook.slug}"
    state = load_state(records)
    known, asked = state.notebooks.get(reference), state.pending.get(f"notebook {reference}")
    if version is None and asked is not None:
        say(
            f"{reference}: a push was interrupted when it asked for version {asked.version}: kit push {name} finds out "
            "whether that was made, and goes on"
        )
    if version is None and known is None:
        raise UsageError(
            f"{name} was not pushed from here: push it with kit push {name}, find it with kit plan {name}, or name a "
            "version with --version"
        )
    return reference, version or (known.version if known else 1)


def session_seconds(project: Project, name: str, *, target: str | None) -> float:
    """How long a run of the notebook may take: as kit.toml says, else as the `target` that it was built for."""
    from kaggle_kit.targets import load_target

    hours = project.notebook(name).session_hours
    if hours is not None:
        return hours * 3600
    return load_target(target, project=project.root).session_seconds if target else _LONGEST_SESSION_S
