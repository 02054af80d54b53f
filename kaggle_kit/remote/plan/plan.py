"""What a push would do: one step a resource, everything that speaks against it, bytes and time. Nothing is sent."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from kaggle_kit.remote.plan.compare import AnyStep, Consent, compare_dataset, compare_model, compare_notebook
from kaggle_kit.remote.plan.resources import Artifact, Dataset, Model, Notebook, Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from kaggle_kit.remote.plan.remote import Remote
    from kaggle_kit.remote.plan.resources import Resource
    from kaggle_kit.remote.plan.state import State

FORMAT = 1
"""Version of `to_json`'s form."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Steps in the order of a push. `state` is the last push's, with what Kaggle was found to have already."""

    steps: tuple[AnyStep, ...]
    problems: tuple[Problem, ...]
    state: State
    rate: float | None
    """Bytes a second of an upload, where it was measured or given."""

    @property
    def refusals(self) -> tuple[Problem, ...]:
        """What forbids the push."""
        return tuple(problem for problem in self.problems if not problem.warning)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What the user should know before it."""
        return tuple(problem for problem in self.problems if problem.warning)

    @property
    def allowed(self) -> bool:
        """Whether a push may begin."""
        return not self.refusals

    @property
    def sent(self) -> tuple[AnyStep, ...]:
        """The steps that send something."""
        return tuple(step for step in self.steps if step.sends)

    @property
    def send_bytes(self) -> int:
        """Bytes to upload."""
        return sum(step.send_bytes for step in self.steps)

    def seconds(self, step: AnyStep | None = None) -> float | None:
        """About how long the upload of one step, or of all, takes; None where no rate is known."""
        size = step.send_bytes if step else self.send_bytes
        return size / self.rate if self.rate else None

    def step(self, key: str) -> AnyStep | None:
        """The step of the resource with this key."""
        return next((step for step in self.steps if step.resource.key == key), None)

    def inputs(self, notebook: Notebook) -> tuple[str, ...]:
        """What `notebook` will be given after the push: references with versions, sorted."""
        return pinned(notebook, self.steps)

    def rows(self) -> list[tuple[str, str, str, str, int, float | None]]:
        """A table: kind and reference, action, versions, reason, bytes to send, seconds."""
        return [
            (
                step.resource.key,
                step.action,
                _versions(step),
                step.reason,
                step.send_bytes,
                self.seconds(step) if step.sends else None,
            )
            for step in self.steps
        ]

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values, the same for the same project, state and Kaggle."""
        return {
            "format": FORMAT,
            "allowed": self.allowed,
            "send_bytes": self.send_bytes,
            "seconds": self.seconds(),
            "steps": [_step_json(step, self.seconds(step) if step.sends else None) for step in self.steps],
            "problems": [asdict(problem) for problem in self.problems],
        }


def make_plan(
    resources: Iterable[Resource],
    *,
    state: State,
    remote: Remote,
    problems: Iterable[Problem] = (),
    login: str | None = None,
    rate: float | None = None,
    overwrite: bool = False,
    accept: Collection[str] = (),
) -> Plan:
    """Compare `resources` (in the order of a push) with the last push and with Kaggle.

    `problems` are what `check` found; `login` the account that would push; `overwrite` sends over what differs on
    Kaggle; `accept` names references whose version on Kaggle is to be taken for what is here. Raises RemoteError where
    Kaggle does not answer.
    """
    consent = Consent(overwrite=overwrite, accept=frozenset(accept))
    steps: list[AnyStep] = []
    for resource in resources:
        steps.append(_with_owner(_compare(resource, steps, state, remote, consent), login))
    everything = {*problems, *(problem for step in steps for problem in step.problems)}
    order = {step.resource.key: at for at, step in enumerate(steps)}
    ranked = sorted(everything, key=lambda problem: (problem.warning, order.get(problem.resource, -1), problem))
    return Plan(steps=tuple(steps), problems=tuple(ranked), state=_adopted(state, steps), rate=rate)


def _compare(resource: Resource, steps: list[AnyStep], state: State, remote: Remote, consent: Consent) -> AnyStep:
    match resource:
        case Dataset():
            return compare_dataset(resource, known=state.pushed(resource), remote=remote, consent=consent)
        case Model():
            return compare_model(resource, known=state.pushed(resource), remote=remote, consent=consent)
        case Notebook():
            known, inputs = state.notebooks.get(resource.reference), pinned(resource, steps)
            return compare_notebook(resource, known=known, inputs=inputs, remote=remote, consent=consent)
    raise TypeError(f"{resource.key} is of no kind that can be pushed")


def pinned(notebook: Notebook, steps: Iterable[AnyStep]) -> tuple[str, ...]:
    """The inputs of `notebook` with the versions that `steps` leave; one that is missing has none, and is left out."""
    versions = {step.resource.key: step.becomes for step in steps}
    attached = notebook.settings.datasets
    datasets = [f"{one}/{version}" for one in attached if (version := versions.get(f"dataset {one}"))]
    return tuple(sorted([*datasets, *notebook.settings.models]))


def _adopted(state: State, steps: list[AnyStep]) -> State:
    for step in steps:
        if not step.adopts or step.becomes is None:
            continue
        if isinstance(step.resource, Notebook):
            state = state.with_notebook(step.resource, step.becomes, pinned(step.resource, steps))
        elif isinstance(step.resource, Artifact):
            state = state.with_pushed(step.resource, step.becomes)
    return state


def _with_owner(step: AnyStep, login: str | None) -> AnyStep:
    """A word where somebody else's is to be changed: only its owner can make a notebook.

    Datasets and models may be an organisation's, and all three be shared with others; Kaggle alone knows.
    """
    resource = step.resource
    if login is None or not step.sends or resource.owner.lower() == login.lower():
        return step
    made = isinstance(resource, Notebook) and step.action == "create"
    own = f"set owner = {login!r} in kit.toml, or log in as {resource.owner}"
    what = f"it is {resource.owner}'s, and you are logged in as {login}"
    problem = resource.problem(what, own if made else "go on if it is shared with you", warning=not made)
    return replace(step, problems=(*step.problems, problem))


def _versions(step: AnyStep) -> str:
    now = str(step.version) if step.version else "–"
    return f"{now} → {step.becomes}" if step.sends else now


def _step_json(step: AnyStep, seconds: float | None) -> dict[str, Any]:
    resource = step.resource
    actions = ("action", "reason", "sends", "waits", "version", "becomes", "send_bytes")
    return {
        **{name: getattr(resource, name) for name in ("kind", "reference", "name", "digest")},
        **{name: getattr(step, name) for name in actions},
        **asdict(step.changes),
        "listed": dict(step.listed),
        "files": len(resource.files),
        "bytes": resource.size,
        "seconds": seconds,
        "left_out": list(resource.left_out),
        "from": [{"folder": str(origin.folder), "outside": origin.outside} for origin in resource.origins],
    }
