"""`kit pull`: the browser's edits come back as a patch, and nothing is overwritten silently."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaggle_kit.errors import KitError, SourceError
from kaggle_kit.notebook.build import build
from kaggle_kit.notebook.pull import apply, pull_notebook
from kaggle_kit.notebook.source import plain
from kaggle_kit.project import load_project
from kaggle_kit.targets import load_target

ROOT = Path(__file__).parents[2]
SOURCE = "notebooks_src/answer.py"


class Desk:
    """A project with a pushed notebook, and the browser's copy of it to edit."""

    def __init__(self, root, *assignments):
        self.root = root
        self.assignments = assignments
        self.pushed = self.build()
        self.notebook = json.loads(self.pushed)

    def build(self):
        """The built notebook's text."""
        project = load_project(self.root)
        target = load_target("kaggle-t4x2")
        done = build(project, "answer", target=target, assignments=self.assignments, out=self.root / "build")
        return done.notebook.read_text(encoding="utf-8")

    def cell(self, name):
        """The browser's cell `name`."""
        return next(cell for cell in self.notebook["cells"] if cell["metadata"].get("name") == name)

    def place(self, name):
        """Where the browser's cell `name` stands."""
        return self.notebook["cells"].index(self.cell(name))

    def add(self, source, *, after, kind="code"):
        """A new cell in the browser."""
        cell = {"cell_type": kind, "id": "8c1f22ab", "metadata": {"trusted": True}, "source": source}
        self.notebook["cells"].insert(self.place(after) + 1, cell)

    def pull(self):
        """What a pull finds now."""
        return pull_notebook(
            load_project(self.root),
            "answer",
            pulled=json.dumps(self.notebook),
            pushed=self.pushed,
            target=load_target("kaggle-t4x2"),
            assignments=self.assignments,
        )

    def source(self):
        """The source's text, with its own line ends."""
        return (self.root / SOURCE).read_bytes().decode()

    def write(self, text):
        """Replace the source."""
        (self.root / SOURCE).write_bytes(text.encode())


@pytest.fixture
def desk(minimal):
    """The minimal project, pushed and open in the browser."""
    return Desk(minimal)


def changed(result):
    """The clean changes as (name, kind)."""
    return [(change.name, change.kind) for change in result.changes]


def refused(result):
    """The names of the conflicts."""
    return [conflict.name for conflict in result.conflicts]


def texts(notebook):
    """Kind and plain text of each cell that is not empty."""
    cells = json.loads(notebook)["cells"] if isinstance(notebook, str) else notebook["cells"]
    found = [(cell["cell_type"], plain("".join(cell["source"]))) for cell in cells]
    return [(kind, text) for kind, text in found if text]


def test_nothing_edited_is_nothing_to_do(desk):
    """The notebook as it was pushed gives no change and no patch."""
    result = desk.pull()
    assert result.unchanged
    assert result.clean
    assert result.patch == ""
    assert result.after == desk.source()


def reserialise(notebook):
    """What Kaggle may do by saving: one string a cell, no ids, outputs, its own metadata, a newline at the end."""
    for cell in notebook["cells"]:
        cell.pop("id")
        cell["source"] = "".join(cell["source"]) + "\n"
        cell["metadata"]["execution"] = {"iopub.status.busy": "2026-11-24T08:00:00.000Z"}
        cell["metadata"]["trusted"] = True
        if cell["cell_type"] == "code":
            cell["execution_count"] = 3
            cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": "hello\n"}]
    notebook["metadata"]["kaggle"] = {"accelerator": "nvidiaTeslaT4", "isInternetEnabled": False}
    notebook["nbformat_minor"] = 4
    notebook["cells"].append({"cell_type": "code", "metadata": {}, "source": ""})


def test_what_kaggle_does_by_itself_is_no_edit(desk):
    """Outputs, metadata, other line ends, missing ids and an empty cell at the end change nothing."""
    reserialise(desk.notebook)
    assert desk.pull().unchanged
    for cell in desk.notebook["cells"]:
        cell["source"] = cell["source"].replace("\n", "\r\n")
    assert desk.pull().unchanged


