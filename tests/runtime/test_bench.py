"""What is measured on a machine, and what becomes of it."""

import csv
import dataclasses
import sys
import time

import pytest
from known_checkpoints import checkpoint

from kaggle_kit.errors import DataError, RunError
from kaggle_kit.runtime.bench import Measured, Trial, line, probe_rows, rates, run_trials, trials
from kaggle_kit.runtime.engine_plan import EngineSetup, Gpu
from kaggle_kit.runtime.job import Job, Task
from kaggle_kit.targets.rates import load_rates

GIB = 1 << 30
T4 = Gpu(memory=15 * GIB, capability=(7, 5))
H200 = Gpu(memory=140 * GIB, capability=(9, 0))
MODEL = checkpoint(6 * GIB, (32, 4096, 14_336, 32, 8, 128, 128_256), most_tokens=8192)


def planned(cards, *, model=MODEL, version=(0, 25, 1), given=None):
    return trials(EngineSetup(version=version, cards=cards, options=given or {}), model, 1024)


def names(found):
    return [one.name for one in found]


def test_every_kernel_that_can_be_had_is_tried():
    """The planned one first; what selects the others is in their options or variables."""
    found = planned([H200])
    assert names(found)[:4] == ["kernel machete", "kernel marlin", "kernel plain", "kernel marlin-int8"]
    by_name = {one.name: one for one in found}
    assert "MacheteLinearKernel" in by_name["kernel marlin"].environment["VLLM_DISABLED_KERNELS"]
    assert by_name["kernel plain"].environment["KIT_AWQ_KERNEL"] == "plain"
    assert names(planned([T4, T4]))[:2] == ["kernel marlin", "kernel plain"]
    assert names(planned([T4], version=(0, 13, 0)))[0] == "kernel plain"


def test_settings_follow_the_kernels():
    """The prefix cache and the step's size are measured with the planned kernel, once each."""
    found = planned([H200])
    assert names(found)[4] == "no prefix cache"
    assert found[4].options["enable_prefix_caching"] is False
    assert names(found)[5] == "steps of 4,096"
    assert len(found) == 6


def test_a_full_checkpoint_and_a_cpu_have_no_kernels_to_choose():
    """Then only the settings are measured."""
    full = dataclasses.replace(MODEL, quantisation=None, method=None, weight_bytes=12 * GIB)
    for found in (planned([H200], model=full), planned([])):
        assert names(found)[:2] == ["as planned", "no prefix cache"]
        assert all(one.kernel is None for one in found)


def test_a_given_quantization_is_left_alone():
    """Whoever has settled the kernel has nothing to choose."""
    assert names(planned([T4], given={"quantization": "awq"}))[0] == "as planned"


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_rows_come_from_train_where_it_has_some(tmp_path):
    """A public run's test.csv is too small to measure with; an empty train.csv is passed over."""
    (tmp_path / "test.csv").write_text("id,prompt\n1,x\n")
    assert [row["id"] for row in rows_of(probe_rows(tmp_path, tmp_path / "a.csv", rows=9))] == ["1"]
    (tmp_path / "train.csv").write_text("id,prompt\n")
    assert [row["id"] for row in rows_of(probe_rows(tmp_path, tmp_path / "b.csv", rows=9))] == ["1"]
    (tmp_path / "train.csv").write_text('id,prompt\n5,"a\nb"\n6,c\n7,d\n')
    assert rows_of(probe_rows(tmp_path, tmp_path / "c.csv", rows=2)) == [
        {"id": "5", "prompt": "a\nb"},
        {"id": "6", "prompt": "c"},
    ]


def test_without_rows_nothing_is_measured(tmp_path):
    """The folder is named."""
    with pytest.raises(DataError, match=r"holds no train\.csv or test\.csv with rows"):
        probe_rows(tmp_path, tmp_path / "out.csv", rows=5)


def measured(name, kernel, speed, **more):
    return Measured(Trial(name, kernel, {}, {}), tokens_per_second=speed, rows=2, tokens=20, **more)


def test_the_rates_file_is_what_a_build_reads(tmp_path):
    """The best rate of each kernel that worked; a failed trial is kept with its problem, and gives none."""
    import json

    found = [
        measured("kernel marlin", "marlin", 5000.04),
        measured("kernel plain", "plain", 0.0, problem="no memory"),
        measured("no prefix cache", None, 6000.0),
    ]
    body = rates(found, target="kaggle-t4x2", checkpoint=MODEL, cards=[T4, T4])
    (tmp_path / "rates").mkdir()
    (tmp_path / "rates" / "kaggle-t4x2.json").write_text(json.dumps(body))
    assert load_rates("kaggle-t4x2", project=tmp_path).kernels == {"marlin": 5000.0}
    assert (body["card"], body["cards"], body["tokens_per_second"]) == ("sm_75", 2, 6000.0)
    assert [one["problem"] for one in body["trials"]] == [None, "no memory", None]


