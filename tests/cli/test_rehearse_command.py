"""`kit rehearse`: wrong uses end before anything is fetched. The rehearsal itself is in tests/end_to_end."""

import json
import shutil
from pathlib import Path

import pytest

from kaggle_kit.cli.main import run
from kaggle_kit.cli.rehearse import _prepare, _push
from kaggle_kit.cli.remote_options import _parts
from kaggle_kit.loopback.faults import FAULTS
from kaggle_kit.loopback.server import LoopbackKaggle
from kaggle_kit.loopback.service import Settings
from kaggle_kit.loopback.worlds import WORLDS
from kaggle_kit.project import load_project
from kaggle_kit.sandbox import dryrun
from kaggle_kit.targets import load_target
from kaggle_kit.wheelhouse.resolve import Host


@pytest.fixture
def here(minimal, monkeypatch, tmp_path):
    """The minimal project as the current folder, and an empty cache."""
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(minimal)
    return minimal


WRONG = {
    "unknown notebook": (["answr"], "no notebook 'answr'; did you mean 'answer'?"),
    "unknown fault": (["answer", "--fault", "push-reply-lots"], "did you mean 'push-reply-lost'?"),
    "one of two faults": (["answer", "--fault", "rate-limited", "--fault", "x"], "no fault is called 'x'"),
    "unknown target": (["answer", "--target", "local"], "did you mean 'local-cpu'?"),
    "unknown world": (["answer", "--world", "absence-402"], "did you mean 'absence-40"),
    "one of two worlds": (["answer", "--world", "plain", "--world", "x"], "no world is called 'x'"),
    "a file": (["answer", "--out", "kit.toml"], "is not a rehearsal's folder"),
    "a folder of something else": (["answer", "--out", "templates"], "is not a rehearsal's folder"),
    "no rows": (["answer", "--rows", "0"], "--rows"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_rehearsal_writes_nothing(here, case, listing, capsys):
    """Each is told with exit code 2, and no file is touched."""
    words, message = WRONG[case]
    before = listing(here)
    assert run(["rehearse", *words]) == 2
    assert message in capsys.readouterr().err
    assert listing(here) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["answer"], "no data: name a folder with --data DIR"),
        (["answer", "--target", "kaggle-t4x2"], "needs 2 GPUs; a rehearsal here is for local-cpu"),
        (["answer", "-p", "token_buget=1"], "did you mean 'token_budget'?"),
    ],
)
@pytest.mark.usefixtures("here")
def test_what_cannot_be_rehearsed(words, message, capsys):
    """Missing data, a target with GPUs and a wrong parameter are told with exit code 2."""
    assert run(["rehearse", *words]) == 2
    assert message in capsys.readouterr().err