def test_cells_without_any_mark_are_known_by_their_text(desk):
    """Without ids and names an edited cell is still the one that it was."""
    reserialise(desk.notebook)
    desk.cell("prompt")["source"] += "row_format = 'turns'\n"
    for cell in desk.notebook["cells"]:
        cell["metadata"].pop("name", None)
    result = desk.pull()
    assert (changed(result), refused(result)) == ([("prompt", "changed")], [])


def test_an_edited_cell_is_a_patch_to_its_lines(desk):
    """Only the lines of the edited cell are in the patch."""
    desk.cell("prompt")["source"] = [
        'row_format = "text"\n',
        'fields = {"question": 1}\n',
        'template = "Q: {question}"',
    ]
    result = desk.pull()
    assert changed(result) == [("prompt", "changed")]
    assert [line for line in result.patch.splitlines() if line[0] in "+-"] == [
        f"--- a/{SOURCE}",
        f"+++ b/{SOURCE}",
        '-template = "{question}\\n"',
        '+template = "Q: {question}"',
    ]


@pytest.mark.parametrize("tool", [["git", "apply", "-"], ["patch", "-p1"]], ids=["git", "patch"])
@pytest.mark.parametrize("end", ["\n", ""], ids=["newline at the end", "none"])
def test_the_patch_applies(desk, tool, end):
    """`git apply` and `patch` take the patch, and make of the source what apply() would."""
    if not shutil.which(tool[0]):
        pytest.skip(f"no {tool[0]} here")
    desk.write(desk.source().rstrip("\n") + end)
    desk.cell("prompt")["source"] = 'row_format = "text"\nfields = {"question": 1}\ntemplate = "ü {question} 🙂"'
    desk.add("print('hello')", after="prompt")
    result = desk.pull()
    subprocess.run(tool, input=result.patch.encode(), cwd=desk.root, check=True, capture_output=True)
    assert desk.source() == result.after


def test_applied_and_built_again_it_is_the_edited_notebook(desk):
    """After apply(), a build gives what stands in the browser, and another pull finds nothing."""
    desk.cell("labels")["source"] = 'labels = {"first": "A", "second": "B"}\nprior = {"first": 0.5, "second": 0.5}'
    desk.cell("title")["source"] = "# Best answer\n\n- *one*\n\n\n```\ncode\n```"
    desk.add("## And then", after="prompt", kind="markdown")
    desk.add("import math\n\nprint(math.pi)", after="prompt")
    result = desk.pull()
    assert result.clean
    assert apply(result, root=desk.root) == (desk.root / SOURCE,)
    assert texts(desk.build()) == texts(desk.notebook)
    assert desk.pull().unchanged


def test_other_cells_keep_every_byte(desk):
    """Comments, odd spaces and blank lines of cells that were not edited stay."""
    odd = desk.source().replace("labels = {", "labels  =  {   # why\n\n\n    ").replace("\n\n# %%", "\n\n\n\n# %%")
    desk.write(odd)
    desk.pushed = desk.build()
    desk.notebook = json.loads(desk.pushed)
    desk.cell("prompt")["source"] = 'row_format = "text"\nfields = {"question": 2}\ntemplate = "{question}"'
    result = desk.pull()
    assert result.after.split('# %% name="prompt"')[0] == odd.split('# %% name="prompt"')[0]


def test_line_ends_of_windows_stay(desk):
    """A source with CRLF keeps it, in the edited cell too."""
    desk.write(desk.source().replace("\n", "\r\n"))
    desk.cell("prompt")["source"] = 'row_format = "text"\nfields = {"question": 2}\ntemplate = "{question}"'
    desk.add("x = 1", after="prompt")
    result = desk.pull()
    assert result.clean
    assert result.after.count("\n") == result.after.count("\r\n") == result.after.replace("\r", "").count("\n")
    assert result.after.endswith('# %% name="added-1"\r\nx = 1\r\n')


def test_a_marker_inside_of_a_text_is_no_cell(desk):
    """A template that holds a line like a cell marker is one cell still."""
    desk.write(desk.source().replace('template = "{question}\\n"', 'template = """\n# %% name="no"\n{question}\n"""'))
    desk.pushed = desk.build()
    desk.notebook = json.loads(desk.pushed)
    desk.cell("prompt")["source"][-1] = '"""  # edited'
    result = desk.pull()
    assert result.clean
    assert result.after == desk.source().replace('{question}\n"""', '{question}\n"""  # edited')


