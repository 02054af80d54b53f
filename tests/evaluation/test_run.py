"""What is read of a run: how it ended, its figures, and what an evaluation's page says."""

import json

import pytest
from evaluation.made_runs import MESSAGE, dry_run, pushed_run, record_of
from evaluation.made_scores import scores_of, truth

from kaggle_kit.errors import UsageError
from kaggle_kit.evaluation.run import RunContext, read_run, scores_run, setting_text
from kaggle_kit.evaluation.run_files import Push


def _push(folder):
    return Push.from_json(json.loads((folder.parent.parent / "receipts" / f"{folder.name}.json").read_text()))


def test_a_dry_run_is_known_by_its_report(tmp_path):
    """Outcome, parameters as they were injected, hashes, figures."""
    run = read_run(dry_run(tmp_path / "lmsys"), RunContext())
    assert (run.kind, run.good) == ("dry run", True)
    assert run.settings == {"token_budget": "512"}
    assert {"notebook", "target", "seal", "kit", "engine", "SHA-256 of submission.csv"} <= run.what.keys()
    assert ("speed", "13.3 rows/s", "4,591 prompt tokens/s (19,282 tokens)") in run.figures


def test_a_pushed_run_is_known_by_its_receipt(tmp_path):
    """Commit, versions and digests of the inputs, what Kaggle has otherwise, the score."""
    folder = pushed_run(tmp_path)
    run = read_run(folder, RunContext(push=_push(folder)))
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
    run = read_run(folder, RunContext(push=_push(folder)))
    assert (run.good, run.outcome) == (good, outcome)


def test_a_complete_run_with_a_failed_stage_is_not_good(tmp_path):
    """The hidden run ends well for Kaggle with the fallback in place; the record says what happened."""
    folder = pushed_run(tmp_path)
    (folder / "kit-run.json").write_text(json.dumps(record_of(40, failed={"stage": "install", "error": MESSAGE})))
    run = read_run(folder, RunContext(push=_push(folder)))
    assert run.good is False
    assert run.outcome.startswith(f"FAILED in the stage 'install': {MESSAGE}")


def test_a_complete_run_of_a_corrupt_model_is_not_good(tmp_path):
    """A model that was damaged on its way to Kaggle is the first that is said of its run."""
    folder = pushed_run(tmp_path)
    bad = [{"path": "w.safetensors", "manifest": "a", "found": "b", "error": ""}]
    found = {"files": 2, "checked_files": 1, "bytes": 9, "checked_bytes": 5, "seconds": 0.1, "bad": bad}
    (folder / "kit-run.json").write_text(json.dumps(record_of(40, integrity={"m": found})))
    run = read_run(folder, RunContext(push=_push(folder)))
    assert run.good is False
    assert run.outcome.startswith("CORRUPT MODEL: w.safetensors of the model m; 40 of 40 rows scored")
    assert run.what["model m"].startswith("CORRUPT: w.safetensors (other SHA-256); 1 of 2 files hashed")


def test_what_a_model_is_allowed_is_shown(tmp_path):
    """By model, with the check and what it had found."""
    folder = pushed_run(tmp_path)
    record = record_of(40, allowed={"m": ["head: it has none", "length: it is short"], "n": []})
    (folder / "kit-run.json").write_text(json.dumps(record))
    what = read_run(folder, RunContext(push=_push(folder))).what
    assert what["allowed m"] == "head: it has none; length: it is short"
    assert "allowed n" not in what


def test_a_complete_run_with_a_broken_submission_is_not_good(tmp_path):
    """What cannot be handed in is said first."""
    folder = pushed_run(tmp_path)
    (folder / "submission.csv").unlink()
    run = read_run(folder, RunContext(push=_push(folder)))
    assert run.good is False
    assert run.outcome.startswith("submission.csv, submission.csv: there is none")


def test_a_folder_that_no_run_left_is_refused(tmp_path):
    """Wrong use, with what to name instead."""
    with pytest.raises(UsageError, match="holds no run"):
        read_run(tmp_path, RunContext())


def test_a_damaged_record_is_named(tmp_path):
    """The rest of the run is reported, with a note that names the file and says what is wrong with it."""
    folder = dry_run(tmp_path / "lmsys")
    (folder / "kit-run.json").write_text("{")
    notes = read_run(folder, RunContext()).notes
    assert any("kit-run.json cannot be read as JSON" in note for note in notes)


@pytest.mark.parametrize(
    ("value", "said"), [([], "none"), ("", "none"), (False, "false"), (0, "0"), (["b", "a"], "b, a"), ("x" * 999, 302)]
)
def test_settings_as_text(value, said):
    """Lists with commas, nothing as none, long ones cut."""
    assert setting_text(value) == said or len(setting_text(value)) == said


def test_an_evaluations_run_names_what_ran():
    """Budget, passes, prior, hashes; the prompts that the file kept."""
    logs, outcome = truth(40)
    run = scores_run(scores_of(logs, outcome, prompt=["p"] * 40), "file")
    assert run.settings["token_budget"] == "1024"
    assert run.settings["passes"] == "plain"
    assert run.what["SHA-256 of the task"] == "t"
    assert [row.prompt for row in run.worst] == ["p"] * 20
