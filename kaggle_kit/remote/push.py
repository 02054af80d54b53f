"""Apply a plan: send what changed, wait until exactly that can be attached, then push the notebooks."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kaggle_kit.errors import CredentialsError, RemoteError, UsageError
from kaggle_kit.remote.client import datasets, models, notebooks
from kaggle_kit.remote.client.upload_records import remember_rate
from kaggle_kit.remote.client.uploads import DATASET, MODEL, Upload, forget, upload_files
from kaggle_kit.remote.plan.kernel_build import METADATA
from kaggle_kit.remote.plan.state import save_state
from kaggle_kit.remote.references import parse_variation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from kaggle_kit.remote.client.client import Client
    from kaggle_kit.remote.client.uploads import Sent
    from kaggle_kit.remote.plan.compare import Step
    from kaggle_kit.remote.plan.plan import Plan
    from kaggle_kit.remote.plan.resources import Resource
    from kaggle_kit.remote.plan.state import State


@dataclass(frozen=True)
class Listener:
    """Who is told what goes on: `say` a sentence; `begin` that a resource's upload begins; `sent` a file's bytes."""

    say: Callable[[str], None]
    begin: Callable[[Resource], None] = lambda _: None
    sent: Callable[[Path, int], None] = lambda _path, _bytes: None


@dataclass
class Applied:
    """What was made: key of a resource → its version, and the notebooks as Kaggle took them."""

    state: State
    versions: dict[str, int] = field(default_factory=dict)
    notebooks: dict[str, notebooks.Pushed] = field(default_factory=dict)
    sent_bytes: int = 0


def apply(plan: Plan, *, client: Client, records: Path, notes: str, listener: Listener) -> Applied:
    """Do what `plan` says; the state in the folder `records` is written after each thing that was made.

    `notes` become the versions' notes. An interrupted push is taken up by the next: what was uploaded is not uploaded
    again, what was made is found. Raises UsageError where the plan forbids it, RemoteError for the first thing that
    did not come out as asked.
    """
    if not plan.allowed:
        raise UsageError("nothing was pushed:\n" + "\n".join(f"- {problem}" for problem in plan.refusals))
    applied = Applied(state=plan.state)
    save_state(records, applied.state)
    waiting: list[Step] = []
    for step in plan.steps:
        if step.resource.kind == "notebook":
            continue
        if step.sends:
            _send(step, client=client, records=records, notes=notes, listener=listener, applied=applied)
        elif step.becomes is not None:
            applied.versions[step.resource.key] = step.becomes
        if step.sends or step.waits:
            waiting.append(step)
    # Only now: one is processed while the next is sent.
    for step in waiting:
        _wait(step, client=client, applied=applied, say=listener.say)
    for step in plan.steps:
        if step.resource.kind == "notebook" and step.sends:
            _push_notebook(step, plan=plan, client=client, records=records, say=listener.say, applied=applied)
    return applied


def _send(step: Step, *, client: Client, records: Path, notes: str, listener: Listener, applied: Applied) -> None:
    """Upload a dataset's or model's files and make the version that holds them."""
    resource = step.resource
    kind = DATASET if resource.kind == "dataset" else MODEL
    if step.waits:
        listener.say(f"{resource.key}: Kaggle still processes version {step.version}")
        _wait(step, client=client, applied=applied, say=listener.say, version=step.version)
    uploads = [Upload(file.source, file.path, file.sha256) for file in resource.files]
    listener.begin(resource)
    since = client.clock()
    try:
        sent = upload_files(client, uploads, kind=kind, progress=listener.sent)
    except CredentialsError:
        raise
    except RemoteError as error:
        raise RemoteError(f"{resource.key}: {error}") from error
    remember_rate(resource.size, client.clock() - since)
    version = _make(step, sent, client=client, notes=notes)
    forget(client, uploads, kind=kind)
    applied.versions[resource.key] = version
    applied.sent_bytes += resource.size
    applied.state = applied.state.with_pushed(resource, version)
    save_state(records, applied.state)
    listener.say(f"{resource.key}: version {version} is made")


def _make(step: Step, sent: tuple[Sent, ...], *, client: Client, notes: str) -> int:
    resource = step.resource
    if resource.kind == "model":
        return _make_model(step, sent, client=client, notes=notes)
    if step.version is None:
        return datasets.create(
            client,
            resource.reference,
            title=resource.title,
            files=sent,
            licence=resource.licence or "unknown",
            private=resource.private,
            subtitle=resource.subtitle or None,
        )
    return datasets.add_version(client, resource.reference, files=sent, notes=notes, before=step.version)


def _make_model(step: Step, sent: tuple[Sent, ...], *, client: Client, notes: str) -> int:
    resource = step.resource
    ref = parse_variation(resource.reference)
    if step.version is not None:
        return models.add_version(client, ref, files=sent, notes=notes, before=step.version)
    if models.read_model(client, ref.owner, ref.slug) is None:
        models.create_model(client, ref.owner, ref.slug, title=resource.title, private=resource.private)
    return models.create_variation(client, ref, files=sent, licence=resource.licence or "Other")


def _wait(
    step: Step,
    *,
    client: Client,
    applied: Applied,
    say: Callable[[str], None],
    version: int | None = None,
) -> None:
    """Until the version that the notebook will use, or `version`, is ready; what was sent must be what it lists."""
    resource = step.resource
    deadline = client.clock() + client.patience.ready_s
    number = version or applied.versions[resource.key]
    # An earlier version holds other files, and what was not sent from here holds what it likes.
    sent = resource.sent and version is None
    files = {file.path: file.size for file in resource.files} if sent else None
    if resource.kind == "model":
        models.wait_ready(
            client, parse_variation(resource.reference), version=number, files=files, deadline=deadline, tell=say
        )
    else:
        datasets.wait_ready(client, resource.reference, version=number, files=files, deadline=deadline, tell=say)


def _push_notebook(
    step: Step, *, plan: Plan, client: Client, records: Path, say: Callable[[str], None], applied: Applied
) -> None:
    resource = step.resource
    kernel = resource.kernel
    if kernel is None:
        raise UsageError(f"{resource.key} has no settings: build it again with kit build")
    pinned = {
        one: applied.versions[f"dataset {one}"] for one in kernel.datasets if f"dataset {one}" in applied.versions
    }
    made = notebooks.push(
        client,
        kernel_metadata(resource),
        resource.source_text,
        session_timeout_s=kernel.session_seconds,
        before=step.version or 0,
        pinned=pinned,
        internet=resource.online,
    )
    applied.notebooks[resource.key] = made
    applied.versions[resource.key] = made.version
    applied.state = applied.state.with_notebook(resource, made.version, plan.inputs(resource))
    save_state(records, applied.state)
    say(f"{resource.key}: version {made.version} is pushed and runs: {made.url}")


def kernel_metadata(resource: Resource) -> Mapping[str, object]:
    """The notebook's kernel-metadata.json with the image that `kit.toml` names."""
    metadata = next(file.source for file in resource.files if file.path == METADATA)
    body: dict[str, object] = json.loads(metadata.read_text(encoding="utf-8"))
    if resource.kernel is not None:
        body["docker_image"] = resource.kernel.docker_image
        body["docker_image_pinning_type"] = resource.kernel.image_pinning
    return body
