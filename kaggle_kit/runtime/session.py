"""The notebook's session: install, score, submit; and a record of what happened, for whoever reads it."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from math import exp
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import DataError, KitError, RunError
from kaggle_kit.files import write_atomic
from kaggle_kit.runtime.allowances import read_allowances
from kaggle_kit.runtime.bench import bench
from kaggle_kit.runtime.checkpoint import read_checkpoint
from kaggle_kit.runtime.combine import answers, ensemble, read_calibration
from kaggle_kit.runtime.install import Installed, install_engine
from kaggle_kit.runtime.integrity import BackgroundHashes
from kaggle_kit.runtime.journal import SWAPPED, Entry
from kaggle_kit.runtime.machine import engine_cards, engine_version
from kaggle_kit.runtime.progress import ProgressLine, duration, summary_lines, throughput_plot
from kaggle_kit.runtime.record import (
    LATE,
    NOT_SAID,
    SUBMISSION,
    Installer,
    RunRecord,
    Workers,
    count_rows,
    mass_of,
)
from kaggle_kit.runtime.rows import match_rows, read_ids
from kaggle_kit.runtime.submission import Sample, dump_submission, put_submission, read_sample
from kaggle_kit.runtime.supervisor import read_entries, run_job, show_log

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kaggle_kit.runtime.engine_plan import EnginePlan, EngineSetup
    from kaggle_kit.runtime.job import Job, Task
    from kaggle_kit.runtime.supervisor import Outcome

_SECONDS_BETWEEN_SUBMISSIONS = 30.0
_MOST_HASHING_SECONDS = 300.0
"""How long a run that is watched waits at its end for the models' hashes."""


