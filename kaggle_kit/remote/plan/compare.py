"""What is here against the last push and against what Kaggle has: what a push would do to it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from kaggle_kit.project.config import CONFIG
from kaggle_kit.remote.client.machines import is_accelerator, same_accelerator
from kaggle_kit.remote.client.notebooks import newest_version, page_of, source_identity
from kaggle_kit.remote.client.versions import DELETED, FAILED, NOT_SHOWN, READY, UNDER_WAY, compare_files, sizes_of
from kaggle_kit.remote.plan.resources import Dataset, Model, Notebook, Problem, Resource
from kaggle_kit.remote.references import bare, normal, versions
from kaggle_kit.runtime.manifest import MANIFEST
from kaggle_kit.suggest import some

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from kaggle_kit.remote.client.datasets import Dataset as RemoteDataset
    from kaggle_kit.remote.client.notebooks import RemoteNotebook
    from kaggle_kit.remote.plan.remote import Remote
    from kaggle_kit.remote.plan.resources import Artifact, NotebookSettings
    from kaggle_kit.remote.plan.state import Pushed, PushedNotebook

Action = Literal[
    "create", "new version", "unchanged", "changed remotely", "unknown", "broken", "attached", "missing", "refused"
]


R = TypeVar("R", bound=Resource)
R_co = TypeVar("R_co", bound=Resource, covariant=True)
A = TypeVar("A", Dataset, Model)


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Paths, sorted, against the last push."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Step(Generic[R_co]):
    """What a push would do with one resource, and why.

    `version` is Kaggle's newest now, `becomes` the one that the notebook will use: the next where it `sends`.
    """

    resource: R_co
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
    listed: Mapping[str, int | None] = field(default_factory=dict)
    """Of what is attached and has no manifest: bytes by path, as Kaggle lists them."""

    @property
    def send_bytes(self) -> int:
        """Bytes that the push would upload: a version is always all its files."""
        return self.resource.size if self.sends else 0


DatasetStep = Step[Dataset]
ModelStep = Step[Model]
NotebookStep = Step[Notebook]
AnyStep = Step[Resource]


@dataclass(frozen=True, kw_only=True)
class Consent:
    """What the user has said: send over what differs on Kaggle; take these references as what is here."""

    overwrite: bool = False
    accept: Collection[str] = ()


def compare_dataset(resource: Dataset, *, known: Pushed | None, remote: Remote, consent: Consent) -> DatasetStep:
    """The step for a dataset. Raises RemoteError where Kaggle does not answer."""
    seen = remote.dataset(resource.reference)
    if not resource.sent:
        return _attached_dataset(resource, seen, remote)
    if seen is None or seen.status == DELETED:
        gone = f"version {known.version} was pushed and is gone from Kaggle" if known else "not on Kaggle yet"
        return Step(resource=resource, action="create", reason=gone, becomes=1, sends=True)
    return _there(resource, seen, known, remote, consent)


def _there(
    resource: Dataset, seen: RemoteDataset, known: Pushed | None, remote: Remote, consent: Consent
) -> DatasetStep:
    """The step for a dataset that Kaggle has."""
    step = Step(resource=resource, action="unchanged", reason="", version=seen.newest, becomes=seen.newest)
    if seen.status in FAILED:
        return _sent(step, "broken", f"Kaggle could not process version {seen.newest}")
    # If Kaggle does not show a state, what it calls the current version is ready.
    current = seen.status == NOT_SHOWN and seen.version == seen.newest
    step = replace(step, waits=seen.status != READY and not current, problems=_public(resource, seen))
    if known and step.waits and known.version == seen.newest + 1:
        # Kaggle may count a version only when it is done with it.
        return _by_state(replace(step, version=known.version, becomes=known.version), known)
    if known and known.version == seen.newest:
        expected = {path: int(entry.split()[1]) for path, entry in known.files.items()}
        if not step.waits and (fault := _lacks(expected, seen.sizes)):
            return _sent(step, "broken", f"version {seen.newest} on Kaggle {fault}")
        return _by_state(step, known)
    return _by_content(step, known, seen, remote, consent)


def _by_state(step: DatasetStep, known: Pushed) -> DatasetStep:
    """The state is Kaggle's newest version: what is here decides."""
    if known.digest == step.resource.digest:
        return replace(step, reason=f"as version {known.version}")
    changes = changes_since(known, step.resource)
    return _sent(replace(step, changes=changes), "new version", _told(changes))


