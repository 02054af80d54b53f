"""Names as Kaggle shows them, on both sides of an upload."""

import pytest

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.runtime.manifest import kaggle_path
from kaggle_kit.wheelhouse.names import kaggle_name, stored_names


@pytest.mark.parametrize(
    ("true", "shown"),
    [
        ("torch-2.13.0+cu126-cp312-cp312-linux_x86_64.whl", "torch-2.13.0cu126-cp312-cp312-linux_x86_64.whl"),
        ("a~b-1.0-py3-none-any.whl", "ab-1.0-py3-none-any.whl"),
        ("café-1.0-py3-none-any.whl", "caf-1.0-py3-none-any.whl"),
        ("plain-1.0-py3-none-any.whl", "plain-1.0-py3-none-any.whl"),
        ("two-1!2.0+a.b-py3-none-any.whl", "two-1!2.0a.b-py3-none-any.whl"),
    ],
)
def test_signs_are_taken_out(true: str, shown: str) -> None:
    """The signs that uploads lose are lost here too, and no others."""
    assert kaggle_name(true) == shown


def test_only_the_last_part_of_a_path_changes() -> None:
    """Folders keep their names."""
    assert kaggle_path("a+b/c+d.whl") == "a+b/cd.whl"


def test_each_true_name_has_its_stored_one() -> None:
    """The mapping holds every file, renamed or not."""
    assert stored_names(["a-1+x.whl", "b-1.whl"]) == {"a-1+x.whl": "a-1x.whl", "b-1.whl": "b-1.whl"}


def test_two_files_under_one_name_are_refused() -> None:
    """Kaggle would keep one of the two, and nobody knows which."""
    with pytest.raises(WheelhouseError, match=r"a-1\+1\.whl and a-11\.whl would both be a-11\.whl on Kaggle"):
        stored_names(["a-1+1.whl", "a-11.whl"])


def test_a_sign_that_kaggle_does_not_take_is_refused() -> None:
    """An @ would fail after the upload."""
    with pytest.raises(WheelhouseError, match="Kaggle takes no file named a@1"):
        stored_names(["a@1.whl"])
