"""The record of a run: what a notebook writes of itself as kit-run.json, and how it is read again.

A figure of a run is a field here, and nowhere else. The reader trusts nothing, for a notebook could write the file as
it likes: each part has the type of its field, or is left out and named. So whoever has a record need not ask again
whether a figure is a number.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from kaggle_kit.errors import OutsideError
from kaggle_kit.outside import read_json
from kaggle_kit.runtime.journal import DIED_OVER, REFUSED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.runtime.journal import Entry

RECORD, SUBMISSION, LOG, EXECUTED = "kit-run.json", "submission.csv", "log.txt", "executed.ipynb"
REPORT, REPORT_TEXT = "report.json", "report.txt"
"""The files of a run: the first two are the notebook's own, the others are written by whoever runs it."""
COMPLETE = "COMPLETE"
ENDED = frozenset({COMPLETE, "ERROR", "CANCEL_ACKNOWLEDGED"})
GOING_ON = frozenset({"QUEUED", "RUNNING", "CANCEL_REQUESTED", "NEW_SCRIPT"})
"""The states of a run in Kaggle's words: it is over, or goes on; in any other nothing is known."""

LEAST_MASS = 0.5
"""The mean label mass below which a run is never simply good. Under one half the model would, more often than not,
rather say something else than any label: it answers elsewhere, or was trained on another prompt or other labels. What
is left is made to sum to 1 all the same, so the submission looks sound, and is no better than chance. A model that was
trained on its prompt has 0.9 and more."""
_NAMED_PROBLEMS = 50
"""Rows that the record names; the rest are counted."""
_MOST_BYTES = 16 << 20
_MOST_ENTRIES = 100_000
_MOST_TEXT = 20_000
_LARGEST = 1 << 62


@dataclass(frozen=True)
class Failure:
    """The stage of the notebook that failed, and its error in one line."""

    stage: str
    error: str


@dataclass(frozen=True)
class Installer:
    """What installed the engine, and the seconds of its steps."""

    name: str = ""
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Workers:
    """How the workers of all models ended: the last one's end, and what each left behind."""

    ended: str = ""
    message: str = ""
    starts: int = 0
    deaths: tuple[str, ...] = ()
    peak_bytes: int = 0
    stages: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """The rows by how they were answered: by the model, by one of the task's rules, or with the prior.

    A row has the prior because it is unreadable (or the engine refused it), because test.csv has no row of its id
    (`unmatched`), or because it was not reached. `unanswered` counts these rows by reason.
    """

    total: int = 0
    scored: int = 0
    swapped: int = 0
    ruled: int = 0
    copies: int = 0
    prior: int = 0
    unreadable: int = 0
    unreadable_rows: dict[str, str] = field(default_factory=dict)
    unmatched: int = 0
    unmatched_rows: dict[str, str] = field(default_factory=dict)
    not_reached: int = 0
    unanswered: dict[str, int] = field(default_factory=dict)
    cut: int = 0
    cut_fields: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """`298 by the model, 298 in both orders, …`; only what there was."""
        names = {"scored": "by the model", "swapped": "in both orders", "cut": "cut", "ruled": "by a rule"}
        names |= {"copies": "copies of another", "prior": "with the prior", "unreadable": "unreadable"}
        names |= {"unmatched": "without a row in test.csv", "not_reached": "not reached"}
        return ", ".join(f"{getattr(self, name):,} {said}" for name, said in names.items() if getattr(self, name))


@dataclass(frozen=True)
class LabelMass:
    """The probability that the model gives to all labels together, over the rows that it answered."""

    mean: float
    lowest: float

    @property
    def low(self) -> bool:
        """Whether the answers are not to be trusted."""
        return self.mean < LEAST_MASS

    @property
    def problem(self) -> str:
        """What to say of a low one; empty of another."""
        if not self.low:
            return ""
        return (
            f"LOW LABEL MASS: the labels have {self.mean:.4f} of the probability on average; below {LEAST_MASS} the "
            f"model would rather say something else: its answers are worth little. See where the prompt ends (chat, "
            f"chat_variables, answer_prefix) and whether it was trained to say these labels there"
        )


@dataclass(frozen=True)
class Counts:
    """What a run's entries say in numbers: the fields of a record that have these names."""

    rows: Rows
    prompt_tokens: int
    longest_prompt: int
    label_mass: LabelMass | None

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class BadFile:
    """A file that is not what its manifest says, or that could not be read (`found` empty, `error` says why)."""

    path: str
    error: str
    manifest: str = ""
    found: str = ""


@dataclass(frozen=True)
class CheckedModel:
    """How many files and bytes a model has, how many were hashed, and the bad ones."""

    files: int
    bytes: int
    checked_files: int
    checked_bytes: int
    bad: tuple[BadFile, ...]
    seconds: float = 0.0

    def __str__(self) -> str:
        """Whether all files are as the manifest says, which are corrupt, or how many were checked."""
        hashed = self.checked_files - sum(bool(one.error) for one in self.bad)
        amount = f"{hashed:,} of {self.files:,} files hashed, {self.checked_bytes:,} of {self.bytes:,} bytes"

        if self.bad:
            named = ", ".join(f"{one.path} ({one.error or 'other SHA-256'})" for one in self.bad)
            what = "CORRUPT" if any(not one.error for one in self.bad) else "NOT READABLE"
            return f"{what}: {named}; {amount}"
        if self.checked_files < self.files:
            return f"not wholly checked: {amount}"
        return f"all {self.files:,} files as its manifest says ({self.bytes:,} bytes hashed)"


