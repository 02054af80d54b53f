"""Overlays: only what the image lacks, or has in a version that will not do."""

from pathlib import Path

import pytest
from fake_index import Index

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.targets import Target, load_target
from kaggle_kit.wheelhouse.lock import Lock, Preinstalled, dump_lock, read_lock
from kaggle_kit.wheelhouse.resolve import replaced, resolve

_LOCKS = Path(__file__).parents[2] / "wheels"


def _over(target: Target, **installed: str) -> Target:
    return target.model_copy(update={"mode": "overlay", "installed": {"3.11": installed}})


def _files(lock: Lock) -> list[str]:
    return [wheel.file for wheel in lock.wheels]


def test_what_the_image_has_stays_out(stocked: Index, target: Target) -> None:
    """A package that the image has in the resolved version is not in the lock, which records that it stands on it."""
    assert stocked.port
    lock = resolve(_over(target, child="0.1")).lock
    assert "child-0.1-py3-none-any.whl" not in _files(lock)
    assert lock.preinstalled == (Preinstalled(name="child", version="0.1"),)
    assert lock.mode == "overlay"


def test_an_older_version_that_will_do_is_kept(stocked: Index, target: Target) -> None:
    """The image's version is kept though the index has a newer one."""
    stocked.add("helper-1.2-py3-none-any.whl")
    lock = resolve(_over(target, helper="1.2")).lock
    assert not [wheel for wheel in lock.wheels if wheel.name == "helper"]


def test_a_version_that_will_not_do_is_laid_over(stocked: Index, target: Target) -> None:
    """A version of the image that the engine refuses is in the lock in another one, and is named as replaced."""
    assert stocked.port
    over = _over(target, binary="1.0")
    lock = resolve(over).lock
    assert "binary-2.0-cp311-cp311-manylinux_2_28_x86_64.whl" in _files(lock)
    assert replaced(lock, over) == (("binary", "1.0", "2.0"),)


def test_a_local_version_counts_as_its_public_one(stocked: Index, target: Target) -> None:
    """The image's `2.0+cu130` is the index's 2.0, and is recorded as the image calls it."""
    assert stocked.port
    lock = resolve(_over(target, binary="2.0+cu130")).lock
    assert lock.preinstalled == (Preinstalled(name="binary", version="2.0+cu130"),)


def test_the_same_overlay_twice(stocked: Index, target: Target) -> None:
    """The same image and index give the same lock, byte for byte."""
    assert stocked.port
    over = _over(target, child="0.1", binary="1.0")
    assert dump_lock(resolve(over).lock) == dump_lock(resolve(over).lock)


def test_without_a_freeze(stocked: Index, target: Target) -> None:
    """An overlay for an image that nobody knows is refused, with the way to tell and the other mode."""
    with pytest.raises(
        WheelhouseError, match=r"what its image has for Python 3\.11[\s\S]*pip freeze[\s\S]*--mode isolated"
    ):
        resolve(target, mode="overlay")
    assert stocked.requests == []


def test_isolated_takes_no_notice_of_the_image(stocked: Index, target: Target) -> None:
    """The mode `isolated` locks everything, whatever the image has."""
    assert stocked.port
    lock = resolve(_over(target, child="0.1"), mode="isolated").lock
    assert "child-0.1-py3-none-any.whl" in _files(lock)
    assert (lock.mode, lock.preinstalled) == ("isolated", ())


def test_the_real_overlay_leaves_torch_alone() -> None:
    """The committed overlay for the H200 brings neither torch nor any CUDA library, and stands on the image's."""
    lock = read_lock(_LOCKS / "pylock.offline-h200.toml")
    names = {wheel.name for wheel in lock.wheels}
    assert not {name for name in names if name in {"torch", "triton"} or name.startswith("nvidia-")}
    assert Preinstalled(name="torch", version="2.11.0+cu130") in lock.preinstalled


def test_the_real_overlay_and_the_image_share_no_version() -> None:
    """No wheel of the committed overlay repeats what the image has already."""
    target, lock = load_target("offline-h200"), read_lock(_LOCKS / "pylock.offline-h200.toml")
    assert not [wheel for wheel in lock.wheels if target.installed["3.12"].get(wheel.name) == wheel.version]
