"""Differences between locks and images, in sentences, and which of them break something."""

import dataclasses

import pytest

from kaggle_kit.targets import Target, load_target
from kaggle_kit.wheelhouse.diff import Image, breaks, diff_image, diff_locks, diff_target
from kaggle_kit.wheelhouse.lock import Lock, LockedWheel, Preinstalled


def _wheel(file: str, *, pythons: tuple[str, ...] = (), sha256: str = "a" * 64) -> LockedWheel:
    name, version, *_ = file.split("-")
    return LockedWheel(name=name, version=version, file=file, sha256=sha256, size=1, pythons=pythons)


def _lock(*files: str, **more: object) -> Lock:
    plain = {"target": "tiny", "pythons": ("3.12",), "machine": "x86_64", "glibc": "2.35", "engine": "engine==1.0"}
    wheels = tuple(_wheel(file) for file in ("engine-1.0-py3-none-any.whl", *files))
    return Lock(**(plain | {"wheels": wheels} | more))


def _texts(changes: tuple) -> list[str]:
    return [change.text for change in changes]


_NUMPY = "numpy-2.1.3-cp312-cp312-manylinux_2_28_x86_64.whl"


def test_the_same_twice() -> None:
    """A lock does not differ from itself."""
    assert diff_locks(_lock(_NUMPY), _lock(_NUMPY)) == ()


def test_packages_of_two_locks() -> None:
    """A changed, a new and a gone package are a sentence each, and break nothing."""
    old = _lock("a-1.0-py3-none-any.whl", "b-1.0-py3-none-any.whl")
    changes = diff_locks(old, _lock("b-2.0-py3-none-any.whl", "c-3.0-py3-none-any.whl"))
    assert _texts(changes) == ["a 1.0 is gone", "b 1.0 → 2.0", "c 3.0 is new"]
    assert not breaks(changes)


def test_another_file_of_the_same_version() -> None:
    """A file that was built anew is told from the one that was locked."""
    other = dataclasses.replace(_lock(), wheels=(_wheel("engine-1.0-py3-none-any.whl", sha256="b" * 64),))
    assert _texts(diff_locks(_lock(), other)) == ["engine 1.0: another file of the same version"]


def test_a_change_for_one_of_two_pythons() -> None:
    """A change for one Python of several says for which."""
    files = ("a-1.0-py3-none-any.whl", "a-2.0-py3-none-any.whl")
    two = {"pythons": ("3.12", "3.13")}
    old = _lock(files[0], **two)
    wheels = (old.wheels[0], _wheel(files[0], pythons=("3.12",)), _wheel(files[1], pythons=("3.13",)))
    assert _texts(diff_locks(old, dataclasses.replace(old, wheels=wheels))) == ["a 1.0 → 2.0 (Python 3.13)"]


def test_a_python_that_is_lost() -> None:
    """A Python that is served no more breaks; one that is served too does not."""
    one, two = _lock(), _lock(pythons=("3.12", "3.13"))
    assert _texts(diff_locks(two, one)) == ["Python 3.13 is not served any more"]
    assert breaks(diff_locks(two, one))
    assert _texts(diff_locks(one, two)) == ["Python 3.13 is served too"]
    assert not breaks(diff_locks(one, two))


def test_a_newer_glibc_in_name_only() -> None:
    """A lock for a newer glibc breaks nothing while its wheels load on the old one."""
    assert not breaks(diff_locks(_lock(_NUMPY), _lock(_NUMPY, glibc="2.39")))


def test_a_newer_glibc_that_wheels_need() -> None:
    """A lock whose wheels need a newer glibc than the former lock's breaks, and names them."""
    changes = diff_locks(_lock(), _lock("a-1.0-cp312-cp312-manylinux_2_39_x86_64.whl", glibc="2.39"))
    assert "1 wheel will not load on glibc 2.35 (Python 3.12): a" in _texts(changes)
    assert breaks(changes)


def test_the_engine_is_gone() -> None:
    """A lock without the engine that the former had breaks."""
    new = dataclasses.replace(_lock("a-1.0-py3-none-any.whl"), engine="a==1.0")
    new = dataclasses.replace(new, wheels=new.wheels[1:])
    assert breaks(diff_locks(_lock("a-1.0-py3-none-any.whl"), new))


