"""A project of a stranger's: what it names, links and hides reaches no file, no program and no upload of the user's."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from desk import NOTEBOOK

from kaggle_kit.loopback.records import Dataset, Kernel

SECRET = "0123-made-up-secret-of-the-user"
MODEL = 'path = "model"\ndataset'


@pytest.fixture
def documents(desk):
    """A folder of the user's beside the project, with a secret in it."""
    folder = desk.root.parent / "Documents"
    folder.mkdir()
    (folder / "letter.txt").write_text(SECRET)
    (folder / "config.json").write_text("{}\n")
    (folder / "source.py").write_text((desk.root / "notebooks_src" / "answer.py").read_text())
    return folder


def is_uploaded(desk):
    """Whether Kaggle has the model's dataset."""
    return desk.kaggle._store.get(Dataset, "ada/small-model") is not None


@pytest.mark.parametrize("how", ["two dots", "absolute", "a link", "a link in the folder", "a folder on the way"])
def test_a_folder_outside_is_not_uploaded(desk, documents, edit, how):
    """`kit plan` and `kit push` refuse a model outside of the project, however it is named, and send nothing."""
    path = {
        "two dots": "../Documents",
        "absolute": str(documents),
        "a link": "mine",
        "a folder on the way": "up/Documents",
    }
    if how == "a link":
        (desk.root / "mine").symlink_to("../Documents")
    elif how == "a folder on the way":
        (desk.root / "up").symlink_to("..")
    elif how == "a link in the folder":
        (desk.root / "model" / "letter.txt").symlink_to(documents / "letter.txt")
    edit(desk.root / "kit.toml", f'path = "{path.get(how, "model")}"\ndataset', MODEL)
    for command in ("plan", "push"):
        told = desk.kit(command, "answer", "--unproved")
        assert told.code == (1 if how == "a link in the folder" else 2)
        assert "outside of the " in told.out + told.err
        assert str(documents) in told.out + told.err
        assert SECRET not in told.out + told.err
    assert not is_uploaded(desk)


def test_what_a_clone_lists_is_not_allowed_by_it(desk, documents, edit):
    """A stranger's kit.toml may list any folder: until this user has allowed it, nothing of it is sent."""
    edit(desk.root / "kit.toml", 'path = "../Documents"\ndataset', MODEL)
    edit(desk.root / "kit.toml", 'outside = ["../Documents"]\nowner = "ada"', 'owner = "ada"')
    told = desk.push()
    assert told.code == 2
    assert f"kit.toml asks for {documents} there, and you have not allowed it" in told.err
    assert not is_uploaded(desk)


def test_a_folder_outside_that_is_allowed_is_named_before_it_is_sent(desk, documents, edit):
    """The plan and the push name every folder that is sent, and say of one that it is outside."""
    edit(desk.root / "kit.toml", 'path = "../Documents"\ndataset', MODEL)
    edit(desk.root / "kit.toml", 'outside = ["../Documents"]\nowner = "ada"', 'owner = "ada"')
    told = desk.kit("allow", "../Documents")
    assert (told.code, told.out) == (0, f"allowed      {documents}  (../Documents)\n")
    step = next(
        one for one in desk.kit("plan", "answer", "--unproved", "--json").json["steps"] if one["name"] == "small"
    )
    assert step["from"] == [{"folder": str(documents), "outside": True}]
    told = desk.push()
    assert told.code == 0
    assert f"- dataset ada/small-model: {documents} (OUTSIDE of the project)\n" in told.out
    assert f"- notebook {NOTEBOOK}: {desk.root}/build/answer\n" in told.out
    assert is_uploaded(desk)
    assert desk.kit("allow", "--forget").out == f"not allowed  {documents}  (../Documents)\n"
    assert desk.push().code == 2


def test_links_of_an_allowed_folder_are_named(desk, documents, edit):
    """A model of links into an allowed folder, as Hugging Face's cache has them, is sent with that folder named."""
    (desk.root / "model" / "weights.bin").symlink_to(documents / "letter.txt")
    edit(desk.root / "kit.toml", f'outside = ["{documents}"]\nowner = "ada"', 'owner = "ada"')
    assert desk.kit("allow", str(documents)).code == 0
    told = desk.kit("plan", "answer", "--unproved")
    assert f"- dataset ada/small-model: {desk.root}/model\n" in told.out
    assert f"- dataset ada/small-model: {documents} (OUTSIDE of the project)\n" in told.out


