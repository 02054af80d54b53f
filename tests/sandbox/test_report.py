"""The report of a run, from what it left behind; and as a person and a program read it."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from kaggle_kit.evaluation.metrics import Solution
from kaggle_kit.notebook.build import build
from kaggle_kit.project import load_project
from kaggle_kit.runtime.record import LATE, LabelMass
from kaggle_kit.runtime.submission import Sample
from kaggle_kit.sandbox.execute import Execution, cell_names
from kaggle_kit.sandbox.report import Ran, Report, make_report
from kaggle_kit.targets import load_target

pytestmark = pytest.mark.usefixtures("guarded_here", "filled_here")

SAMPLE = Sample("id", ("first", "second"), ("1", "2", "3"))
SUBMISSION = "id,first,second\n1,0.5,0.5\n2,0.25,0.75\n3,0.75,0.25\n"
RECORD = {
    "stages": {"inputs": 0.1, "install": 7.0, "score": 20.0},
    "worker": {
        "ended": "done",
        "message": "",
        "starts": 1,
        "peak_bytes": 5,
        "stages": {"prepare": 1.0, "engine start": 9.0, "scoring": 2.0},
    },
    "rows": {"total": 3, "scored": 3, "prior": 0, "unreadable": 0, "unreadable_rows": {}, "cut": 1},
    "prompt_tokens": 600,
    "longest_prompt": 250,
    "label_mass": {"mean": 0.9, "lowest": 0.5},
}
TWO_SCORED = {"rows": RECORD["rows"] | {"scored": 2, "prior": 1}}
CORRUPT = {
    "m": {
        "files": 2,
        "checked_files": 2,
        "bytes": 9,
        "checked_bytes": 9,
        "seconds": 0.0,
        "bad": [{"path": "w.safetensors", "manifest": "a", "found": "b", "error": ""}],
    }
}
VALID = "submission.csv is valid: 3 of 3 rows scored by the model"
ONE_LATE = "1 were left when scoring had to end, 8:45:00 after the start (time_limit_hours 9 less margin_minutes 15)"
VALID_TWO = "submission.csv is valid: 2 of 3 rows scored by the model, the prior for 1"


@dataclass(frozen=True)
class Seal:
    """What a report needs of a seal."""

    name: str = "none"
    unsealed: tuple[str, ...] = ("The network can be reached.",)
    left_open: tuple[str, ...] = ("the kernel is shared",)


@pytest.fixture
def report(minimal, tmp_path):
    """A function: the report of a run that left these files, changed from a good one's."""
    built = build(load_project(minimal), "answer", target=load_target("local-cpu"), out=tmp_path / "built")
    results = tmp_path / "results"
    results.mkdir()

    def make(
        *,
        submission: str | None = SUBMISSION,
        record: dict[str, object] | None = None,
        failed: tuple[str, str, str] | None = None,
        last: str = "score",
        code: int = 0,
        limit: bool = False,
        solution: Solution | None = None,
        kept: bool = True,
    ):
        if submission is not None:
            (results / "submission.csv").write_text(submission)
        if kept:
            (results / "kit-run.json").write_text(json.dumps(RECORD | (record or {})))
        names = cell_names(built.notebook)
        lines = [f"{i:9.2f}  Executing Cell {i}-------" for i in range(1, names.index(last) + 2)]
        (results / "log.txt").write_text("\n".join(lines))
        _executed(results / "executed.ipynb", built.notebook, failed)
        ran = Ran(Seal(), Execution(code, 40.0, limit, 2_500_000_000), 3.0, ("a note",))
        return make_report(built, results, ran, sample=SAMPLE, solution=solution)

    return make


def _executed(path: Path, notebook: Path, failed: tuple[str, str, str] | None) -> None:
    body = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in body["cells"]:
        if failed and cell["id"] == failed[0]:
            cell["outputs"] = [{"output_type": "error", "ename": failed[1], "evalue": failed[2], "traceback": []}]
    path.write_text(json.dumps(body), encoding="utf-8")


