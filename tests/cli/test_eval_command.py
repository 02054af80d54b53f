"""`kit eval`, `kit calibrate` and `kit ensemble` over scores files: what they print, write and refuse."""

import json
import tomllib

import pytest
from evaluation.made_scores import blurred, scores_of, truth

from kaggle_kit.cli import main
from kaggle_kit.evaluation.answers import normalise
from kaggle_kit.evaluation.scores import Scores, write_scores


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Scores of 600 rows by an over-confident model and by another one, in the current folder."""
    monkeypatch.chdir(tmp_path)
    logs, outcome = truth(600)
    for name, scale, seed in (("sure", 3.0, 1), ("plain", 1.0, 3)):
        passes = [normalise(scale * blurred(logs, seed=seed + k, by=0.5)) for k in range(2)]
        write_scores(tmp_path / f"{name}.parquet", scores_of(passes[0], outcome, passes[1], model=name))
    return tmp_path


@pytest.mark.usefixtures("files")
def test_metrics_are_printed_with_their_intervals(capsys):
    """Each kind of answer, the paired gain, the swap, every slice."""
    assert main.run(["eval", "sure.parquet"]) == 0
    out = capsys.readouterr().out
    for words in (
        "sure.parquet: 600 rows, 600 answered by the model (600 in both orders)",
        "both orders less plain, log loss: -0.",
        "exchanged answers: probabilities",
        "by prompt tokens (both orders)",
        "by script (both orders)",
        "win_tie",
    ):
        assert words in out


@pytest.mark.usefixtures("files")
def test_json_is_all_that_is_printed(capsys):
    """And it is JSON to the letter."""
    assert main.run(["eval", "sure.parquet", "--against", "plain.parquet", "--json"]) == 0
    body = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert body["figures"]["both orders"]["log loss"]["rows"] == 600
    assert body["against"]["figures"]["log loss"]["low"] > 0
    assert body["facts"]["model"] == "sure"


def test_a_low_label_mass_is_no_good_end(files, capsys):
    """The metrics are printed, and what they are worth; the exit code is 1. The report says it first."""
    import polars as pl

    logs, outcome = truth(600)
    scores = scores_of(logs, outcome)
    for mass, code in ((0.49, 1), (0.51, 0), (None, 0)):
        lines = scores.lines.with_columns(pl.lit(mass, dtype=pl.Float64).alias("mass"))
        write_scores(files / "low.parquet", Scores(lines, scores.facts))
        for more in ([], ["--json"]):
            assert main.run(["eval", "low.parquet", *more]) == code
            assert ("LOW LABEL MASS: the labels have 0.4900" in capsys.readouterr().err) == bool(code)
        assert main.run(["report", "low.parquet", "-o", "low.html"]) == 0
        assert ("LOW LABEL MASS" in capsys.readouterr().out) == bool(code)


def test_a_calibration_is_written_and_shown(files, capsys):
    """It says what it fitted and gains; `kit eval` shows the answers under it."""
    assert main.run(["calibrate", "sure.parquet", "-o", "calibration.json"]) == 0
    out = capsys.readouterr().out
    assert "fitted on 600 rows in both orders" in out
    assert "on rows that no fit saw" in out
    assert "noise" not in out
    body = json.loads((files / "calibration.json").read_text())
    assert 2 < body["bins"][0]["temperature"] < 4
    assert body["fitted"]["model_name"] == "sure"
    assert main.run(["eval", "sure.parquet", "--calibration", "calibration.json", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["difference_to_plain"]["calibrated"]["high"] < shown["difference_to_plain"]["both orders"]["low"]


def test_a_gain_within_noise_is_called_so(files, capsys):
    """The file is written all the same."""
    logs, outcome = truth(600)
    write_scores(files / "sound.parquet", scores_of(logs, outcome))
    assert main.run(["calibrate", "sound.parquet", "-o", "c.json"]) == 0
    assert "the gain is within noise" in capsys.readouterr().out
    assert main.run(["calibrate", "sound.parquet", "-o", "c.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["within_noise"] is True


def test_the_calibration_that_a_model_carried_is_shown(files, capsys):
    """Without --calibration the one that stood in its folder when it was scored."""
    logs, outcome = truth(600)
    scores = scores_of(logs, outcome)
    facts = {**scores.facts, "calibration": {"bins": [{"temperature": 2.0}]}}
    write_scores(files / "carried.parquet", Scores(scores.lines, facts))
    assert main.run(["eval", "carried.parquet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["final"] == "calibrated"


@pytest.mark.usefixtures("files")
def test_an_ensemble_ends_with_lines_for_kit_toml(capsys):
    """They can be pasted, and the minutes are set against the gain."""
    assert main.run(["ensemble", "sure.parquet", "plain.parquet", "--calibrated", "--minutes", "90,30"]) == 0
    out = capsys.readouterr().out
    assert "600 rows that all models answered" in out
    lines = tomllib.loads(out.split("for the notebook's table in kit.toml:")[1])
    assert {lines["model"], *lines["ensemble"]} == {"sure", "plain"}
    assert main.run(["ensemble", "sure.parquet", "plain.parquet", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert [one["minutes"] for one in body["members"]] == [None, None]
    assert body["notes"] == []


def test_what_stands_in_the_way_of_pasting_is_noted(files, capsys):
    """Two files of one model, or of two prompts, are no notebook."""
    logs, outcome = truth(600)
    scores = scores_of(logs, outcome, model="sure")
    write_scores(files / "again.parquet", Scores(scores.lines, {**scores.facts, "token_budget": 9}))
    assert main.run(["ensemble", "sure.parquet", "again.parquet"]) == 0
    err = capsys.readouterr().err
    assert "two files are of one model" in err
    assert "other" not in err or "different prompts or token budgets" in err


WRONG = {
    "no out": (["eval", "lmsys"], "name the scores file to write with -o"),
    "out with a file": (["eval", "sure.parquet", "-o", "x.parquet"], "is there already: leave -o away"),
    "no such file": (["eval", "nope.parquet"], "nope.parquet is missing"),
    "against nothing": (["eval", "sure.parquet", "--against", "nope.parquet"], "nope.parquet is missing"),
    "passes": (["eval", "lmsys", "-o", "x.parquet", "--passes", "swapped"], "--passes"),
    "engine": (["eval", "lmsys", "-o", "x.parquet", "--engine", "torch"], "--engine"),
    "no calibration": (["calibrate", "sure.parquet"], "Missing option '-o'"),
    "calibration's ending": (["calibrate", "sure.parquet", "-o", "c.toml"], "must end in .json"),
    "one file": (["ensemble", "sure.parquet"], "two scores files or more"),
    "minutes": (["ensemble", "sure.parquet", "plain.parquet", "--minutes", "3"], "give 2 numbers above 0"),
    "minutes' words": (["ensemble", "sure.parquet", "plain.parquet", "--minutes", "3,x"], "give 2 numbers above 0"),
    "twice": (["ensemble", "sure.parquet", "sure.parquet"], "two files are called 'sure'"),
}


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("case", WRONG)
def test_wrong_use(capsys, case):
    """Each ends with 2 and says what is wrong."""
    arguments, words = WRONG[case]
    assert main.run(arguments) == 2
    assert words in capsys.readouterr().err


def test_too_few_rows_write_nothing(files, capsys):
    """A refused fit leaves no file behind."""
    logs, outcome = truth(50)
    write_scores(files / "few.parquet", scores_of(logs, outcome))
    assert main.run(["calibrate", "few.parquet", "-o", "c.json"]) == 2
    assert "50 rows that the model answered are too few" in capsys.readouterr().err
    assert not (files / "c.json").exists()


PROJECT = {
    "unknown notebook": (["anser", "-o", "x.parquet"], "anser"),
    "unknown model": (["answer", "-o", "x.parquet", "--model", "smal"], "did you mean 'small'?"),
    "no data": (["answer", "-o", "x.parquet"], "has no data; name the labelled rows with --data"),
    "no train.csv": (["answer", "-o", "x.parquet", "--data", "."], "has no train.csv"),
    "out's ending": (["answer", "-o", "x.csv"], "x.csv must end in .parquet"),
}


@pytest.mark.parametrize("case", PROJECT)
def test_what_the_project_lacks_is_told(minimal, monkeypatch, capsys, case):
    """Before anything is fetched."""
    monkeypatch.chdir(minimal)
    arguments, words = PROJECT[case]
    assert main.run(["eval", *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("command", ["eval", "calibrate", "ensemble"])
def test_help_has_examples(command, capsys):
    """As every command's."""
    assert main.run([command, "--help"]) == 0
    assert f"kit {command} " in capsys.readouterr().out.split("Examples:")[1]
