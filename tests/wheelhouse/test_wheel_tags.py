"""The choice among several wheels of one package."""

import pytest
from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.wheelhouse.ready import this_host
from kaggle_kit.wheelhouse.tags import best_wheel, target_tags

_TAGS = target_tags(python="3.11", glibc="2.35", machine="x86_64")


@pytest.mark.parametrize(
    ("files", "best"),
    [
        (["a-1-py3-none-any.whl", "a-1-cp311-cp311-manylinux_2_28_x86_64.whl"], 1),
        (["a-1-cp311-cp311-manylinux_2_17_x86_64.whl", "a-1-cp311-cp311-manylinux_2_28_x86_64.whl"], 1),
        (["a-1-cp311-cp311-manylinux_2_36_x86_64.whl", "a-1-cp311-cp311-manylinux1_x86_64.whl"], 1),
        (["a-1-cp38-abi3-manylinux2014_x86_64.whl", "a-1-cp311-cp311-manylinux2014_x86_64.whl"], 1),
        (["a-1-cp38-abi3-manylinux2014_x86_64.whl", "a-1-cp39-abi3-manylinux2014_x86_64.whl"], 1),
        (["a-1-cp312-cp312-manylinux2014_x86_64.whl", "a-1-py2.py3-none-any.whl"], 1),
        (["a-1-cp311-cp311-musllinux_1_2_x86_64.whl", "a-1-cp311-none-any.whl"], 1),
        (["a-1-1-py3-none-any.whl", "a-1-2-py3-none-any.whl"], 1),
        (["a-1-cp312-abi3-manylinux2014_x86_64.whl"], None),
        (["a-1-cp311-cp311-manylinux2014_aarch64.whl"], None),
        (["a-1.tar.gz", "not a wheel"], None),
        (["a-1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", "a-1-py3-none-any.whl"], 0),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_best(files: list[str], best: int | None, turned: bool) -> None:
    """The wheel that an installer on the target would take is taken, in whatever order they are offered."""
    offered = files[::-1] if turned else files
    assert best_wheel(offered, _TAGS) == (None if best is None else files[best])


def test_arm_begins_at_2_17() -> None:
    """No manylinux older than 2014 exists for other machines than x86."""
    tags = {str(tag) for tag in target_tags(python="3.11", glibc="2.35", machine="aarch64")}
    assert "cp311-cp311-manylinux2014_aarch64" in tags
    assert not [tag for tag in tags if "manylinux1_" in tag or "manylinux_2_5_" in tag]


def test_this_machine_agrees() -> None:
    """For this machine the list of tags is that of `packaging` itself, less the generic Linux places."""
    host = this_host()
    if host.glibc is None:
        pytest.skip("this machine has no glibc")
    ours = target_tags(python=host.python, glibc=host.glibc, machine=host.machine)
    theirs = [tag for tag in sys_tags() if not tag.interpreter.startswith("pp")]
    assert set(theirs) == set(ours)


@pytest.mark.parametrize("python", ["3", "three.eleven", "", "3.11.7"])
def test_version_that_is_none(python: str) -> None:
    """A Python version of any other form is refused."""
    with pytest.raises(WheelhouseError, match="is not two numbers"):
        target_tags(python=python, glibc="2.35", machine="x86_64")


def test_order_is_that_of_packaging() -> None:
    """No tag is listed twice, and the first is the exact one."""
    assert len(_TAGS) == len(set(_TAGS))
    assert _TAGS[0] in parse_wheel_filename("a-1-cp311-cp311-manylinux_2_35_x86_64.whl")[3]