@dataclass
class Session:
    """One run of a notebook.

    `data`, `model` and the parts of the `wheelhouse` are the attached folders; `working` receives `submission.csv`;
    `scratch` holds what nobody keeps. `setup` is what the engine is given; its version and its cards are found by
    `install`. `deadline` is when the submission must stand (Unix time, seconds). `ensemble`
    pairs further models with their weights beside `model`'s 1: they score after it, each in the time that is left.
    """

    task: Task
    data: Path
    model: Path
    wheelhouse: Sequence[Path]
    working: Path
    scratch: Path
    token_budget: int
    deadline: float
    setup: EngineSetup
    ensemble: Sequence[tuple[Path, float]] = ()
    record: dict[str, Any] = field(default_factory=dict)
    """The notebook's own object, which it writes as kit-run.json after each stage; the session notes in it what it
    has in `run`."""
    run: RunRecord = field(init=False)

    def __post_init__(self) -> None:
        """Raise DataError where the sample submission does not fit the task or test.csv, ModelError where no
        calibration does."""
        self.sample: Sample = read_sample(self.data / "sample_submission.csv")
        if set(self.sample.columns) != set(self.task.labels):
            raise DataError(
                f"sample_submission.csv has the columns {list(self.sample.columns)}, "
                f"labels has {list(self.task.labels)}"
            )
        test = self.data / "test.csv"
        self._match = match_rows(self.sample.ids, read_ids(test, self.sample.id_column))
        self.run = RunRecord.from_json(self.record)
        self._unreached = "scoring did not begin"
        self._late: dict[int, int] = {}
        self._installed: Installed | None = None
        self._plans: dict[Path, EnginePlan] = {}
        self._submitted = time.monotonic()
        self._hashes = BackgroundHashes(())
        columns = list(self.task.labels)
        self._note(prompt=self.task.prompt_settings, row_notes=self._match.notes)
        sys.stdout.write("".join(f"note: {note}\n" for note in self._match.notes))
        self._calibrations = {model: read_calibration(model, columns=columns) for model, _ in self._members()}

    def install(self) -> None:
        """Make the engine's environment from the wheelhouse, and plan the engine.

        Raises WheelhouseError, and UsageError where the model does not fit this machine.
        """
        self._tell_allowed()
        self._installed = install_engine(self.wheelhouse, scratch=self.scratch)
        self._note(installer=Installer(self._installed.installer, dict(self._installed.seconds)))
        version, cards = engine_version(self.wheelhouse), engine_cards(self.wheelhouse)
        self.setup = replace(self.setup, version=version, cards=cards)
        self._plan()

    def _tell_allowed(self) -> None:
        """Write and note what the models' manifests record as allowed."""
        allowed = {model.name: tuple(map(str, read_allowances(model))) for model, _ in self._members()}
        sys.stdout.write("".join(f"{name}: allowed {text}\n" for name, texts in allowed.items() for text in texts))
        self._note(allowed={name: texts for name, texts in allowed.items() if texts})

    def _plan(self) -> None:
        for model, _ in self._members():
            self._plans[model] = self.setup.plan(read_checkpoint(model), self.token_budget)
        self._note(plan={model.name: tuple(plan.reasons) for model, plan in self._plans.items()})

    def bench(self, *, target: str, minutes: float, rows: int = 2000) -> None:
        """Measure kernels and settings on this machine for `minutes`, over rows of train.csv where it is attached.

        Writes `rates-TARGET.json` beside the submission, for `kit build`; the run goes on with the fastest kernel that
        has exact answers, or with the one that is named.
        Raises RunError where nothing could be measured.
        """
        if self._installed is None:
            raise RunError("install() comes before bench()")
        until = time.monotonic() + minutes * 60

        def tell(text: str) -> None:
            sys.stdout.write(f"  {text}\n")

        _, body = bench(
            self._job(self.model),
            setup=self.setup,
            data=self.data,
            rows=rows,
            python=self._installed.python,
            scratch=self.scratch,
            environment=self._installed.environment,
            target=target,
            seconds=max(10.0, minutes * 60 / 20),
            deadline=until,
            tell=tell,
        )
        write_atomic(self.working / f"rates-{target}.json", json.dumps(body, indent=1, sort_keys=True) + "\n")
        self.record["bench"] = body["trials"]
        self.setup = replace(self.setup, rates=body["kernels"])
        self._plan()

    def score(self) -> None:
        """Score every row through the workers, until done or until the deadline.

        `submission.csv` is rewritten while rows come in, and each model's files are hashed once its engine has loaded,
        but in the hidden run.
        Raises RunError where a worker could not be helped; the rows that were scored are kept.
        """
        if self._installed is None:
            raise RunError("install() comes before score()")
        line = ProgressLine(deadline=self.deadline)
        # What the hidden run finds nobody would see, and it has no core to spare.
        self._hashes = BackgroundHashes(() if self.run.hidden_run else [model for model, _ in self._members()])

        def on_event(model: Path, event: dict[str, Any]) -> None:
            line.show(event)
            self._hashes.see(event, model)
            self._tell_hashes()
            self._keep(event, model)
            if event["event"] == "progress" and time.monotonic() - self._submitted > _SECONDS_BETWEEN_SUBMISSIONS:
                self._put_meanwhile()

        failed = []
        for model, _ in self._members():
            plan = self._plans[model]
            sys.stdout.write("".join(f"  {reason}\n" for reason in plan.reasons))
            outcome = run_job(
                self._job(model),
                workers=plan.replicas,
                python=self._installed.python,
                scratch=self.scratch,
                on_event=partial(on_event, model),
            )
            self._note_outcome(outcome)
            if model == self.model:
                self._unreached = self._why_unreached(outcome)
            self._note(throughput=tuple(line.points))
            if outcome.ended == "failed":
                show_log(outcome)
                failed.append(f"scoring stopped: {outcome.message}")
                sys.stdout.write(f"{model.name}: {failed[-1]}\n")
        if failed:
            raise RunError(failed[0])

    def submit(self) -> None:
        """Put `submission.csv` in place from what the journal holds, the prior for the rest; note the counts.

        Raises RunError where it would not be valid; the submission that stood there is then kept.
        """
        plain, swapped = self._put()
        counts = count_rows(self._match.keys, plain, swapped, missing=self._match.missing, unreached=self._unreached)
        masses = {model.name: mass_of(self._entries(model)[0].values()) for model, _ in self.ensemble}
        self._note(**vars(counts), member_masses={name: mass for name, mass in masses.items() if mass})
        self._tell_hashes()

        rows = counts.rows
        sys.stdout.write(
            f"submission.csv: {rows.total:,} rows, {rows.scored:,} scored by the model "
            f"({rows.swapped:,} in both orders), {rows.ruled:,} by a rule, {rows.prior:,} with the prior\n"
        )

    def _put_meanwhile(self) -> None:
        """Write the submission that the journals allow now. What keeps it from that now may be over later: it is told
        and noted, and the scoring goes on."""
        try:
            self._put()
        except KitError as error:
            self._submitted = time.monotonic()
            self._note(not_rewritten=str(error))
            sys.stdout.write(f"submission.csv is as it was, and is tried again: {error}\n")

    def _put(self) -> tuple[dict[str, Entry], dict[str, Entry]]:
        """Write the submission that the journals allow now; the first model's entries of both passes."""
        entries = {model: self._entries(model) for model, _ in self._members()}
        columns = list(self.task.labels)
        members = [
            (answers(self.task, *entries[model], calibration=self._calibrations[model]), weight)
            for model, weight in self._members()
        ]
        final = ensemble(members)
        scores = {row_id: dict(zip(columns, map(exp, values), strict=True)) for row_id, values in final.items()}
        text = dump_submission(self.sample, scores, prior=self.task.prior, keys=self._match.keys)
        put_submission(self.working / SUBMISSION, text, self.sample)
        self._submitted = time.monotonic()
        return entries[self.model]

    def _members(self) -> list[tuple[Path, float]]:
        return [(self.model, 1.0), *self.ensemble]

    def _entries(self, model: Path) -> tuple[dict[str, Entry], dict[str, Entry]]:
        workers = self._plans[model].replicas if model in self._plans else 1
        job = self._job(model)
        return read_entries(job, workers=workers), read_entries(job, workers=workers, pass_name=SWAPPED)

    def _job(self, model: Path) -> Job:
        number = [member for member, _ in self._members()].index(model)
        return self.setup.job(
            self._plans.get(model),
            environment=self._installed.environment if self._installed else None,
            task=self.task,
            test=self.data / "test.csv",
            id_column=self.sample.id_column,
            model=model,
            journal=self.scratch / f"journal-{number}.sqlite",
            token_budget=self.token_budget,
            deadline=self.deadline,
            unasked=self._match.unasked,
        )

    def _keep(self, event: dict[str, Any], model: Path) -> None:
        """Keep what a worker says of itself and of its rows."""
        match event["event"]:
            case "late" if model == self.model:
                self._late[event["worker"]] = event["rows"]
            case "engine":
                self._note(engine=event["name"])
            case "note":
                self._note(prompt_notes=tuple(dict.fromkeys((*self.run.prompt_notes, event["text"]))))

    def _why_unreached(self, outcome: Outcome) -> str:
        """Why rows of the first model's have no entry, if any has none."""
        if outcome.ended == "deadline" or any(self._late.values()):
            return LATE
        return f"scoring stopped: {outcome.message}" if outcome.ended == "failed" else NOT_SAID

    def _note(self, **parts: Any) -> None:
        """Keep parts of the run's record, by the names of its fields."""
        self.run = replace(self.run, **parts)
        self.record.update(self.run.to_json(parts))

    def _note_outcome(self, outcome: Outcome) -> None:
        """Keep how a model's workers ended, beside those of the models before it."""
        before = self.run.worker
        stages = Counter(before.stages)
        stages.update({name: round(seconds, 3) for name, seconds in outcome.stages.items()})
        self._note(
            worker=Workers(
                ended=outcome.ended,
                message=outcome.message,
                starts=max(outcome.starts, before.starts),
                deaths=(*before.deaths, *outcome.deaths),
                peak_bytes=max(outcome.peak_bytes, before.peak_bytes),
                stages=dict(stages),
            )
        )

    def _tell_hashes(self) -> None:
        """Write which files are not what their manifests say, and keep in the record how far the hashes are."""
        for sentence in self._hashes.news():
            sys.stdout.write(f"{'!' * 100}\n{sentence}\n{'!' * 100}\n")
        self._note(integrity=self._hashes.record())

    def _end_hashes(self) -> None:
        """Wait for the rest of the hashes, which the hidden run does not make: nobody sees its output.

        Kaggle's own test.csv has a few rows only: its run would nearly always end before the hashes do.
        """
        left = min(_MOST_HASHING_SECONDS, self.deadline - time.time())
        if left > 0 and not self._hashes.done:
            sys.stdout.write(f"the submission stands; hashing the rest of the model, up to {duration(left)}\n")
        self._hashes.wait(left)
        self._tell_hashes()

    def summary(self) -> None:
        """Print the run's figures as a table, and show its throughput as a small plot where the notebook can.

        What is still to be hashed of the models is waited for first, five minutes at most: the submission stands.
        """
        self._end_hashes()
        sys.stdout.write("\n".join(summary_lines(self.run)) + "\n")
        picture = throughput_plot(self.run.throughput)
        try:
            from IPython.display import SVG, display
        except ImportError:
            return
        if picture:
            display(SVG(picture))
