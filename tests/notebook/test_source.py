"""Sources: py:percent files of named cells."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

from kaggle_kit.errors import SourceError
from kaggle_kit.notebook.cut import cut_source
from kaggle_kit.notebook.source import parse_cells, read_source

ROOT = Path(__file__).parents[2]
LMSYS = ROOT / "notebooks_src" / "lmsys.py"


@pytest.fixture
def source(tmp_path):
    """A function: read a source of this text."""

    def read(text: str):
        path = tmp_path / "source.py"
        path.write_text(text, encoding="utf-8")
        return read_source(path)

    return read


def test_cells_are_read_in_order():
    """The reference source has its cells in the order of the file, each of its kind."""
    cells = read_source(LMSYS).cells
    assert [cell.name for cell in cells] == ["title", "parameters", "labels", "swap", "prompt"]
    assert [cell.kind for cell in cells] == ["markdown", "code", "code", "code", "code"]
    assert cells[1].tags == ("parameters",)


def test_the_reference_source_becomes_a_notebook(tmp_path):
    """`jupytext --to ipynb` makes a notebook of the reference source, with names and tags kept."""
    out = tmp_path / "lmsys.ipynb"
    jupytext_program = Path(sys.executable).with_name("jupytext")
    subprocess.run([jupytext_program, "--to", "ipynb", LMSYS, "-o", out], check=True, capture_output=True)
    notebook = json.loads(out.read_text(encoding="utf-8"))
    assert [cell["metadata"]["name"] for cell in notebook["cells"]] == [
        "title",
        "parameters",
        "labels",
        "swap",
        "prompt",
    ]
    assert notebook["cells"][1]["metadata"]["tags"] == ["parameters"]
    assert notebook["metadata"]["jupytext"]["formats"] == "ipynb,py:percent"


def test_the_reference_source_round_trips():
    """Opened as a notebook and saved again, the reference source has the same text."""
    text = LMSYS.read_text(encoding="utf-8")
    notebook = jupytext.reads(jupytext.writes(jupytext.reads(text, fmt="py:percent"), fmt="ipynb"), fmt="ipynb")
    written = jupytext.writes(notebook, fmt="py:percent")

    def below_header(text: str) -> str:
        return text[text.index("# %%") :]

    assert below_header(written) == below_header(text)


def test_ruff_accepts_the_reference_source():
    """The reference source is plain Python that ruff has nothing to say about."""
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, LMSYS], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


def test_not_python(source):
    """A source that is not Python is named with its line, wherever the line is."""
    with pytest.raises(SourceError, match=r"source\.py:4: the source is not valid Python: invalid syntax"):
        source('# %% name="a"\nx = 1\n# %% name="b"\nx = = 2\n')


def test_a_return_outside_of_a_function(source):
    """What Python's grammar lets through and its compiler does not is no Python either."""
    with pytest.raises(SourceError, match=r"source\.py:2: the source is not valid Python: 'return' outside function"):
        source('# %% name="a"\nreturn 5\n')


def test_an_await_at_the_top(source):
    """Jupyter lets a cell await: so does a source."""
    assert source('# %% name="a"\nawait f()\n').cells[0].text == "await f()"


def test_a_doubtful_escape(source):
    """A text with an escape that Python only warns of is read without a warning."""
    assert source('# %% name="a"\nx = "\\d"\n').literals() == {"x": "\\d"}


@pytest.mark.parametrize(
    "options", ['name="a" tags="parameters"', "name=5", 'name="a" tags=null', 'name="a" tags=[1]', 'name="a" tags=true']
)
def test_options_of_a_wrong_kind(source, options):
    """Options of another type than a notebook takes are told, with the way to write them."""
    with pytest.raises(SourceError, match=r"options are wrong: .*; write them as # %% name=.* tags=\["):
        source(f"# %% {options}\nx = 1\n")


def test_a_null_byte(source):
    """A null byte is no Python either."""
    with pytest.raises(SourceError, match=r"source\.py: the source is not valid Python"):
        source('# %% name="a"\nx = "\0"\n')


@pytest.mark.parametrize("magic", ["!ls -l", "%matplotlib inline", "%%time"])
@pytest.mark.parametrize("tags", ["", ' tags=["parameters"]'])
def test_a_jupyter_magic(source, magic, tags):
    """A line that Jupyter alone understands is named with its place."""
    with pytest.raises(SourceError, match=r"source\.py:2: .*not valid Python.*Jupyter alone understands"):
        source(f'# %% name="a"{tags}\n{magic}\n')


@pytest.mark.parametrize(
    "comment",
    ["copy the rows first", "!important: see below", "%timeit is nice", "%%time", "ls", "cd x", "cat y", "?x", "%%%"],
)
def test_a_comment_like_a_magic(source, comment):
    """A comment is a comment, whatever it begins with: jupytext would make a magic of it."""
    assert source(f'# %% name="a"\n# {comment}\nx = 1\n').cells[0].text == f"# {comment}\nx = 1"