def test_only_what_kit_toml_asks_for_can_be_allowed(desk, documents):
    """Allowing anything else is wrong use; so is to name folders and to forget them."""
    told = desk.kit("allow", str(documents))
    assert told.code == 2
    assert f"does not ask for {documents}; it asks for none. List the folder at the top of kit.toml" in told.err
    assert desk.kit("allow", "x", "--forget").code == 2
    assert desk.kit("allow").out == f"{desk.root}/kit.toml asks for no folder outside of the project\n"


NAMED = {
    "a source": ('"notebooks_src/answer.py"', '"../Documents/source.py"', ("build", "answer", "--unproved")),
    "an absolute source": ('"notebooks_src/answer.py"', '"{documents}/source.py"', ("build", "answer", "--unproved")),
    "a linked source": ('"notebooks_src/answer.py"', '"linked.py"', ("build", "answer", "--unproved")),
    "data": ('model = "small"', 'model = "small"\ndata = "../Documents"', ("dryrun", "answer")),
    "data of a report": ('model = "small"', 'model = "small"\ndata = "../Documents"', ("report", "answer")),
    "a solution": (
        'model = "small"',
        'model = "small"\ndata = "model"\nsolution = "../Documents/letter.txt"',
        ("dryrun", "answer"),
    ),
    "a model": ('path = "model"\ndataset', 'path = "../Documents"\ndataset', ("dryrun", "answer", "--data", "model")),
}


@pytest.mark.parametrize("case", NAMED)
def test_nothing_outside_is_read(desk, documents, edit, case):
    """Each path of kit.toml is refused with its key where it leads outside; no build is made, nothing is shown."""
    old, new, words = NAMED[case]
    (desk.root / "linked.py").symlink_to(documents / "source.py")
    if words[0] == "report":
        (desk.root / "runs" / "answer").mkdir(parents=True)
        (desk.root / "runs" / "answer" / "submission.csv").write_text("id,first,second\n1,0.5,0.5\n")
    edit(desk.root / "kit.toml", new.format(documents=documents), old)
    told = desk.kit(*words)
    assert told.code == 2
    assert "kit.toml: " in told.err
    assert "outside of the project" in told.err
    assert SECRET not in told.out + told.err


PLANTED = {
    "build": ("build", ("build", "answer", "--unproved")),
    "one build": ("build/answer", ("build", "answer", "--unproved")),
    "a build that is pushed": ("build/answer", ("push", "answer", "--unproved")),
    "a part of the wheelhouse": ("build/wheels-kaggle-t4x2", ("plan", "answer", "--unproved")),
    "runs": ("runs", ("output", "answer")),
    "one run": ("runs/answer-v1", ("output", "answer")),
    "one run that is reported": ("runs/answer", ("report", "answer")),
    "receipts": ("receipts", ("push", "answer", "--unproved", "--overwrite")),
    "one receipt": ("receipts/answer-v1.json", ("status", "answer")),
    "the state": ("kit.state.json", ("plan", "answer", "--unproved")),
    "targets": ("targets", ("targets",)),
    "a target": ("targets/kaggle-t4x2.toml", ("build", "answer", "--unproved")),
    "rates": ("rates", ("build", "answer", "--unproved")),
    "wheels": ("wheels", ("wheels", "list", "--target", "local-cpu")),
    "a lock": ("wheels/pylock.local-cpu.toml", ("wheels", "fetch", "--target", "local-cpu")),
    "a wheelhouse": ("wheels/local-cpu", ("wheels", "verify", "--target", "local-cpu")),
    "a rehearsal": ("runs/rehearsal-answer", ("rehearse", "answer", "--again")),
}


@pytest.mark.parametrize("case", PLANTED)
def test_kits_own_places_are_the_projects(desk, documents, listing, case):
    """A link under a name of kit's own is neither read nor written through: the user's folder stays as it was."""
    place, words = PLANTED[case]
    assert desk.push().code == 0
    target = documents / "there"
    link = desk.root / place
    if link.exists():
        link.rename(target)
    elif link.suffix:
        target.write_text("{}")
    else:
        target.mkdir()
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(target)
    before = listing(documents)
    told = desk.kit(*words)
    assert told.code == 2
    told_as = (f"{link} is a link to {target}, outside of the project", f" leads to {target}/", f"(by the link {link})")
    assert told_as[0] in told.err or (told_as[1] in told.err and told_as[2] in told.err)
    assert listing(documents) == before


