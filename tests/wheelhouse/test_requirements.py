"""A lock as requirements: all of it, by hash, for each of its Pythons."""

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from kaggle_kit.wheelhouse.lock import Lock, LockedWheel, read_lock
from kaggle_kit.wheelhouse.quantizers import AUTOAWQ, quantizer_lock
from kaggle_kit.wheelhouse.requirements import archive_lines, requirement_lines


def wheel(name: str, version: str, tag: str, digit: str, *pythons: str) -> LockedWheel:
    return LockedWheel(
        name=name, version=version, file=f"{name}-{version}-{tag}.whl", sha256=digit * 64, size=1, pythons=pythons
    )


LOCK = Lock(
    target="x",
    pythons=("3.12", "3.13"),
    machine="x86_64",
    glibc="2.35",
    engine="a==1.0",
    wheels=(
        wheel("a", "1.0", "py3-none-any", "1"),
        wheel("b", "2.0", "cp312-cp312-linux_x86_64", "2", "3.12"),
        wheel("b", "2.0", "cp313-cp313-linux_x86_64", "3", "3.13"),
        wheel("c", "3.0", "py3-none-any", "4", "3.12"),
        wheel("c", "3.1", "py3-none-any", "5", "3.13"),
    ),
)


def test_the_lines():
    """One line for a package whose version all Pythons share, and one for each version otherwise."""
    assert requirement_lines(LOCK) == (
        f"a==1.0 --hash=sha256:{'1' * 64}",
        f"b==2.0 --hash=sha256:{'2' * 64} --hash=sha256:{'3' * 64}",
        f"c==3.0 ; python_version == '3.12' --hash=sha256:{'4' * 64}",
        f"c==3.1 ; python_version == '3.13' --hash=sha256:{'5' * 64}",
    )


@pytest.mark.parametrize("name", ["autoawq", "autoawq-cuda"])
def test_each_python_gets_its_packages(name):
    """Read as an installer reads them, the lines are the lock's packages, each with the hashes of its wheels."""
    lock = read_lock(quantizer_lock(name))
    for python in lock.pythons:
        found = {}
        for line in requirement_lines(lock):
            said, *hashes = line.split(" --hash=sha256:")
            requirement = Requirement(said)
            if requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
                (specifier,) = requirement.specifier
                assert specifier.operator == "=="
                found[requirement.name] = (Version(specifier.version), set(hashes))
        wanted = {one.name: (Version(one.version), one.sha256) for one in lock.wheels_for(python)}
        assert {each: version for each, (version, _) in found.items()} == {
            each: version for each, (version, _) in wanted.items()
        }
        assert all(sha256 in found[each][1] for each, (_, sha256) in wanted.items())


def test_an_archive_has_its_hash():
    """Source archives are named as wheels are."""
    assert archive_lines([AUTOAWQ]) == (f"autoawq==0.2.9 --hash=sha256:{AUTOAWQ.sha256}",)
