"""Which wheel a machine would choose, for a machine that need not be this one.

The order of preference is that of PEP 425 as `packaging.tags` gives it; the manylinux platforms follow
PEP 600 (`manylinux_2_X`, and the older names manylinux2014 = 2.17, 2010 = 2.12, 1 = 2.5).
"""

import re
from collections.abc import Iterable, Sequence

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.outside import shown

_PAIR = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})")
_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_OLDEST_MINOR = {"x86_64": 5, "i686": 5}  # every other machine's manylinux begins with glibc 2.17


def target_tags(*, python: str, glibc: str, machine: str) -> tuple[Tag, ...]:
    """The tags that CPython `python` ("3.11") on Linux with `glibc` ("2.35") accepts, the best first."""
    version = number_pair(python, what="Python version")
    platforms = _platforms(glibc=glibc, machine=machine)
    return (
        *cpython_tags(python_version=version, platforms=platforms),
        *compatible_tags(python_version=version, interpreter=f"cp{version[0]}{version[1]}", platforms=platforms),
    )


def best_wheel(files: Iterable[str], tags: Sequence[Tag]) -> str | None:
    """The file that an installer with these `tags` would take: best tag first, then the highest build number.

    None where no file fits. Names that are not wheel file names never fit.
    """
    rank = {tag: place for place, tag in reversed(list(enumerate(tags)))}
    fitting = []
    for file in files:
        try:
            _, _, build, file_tags = parse_wheel_filename(file)
        except (InvalidWheelFilename, ValueError):  # ValueError: a number of 5,000 digits
            continue
        places = [rank[tag] for tag in file_tags if tag in rank]
        if places:
            fitting.append((-min(places), build, file))
    return max(fitting)[2] if fitting else None


def number_pair(text: str, *, what: str) -> tuple[int, int]:
    """ "3.11" as (3, 11). Raises WheelhouseError for anything but two numbers."""
    if not (found := _PAIR.fullmatch(text)):
        raise WheelhouseError(f"{what} {shown(text)} is not two numbers with a dot between, like 3.11")
    return int(found[1]), int(found[2])


def _platforms(*, glibc: str, machine: str) -> list[str]:
    major, newest = number_pair(glibc, what="glibc version")
    names = []
    for minor in range(newest, _OLDEST_MINOR.get(machine, 17) - 1, -1):
        names.append(f"manylinux_{major}_{minor}_{machine}")
        if minor in _OLD_NAMES:
            names.append(f"{_OLD_NAMES[minor]}_{machine}")
    return [*names, f"linux_{machine}"]