def test_a_removed_cell_is_removed(desk):
    """A cell of the author's that is gone in the browser goes from the source."""
    desk.write(desk.source() + '\n# %% name="extra"\nx = 1\n')
    desk.pushed = desk.build()
    desk.notebook = json.loads(desk.pushed)
    desk.notebook["cells"].remove(desk.cell("extra"))
    result = desk.pull()
    assert changed(result) == [("extra", "removed")]
    assert result.after == desk.source().removesuffix('\n# %% name="extra"\nx = 1\n')


def test_a_cell_that_the_template_needs_is_told(desk):
    """Without the labels nothing would build: the pull says so, and apply() refuses."""
    desk.notebook["cells"].remove(desk.cell("labels"))
    result = desk.pull()
    assert "the template places a cell 'labels'" in result.broken
    with pytest.raises(KitError, match="nothing was written"):
        apply(result, root=desk.root)


def test_a_moved_cell_moves(desk):
    """The order of the author's own cells follows the browser's."""
    desk.write(desk.source() + '\n# %% name="extra"\nx = 1\n')
    desk.pushed = desk.build()
    desk.notebook = json.loads(desk.pushed)
    cell = desk.cell("extra")
    desk.notebook["cells"].remove(cell)
    desk.notebook["cells"].insert(desk.place("prompt"), cell)
    result = desk.pull()
    assert ([kind for _, kind in changed(result)], refused(result)) == (["moved"], [])
    apply(result, root=desk.root)
    assert texts(desk.build()) == texts(desk.notebook)


def test_a_cell_moved_behind_the_templates_is_a_conflict(desk):
    """The template decides where the author's cells stand: a move across its own is shown, not done."""
    cell = desk.cell("prompt")
    desk.notebook["cells"].remove(cell)
    desk.notebook["cells"].append(cell)
    result = desk.pull()
    assert (changed(result), refused(result)) == ([], ["prompt"])
    assert result.after == desk.source()


def test_a_cell_added_among_the_templates_is_a_conflict(desk):
    """A new cell where the template has none of the author's is shown, with its text."""
    desk.add("print(record)", after="score")
    result = desk.pull()
    assert (changed(result), refused(result)) == ([], ["added-1"])
    assert "+print(record)" in result.conflicts[0].diff
    assert "elsewhere" in result.conflicts[0].reason


def test_a_cell_added_before_the_templates_is_a_conflict(desk):
    """A new cell beside one that the template places by name would run later: the build tells."""
    desk.add("print(1)", after="labels")
    result = desk.pull()
    assert (changed(result), refused(result)) == ([], ["added-1"])


def test_a_changed_frame_cell_is_a_conflict(desk):
    """A cell of the template is shown with what was done to it, and what to do."""
    desk.cell("fallback")["source"].insert(0, "print('mine')\n")
    result = desk.pull()
    assert refused(result) == ["fallback"]
    assert "+print('mine')" in result.conflicts[0].diff
    assert "offline.py.j2" in result.conflicts[0].advice
    assert result.after == desk.source()


def test_a_removed_frame_cell_is_a_conflict(desk):
    """So is a cell of the template that was taken out, or moved."""
    desk.notebook["cells"].remove(desk.cell("summary"))
    cell = desk.cell("install")
    desk.notebook["cells"].remove(cell)
    desk.notebook["cells"].append(cell)
    assert sorted(refused(desk.pull())) == ["install", "summary"]


def test_a_frame_cell_that_the_template_gives_by_now_is_no_conflict(desk, minimal):
    """Where the project's template was changed in the same way, there is nothing to do."""
    text = (ROOT / "templates" / "offline.py.j2").read_text(encoding="utf-8")
    (minimal / "templates" / "offline.py.j2").write_text(text.replace("    session.summary()", "    pass"), "utf-8")
    desk.cell("summary")["source"] = 'with stage("summary"):\n    pass'
    assert desk.pull().unchanged


