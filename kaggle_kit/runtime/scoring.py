"""The scoring loop: what goes to the engine next, under which budget, and into the journal before anything else."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kaggle_kit.errors import RunError
from kaggle_kit.runtime.engine import EngineDiedError
from kaggle_kit.runtime.governor import Allowance, swap_order
from kaggle_kit.runtime.journal import PLAIN, SWAPPED, Entry
from kaggle_kit.runtime.schedule import copies, scoring_order

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kaggle_kit.runtime.engine import Engine, LabelScores
    from kaggle_kit.runtime.governor import Governor
    from kaggle_kit.runtime.journal import Journal
    from kaggle_kit.runtime.prompts import Prompt, PromptBuilder
    from kaggle_kit.runtime.task import Task

_CHUNK_SECONDS = 10.0
"""What a chunk should take: the most work that a kill can cost, while the engine's batches stay full."""
_FIRST_CHUNK_ROWS, _LARGEST_CHUNK_ROWS = 64, 2048
_TRIES_ALONE = 2
"""Times that the engine may die over a row on its own before the row is taken to be the reason."""


@dataclass(frozen=True)
class Progress:
    """How far a pass is: rows and tokens done of all, the budget now, and the p95 of its end (Unix time)."""

    pass_name: str
    rows: int
    all_rows: int
    tokens: int
    all_tokens: int
    budget: int
    p95: float | None


