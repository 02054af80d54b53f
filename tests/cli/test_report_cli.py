"""`kit report` and `kit compare`: what they write, say and refuse."""

from pathlib import Path

import pytest
from evaluation.made_runs import MESSAGE, demo_ids, dry_run, failed_run, pushed_run
from evaluation.made_scores import blurred, scores_of, truth

from kaggle_kit.cli import main
from kaggle_kit.evaluation.scores import write_scores

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    """The current folder is no project."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def scores(tmp_path):
    """Two scores files of the same 200 rows."""
    logs, outcome = truth(200)
    for name, seed in (("one", 1), ("two", 2)):
        write_scores(tmp_path / f"{name}.parquet", scores_of(blurred(logs, seed=seed, by=0.4), outcome, model=name))
    return tmp_path


def _page(path):
    return path.read_text(encoding="utf-8")


def test_a_scores_file_becomes_a_page_beside_it(scores, capsys):
    """The outcome on standard output, the place and size on standard error."""
    assert main.run(["report", "one.parquet"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Log loss 0.")
    assert err == f"one.html  {(scores / 'one.html').stat().st_size:,} bytes\n"


def test_a_dry_runs_rows_are_found_by_the_project(tmp_path):
    """Prompts, lengths, outcomes and the sample of the notebook's own data, within the budget that ran."""
    folder = dry_run(tmp_path / "runs" / "lmsys", budget=256)
    assert main.run(["report", str(folder), "--project", str(ROOT)]) == 0
    page = _page(folder / "report.html")
    for part in ("budget 256", "columns, ids and their order", "Reliability (submission)", "tokens of ", "[Answer A]"):
        assert part in page


def test_a_dry_run_outside_of_a_project_has_a_page_too(tmp_path):
    """What is not at hand is not shown."""
    folder = dry_run(tmp_path / "runs" / "lmsys")
    assert main.run(["report", str(folder), "-o", "x.html"]) == 0
    assert "Worst rows" not in _page(tmp_path / "x.html")


def test_rows_of_other_data_are_left_alone(tmp_path):
    """A run whose ids the project's data do not have is shown without rows, and refused where they were named."""
    folder = dry_run(tmp_path / "runs" / "lmsys", [f"other{k}" for k in range(20)])
    assert main.run(["report", str(folder), "--project", str(ROOT)]) == 0
    assert "Worst rows" not in _page(folder / "report.html")
    assert main.run(["report", str(folder), "--project", str(ROOT), "--data", str(ROOT / "tests/demo/data")]) == 2


def test_a_failed_run_is_decoded(tmp_path, capsys):
    """The cause that kit knows, next to the line; secrets are masked."""
    folder = failed_run(tmp_path / "runs" / "lmsys", line=f"{MESSAGE} token=abcdefghijklmnopqrstuvwxyz012345")
    assert main.run(["report", str(folder)]) == 0
    page = _page(folder / "report.html")
    assert capsys.readouterr().out.startswith("FAILED in the cell")
    assert "Why it failed" in page
    assert "line 4 of the log" in page
    assert "token=***" in page


@pytest.mark.parametrize(("state", "told"), [("ERROR", True), ("RUNNING", False), ("COMPLETE", False)])
def test_only_what_has_failed_is_asked_why(tmp_path, state, told):
    """A log that shows trouble says nothing of a run that goes on or went well."""
    folder = pushed_run(tmp_path, state=state)
    assert main.run(["report", str(folder)]) == 0
    assert ("Why it failed" in _page(folder / "report.html")) is told


def test_the_log_of_a_run_that_nothing_is_known_of_is_read(tmp_path):
    """Neither a receipt nor a record: the log's own words."""
    folder = pushed_run(tmp_path)
    (folder / "kit-run.json").unlink()
    (tmp_path / "receipts" / "lmsys-v3.json").unlink()
    assert main.run(["report", str(folder)]) == 0
    page = _page(folder / "report.html")
    assert "NOT KNOWN" in page
    assert "CUDA out of memory" in page


@pytest.mark.parametrize("named", ["runs/lmsys-v3", "receipts/lmsys-v3.json"])
def test_a_pushed_run_is_its_folder_or_its_receipt(tmp_path, named):
    """Both lead to the same page."""
    pushed_run(tmp_path, state="ERROR", failure="Notebook Timeout")
    assert main.run(["report", named, "-o", "x.html"]) == 0
    page = _page(tmp_path / "x.html")
    assert "FAILED: error, Notebook Timeout" in page
    assert "236281ac1ad3" in page


def test_a_receipt_without_files_has_a_page(tmp_path):
    """What the push made is known before its run's files are here."""
    folder = pushed_run(tmp_path)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert main.run(["report", "receipts/lmsys-v3.json"]) == 0
    assert "236281ac1ad3" in _page(tmp_path / "receipts" / "lmsys-v3.html")


@pytest.mark.parametrize("named", ["nothing", "kit.toml", "."])
def test_what_is_no_run_is_refused(tmp_path, named, capsys):
    """Wrong use, with what may be named."""
    (tmp_path / "kit.toml").write_text("x")
    (tmp_path / "elsewhere").mkdir()
    assert main.run(["report", named, "--project", str(ROOT)]) == 2
    assert "name " in capsys.readouterr().err


def test_two_scores_files_side_by_side(scores, capsys):
    """Paired differences on standard output, and a page named after both."""
    assert main.run(["compare", "one.parquet", "two.parquet"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in out] == ["log loss", "accuracy", "Brier"]
    page = _page(scores / "compare-one-two.html")
    assert "Over the 200 rows of both" in page
    assert "What differs" in page


def test_runs_of_two_kinds_side_by_side(tmp_path):
    """A dry run and a pushed run of the same rows."""
    dry_run(tmp_path / "runs" / "lmsys", demo_ids(40), seed=1)
    pushed_run(tmp_path)
    arguments = ["compare", "runs/lmsys", "runs/lmsys-v3", "--project", str(ROOT), "-o", "x.html"]
    assert main.run(arguments) == 0
    page = _page(tmp_path / "x.html")
    assert "Over the 40 rows of both" in page
    assert "seal" in page
