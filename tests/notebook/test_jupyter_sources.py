"""A notebook as a source, and a notebook that lies beside a source."""

import json
import os
import re
import subprocess
import sys

import jupytext
import pytest

from kaggle_kit.errors import ProjectError, SourceError
from kaggle_kit.notebook.build import build
from kaggle_kit.notebook.pull import pull_notebook
from kaggle_kit.notebook.source import read_source
from kaggle_kit.project import load_project
from kaggle_kit.targets import load_target

SOURCE = "notebooks_src/answer.py"


@pytest.fixture
def place(minimal):
    """The folder of the minimal project, with its source also as the notebook that Jupytext makes of it."""
    path = minimal / SOURCE
    subprocess.run(
        [sys.executable, "-m", "jupytext", "--quiet", "--to", "ipynb", str(path)], check=True, capture_output=True
    )
    return minimal


def built(root):
    return build(load_project(root), "answer", target=load_target("kaggle-t4x2"), out=root / "build")


def notebook(root, edit=None):
    """The notebook beside the source, after `edit`."""
    path = (root / SOURCE).with_suffix(".ipynb")
    body = json.loads(path.read_text())
    if edit:
        edit(body)
        path.write_text(json.dumps(body))
    return body


def as_source(root, edit=None):
    """Name the notebook in kit.toml in place of the Python file, which goes."""
    notebook(root, edit)
    config = root / "kit.toml"
    config.write_text(config.read_text().replace(SOURCE, "notebooks_src/answer.ipynb"))
    (root / SOURCE).unlink()


def test_a_notebook_is_built_as_its_python_file(place):
    """The same cells, the same bytes; outputs and what programs wrote into it do not count."""
    before = built(place).notebook.read_bytes()

    def run(body):
        body["metadata"] |= {"kaggle": {"accelerator": "none"}, "jupytext": {"formats": "ipynb,../x//py"}}
        for number, cell in enumerate(body["cells"]):
            cell["metadata"] |= {"execution": {"a": "b"}, "trusted": True, "collapsed": False}
            if cell["cell_type"] == "code":
                cell |= {
                    "execution_count": number,
                    "outputs": [{"output_type": "stream", "name": "stdout", "text": "x"}],
                }

    as_source(place, run)
    assert built(place).notebook.read_bytes() == before
    assert built(place).warnings == []


def test_cells_of_a_notebook_need_no_names(place):
    """But those that the template places by name; metadata of the author's reach the build."""

    def add(body):
        body["cells"].append(
            {"cell_type": "code", "metadata": {"_kg_hide-input": True}, "source": ["x = 1\n", "y = 2"], "outputs": []}
        )

    as_source(place, add)
    made = built(place)
    cell = next(
        cell for cell in json.loads(made.notebook.read_text())["cells"] if cell["source"] == ["x = 1\n", "y = 2"]
    )
    assert cell["metadata"] == {"name": cell["id"], "_kg_hide-input": True}
    assert "1 cells have no name" in made.warnings[0]


WRONG = {
    "a magic": (lambda body: body["cells"][1].update(source="!ls"), "Jupyter alone understands"),
    "a picture": (lambda body: body["cells"][0].update(attachments={"a.png": {}}), "cell 1 holds pictures"),
    "another language": (lambda body: body["metadata"].update(kernelspec={"language": "R"}), "is a notebook in r"),
    "a raw cell": (lambda body: body["cells"][1].update(cell_type="raw"), "cannot stand|kind 'raw'"),
    "a marker in a cell": (
        lambda body: body["cells"][1].update(source="x = 1\n# %% y\nz = 2"),
        "cannot stand in a source",
    ),
    "no cells": (lambda body: body.pop("cells"), "it has no cells"),
    "cells of no kind": (lambda body: body.update(cells=[1]), "it has no cells"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_source_cannot_hold_is_told(place, case):
    """With the notebook's name, and no traceback."""
    edit, message = WRONG[case]
    as_source(place, edit)
    with pytest.raises(SourceError, match=message) as caught:
        built(place)
    assert "answer.ipynb" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "\ufeff{}", "\0"])
def test_a_file_that_is_no_notebook_is_told(place, text):
    """Whatever it holds."""
    as_source(place)
    (place / SOURCE).with_suffix(".ipynb").write_text(text)
    with pytest.raises(SourceError, match=r"answer\.ipynb"):
        built(place)


def test_a_notebook_alone_is_named_where_the_python_file_is_missing(place):
    """With the two ways to go on."""
    (place / SOURCE).unlink()
    with pytest.raises(
        ProjectError, match=r"answer\.ipynb is there: name it in kit\.toml, or convert it with: jupytext"
    ):
        built(place)


