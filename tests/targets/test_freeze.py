"""Freezes: what `pip freeze` writes, read."""

import pytest

from kaggle_kit.errors import ProjectError
from kaggle_kit.targets import parse_freeze, read_freeze

TEXT = """
# python 3.13
NumPy==2.4.6
torch==2.11.0+cu128
ruamel.yaml==0.18 ; python_version > "3.8"
pandas[excel]==2.3.3
-e git+https://example.test/x.git#egg=x
local @ file:///tmp/local.whl
"""


def test_names_and_versions():
    """Names are canonical, versions whole; lines without a version are passed over."""
    assert parse_freeze(TEXT).packages == {
        "numpy": "2.4.6",
        "torch": "2.11.0+cu128",
        "ruamel-yaml": "0.18",
        "pandas": "2.3.3",
    }


def test_its_python():
    """A comment names the Python; without one nobody knows."""
    assert parse_freeze(TEXT).python == "3.13"
    assert parse_freeze("numpy==2.4.6").python is None


@pytest.mark.parametrize("text", ["", "numpy>=2\n", "Package Version\n------- -------\nnumpy 2.4.6\n"])
def test_nothing_in_it(text):
    """A file without a single pin is refused with the command that writes one."""
    with pytest.raises(ProjectError, match=r"names no package.*pip freeze"):
        parse_freeze(text)


def test_a_version_that_is_none():
    """A version that is none is an error with its line."""
    with pytest.raises(ProjectError, match=r"line 2: .*'two'"):
        parse_freeze("a==1\nb==two\n")


def test_a_missing_file(tmp_path):
    """A missing file is an error that names it."""
    with pytest.raises(ProjectError, match=r"gone\.txt cannot be read"):
        read_freeze(tmp_path / "gone.txt")
