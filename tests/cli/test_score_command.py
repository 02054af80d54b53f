"""`kit score`: wrong uses end with 2 and a sentence, before anything is fetched; which notebook is meant."""

import pytest

from kaggle_kit.cli.main import run
from kaggle_kit.cli.scoring import notebook_name
from kaggle_kit.errors import UsageError
from kaggle_kit.project import load_project
from kaggle_kit.runtime.journal import Entry

MAKING = '[notebooks.make]\nsource = "x.py"\ntitle = "Make a model"\nmodel = "small"\ntarget = "local-cpu"\n'


@pytest.fixture
def here(minimal, monkeypatch):
    """The minimal project, with a table, as the current folder."""
    (minimal / "in.csv").write_text("id,question\n1,x\n", encoding="utf-8")
    monkeypatch.chdir(minimal)
    return minimal


WRONG = {
    "no out": (["in.csv"], "Missing option '-o'"),
    "no input": (["-o", "out.csv"], "Missing argument 'INPUT'"),
    "input's ending": (["in.txt", "-o", "out.csv"], "in.txt must end in one of .csv, .jsonl, .parquet"),
    "out's ending": (["in.csv", "-o", "out.xlsx"], "out.xlsx must end in one of"),
    "no rows": (["in.csv", "-o", "out.csv", "--rows", "0"], "--rows"),
    "unknown notebook": (["in.csv", "-o", "out.csv", "--notebook", "anser"], "anser"),
    "unknown parameter": (["in.csv", "-o", "out.csv", "-p", "nope=1"], "nope"),
    "no project": (["in.csv", "-o", "out.csv", "--project", "nope"], "nope/kit.toml is missing"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use(here, capsys, case):
    """Each says what is wrong, and no file is written."""
    arguments, words = WRONG[case]
    assert run(["score", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not list(here.glob("out*"))


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_low_label_mass_is_no_good_end(here, monkeypatch, capsys, words):
    """The table is written, what it is worth is said, and the exit code is 1."""
    from kaggle_kit.cli import scoring
    from kaggle_kit.evaluation import score_file

    monkeypatch.setattr(scoring, "open_scoring", lambda *_, **__: None)
    for mass, code in ((0.49, 1), (0.51, 0)):
        entry = Entry("1", 5, (), (-1.0, -1.0), mass)
        scored = score_file.Scored(here / "in.csv", "id", ["1"], {"1": entry}, {}, 1.0, {})
        monkeypatch.setattr(score_file, "score_file", lambda *_, scored=scored, **__: scored)
        assert run(["score", "in.csv", "-o", "out.csv", *words]) == code
        assert ("LOW LABEL MASS: the labels have 0.4900" in capsys.readouterr().err) == bool(code)


def test_a_computed_task_is_refused(here, edit, capsys):
    """A task that only a run of the notebook could tell cannot be scored without it."""
    edit(here / "notebooks_src" / "answer.py", "fields = dict(question=1)", 'fields = {"question": 1}')
    assert run(["score", "in.csv", "-o", "out.csv"]) == 2
    assert "computes a part of its task" in capsys.readouterr().err


def test_of_several_notebooks_one_must_be_named(here, edit, capsys):
    """Which task is meant is never guessed."""
    edit(
        here / "kit.toml",
        '[notebooks.other]\nsource = "notebooks_src/answer.py"\n'
        'title = "Other"\nmodel = "small"\ntarget = "local-cpu"\n',
    )
    assert run(["score", "in.csv", "-o", "out.csv"]) == 2
    assert "name the notebook with --notebook; the project has answer, other" in capsys.readouterr().err


def test_the_only_one(minimal):
    """A project with one notebook means that one."""
    assert notebook_name(load_project(minimal), None) == "answer"


def test_one_that_makes_a_model_is_not_meant(minimal, edit):
    """The only notebook that scores is meant, unless another is named."""
    edit(minimal / "kit.toml", f'{MAKING}template = "quantize.py.j2"\ninternet = true')
    project = load_project(minimal)
    assert notebook_name(project, None) == "answer"
    assert notebook_name(project, "make") == "make"


def test_of_two_one_must_be_named(minimal, edit):
    """Both are told."""
    edit(minimal / "kit.toml", MAKING)
    with pytest.raises(UsageError, match="the project has answer, make"):
        notebook_name(load_project(minimal), None)