ONLINE = """
[notebooks.maker]
source = "notebooks_src/answer.py"
template = "maker.py.j2"
title = "Model maker"
model = "small"
target = "kaggle-t4x2"
internet = true
"""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no data: name a folder with --data DIR, or as notebooks.maker.data"),
        (["--rows", "3"], "--rows is of notebooks that are handed in; maker makes a model"),
        (["--solution", "x.csv"], "--solution is of notebooks that are handed in; maker makes a model"),
        (["--stand-in"], "--stand-in is of notebooks that are handed in; maker makes a model"),
    ],
)
def test_a_notebook_that_makes_a_model_has_no_solution(here, words, message, capsys):
    """What only a submission has is refused for it with exit code 2."""
    (here / "kit.toml").write_text((here / "kit.toml").read_text() + ONLINE)
    (here / "templates" / "maker.py.j2").write_text('{{ cell("title") }}\n{{ cells() }}\n')
    assert run(["rehearse", "maker", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_notebook_that_makes_a_model_gets_kits_part_alone(monkeypatch, tmp_path):
    """No wheel of the engine is fetched for it, and the push finds that one part."""
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(dryrun, "this_host", lambda: Host(python="3.11", machine="x86_64", glibc="2.35"))
    project = load_project(Path(__file__).parents[2])
    given = {"assignments": (), "data": None, "rows": None, "solution": None}
    _prepare(project, "quantize", load_target("local-cpu"), tmp_path / "rehearsal", given)
    build = tmp_path / "rehearsal" / "build"
    assert [path.name for path in (build / "wheels-local-cpu").iterdir()] == ["kit"]
    assert not (tmp_path / "cache").exists()
    kit = f"{project.wheelhouses['local-cpu']}-kit"
    assert _parts(project, "quantize", build / "quantize") == {kit: build / "wheels-local-cpu" / "kit"}


def test_the_faults_are_listed(capsys):
    """--faults lists all of them, and needs no notebook."""
    assert run(["rehearse", "--faults"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(FAULTS)


def test_a_rehearsals_push_imports_nothing_of_the_folder_it_runs_in(here, tmp_path, capfd):
    """The process that pushes finds kit where this one does, and what this user has allowed where that is kept."""
    mark = tmp_path / "mark"
    for name in ("click", "json", "sitecustomize"):
        (here / f"{name}.py").write_text(f"open({str(mark)!r}, 'w')\n")
    (here / "kaggle_kit").mkdir()
    (here / "kaggle_kit" / "__init__.py").write_text(f"open({str(mark)!r}, 'w')\n")
    (here.parent / "user").mkdir()
    edited = (here / "kit.toml").read_text().replace('path = "model"', 'path = "../user"')
    (here / "kit.toml").write_text(f'outside = ["../user"]\n{edited}')
    assert run(["allow", "../user"]) == 0
    assert run(["build", "answer", "--unproved"]) == 0
    folder = tmp_path / "rehearsal"
    for name in ("home", "tmp"):
        (folder / name).mkdir(parents=True)
    (here / "build").rename(folder / "build")
    with LoopbackKaggle(
        tmp_path / "kaggle", runner=print, judge=lambda *_: 0.5, settings=Settings(username="ada")
    ) as kaggle:
        code = _push(load_project(here), "answer", kaggle, folder, builds=folder / "build")
    told = capfd.readouterr()
    assert code == 1
    assert f"- dataset ada/small-model: {here.parent}/user (OUTSIDE of the project)\n" in told.out
    assert not mark.exists()


def test_the_help_lists_every_world(capsys):
    """With what each does."""
    assert run(["rehearse", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert [name for name, world in WORLDS.items() if f"{name} {world.does}"[:60] not in told] == []


def test_a_release_is_rehearsed_in_worlds_without_a_run(tmp_path, monkeypatch, capfd):
    """For a target with GPUs, without its wheels: one after the other, each with the end that it must have."""
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("kit.toml", "notebooks_src/lmsys.py", "wheels/pylock.kaggle-t4x2.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(__file__).parents[2] / name, tmp_path / name)
    for name in ("model", "data"):
        shutil.copytree(Path(__file__).parents[1] / "demo" / name, tmp_path / "tests" / "demo" / name)
    monkeypatch.chdir(tmp_path)
    words = ["rehearse", "lmsys", "--rows", "5", "--stand-in", "--target", "kaggle-t4x2"]
    assert run([*words, "--world", "absence-403", "--world", "nothing-left"]) == 0
    told = capfd.readouterr()
    assert [line.split()[0] for line in told.out.splitlines()[-2:]] == ["absence-403", "nothing-left"]
    assert all(line.endswith("as it must") for line in told.out.splitlines()[-2:])
    worlds = tmp_path / "runs" / "rehearsal-lmsys" / "worlds"
    receipt = json.loads((worlds / "absence-403" / "receipts" / "lmsys-v1.json").read_text())
    assert receipt["submission"]["public_score"] is not None
    assert json.loads((worlds / "nothing-left" / "receipts" / "lmsys-v1.json").read_text())["submission"] == {}