def test_changes_of_both_sides_in_different_cells_are_both_kept(desk):
    """The source's own changes since the push stay beside the browser's."""
    desk.write(desk.source().replace('"first": 0.75, "second": 0.25', '"first": 0.7, "second": 0.3'))
    desk.cell("prompt")["source"] = 'row_format = "text"\nfields = {"question": 2}\ntemplate = "{question}"'
    result = desk.pull()
    assert changed(result) == [("prompt", "changed")]
    assert '"first": 0.7,' in result.after
    assert '"question": 2' in result.after


def test_the_same_change_on_both_sides_is_nothing_to_do(desk):
    """A change that is in the source already is no change."""
    desk.write(desk.source().replace("0.75", "0.7").replace("0.25", "0.3"))
    desk.cell("labels")["source"][1] = 'prior = {"first": 0.7, "second": 0.3}'
    assert desk.pull().unchanged


def test_a_cell_changed_on_both_sides_is_shown(desk):
    """Neither side wins: both changes are shown, and the source stays."""
    desk.write(desk.source().replace("0.75", "0.7").replace("0.25", "0.3"))
    desk.cell("labels")["source"][1] = 'prior = {"first": 0.5, "second": 0.5}'
    result = desk.pull()
    assert refused(result) == ["labels"]
    assert '+prior = {"first": 0.5, "second": 0.5}' in result.conflicts[0].diff
    assert '+prior = {"first": 0.7, "second": 0.3}' in result.conflicts[0].diff
    assert result.after == desk.source()


def test_a_cell_removed_on_one_side_and_changed_on_the_other_is_shown(desk):
    """A removal does not take another change with it, in either direction."""
    desk.write(desk.source() + '\n# %% name="extra"\nx = 1\n')
    desk.pushed = desk.build()
    desk.notebook = json.loads(desk.pushed)
    desk.write(desk.source().replace("x = 1", "x = 2"))
    desk.notebook["cells"].remove(desk.cell("extra"))
    assert refused(desk.pull()) == ["extra"]
    desk.write(desk.source().replace('\n# %% name="extra"\nx = 2\n', ""))
    desk.notebook = json.loads(desk.pushed)
    desk.cell("extra")["source"] = "x = 3"
    assert refused(desk.pull()) == ["extra"]


@pytest.mark.parametrize(
    "text",
    ["%%writefile a.py\nx = 1", "%pip install peft", "!ls /kaggle", "x = (1,", "return 3", "# %% name='other'\nx = 1"],
)
def test_what_is_no_plain_python_stays_in_the_browser(desk, text):
    """A magic, a cell in progress or a line that reads as a marker is a conflict, edited or new."""
    desk.cell("prompt")["source"] = text
    desk.add(text, after="prompt")
    result = desk.pull()
    assert (changed(result), refused(result)) == ([], ["prompt", "added-1"])
    assert result.after == desk.source()


def test_markdown_that_would_swallow_the_next_cell_is_a_conflict(desk):
    """Two open code fences swallow what is between them in a py:percent file: the second is not taken."""
    desk.cell("title")["source"] = "# Best answer\n```\ncode"
    desk.add("```", after="prompt", kind="markdown")
    result = desk.pull()
    assert (changed(result), refused(result), result.broken) == ([("title", "changed")], ["added-1"], "")


def test_a_name_that_nothing_defines_is_told(desk):
    """A change after which the notebook would not build is patched, but not applied."""
    desk.cell("labels")["source"][0] = "labels = nowhere\n"
    result = desk.pull()
    assert "nowhere" in result.broken
    assert changed(result) == [("labels", "changed")]
    with pytest.raises(KitError, match="nowhere"):
        apply(result, root=desk.root)


def test_only_the_clean_cells_where_asked(desk):
    """With conflicts nothing is written, unless the clean cells alone are asked for."""
    desk.cell("fallback")["source"] = "pass"
    desk.cell("prompt")["source"] = 'row_format = "text"\nfields = {"question": 2}\ntemplate = "{question}"'
    result = desk.pull()
    before = desk.source()
    with pytest.raises(KitError, match=r"1 conflicts \(fallback\)"):
        apply(result, root=desk.root)
    assert desk.source() == before
    apply(result, root=desk.root, clean_only=True)
    assert '"question": 2' in desk.source()


