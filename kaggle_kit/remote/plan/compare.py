"""A dataset or a model here against the last push and against what Kaggle has: what a push would do to it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

from kaggle_kit.project.config import CONFIG
from kaggle_kit.remote.plan.problem import Problem
from kaggle_kit.runtime.manifest import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from kaggle_kit.remote.plan.resources import Resource
    from kaggle_kit.remote.plan.seen import Remote, SeenDataset
    from kaggle_kit.remote.plan.state import Pushed

Action = Literal[
    "create", "new version", "unchanged", "changed remotely", "unknown", "broken", "attached", "missing", "refused"
]
READY, FAILED, DELETED = "READY", "FAILED", "DELETED"


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Paths, sorted, against the last push."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a push would do with one resource, and why.

    `version` is Kaggle's newest now, `becomes` the one that the notebook will use: the next where it `sends`.
    """

    resource: Resource
    action: Action
    reason: str
    version: int | None = None
    becomes: int | None = None
    sends: bool = False
    waits: bool = False
    """Kaggle is still at work on the version that it has; nothing may be sent before it is done."""
    undecided: bool = False
    """Only when Kaggle is done with that version can be told whether it is what is here."""
    adopts: bool = False
    """What Kaggle has was found to be what is here, and the state does not say so yet."""
    changes: Changes = field(default_factory=Changes)
    problems: tuple[Problem, ...] = ()

    @property
    def send_bytes(self) -> int:
        """Bytes that the push would upload: a version is always all its files."""
        return self.resource.size if self.sends else 0


@dataclass(frozen=True, kw_only=True)
class Consent:
    """What the user has said: send over what differs on Kaggle; take these references as what is here."""

    overwrite: bool = False
    accept: Collection[str] = ()


def compare_dataset(resource: Resource, *, known: Pushed | None, remote: Remote, consent: Consent) -> Step:
    """The step for a dataset. Raises RemoteError where Kaggle does not answer."""
    seen = remote.dataset(resource.reference)
    if not resource.sent:
        return _attached_dataset(resource, seen, remote)
    if seen is None or seen.status == DELETED:
        gone = f"version {known.version} was pushed and is gone from Kaggle" if known else "not on Kaggle yet"
        return Step(resource=resource, action="create", reason=gone, becomes=1, sends=True)
    return _there(resource, seen, known, remote, consent)


def _there(resource: Resource, seen: SeenDataset, known: Pushed | None, remote: Remote, consent: Consent) -> Step:
    """The step for a dataset that Kaggle has."""
    step = Step(resource=resource, action="unchanged", reason="", version=seen.version, becomes=seen.version)
    if seen.status == FAILED:
        return _sent(step, "broken", f"Kaggle could not process version {seen.version}")
    step = replace(step, waits=seen.status != READY, problems=_public(resource, seen))
    if known and step.waits and known.version == seen.version + 1:
        # Kaggle may count a version only when it is done with it.
        return _by_state(replace(step, version=known.version, becomes=known.version), known)
    if known and known.version == seen.version:
        expected = {path: int(entry.split()[1]) for path, entry in known.files.items()}
        if not step.waits and (fault := _lacks(expected, seen.files)):
            return _sent(step, "broken", f"version {seen.version} on Kaggle {fault}")
        return _by_state(step, known)
    return _by_content(step, known, seen, remote, consent)


def _by_state(step: Step, known: Pushed) -> Step:
    """The state is Kaggle's newest version: what is here decides."""
    if known.digest == step.resource.digest:
        return replace(step, reason=f"as version {known.version}")
    changes = changes_since(known, step.resource)
    return _sent(replace(step, changes=changes), "new version", _told(changes))