def test_ok(report):
    """A whole run begins with OK and is complete."""
    made = report()
    assert made.outcome == f"OK: {VALID}"
    assert (made.complete, made.submission_valid) == (True, True)


def test_a_deadline_after_the_last_row_costs_nothing(report):
    """Every row has its answer; a swapped pass was ended."""
    made = report(record={"worker": RECORD["worker"] | {"ended": "deadline"}})
    assert (made.outcome, made.complete) == (f"OK: {VALID}", True)


def test_ok_with_rows_that_could_not_be_read(report):
    """Rows that nobody can read do not make a run incomplete, and are counted and named."""
    rows = {"scored": 2, "prior": 1, "unreadable": 1, "unreadable_rows": {"3": "question: not JSON"}}
    made = report(record={"rows": RECORD["rows"] | rows})
    assert made.outcome == f"OK: {VALID_TWO} (1 could not be read)"
    assert made.complete
    assert "  unreadable      3: question: not JSON" in made.lines()


FIRST_LINES = {
    "a failed cell": (
        {"failed": ("prompt", "ValueError", "oops"), "code": 1, "record": TWO_SCORED},
        f"FAILED in the cell 'prompt': ValueError: oops; {VALID_TWO}",
    ),
    "a failed stage of a hidden run": (
        {"record": TWO_SCORED | {"failed": {"stage": "score", "error": "RunError: x"}}},
        f"FAILED in the stage 'score': RunError: x; {VALID_TWO}",
    ),
    "an end without an error": (
        {"code": 137, "last": "install", "record": TWO_SCORED},
        f"FAILED: the notebook ended with code 137 in the cell 'install'; see log.txt; {VALID_TWO}",
    ),
    "the deadline": (
        {"record": TWO_SCORED | {"worker": RECORD["worker"] | {"ended": "deadline"}}},
        f"DEADLINE: the notebook's time did not suffice for every row; {VALID_TWO}",
    ),
    "the deadline, with its rows": (
        {"record": {"rows": RECORD["rows"] | {"scored": 2, "not_reached": 1, "unanswered": {LATE: 1}}}},
        f"DEADLINE: the notebook's time did not suffice for every row: {ONE_LATE}; {VALID_TWO}",
    ),
    "a row that was not reached for another reason": (
        {"record": {"rows": RECORD["rows"] | {"scored": 2, "not_reached": 1, "unanswered": {"it broke": 1}}}},
        f"NOT REACHED: 1 rows were not scored: it broke; {VALID_TWO}",
    ),
    "a row that was not reached, in an older record": (
        {"record": {"rows": RECORD["rows"] | {"scored": 2, "not_reached": 1}}},
        f"NOT REACHED: 1 rows were not scored: it was not reached, and the run does not say why; {VALID_TWO}",
    ),
    "an id without a row": (
        {
            "record": {
                "rows": RECORD["rows"]
                | {"scored": 2, "unmatched": 1, "unmatched_rows": {"9": "none"}, "unanswered": {"none": 1}}
            }
        },
        f"IDS: 1 rows of sample_submission.csv could not be answered, such as '9': none; {VALID_TWO}",
    ),
    "a corrupt model": (
        {"record": {"integrity": CORRUPT}},
        f"CORRUPT MODEL: w.safetensors of the model m is not what its manifest says; {VALID}",
    ),
    "a low label mass": (
        {"record": {"label_mass": {"mean": 0.0, "lowest": 0.0}}},
        f"{LabelMass(0.0, 0.0).problem}; {VALID}",
    ),
    "a low label mass of a member": (
        {"record": {"member_masses": {"big": {"mean": 0.3, "lowest": 0.0}}}},
        f"{LabelMass(0.3, 0.0).problem} (the model big); {VALID}",
    ),
    "the limit": (
        {"limit": True, "code": 143, "last": "score", "record": TWO_SCORED},
        f"TIME LIMIT: the session was ended after 0:40 in the cell 'score'; {VALID_TWO}",
    ),
    "not complete": ({"record": TWO_SCORED}, f"NOT COMPLETE: {VALID_TWO}"),
    "no submission": (
        {"submission": None, "failed": ("inputs", "FileNotFoundError", "x"), "code": 1, "kept": False},
        "FAILED in the cell 'inputs': FileNotFoundError: x; NO valid submission: the notebook left no submission.csv",
    ),
    "an empty submission": ({"submission": ""}, "NOT COMPLETE: NO valid submission: the submission is empty"),
    "a short submission": (
        {"submission": "id,first,second\n1,0.5,0.5\n"},
        "NOT COMPLETE: NO valid submission: the submission has 1 rows, the sample 3",
    ),
    "a submission with NaN": (
        {"submission": SUBMISSION.replace("0.25,0.75", "nan,0.75")},
        "NOT COMPLETE: NO valid submission: line 3 of the submission (id '2') holds a value outside 0 to 1",
    ),
    "nothing noted": (
        {"kept": False},
        "NOT COMPLETE: submission.csv is valid: 0 of 3 rows scored by the model, the prior for 3",
    ),
}


