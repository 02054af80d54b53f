"""One trial of a measurement, in the engine's own environment: `python -m kaggle_kit.runtime.bench_worker JOB S`.

Scores the rows of the job file JOB with its engine for S seconds at most, and reports its figures in a line of JSON.
"""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit.runtime.engine import score_all
from kaggle_kit.runtime.engines import open_engine
from kaggle_kit.runtime.job import Job, read_job
from kaggle_kit.runtime.prepare import prepare
from kaggle_kit.runtime.worker import open_events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CHUNK_ROWS = 32
_WARM_ROWS = 16


def measure(job: Job, *, seconds: float, ready: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Rows and tokens scored within about `seconds`, the engine's start, and each row's label probabilities by id.

    `ready` is called when the engine is warm, and the time begins when it returns.
    """
    prepared = prepare(job)
    rows = [(row_id, list(prompt.token_ids)) for row_id, prompt in prepared.prompts.items()]
    longest = max(len(ids) for _, ids in rows)

    since = time.perf_counter()
    engine = open_engine(
        job.engine, job.model, label_ids=prepared.label_ids, longest=longest, options=job.engine_options
    )
    start_seconds = time.perf_counter() - since
    # The first batch of a shape is slow, and these rows' own tokens would come out of the prefix cache again.
    score_all(engine, [ids[:1] + ids[:0:-1] for _, ids in rows[:_WARM_ROWS]])
    ready()

    since = time.perf_counter()

    def chunks() -> Iterator[list[list[int]]]:
        for first in range(0, len(rows), _CHUNK_ROWS):
            if time.perf_counter() - since > seconds:
                return
            yield [ids for _, ids in rows[first : first + _CHUNK_ROWS]]

    scores = [score for answers in engine.stream(chunks()) for score in answers]
    took = time.perf_counter() - since

    done = rows[: len(scores)]
    tokens = sum(len(ids) for _, ids in done)
    return {
        "engine": engine.name,
        "rows": len(done),
        "tokens": tokens,
        "seconds": took,
        "tokens_per_second": tokens / took,
        "start_seconds": start_seconds,
        "probabilities": {
            row_id: [math.exp(value) for value in score.log_probabilities]
            for (row_id, _), score in zip(done, scores, strict=True)
        },
    }


def main(argv: list[str]) -> int:
    """The whole life of a trial; its exit code."""
    events = open_events()
    job, seconds = read_job(Path(argv[0])), float(argv[1])
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    events.send("measured", **measure(job, seconds=seconds))
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    # vLLM's threads can hold up a normal exit for many seconds; the figures are sent by now.
    os._exit(code)
