"""In a source of editors and Jupyter: marks of byte order, magics as comments, metadata, cells for one side."""

import json

import pytest

from kaggle_kit.errors import SourceError
from kaggle_kit.notebook.cut import cut_source
from kaggle_kit.notebook.source import paired_magics, parse_cells, percent, read_source


def source(tmp_path, cells, *, encoding="utf-8"):
    """A source of one cell after the others."""
    path = tmp_path / "a.py"
    path.write_text('# %% name="first"\nx = 1\n\n' + cells, encoding=encoding)
    return path


def test_a_byte_order_mark_is_passed_over(tmp_path):
    """A file of Windows' editors reads as without the mark, and keeps it when it is cut and joined."""
    path = source(tmp_path, '# %% name="x"\ny = 2\n', encoding="utf-8-sig")
    assert [cell.name for cell in read_source(path).cells] == ["first", "x"]
    text = path.read_bytes().decode()
    cut = cut_source(text, where="a")
    assert cut.joined(cut.segments) == text
    assert text.startswith("\ufeff")


@pytest.mark.parametrize(
    "code",
    [
        "here = Path(__file__).parent",
        "def f():\n    return __file__",
        "print(f'{__file__}')",
        "try:\n    pass\nexcept NameError:\n    x = __file__",
    ],
)
def test_the_name_of_the_file_is_an_error(tmp_path, code):
    """A notebook has none: the run would end there."""
    path = source(tmp_path, f'# %% name="x"\n{code}\n')
    with pytest.raises(SourceError, match=r"cell 'x', line \d+: a notebook has no __file__"):
        read_source(path)


@pytest.mark.parametrize(
    "code",
    [
        "try:\n    x = __file__\nexcept NameError:\n    x = '.'",
        "__file__ = 'a.py'\nprint(__file__)",
        "x = '__file__' in globals()",
        "# __file__",
    ],
)
def test_who_is_ready_for_no_file_may_ask(tmp_path, code):
    """A guard, an own value, a text and a comment are none of it."""
    read_source(source(tmp_path, f'# %% name="x"\n{code}\n'))


@pytest.mark.parametrize(
    "line",
    ["# !cp -r a b", "# %matplotlib inline", "# %%writefile helper.py", "#%time f()", "# !./run.sh", '# !"my tool"'],
)
def test_magics_that_became_comments_are_named(tmp_path, line):
    """What Jupytext writes of a paired notebook's magics is found, with its cell."""
    found = paired_magics(read_source(source(tmp_path, f'# %% name="x"\n{line}\n')))
    assert found == [f"cell 'x': {line}"]


@pytest.mark.parametrize("line", ["# 50 % of them", "# 100%", "# it is! so", "# copy this", "# %s and %d", "x = 5 % 3"])
def test_ordinary_comments_are_no_magics(tmp_path, line):
    """Prose with the same signs is left alone."""
    assert paired_magics(read_source(source(tmp_path, f'# %% name="x"\n{line}\n'))) == []


@pytest.mark.parametrize("indent", ["    ", "\t"])
@pytest.mark.parametrize("mark", ["# %% step one", "#%% step", "# %%"])
def test_a_marker_within_a_function_is_a_comment(indent, mark):
    """An indented one begins no cell, and stays as it is."""
    code = f"def f():\n{indent}{mark}\n{indent}return 1"
    (cell,) = parse_cells(f'# %% name="x"\n{code}\n', where="a")
    assert cell.text == code


def test_metadata_of_a_cell_is_kept():
    """Kaggle's and Jupyter's marks for hidden input, and any others, survive reading and writing."""
    text = '# %% name="x" _kg_hide-input=true jupyter={"source_hidden": true} tags=["a"]\nx = 1\n'
    (cell,) = parse_cells(text, where="a")
    assert {key: json.loads(value) for key, value in cell.metadata} == {
        "_kg_hide-input": True,
        "jupyter": {"source_hidden": True},
    }
    assert parse_cells(percent(cell), where="b") == (cell,)


@pytest.mark.parametrize(
    "code", ["# look\nprint(1)", "x = 1\n\ny = 2", "def f():\n    # inside\n    return 1", "# only a comment"]
)
@pytest.mark.parametrize("tag", ["active-ipynb", "active-ipynb-md"])
def test_a_cell_for_notebooks_alone_is_read_once(tag, code):
    """It stands in the file as comments, and is code in the notebook, its own comments kept, however often it is
    written and read."""
    commented = "\n".join(f"# {line}" if line else "#" for line in code.split("\n"))
    (cell,) = parse_cells(f'# %% name="x" tags=["{tag}"]\n{commented}\n', where="a")
    assert cell.text == code
    assert parse_cells(percent(cell), where="b") == (cell,)