def test_a_pull_into_a_notebook_says_how_to_convert_it(place):
    """Edits of the browser are merged into Python alone; after the conversion that it names, it works."""
    pushed = built(place).notebook.read_text()
    as_source(place)
    given = {"pulled": pushed, "pushed": pushed, "target": load_target("kaggle-t4x2")}
    with pytest.raises(SourceError, match="convert it once with jupytext --to py:percent") as caught:
        pull_notebook(load_project(place), "answer", **given)
    words = str(caught.value).split("jupytext ")[1].split(",")[0].split()
    subprocess.run([sys.executable, "-m", "jupytext", "--quiet", *words], check=True, capture_output=True)
    config = place / "kit.toml"
    config.write_text(config.read_text().replace("answer.ipynb", "answer.py"))
    assert pull_notebook(load_project(place), "answer", **given).unchanged


def age(root, *, newer):
    """Let the notebook be newer than the source, or older."""
    path = root / SOURCE
    os.utime(path, (1000.0, 1000.0))
    at = 2000.0 if newer else 500.0
    os.utime(path.with_suffix(".ipynb"), (at, at))


def test_a_paired_notebook_of_the_same_content_is_no_news(place):
    """However old it is, and whatever was run in it."""

    def run(body):
        for cell in body["cells"]:
            cell["metadata"]["trusted"] = True
        body["cells"].append({"cell_type": "code", "metadata": {}, "source": "", "outputs": []})

    notebook(place, run)
    made = built(place)
    for newer in (True, False):
        age(place, newer=newer)
        assert made.warnings == []


EDITS = {
    "changed": (lambda cells: cells[-1].update(source="z = 9"), "the first begins with 'z = 9'"),
    "added": (
        lambda cells: cells.append({"cell_type": "code", "metadata": {}, "source": "z = 9"}),
        "1 of them.*'z = 9'",
    ),
    "taken out": (lambda cells: cells.pop(), "1 of them"),
    "moved": (lambda cells: cells.insert(0, cells.pop()), "of them"),
    "of another kind": (lambda cells: cells[0].update(cell_type="code", source="z = 9"), "z = 9"),
}


@pytest.mark.parametrize("case", EDITS)
def test_a_paired_notebook_that_differs_is_said(place, case):
    """Which cell, which of the two is newer, what is built, and how to bring them together."""
    edit, words = EDITS[case]
    notebook(place, lambda body: edit(body["cells"]))
    made = built(place)
    for newer in (True, False):
        age(place, newer=newer)
        [warning] = made.warnings
        assert f"it is {'newer' if newer else 'older'}" in warning
        assert "jupytext --sync" in warning
        assert re.search(words, warning)


def test_a_notebook_in_the_paired_folder_is_found(place):
    """By the header that Jupytext writes; no folder beyond the project's is looked into."""
    (place / "notebooks").mkdir()
    (place / SOURCE).with_suffix(".ipynb").rename(place / "notebooks" / "answer.ipynb")
    assert built(place).warnings == []
    head = "# ---\n# jupyter:\n#   jupytext:\n#     formats: {}//ipynb,notebooks_src//py:percent\n# ---\n\n"
    text = (place / SOURCE).read_text() + '\n# %% name="extra"\nz = 9\n'
    (place / SOURCE).write_text(head.format("notebooks") + text)
    assert "notebooks/answer.ipynb, the notebook beside" in built(place).warnings[0]
    for outside in ("../notebooks", "/etc", "a/../../notebooks"):
        (place / SOURCE).write_text(head.format(outside) + text)
        assert built(place).warnings == []


def test_paired_magics_do_not_differ(place):
    """What Jupytext writes as a comment is the notebook's magic."""
    path = place / SOURCE
    path.write_text(path.read_text() + '\n# %% name="extra"\n# !ls\nz = 9\n')
    notebook(place, lambda body: body["cells"].append({"cell_type": "code", "metadata": {}, "source": "!ls\nz = 9"}))
    assert [warning for warning in built(place).warnings if "the notebook beside" in warning] == []


def test_a_notebook_out_of_the_project_is_not_looked_at(place):
    """A link leads to one that differs: nothing of it is read, or shown."""
    beside = (place / SOURCE).with_suffix(".ipynb")
    notebook(place, lambda body: body["cells"].pop())
    beside.rename(place.parent / "other.ipynb")
    beside.symlink_to(place.parent / "other.ipynb")
    assert built(place).warnings == []
    beside.unlink()
    (place.parent / "other.ipynb").rename(place / "notebooks_src" / "other.ipynb")
    beside.symlink_to("other.ipynb")
    assert "the notebook beside" in built(place).warnings[0]


@pytest.mark.parametrize("text", ["", "[]", '{"cells": [{"source": {}}]}', '{"cells": 3}'])
def test_a_notebook_beside_that_cannot_be_read_is_said(place, text):
    """It stops no build."""
    (place / SOURCE).with_suffix(".ipynb").write_text(text)
    assert "answer.ipynb" in built(place).warnings[0]


def test_jupytext_reads_what_kit_reads(place):
    """Both see the same cells in the source that stands beside the notebook."""
    cells = jupytext.read(place / SOURCE).cells
    assert [cell.source for cell in cells if cell.cell_type == "code"] == [
        cell.text for cell in read_source(place / SOURCE).cells if cell.kind == "code"
    ]
