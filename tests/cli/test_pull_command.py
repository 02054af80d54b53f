"""`kit pull`: what was edited in the browser, as a patch, into the source, or as a conflict."""

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from desk import NOTEBOOK

from kaggle_kit.loopback.records import Kernel

OLD, NEW = "Which one is it?", "Which one is the better one?"


@pytest.fixture
def pushed(desk):
    """A desk from which the notebook was pushed."""
    assert desk.push("--wait").code == 0
    return desk


@pytest.fixture
def edited(pushed):
    """The same, with an edit of the author's own cell in the browser."""
    pushed.edit_in_browser(OLD, NEW)
    return pushed


def test_nothing_was_edited(pushed, listing):
    """Without an edit that is said, nothing is printed that a patch could be taken for, and no file changes."""
    before = listing(pushed.root)
    told = pushed.kit("pull", "answer")
    assert (told.code, told.out) == (0, "")
    assert "version 1 on Kaggle says what was pushed" in told.err
    assert listing(pushed.root) == before


def test_an_edit_is_a_patch(edited, listing):
    """Standard output is a patch of the source, which `patch` takes; nothing is written."""
    before = listing(edited.root)
    told = edited.kit("pull", "answer")
    assert told.code == 0
    assert listing(edited.root) == before
    subprocess.run(["patch", "-p1"], input=told.out, cwd=edited.root, text=True, check=True, capture_output=True)
    assert NEW in (edited.root / "notebooks_src" / "answer.py").read_text()


def test_an_edit_is_applied(edited):
    """--apply writes the source, and the next pull finds nothing."""
    told = edited.kit("pull", "answer", "--apply")
    assert told.code == 0
    assert "written: " in told.err
    assert NEW in (edited.root / "notebooks_src" / "answer.py").read_text()
    assert edited.kit("pull", "answer").out == ""


@pytest.fixture
def taken(edited, edit):
    """The same edit, brought here beside one of the author's own, and built."""
    edit(edited.root / "notebooks_src" / "answer.py", "hullo", "hello")
    assert edited.kit("pull", "answer", "--apply").code == 0
    assert edited.kit("build", "answer", "--unproved").code == 0
    return edited


def test_what_was_taken_is_pushed_beside_ones_own_edits(taken):
    """After --apply the version that was brought here is no obstacle: the next one holds both edits."""
    told = taken.push("--wait")
    assert told.code == 0, told.out + told.err
    assert "the edits of version 2 on Kaggle were brought here" in " ".join(told.out.split())
    assert taken.kit("status", "answer", "--json").json["version"] == 3
    assert "says what was pushed" in taken.kit("pull", "answer").err


def test_what_was_taken_is_here_already(taken):
    """The next pull says that the version is here, which was not pushed from here."""
    told = taken.kit("pull", "answer")
    assert (told.code, told.out) == (0, "")
    assert "version 2 on Kaggle is here already" in told.err


def test_a_later_edit_is_not_pushed_over(taken):
    """What is edited after the --apply stops the push, and comes with the next pull alone, beside one's own edits."""
    taken.edit_in_browser(NEW, "Which one is the best one?")
    assert "kit pull answer" in taken.push().out
    told = taken.kit("pull", "answer", "--apply")
    assert told.code == 0, told.err
    source = (taken.root / "notebooks_src" / "answer.py").read_text()
    assert "the best one" in source
    assert "hullo" in source


def test_an_edit_that_is_here_already_is_not_what_was_pushed(edited, edit):
    """An edit that was made here by hand, too, is said to be here; --apply notes it, and the push goes on from it."""
    source = edited.root / "notebooks_src" / "answer.py"
    edit(source, NEW, OLD)
    edit(source, "hullo", "hello")
    edited.kit("build", "answer", "--unproved")
    told = edited.kit("pull", "answer")
    assert "version 2 on Kaggle is here already: say so with kit pull answer --apply" in told.err
    assert edited.push().code == 1
    assert "kit push answer goes on from it" in edited.kit("pull", "answer", "--apply").err
    assert edited.push("--wait").code == 0


def test_what_was_not_taken_whole_stops_the_push(edited, edit):
    """With conflicts left out the version counts as not brought here."""
    edit(edited.root / "notebooks_src" / "answer.py", "Which one did they like?", OLD)
    assert edited.kit("pull", "answer", "--apply", "--clean-only").code == 1
    edited.kit("build", "answer", "--unproved")
    assert "kit pull answer" in edited.push().out


