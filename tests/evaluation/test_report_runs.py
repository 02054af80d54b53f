"""What is read of a run: how it ended, its stages, its submission's checks, its differences to another."""

import json

import numpy as np
import pytest
from evaluation.made_runs import COLUMNS, MESSAGE, demo_ids, dry_run, pushed_run, record_of, write_submission
from evaluation.made_scores import blurred, scores_of, truth

from kaggle_kit.errors import DataError, UsageError
from kaggle_kit.evaluation.answers import answers_of
from kaggle_kit.evaluation.assess import assess, difference
from kaggle_kit.evaluation.judged import Predictions, apart, greatest_losses, judge
from kaggle_kit.evaluation.read_run import Material, read_run
from kaggle_kit.evaluation.run_facts import causes_of, excerpt, parameters_of, plain, stages_of
from kaggle_kit.evaluation.scores_run import scores_run
from kaggle_kit.evaluation.submission_facts import read_submission, submission_checks
from kaggle_kit.runtime.submission import Sample


def _receipt(folder):
    return json.loads((folder.parent.parent / "receipts" / f"{folder.name}.json").read_text())


def test_a_dry_run_is_known_by_its_report(tmp_path):
    """Outcome, parameters as they were injected, hashes, figures."""
    run = read_run(dry_run(tmp_path / "lmsys"), Material())
    assert (run.kind, run.good) == ("dry run", True)
    assert run.settings == {"token_budget": "512"}
    assert {"notebook", "target", "seal", "kit", "engine", "SHA-256 of submission.csv"} <= run.what.keys()
    assert ("speed", "13.3 rows/s", "4,591 prompt tokens/s (19,282 tokens)") in run.figures


def test_a_pushed_run_is_known_by_its_receipt(tmp_path):
    """Commit, versions and digests of the inputs, what Kaggle has otherwise, the score."""
    folder = pushed_run(tmp_path)
    run = read_run(folder, Material(receipt=_receipt(folder)))
    assert (run.kind, run.good, run.name) == ("pushed run", True, "lmsys version 3")
    assert run.outcome == "OK: the run is complete; 40 of 40 rows scored by the model; public score 0.98"
    assert run.what["commit"].startswith("236281a")
    assert run.what["dataset somebody/wheels"] == f"version 2, 10 bytes, digest {'ef' * 32}"
    assert run.settings["internet"] == "true (asked false)"


@pytest.mark.parametrize(
    ("state", "failure", "good", "outcome"),
    [
        ("ERROR", "Notebook Timeout", False, "FAILED: error, Notebook Timeout"),
        ("CANCEL_ACKNOWLEDGED", None, False, "FAILED: cancel acknowledged"),
        ("RUNNING", None, None, "NOT ENDED: Kaggle said running when it was last asked"),
    ],
)
def test_how_a_pushed_run_ended(tmp_path, state, failure, good, outcome):
    """As Kaggle said when it was last asked."""
    folder = pushed_run(tmp_path, state=state, failure=failure)
    run = read_run(folder, Material(receipt=_receipt(folder)))
    assert (run.good, run.outcome) == (good, outcome)


def test_a_complete_run_with_a_failed_stage_is_not_good(tmp_path):
    """The hidden run ends well for Kaggle with the fallback in place; the record says what happened."""
    folder = pushed_run(tmp_path)
    (folder / "kit-run.json").write_text(json.dumps(record_of(40, failed={"stage": "install", "error": MESSAGE})))
    run = read_run(folder, Material(receipt=_receipt(folder)))
    assert run.good is False
    assert run.outcome.startswith(f"FAILED in the stage 'install': {MESSAGE}")


def test_a_complete_run_of_a_corrupt_model_is_not_good(tmp_path):
    """A model that was damaged on its way to Kaggle is the first that is said of its run."""
    folder = pushed_run(tmp_path)
    bad = [{"path": "w.safetensors", "manifest": "a", "found": "b", "error": ""}]
    found = {"files": 2, "checked_files": 1, "bytes": 9, "checked_bytes": 5, "seconds": 0.1, "bad": bad}
    (folder / "kit-run.json").write_text(json.dumps(record_of(40, integrity={"m": found})))
    run = read_run(folder, Material(receipt=_receipt(folder)))
    assert run.good is False
    assert run.outcome.startswith("CORRUPT MODEL: w.safetensors of the model m; 40 of 40 rows scored")
    assert run.what["model m"].startswith("CORRUPT: w.safetensors (other SHA-256); 1 of 2 files hashed")


def test_a_complete_run_with_a_broken_submission_is_not_good(tmp_path):
    """What cannot be handed in is said first."""
    folder = pushed_run(tmp_path)
    (folder / "submission.csv").unlink()
    run = read_run(folder, Material(receipt=_receipt(folder)))
    assert run.good is False
    assert run.outcome.startswith("submission.csv, submission.csv: there is none")


def test_a_folder_that_no_run_left_is_refused(tmp_path):
    """Wrong use, with what to name instead."""
    with pytest.raises(UsageError, match="holds no run"):
        read_run(tmp_path, Material())