@dataclass
class Scorer:
    """Scores rows until they are done or the governor says that the time is."""

    engine: Engine
    journal: Journal
    governor: Governor
    builder: PromptBuilder
    report: Callable[[Progress], None]
    chunk_rows: int = _FIRST_CHUNK_ROWS
    clock: Callable[[], float] = field(default=time.monotonic)

    def first_pass(self, prompts: Mapping[str, Prompt]) -> None:
        """Score every row of `prompts` once; rows with the same prompt share one scoring.

        Rows over which an engine died come last and alone, so that one of them cannot cost the others.
        """
        shared = copies(prompts)
        flown = self.journal.in_flight()
        suspects = [row_id for row_id in shared if row_id in flown]
        self.journal.write(
            Entry(name, len(prompts[name].token_ids), prompts[name].cut, problem="the engine died over it")
            for row_id in suspects
            if flown[row_id] >= _TRIES_ALONE
            for name in (row_id, *shared[row_id])
        )
        alone = [row_id for row_id in suspects if flown[row_id] < _TRIES_ALONE]
        sure = {row_id: prompts[row_id] for row_id in shared if row_id not in flown}
        # Without a deadline nobody asks the cost model: small chunks of a probe would only leave batches half empty.
        probes, rest = scoring_order(sure, probing=math.isfinite(self.governor.deadline))
        queue = [*(row_id for chunk in probes for row_id in chunk), *rest, *alone]
        lengths = [len(prompts[row_id].token_ids) for row_id in queue]
        place = 0
        while place < len(queue):
            size = 1 if place >= len(sure) else min(self.chunk_rows, len(sure) - place)
            probing = len(probes.pop(0)) if probes else 0
            allowance = self._allowance(lengths[place:], probing=probing)
            size = min(probing or size, allowance.rows)
            chunk = [(row_id, prompts[row_id]) for row_id in queue[place : place + size]]
            chunk = self._within(chunk, allowance.tokens)
            chunk = chunk[: self._affordable([len(prompt.token_ids) for _, prompt in chunk])]
            if not chunk:
                return
            self._score_chunk(chunk, pass_name=PLAIN, shared=shared)
            place += len(chunk)
            self._tell(PLAIN, lengths, place, allowance.tokens)

    def swapped_pass(self, prompts: Mapping[str, Prompt], task: Task, *, done: Mapping[str, Entry]) -> None:
        """Score rows again with the fields exchanged, the most promising first, while there is time.

        `prompts`: the rows that have an answer of the model and no swapped pass yet; `done`: their entries. Rows over
        which an engine died come last and alone; one that it died over alone as well is left out.
        """
        flown = self.journal.in_flight()
        prompts = {row_id: one for row_id, one in prompts.items() if flown.get(row_id, 0) < _TRIES_ALONE}
        columns = list(task.labels)
        pairs = [(one, other) for one, other in task.swap.items() if one in task.labels]
        if not pairs or not prompts:
            return
        ids = list(prompts)
        exchanged = (columns.index(pairs[0][0]), columns.index(pairs[0][1]))
        probabilities = [_probabilities(done[row_id]) for row_id in ids]
        costs = [float(len(prompts[row_id].token_ids)) for row_id in ids]
        ordered = [ids[int(index)] for index in swap_order(probabilities, exchanged=exchanged, costs=costs)]
        queue = sorted(ordered, key=lambda row_id: row_id in flown)
        sure = sum(row_id not in flown for row_id in queue)
        lengths = [len(prompts[row_id].token_ids) for row_id in queue]
        mirrored = {**task.field_pairs, **{other: one for one, other in task.field_pairs.items()}}
        place = 0
        while place < len(queue):
            most = min(self.chunk_rows, sure - place) if place < sure else 1
            size = min(most, self._affordable(lengths[place:]))
            if not size:
                return
            chunk = queue[place : place + size]
            kept = [
                {name: prompts[row_id].kept[mirrored.get(name, name)] for name in prompts[row_id].kept}
                for row_id in chunk
            ]
            swapped = self.builder.build(kept)
            self._score_chunk(list(zip(chunk, swapped, strict=True)), pass_name=SWAPPED, shared={})
            place += size
            self._tell(SWAPPED, lengths, place, self.builder.budget)

    def _allowance(self, lengths: Sequence[int], *, probing: int) -> Allowance:
        """What may come next: a chunk of the probe uncut, for it is there to tell the time of long prompts."""
        if probing and not self.governor.must_stop(lengths[:probing]):
            return Allowance(self.governor.full, probing)
        return self.governor.budget(lengths)

    def _affordable(self, lengths: Sequence[int]) -> int:
        """How many of the prompts of `lengths` end in time; all where a new life knows no times yet."""
        if self.governor.model.count == 0 and self.governor.left > 0:
            return len(lengths)
        return self.governor.affordable(lengths)

    def _within(self, chunk: Sequence[tuple[str, Prompt]], budget: int) -> list[tuple[str, Prompt]]:
        """The chunk with every prompt within `budget` tokens, cut again where it is not."""
        long = [(row_id, prompt) for row_id, prompt in chunk if len(prompt.token_ids) > budget]
        if not long:
            return list(chunk)
        builder = self.builder.with_budget(max(budget, self.builder.least))
        again = dict(
            zip((row_id for row_id, _ in long), builder.build([prompt.kept for _, prompt in long]), strict=True)
        )
        return [(row_id, _with_cuts(again[row_id], prompt) if row_id in again else prompt) for row_id, prompt in chunk]

    def _score_chunk(
        self, chunk: Sequence[tuple[str, Prompt]], *, pass_name: str, shared: Mapping[str, Sequence[str]]
    ) -> None:
        since = self.clock()
        self.journal.begin(row_id for row_id, _ in chunk)
        entries = [
            entry
            for scored in self._score_or_halve(chunk)
            for entry in (scored, *(_copy(scored, other) for other in shared.get(scored.id, ())))
        ]
        self.journal.write(entries, pass_name=pass_name)
        seconds = max(self.clock() - since, 1e-6)
        self.governor.observe([len(prompt.token_ids) for _, prompt in chunk], seconds)
        fitting = int(len(chunk) * _CHUNK_SECONDS / seconds)
        if len(chunk) == self.chunk_rows:
            self.chunk_rows = max(1, min(fitting, 2 * self.chunk_rows, _LARGEST_CHUNK_ROWS))

    def _score_or_halve(self, chunk: Sequence[tuple[str, Prompt]]) -> list[Entry]:
        """Score a chunk; where the engine refuses it, its halves, down to the one row that is at fault."""
        try:
            scores = self.engine.score([prompt.token_ids for _, prompt in chunk])
        except EngineDiedError:
            raise
        except (ValueError, RunError) as error:
            if len(chunk) == 1:
                row_id, prompt = chunk[0]
                return [Entry(row_id, len(prompt.token_ids), prompt.cut, problem=f"the engine refused it: {error}")]
            half = len(chunk) // 2
            return self._score_or_halve(chunk[:half]) + self._score_or_halve(chunk[half:])
        return [_entry(row_id, prompt, score) for (row_id, prompt), score in zip(chunk, scores, strict=True)]

    def _tell(self, pass_name: str, lengths: Sequence[int], place: int, budget: int) -> None:
        finish = self.governor.finish(lengths[place:], tokens=budget)
        self.report(
            Progress(
                pass_name,
                place,
                len(lengths),
                sum(lengths[:place]),
                sum(lengths),
                budget,
                finish.p95 if finish else None,
            )
        )


def _entry(row_id: str, prompt: Prompt, score: LabelScores) -> Entry:
    return Entry(row_id, len(prompt.token_ids), prompt.cut, score.log_probabilities, score.mass, flags=score.flags)


def _copy(entry: Entry, row_id: str) -> Entry:
    return Entry(
        row_id,
        entry.tokens,
        entry.cut,
        entry.log_probabilities,
        entry.mass,
        entry.problem,
        (*entry.flags, f"copy of {entry.id}"),
    )


def _with_cuts(again: Prompt, before: Prompt) -> Prompt:
    cut = tuple(name for name in again.kept if name in again.cut or name in before.cut)
    return type(again)(again.token_ids, again.kept, cut)


def _probabilities(entry: Entry) -> list[float]:
    from math import exp

    return [exp(value) for value in entry.log_probabilities or ()]