def _by_content(step: Step, known: Pushed | None, seen: SeenDataset, remote: Remote, consent: Consent) -> Step:
    """The state does not know Kaggle's newest version: it is looked at."""
    resource = step.resource
    here = {file.path: file.size for file in resource.files}
    same = proved_same(resource, seen.version, remote.dataset_file)
    if same and not step.waits and (fault := _lacks(here, seen.files)):
        return _sent(step, "broken", f"version {seen.version} on Kaggle {fault}")
    if same or (same is None and resource.reference in consent.accept):
        how = "its manifest says so" if same else "accepted"
        return replace(step, reason=f"version {seen.version} on Kaggle is what is here: {how}", adopts=True)
    if step.waits and not consent.overwrite:
        return _undecided(step, seen.version)
    if same is None and not step.waits and _lacks(here, seen.files) is None and len(here) == len(seen.files):
        reason = f"version {seen.version} on Kaggle has the same names and sizes, and no manifest to tell more"
        return unclear(step, "unknown", reason, consent)
    if known is None:
        reason = f"version {seen.version} on Kaggle was not pushed from here, and holds something else"
    elif known.version < seen.version:
        reason = f"Kaggle has version {seen.version}, the last push made {known.version}"
    else:
        reason = f"Kaggle has version {seen.version}, the last push made {known.version}: was it deleted and made anew?"
    if known:
        step = replace(step, changes=changes_since(known, resource))
    return unclear(step, "changed remotely", reason, consent)


def compare_model(resource: Resource, *, known: Pushed | None, remote: Remote, consent: Consent) -> Step:
    """The step for the version of a Kaggle model that `kit.toml` names. Raises RemoteError."""
    seen = remote.model(resource.reference)
    newest, wanted = (seen.version if seen else 0), resource.version or 1
    step = Step(resource=resource, action="refused", reason="", version=newest or None, becomes=wanted)
    if not resource.sent and wanted > newest:
        return _refused(step, f"Kaggle has no version {wanted}", "name one that exists", action="missing")
    if not resource.sent:
        return _found_by_manifest(replace(step, action="attached", reason="used as Kaggle has it"), remote.model_file)
    if seen and seen.processing and wanted == newest + 1:
        return _processed_model(step, wanted, known)
    if wanted > newest + 1:
        return _refused(step, f"Kaggle's newest is version {newest}", f"write /{newest + 1} in {CONFIG}")
    if wanted <= newest:
        return _existing_model(step, wanted, newest, known, remote, consent)
    return _next_model(step, newest, known, remote)


def _processed_model(step: Step, wanted: int, known: Pushed | None) -> Step:
    """Kaggle is at work on the version that `kit.toml` names: pushed from here, or it must be looked at when ready."""
    if known and known.version == wanted and known.digest == step.resource.digest:
        return replace(step, action="unchanged", reason=f"as version {wanted}", version=wanted, waits=True)
    return _undecided(replace(step, version=wanted), wanted)


def _undecided(step: Step, version: int) -> Step:
    reason = (
        f"Kaggle still processes version {version}, which was not noted here: an interrupted push, or somebody else"
    )
    next_step = "wait some minutes, then plan again; kit push waits by itself"
    return replace(_refused(step, reason, next_step, action="unknown"), waits=True, undecided=True)


def _next_model(step: Step, newest: int, known: Pushed | None, remote: Remote) -> Step:
    """`kit.toml` names the version that is to be made: what is here must not be in the newest already."""
    resource = step.resource
    if newest == 0 and resource.licence is None:
        return _refused(step, "a new model needs a licence", f"add licence to models.{resource.name} in {CONFIG}")
    if newest == 0:
        return replace(step, action="create", reason="not on Kaggle yet", sends=True)
    by_state = known.digest == resource.digest if known and known.version == newest else None
    if by_state or (by_state is None and proved_same(resource, newest, remote.model_file)):
        return _refused(step, f"version {newest} holds what is here", f"write /{newest} in {CONFIG}")
    changes = changes_since(known, resource) if known else Changes()
    return replace(step, action="new version", reason=_told(changes), sends=True, changes=changes)


def _existing_model(
    step: Step, wanted: int, newest: int, known: Pushed | None, remote: Remote, consent: Consent
) -> Step:
    """`kit.toml` names a version that exists: it must hold what is here, since a version never changes."""
    resource = step.resource
    by_state = known.digest == resource.digest if known and known.version == wanted else None
    same = proved_same(resource, wanted, remote.model_file) if by_state is None else by_state
    if same or (same is None and resource.reference in consent.accept):
        return replace(step, action="unchanged", reason=f"as version {wanted}", adopts=by_state is None)
    if same is None:
        reason = f"version {wanted} on Kaggle has no manifest to tell whether it is what is here"
        return unclear(step, "unknown", reason, replace(consent, overwrite=False))
    return _refused(step, f"version {wanted} on Kaggle holds something else", f"write /{newest + 1} in {CONFIG}")


