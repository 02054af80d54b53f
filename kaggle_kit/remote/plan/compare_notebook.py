"""A notebook here against the last push and against Kaggle: its source, its inputs, its settings, and its run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kaggle_kit.remote.client.machines import is_accelerator, same_accelerator
from kaggle_kit.remote.client.notebooks import newest_version, page_of, source_identity
from kaggle_kit.remote.plan.compare import Consent, NotebookStep, Step, refused, sending, unclear
from kaggle_kit.remote.references import bare, normal, versions

if TYPE_CHECKING:
    from kaggle_kit.remote.client.notebooks import RemoteNotebook
    from kaggle_kit.remote.plan.remote import Remote
    from kaggle_kit.remote.plan.resources import Notebook, NotebookSettings
    from kaggle_kit.remote.plan.state import PushedNotebook


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
        planned = _unless_failed(_pushed_source(step, known, seen, inputs, remote, consent), remote)
        return planned if consent.overwrite else _unless_repeated(planned, known, seen, inputs, remote)
    if there == resource.source:
        return _unless_failed(_same_source(step, seen, inputs, consent), remote)
    if known and known.merged and known.merged.source == there and known.merged.version <= newest:
        reason = f"the edits of version {known.merged.version} on Kaggle were brought here"
        return sending(step, "new version", reason)

    if known is None:
        reason = f"version {newest} on Kaggle was not pushed from here, and its source is another"
    elif known.version < newest:
        reason = f"its source was changed on Kaggle (version {newest}, the last push made {known.version})"
    else:
        reason = f"its source on Kaggle (version {newest}) is not what the last push sent"
    return unclear(step, "changed remotely", reason, consent)


def _unless_failed(step: NotebookStep, remote: Remote) -> NotebookStep:
    """A version whose run failed is of no use to anybody: the same content is pushed again, and runs again."""
    if step.action != "unchanged" or step.becomes is None:
        return step
    state = remote.failed(step.resource.reference, step.becomes)
    if state is None:
        return step
    reason = f"the run of version {step.becomes} ended with {state.lower().replace('_', ' ')}"
    return sending(replace(step, adopts=False), "new version", reason)


def _pushed_source(
    step: NotebookStep,
    known: PushedNotebook,
    seen: RemoteNotebook,
    inputs: tuple[str, ...],
    remote: Remote,
    consent: Consent,
) -> NotebookStep:
    """Kaggle's source is the pushed one: what is here, its inputs and its settings decide.

    A version that came after the pushed one, of the same source, says nothing of that one; but it may be what is here.
    """
    newest = newest_version(seen)
    if newest == known.version:
        return _as_pushed(step, known, seen, inputs)

    own = _as_pushed(step, known, remote.notebook(step.resource.reference, known.version) or seen, inputs)
    if not own.sends:
        what = f"version {newest} came after version {known.version}, of the same source, and was not pushed from here"
        word = step.resource.problem(what, f"version {known.version}, which was, is used", warning=True)
        return replace(own, reason=f"{own.reason}, and so is version {newest}", problems=(*own.problems, word))
    if known.source == step.resource.source:
        later = _same_source(step, seen, inputs, consent)
        return own if later.sends else later
    return own


def _as_pushed(
    step: NotebookStep, known: PushedNotebook, seen: RemoteNotebook, inputs: tuple[str, ...]
) -> NotebookStep:
    """The pushed version, which Kaggle shows as `seen`, beside what is here."""
    resource, reasons = step.resource, []
    if known.source != resource.source:
        reasons.append("its source changed")
    elif known.digest != resource.digest:
        reasons.append("its settings changed")
    reasons += _moved(known.inputs, inputs) or _lost(known, seen)
    reasons += _unlike(resource.settings, seen)
    if reasons:
        return sending(step, "new version", "; ".join(reasons))
    return replace(step, reason=f"as version {known.version}", becomes=known.version)


def _same_source(step: NotebookStep, seen: RemoteNotebook, inputs: tuple[str, ...], consent: Consent) -> NotebookStep:
    """Kaggle has this very source in a version that the state does not know: its inputs tell the rest."""
    theirs, ours = _attached(seen), sorted(map(normal, inputs))
    if reasons := _unlike(step.resource.settings, seen):
        return sending(step, "new version", "; ".join(reasons))
    if theirs == ours or step.resource.reference in consent.accept:
        how = "with these inputs" if theirs == ours else "accepted"
        return replace(step, reason=f"version {seen.version} on Kaggle is of this source, {how}", adopts=True)
    told, wanted = versions(theirs), versions(inputs)
    if told.keys() != wanted.keys() or any(told[name] not in {None, wanted[name]} for name in told):
        return sending(step, "new version", "it has other inputs on Kaggle")
    reason = f"version {seen.version} on Kaggle is of this source, but Kaggle does not say which versions it was given"
    return unclear(step, "unknown", reason, consent)


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
    return refused(
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