@pytest.mark.parametrize("case", FIRST_LINES)
def test_the_first_line(report, case):
    """The first line says what went wrong, and what stands as the submission; the run is not complete."""
    options, line = FIRST_LINES[case]
    made = report(**options)
    assert made.outcome.startswith(line)
    assert made.lines()[0] == made.outcome
    assert not made.complete


def test_a_worker_that_died(report):
    """A worker that died and was started again is told in the first line, the run still being whole."""
    worker = RECORD["worker"] | {"starts": 2, "deaths": ["it was killed by signal 9"]}
    made = report(record={"worker": worker})
    assert made.outcome == f"OK: {VALID}; the worker died once and was started again (it was killed by signal 9)"
    assert made.complete


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_record_that_cannot_be_read(report, tmp_path, text):
    """A record that was cut off is as none."""
    (tmp_path / "results" / "kit-run.json").write_text(text)
    assert report(kept=False).scored_rows == 0


def test_what_the_notebook_hashed_is_told(report):
    """The report says how the models' files were found, by model."""
    sound = CORRUPT["m"] | {"bad": []}
    assert report(record={"integrity": {"m": sound}}).integrity == {
        "model m": "all 2 files as its manifest says (9 bytes hashed)"
    }
    assert report().integrity == {}


def test_what_a_model_is_allowed_is_told(report):
    """Check and finding, by model, as a line of the report."""
    told = report(record={"allowed": {"m": ["head: config.json: has none"]}})
    assert told.allowed == {"allowed m": "head: config.json: has none"}
    assert "allowed m         head: config.json: has none" in told.lines()
    assert report().allowed == {}


def test_figures(report):
    """Speeds are per second of scoring; memory is the larger of the two that were measured."""
    made = report()
    assert (made.rows_per_second, made.tokens_per_second) == (1.5, 300)
    assert (made.peak_bytes, made.longest_prompt, made.cut_rows) == (2_500_000_000, 250, 1)
    assert (made.label_mass_mean, made.label_mass_lowest) == (0.9, 0.5)


def test_seconds_per_stage(report):
    """Every stage has its seconds, in the order in which they happened."""
    assert list(report().seconds.items()) == [
        ("preparing", 3.0),
        ("install", 7.0),
        ("prepare", 1.0),
        ("engine start", 9.0),
        ("scoring", 2.0),
        ("whole notebook", 40.0),
    ]


def test_what_the_hidden_rows_would_take(report):
    """Reading and scoring grow with the rows, everything else stays: 37 s + 3 s x 25,000 / 3."""
    assert report().projected_seconds == pytest.approx(37 + 25_000)


def test_the_log_loss_of_a_known_solution(report):
    """Where the outcomes are known, the log loss is there."""
    truth = Solution({"1": "first", "2": "first", "3": "first"})
    assert report(solution=truth).log_loss == pytest.approx((0.693147 + 1.386294 + 0.287682) / 3, abs=1e-5)


