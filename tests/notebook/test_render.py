"""Templates: what they place, what they may override, and what they get wrong."""

import pytest

from kaggle_kit.errors import SourceError
from kaggle_kit.notebook.render import render
from kaggle_kit.notebook.source import read_source
from kaggle_kit.notebook.template_child import python_literal

CONTEXT = {
    "notebook": "answer",
    "target": "local-cpu",
    "kit_version": "1",
    "kit_wheel": "0" * 64,
    "wheelhouse": "local-cpu",
    "model": "small",
    "ensemble": [["other", 0.5]],
    "engine": "vllm",
    "engine_options": {"b": 1, "a": "x"},
    "worker_environment": {},
    "rates": {},
    "kernel": None,
}


@pytest.fixture
def rendered(minimal):
    """A function: the cells that the template of this text makes of the minimal project's source."""

    def make(text: str | None, *, parameters=None, name: str = "own.py.j2"):
        if text is not None:
            (minimal / "templates" / name).write_text(text, encoding="utf-8")
        source = read_source(minimal / "notebooks_src" / "answer.py")
        return render(source, template=name, project=minimal, parameters=parameters or {}, context=CONTEXT)

    return make


def names(cells) -> list[str]:
    return [cell.name for cell in cells]


FRAME = ["title", "parameters", "labels", "inputs", "fallback", "kit", "prompt", "install", "score", "summary"]


def test_the_shipped_frame(rendered):
    """The shipped frame places the author's cells among its own, the fallback before anything that can fail."""
    assert names(rendered(None, name="offline.py.j2")) == FRAME


def test_an_authors_cells_are_unchanged(rendered, minimal):
    """The author's cells keep text, kind and tags."""
    cells = {cell.name: cell for cell in rendered(None, name="offline.py.j2")}
    for cell in read_source(minimal / "notebooks_src" / "answer.py").cells:
        assert cells[cell.name] == cell


def test_a_block_is_overridden(rendered):
    """A template of the project's own replaces one cell of the frame and keeps the others."""
    cells = rendered(None)
    assert names(cells) == [name if name != "score" else "nothing" for name in FRAME]
    assert cells[8].text == "print('local-cpu')"


OPTIONAL = {
    "row_format": 'row_format = "text"',
    "swap": 'swap = {"first": "second"}',
    "rules": "rules = {}",
    "chat": "chat = True",
}


@pytest.mark.parametrize("given", [(), ("row_format",), ("swap", "rules"), tuple(OPTIONAL)])
def test_optional_parts_of_the_task_are_passed_where_the_source_defines_them(rendered, minimal, edit, given):
    """The install cell hands over each optional part that an author's cell assigns, and names no other."""
    source = minimal / "notebooks_src" / "answer.py"
    edit(source, "", 'row_format = "text"\n')
    edit(source, '# %% name="optional"\nx = 1\n' + "\n".join(OPTIONAL[part] for part in given))
    text = next(cell.text for cell in rendered(None, name="offline.py.j2") if cell.name == "install")
    assert [part for part in OPTIONAL if f"{part}={part}," in text] == list(given)


def test_the_ensemble_is_found_by_its_names(rendered):
    """The kit cell looks for each further model by its manifest's name, and keeps its weight."""
    text = next(cell.text for cell in rendered(None, name="offline.py.j2") if cell.name == "kit")
    assert "[['other', 0.5]]" in text.replace('"', "'")


def test_a_block_is_added_to(rendered):
    """`super()` keeps the frame's cell beside one's own."""
    text = '{% extends "offline.py.j2" %}\n{% block kit %}\n{{ super() }}\n# %% name="more"\nmore = 1\n{% endblock %}'
    assert names(rendered(text)) == [*FRAME[:6], "more", *FRAME[6:]]


def test_a_template_without_the_frame(rendered):
    """A template may be whole in itself."""
    assert names(rendered("{{ cells() }}")) == ["title", "parameters", "labels", "prompt"]


def test_parameters_are_injected_below_theirs(rendered):
    """Overridden values stand in a cell of their own, after the parameters cell, and only they."""
    cells = rendered("{{ cells() }}", parameters={"token_budget": 7, "greeting": "a'b\n# %%"})
    assert names(cells) == ["title", "parameters", "injected-parameters", "labels", "prompt"]
    assert cells[2].text == 'token_budget = 7\ngreeting = "a\'b\\n# %%"'
    assert cells[2].tags == ("injected-parameters",)


def test_jinjas_marks_in_a_source_are_text(rendered, minimal, edit):
    """What looks like Jinja in an author's cell stays as it is."""
    edit(minimal / "notebooks_src" / "answer.py", '# %% name="odd"\nodd = "{{ nope }} {% if %} {# x #}"')
    assert rendered("{{ cells() }}")[-1].text == 'odd = "{{ nope }} {% if %} {# x #}"'


def test_a_markdown_line_break_is_kept(rendered, minimal, edit):
    """Two spaces at the end of a line, Markdown's line break, come through."""
    edit(minimal / "notebooks_src" / "answer.py", '# %% [markdown] name="odd"\n# a  \n# b')
    assert rendered("{{ cells() }}")[-1].text == "a  \nb"


def test_a_future_import_in_a_later_cell(rendered, minimal):
    """A cell may begin with a __future__ import, wherever the frame places it."""
    source = minimal / "notebooks_src" / "answer.py"
    source.write_text('# %% name="early"\nfrom __future__ import annotations\n' + source.read_text())
    assert "early" in names(rendered(None, name="offline.py.j2"))