def test_what_a_build_does_not_take_unasked_is_told_apart():
    """The rate with int8 activations stands beside the others, but the target's own rate is that of an exact kernel."""
    found = [measured("kernel marlin", "marlin", 5000.0), measured("kernel marlin-int8", "marlin-int8", 9000.0)]
    body = rates(found, target="kaggle-t4x2", checkpoint=MODEL, cards=[T4])
    assert body["kernels"] == {"marlin": 5000.0, "marlin-int8": 9000.0}
    assert body["tokens_per_second"] == 5000.0
    assert 'kernel = "marlin-int8"' in line(found[1], found[0])


def test_a_trial_is_told_against_the_first():
    """With how far the answers are apart, where both scored the same rows."""
    first = measured("kernel machete", "machete", 100.0)
    assert "0.50 of the first" in line(measured("kernel marlin", "marlin", 50.0, apart=0.0004), first)
    assert line(measured("kernel plain", "plain", 0, problem="it died"), first) == "kernel plain: it died"


WORKER = """
import json, pathlib, sys, time
job, seconds = sys.argv[-2:]
options = json.loads(pathlib.Path(job).read_text())["engine_options"]
if options.get("dies"): raise SystemExit("CUDA out of memory")
time.sleep(options.get("sleeps", 0))
speed = options["speed"]
for _ in range(options.get("floods", 0)): sys.stderr.write("z" * (1 << 16))
print(json.dumps(dict(event="measured", engine="e", rows=1, tokens=speed, seconds=1.0, tokens_per_second=speed,
    start_seconds=0.1, probabilities={"1": [speed / 1000, 1 - speed / 1000]}) | options.get("lies", {})))
"""


@pytest.fixture
def run(tmp_path):
    """Runs trials whose engine is a small script in the place of Python."""
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\n{WORKER}")
    program.chmod(0o755)
    job = Job(
        task=Task(labels={"a": "A", "b": "B"}, prior={"a": 0.5, "b": 0.5}, fields={"p": 1}, template="{p}"),
        test=tmp_path / "test.csv",
        id_column="id",
        model=tmp_path,
        journal=tmp_path / "journal.sqlite",
        token_budget=10,
        engine_options={},
    )

    def run(*options, seconds=60.0):
        told = []
        found = run_trials(
            [Trial(f"trial {number}", None, each, {}) for number, each in enumerate(options)],
            job=job,
            python=program,
            scratch=tmp_path / "scratch",
            environment={},
            seconds=1.0,
            deadline=time.monotonic() + seconds,
            tell=told.append,
        )
        return found, told

    return run


def test_each_trial_is_measured_by_itself(run):
    """Rates, and the largest difference of a probability from the first's."""
    found, told = run({"speed": 100}, {"speed": 150})
    assert [one.tokens_per_second for one in found] == [100, 150]
    assert (found[0].apart, found[1].apart) == (None, pytest.approx(0.05))
    assert len(told) == 2


def test_a_trial_that_dies_costs_only_itself(run):
    """Its last words are kept."""
    found, _ = run({"speed": 100}, {"dies": True}, {"speed": 90})
    assert [one.problem for one in found] == [None, "CUDA out of memory", None]


def test_where_the_first_dies_nothing_was_measured(run):
    """Without a first rate there is nothing to compare with."""
    with pytest.raises(RunError, match="nothing could be measured: CUDA out of memory"):
        run({"dies": True}, {"speed": 100})


def test_no_trial_outlives_the_time(run):
    """One that hangs is ended; one for which no time is left is not begun."""
    since = time.monotonic()
    found, told = run({"speed": 100}, {"speed": 1, "sleeps": 60}, seconds=1.5)
    assert time.monotonic() - since < 20
    assert len(found) == 1
    assert told[-1] == "trial 1: no time is left for it"


WRONG = {
    "a rate of zero": {"tokens_per_second": 0},
    "a rate that is none": {"tokens_per_second": "fast"},
    "a start before its time": {"start_seconds": -1},
    "probabilities of other labels": {"probabilities": {"1": [0.5]}},
    "probabilities that are texts": {"probabilities": {"1": ["a", "b"]}},
    "probabilities that are none": {"probabilities": 7},
    "no engine": {"engine": None},
    "rows that are half": {"rows": 1.5},
}


@pytest.mark.parametrize("case", WRONG)
def test_a_trial_that_tells_nonsense_costs_only_itself(run, case):
    """Whatever a hostile model's trial says, the others' figures stand, and there is a sentence."""
    found, told = run({"speed": 100}, {"speed": 150, "lies": WRONG[case]}, {"speed": 90})
    assert [one.problem is None for one in found] == [True, False, True]
    assert "the " in found[1].problem
    assert len(told) == 3


def test_a_trial_writes_no_file_that_is_read(run, tmp_path):
    """A link in the place of a result, and words without end, change nothing."""
    (tmp_path / "scratch" / "trial-0").mkdir(parents=True)
    (tmp_path / "scratch" / "trial-0" / "measured.json").symlink_to("/etc/hostname")
    found, _ = run({"speed": 100, "floods": 200})
    assert found[0].tokens_per_second == 100
    assert (tmp_path / "scratch" / "trial-0" / "log.txt").stat().st_size < 64 << 20