def _by_content(
    step: DatasetStep, known: Pushed | None, seen: RemoteDataset, remote: Remote, consent: Consent
) -> DatasetStep:
    """The state does not know Kaggle's newest version: it is looked at."""
    resource = step.resource
    here = resource.sizes
    same = proved_same(resource, seen.newest, remote.dataset_file)
    if same and not step.waits and (fault := _lacks(here, seen.sizes)):
        return _sent(step, "broken", f"version {seen.newest} on Kaggle {fault}")
    if same or (same is None and resource.reference in consent.accept):
        how = "its manifest says so" if same else "accepted"
        return replace(step, reason=f"version {seen.newest} on Kaggle is what is here: {how}", adopts=True)

    if step.waits and not consent.overwrite:
        return _undecided(step, seen.newest)
    if same is None and not step.waits and _lacks(here, seen.sizes) is None and len(here) == len(seen.sizes):
        reason = f"version {seen.newest} on Kaggle has the same names and sizes, and no manifest to tell more"
        return _unclear(step, "unknown", reason, consent)

    if known is None:
        reason = f"version {seen.newest} on Kaggle was not pushed from here, and holds something else"
    elif known.version < seen.newest:
        reason = f"Kaggle has version {seen.newest}, the last push made {known.version}"
    else:
        reason = f"Kaggle has version {seen.newest}, the last push made {known.version}: was it deleted and made anew?"
    if known:
        step = replace(step, changes=changes_since(known, resource))
    return _unclear(step, "changed remotely", reason, consent)


def compare_model(resource: Model, *, known: Pushed | None, remote: Remote, consent: Consent) -> ModelStep:
    """The step for the version of a Kaggle model that `kit.toml` names. Raises RemoteError."""
    seen = remote.model(resource.reference)
    newest, wanted = (seen and seen.version) or 0, resource.version
    step = Step(resource=resource, action="refused", reason="", version=newest or None, becomes=wanted)
    if not resource.sent and wanted > newest:
        return _refused(step, f"Kaggle has no version {wanted}", "name one that exists", action="missing")
    if not resource.sent:
        step = replace(step, action="attached", reason="used as Kaggle has it")
        listed = partial(remote.model_files, resource.reference, wanted)
        return _found(step, remote.model_file, lambda: sizes_of(listed() or ()))
    if seen and seen.status in UNDER_WAY and wanted == newest + 1:
        return _processed_model(step, wanted, known)
    if wanted > newest + 1:
        return _refused(step, f"Kaggle's newest is version {newest}", f"write /{newest + 1} in {CONFIG}")
    if wanted <= newest:
        return _existing_model(step, wanted, newest, known, remote, consent)
    return _next_model(step, newest, known, remote)


def _processed_model(step: ModelStep, wanted: int, known: Pushed | None) -> ModelStep:
    """Kaggle is at work on the version that `kit.toml` names: pushed from here, or it must be looked at when ready."""
    if known and known.version == wanted and known.digest == step.resource.digest:
        return replace(step, action="unchanged", reason=f"as version {wanted}", version=wanted, waits=True)
    return _undecided(replace(step, version=wanted), wanted)


def _undecided(step: Step[A], version: int) -> Step[A]:
    reason = (
        f"Kaggle still processes version {version}, which was not noted here: an interrupted push, or somebody else"
    )
    next_step = "wait some minutes, then plan again; kit push waits by itself"
    return replace(_refused(step, reason, next_step, action="unknown"), waits=True, undecided=True)


def _next_model(step: ModelStep, newest: int, known: Pushed | None, remote: Remote) -> ModelStep:
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
    step: ModelStep, wanted: int, newest: int, known: Pushed | None, remote: Remote, consent: Consent
) -> ModelStep:
    """`kit.toml` names a version that exists: it must hold what is here, since a version never changes."""
    resource = step.resource
    by_state = known.digest == resource.digest if known and known.version == wanted else None
    same = proved_same(resource, wanted, remote.model_file) if by_state is None else by_state
    if same or (same is None and resource.reference in consent.accept):
        return replace(step, action="unchanged", reason=f"as version {wanted}", adopts=by_state is None)
    if same is None:
        reason = f"version {wanted} on Kaggle has no manifest to tell whether it is what is here"
        return _unclear(step, "unknown", reason, replace(consent, overwrite=False))
    return _refused(step, f"version {wanted} on Kaggle holds something else", f"write /{newest + 1} in {CONFIG}")


