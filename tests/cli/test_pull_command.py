"""`kit pull`: what was edited in the browser, as a patch, into the source, or as a conflict."""

import subprocess

import pytest

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


def test_both_sides_were_edited(edited, edit, listing):
    """A cell that changed here too is a conflict: exit code 1, both texts shown, and --apply writes nothing."""
    edit(edited.root / "notebooks_src" / "answer.py", "Which one did they like?", OLD)
    before = listing(edited.root)
    told = edited.kit("pull", "answer")
    assert told.code == 1
    assert "conflict in cell title" in told.err
    assert NEW in told.err
    told = edited.kit("pull", "answer", "--apply")
    assert told.code != 0
    assert listing(edited.root) == before


def test_an_edited_notebook_is_not_pushed_over(edited):
    """A push after an edit in the browser is refused and names the ways out; --overwrite sends it."""
    told = edited.push()
    assert told.code == 1
    assert "kit pull answer" in told.out
    assert "--overwrite" in told.out
    assert edited.push("--overwrite").code == 0
    assert edited.kit("status", "answer", "--json").json["version"] == 3
