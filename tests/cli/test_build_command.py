"""`kit build` as a user meets it. What kit.toml does wrong is in tests/project/test_config.py."""

import pytest

from kaggle_kit.cli.main import run


@pytest.fixture
def here(minimal, monkeypatch):
    """The minimal project, as the current folder."""
    monkeypatch.chdir(minimal)
    return minimal


@pytest.fixture
def two(here, edit):
    """The minimal project with a second notebook, `broken`, whose source is not Python."""
    (here / "notebooks_src" / "broken.py").write_text("x = = 1")
    table = 'source = "notebooks_src/broken.py"\ntitle = "Broken one"\nmodel = "small"\ntarget = "local-cpu"'
    edit(here / "kit.toml", f"[notebooks.broken]\n{table}")
    return here


def test_every_notebook(here, capsys):
    """Without a name all notebooks are built, and their folders told."""
    assert run(["build", "--unproved"]) == 0
    assert capsys.readouterr().out == f"{here}/build/answer  for kaggle-t4x2\n"
    assert (here / "build" / "answer" / "answer.ipynb").is_file()


def test_from_a_folder_below(here, monkeypatch):
    """A project is found from any folder in it."""
    monkeypatch.chdir(here / "templates")
    assert run(["build", "--unproved", "answer"]) == 0
    assert (here / "build" / "answer").is_dir()


def test_from_elsewhere(minimal, tmp_path, monkeypatch):
    """--project names the folder."""
    monkeypatch.chdir(tmp_path)
    assert run(["build", "--unproved", "--project", "minimal"]) == 0
    assert (minimal / "build" / "answer").is_dir()


@pytest.mark.usefixtures("here")
def test_another_target(capsys):
    """--target builds for another than kit.toml's."""
    assert run(["build", "--unproved", "--target", "local-cpu"]) == 0
    assert capsys.readouterr().out.endswith("for local-cpu\n")


