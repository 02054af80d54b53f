"""The page on the architecture: what it names is there, and its table is the one that the house is held to."""

import re
from pathlib import Path

import pytest
from test_house import FLOORS, GROUND, PACKAGE

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
PICTURE = PAGE.split("```")[1]
TABLE = dict(re.findall(r"^\| `(\w+)` \|[^|]+\| (.+) \|$", PAGE, flags=re.MULTILINE))


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:kaggle_kit|tests)/[\w/.]*)`", PAGE))))
def test_what_the_page_names_is_there(path):
    """A module that moves takes its line of the page along."""
    assert (ROOT / path).exists()


@pytest.mark.parametrize("package", FLOORS)
def test_each_package_stands_in_the_picture_and_the_table(package):
    """With the packages that it may import."""
    assert re.search(rf"(?m)(^| ) {package}\b", PICTURE)
    allowed = set(re.findall(r"`(\w+)`", TABLE[package]))
    assert allowed == (set() if package == "cli" else FLOORS[package])


def test_the_ground_stands_in_the_picture():
    """Every module that all packages may stand on."""
    line = next(line for line in PICTURE.splitlines() if line.startswith(" ground"))
    assert {word.strip(",") for word in line.split()[1:]} == GROUND


def test_one_module_has_one_name():
    """No module of the ground and no package share a name, so that a reader finds what the page means."""
    names = [path.stem for path in PACKAGE.glob("*.py")] + [path.name for path in PACKAGE.iterdir() if path.is_dir()]
    assert len(names) == len(set(names))