def test_what_would_not_build_is_not_written(desk):
    """Nor where the clean cells alone are asked for: a notebook without cells would empty the source."""
    desk.notebook["cells"] = []
    result = desk.pull()
    before = desk.source()
    with pytest.raises(KitError, match=r"nothing was written to .*would not build: the template places a cell 'title'"):
        apply(result, root=desk.root, clean_only=True)
    assert desk.source() == before


def test_the_refusal_is_no_wrong_use(desk):
    """What cannot be applied ends the command as failed work does."""
    desk.cell("fallback")["source"] = "pass"
    with pytest.raises(KitError) as refusal:
        apply(desk.pull(), root=desk.root)
    assert refusal.value.exit_code == 1


def test_a_link_stays_a_link(desk):
    """Where the source is a link, the file behind it is written."""
    behind = (desk.root / SOURCE).rename(desk.root / "behind.py")
    (desk.root / SOURCE).symlink_to(behind)
    desk.cell("prompt")["source"] = 'row_format = "text"\nfields = {"question": 2}\ntemplate = "{question}"'
    assert apply(desk.pull(), root=desk.root) == (desk.root / SOURCE,)
    assert (desk.root / SOURCE).is_symlink()
    assert '"question": 2' in behind.read_text("utf-8")


def test_a_source_that_changed_meanwhile_is_not_overwritten(desk):
    """apply() wants the file that was compared."""
    desk.cell("prompt")["source"] = 'row_format = "text"\nfields = {"question": 2}\ntemplate = "{question}"'
    result = desk.pull()
    desk.write(desk.source() + "\n")
    with pytest.raises(KitError, match="changed since"):
        apply(result, root=desk.root)


def test_a_cell_may_become_markdown(desk):
    """The kind of a cell changes with it."""
    desk.write(desk.source() + '\n# %% name="extra" tags=["a"]\nx = 1\n')
    desk.pushed = desk.build()
    desk.notebook = json.loads(desk.pushed)
    desk.cell("extra").update(cell_type="markdown", source="# x is 1")
    result = desk.pull()
    assert result.clean
    assert result.after.endswith('# %% [markdown] name="extra" tags=["a"]\n# # x is 1\n')


def test_markdown_in_quotes_stays_in_quotes(desk):
    """A markdown cell that is written as a text keeps that form."""
    desk.write(desk.source().replace("# # Best answer\n#\n# Which one is it?", '"""\n# Best answer\n"""'))
    desk.pushed = desk.build()
    desk.notebook = json.loads(desk.pushed)
    desk.cell("title")["source"] = "# Best answer\n\nWhich?"
    assert '[markdown] name="title"\n"""\n# Best answer\n\nWhich?\n"""\n' in desk.pull().after


def test_a_copy_of_a_cell_is_a_new_cell(desk):
    """Kaggle copies a cell with its marks: the first is the cell, the other is added."""
    copy = json.loads(json.dumps(desk.cell("prompt")))
    copy["source"].append("\nx = 1")
    desk.notebook["cells"].insert(desk.place("prompt"), copy)
    result = desk.pull()
    assert (changed(result), refused(result)) == ([("added-1", "added")], [])


@pytest.mark.parametrize("text", ["", "no", "[]", "{}", '{"cells": 3}', "[" * 100_000])
def test_what_is_no_notebook_is_refused(desk, minimal, text):
    """An error page or a half of a file is not taken for a notebook without cells."""
    with pytest.raises(SourceError, match="the pulled notebook is no notebook"):
        pull_notebook(
            load_project(minimal), "answer", pulled=text, pushed=desk.pushed, target=load_target("kaggle-t4x2")
        )


TABLE = '\n[notebooks.answer.parameters] # why\ntoken_budget = 256 # "tokens" of one\ngreeting = "hi # you"\n'


@pytest.fixture
def overridden(minimal):
    """A function: the minimal project with overridden parameters, pushed and open in the browser."""

    def make(*assignments, table=TABLE):
        with (minimal / "kit.toml").open("a", encoding="utf-8") as stream:
            stream.write(table)
        return Desk(minimal, *assignments)

    return make


