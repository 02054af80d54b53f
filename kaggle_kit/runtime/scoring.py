"""The scoring loop: what goes to the engine next, under which budget, and into the journal before anything else."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from kaggle_kit.errors import RunError
from kaggle_kit.runtime.engine import EngineDiedError, score_all
from kaggle_kit.runtime.governor import Allowance, probe, swap_order
from kaggle_kit.runtime.journal import DIED_OVER, PLAIN, REFUSED, SWAPPED, Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kaggle_kit.runtime.engine import Engine, LabelScores
    from kaggle_kit.runtime.governor import Governor
    from kaggle_kit.runtime.job import Task
    from kaggle_kit.runtime.journal import Journal, WorkerJournal
    from kaggle_kit.runtime.prompts import Prompt, PromptBuilder

    Chunk = list[tuple[str, Prompt]]


_CHUNK_SECONDS = 5.0
"""What a chunk should take: how often rows are written, and about half of the work that a kill can cost."""
_FIRST_CHUNK_ROWS, _LARGEST_CHUNK_ROWS = 64, 2048
_TRIES_ALONE = 2
"""Times that the engine may die over a row on its own before the row is taken to be the reason."""

_SILENT_ROWS = 256
"""Rows after which a model that has answered none is given up."""


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
class _Pass:
    """One pass on its way: the rows in their order, and how many were sent to the engine and came back.

    `lengths` are the prompts' tokens; `shared` names each row's copies. `stopped`: no time is left for the rest.
    """

    name: str
    queue: Sequence[str]
    lengths: Sequence[int]
    budget: int
    shared: Mapping[str, Sequence[str]] = field(default_factory=dict)
    sent: int = 0
    done: int = 0
    stopped: bool = False


@dataclass
class Scorer:
    """Scores rows until they are done or the governor says that the time is over."""

    engine: Engine
    journal: Journal | WorkerJournal
    governor: Governor
    builder: PromptBuilder
    report: Callable[[Progress], None]
    chunk_rows: int = _FIRST_CHUNK_ROWS
    clock: Callable[[], float] = field(default=time.monotonic)
    _with_engine: deque[tuple[Chunk, float]] = field(default_factory=deque)
    _last_filed: float = -math.inf

    def first_pass(self, prompts: Mapping[str, Prompt]) -> None:
        """Score every row of `prompts` once; rows with the same prompt share one scoring.

        Rows over which an engine died come last and alone, so that one of them cannot cost the others.
        """
        shared = copies(prompts)
        in_flight = self.journal.in_flight()
        suspects = [row_id for row_id in shared if row_id in in_flight]
        self.journal.write(
            Entry(name, len(prompts[name].token_ids), prompts[name].cut, problem=DIED_OVER)
            for row_id in suspects
            if in_flight[row_id] >= _TRIES_ALONE
            for name in (row_id, *shared[row_id])
        )

        alone = [row_id for row_id in suspects if in_flight[row_id] < _TRIES_ALONE]
        sure = {row_id: prompts[row_id] for row_id in shared if row_id not in in_flight}
        # Without a deadline nobody asks the cost model: small chunks of a probe would only leave batches half empty.
        probes, rest = scoring_order(sure, probing=math.isfinite(self.governor.deadline))
        queue = [*(row_id for chunk in probes for row_id in chunk), *rest, *alone]
        lengths = [len(prompts[row_id].token_ids) for row_id in queue]

        run = _Pass(PLAIN, queue, lengths, self.governor.full, shared)
        for chunk in probes:
            self._flow(self._plain_chunks(run, prompts, until=run.sent + len(chunk), probing=True), run)
        self._flow(self._plain_chunks(run, prompts, until=len(sure)), run)
        while run.sent < len(queue) and not run.stopped:
            self._flow(self._plain_chunks(run, prompts, until=run.sent + 1), run)

    def swapped_pass(self, prompts: Mapping[str, Prompt], task: Task, *, done: Mapping[str, Entry]) -> None:
        """Score rows again with the fields exchanged, the most promising first, while there is time.

        `prompts`: the rows that have an answer of the model and no swapped pass yet; `done`: their entries. Rows over
        which an engine died come last and alone; one that it died over alone as well is left out.
        """
        in_flight = self.journal.in_flight()
        prompts = {row_id: prompt for row_id, prompt in prompts.items() if in_flight.get(row_id, 0) < _TRIES_ALONE}
        pairs = [pair for pair in task.swap.items() if pair[0] in task.labels]
        if not pairs or not prompts:
            return

        ids, columns = list(prompts), list(task.labels)
        exchanged = (columns.index(pairs[0][0]), columns.index(pairs[0][1]))
        probabilities = [list(map(math.exp, done[row_id].log_probabilities or ())) for row_id in ids]
        costs = [float(len(prompts[row_id].token_ids)) for row_id in ids]
        ordered = [ids[int(index)] for index in swap_order(probabilities, exchanged=exchanged, costs=costs)]
        queue = sorted(ordered, key=lambda row_id: row_id in in_flight)
        sure = sum(row_id not in in_flight for row_id in queue)
        lengths = [len(prompts[row_id].token_ids) for row_id in queue]

        mirrored = {**task.field_pairs, **{other: name for name, other in task.field_pairs.items()}}
        run = _Pass(SWAPPED, queue, lengths, self.builder.budget)
        self._flow(self._swapped_chunks(run, prompts, mirrored, until=sure), run)
        while run.sent < len(queue) and not run.stopped:
            self._flow(self._swapped_chunks(run, prompts, mirrored, until=run.sent + 1), run)

    def _plain_chunks(
        self, run: _Pass, prompts: Mapping[str, Prompt], *, until: int, probing: bool = False
    ) -> Iterator[Chunk]:
        """The rows up to `until`, each chunk as large and its prompts as long as the time allows when it is taken."""
        while run.sent < until:
            self._count_what_the_engine_has()
            size = until - run.sent if probing else min(self.chunk_rows, until - run.sent)
            allowance = self._allowance(run.lengths[run.sent :], probing=size if probing else 0)
            ids = run.queue[run.sent : run.sent + min(size, allowance.rows)]
            chunk = self._within([(row_id, prompts[row_id]) for row_id in ids], allowance.tokens)
            chunk = chunk[: self._affordable([len(prompt.token_ids) for _, prompt in chunk])]
            if not chunk:
                run.stopped = True
                return
            run.sent += len(chunk)
            run.budget = allowance.tokens
            yield chunk

    def _swapped_chunks(
        self, run: _Pass, prompts: Mapping[str, Prompt], mirrored: Mapping[str, str], *, until: int
    ) -> Iterator[Chunk]:
        while run.sent < until:
            self._count_what_the_engine_has()
            most = min(self.chunk_rows, until - run.sent)
            size = min(most, self._affordable(run.lengths[run.sent :]))
            if not size:
                run.stopped = True
                return
            ids = run.queue[run.sent : run.sent + size]
            plain = [prompts[row_id].kept for row_id in ids]
            turns = [{name: row[mirrored.get(name, name)] for name in row} for row in plain]
            run.sent += size
            yield list(zip(ids, self.builder.build(turns), strict=True))

    def _count_what_the_engine_has(self) -> None:
        """Report the work that the engine still has to the governor: a further chunk has to wait for it."""
        lengths = [len(prompt.token_ids) for chunk, _ in self._with_engine for _, prompt in chunk]
        begun = max(self._last_filed, self._with_engine[0][1]) if lengths else 0.0
        self.governor.ahead(lengths, since=self.clock() - begun if lengths else 0.0)

    def _allowance(self, lengths: Sequence[int], *, probing: int) -> Allowance:
        """What may come next: a chunk of the probe uncut, for it is there to measure the time of long prompts."""
        if probing and not self.governor.must_stop(lengths[:probing]):
            return Allowance(self.governor.full, probing)
        return self.governor.budget(lengths)

    def _affordable(self, lengths: Sequence[int]) -> int:
        """How many of the prompts of `lengths` end in time; all if a new worker knows no times yet."""
        if self.governor.model.count == 0 and self.governor.left > 0:
            return len(lengths)
        return self.governor.affordable(lengths)

    def _within(self, chunk: Chunk, budget: int) -> Chunk:
        """The chunk with every prompt within `budget` tokens, cut again if it is not."""
        long = [(row_id, prompt) for row_id, prompt in chunk if len(prompt.token_ids) > budget]
        if not long:
            return list(chunk)
        builder = self.builder.with_budget(max(budget, self.builder.least))
        shorter = dict(zip((row_id for row_id, _ in long), builder.build([row.kept for _, row in long]), strict=True))
        return [(row_id, _with_cuts(shorter.get(row_id, prompt), prompt)) for row_id, prompt in chunk]

    def _flow(self, chunks: Iterator[Chunk], run: _Pass) -> None:
        """Stream `chunks` through the engine and file what comes back; a chunk that it refuses is halved."""
        feed = _Guarded(chunks)
        while True:
            answers = self.engine.stream(self._noted(feed))
            refusal: Exception | None = None
            while True:
                try:
                    scores = next(answers, None)
                except EngineDiedError:
                    raise
                except (ValueError, RunError) as error:
                    refusal = error
                    break
                if scores is None:
                    break
                chunk, _ = self._with_engine[0]
                self._file([_entry(*row, score) for row, score in zip(chunk, scores, strict=True)], run)

            if feed.problem is not None:
                raise feed.problem
            if refusal is None:
                return
            if not self._with_engine:
                raise refusal
            alone = len(self._with_engine) == 1
            for chunk, _ in list(self._with_engine):
                self._file(self._halves(chunk, refusal) if alone else self._whole(chunk), run)

    def _noted(self, chunks: Iterator[Chunk]) -> Iterator[list[Sequence[int]]]:
        """The chunks' token ids; each chunk is in the journal before the engine has it."""
        for chunk in chunks:
            self.journal.begin(row_id for row_id, _ in chunk)
            self._with_engine.append((chunk, self.clock()))
            yield [prompt.token_ids for _, prompt in chunk]

    def _file(self, entries: Sequence[Entry], run: _Pass) -> None:
        """Write the oldest chunk's entries and their copies; learn what it took; report how far the pass is."""
        chunk, begun = self._with_engine[0]
        copied = [
            replace(entry, id=row_id, flags=(*entry.flags, f"copy of {entry.id}"))
            for entry in entries
            for row_id in run.shared.get(entry.id, ())
        ]
        self.journal.write([*entries, *copied], pass_name=run.name)
        self._with_engine.popleft()

        silent = all(entry.log_probabilities is None for entry in entries)
        if silent and run.name == PLAIN and run.done + len(chunk) >= _SILENT_ROWS:
            refuse_silence(self.journal)

        now = self.clock()
        # While the engine still had the chunk before it, this one waited.
        seconds = max(now - max(begun, self._last_filed), 1e-6)
        self._last_filed = now
        self.governor.observe([len(prompt.token_ids) for _, prompt in chunk], seconds)
        if len(chunk) == self.chunk_rows:
            fitting = int(len(chunk) * _CHUNK_SECONDS / seconds)
            self.chunk_rows = max(1, min(fitting, 2 * self.chunk_rows, _LARGEST_CHUNK_ROWS))
        run.done += len(chunk)
        self._tell(run)

    def _whole(self, chunk: Chunk) -> list[Entry]:
        """Score a chunk on its own; if the engine refuses it, its halves, down to the one row that is at fault."""
        try:
            scores = score_all(self.engine, [prompt.token_ids for _, prompt in chunk])
        except EngineDiedError:
            raise
        except (ValueError, RunError) as error:
            return self._halves(chunk, error)
        return [_entry(*row, score) for row, score in zip(chunk, scores, strict=True)]

    def _halves(self, chunk: Chunk, refusal: Exception) -> list[Entry]:
        if len(chunk) == 1:
            row_id, prompt = chunk[0]
            return [Entry(row_id, len(prompt.token_ids), prompt.cut, problem=f"{REFUSED}: {refusal}")]
        half = len(chunk) // 2
        return self._whole(chunk[:half]) + self._whole(chunk[half:])

    def _tell(self, run: _Pass) -> None:
        finish = self.governor.finish(run.lengths[run.done :], tokens=run.budget)
        self.report(
            Progress(
                run.name,
                run.done,
                len(run.lengths),
                sum(run.lengths[: run.done]),
                sum(run.lengths),
                run.budget,
                finish.p95 if finish else None,
            )
        )


