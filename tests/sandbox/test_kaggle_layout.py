"""The two mount layouts of Kaggle, for a dataset model and for a Kaggle Model."""

from pathlib import Path

import pytest

from kaggle_kit.project import load_project
from kaggle_kit.sandbox.kaggle_layout import STYLES, input_mounts

EXPECTED = {
    ("2026", "small"): {
        "competitions/best-answer": "d",
        "datasets/ada/wheels-cpu": "w",
        "datasets/ada/small-model": "m",
    },
    ("flat", "small"): {"best-answer": "d", "wheels-cpu": "w", "small-model": "m"},
    ("2026", "published"): {
        "competitions/best-answer": "d",
        "datasets/ada/wheels-cpu": "w",
        "models/ada/small/pyTorch/awq/3": "m",
    },
    ("flat", "published"): {"best-answer": "d", "wheels-cpu": "w", "small/pyTorch/awq/3": "m"},
}


def mounts(minimal: Path, style: str, model: str):
    project = load_project(minimal)
    return input_mounts(
        project,
        style=style,
        data=Path("/d"),
        wheelhouse=("ada/wheels-cpu", Path("/w")),
        models=[(project.models[model], Path("/m"))],
    )


@pytest.mark.parametrize(("style", "model"), EXPECTED)
def test_places(minimal, style, model):
    """Each source is where Kaggle mounts it in this style."""
    found = {mount.target: mount.source for mount in mounts(minimal, style, model)}
    expected = EXPECTED[style, model].items()
    assert found == {f"/kaggle/input/{place}": Path(f"/{source}") for place, source in expected}


@pytest.mark.parametrize("style", STYLES)
def test_inputs_are_read_only(minimal, style):
    """No input can be written to."""
    assert not any(mount.writable for mount in mounts(minimal, style, "small"))