@pytest.mark.parametrize("sign", ["\f", "\v", "\x1c", "\x85", "\u2028", "\u2029", "\ue000"])
def test_a_sign_that_ends_lines_elsewhere(source, sign):
    """A form feed, NEL or U+2028 inside of a text stays there: Python's lines do not end on it."""
    cells = source(f'# %% name="a"\nx = "1{sign}2"\n# %% [markdown] name="b"\n# 3{sign}4\n').cells
    assert [cell.text for cell in cells] == [f'x = "1{sign}2"', f"3{sign}4"]


HEADERS = {
    "of jupytext": "jupytext:\n#     text_representation:\n#       extension: .py\n#       format_name: percent",
    "another format": "jupytext:\n#     text_representation:\n#       extension: .py\n#       format_name: light",
    "a format that starts a program": "jupytext:\n#     text_representation:\n#       format_name: marimo",
    "another language": "kernelspec:\n#     language: R\n#     name: ir",
    "other magics": "jupytext:\n#     comment_magics: true\n#     custom_cell_magics: x",
    "other markers": "jupytext:\n#     cell_markers: 'x,x'\n#     split_at_heading: true",
    "no YAML": "kernelspec: [1",
    "a number for a table": "jupytext:\n#     text_representation: 7",
    "a bomb of aliases": "a: &a [x]\n#   b: &b [*a,*a]\n#   c: &c [*b,*b]",
}


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_changes_nothing(source, monkeypatch, tmp_path, header):
    """What a source's header says is Jupyter's alone: the same cells, and no program is started for a format."""
    program = tmp_path / "marimo"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    text = '# %% name="a"\n# %%time\nx = 1\n# %% [markdown] name="b"\n# # one\n# text\n# # two\n'
    assert source(f"# ---\n# jupyter:\n#   {HEADERS[header]}\n# ---\n{text}").cells == source(text).cells
    assert not (tmp_path / "started").exists()


def test_a_second_header_is_no_header(source):
    """Two headers are a cell without a name, of which jupytext would read one."""
    header = "# ---\n# jupyter:\n#   jupytext:\n#     text_representation:\n#       format_name: marimo\n# ---\n"
    with pytest.raises(SourceError, match=r"cell 1 .* has no name"):
        source(f'{header}x = 0\n{header}# %% name="a"\nx = 1\n')


def test_settings_of_jupytext_beside_a_source_are_not_read(source, monkeypatch, tmp_path):
    """Files of settings, which jupytext's own commands obey, change nothing."""
    text = '# %% name="a"\n# %%time\nx = 1\n\n\ny = 2\n'
    before = source(text).cells
    (tmp_path / "jupytext.toml").write_text('formats = "ipynb,py:light"\ncomment_magics = true\n')
    (tmp_path / "pyproject.toml").write_text('[tool.jupytext]\nformats = "ipynb,py:sphinx"\n')
    (tmp_path / "jupytext.py").write_text("c.formats = 1 / 0\n")
    monkeypatch.chdir(tmp_path)
    assert source(text).cells == before


@pytest.mark.parametrize("kind", ["a pipe", "a device", "without an end", "a folder"])
def test_a_source_that_is_no_file(tmp_path, kind):
    """What never ends, or would be waited for, is an error at once."""
    path = tmp_path / "a.py"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a folder":
        path.mkdir()
    else:
        path.touch()
        os.truncate(path, 10 << 30)
    with pytest.raises(SourceError, match=r"the source .*a\.py (is no regular file|has 10,737,418,240 bytes)"):
        read_source(path)


def test_a_source_of_too_many_cells(source):
    """Cells are counted before they are read: a hundred thousand of them would take minutes."""
    with pytest.raises(SourceError, match="more than 2,000 cells"):
        source("".join(f'# %% name="c{n}"\n' for n in range(100_000)))


@pytest.mark.parametrize("text", ["+".join("1" * 20_000), "a" + ".b" * 9_000, "-" * 20_000 + "1", "(" * 3_000])
def test_an_expression_that_is_too_long(source, text):
    """What Python's own parser gives up is an error of the source."""
    with pytest.raises(
        SourceError, match=r"source\.py.* is not valid Python: (an expression is longer|too many nested)"
    ):
        source(f'# %% name="a"\nx = {text}\n')


def test_a_statement_in_two_cells(source):
    """A cell that is Python only together with the next is named."""
    with pytest.raises(
        SourceError, match=r"cell 'a': 'x = \(' is not valid Python in a cell of its own: '\(' was never"
    ):
        source('# %% name="a"\nx = (\n# %% name="b"\n1)\n')