def refuse_silence(journal: Journal | WorkerJournal) -> None:
    """Raise RunError if the engine has refused rows and answered none: it would answer no other either."""
    if journal.answered():
        return
    refused = [entry.problem for entry in journal.read().values() if entry.tokens and entry.problem]
    if refused:
        raise RunError(f"the model has answered none of the first {len(refused):,} rows: {refused[0]}")


class _Guarded:
    """An iterator whose own failure ends it quietly and is kept: the engine must not take it for a bad prompt."""

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._chunks = chunks
        self.problem: Exception | None = None

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        try:
            return next(self._chunks)
        except StopIteration:
            raise
        except Exception as error:
            self.problem = error
            raise StopIteration from error


def _entry(row_id: str, prompt: Prompt, score: LabelScores) -> Entry:
    return Entry(row_id, len(prompt.token_ids), prompt.cut, score.log_probabilities, score.mass, flags=score.flags)


def _with_cuts(shorter: Prompt, before: Prompt) -> Prompt:
    cut = tuple(name for name in shorter.kept if name in shorter.cut or name in before.cut)
    return replace(shorter, cut=cut)


_SHARED_TOKENS = 64
"""Tokens beyond which two prompts that begin alike are taken to share more than the template's head."""


def copies(prompts: Mapping[str, Prompt]) -> dict[str, tuple[str, ...]]:
    """For each row that must be scored, the other rows with exactly the same prompt: they get its scores."""
    first: dict[bytes, str] = {}
    groups: dict[str, list[str]] = {}
    for row_id, prompt in prompts.items():
        scored = first.setdefault(prompt.token_ids.tobytes(), row_id)
        group = groups.setdefault(scored, [])
        if scored != row_id:
            group.append(row_id)
    return {row_id: tuple(others) for row_id, others in groups.items()}


