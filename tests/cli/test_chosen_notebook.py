"""Which notebook a command means that names none."""

import pytest

from kaggle_kit.cli.scoring import notebook_name
from kaggle_kit.errors import UsageError
from kaggle_kit.project import load_project

MAKING = '[notebooks.make]\nsource = "x.py"\ntitle = "Make a model"\nmodel = "small"\ntarget = "local-cpu"\n'


def test_the_only_one(minimal):
    """A project with one notebook means that one."""
    assert notebook_name(load_project(minimal), None) == "answer"


def test_one_that_makes_a_model_is_not_meant(minimal, edit):
    """The only notebook that scores is meant, unless another is named."""
    edit(minimal / "kit.toml", f'{MAKING}template = "quantize.py.j2"\ninternet = true')
    project = load_project(minimal)
    assert notebook_name(project, None) == "answer"
    assert notebook_name(project, "make") == "make"


def test_of_two_one_must_be_named(minimal, edit):
    """Both are told."""
    edit(minimal / "kit.toml", MAKING)
    with pytest.raises(UsageError, match="the project has answer, make"):
        notebook_name(load_project(minimal), None)