def test_no_log_loss_of_an_invalid_submission(report):
    """A submission that Kaggle would refuse has no score."""
    assert report(solution=Solution({}), submission="x\n").log_loss is None


NOTHING = {
    "notebook": "answer",
    "target": "local-cpu",
    "outcome": "FAILED: x",
    "complete": False,
    "submission_valid": True,
    "seal": "bwrap",
    "left_open": (),
    "unsealed": (),
    "total_rows": 1_200,
    "scored_rows": 0,
    "prior_rows": 1_200,
    "ruled_rows": 0,
    "swapped_rows": 0,
    "unreadable_rows": {},
    "unreadable_count": 0,
    "cut_rows": 0,
    "seconds": {"preparing": 1.26},
    "rows_per_second": None,
    "tokens_per_second": None,
    "prompt_tokens": 0,
    "longest_prompt": 0,
    "peak_bytes": 0,
    "label_mass_mean": None,
    "label_mass_lowest": None,
    "log_loss": None,
    "projected_seconds": None,
    "worker_starts": 0,
}
ALL = NOTHING | {
    "rows_per_second": 21.04,
    "tokens_per_second": 10_400.4,
    "prompt_tokens": 31_000,
    "longest_prompt": 512,
    "peak_bytes": 1_234_000_000,
    "label_mass_mean": 0.98765,
    "label_mass_lowest": 0.5,
    "log_loss": 0.61234,
    "projected_seconds": 5_400.0,
    "notes": ("resolved anew",),
    "integrity": {"model demo": "all 4 files as its manifest says (9 bytes hashed)"},
    "unmatched_rows": {"9": "test.csv has no row of this id"},
    "unanswered": {"test.csv has no row of this id": 1},
    "allowed": {"allowed demo": "head: config.json: has none"},
}


def test_the_outcome_comes_first():
    """How it ended is the first line."""
    assert Report(**NOTHING).lines()[0] == "FAILED: x"


def test_what_is_not_known_is_not_told():
    """A run that never scored has no speed, mass, loss or estimate in its text."""
    assert Report(**NOTHING).lines()[1:] == [
        "seal              bwrap, no network",
        (
            "rows              1,200 in all: 0 scored by the model (0 in both orders, 0 cut to the token budget), "
            "0 by a rule, 1,200 with the prior"
        ),
        "preparing         1.3 s",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "note              resolved anew",
        "speed             21.0 rows/s, 10,400 prompt tokens/s (31,000 tokens, longest prompt 512)",
        "peak memory       1.23 GB",
        "label mass        0.9877 on average, 0.5000 at the lowest",
        "  no row          9: test.csv has no row of this id",
        "  no answer       1 rows: test.csv has no row of this id",
        "log loss          0.6123",
        "model demo        all 4 files as its manifest says (9 bytes hashed)",
        "25,000 rows       about 1.50 h on this machine (estimated)",
    ],
)
def test_what_is_known_is_told(line):
    """Each figure has its line, with its unit."""
    assert line in Report(**ALL).lines()


def test_what_is_not_sealed_is_told():
    """A weak seal does not say "no network", and each thing it leaves open is a line."""
    lines = Report(**NOTHING | {"seal": "none", "unsealed": ("The network.", "The disk.")}).lines()
    assert "seal              none (not sealed: see below)" in lines
    assert lines[-2:] == ["NOT SEALED        The network.", "NOT SEALED        The disk."]


def test_unreadable_rows_beyond_those_named():
    """Rows that are counted but not named are told as a number."""
    lines = Report(**NOTHING | {"unreadable_rows": {"7": "not JSON"}, "unreadable_count": 1_001}).lines()
    assert "  unreadable      7: not JSON" in lines
    assert "  unreadable      and 1,000 more" in lines


def test_json_holds_every_field():
    """The JSON form has all fields, and is JSON."""
    report = Report(**ALL)
    assert json.loads(json.dumps(report.to_json())).keys() == ALL.keys()