def proved_same(resource: Resource, version: int, read: Callable[[str, int, str], bytes | None]) -> bool | None:
    """Whether the manifest of a version on Kaggle is this one, byte for byte; None where there is none to compare."""
    own = resource.manifest()
    theirs = read(resource.reference, version, MANIFEST) if own else None
    if own is None or theirs is None:
        return None
    return sha256(theirs).hexdigest() == own.sha256


def changes_since(known: Pushed, resource: Resource) -> Changes:
    """What differs from the last push, file by file."""
    here = {file.path: f"{file.sha256} {file.size}" for file in resource.files}
    return Changes(
        added=tuple(sorted(here.keys() - known.files.keys())),
        changed=tuple(sorted(path for path in here.keys() & known.files.keys() if here[path] != known.files[path])),
        removed=tuple(sorted(known.files.keys() - here.keys())),
    )


def _told(changes: Changes) -> str:
    parts = (("new", changes.added), ("changed", changes.changed), ("gone", changes.removed))
    said = [f"{what}: {paths[0]}{f' and {len(paths) - 1} more' if paths[1:] else ''}" for what, paths in parts if paths]
    return "; ".join(said) or "its content is another"


def _lacks(expected: Mapping[str, int], seen: Mapping[str, int]) -> str | None:
    """The first file that Kaggle does not have as it was sent. Kaggle may list paths, or names alone."""
    alone = {path.rsplit("/", 1)[-1]: size for path, size in seen.items()}
    for path, size in sorted(expected.items()):
        found = seen.get(path, alone.get(path.rsplit("/", 1)[-1]))
        if found is None:
            return f"lacks {path}"
        if found != size:
            return f"has {path} with {found:,} bytes instead of {size:,}"
    return None


def unclear(step: Step, action: Action, reason: str, consent: Consent) -> Step:
    """Kaggle holds something that was not pushed from here: it is sent over with consent only."""
    if consent.overwrite:
        return _sent(step, action, f"{reason}; it is sent over")
    accept = f"take it as yours with --accept {step.resource.reference}, or " if action == "unknown" else ""
    pull = f"bring it back with kit pull {step.resource.name}, or " if step.resource.kind == "notebook" else ""
    over = "send yours over it with --overwrite" if step.resource.kind != "model" else "name another version"
    return _refused(step, reason, f"{accept}{pull}{over}", action=action)


def _sent(step: Step, action: Action, reason: str) -> Step:
    return replace(step, action=action, reason=reason, sends=True, becomes=(step.version or 0) + 1)


def _refused(step: Step, reason: str, next_step: str, *, action: Action = "refused") -> Step:
    problem = Problem(resource=step.resource.key, what=reason, next_step=next_step)
    return replace(step, action=action, reason=reason, problems=(*step.problems, problem))


def _public(resource: Resource, seen: SeenDataset) -> tuple[Problem, ...]:
    if seen.private or not resource.private:
        return ()
    what = "it is public on Kaggle, and so will be what is sent"
    return (Problem(resource=resource.key, what=what, next_step="make it private there", warning=True),)


def _attached_dataset(resource: Resource, seen: SeenDataset | None, remote: Remote) -> Step:
    """A dataset that is used as Kaggle has it."""
    step = Step(resource=resource, action="attached", reason="used as Kaggle has it")
    if seen is None or seen.status in {DELETED, FAILED}:
        what = "Kaggle has no such dataset, or not for you" if seen is None else f"Kaggle says {seen.status}"
        return _refused(step, what, f"correct the reference in {CONFIG}", action="missing")
    step = replace(step, version=seen.version, becomes=seen.version, waits=seen.status != READY)
    return _found_by_manifest(step, remote.dataset_file)


def _found_by_manifest(step: Step, read: Callable[[str, int, str], bytes | None]) -> Step:
    """A model must carry the manifest by which notebooks find it."""
    model = step.resource.model
    if model is None or step.becomes is None:
        return step
    text = read(step.resource.reference, step.becomes, MANIFEST)
    try:
        body = json.loads(text or b"")
        if (body["kind"], body["name"]) == ("model", model):
            return step
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    what = f"version {step.becomes} has no manifest.json of a model {model!r}, by which the notebook finds it"
    return _refused(step, what, f"push a copy of your own: name it in models.{model} of {CONFIG}")
