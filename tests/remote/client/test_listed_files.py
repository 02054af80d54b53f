"""Kaggle's list of a version's files beside what was sent, in each form that the list is known in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.remote.client.versions import compare_files

SENT = {"manifest.json": 10, "wheels/one.whl": 20, "wheels/two.whl": 30, "README.md": 5}
NAME = st.from_regex(r"[a-z]{1,6}\.[a-z]{3}", fullmatch=True)
PATHS = st.builds(
    lambda folders, name: "/".join([*folders, name]),
    st.lists(st.from_regex("[a-z]{1,3}", fullmatch=True), max_size=2),
    NAME,
)
FILES = st.dictionaries(PATHS, st.integers(0, 1000), min_size=1, max_size=8)


def by_name(sent):
    """A list of names alone."""
    return {path.rpartition("/")[2]: size for path, size in sent.items()}


FORMS = {
    "paths": (SENT, ""),
    "names": (by_name(SENT), "the folders of its files"),
    "the top": ({"manifest.json": 10, "README.md": 5}, "what lies in folders (wheels/one.whl and 1 more)"),
    "no sizes": (dict.fromkeys(SENT), "the size of README.md and 3 more"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_the_same_files(form):
    """What was sent, as Kaggle lists it; what that does not say is told."""
    there, untold = FORMS[form]
    compared = compare_files(there, SENT)
    assert (compared.difference, compared.untold) == ("", untold)
    assert compared.unlisted is (form == "the top")


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_was_lost_is_found_in_every_form(form):
    """One that the form would list."""
    there = dict(FORMS[form][0])
    there.pop("manifest.json")
    assert "does not list manifest.json" in compare_files(there, SENT).lacking


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_was_not_sent_is_found_in_every_form(form):
    """As another version has it."""
    assert "lists other.txt" in compare_files(FORMS[form][0] | {"other.txt": 1}, SENT).added


def test_a_lost_file_of_a_folder_is_found_by_its_name():
    """Where names alone are listed."""
    there = {name: size for name, size in by_name(SENT).items() if name != "two.whl"}
    assert compare_files(there, SENT).lacking == "does not list two.whl"


def test_another_size_is_found_by_the_name_alone():
    """Where names alone are listed, and the name stands once."""
    assert "31 bytes of two.whl instead of 30" in compare_files(by_name(SENT) | {"two.whl": 31}, SENT).lacking


def test_two_files_of_one_name_are_one_line():
    """Which of them it is the list does not tell, so no size is compared."""
    sent = {"a/x.bin": 1, "b/x.bin": 2, "m.json": 3}
    assert compare_files({"x.bin": 1, "m.json": 3}, sent).difference == ""
    assert compare_files({"m.json": 3, "x.bin": 9}, sent).difference == ""


SPELT = {
    "in a folder of all": lambda path: f"small-model/{path}",
    "with a slash": lambda path: path.replace("/", "\\"),
    "escaped": lambda path: path.replace("/", "%2F").replace(".", "%2E"),
}


@pytest.mark.parametrize("spelling", SPELT)
def test_paths_in_another_spelling_are_the_same_files(spelling):
    """All of them in the same one; sizes are compared, and what is missing is found."""
    spell = SPELT[spelling]
    there = {spell(path): size for path, size in SENT.items()}
    assert compare_files(there, SENT).difference == ""
    assert "31 bytes" in compare_files(there | {spell("wheels/two.whl"): 31}, SENT).lacking
    lost = {path: size for path, size in there.items() if path != spell("README.md")}
    assert compare_files(lost, SENT).lacking == "does not list README.md"


def test_an_empty_list_is_no_list_of_the_top():
    """A version whose files are not listed yet has not got them."""
    assert "does not list" in compare_files({}, SENT).lacking
    assert "does not list" in compare_files({}, {"a/b.txt": 1}).lacking


@given(FILES)
def test_every_list_of_what_was_sent_agrees(sent):
    """Paths, and names alone: nothing is missing and nothing too much."""
    assert compare_files(sent, sent).difference == ""
    if not any("/" in path for path in sent) or {p.rpartition("/")[2] for p in sent if "/" in p} - sent.keys():
        assert compare_files(by_name(sent), sent).difference == ""


@given(FILES, st.data())
def test_a_path_that_is_gone_is_found(sent, data):
    """Where paths are listed, unless only the top is left."""
    lost = data.draw(st.sampled_from(sorted(sent)))
    there = {path: size for path, size in sent.items() if path != lost}
    compared = compare_files(there, sent)
    assert compared.lacking or compared.unlisted
