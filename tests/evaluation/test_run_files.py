"""The files that a run leaves: report, receipt, executed notebook, log, submission, each as anybody could write it."""

import json

import pytest
from evaluation.made_runs import COLUMNS, demo_ids, dry_run, write_submission

from kaggle_kit.evaluation.run_files import (
    DryRun,
    Finding,
    KaggleState,
    Push,
    causes_of,
    excerpt,
    parameters_of,
    read_report,
    read_submission,
    submission_checks,
)
from kaggle_kit.runtime.record import Rows
from kaggle_kit.runtime.submission import Sample


def test_a_report_of_another_shape_is_read_as_far_as_it_goes(tmp_path):
    """What does not fit is left out, and a note names it; without a report there is none."""
    folder = dry_run(tmp_path / "lmsys")
    good = read_report(folder)
    assert (good.notebook, good.complete, good.log_loss) == ("lmsys", True, 0.9)
    body = json.loads((folder / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps(body | {"seconds": [1], "complete": "yes", "notes": ["as it was"]}))
    found = read_report(folder)
    named = "the report does not hold what a dry run writes: complete, seconds"
    assert (found.complete, found.seconds, found.notes) == (False, {}, ("as it was", named))
    (folder / "report.json").write_text("{}")
    assert read_report(folder) == DryRun()
    assert read_report(tmp_path) is None


@pytest.mark.parametrize(
    ("state", "going_on"), [(None, False), ("COMPLETE", False), ("ERROR", False), ("QUEUED", True), ("UNKNOWN", True)]
)
def test_a_run_goes_on_until_kaggle_says_that_it_is_over(state, going_on):
    """A state that says nothing is no end."""
    assert Push.from_json({"run": {"state": state, "failure": None}}).going_on is going_on


def test_a_receipt_of_another_shape_is_read_as_far_as_it_goes():
    """What does not fit is as if it were not there."""
    push = Push.from_json({"name": "x", "version": "3", "inputs": 5, "run": {"state": "ERROR"}, "more": 1})
    assert push == Push(name="x", run=KaggleState("ERROR"))


def test_parameters_are_the_last_plain_values(tmp_path):
    """What a cell computes is no parameter; without the file there are none."""
    assert parameters_of(dry_run(tmp_path / "lmsys", budget=384) / "executed.ipynb") == {"token_budget": "384"}
    assert parameters_of(tmp_path / "nothing.ipynb") == {}


def test_an_excerpt_marks_its_line():
    """Four lines to both sides; of a progress bar what it showed last; long lines are cut."""
    log = "\n".join([*map(str, range(1, 9)), "old\rnew", "x" * 1000, "11"])
    found = excerpt(log, 9).split("\n")
    assert found[4] == ">     9  new"
    assert len(found) == 7
    assert len(found[5]) < 420


def test_a_cause_outside_of_the_log_shows_its_own_words():
    """Kaggle's message about a run has no line."""
    [cause] = causes_of([Finding("c", "n", place="failure message", text="timeout")], "log")
    assert (cause.where, cause.excerpt) == ("failure message", "timeout")


def _checks(path, **given):
    return {check.name: check.good for check in submission_checks(read_submission(path), rows=None, **given)}


def test_a_valid_submission_passes_its_checks(tmp_path):
    """Rows, ids, range and sums, and the sample where it is at hand."""
    path, ids = tmp_path / "submission.csv", demo_ids(20)
    write_submission(path, ids)
    found = _checks(path, sample=Sample("id", COLUMNS, tuple(ids)))
    assert found == dict.fromkeys(["rows", "ids", "range", "sums", "against the sample"], True) | {"means": None}


def test_an_id_that_the_sample_repeats_is_no_fault(tmp_path):
    """The submission has to have the sample's rows; without the sample nobody knows."""
    path, ids = tmp_path / "submission.csv", demo_ids(20)
    ids[1] = ids[0]
    write_submission(path, ids)
    assert _checks(path, sample=Sample("id", COLUMNS, tuple(ids)))["ids"] is True
    assert _checks(path)["ids"] is False


@pytest.mark.parametrize(
    ("lines", "bad"),
    [
        (["1,0.5,0.5,0.0", "1,0.5,0.5,0.0"], {"ids"}),
        (["1,0.5,0.6,0.0"], {"sums"}),
        (["1,1.5,-0.5,0.0"], {"range"}),
        (["1,0.5,nan,0.5"], {"range", "sums"}),
        (["1,0.5,,0.5"], {"range", "sums"}),
        (["1,0.5,0.5"], {"range", "sums"}),
        ([], {"rows", "range", "sums"}),
    ],
)
def test_a_broken_submission_fails_where_it_is_broken(tmp_path, lines, bad):
    """Each fault by its own check."""
    path = tmp_path / "submission.csv"
    path.write_text("\n".join(["id,a,b,c", *lines]) + "\n")
    assert {name for name, good in _checks(path).items() if good is False} == bad


@pytest.mark.parametrize("body", [None, b"", b"id\n1\n", b"\xff\xfe\x00"])
def test_no_submission_is_a_failed_check(tmp_path, body):
    """Nothing there, empty, without a label, not text."""
    path = tmp_path / "submission.csv"
    if body is not None:
        path.write_bytes(body)
    assert _checks(path) == {"submission.csv": False}


def test_the_runs_own_counts_are_compared(tmp_path):
    """The rows that the run says it had, and those with the prior."""
    path = tmp_path / "submission.csv"
    write_submission(path, demo_ids(20))
    for rows, good in ((Rows(total=20), True), (Rows(total=21), False)):
        checks = {check.name: check for check in submission_checks(read_submission(path), rows=rows)}
        assert (checks["rows"].good, checks["prior rows"].good) == (good, True)
    checks = {check.name: check for check in submission_checks(read_submission(path), rows=Rows(total=20, prior=2))}
    assert (checks["prior rows"].good, checks["prior rows"].said) == (None, "2 rows have the prior")
