"""What a lock says of versions that it passed over, by a real uv against a small index."""

import pytest
from fake_index import Index

from kaggle_kit.targets import Target
from kaggle_kit.wheelhouse.resolve import resolve

BOTH = {"pythons": ("3.11", "3.12")}


def notes(target: Target, **changes: object) -> tuple[str, ...]:
    return resolve(target.model_copy(update=changes)).notes


def version(target: Target, name: str) -> set[str]:
    return {wheel.version for wheel in resolve(target).lock.wheels if wheel.name == name}


def test_an_ordinary_lock_has_no_note(stocked: Index, target: Target) -> None:
    """Nothing is passed over: neither for one Python nor for two."""
    assert stocked.port
    assert notes(target) == ()
    assert notes(target, **BOTH) == ()


@pytest.mark.parametrize("asked", ["rouge-score", "Rouge_Score>=0.0.1", "rouge.score<2"])
def test_newer_versions_as_source_only_are_told(stocked: Index, target: Target, asked: str) -> None:
    """The newest of them by its number, however the requirement is spelt; the locked one too."""
    stocked.add("rouge_score-0.0.4-py3-none-any.whl")
    for newer in ("0.0.7", "0.1.2"):
        stocked.files[f"rouge_score-{newer}.tar.gz"] = b"not opened"
    (note,) = notes(target, extras=("helper>=1", asked))
    assert note.startswith("rouge-score 0.0.4 is locked for Python 3.11: the newer 0.1.2 comes as source only")
    assert "rouge_score-0.1.2.tar.gz" not in {name for method, name, _ in stocked.requests if method == "GET"}


def test_a_dependency_of_a_dependency_is_told_too(stocked: Index, target: Target) -> None:
    """Not what was asked for alone."""
    stocked.files["child-0.2.tar.gz"] = b"not opened"
    (note,) = notes(target)
    assert note.startswith("child 0.1 is locked for Python 3.11: the newer 0.2 comes as source only")


@pytest.mark.parametrize("asked", ["helper==1.5", "helper<1.6", "helper~=1.5.0"])
def test_what_the_requirement_rules_out_was_not_passed_over(stocked: Index, target: Target, asked: str) -> None:
    """Who asks for a version gets no word on later ones."""
    stocked.files["helper-2.0.tar.gz"] = b"not opened"
    assert notes(target, extras=(asked,)) == ()


def test_a_newer_wheel_that_something_else_forbids_is_no_note(stocked: Index, target: Target) -> None:
    """A later version that could be had was kept out by a requirement, not by wheels only."""
    stocked.add("capped-1.0-py3-none-any.whl", requires=("rouge-score<0.1",))
    stocked.add("rouge_score-0.0.4-py3-none-any.whl")
    stocked.add("rouge_score-0.2-py3-none-any.whl")
    stocked.files["rouge_score-0.3.tar.gz"] = b"not opened"
    assert notes(target, extras=("capped", "rouge-score")) == ()


def test_a_version_that_was_withdrawn_is_no_note(stocked: Index, target: Target) -> None:
    """It has its wheel, and nobody is to take it."""
    stocked.add("helper-2.0-py3-none-any.whl")
    stocked.withdrawn.add("helper-2.0-py3-none-any.whl")
    assert notes(target) == ()


def test_pythons_that_get_different_versions_are_told(stocked: Index, target: Target) -> None:
    """Each with its versions, and that the newer one has no wheel for the other Python: it is not source only."""
    stocked.add("torchtext-0.18.0-cp311-cp311-manylinux_2_28_x86_64.whl")
    stocked.add("torchtext-0.6.0-py3-none-any.whl")
    first, second = notes(target, extras=("torchtext",), **BOTH)
    assert first == "torchtext 0.6.0 is locked for Python 3.12: the newer 0.18.0 has no wheel that fits there"
    assert second == "torchtext is not the same for all Pythons: 0.18.0 for Python 3.11, 0.6.0 for Python 3.12"


def test_both_pythons_stand_in_one_note(stocked: Index, target: Target) -> None:
    """The same for both is said once."""
    stocked.add("rouge_score-0.0.4-py3-none-any.whl")
    stocked.files["rouge_score-0.1.2.tar.gz"] = b"not opened"
    (note,) = notes(target, extras=("rouge-score",), **BOTH)
    assert note.startswith("rouge-score 0.0.4 is locked for Python 3.11 and 3.12: the newer 0.1.2 comes as source only")


def test_what_is_dated_later_was_not_passed_over(stocked: Index, target: Target) -> None:
    """With --exclude-newer a later source archive does not count."""
    stocked.add("rouge_score-0.0.4-py3-none-any.whl")
    stocked.files["rouge_score-0.1.2.tar.gz"] = b"not opened"
    stocked.uploaded = dict.fromkeys(stocked.files, "2026-01-01T00:00:00Z")
    stocked.uploaded["rouge_score-0.1.2.tar.gz"] = "2026-03-01T00:00:00Z"
    asked = target.model_copy(update={"extras": ("rouge-score",)})
    assert resolve(asked, exclude_newer="2026-02-01").notes == ()
    assert len(resolve(asked, exclude_newer="2026-04-01").notes) == 1