@pytest.mark.parametrize("code", ["display(labels)", "get_ipython()", "def f():\n    return late\n\n\nlate = 1"])
def test_names_that_are_defined_in_time(rendered, minimal, edit, code):
    """What the kernel defines, and what a function reads that is defined after it, is no error."""
    edit(minimal / "notebooks_src" / "answer.py", f'# %% name="odd"\n{code}')
    assert rendered("{{ cells() }}")[-1].text == code


WRONG = {
    "undefined": (
        "{{ cells() }}{{ oops }}",
        "own.py.j2: 'oops' is undefined; .*ensemble, kernel, kit_version",
    ),
    "undefined part": ("{{ cells() }}{{ target.x }}", "own.py.j2: .* has no attribute 'x'"),
    "unknown cell": ('{{ cell("promt") }}', "places a cell 'promt', .*did you mean 'prompt'.*; its cells: title"),
    "twice": ('{{ cell("title") }}{{ cell("title") }}', "places the cell 'title' twice"),
    "after the rest": ('{{ cells() }}{{ cell("title") }}', "places the cell 'title' twice"),
    "left out": ('{{ cell("title") }}', "own.py.j2 leaves out the cells parameters, labels, prompt of .*answer.py"),
    "syntax": ("{{ cells() }}\n{% if %}", "own.py.j2, line 2: "),
    "unclosed block": ("\n{% block x %}", "own.py.j2, line 2: "),
    "unknown filter": ('{{ "a" | pyton }}', "own.py.j2, line 1: .*pyton"),
    "unknown parent": ('{% extends "offlin.py.j2" %}', "no template 'offlin.py.j2'; did you mean 'offline.py.j2'"),
    "itself": ('{% extends "own.py.j2" %}', "own.py.j2 extends or includes itself; give yours another name"),
    "no argument": ("{{ cell() }}", "own.py.j2 fails: TypeError"),
    "arithmetic": ("{{ cells() }}{{ 1 / 0 }}", "own.py.j2 fails: ZeroDivisionError"),
    "no name": ("{{ cells() }}\n# %%\nx = 1", r"own.py.j2: cell 5 \(x = 1\) has no name"),
    "the frame's name": ('{{ cells() }}\n# %% name="title"\nx = 1', "own.py.j2: two cells are named 'title'"),
    "not Python": ('{{ cells() }}\n# %% name="x"\nx = = 1', "cell 'x', line 1, is not valid Python"),
    "a return": ('{{ cells() }}\n# %% name="x"\nreturn 5', "cell 'x', line 1, is not valid Python: 'return' outside"),
    "no such name": ('{{ cells() }}\n# %% name="x"\ny = prio', "cell 'x' uses 'prio', .*did you mean 'prior'"),
    "no such name in a function": (
        '{{ cells() }}\n# %% name="x"\ndef f():\n    return nope',
        "cell 'x' uses 'nope', which no cell before it defines",
    ),
    "name of a later cell": ('# %% name="x"\ny = prior\n{{ cells() }}', "cell 'x' uses 'prior'"),
    "no plain value": ("{{ cells() }}\n{{ cells | python }}", "filter python takes plain values, not method"),
}


@pytest.mark.usefixtures("filled_here")
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_template(rendered, case):
    """Each mistake in a template is an error of its source that says what is wrong where."""
    text, message = WRONG[case]
    with pytest.raises(SourceError, match=message):
        rendered(text)


def test_a_missing_template(rendered):
    """A template that does not exist gets a suggestion and the list, the shipped ones included."""
    with pytest.raises(SourceError, match=r"'offlin\.py\.j2'; did you mean 'offline\.py\.j2'\?; known: bench"):
        rendered(None, name="offlin.py.j2")


def test_a_template_that_is_no_text(rendered, minimal):
    """A template must be UTF-8."""
    (minimal / "templates" / "own.py.j2").write_bytes(b"{{ cells() }}\xff")
    with pytest.raises(SourceError, match=r"own\.py\.j2, or one that it extends: .*own\.py\.j2 is not UTF-8"):
        rendered(None)


def test_a_cell_that_takes_the_frames_name(rendered, minimal, edit):
    """An author's cell with the name of one of the frame's is refused."""
    edit(minimal / "notebooks_src" / "answer.py", '# %% name="install"\nx = 1')
    with pytest.raises(SourceError, match="two cells are named 'install'"):
        rendered(None, name="offline.py.j2")


def test_a_source_that_lacks_what_the_frame_needs(rendered, minimal, edit):
    """A source without a prior is told so before it meets Kaggle."""
    edit(minimal / "notebooks_src" / "answer.py", "", 'prior = {"first": 0.75, "second": 0.25}\n')
    with pytest.raises(SourceError, match="the cell 'fallback' uses 'prior', which no cell before it defines"):
        rendered(None, name="offline.py.j2")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": [1, (2.5, None)], "a": "it's"}, "{'a': \"it's\", 'b': [1, [2.5, None]]}"),
        ({}, "{}"),
        (True, "True"),
    ],
)
def test_python_literals(value, text):
    """Plain values become Python, keys in order."""
    assert python_literal(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1}, b"x", [object()]])
def test_what_is_no_literal(value):
    """What Python could not read back is refused."""
    with pytest.raises(SourceError, match="the filter python takes"):
        python_literal(value)


def test_an_expression_too_long_to_be_checked(minimal, rendered, edit):
    """A sum that Python still compiles, and that the check for undefined names cannot walk, is an error."""
    edit(minimal / "notebooks_src" / "answer.py", f'# %% name="sum"\nx = {" + ".join(["greeting"] * 600)}')
    with pytest.raises(SourceError, match="too long or nested too deep to be checked: cut it in two"):
        rendered("{{ cells() }}")