def test_an_edited_override_comes_back_to_kit_toml(overridden):
    """A value that kit.toml gave is edited there, comments kept, and the rebuilt notebook is the browser's."""
    desk = overridden()
    desk.cell("injected-parameters")["source"] = "token_budget = 384\ngreeting = 'hej'"
    result = desk.pull()
    assert [(edit.name, edit.before, edit.after, edit.place) for edit in result.parameters] == [
        ("token_budget", 256, 384, "kit.toml"),
        ("greeting", "hi # you", "hej", "kit.toml"),
    ]
    assert '+token_budget = 384 # "tokens" of one' in result.patch
    assert apply(result, root=desk.root) == (desk.root / "kit.toml",)
    assert texts(desk.build()) == texts(desk.notebook)
    assert desk.pull().unchanged


def test_overrides_may_be_taken_out_and_added(overridden):
    """A line less, or a new one, is a key less or a new key of kit.toml."""
    desk = overridden()
    desk.cell("injected-parameters")["source"] = "token_budget = 256\nverbose = True"
    result = desk.pull()
    assert [(edit.name, edit.after) for edit in result.parameters] == [("greeting", None), ("verbose", True)]
    apply(result, root=desk.root)
    assert load_project(desk.root).notebook("answer").parameters == {"token_budget": 256, "verbose": True}


def test_a_value_of_the_command_line_is_told(overridden):
    """What -p gave is in no file: the pull says what to type."""
    desk = overridden("token_budget=300")
    desk.cell("injected-parameters")["source"] = "token_budget = 400\ngreeting = 'hi # you'"
    result = desk.pull()
    assert [(edit.name, edit.place) for edit in result.parameters] == [("token_budget", "-p")]
    assert "-p token_budget=400" in result.parameters[0].advice
    assert result.patch == ""


def test_a_value_changed_on_both_sides_is_shown(overridden):
    """kit.toml's own change since the push is not overwritten."""
    desk = overridden()
    path = desk.root / "kit.toml"
    path.write_text(path.read_text("utf-8").replace("= 256", "= 200"), "utf-8")
    desk.cell("injected-parameters")["source"] = "token_budget = 384\ngreeting = 'hi # you'"
    result = desk.pull()
    assert (refused(result), result.parameters) == (["parameter token_budget"], ())


@pytest.mark.parametrize("text", ["token_budget = 3.5", "nonsense = 1", "token_budget = 1 + 1", "import os", "x ="])
def test_a_value_that_fits_no_parameter_is_shown(overridden, text):
    """A value of another type, an unknown name and code are conflicts."""
    desk = overridden()
    desk.cell("injected-parameters")["source"] = f"{text}\ngreeting = 'hi # you'"
    result = desk.pull()
    assert result.conflicts
    assert [edit.name for edit in result.parameters if edit.after is not None] == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "parameters  =  { token_budget = 256,  verbose=true } # why\n",
            "parameters  =  { token_budget = 384,  verbose=true } # why\n",
        ),
        ("parameters . token_budget=256 # why\n", "parameters . token_budget=384 # why\n"),
        (
            "\n[ notebooks . 'answer' . parameters ]\n  token_budget = 2_56 # why\n# of the end\n",
            "\n[ notebooks . 'answer' . parameters ]\n  token_budget = 384 # why\n# of the end\n",
        ),
    ],
)
def test_a_value_is_edited_in_the_form_that_it_has(overridden, before, after):
    """In an inline table, under dotted keys, with other spaces and quotes: nothing but the value changes."""
    desk = overridden(table=before)
    cell = desk.cell("injected-parameters")
    cell["source"] = "".join(cell["source"]).replace("256", "384")
    text = (desk.root / "kit.toml").read_text("utf-8")
    apply(desk.pull(), root=desk.root)
    assert (desk.root / "kit.toml").read_text("utf-8") == text.replace(before, after)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_new_value_stands_with_its_table(overridden, end):
    """Line ends stay, and what an author wrote before the next table still stands before it."""
    desk = overridden(table=f"{TABLE}\n# of the models\n[models.other]\npath = 'x'\ndataset = 'ada/other'\n")
    path = desk.root / "kit.toml"
    text = path.read_text("utf-8")
    path.write_text(text, "utf-8", newline=end)
    desk.cell("injected-parameters")["source"] = "token_budget = 256\ngreeting = 'hi # you'\nverbose = True"
    apply(desk.pull(), root=desk.root)
    known = 'greeting = "hi # you"\n'
    wanted = text.replace(known, f"{known}verbose = true\n").replace("\n", end)
    assert path.read_bytes().decode() == wanted


