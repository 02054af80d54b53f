"""What two sides changed in one cell, merged by git: both edits, or a conflict, and never the half of one."""

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_kit.errors import KitError
from kaggle_kit.notebook.merge import merge_texts
from kaggle_kit.notebook.pull import pull

LINES = ["one = 1", "two = 2", "three = 3", "four = 4", "five = 5"]
HEAD = "#!/usr/bin/env python3\n# ---\n# jupyter: {}   \n# ---\n\n\n"


def source(text, *, end="\n"):
    """A source with a title and one cell of code, and odd spaces around them."""
    title = '# %% [markdown] name="title"\n# # Title\n\n\n'
    return f'{HEAD}{title}# %%  name="code"  \n{text}\n\n'.replace("\n", end)


def notebook(text):
    """The same as a notebook's text."""
    cells = [("title", "markdown", "# Title"), ("code", "code", text)]
    return json.dumps(
        {"cells": [{"cell_type": kind, "metadata": {"name": name}, "source": body} for name, kind, body in cells]}
    )


def pulled(*, pushed=LINES, browser=LINES, here=LINES, end="\n"):
    """What a pull makes of a cell: the lines that were pushed, those of the browser and those of the source."""
    base, theirs, ours = ("\n".join(lines) for lines in (pushed, browser, here))
    return pull(pulled=notebook(theirs), pushed=notebook(base), source=source(ours, end=end), path="answer.py")


def changed(lines, **changes):
    """The lines with some of them changed, by their names."""
    return [f"{line.split(' = ')[0]} = {changes.get(line.split(' = ')[0], line.split(' = ')[1])}" for line in lines]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_two_edits_of_one_cell_are_both_taken(end):
    """Of different lines both edits stand, what is around the lines stays, and the next pull finds nothing."""
    here, browser = changed(LINES, one=10), changed(LINES, four=40)
    result = pulled(browser=browser, here=here, end=end)
    assert [(change.name, change.kind) for change in result.changes] == [("code", "merged")]
    assert result.clean
    both = changed(LINES, one=10, four=40)
    assert result.after == source("\n".join(both), end=end)
    assert pulled(browser=browser, here=both, end=end).unchanged


def test_the_patch_is_the_browsers_edit_alone():
    """The author's own edit is no line of the patch."""
    result = pulled(browser=changed(LINES, four=40), here=changed(LINES, one=10))
    lines = [line for line in result.patch.splitlines() if line[0] in "+-" and line[:3] not in ("+++", "---")]
    assert lines == ["-four = 4", "+four = 40"]


@pytest.mark.parametrize("name", ["four", "three"], ids=["the same line", "the line beside it"])
def test_edits_of_the_same_lines_are_a_conflict(name):
    """Both edits are shown, no mark of a conflict is anywhere, and the source stays byte for byte."""
    here = changed(LINES, **{name: 7})
    result = pulled(browser=changed(LINES, four=40), here=here)
    (conflict,) = result.conflicts
    assert result.after == result.before == source("\n".join(here))
    assert {"+four = 40", f"+{name} = 7"} <= set(conflict.diff.splitlines())
    assert not {"<<<<<<<", ">>>>>>>", "|||||||"} & {line[:7] for line in (result.after + conflict.diff).splitlines()}


def test_edits_that_make_no_python_together_are_a_conflict():
    """Each edit reads well alone, and both together do not."""
    browser = ['one = """1', *LINES[1:4], '5"""']
    here = changed(LINES, three='"""3"""')
    result = pulled(browser=browser, here=here)
    assert result.after == result.before
    assert "with the source's own changes in it, it is not plain Python" in result.conflicts[0].reason


def test_kinds_that_differ_are_a_conflict():
    """Code that became markdown in the browser and was edited in the source is not merged."""
    body = json.loads(notebook("\n".join(LINES)))
    body["cells"][1]["cell_type"] = "markdown"
    here = source("\n".join(changed(LINES, one=10)))
    result = pull(pulled=json.dumps(body), pushed=notebook("\n".join(LINES)), source=here, path="answer.py")
    assert ([conflict.name for conflict in result.conflicts], result.after) == (["code"], here)


def test_a_conflicts_marks_in_a_cell_are_text():
    """A cell that holds lines like git's own marks is merged as any other."""
    marks = ['text = """', "<<<<<<< ours", "=======", ">>>>>>> theirs", '"""', *LINES]
    result = pulled(pushed=marks, browser=[*marks[:-1], "five = 50"], here=[*marks[:-5], "one = 10", *marks[-4:]])
    assert result.after == source("\n".join([*marks[:-5], "one = 10", *marks[-4:-1], "five = 50"]))


