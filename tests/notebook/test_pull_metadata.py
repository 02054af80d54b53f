"""`kit pull`: what was changed in the browser beside the cells' texts, and cells that have no name."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_pull import SOURCE, Desk, changed, refused

from kaggle_kit.notebook.cells import read_cells
from kaggle_kit.notebook.cut import cut_source, marked_segment
from kaggle_kit.notebook.pull import apply
from kaggle_kit.notebook.source import Cell, parse_cells, percent, read_source

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_\-]{0,8}", fullmatch=True).filter(
    lambda key: key not in ("name", "tags", "jupyter", "active", "title", "skipline", "noskipline")
)
FOLDED = st.fixed_dictionaries(
    {},
    optional={
        "_kg_hide-input": st.booleans(),
        "_kg_hide-output": st.booleans(),
        "jupyter": st.dictionaries(st.sampled_from(["source_hidden", "outputs_hidden"]), st.booleans(), max_size=2),
    },
)
METADATA = st.builds(lambda one, other: one | other, FOLDED, st.dictionaries(KEYS, VALUES, max_size=2))
TAGS = st.lists(st.text("abc-_ ", min_size=1, max_size=4), unique=True, max_size=2)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MARKERS = ["# %%", "#%%", "# %% A title", "# %%\t"]


@pytest.fixture
def desk(minimal):
    """The minimal project, pushed and open in the browser."""
    return Desk(minimal)


def pairs(metadata):
    return tuple((key, json.dumps(value, sort_keys=True)) for key, value in sorted(metadata.items()))


@given(metadata=METADATA, tags=TAGS, kind=st.sampled_from(["code", "markdown"]))
@QUICK
def test_a_cell_of_any_metadata_gives_itself_back(metadata, tags, kind):
    """Written into a source and read again, it is the same cell."""
    cell = Cell("x", kind, "y = 1", tuple(tags), pairs(metadata))
    assert parse_cells(percent(cell), where="a") == (cell,)


@given(before=METADATA, after=METADATA, tags=TAGS, marker=st.sampled_from(MARKERS), end=st.sampled_from(["\n", "\r\n"]))
@QUICK
def test_any_metadata_can_be_written_in_the_line_of_a_cell(before, after, tags, marker, end):
    """Only that line changes, in whatever form it is; what stands in it beside them stays."""
    options = "".join(f" {key}={value}" for key, value in pairs(before))
    body = f"x = 1{end}{end}{end}"
    text = f'{marker} name="x"{options}{end}{body}# %% name="y"{end}y = 2{end}'
    cut = cut_source(text, where="a")
    new = marked_segment(cut.segments[0], tags=tuple(tags), metadata=pairs(after), newline=end)
    joined = cut.joined([new, cut.segments[1]])
    assert parse_cells(joined.replace("\r\n", "\n"), where="b")[0] == Cell(
        "x", "code", "x = 1", tuple(tags), pairs(after)
    )
    assert joined.startswith(f'{marker} name="x"')
    assert joined.split(end, 1)[1] == text.split(end, 1)[1]


@given(before=METADATA, after=METADATA)
@settings(max_examples=15, deadline=None)
def test_what_was_changed_of_the_metadata_comes_back(tmp_path_factory, before, after):
    """Of keys that the source has and of those by which a cell is folded: added, changed, and taken out."""
    desk = of_project(tmp_path_factory)
    options = "".join(f" {key}={value}" for key, value in pairs(before))
    desk.write(desk.source().replace('# %% name="labels"', f'# %% name="labels"{options}'))
    desk.pushed = desk.build()
    desk.notebook = json.loads(desk.pushed)
    cell = desk.cell("labels")
    assert cell["metadata"] == {"name": "labels"} | before
    folding = {key: value for key, value in after.items() if key in before or key.startswith(("_kg", "jupyter"))}
    cell["metadata"] = {"name": "labels", "trusted": True, "execution": {"a": 1}} | folding
    result = desk.pull()
    assert changed(result) == ([("labels", "metadata")] if folding != before else [])
    assert result.clean
    apply(result, root=desk.root)
    again = read_source(desk.root / SOURCE).cells
    assert dict(next(each for each in again if each.name == "labels").metadata) == dict(pairs(folding))
    desk.notebook, desk.pushed = json.loads(desk.build()), desk.build()
    assert desk.pull().unchanged


def of_project(factory):
    import shutil
    from pathlib import Path

    root = factory.mktemp("project") / "minimal"
    shutil.copytree(Path(__file__).parents[1] / "projects" / "minimal", root)
    return Desk(root)


def test_a_changed_cell_brings_its_folding_along(desk):
    """Text and metadata of one cell are one change."""
    cell = desk.cell("labels")
    cell["source"] = "".join(cell["source"]) + "\n# more"
    cell["metadata"]["_kg_hide-input"] = True
    result = desk.pull()
    assert changed(result) == [("labels", "changed")]
    assert '# %% name="labels" _kg_hide-input=true' in result.after
    assert "# more" in result.after


def test_tags_come_back(desk):
    """Those that Jupyter's user gave and took; never those by which kit knows a cell."""
    desk.cell("prompt")["metadata"]["tags"] = ["hide-input", "x y"]
    desk.cell("parameters")["metadata"]["tags"] = []
    result = desk.pull()
    assert changed(result) == [("prompt", "metadata")]
    assert '# %% name="prompt" tags=["hide-input", "x y"]' in result.after
    assert 'tags=["parameters"]' in result.after