def test_a_first_value_gets_a_table(overridden):
    """Without overrides of its own so far kit.toml gets the table; every line that was there stays."""
    desk = overridden("greeting=hi", table="")
    before = (desk.root / "kit.toml").read_text("utf-8")
    desk.cell("injected-parameters")["source"] = "token_budget = 384\ngreeting = 'hi'"
    apply(desk.pull(), root=desk.root)
    after = (desk.root / "kit.toml").read_text("utf-8")
    assert load_project(desk.root).notebook("answer").parameters == {"token_budget": 384}
    fresh = ("", "[notebooks.answer.parameters]", "token_budget = 384")
    assert [line for line in after.split("\n") if line not in fresh] == [line for line in before.split("\n") if line]


def test_a_file_that_cannot_be_edited_is_a_conflict(overridden):
    """With two kinds of line ends kit.toml stays as it is: the conflict says which value to write."""
    desk = overridden()
    path = desk.root / "kit.toml"
    path.write_bytes(path.read_bytes().replace(b" # why\n", b" # why\r\n"))
    desk.cell("injected-parameters")["source"] = "token_budget = 384\ngreeting = 'hi # you'"
    result = desk.pull()
    assert (result.patch, result.parameters, refused(result)) == ("", (), ["parameter token_budget"])
    assert "256 -> 384" in result.conflicts[0].reason
    assert result.conflicts[0].advice.endswith("token_budget = 384")
    with pytest.raises(KitError, match="nothing was written"):
        apply(result, root=desk.root)


def test_one_value_that_cannot_be_written_does_not_hold_back_another(overridden):
    """Of two edited values the one that a file can hold is taken."""
    desk = overridden()
    desk.cell("injected-parameters")["source"] = "token_budget = 384\ngreeting = '\\ud800'"
    result = desk.pull()
    assert ([edit.name for edit in result.parameters], refused(result)) == (["token_budget"], ["parameter greeting"])
    assert "+token_budget = 384" in result.patch


@pytest.mark.parametrize("text", ["+".join("1" * 20_000), "9" * 400])
def test_a_value_that_no_machine_holds_is_shown(overridden, text):
    """An endless sum and a number of 400 digits are conflicts too."""
    desk = overridden()
    desk.cell("injected-parameters")["source"] = f"token_budget = {text}\ngreeting = 'hi # you'"
    assert refused(desk.pull())


LINES = st.sampled_from(
    [
        "x = 1",
        "y = 'ü 🙂 \\n'",
        "# a comment",
        "",
        "   # indented",
        "if True:\n    z = 2",
        'text = """\n# %% name="no"\n"""',
        "def f(a):\n\n    return a",
        "print(  'odd'  )",
        "w = {'a': [1,\n  2]}",
        "await_ = lambda: None  # trailing   ",
        "tab = '\t'",
    ]
)
CODE = st.lists(LINES, min_size=1, max_size=6).map("\n".join)
PROSE = st.lists(
    st.sampled_from(["# head", "", "text *x*", "- a", "    code", "ü🙂", "# %% no", "```\ncode\n```"]), max_size=6
)
EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("prompt"), CODE),
        st.tuples(st.just("title"), PROSE.map("\n".join)),
        st.tuples(st.just("add"), CODE),
        st.tuples(st.just("note"), PROSE.map("\n".join)),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS, marks=st.booleans(), end=st.sampled_from(["\n", "\r\n"]))