@dataclass(frozen=True)
class MadeModel:
    """What a notebook that makes a model says of it: the seconds of the quantiser's stages."""

    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RunRecord:
    """A run as its notebook saw it; what is not known is empty or None. Times in seconds.

    `stages` are the notebook's own, `worker.stages` those within its stage `score`. `plan`: by model, why the engine
    was started as it was. `allowed`: by model, the checks that its author allowed, each with what it had found.
    `throughput`: (seconds, prompt tokens done so far). `integrity`: by model, its files. `member_masses`: the label
    mass of each further model of an ensemble. `prompt`: what the source says of the prompt beside its template (chat,
    its variables, the answer's prefix); `prompt_notes`: where it may be another one than in training. `row_notes`: how
    the ids of test.csv and of the sample differ. `unread`: what of the file could not be read.
    """

    kit: str = ""
    target: str = ""
    hidden_run: bool | None = None
    engine: str = ""
    stages: dict[str, float] = field(default_factory=dict)
    failed: Failure | None = None
    not_rewritten: str = ""
    installer: Installer = Installer()
    plan: dict[str, tuple[str, ...]] = field(default_factory=dict)
    allowed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    worker: Workers = Workers()
    throughput: tuple[tuple[float, int], ...] = ()
    rows: Rows | None = None
    prompt_tokens: int = 0
    longest_prompt: int = 0
    label_mass: LabelMass | None = None
    member_masses: dict[str, LabelMass] = field(default_factory=dict)
    prompt: dict[str, str] = field(default_factory=dict)
    prompt_notes: tuple[str, ...] = ()
    row_notes: tuple[str, ...] = ()
    integrity: dict[str, CheckedModel] = field(default_factory=dict)
    make: MadeModel | None = None
    unread: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, body: object) -> RunRecord:
        """Of what a notebook wrote, the parts that are of their type; `unread` names the others."""
        if not isinstance(body, dict):
            return cls(unread=("all of it",))
        parts, unread = known_parts(cls, {name: value for name, value in body.items() if name != "unread"})
        return cls(**parts, unread=unread)

    def to_json(self, names: Iterable[str]) -> dict[str, Any]:
        """The parts of these names as the notebook writes them."""
        wanted = {name: getattr(self, name) for name in names}
        body = asdict(RunRecord(**wanted))
        return {name: body[name] for name in wanted}

    @property
    def all_stages(self) -> dict[str, float]:
        """Seconds by stage: the notebook's own, the worker's in place of its `score`."""
        if not self.worker.stages:
            return dict(self.stages)
        stages: dict[str, float] = {}
        for name, seconds in self.stages.items():
            if name == "score":
                stages |= self.worker.stages
            else:
                stages[name] = stages.get(name, 0.0) + seconds
        return stages | {name: seconds for name, seconds in self.worker.stages.items() if name not in stages}

    @property
    def models(self) -> dict[str, str]:
        """By model, what is known of its files."""
        return {f"model {name}": str(checked) for name, checked in self.integrity.items()}

    @property
    def allowances(self) -> dict[str, str]:
        """By model, what its author allowed though a check found it wrong."""
        return {f"allowed {name}": "; ".join(texts) for name, texts in self.allowed.items() if texts}

    @property
    def corrupt(self) -> str:
        """The bad files in a few words; empty if none is known."""
        bad = {name: ", ".join(one.path for one in checked.bad) for name, checked in self.integrity.items()}
        return "; ".join(f"{paths} of the model {name}" for name, paths in bad.items() if paths)

    @property
    def low_mass(self) -> str:
        """What to say of a run whose models would rather not say the labels; empty of another."""
        own = self.label_mass.problem if self.label_mass else ""
        others = (f"{mass.problem} (the model {name})" for name, mass in self.member_masses.items() if mass.low)
        return own or next(others, "")

    @property
    def unread_text(self) -> str:
        """What of the file could not be read, in one line; empty if there is nothing."""
        parts = ", ".join(self.unread)
        return f"the run's own record does not hold what a notebook writes: {parts}" if parts else ""


LATE = "no time was left for it"
NOT_SAID = "it was not reached, and the run does not say why"
_UNREADABLE = "it cannot be read"