def test_without_git_a_merge_says_what_to_install(monkeypatch, tmp_path):
    """Nothing is merged without git; where one side alone was edited nobody needs it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pulled(browser=changed(LINES, four=40)).after == source("\n".join(changed(LINES, four=40)))
    with pytest.raises(KitError, match="install git"):
        pulled(browser=changed(LINES, four=40), here=changed(LINES, one=10))


def test_gits_own_failure_is_an_error(monkeypatch, tmp_path):
    """A git that cannot merge is no conflict: what it says is told."""
    (tmp_path / "git").write_text("#!/bin/sh\necho 'no such command' >&2\nexit 129\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KitError, match="git could not merge a cell: no such command"):
        pulled(browser=changed(LINES, four=40), here=changed(LINES, one=10))


def test_no_configuration_counts(monkeypatch, tmp_path):
    """Neither a user's, nor a repository's, nor a variable's settings reach the merge, and no git of the folder."""
    home, repository = tmp_path / "home", tmp_path / "repository"
    (home / ".config" / "git").mkdir(parents=True)
    (repository / ".git" / "objects").mkdir(parents=True)
    (repository / ".git" / "refs").mkdir()
    (repository / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    for place in (home / ".gitconfig", home / ".config" / "git" / "config", repository / ".git" / "config"):
        place.write_text("[broken")
    (repository / "git").write_text("#!/bin/sh\ntouch started\n")
    (repository / "git").chmod(0o755)
    monkeypatch.chdir(repository)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(repository))
    monkeypatch.setenv("PATH", f".{os.pathsep}{os.environ['PATH']}")
    for name, value in {
        "GIT_DIR": str(repository / ".git"),
        "GIT_CONFIG_COUNT": "broken",
        "GIT_TRACE": str(repository / "trace"),
        "XDG_CONFIG_HOME": str(home / ".config"),
    }.items():
        monkeypatch.setenv(name, value)
    assert pulled(browser=changed(LINES, four=40), here=changed(LINES, one=10)).clean
    assert sorted(path.name for path in repository.iterdir()) == [".git", "git"]


PIECES = st.sampled_from(["", "a", "b", "c", " c", "\t", "\r", "ü🙂", "\ud800", "=======", "x" * 200])
ANY = st.one_of(st.lists(PIECES, max_size=9).map("\n".join), st.text(max_size=60)).filter(lambda text: "\0" not in text)


@settings(max_examples=60)
@given(base=ANY, other=ANY)
def test_no_change_on_one_side_gives_the_other(base, other):
    """Byte for byte, whichever of the two sides was edited, and where both made the same edit."""
    assert merge_texts(base, base, other) == other
    assert merge_texts(other, base, base) == other
    assert merge_texts(other, base, other) == other


PLACES = st.lists(st.integers(0, 19), max_size=4, unique=True)
CODE = st.lists(st.sampled_from([*LINES, "", "    ", "# note  ", "f = {  'a':1 }", 'text = """\n\n x"""']), max_size=8)


@settings(max_examples=60)
@given(base=CODE, other=CODE, end=st.sampled_from(["\n", "\r\n"]))
def test_a_pull_gives_the_edited_side(base, other, end):
    """A source that alone was edited stays byte for byte; an edit of the browser alone comes as it stands there."""
    stays = pulled(pushed=base, browser=base, here=other, end=end)
    assert (stays.unchanged, stays.after) == (True, stays.before)
    comes = pulled(pushed=base, browser=other, here=base, end=end)
    assert comes.clean
    assert pulled(pushed=other, browser=other, here=base, end=end).before == comes.before
    here = comes.after.replace(end, "\n").partition('name="code"  \n')[2]
    assert here.rstrip() == "\n".join(other).rstrip()
    assert comes.after.startswith(HEAD.replace("\n", end))


@settings(max_examples=60)
@given(mine=PLACES, browsers=PLACES)
def test_lines_far_enough_apart_are_merged(mine, browsers):
    """With a line between them all edits stand, and another pull finds nothing; else it is a conflict and all stays."""
    base = [f"line_{n} = {n}" for n in range(20)]
    here = [f"{line} + 1" if n in mine else line for n, line in enumerate(base)]
    browser = [f"{line} + 2" if n in browsers else line for n, line in enumerate(base)]
    result = pulled(pushed=base, browser=browser, here=here)
    if any(abs(one - other) < 2 for one in mine for other in browsers):
        assert result.after == result.before
        assert result.conflicts
        return
    both = [browser[n] if n in browsers else here[n] for n in range(20)]
    assert (result.clean, result.after) == (True, source("\n".join(both)))
    assert pulled(pushed=base, browser=browser, here=both).unchanged
