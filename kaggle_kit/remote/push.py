"""Apply a plan: send what changed, wait until exactly that can be attached, then push the notebooks."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kaggle_kit.errors import CredentialsError, OutsideError, ProjectError, RemoteError, UsageError
from kaggle_kit.outside import read_bytes
from kaggle_kit.remote.client import datasets, models, notebooks
from kaggle_kit.remote.client.upload_records import remember_rate
from kaggle_kit.remote.client.uploads import DATASET, MODEL, Upload, forget, upload_files
from kaggle_kit.remote.plan.project_resources import METADATA
from kaggle_kit.remote.plan.resources import NOTEBOOK_BYTES, Artifact, Dataset, Model, Notebook
from kaggle_kit.remote.plan.state import save_state
from kaggle_kit.remote.references import parse_variation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from kaggle_kit.remote.client.client import Client
    from kaggle_kit.remote.client.uploads import Sent
    from kaggle_kit.remote.plan.compare import AnyStep
    from kaggle_kit.remote.plan.plan import Plan
    from kaggle_kit.remote.plan.resources import Resource, SentFile
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
    noted: bool = True
    """Whether the state on this disk knows all that was made."""


def apply(plan: Plan, *, client: Client, records: Path, notes: str, listener: Listener) -> Applied:
    """Do what `plan` says; the state in the folder `records` is written after each thing that was made.

    `notes` become the versions' notes. An interrupted push is taken up by the next: what was uploaded is not uploaded
    again, what was made is found. Raises UsageError where the plan forbids it, RemoteError for the first thing that
    did not come out as asked.
    """
    if not plan.allowed:
        raise UsageError("nothing was pushed:\n" + "\n".join(f"- {problem}" for problem in plan.refusals))

    push = _Push(plan, client, records, notes, listener, Applied(state=plan.state))
    save_state(records, plan.state)  # before anything is made: a disk that is full ends it here
    waiting: list[Artifact] = []
    for step in plan.steps:
        if not isinstance(step.resource, Artifact):
            continue
        if step.sends:
            push.send(step, step.resource)
        elif step.becomes is not None:
            push.applied.versions[step.resource.key] = step.becomes
        if step.sends or step.waits:
            waiting.append(step.resource)

    # Only now: one is processed while the next is sent.
    for artifact in waiting:
        push.wait_or_doubt(artifact)
    for step in plan.steps:
        if isinstance(step.resource, Notebook) and step.sends:
            push.push_notebook(step, step.resource)
    return push.applied


@dataclass(frozen=True)
class _Push:
    """A plan that is being applied, and what it has made."""

    plan: Plan
    client: Client
    records: Path
    notes: str
    listener: Listener
    applied: Applied

    def save(self, state: State) -> None:
        """Note what is asked for, or was made. If the disk refuses, that is said, and the push goes on.

        The next plan finds what was made all the same, if Kaggle says enough of it.
        """
        self.applied.state = state
        try:
            save_state(self.records, state)
            self.applied.noted = True
        except (OSError, ProjectError) as error:
            self.applied.noted = False
            self.listener.say(f"warning: what was made could not be noted here ({error}); the next plan looks for it")

    def send(self, step: AnyStep, artifact: Artifact) -> None:
        """Upload an artifact's files and make the version that holds them."""
        client, say = self.client, self.listener.say
        kind = DATASET if isinstance(artifact, Dataset) else MODEL
        if step.waits and step.version is not None:
            say(f"{artifact.key}: Kaggle still processes version {step.version}")
            self.wait(artifact, earlier=step.version)

        uploads = [Upload(file.source, file.path, file.sha256) for file in artifact.files]
        self.listener.begin(artifact)
        since = client.clock()
        try:
            sent = upload_files(client, uploads, kind=kind, progress=self.listener.sent)
        except CredentialsError:
            raise
        except RemoteError as error:
            raise RemoteError(f"{artifact.key}: {error}") from error
        remember_rate(artifact.size, client.clock() - since)

        self.save(self.applied.state.with_pending(artifact, (step.version or 0) + 1))
        version = self._make(artifact, sent, before=step.version)
        forget(client, uploads, kind=kind)
        self.applied.versions[artifact.key] = version
        self.applied.sent_bytes += artifact.size
        self.save(self.applied.state.with_pushed(artifact, version))
        say(f"{artifact.key}: version {version} is made")

    def _make(self, artifact: Artifact, sent: tuple[Sent, ...], *, before: int | None) -> int:
        """The number of the version that now holds the sent files; `before` is Kaggle's newest one."""
        client, notes = self.client, self.notes
        if isinstance(artifact, Dataset):
            if before is not None:
                return datasets.add_version(client, artifact.reference, files=sent, notes=notes, before=before)
            return datasets.create(
                client,
                artifact.reference,
                title=artifact.title,
                files=sent,
                licence=artifact.licence or "unknown",
                private=artifact.private,
                subtitle=artifact.subtitle or None,
            )

        reference = parse_variation(artifact.reference)
        if before is not None:
            return models.add_version(client, reference, files=sent, notes=notes, before=before)
        owner, slug = reference.owner, reference.slug
        if models.read_model(client, owner, slug) is None:
            models.create_model(client, owner, slug, title=artifact.title, private=artifact.private)
        return models.create_variation(client, reference, files=sent, licence=artifact.licence or "Other")

    def wait(self, artifact: Artifact, *, earlier: int | None = None) -> None:
        """Until the version that the notebook will use, or an `earlier` one, is ready, with exactly what was sent."""
        deadline = self.client.clock() + self.client.patience.ready_s
        client, say = self.client.until(deadline), self.listener.say
        version = earlier or self.applied.versions[artifact.key]
        # An earlier version holds other files, and what was not sent from here holds what it likes.
        files = artifact.sizes if artifact.sent and earlier is None else None
        if isinstance(artifact, Model):
            reference = parse_variation(artifact.reference)
            models.wait_ready(client, reference, version=version, files=files, deadline=deadline, tell=say)
        else:
            datasets.wait_ready(client, artifact.reference, version=version, files=files, deadline=deadline, tell=say)

    def wait_or_doubt(self, artifact: Artifact) -> None:
        """As `wait`; if Kaggle does not show a version of this push as it was sent, it is noted as asked for only."""
        try:
            self.wait(artifact)
        except RemoteError:
            self._doubt(artifact)
            raise

    def _doubt(self, artifact: Artifact) -> None:
        step, version = self.plan.step(artifact.key), self.applied.versions.get(artifact.key)
        if step is not None and step.sends and version:
            self.save(self.applied.state.with_doubt(artifact, version, before=self.plan.state.pushed(artifact)))

    def push_notebook(self, step: AnyStep, notebook: Notebook) -> None:
        """Save and run a version of the notebook, as it was checked, with exactly the versions that it needs."""
        if any(not _is_still(file) for file in notebook.files):
            self.listener.say(
                f"{notebook.key}: it was built again meanwhile; what the plan has checked is pushed. Run kit push "
                f"{notebook.name} again for the new build"
            )
        versions = self.applied.versions
        attached, inputs = notebook.settings.datasets, self.plan.inputs(notebook)
        self.save(self.applied.state.with_pending(notebook, (step.version or 0) + 1, inputs))
        made = notebooks.push(
            self.client,
            kernel_metadata(notebook),
            notebook.text,
            session_timeout_s=notebook.settings.session_seconds,
            before=step.version or 0,
            pinned={one: versions[f"dataset {one}"] for one in attached if f"dataset {one}" in versions},
            internet=notebook.online,
        )
        self.applied.notebooks[notebook.key] = made
        versions[notebook.key] = made.version
        self.save(self.applied.state.with_notebook(notebook, made.version, inputs))
        self.listener.say(f"{notebook.key}: version {made.version} is pushed and runs: {made.url}")


def _is_still(file: SentFile) -> bool:
    """Whether a file here is what was held of it."""
    try:
        return read_bytes(file.source, most_bytes=NOTEBOOK_BYTES) == file.held
    except OutsideError:
        return False


def kernel_metadata(notebook: Notebook) -> Mapping[str, object]:
    """The notebook's kernel-metadata.json with the image that `kit.toml` names."""
    body: dict[str, object] = json.loads(notebook.held(METADATA))
    body["docker_image"] = notebook.settings.docker_image
    body["docker_image_pinning_type"] = notebook.settings.image_pinning
    return body