def count_rows(
    keys: Sequence[str | None],
    plain: Mapping[str, Entry],
    swapped: Mapping[str, Entry],
    *,
    missing: Mapping[str, str] | None = None,
    unreached: str = NOT_SAID,
) -> Counts:
    """What the entries of both passes say in numbers.

    `keys`: for each row of the sample that of its entry, None if test.csv has no such row: `missing` says why, by the
    row's id. `unreached`: why a row that test.csv has was not scored.
    """
    ids = [key for key in keys if key is not None]
    entries = [plain[row_id] for row_id in ids if row_id in plain]
    ruled = [entry for entry in entries if any(flag.startswith("rule:") for flag in entry.flags)]
    scored = [entry for entry in entries if entry.log_probabilities is not None and entry.tokens]
    both = [swapped[row_id] for row_id in ids if row_id in swapped and swapped[row_id].log_probabilities is not None]
    problems = {entry.id: entry.problem for entry in entries if entry.problem is not None}
    cuts = Counter(name for entry in scored for name in entry.cut)

    reasons = Counter(missing.values() if missing else [])
    reasons.update(_reason(problem) for problem in problems.values())
    if left := len(ids) - len(entries):
        reasons[unreached] += left

    rows = Rows(
        total=len(keys),
        scored=len(scored),
        swapped=len(both),
        ruled=len(ruled),
        copies=sum(any(flag.startswith("copy of") for flag in entry.flags) for entry in scored),
        prior=len(keys) - len(scored) - len(ruled),
        unreadable=len(problems),
        unreadable_rows=dict(list(problems.items())[:_NAMED_PROBLEMS]),
        unmatched=len(keys) - len(ids),
        unmatched_rows=dict(list(missing.items())[:_NAMED_PROBLEMS]) if missing else {},
        not_reached=len(ids) - len(entries),
        unanswered=dict(reasons),
        cut=sum(bool(entry.cut) for entry in scored),
        cut_fields=dict(sorted(cuts.items())),
    )
    return Counts(
        rows=rows,
        prompt_tokens=sum(entry.tokens for entry in (*scored, *both)),
        longest_prompt=max((entry.tokens for entry in scored), default=0),
        label_mass=mass_of(scored),
    )


def _reason(problem: str) -> str:
    """The kind of a row's problem."""
    return next((kind for kind in (REFUSED, DIED_OVER) if problem.startswith(kind)), _UNREADABLE)


def mass_of(entries: Iterable[Entry]) -> LabelMass | None:
    """The label mass of the rows that a model answered; None if its engine does not say it."""
    scored = (entry for entry in entries if entry.log_probabilities is not None and entry.tokens)
    masses = [entry.mass for entry in scored if entry.mass is not None]
    return LabelMass(sum(masses) / len(masses), min(masses)) if masses else None


def read_record(path: Path) -> RunRecord:
    """The record of a run, from its file; empty if there is none.

    Its `unread` names the parts that are not of their type, or says why nothing could be read.
    """
    if not os.path.lexists(path):
        return RunRecord()
    try:
        return RunRecord.from_json(read_json(path, most_bytes=_MOST_BYTES))
    except OutsideError as error:
        return RunRecord(unread=(str(error),))


class _UnfitError(Exception):
    """A value is not of its type."""


def known_parts(kind: Any, body: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields of the dataclass `kind` that `body` holds in their types, and the names of those that it does not.

    Names that `kind` does not have are passed over: another version of kit may have written them.
    """
    parts: dict[str, Any] = {}
    unread: list[str] = []
    for name, type_ in _types(kind).items():
        if name in body:
            try:
                parts[name] = _typed(body[name], type_)
            except _UnfitError:
                unread.append(name)
    return parts, tuple(unread)


def needed_parts(kind: Any) -> set[str]:
    """The fields of a dataclass that have no default."""
    return {one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING}


@cache
def _types(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _typed(value: Any, kind: Any) -> Any:
    """`value` as `kind`: a plain type, a dataclass, a dict or tuple of such, or None. Raises _UnfitError."""
    if kind is object:
        return value
    if is_dataclass(kind):
        return _instance(value, kind)

    inner = get_args(kind)
    if isinstance(kind, UnionType):
        return None if value is None else _typed(value, inner[0])
    if get_origin(kind) is dict:
        return {key: _typed(part, inner[1]) for key, part in _entries(value, dict).items()}

    if get_origin(kind) is tuple:
        parts = _entries(value, list | tuple)
        kinds = [inner[0]] * len(parts) if inner[-1] is ... else inner
        if len(parts) != len(kinds):
            raise _UnfitError
        return tuple(_typed(part, one) for part, one in zip(parts, kinds, strict=True))
    return _plain(value, kind)


def _instance(value: Any, kind: Any) -> Any:
    """A dataclass of a mapping that holds at least the fields without a default."""
    parts, unread = known_parts(kind, _entries(value, dict))
    if unread or not needed_parts(kind) <= parts.keys():
        raise _UnfitError
    return kind(**parts)


def _entries(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind) or len(value) > _MOST_ENTRIES:
        raise _UnfitError
    return value


def _plain(value: Any, kind: type[Any]) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        kind = int
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _UnfitError
    # All figures of a run are counts, bytes, seconds or probabilities. NaN is not in the range either.
    if isinstance(value, int | float) and not 0 <= value <= _LARGEST:
        raise _UnfitError
    return value[:_MOST_TEXT] if isinstance(value, str) else value