def test_any_edit_comes_back_whole(tmp_path_factory, edits, marks, end):
    """Whatever was edited in the author's cells, pull, apply and build give exactly the edited notebook."""
    root = tmp_path_factory.mktemp("pull") / "project"
    shutil.copytree(ROOT / "tests" / "projects" / "minimal", root)
    path = root / SOURCE
    path.write_bytes(path.read_bytes().replace(b"\n", end.encode()))
    desk = Desk(root)
    for what, text in edits:
        if what == "prompt":
            desk.cell("prompt")["source"] = (
                f"{text}\nrow_format = 'text'\nfields = {{'question': 1}}\ntemplate = '{{question}}'"
            )
        elif what == "title":
            desk.cell("title")["source"] = text
        else:
            desk.add(text, after="prompt", kind="code" if what == "add" else "markdown")
    if not marks:
        for cell in desk.notebook["cells"]:
            cell.pop("id", None)
    result = desk.pull()
    assert (refused(result), result.broken) == ([], "")
    assert result.after.count("\r\n") == (result.after.count("\n") if end == "\r\n" else 0)
    apply(result, root=root)
    assert texts(desk.build()) == texts(desk.notebook)
    assert desk.pull().unchanged
    shutil.rmtree(root)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    title=st.text(max_size=40),
    code=st.text(alphabet="xy=1 \n\t#%'\"\\\r\u2028\x0c🙂!", max_size=30),
    new=st.text(max_size=30),
)
def test_whatever_was_typed_is_taken_whole_or_shown(tmp_path_factory, title, code, new):
    """For any text at all: what is taken comes out of a build as it was typed, and the rest is a conflict."""
    root = tmp_path_factory.mktemp("pull") / "project"
    shutil.copytree(ROOT / "tests" / "projects" / "minimal", root)
    desk = Desk(root)
    desk.cell("title")["source"] = title
    desk.cell("prompt")["source"] += ["\n", code]
    desk.add(new, after="prompt", kind="markdown")
    result = desk.pull()
    if result.clean:
        apply(result, root=root)
        assert texts(desk.build()) == texts(desk.notebook)
    else:
        assert result.broken or set(refused(result)) <= {"title", "prompt", "added-1"}
    shutil.rmtree(root)


@pytest.mark.parametrize("name", ["title", "prompt"])
@pytest.mark.parametrize("edited", [True, False])
def test_a_pasted_picture_is_a_conflict(desk, name, edited):
    """A source holds no picture: the cell is not taken, whether its text changed or not, and other changes are."""
    cell = desk.cell(name)
    cell["attachments"] = {"plot.png": {"image/png": "iVBORw0KGgo="}}
    if edited:
        cell["source"] = "".join(cell["source"]) + "\n# ![plot](attachment:plot.png)"
    other = desk.cell("labels")
    other["source"] = "".join(other["source"]) + "\n# more"
    result = desk.pull()
    assert refused(result) == [name]
    assert "plot.png" in result.conflicts[0].reason
    assert changed(result) == [("labels", "changed")]


def test_a_rewritten_cell_without_marks_stops_no_other_change(desk):
    """Where names and ids are gone and the template places a rewritten cell by its name, that cell is a conflict."""
    desk.cell("title")["source"] = "# Better"
    prompt = desk.cell("prompt")
    prompt["source"] = "".join(prompt["source"]).replace("{question}", "Q: {question}")
    for cell in desk.notebook["cells"]:
        cell.pop("id", None)
        cell["metadata"] = {"trusted": True}
    result = desk.pull()
    assert not result.broken
    assert changed(result) == [("prompt", "changed")]
    assert "title" in refused(result)
    assert "# Better" not in result.after


def test_a_new_cell_brings_its_hidden_input(desk):
    """Kaggle's and Jupyter's marks by which a cell is folded come along; those of one run do not."""
    desk.add("x = 1", after="prompt")
    cell = next(cell for cell in desk.notebook["cells"] if cell["id"] == "8c1f22ab")
    cell["metadata"] |= {"_kg_hide-input": True, "jupyter": {"source_hidden": True}, "execution": {"a": "b"}}
    result = desk.pull()
    assert changed(result) == [("added-1", "added")]
    assert '_kg_hide-input=true jupyter={"source_hidden": true}' in result.after
    assert "execution" not in result.after


def test_metadata_of_a_cell_reach_the_notebook(desk):
    """What a source says of a cell stands in the built notebook, and survives a change of the cell in the browser."""
    desk.write(desk.source().replace('# %% name="labels"', '# %% name="labels" _kg_hide-input=true'))
    desk.pushed = desk.build()
    desk.notebook = json.loads(desk.pushed)
    assert desk.cell("labels")["metadata"] == {"name": "labels", "_kg_hide-input": True}
    cell = desk.cell("labels")
    cell["source"] = "".join(cell["source"]) + "\n# more"
    assert '# %% name="labels" _kg_hide-input=true' in desk.pull().after