def proved_same(resource: Artifact, version: int, read: Callable[[str, int, str], bytes | None]) -> bool | None:
    """Whether the manifest of a version on Kaggle is this one, byte for byte; None where there is none to compare."""
    own = resource.manifest()
    theirs = read(resource.reference, version, MANIFEST) if own else None
    if own is None or theirs is None:
        return None
    return sha256(theirs).hexdigest() == own.sha256


def changes_since(known: Pushed, resource: Artifact) -> Changes:
    """What differs from the last push, file by file."""
    here = {file.path: f"{file.sha256} {file.size}" for file in resource.files}
    return Changes(
        added=tuple(sorted(here.keys() - known.files.keys())),
        changed=tuple(sorted(path for path in here.keys() & known.files.keys() if here[path] != known.files[path])),
        removed=tuple(sorted(known.files.keys() - here.keys())),
    )


def _told(changes: Changes) -> str:
    parts = (("new", changes.added), ("changed", changes.changed), ("gone", changes.removed))
    return "; ".join(f"{what}: {some(paths, 1)}" for what, paths in parts if paths) or "its content is another"


def _lacks(expected: Mapping[str, int], seen: Mapping[str, int | None]) -> str | None:
    """What of the files that were sent Kaggle does not have as they were, in words; None where nothing."""
    return compare_files(seen, expected).lacking.replace("does not list", "lacks", 1) or None


def _unclear(step: Step[R], action: Action, reason: str, consent: Consent) -> Step[R]:
    """Kaggle holds something that was not pushed from here: it is sent over with consent only."""
    if consent.overwrite:
        return _sent(step, action, f"{reason}; it is sent over")
    accept = f"take it as yours with --accept {step.resource.reference}, or " if action == "unknown" else ""
    pull = f"bring it back with kit pull {step.resource.name}, or " if step.resource.kind == "notebook" else ""
    over = "send yours over it with --overwrite" if step.resource.kind != "model" else "name another version"
    return _refused(step, reason, f"{accept}{pull}{over}", action=action)


def _sent(step: Step[R], action: Action, reason: str) -> Step[R]:
    return replace(step, action=action, reason=reason, sends=True, becomes=(step.version or 0) + 1)


def _refused(step: Step[R], reason: str, next_step: str, *, action: Action = "refused") -> Step[R]:
    problem = step.resource.problem(reason, next_step)
    return replace(step, action=action, reason=reason, problems=(*step.problems, problem))


def _public(resource: Dataset, seen: RemoteDataset) -> tuple[Problem, ...]:
    if seen.private or not resource.private:
        return ()
    what = "it is public on Kaggle, and so will be what is sent"
    return (resource.problem(what, "make it private there", warning=True),)


def _attached_dataset(resource: Dataset, seen: RemoteDataset | None, remote: Remote) -> DatasetStep:
    """A dataset that is used as Kaggle has it."""
    step = Step(resource=resource, action="attached", reason="used as Kaggle has it")
    if seen is None or seen.status in FAILED:
        what = "Kaggle has no such dataset, or not for you" if seen is None else f"Kaggle says {seen.status}"
        return _refused(step, what, f"correct the reference in {CONFIG}", action="missing")
    step = replace(step, version=seen.newest, becomes=seen.newest, waits=seen.status != READY)
    return _found(step, remote.dataset_file, lambda: seen.sizes)


def _found(
    step: Step[A], read: Callable[[str, int, str], bytes | None], listed: Callable[[], Mapping[str, int | None]]
) -> Step[A]:
    """A model must carry the manifest by which notebooks find it, or be another's, which they find by its reference."""
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
    if step.resource.by_reference:
        return _found_by_reference(step, listed())
    what = f"version {step.becomes} has no manifest.json of a model {model!r}, by which the notebook finds it"
    return _refused(step, what, f"push a copy of your own: name it in models.{model} of {CONFIG}")


