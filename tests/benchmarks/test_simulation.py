"""The deadline simulator: its machine, its policies, and what it says of the governor."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kaggle_kit.errors import DataError
from kaggle_kit.runtime.cost_model import load_of

# Only while they are imported: a benchmark's name may be that of a folder of tests.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import deadline
from sessions import STALL, Trace, draw_trace, read_recording
from simulation import (
    GAP,
    MODEL_LOSS,
    SWAP_GAIN,
    Options,
    draw_rows,
    figures,
    simulate,
    simulate_run,
)

sys.path.pop()

HALVED = Trace(100.0, (0.0, 1e-3, 0.0), (0.0, 1000.0, 2000.0, 2600.0), (1.0, 0.5, 0.0, 0.5), noise=0.0)
SMALL = Options(rows=2000, hours=1.0, rate=900.0, margin_seconds=120.0)


@pytest.fixture(scope="module")
def many():
    """Thirty nine-hour sessions of 25,000 rows; benchmarks/deadline.py makes more of them."""
    return simulate(Options(), runs=30)


def test_none_of_thirty_runs_is_late(many):
    """In 30 sessions of nine hours none misses its deadline; hardly a row gets the prior."""
    assert not any(run.missed for run in many)
    assert np.mean([run.prior for run in many]) < 0.0005
    assert max(run.prior for run in many) < 0.01


def test_little_is_lost_to_the_oracle(many):
    """On average less than 0.002 of log loss is lost to an oracle that knew the future, half of it for the margin."""
    found = figures(many)
    assert found["lost_mean"] < 0.002
    assert found["lost_future_mean"] < 0.001
    assert found["lost_worst"] < 0.01


def test_naive_policies_lose_more(many):
    """Without the governor many runs are killed; even with what they scored, both naive policies lose far more."""
    found = figures(many)
    assert found["unguarded_killed"] > 7
    assert found["fixed_killed"] > 1
    assert found["unguarded_lost_mean"] > 3 * found["lost_mean"]
    assert found["fixed_lost_mean"] > 3 * found["lost_mean"]


def test_the_hours_are_used(many):
    """The median run ends within a minute of the governor's deadline."""
    assert figures(many)["slack_median"] < 960


def test_the_notebook_ends_a_stalled_worker():
    """A worker that stalls at the very end is late when alone; under a notebook it is ended, and one chunk is lost."""
    stalls = Trace(100.0, (0.0, 1 / 600, 0.0), (0.0, 3400.0, 4400.0), (1.0, 0.0, 1.0), noise=0.0)
    alone = simulate_run(SMALL, 0, recording=stalls)
    assert (alone.missed, alone.ended) == (True, False)
    ended = simulate_run(replace(SMALL, supervised=True), 0, recording=stalls)
    assert (ended.missed, ended.ended) == (False, True)
    assert ended.prior + alone.swapped - ended.swapped == pytest.approx(64 / 2000, abs=0.01)


def test_a_run_does_not_depend_on_the_others():
    """Run 3 of a series is the same alone."""
    assert simulate(SMALL, runs=4)[3] == simulate_run(SMALL, 3)
    assert simulate_run(replace(SMALL, seed=1), 3) != simulate_run(SMALL, 3)


def test_time_without_end_swaps_every_row():
    """A fast machine scores all at the full budget and swaps every row, like the oracle."""
    run = simulate_run(replace(SMALL, rate=20_000.0), 0)
    assert (run.cut, run.prior, run.swapped) == (0, 0, 1)
    assert run.loss == pytest.approx(MODEL_LOSS - SWAP_GAIN)
    assert run.lost == pytest.approx(0)


def test_no_time_at_all_leaves_the_prior():
    """Where the start takes all the time, every row gets the prior, in every policy."""
    run = simulate_run(replace(SMALL, hours=0.2, margin_seconds=60), 0)
    assert (run.prior, run.swapped) == (1, 0)
    assert [run.loss, run.oracle, run.unguarded] == pytest.approx([MODEL_LOSS + GAP] * 3)


@pytest.mark.parametrize(
    ("now", "work", "seconds"),
    [(100, 50, 50), (900, 200, 100 + 200), (1900, 50, 100), (1900, 60, 100 + 600 + 20), (2100, 10, 500 + 20)],
)
def test_work_takes_as_long_as_the_speed_says(now, work, seconds):
    """Work goes through changes of speed and stalls second by second."""
    assert HALVED.seconds(now, work) == pytest.approx(seconds)
    assert HALVED.work_until(now + seconds) - HALVED.work_until(now) == pytest.approx(work)


