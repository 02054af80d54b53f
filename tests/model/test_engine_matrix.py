"""The inspection's word on each cell of the matrix is the engine's own."""

from __future__ import annotations

import json
import re

import pytest
from forms import MATRIX

from kaggle_kit.model.inspect import inspect_model
from kaggle_kit.targets import load_target

DATA = json.loads(MATRIX.DATA.read_text())
CPU = load_target("local-cpu")


def test_the_matrix_has_thirty_architectures_and_eight_forms():
    """And an answer of the engine in each cell."""
    assert len(DATA) >= 30
    assert len(MATRIX.FORMS) >= 8
    assert {tuple(body["answers"]) for body in DATA.values()} == {tuple(MATRIX.FORMS)}
    answers = [answer for body in DATA.values() for answer in body["answers"].values()]
    assert len(answers) / 2 < answers.count("loads") < len(answers)


@pytest.mark.parametrize("name", list(DATA))
def test_the_inspection_refuses_what_the_engine_refuses_and_nothing_else(tmp_path, name):
    """A false refusal locks a user out, and a false "0 errors" costs hours."""
    for form, answer in DATA[name]["answers"].items():
        folder = tmp_path / form
        MATRIX.write(folder, *MATRIX.cell(name, DATA[name], form))
        found = inspect_model(folder, target=CPU, tokenizer=False).errors
        assert (not found) == (answer == "loads"), (form, answer, [str(problem) for problem in found])


@pytest.mark.parametrize("name", [name for name in DATA if DATA[name]["answers"]["plain"] == "loads"])
def test_what_the_engine_loads_on_a_cpu_is_no_error_for_a_card(tmp_path, name):
    """Unless the card's own limits say so: an H100 has none of these."""
    card = load_target("kaggle-h100")
    for form, answer in DATA[name]["answers"].items():
        if answer == "loads":
            folder = tmp_path / form
            MATRIX.write(folder, *MATRIX.cell(name, DATA[name], form))
            found = inspect_model(folder, target=card, tokenizer=False).errors
            assert not found, (form, [str(problem) for problem in found])


def test_the_page_has_the_matrix():
    """docs/models.md names each architecture, and says how often the words agree."""
    page = MATRIX.PAGE.read_text()
    rows = re.findall(r"^\| (\w+) \|(.*)\|$", page, re.MULTILINE)
    cells = {name: [cell.split(" / ")[1] for cell in row.split("|")] for name, row in rows if name in DATA}
    assert cells.keys() == DATA.keys()
    for name, words in cells.items():
        answers = DATA[name]["answers"].values()
        assert [word.strip() == "ok" for word in words] == [answer == "loads" for answer in answers], name