def _found_by_reference(step: Step[A], listed: Mapping[str, int | None]) -> Step[A]:
    """A public model as its owner has made it; Kaggle's list of its files says what it is."""
    version, size = step.becomes, sum(size or 0 for size in listed.values())
    step = replace(step, listed=dict(sorted(listed.items())))
    if not listed:
        what = f"Kaggle does not list the files of version {version}, so whether it is a model could not be checked"
        unknown = step.resource.problem(what, "see its page", warning=True)
        return replace(step, problems=(*step.problems, unknown))
    if not any(path.rpartition("/")[2] == "config.json" for path in listed):
        what = f"version {version} holds no config.json: {some(sorted(listed))}"
        return _refused(step, what, f"name a model that an engine loads in {CONFIG}", action="missing")
    reason = f"{step.reason}, {len(listed)} files, {size:,} bytes; without kit's manifest it is found by its reference"
    return replace(step, reason=reason)


def compare_notebook(
    resource: Notebook,
    *,
    known: PushedNotebook | None,
    inputs: tuple[str, ...],
    remote: Remote,
    consent: Consent,
) -> NotebookStep:
    """The step for a notebook whose inputs will be `inputs` (references with versions, sorted). Raises RemoteError."""
    seen = remote.notebook(resource.reference)
    if seen is None:
        gone = f"version {known.version} was pushed and is gone from Kaggle" if known else "not on Kaggle yet"
        return Step(resource=resource, action="create", reason=gone, becomes=1, sends=True)

    there, newest = source_identity(seen.source), newest_version(seen)
    step = Step(resource=resource, action="unchanged", reason="", version=newest, becomes=newest)
    if known and known.source == there and known.version <= newest:
        planned = _unless_failed(_pushed_source(step, known, seen, inputs), remote)
        return planned if consent.overwrite else _unless_repeated(planned, known, seen, inputs, remote)
    if there == resource.source:
        return _unless_failed(_same_source(step, seen, inputs, consent), remote)
    if known and known.merged and known.merged.source == there and known.merged.version <= newest:
        reason = f"the edits of version {known.merged.version} on Kaggle were brought here"
        return _sent(step, "new version", reason)

    if known is None:
        reason = f"version {newest} on Kaggle was not pushed from here, and its source is another"
    elif known.version < newest:
        reason = f"its source was changed on Kaggle (version {newest}, the last push made {known.version})"
    else:
        reason = f"its source on Kaggle (version {newest}) is not what the last push sent"
    return _unclear(step, "changed remotely", reason, consent)


def _unless_failed(step: NotebookStep, remote: Remote) -> NotebookStep:
    """A version whose run failed is of no use to anybody: the same content is pushed again, and runs again."""
    if step.action != "unchanged" or step.becomes is None:
        return step
    state = remote.failed(step.resource.reference, step.becomes)
    if state is None:
        return step
    reason = f"the run of version {step.becomes} ended with {state.lower().replace('_', ' ')}"
    return _sent(replace(step, adopts=False), "new version", reason)


def _pushed_source(
    step: NotebookStep, known: PushedNotebook, seen: RemoteNotebook, inputs: tuple[str, ...]
) -> NotebookStep:
    """Kaggle's source is the pushed one: what is here, its inputs and its settings decide."""
    resource, newest = step.resource, newest_version(seen)
    reasons = []
    if known.source != resource.source:
        reasons.append("its source changed")
    elif known.digest != resource.digest:
        reasons.append("its settings changed")
    reasons += _moved(known.inputs, inputs) or _lost(known, seen)
    reasons += _unlike(resource.settings, seen)
    if reasons:
        return _sent(step, "new version", "; ".join(reasons))
    newer = f", and so is version {newest}" if newest > known.version else ""
    return replace(step, reason=f"as version {known.version}{newer}", becomes=known.version)


def _same_source(step: NotebookStep, seen: RemoteNotebook, inputs: tuple[str, ...], consent: Consent) -> NotebookStep:
    """Kaggle has this very source in a version that the state does not know: its inputs tell the rest."""
    theirs, ours = _attached(seen), sorted(map(normal, inputs))
    if reasons := _unlike(step.resource.settings, seen):
        return _sent(step, "new version", "; ".join(reasons))
    if theirs == ours or step.resource.reference in consent.accept:
        how = "with these inputs" if theirs == ours else "accepted"
        return replace(step, reason=f"version {seen.version} on Kaggle is of this source, {how}", adopts=True)
    if versions(theirs).keys() != versions(inputs).keys():
        return _sent(step, "new version", "it has other inputs on Kaggle")
    reason = f"version {seen.version} on Kaggle is of this source, but Kaggle does not say which versions it was given"
    return _unclear(step, "unknown", reason, consent)