def test_traces_are_as_stated():
    """Made-up sessions keep the stated rate at 1,000 tokens; about half have a stall, about half a throttled card."""
    traces = [draw_trace(np.random.default_rng(seed), rate=600.0, limit=32_400) for seed in range(300)]
    assert [trace.cost(load_of([1000])) for trace in traces] == pytest.approx([1000 / 600] * 300)
    stalls = [trace for trace in traces if "stall" in trace.events]
    assert 110 < len(stalls) < 190
    assert 110 < sum(any("throttled" in event for event in trace.events) for trace in traces) < 190
    index = stalls[0].speeds.index(0)
    assert stalls[0].times[index + 1] - stalls[0].times[index] <= STALL


def test_rows_look_like_the_competition():
    """Uncut lengths have a mean near 1,000 and a long tail; the gains' mean is the stated one, no row is left out."""
    rows = draw_rows(np.random.default_rng(0), rows=25_000, budget=100_000)
    assert rows.lengths.mean() == pytest.approx(1000, rel=0.03)
    assert rows.lengths[-1] > 8000
    assert rows.gains.mean() == pytest.approx(SWAP_GAIN)
    assert sorted(rows.order) == list(range(25_000))


def write_recording(path, *, seconds_at, chunks=60):
    """A record of chunks of 64 rows that lasts as long as `seconds_at(tokens, number)` says."""
    source = np.random.default_rng(0)
    lines = [json.dumps({"start_seconds": 300})]
    for number in range(chunks):
        lengths = source.integers(50, 1000, 64).tolist()
        lines.append(json.dumps({"lengths": lengths, "seconds": seconds_at(sum(lengths), number)}))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_recording_is_replayed(tmp_path):
    """A recorded session gives its own start, its own rate, and the slow stretch where it was."""
    path = write_recording(tmp_path / "r.jsonl", seconds_at=lambda tokens, n: tokens / 800 * (2 if n >= 40 else 1))
    trace = read_recording(path, limit=3600)
    assert trace.start_seconds == 300
    assert trace.cost(load_of([500] * 64)) == pytest.approx(40, rel=0.02)
    assert trace.seconds(400, 10) == pytest.approx(10, rel=0.02)
    assert trace.speeds[45] == pytest.approx(0.5, rel=0.02)
    runs = simulate(replace(SMALL, trace=path), runs=3)
    assert not any(run.missed for run in runs)
    assert {run.events for run in runs} == {("recorded",)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no chunk"),
        ('{"lengths": [1, 2], "seconds": 1}\nnonsense\n', "line 2: not a chunk"),
        ('{"lengths": [1, 2]}\n', "line 1: not a chunk"),
        ("[1, 2]\n", "line 1: not a chunk"),
        ('{"lengths": [], "seconds": 1}\n', "line 1: a chunk needs rows"),
        ('{"lengths": [5], "seconds": 0}\n', "line 1: a chunk needs rows and a time above 0"),
    ],
)
def test_a_broken_recording_is_named(tmp_path, text, message):
    """A recording that is none names its file and line."""
    path = tmp_path / "broken.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"broken\.jsonl.*{message}"):
        read_recording(path, limit=3600)


def test_a_missing_recording_is_named(tmp_path):
    """A recording that is not there is named."""
    with pytest.raises(DataError, match="cannot be read as a recorded trace"):
        read_recording(tmp_path / "no.jsonl", limit=3600)


# ----------------------------------------------------------------------------------------------------- the benchmark


def test_the_benchmark_writes_its_tables(tmp_path, capsys):
    """`benchmarks/deadline.py` says what was missed and lost, in a table that names its command."""
    out = tmp_path / "deadline.md"
    assert deadline.main(["--runs", "2", "--out", str(out)]) == 0
    assert capsys.readouterr().out.endswith("deadline.md: 0 missed deadlines\n")
    assert "| 34B on 2 x T4, budget 1,024, margin 15 min | 2 | **0** |" in out.read_text()
    assert "| the governor | 0 of 2 |" in out.read_text()


def test_the_same_seed_gives_the_same_figures():
    """What is reported depends on the seed alone."""
    options = replace(SMALL, rows=1000, seed=7)
    once, again = (figures(simulate(options, runs=2)) for _ in range(2))
    assert once["runs"] == 2
    assert once == again


def test_a_margin_beyond_the_limit_is_refused():
    """A margin that leaves nothing of the session is refused, and said so."""
    with pytest.raises(ValueError, match=r"900 s leaves nothing of 0\.1 h"):
        Options(hours=0.1, margin_seconds=900)
