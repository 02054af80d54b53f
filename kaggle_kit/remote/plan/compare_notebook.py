"""A built notebook against the last push and against what Kaggle has."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kaggle_kit.remote.client.notebooks import source_identity
from kaggle_kit.remote.plan.compare import Consent, Step, unclear

if TYPE_CHECKING:
    from kaggle_kit.remote.plan.resources import Resource
    from kaggle_kit.remote.plan.seen import Remote, SeenKernel
    from kaggle_kit.remote.plan.state import PushedNotebook


def compare_notebook(
    resource: Resource,
    *,
    known: PushedNotebook | None,
    inputs: tuple[str, ...],
    remote: Remote,
    consent: Consent,
) -> Step:
    """The step for a notebook whose inputs will be `inputs` (references with versions, sorted). Raises RemoteError."""
    seen = remote.kernel(resource.reference)
    if seen is None:
        gone = f"version {known.version} was pushed and is gone from Kaggle" if known else "not on Kaggle yet"
        return Step(resource=resource, action="create", reason=gone, becomes=1, sends=True)
    there = source_identity(seen.source)
    step = Step(resource=resource, action="unchanged", reason="", version=seen.version, becomes=seen.version)
    if known and known.source == there and known.version <= seen.version:
        return _unless_failed(_by_state(step, known, seen, inputs), remote)
    if there == resource.source:
        return _unless_failed(_same_source(step, seen, inputs, consent), remote)
    if known and known.merged and known.merged.source == there and known.merged.version <= seen.version:
        reason = f"the edits of version {known.merged.version} on Kaggle were brought here"
        return replace(step, action="new version", reason=reason, sends=True, becomes=seen.version + 1)
    if known is None:
        reason = f"version {seen.version} on Kaggle was not pushed from here, and its source is another"
    elif known.version < seen.version:
        reason = f"its source was changed on Kaggle (version {seen.version}, the last push made {known.version})"
    else:
        reason = f"its source on Kaggle (version {seen.version}) is not what the last push sent"
    return unclear(step, "changed remotely", reason, consent)


def _unless_failed(step: Step, remote: Remote) -> Step:
    """A version whose run failed is of no use to anybody: the same content is pushed again, and runs again."""
    if step.action != "unchanged" or step.becomes is None:
        return step
    state = remote.failed(step.resource.reference, step.becomes)
    if state is None:
        return step
    reason = f"the run of version {step.becomes} ended with {state.lower().replace('_', ' ')}"
    becomes = (step.version or step.becomes) + 1
    return replace(step, action="new version", reason=reason, sends=True, adopts=False, becomes=becomes)


def _by_state(step: Step, known: PushedNotebook, seen: SeenKernel, inputs: tuple[str, ...]) -> Step:
    """Kaggle's source is the pushed one: what is here, its inputs and its settings decide."""
    resource = step.resource
    reasons = []
    if known.source != resource.source:
        reasons.append("its source changed")
    elif known.digest != resource.digest:
        reasons.append("its settings changed")
    reasons += _moved(known.inputs, inputs) or _lost(known, seen)
    reasons += _unlike(resource, seen)
    if reasons:
        sent = "; ".join(reasons)
        return replace(step, action="new version", reason=sent, sends=True, becomes=seen.version + 1)
    newer = f", and so is version {seen.version}" if seen.version > known.version else ""
    return replace(step, reason=f"as version {known.version}{newer}", becomes=known.version)


def _same_source(step: Step, seen: SeenKernel, inputs: tuple[str, ...], consent: Consent) -> Step:
    """Kaggle has this very source in a version that the state does not know: its inputs tell the rest."""
    theirs = sorted((*seen.datasets, *seen.models))
    if reasons := _unlike(step.resource, seen):
        sent = "; ".join(reasons)
        return replace(step, action="new version", reason=sent, sends=True, becomes=seen.version + 1)
    if theirs == sorted(inputs) or step.resource.reference in consent.accept:
        how = "with these inputs" if theirs == sorted(inputs) else "accepted"
        return replace(step, reason=f"version {seen.version} on Kaggle is of this source, {how}", adopts=True)
    if {_unpinned(one) for one in theirs} != {_unpinned(one) for one in inputs}:
        return replace(
            step, action="new version", reason="it has other inputs on Kaggle", sends=True, becomes=seen.version + 1
        )
    reason = f"version {seen.version} on Kaggle is of this source, but Kaggle does not say which versions it was given"
    return unclear(step, "unknown", reason, consent)


def _unlike(resource: Resource, seen: SeenKernel) -> list[str]:
    """What of the settings differs on Kaggle."""
    kernel = resource.kernel
    if kernel is None:
        return []
    reasons = []
    if seen.internet is not None and seen.internet != kernel.internet:
        reasons.append(f"internet is {'on' if seen.internet else 'off'} on Kaggle")
    if seen.accelerator is not None and _machine(seen.accelerator) != _machine(kernel.accelerator):
        ran, asked = (_machine(one) or "a machine without a GPU" for one in (seen.accelerator, kernel.accelerator))
        reasons.append(f"Kaggle ran it on {ran}, not on {asked}")
    if seen.private != kernel.private:
        reasons.append(f"it is {'private' if seen.private else 'public'} on Kaggle")
    for what, theirs, ours in (
        ("competitions", seen.competitions, kernel.competitions),
        ("notebooks", seen.kernels, kernel.kernels),
    ):
        if theirs is not None and sorted(theirs) != sorted(ours):
            reasons.append(f"its {what} on Kaggle are {', '.join(sorted(theirs)) or 'none'}")
    return reasons


def _machine(shape: str | None) -> str:
    """The accelerator; empty for a machine without any, which has several names."""
    return shape if shape and shape.startswith(("Nvidia", "Tpu")) else ""


def _lost(known: PushedNotebook, seen: SeenKernel) -> list[str]:
    """The inputs that the last push named and Kaggle did not attach, or in another version, without a word."""
    if seen.version != known.version:
        return []
    theirs = {_unpinned(one): one for one in (*seen.datasets, *seen.models)}
    reasons = []
    for one in known.inputs:
        name = _unpinned(one)
        found = theirs.get(name)
        if found is None:
            reasons.append(f"Kaggle did not attach {name}")
        elif found not in {name, one}:
            reasons.append(f"Kaggle attached {found}, not {one}")
    return reasons


def _moved(before: list[str], now: tuple[str, ...]) -> list[str]:
    """Which inputs are others than at the last push."""
    was = {_unpinned(one): one.rsplit("/", 1)[1] for one in before}
    will = {_unpinned(one): one.rsplit("/", 1)[1] for one in now}
    told = [f"{name} is version {will[name]}, was {was[name]}" for name in was.keys() & will if was[name] != will[name]]
    told += [f"{name} is new" for name in will.keys() - was]
    told += [f"{name} is no longer used" for name in was.keys() - will]
    return sorted(told)


def _unpinned(reference: str) -> str:
    """A reference without its version: of owner/slug/3 and of owner/model/framework/variation/3."""
    head, _, last = reference.rpartition("/")
    return head if head.count("/") in {1, 3} and last.isdigit() else reference