def test_a_damaged_record_is_named(tmp_path):
    """The rest of the run is reported, with a note that names the file and says what is wrong with it."""
    folder = dry_run(tmp_path / "lmsys")
    (folder / "kit-run.json").write_text("{")
    notes = read_run(folder, Material()).notes
    assert any("kit-run.json cannot be read as JSON" in note for note in notes)


def test_the_workers_stages_stand_in_place_of_the_notebooks_score():
    """No second is counted twice."""
    stages = stages_of(
        {"stages": {"install": 1.0, "score": 9.0, "summary": 0.1}, "worker": {"stages": {"scoring": 8.0}}}
    )
    assert stages == {"install": 1.0, "scoring": 8.0, "summary": 0.1}


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
    [cause] = causes_of([{"cause": "c", "next": "n", "place": "failure message", "text": "timeout"}], "log")
    assert (cause.where, cause.excerpt) == ("failure message", "timeout")


@pytest.mark.parametrize(
    ("value", "said"), [([], "none"), ("", "none"), (False, "false"), (0, "0"), (["b", "a"], "b, a"), ("x" * 999, 302)]
)
def test_settings_as_text(value, said):
    """Lists with commas, nothing as none, long ones cut."""
    assert plain(value) == said or len(plain(value)) == said


def _checks(path, **given):
    return {check.name: check.good for check in submission_checks(read_submission(path), rows={}, **given)}


def test_a_valid_submission_passes_its_checks(tmp_path):
    """Rows, ids, range and sums, and the sample where it is at hand."""
    path, ids = tmp_path / "submission.csv", demo_ids(20)
    write_submission(path, ids)
    found = _checks(path, sample=Sample("id", COLUMNS, tuple(ids)))
    assert found == dict.fromkeys(["rows", "ids", "range", "sums", "against the sample"], True) | {"means": None}


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


def test_a_judged_submission_is_judged_as_an_evaluation_is():
    """The same rows give the same estimates as `assess`."""
    logs, outcome = truth(300)
    answers = answers_of(scores_of(logs, outcome))
    expected = assess(answers).figures["plain"]
    found = judge(Predictions(answers.ids, answers.columns, answers.plain, answers.outcome))
    for name in ("log loss", "accuracy", "Brier", "ECE"):
        assert found.figures["submission"][name].value == pytest.approx(expected[name].value, abs=1e-12)
        assert found.figures["submission"][name].low == pytest.approx(expected[name].low, abs=1e-12)


def test_the_difference_of_two_runs_is_that_of_their_files():
    """Paired over the rows of both, as `difference` does."""
    logs, outcome = truth(300)
    files = [answers_of(scores_of(blurred(logs, seed=seed, by=0.4), outcome)) for seed in (1, 2)]
    files[1] = files[1].take(np.arange(50, 300)[::-1])
    expected = difference(*((one, one.plain) for one in files))
    found = apart(*(Predictions(one.ids, one.columns, one.plain, one.outcome) for one in files))
    assert (found.rows, found.left_out) == (250, 50)
    assert {name: one.value for name, one in found.figures.items()} == pytest.approx(
        {name: one.value for name, one in expected.figures.items()}
    )


def test_runs_without_rows_in_common_are_not_paired():
    """Other ids or other labels."""
    logs, outcome = truth(10)
    one = Predictions([str(k) for k in range(10)], ("a", "b", "c"), logs, outcome)
    assert apart(one, Predictions([f"x{k}" for k in range(10)], ("a", "b", "c"), logs, outcome)) is None
    assert apart(one, Predictions(one.ids, ("a", "b", "d"), logs, outcome)) is None
    assert apart(one, Predictions(one.ids, one.columns, logs)).figures == {}


def test_runs_that_disagree_on_what_came_true_are_refused():
    """They are not over the same labelled rows."""
    logs, outcome = truth(10)
    one = Predictions([str(k) for k in range(10)], ("a", "b", "c"), logs, outcome)
    with pytest.raises(DataError, match="disagree"):
        apart(one, Predictions(one.ids, one.columns, logs, (outcome + 1) % 3))


def test_the_worst_rows_come_first():
    """By loss, of equals the earlier."""
    logs = np.log(np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1]]))
    rows = Predictions(["x", "y", "z"], ("a", "b", "c"), logs, np.zeros(3, dtype=np.int64))
    assert [place for place, _ in greatest_losses(rows, most=2)] == [1, 2]


def test_an_evaluations_run_names_what_ran():
    """Budget, passes, prior, hashes; the prompts that the file kept."""
    logs, outcome = truth(40)
    run = scores_run(scores_of(logs, outcome, prompt=["p"] * 40), "file")
    assert run.settings["token_budget"] == "1024"
    assert run.settings["passes"] == "plain"
    assert run.what["SHA-256 of the task"] == "t"
    assert [row.prompt for row in run.worst] == ["p"] * 20