def _unlike(settings: NotebookSettings, seen: RemoteNotebook) -> list[str]:
    """What of the settings differs on Kaggle."""
    reasons = []
    if seen.internet is not None and seen.internet != settings.internet:
        reasons.append(f"internet is {'on' if seen.internet else 'off'} on Kaggle")
    if same_accelerator(settings.accelerator, seen) is False:
        ran, asked = (_machine(shape) for shape in (seen.machine_shape, settings.accelerator))
        reasons.append(f"Kaggle ran it on {ran}, not on {asked}")
    if seen.private is not None and seen.private != settings.private:
        reasons.append(f"it is {'private' if seen.private else 'public'} on Kaggle")
    for what, theirs, ours in (
        ("competitions", seen.competitions, settings.competitions),
        ("notebooks", seen.kernels, settings.kernels),
    ):
        if sorted(map(normal, theirs)) != sorted(map(normal, ours)):
            reasons.append(f"its {what} on Kaggle are {', '.join(sorted(theirs)) or 'none'}")
    return reasons


def _machine(shape: str | None) -> str:
    return str(shape) if is_accelerator(shape) else "a machine without a GPU"


def _lost(known: PushedNotebook, seen: RemoteNotebook) -> list[str]:
    """The inputs that the last push named and Kaggle did not attach, or in another version, without a word."""
    if seen.version != known.version:
        return []
    theirs = {bare(one): normal(one) for one in (*seen.datasets, *seen.models)}
    reasons = []
    for one in known.inputs:
        name = bare(one)
        attached = theirs.get(name)
        if attached is None:
            reasons.append(f"Kaggle did not attach {name}")
        elif attached not in {name, normal(one)}:
            reasons.append(f"Kaggle attached {attached}, not {one}")
    return reasons


def _unless_repeated(
    step: NotebookStep, known: PushedNotebook, seen: RemoteNotebook, inputs: tuple[str, ...], remote: Remote
) -> NotebookStep:
    """No third version of what came out twice as it was not asked: each costs a run, and would be as those are."""
    resource = step.resource
    here = known.source != resource.source or known.digest != resource.digest or _moved(known.inputs, inputs)
    wrong = [] if here or not step.sends else [*_lost(known, seen), *_unlike(resource.settings, seen)]
    if not wrong or not _is_second(known, seen, resource.settings, remote):
        return step
    return _refused(
        replace(step, sends=False, becomes=step.version),
        f"{'; '.join(wrong)}: so it was with version {known.version - 1} already, and so another would be",
        f"see {page_of(resource.reference)}, and change what is asked; or try once more with --overwrite",
    )


def _is_second(known: PushedNotebook, seen: RemoteNotebook, settings: NotebookSettings, remote: Remote) -> bool:
    """Whether the version before the pushed one was of the same source, and came out as that did, not as asked.

    Who may see a notebook is not a version's: it was changed since, and a push sets it right.
    """
    changed = seen.private is not None and seen.private != settings.private
    if known.version < 2 or seen.version != known.version or changed:
        return False
    earlier = remote.notebook(seen.ref, known.version - 1)
    if earlier is None or source_identity(earlier.source) != known.source:
        return False
    return _attached(earlier) == _attached(seen) and _unlike(settings, earlier) == _unlike(settings, seen)


def _attached(seen: RemoteNotebook) -> list[str]:
    return sorted(map(normal, (*seen.datasets, *seen.models)))


def _moved(before: list[str], now: tuple[str, ...]) -> list[str]:
    """Which inputs are others than at the last push."""
    was, will = versions(before), versions(now)
    both = was.keys() & will
    reasons = [f"{name} is version {will[name]}, was {was[name]}" for name in both if was[name] != will[name]]
    reasons += [f"{name} is new" for name in will.keys() - was]
    reasons += [f"{name} is no longer used" for name in was.keys() - will]
    return sorted(reasons)