def test_metadata_of_both_sides_are_a_conflict_or_one(desk):
    """The same on both sides is nothing to do; two values are shown, and stop no other change."""
    desk.cell("prompt")["metadata"]["_kg_hide-input"] = True
    desk.cell("labels")["source"] = "".join(desk.cell("labels")["source"]) + "\n# more"
    desk.write(desk.source().replace('# %% name="prompt"', '# %% name="prompt" _kg_hide-input=true'))
    assert changed(desk.pull()) == [("labels", "changed")]
    desk.write(desk.source().replace("_kg_hide-input=true", "_kg_hide-input=false"))
    result = desk.pull()
    assert refused(result) == ["prompt"]
    assert "_kg_hide-input were changed in the browser and in the source" in result.conflicts[0].reason
    assert changed(result) == [("labels", "changed")]


def test_where_marks_are_gone_no_metadata_were_taken_out(desk):
    """A program that strips a notebook's metadata is no author."""
    desk.write(desk.source().replace('# %% name="labels"', '# %% name="labels" _kg_hide-input=true'))
    desk.pushed = desk.build()
    desk.notebook = json.loads(desk.pushed)
    for cell in desk.notebook["cells"]:
        cell["metadata"] = {}
    assert desk.pull().unchanged


def test_what_stays_in_the_browser_is_said(desk):
    """A folded cell of the template, and the metadata of the whole notebook, are notes: no conflict, no change."""
    desk.cell("fallback")["metadata"]["_kg_hide-input"] = True
    desk.notebook["metadata"]["kernelspec"] = {"name": "ir", "display_name": "R", "language": "R"}
    desk.notebook["metadata"]["kaggle"] = {"accelerator": "none"}
    desk.notebook["metadata"]["language_info"]["version"] = "3.12.1"
    result = desk.pull()
    assert result.unchanged
    assert [note.split(" ")[:2] for note in result.notes] == [["cell", "fallback:"], ["the", "notebook's"]]
    assert "kernelspec" in result.notes[1]


def test_one_change_that_does_not_build_stops_no_other(desk):
    """It is a conflict with its reason, and the others are taken."""
    desk.cell("labels")["source"] = "labels = nowhere\nprior = dict(first=0.75, second=0.25)\n"
    desk.cell("title")["source"] = "# Better"
    desk.add("x = 1", after="prompt")
    result = desk.pull()
    assert not result.broken
    assert set(changed(result)) == {("title", "changed"), ("added-1", "added")}
    assert refused(result) == ["labels"]
    assert "nowhere" in result.conflicts[0].reason
    apply(result, root=desk.root, clean_only=True)
    assert "# Better" in desk.source()
    assert "nowhere" not in desk.source()


@pytest.fixture
def unnamed(desk):
    """A desk whose source has a cell that Jupyter added."""
    desk.write(desk.source() + "\n\n# %%\nx = 1\n\n# %% A title\ny = 2\n")
    desk.pushed = desk.build()
    desk.notebook = json.loads(desk.pushed)
    return desk


def test_a_cell_without_a_name_is_built_and_pulled(unnamed):
    """It has a name in the notebook, and an edit of it comes back with the name in writing."""
    cell = next(cell for cell in unnamed.notebook["cells"] if cell["source"] == ["y = 2"])
    assert cell["id"].startswith("unnamed-")
    assert unnamed.pull().unchanged
    cell["source"] = "y = 3"
    cell["metadata"]["_kg_hide-output"] = True
    result = unnamed.pull()
    assert changed(result) == [(cell["id"], "changed")]
    assert f'\n# %% A title name="{cell["id"]}" _kg_hide-output=true\ny = 3\n' in result.after
    assert "\n# %%\nx = 1\n" in result.after
    apply(result, root=unnamed.root)
    rebuilt = {each.id: each.text for each in read_cells(unnamed.build(), where="b")}
    assert rebuilt[cell["id"]] == "y = 3"


def test_the_metadata_of_a_cell_without_a_name_come_back(unnamed):
    """Where only they were changed."""
    cell = next(cell for cell in unnamed.notebook["cells"] if cell["source"] == ["x = 1"])
    cell["metadata"]["jupyter"] = {"source_hidden": True}
    result = unnamed.pull()
    assert changed(result) == [(cell["id"], "metadata")]
    assert '\n# %% jupyter={"source_hidden": true}\nx = 1\n' in result.after