def test_both_sides_were_edited(edited, edit, listing):
    """A cell that changed here too is a conflict: exit code 1, both texts shown, and --apply writes nothing."""
    edit(edited.root / "notebooks_src" / "answer.py", "Which one did they like?", OLD)
    before = listing(edited.root)
    told = edited.kit("pull", "answer")
    assert told.code == 1
    assert "conflict in cell title" in told.err
    assert NEW in told.err
    told = edited.kit("pull", "answer", "--apply")
    assert told.code == 1
    assert "1 conflicts (title)" in told.err
    assert listing(edited.root) == before


def test_a_notebook_without_cells(pushed, listing):
    """Where all cells are gone in the browser nothing is written, with --clean-only either."""
    before = listing(pushed.root)
    kernel = pushed.kaggle._store.get(Kernel, NOTEBOOK)
    emptied = replace(kernel.versions[-1], number=2, text='{"cells": []}')
    pushed.kaggle._store.put(NOTEBOOK, replace(kernel, versions=(*kernel.versions, emptied)))
    told = pushed.kit("pull", "answer", "--apply", "--clean-only")
    assert told.code == 1
    assert "nothing was written" in told.err
    assert listing(pushed.root) == before


def test_a_project_without_its_build(edited):
    """In a fresh clone the way to the build is told."""
    shutil.rmtree(edited.root / "build")
    told = edited.kit("pull", "answer")
    assert told.code == 2
    assert "kit build answer" in told.err


def test_an_edited_notebook_is_not_pushed_over(edited):
    """A push after an edit in the browser is refused and names the ways out; --overwrite sends it."""
    told = edited.push()
    assert told.code == 1
    assert "kit pull answer" in told.out
    assert "--overwrite" in told.out
    assert edited.push("--overwrite").code == 0
    assert edited.kit("status", "answer", "--json").json["version"] == 3


HIDDEN = "Which\x1b]52;c;eA==\x07 one\u202e is\u200b it?"
SHOWN = r"Which\x1b]52;c;eA==\x07 one\u202e is\u200b it?"


def test_what_no_eye_sees_stands_in_the_patch_as_escapes(pushed):
    """It is told, the patch of a file too, and --apply writes what was edited, to the letter."""
    pushed.edit_in_browser(OLD, HIDDEN)
    told = pushed.kit("pull", "answer")
    assert f"+# {SHOWN}\n" in told.out
    assert r"characters that no eye sees (\x1b, \x07, \u202e, \u200b)" in told.err
    assert pushed.kit("pull", "answer", "--apply").code == 0
    assert f"# {HIDDEN}\n" in (pushed.root / "notebooks_src" / "answer.py").read_text()


@pytest.mark.parametrize("hidden", ["x = 1\rimport os", "x = 1  # \x1b[2K\rprint(1)"])
def test_a_return_in_code_is_seen(pushed, hidden):
    """What stands before a lone return is not written over on the terminal, in a patch or in a conflict."""
    pushed.edit_in_browser(OLD, hidden)
    told = pushed.kit("pull", "answer")
    assert "\r" not in told.out + told.err
    assert "\\r" in told.out + told.err
    assert "x = 1" in told.out + told.err


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_patch_in_any_language_applies(desk, end):
    """With the source's own line ends, from a file, by git: nothing of it is an escape."""
    new = "האם זה טוב? می\u200cخواهم 👩\u200d🔬 好 café\u00a0?"
    source = desk.root / "notebooks_src" / "answer.py"
    source.write_text(source.read_text(), newline=end)
    assert desk.kit("build", "answer", "--unproved").code == 0
    assert desk.push("--wait").code == 0
    desk.edit_in_browser(OLD, new)
    program = [sys.executable, "-m", "kaggle_kit.cli.main", "pull", "answer", "--project", str(desk.root)]
    with (desk.root / "edits.patch").open("wb") as out:
        done = subprocess.run(program, stdout=out, stderr=subprocess.PIPE, check=True)
    assert b"no eye sees" not in done.stderr
    git = ["git", "apply", "--whitespace=nowarn", "edits.patch"]
    subprocess.run(git, cwd=desk.root, check=True, capture_output=True)
    assert f"# {new}{end}".encode() in source.read_bytes()