def test_a_link_within_the_project_is_one_of_its_places(desk):
    """Who keeps builds under another name of the project is not refused."""
    (desk.root / "build").rename(desk.root / "made")
    (desk.root / "build").symlink_to("made")
    assert desk.push().code == 0


def test_a_target_has_no_path(desk):
    """A target's name, also that in a build's manifest, finds files of targets/ alone."""
    (desk.root.parent / "evil.toml").write_text('python = "3.12"')
    for name in ("../evil", str(desk.root.parent / "evil"), "targets/../../evil", "."):
        told = desk.kit("build", "answer", "--unproved", "--target", name)
        assert told.code == 2
        assert "there is no target" in told.err
    path = desk.root / "build" / "answer" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"target": "../../evil"}))
    told = desk.kit("plan", "answer", "--unproved")
    assert (told.code, "there is no target" in told.err) == (2, True)


@pytest.mark.parametrize("name", ["../Documents/letter.txt", "{documents}/letter.txt", "freezes/list.txt"])
def test_a_targets_freeze_stands_beside_it(desk, documents, name):
    """A target of a clone's lists the packages of an image in a file beside it, and in no other."""
    (desk.root / "targets").mkdir()
    (desk.root / "targets" / "own.toml").write_text(
        'summary = "x"\npython = "3.12"\nglibc = "2.39"\nengine = "vllm==0.32.0"\nsession_seconds = 60\n'
        f'working_bytes = 1000\nfreeze = {{ "3.12" = "{name.format(documents=documents)}" }}\n'
    )
    told = desk.kit("targets", "own")
    assert (told.code, "must be a file beside own.toml" in told.err) == (2, True)
    assert SECRET not in told.err


def test_a_builds_metadata_names_no_file_elsewhere(desk, documents):
    """What a clone's build calls its notebook is a name in its folder; a link there is no notebook."""
    path = desk.root / "build" / "answer" / "kernel-metadata.json"
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | {"code_file": "../../../Documents/letter.txt"}))
    told = desk.push()
    assert (told.code, "code_file" in told.err) == (2, True)
    path.write_text(before)
    notebook = path.with_name("answer.ipynb")
    notebook.rename(documents / "answer.ipynb")
    notebook.symlink_to(documents / "answer.ipynb")
    told = desk.push()
    assert (told.code, "lacks answer.ipynb" in told.err) == (2, True)


@pytest.mark.parametrize("names", [{"name": "../../Documents"}, {"name": ""}, {"notebook": "ada/../../x"}])
def test_a_receipts_names_are_no_paths(desk, names):
    """A receipt of a clone's that would lead to other folders is none."""
    assert desk.push().code == 0
    path = desk.root / "receipts" / "answer-v1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | names))
    told = desk.kit("output", "answer")
    assert (told.code, "is no receipt of kit" in told.err) == (2, True)


@pytest.mark.parametrize(
    "place", ["kit.state.json", "receipts/answer-v1.json", "build/answer/manifest.json", "kit.toml"]
)
@pytest.mark.parametrize("kind", ["a pipe", "a device", "without an end", "deep"])
def test_a_file_that_would_hold_kit_up(desk, place, kind):
    """A pipe, a device, terabytes of nothing or 200,000 brackets in place of a file end in an error at once."""
    assert desk.push().code == 0
    path = desk.root / place
    path.unlink()
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "deep":
        path.write_text(("x = " if path.suffix == ".toml" else "") + "[" * 200_000)
    else:
        path.touch()
        os.truncate(path, 8 << 40)
    since = time.monotonic()
    told = desk.kit("history" if place.startswith("receipts") else "plan", "answer")
    assert told.code in (1, 2)
    assert path.name in told.err or "holds no build" in told.err
    assert time.monotonic() - since < 30