@pytest.mark.usefixtures("here")
def test_a_name_twice(capsys):
    """A name given twice is built once."""
    assert run(["build", "--unproved", "answer", "answer"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_parameters(here):
    """-p overrides parameters."""
    assert run(["build", "--unproved", "-p", "token_budget=77", "-p", "verbose=true"]) == 0
    assert "token_budget = 77" in (here / "build" / "answer" / "answer.ipynb").read_text()


WRONG = {
    "unknown notebook": (["build", "answr"], "no notebook 'answr'; did you mean 'answer'?"),
    "one of two unknown": (["build", "answer", "answr"], "no notebook 'answr'"),
    "unknown target": (["build", "--target", "local"], "no target 'local'; did you mean 'local-cpu'?"),
    "unknown parameter": (["build", "-p", "token_buget=1"], "did you mean 'token_budget'?"),
    "wrong type": (["build", "-p", "token_budget=many"], "'many' is not of type int"),
    "no value": (["build", "-p", "token_budget"], "write it as name=value"),
    "unknown notebook of a dry run": (["dryrun", "answr"], "did you mean 'answer'?"),
    "dry run without data": (["dryrun", "answer"], "no data: name a folder with --data DIR"),
    "dry run for a GPU": (["dryrun", "answer", "--target", "kaggle-t4x2"], "needs 2 GPUs; a dry run here is for local"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_writes_nothing(here, case, listing, capsys, monkeypatch, tmp_path):
    """Wrong names and values are told with exit code 2, and no file is touched."""
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path / "cache"))
    words, message = WRONG[case]
    before = listing(here)
    assert run(words) == 2
    found = capsys.readouterr()
    assert message in found.err
    assert found.err.count("error: ") == 1
    assert found.out == ""
    assert listing(here) == before


TEMPLATES = {
    "unknown cell": ('{{ cell("promt") }}', "did you mean 'prompt'?"),
    "syntax": ("{% if %}", "own.py.j2, line 1"),
    "undefined": ("{{ cells() }}{{ oops }}", "'oops' is undefined"),
}


@pytest.mark.parametrize("case", TEMPLATES)
def test_a_wrong_template_writes_nothing(here, edit, listing, capsys, case):
    """A template's mistake has exit code 2 and touches no file."""
    text, message = TEMPLATES[case]
    (here / "templates" / "own.py.j2").write_text(text)
    edit(here / "kit.toml", 'template = "own.py.j2"')
    before = listing(here)
    assert run(["build"]) == 2
    assert message in capsys.readouterr().err
    assert listing(here) == before


def test_a_template_of_the_projects_own(here, edit):
    """kit.toml names a template of the project's, which overrides one cell."""
    edit(here / "kit.toml", 'template = "own.py.j2"')
    assert run(["build", "--unproved"]) == 0
    assert "print('kaggle-t4x2')" in (here / "build" / "answer" / "answer.ipynb").read_text()


def test_no_notebooks(here, capsys):
    """A project without notebooks has nothing to build, which is told."""
    text = (here / "kit.toml").read_text()
    (here / "kit.toml").write_text(text[: text.index("[notebooks.answer]")] + "[notebooks]\n")
    assert run(["build"]) == 2
    assert "kit.toml has no notebooks to build" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_another_projects_folder(tmp_path, capsys):
    """`kit wheels` makes no folder where there is no project."""
    assert run(["wheels", "lock", "--target", "local-cpu", "--project", str(tmp_path / "nope")]) == 2
    assert "nope/kit.toml is missing" in capsys.readouterr().err
    assert not (tmp_path / "nope").exists()


OUT = {"a file": "kit.toml", "the project": ".", "a folder with other files": "templates"}


@pytest.mark.parametrize("case", OUT)
def test_a_dry_run_takes_no_foreign_place(here, case, listing, capsys, monkeypatch, tmp_path):
    """--out on something that no dry run has left is refused before anything is moved or removed."""
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path / "cache"))
    before = listing(here)
    assert run(["dryrun", "answer", "--data", "d", "--target", "local-cpu", "--out", OUT[case]]) == 2
    assert "exists and is not a dry run's folder; name a new one" in capsys.readouterr().err
    assert listing(here) == before


def test_a_broken_source_is_named(two, capsys):
    """The error of one notebook names its source and line."""
    assert run(["build", "--unproved"]) == 2
    assert "notebooks_src/broken.py:1: the source is not valid Python" in capsys.readouterr().err
    assert not (two / "build" / "broken").exists()


def test_a_file_where_the_build_should_go(here, capsys):
    """A file named `build` is an error with its place, no crash."""
    (here / "build").touch()
    assert run(["build", "--unproved"]) == 1
    assert capsys.readouterr().err.startswith(f"error: {here}/build")


def test_an_unproved_wheelhouse_is_refused(here, capsys, listing):
    """A target whose wheelhouse was never proved is not built for, and the error names the commands to come."""
    before = listing(here)
    assert run(["build"]) == 1
    said = capsys.readouterr().err
    assert "kit wheels fetch --target kaggle-t4x2" in said
    assert "--unproved" in said
    assert listing(here) == before


def test_what_the_user_trusts_is_built(here, edit, capsys):
    """Engine options that bring code need the user's word at each command; kit says that it has it."""
    edit(here / "kit.toml", "engine_options.trust_remote_code = true")
    for command in (
        ["build", "--unproved"],
        ["score", "kit.toml", "-o", "x.csv"],
        ["eval", "answer", "-o", "x.parquet"],
    ):
        assert run(command) == 2
    assert capsys.readouterr().err.count("--trust-remote-code") >= 1
    assert run(["build", "--unproved", "--trust-remote-code"]) == 0
    assert "trusted: engine options" in capsys.readouterr().err
    assert "'trust_remote_code': True" in (here / "build" / "answer" / "answer.ipynb").read_text()
    assert run(["build", "--unproved"]) == 2