def test_an_image_moved_to_another_python() -> None:
    """On another Python the binary wheels are counted and named, and the pure ones are not."""
    files = [f"{name}-1.0-cp312-cp312-manylinux_2_28_x86_64.whl" for name in ("a", "b", "c")]
    changes = diff_image(
        _lock(_NUMPY, *files, "pure-1.0-py3-none-any.whl", "stable-1.0-cp38-abi3-manylinux2014_x86_64.whl"),
        Image(packages={"numpy": "2.4.6"}, python="3.13"),
    )
    assert _texts(changes) == [
        "Python 3.13 in the image, the lock is for 3.12",
        "4 cp312 wheels will not load on 3.13: a, b, c, numpy",
        "numpy 2.1.3 → 2.4.6 in the image",
    ]
    assert breaks(changes)


def test_other_versions_in_the_image_break_nothing() -> None:
    """An isolated environment does not see the image's packages, so other versions there only inform."""
    changes = diff_image(_lock(_NUMPY), Image(packages={"numpy": "2.4.6", "other": "1"}, python="3.12"))
    assert _texts(changes) == ["numpy 2.1.3 → 2.4.6 in the image"]
    assert not breaks(changes)


def test_a_freeze_without_its_python() -> None:
    """A freeze that does not name its Python is taken for the lock's, and that is said."""
    changes = diff_image(_lock(), Image(packages={"engine": "1.0"}))
    assert _texts(changes) == ["the freeze does not name its Python (a line `# python 3.12` does); taken for 3.12"]


def test_an_older_glibc_in_the_image() -> None:
    """A wheel that needs a newer glibc than the image's breaks."""
    changes = diff_image(
        _lock("a-1.0-cp312-cp312-manylinux_2_39_x86_64.whl", glibc="2.39"),
        Image(packages={}, python="3.12", glibc="2.35"),
    )
    assert _texts(changes) == ["1 cp312 wheel will not load on 3.12 with glibc 2.35: a"]
    assert breaks(changes)


_OVERLAY = _lock(mode="overlay", preinstalled=(Preinstalled(name="torch", version="2.11.0+cu130"),))


@pytest.mark.parametrize(
    ("packages", "text"),
    [
        ({}, "torch 2.11.0+cu130 is gone from the image, and the overlay stands on it"),
        ({"torch": "2.12.0"}, "torch 2.11.0+cu130 → 2.12.0 in the image, and the overlay stands on the former"),
        (
            {"torch": "2.11.0+cu128"},
            "torch 2.11.0+cu130 → 2.11.0+cu128 in the image, and the overlay stands on the former",
        ),
    ],
)
def test_an_overlay_on_a_changed_image(packages: dict[str, str], text: str) -> None:
    """What an overlay stands on must stay as it was."""
    changes = diff_image(_OVERLAY, Image(packages=packages, python="3.12"))
    assert (_texts(changes), breaks(changes)) == ([text], True)


def test_an_overlay_on_its_image() -> None:
    """A freeze that leaves out the local version of torch, as metadata does, is the same image."""
    assert diff_image(_OVERLAY, Image(packages={"torch": "2.11.0"}, python="3.12")) == ()


def test_a_target_that_the_engine_cannot_run_on() -> None:
    """A lock whose engine cannot run on a target breaks there, with the table's reason."""
    lock = _lock("vllm-0.32.0-cp38-abi3-manylinux_2_28_x86_64.whl", engine="vllm==0.32.0")
    target = load_target("kaggle-t4x2").model_copy(update={"driver": "570.1", "pythons": ("3.12",)})
    changes = diff_target(lock, target)
    assert breaks(changes)
    assert "needs a driver of 580 or newer" in changes[0].text


def test_a_target_of_two_images() -> None:
    """Each image of a target is compared, and each sentence says whose it is."""
    target: Target = load_target("kaggle-t4x2")
    texts = _texts(diff_target(_lock(_NUMPY, "numpy2-1.0-py3-none-any.whl"), target))
    assert "numpy 2.1.3 → 2.4.6 in the image (Python 3.12)" in texts
    assert "1 cp312 wheel will not load on 3.13: numpy" in texts