def test_a_push_starts_no_program_of_the_projects_repository(desk):
    """An unpacked .git names a program for git's file monitor and a filter: it is not run, and the commit is told."""
    program, mark = desk.root.parent / "program", desk.root.parent / "mark"
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(0o755)
    around = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    for words in (("init", "-q"), ("add", "."), ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x")):
        subprocess.run(["git", *words], cwd=desk.root, env=around, check=True)
    (desk.root / ".gitattributes").write_text("* filter=evil\n")
    with (desk.root / ".git" / "config").open("a") as stream:
        stream.write(f'[core]\n\tfsmonitor = "{program}"\n[filter "evil"]\n\tclean = "{program}"\n')
    os.utime(desk.root / "kit.toml", (1, 1))
    assert desk.push().code == 0
    assert not mark.exists()
    assert len(json.loads((desk.root / "receipts" / "answer-v1.json").read_text())["made_by"].rstrip("+")) == 40


def test_modules_in_the_projects_folder_are_not_imported(desk):
    """`kit` and the Pythons that it starts, run in the project's folder, import nothing that lies there."""
    mark = desk.root.parent / "mark"
    for name in (
        "sitecustomize",
        "usercustomize",
        "click",
        "json",
        "jinja2",
        "kaggle",
        "conftest",
        "jupytext",
        "pip",
        "venv",
    ):
        (desk.root / f"{name}.py").write_text(f"open({str(mark)!r}, 'w')\n")
    (desk.root / "kaggle_kit").mkdir()
    (desk.root / "kaggle_kit" / "__init__.py").write_text(f"open({str(mark)!r}, 'w')\n")
    (desk.root / "pyproject.toml").write_text("[tool.jupytext]\nformats = 'py:marimo'\n[tool.uv]\nindex-url = 'x'\n")
    program = "import sys; sys.path.remove(''); sys.argv[0] = 'kit'; from kaggle_kit.cli.main import main; main()"
    for words in (("build", "answer", "--unproved"), ("plan", "answer", "--unproved")):
        command = [sys.executable, "-c", program, *words]
        done = subprocess.run(command, cwd=desk.root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", ["kaggle.json", ".env", "access_token", "credentials.json", ".kaggle/kaggle.json", ".netrc"]
)
def test_a_login_in_the_projects_folder_is_none(desk, monkeypatch, name):
    """No file of a project says who is logged in, or where Kaggle is."""
    path = desk.root / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        '{"username": "eve", "key": "made-up"}'
        if name.endswith(".json")
        else "KAGGLE_API_TOKEN=made-up\nKAGGLE_USERNAME=eve\nKAGGLE_KEY=made-up\nKAGGLE_API_ENVIRONMENT=LOCALHOST\n"
    )
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    monkeypatch.chdir(desk.root)
    told = desk.kit("plan", "answer", "--unproved")
    assert (told.code, "There is no login for Kaggle on this machine" in told.err) == (2, True)


def test_a_pull_writes_to_the_project_alone(desk, documents):
    """What was edited in the browser is not written through a link that a clone has in a source's place."""
    assert desk.push().code == 0
    desk.edit_in_browser("hello", "hullo")
    source = desk.root / "notebooks_src" / "answer.py"
    source.unlink()
    source.symlink_to(documents / "source.py")
    before = (documents / "source.py").read_text()
    told = desk.kit("pull", "answer", "--apply")
    assert (told.code, "outside of the project" in told.err) == (2, True)
    assert (documents / "source.py").read_text() == before


def test_a_pulled_notebook_names_no_file_and_no_format(desk, documents, listing):
    """Paths, formats and programs in the metadata that Kaggle gives back are not read: only cells are."""
    assert desk.push().code == 0
    desk.edit_in_browser("hello", "hullo")
    kernel = desk.kaggle._store.get(Kernel, NOTEBOOK)
    body = json.loads(kernel.versions[-1].text)
    body["metadata"] |= {
        "jupytext": {"formats": "../../Documents//py:marimo", "text_representation": {"format_name": "marimo"}},
        "kernelspec": {"name": "../../x", "language": "R"},
        "path": "../../Documents/source.py",
    }
    for cell in body["cells"]:
        cell["metadata"] |= {"path": "../../Documents", "attachments": "/etc/passwd"}
    body["cells"].append({"cell_type": "code", "id": "../../x", "metadata": {"name": "../../x"}, "source": "y = 1"})
    edited = replace(kernel.versions[-1], text=json.dumps(body))
    desk.kaggle._store.put(NOTEBOOK, replace(kernel, versions=(*kernel.versions[:-1], edited)))
    before = listing(documents)
    told = desk.kit("pull", "answer", "--apply", "--clean-only")
    assert f"written: {desk.root}/notebooks_src/answer.py" in told.err
    source = (desk.root / "notebooks_src" / "answer.py").read_text()
    assert "hullo" in source
    assert "marimo" not in source
    assert listing(documents) == before