def scoring_order(prompts: Mapping[str, Prompt], *, probing: bool = True) -> tuple[list[list[str]], list[str]]:
    """The ids of `prompts` in the order of scoring: the chunks of a probe of all lengths, then the rest.

    The probe (none unless `probing`) lets the time of long rows be known before they come; then the shortest first, so
    that if the time runs out the most rows have been scored and the longest are left to be cut. Prompts that begin
    alike beyond the template's head stay together, while a prefix cache still holds what they share; short of that,
    ids decide.
    """
    ordered = sorted(prompts, key=lambda row_id: (len(prompts[row_id].token_ids), row_id))
    probes = probe([len(prompts[row_id].token_ids) for row_id in ordered]) if probing else []
    chunks = [[ordered[index] for index in chunk] for chunk in probes]
    chosen = {row_id for chunk in chunks for row_id in chunk}
    return chunks, _by_prefix([row_id for row_id in ordered if row_id not in chosen], prompts)


def _by_prefix(ordered: Sequence[str], prompts: Mapping[str, Prompt]) -> list[str]:
    """The same rows, each group that begins alike at the place of its shortest row."""
    heads = _common_head(ordered, prompts) + _SHARED_TOKENS
    groups: dict[bytes, list[str]] = {}
    for row_id in ordered:
        ids = prompts[row_id].token_ids
        key = ids[:heads].tobytes() if len(ids) > heads else b"#" + row_id.encode("utf-8", "surrogatepass")
        groups.setdefault(key, []).append(row_id)
    return [row_id for group in groups.values() for row_id in group]


def _common_head(ordered: Sequence[str], prompts: Mapping[str, Prompt]) -> int:
    """How many tokens all prompts begin with in common: the template's head."""
    if not ordered:
        return 0
    first = prompts[ordered[0]].token_ids
    shared = len(first)
    for row_id in ordered:
        ids = prompts[row_id].token_ids
        while shared and ids[:shared] != first[:shared]:
            shared = shared // 2 if ids[: shared // 2] != first[: shared // 2] else shared - 1
    return shared