def test_a_cell_without_a_name(source):
    """Jupyter adds such cells: it is called after its text, and two of one text are two."""
    cells = source('# %% name="a"\nx = 1\n# %%\ny = 2\n# %%\ny = 2\n# %% [markdown]\n# y = 2\n').cells
    assert [cell.unnamed for cell in cells] == [False, True, True, True]
    assert len({cell.name for cell in cells}) == 4
    assert all(re.fullmatch(r"unnamed-[0-9a-f]{8}(-2)?", cell.name) for cell in cells[1:])
    assert source("# %%\ny = 2\n").cells[0].name == cells[1].name


def test_a_template_names_its_cells():
    """There a cell without a name is a mistake, told by its number and first line."""
    with pytest.raises(SourceError, match=r'cell 2 \(y = 2\) has no name; begin it with: # %% name="some-name"'):
        parse_cells('# %% name="a"\nx = 1\n# %%\ny = 2\n', where="the template")


def test_text_before_the_first_cell(source):
    """Code above the first marker would be a cell without a name."""
    with pytest.raises(SourceError, match=r"cell 1 \(import os\) has no name"):
        source('import os\n\n# %% name="a"\nx = 1\n')


def test_two_cells_of_one_name(source):
    """Names must differ."""
    with pytest.raises(SourceError, match="two cells are named 'a'"):
        source('# %% name="a"\nx = 1\n# %% name="a"\ny = 2\n')


@pytest.mark.parametrize("name", ["My cell", "9a", "a_b", "-a", "é", "a\\n", "x" * 65])
def test_a_name_that_is_no_name(source, name):
    """A name that could not be a cell id is refused."""
    with pytest.raises(SourceError, match=r"cell 1 is named .*lower-case letters, digits and hyphens, 64 at most"):
        source(f'# %% name="{name}"\nx = 1\n')


def test_a_raw_cell(source):
    """Only code and Markdown can be built."""
    with pytest.raises(SourceError, match="cell 'a' is of the kind 'raw'; use code or markdown"):
        source('# %% [raw] name="a"\n# x\n')


def test_two_parameters_cells(source):
    """One cell holds the parameters."""
    with pytest.raises(SourceError, match="2 cells are tagged parameters; keep one"):
        source('# %% name="a" tags=["parameters"]\nx: int = 1\n# %% name="b" tags=["parameters"]\ny: int = 1\n')


def test_no_parameters_cell(source):
    """A source without parameters has none."""
    assert source('# %% name="a"\nx = 1\n').parameters == ()


def test_an_empty_source(source):
    """An empty file is a source without cells."""
    assert source("").cells == ()


def test_a_missing_file(tmp_path):
    """A source that cannot be read is named."""
    with pytest.raises(SourceError, match=r"the source .*nope\.py cannot be read"):
        read_source(tmp_path / "nope.py")


def test_a_source_that_is_no_text(tmp_path):
    """A source must be UTF-8."""
    (tmp_path / "a.py").write_bytes(b'# %% name="a"\nx = "\xff"\n')
    with pytest.raises(SourceError, match=r"a\.py is not UTF-8"):
        read_source(tmp_path / "a.py")


def test_line_ends_of_windows(tmp_path):
    """A source with CRLF gives the same cells."""
    (tmp_path / "a.py").write_bytes(b'# %% name="a"\r\nx = 1\r\n\r\n# %% name="b"\r\ny = 2\r\n')
    assert [cell.text for cell in read_source(tmp_path / "a.py").cells] == ["x = 1", "y = 2"]


def test_a_marker_inside_of_a_text(source):
    """A text of several lines that holds a cell marker is not cut."""
    assert len(source('# %% name="a"\nx = """\n# %% name="b"\n"""\n').cells) == 1


def test_literals_are_read(source):
    """Plain values are read, without running anything; the last assignment counts, what is computed is left out."""
    read = source(
        '# %% name="a"\nx = {"k": [1, 2]}\ny: float = 2.5\nz = 1\nw = open("/nope")\nbad = {[1]: 2}\n'
        '# %% name="b"\nz = x["k"]\nx = "last"\n\n\ndef f():\n    inner = 1\n'
    )
    assert read.literals() == {"x": "last", "y": 2.5}


def test_cells_of_a_text_have_their_place_in_errors():
    """`where` begins the message."""
    with pytest.raises(SourceError, match=r"^the template x: cell 1"):
        parse_cells("# %%\nx\n", where="the template x")


def test_a_source_without_cells_is_cut():
    """An empty source is one without cells."""
    cut = cut_source("", where="here")
    assert (cut.head, cut.segments) == ("", ())


def test_a_comment_like_a_marker_cuts_no_cell():
    """A comment that begins with `%%` and a word is no marker."""
    assert cut_source('# %% name="a"\n# %%time\nx = 1\n', where="here").names == ["a"]
