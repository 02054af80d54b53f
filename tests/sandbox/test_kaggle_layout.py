"""The two mount layouts of Kaggle, for a dataset model and for a Kaggle Model."""

from pathlib import Path

import pytest

from kaggle_kit.project import load_project
from kaggle_kit.runtime.install import BYTECODE
from kaggle_kit.sandbox.image import Image
from kaggle_kit.sandbox.kaggle_layout import STYLES, input_mounts, kaggle_sandbox

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


@pytest.mark.parametrize("bytecode", [None, Path("/packages")])
def test_bytecode_is_read_only_and_named(tmp_path, bytecode):
    """The packages of this machine's own environment, in a place of their own; without them the run is Kaggle's."""
    sandbox = kaggle_sandbox(
        tmp_path / "n.ipynb",
        inputs=(),
        image=Image(Path("/image/bin/python"), ()),
        scratch=tmp_path,
        working_bytes=1,
        bytecode=bytecode,
    )
    mounted = [mount for mount in sandbox.mounts if mount.source == Path("/packages")]
    assert [mount.writable for mount in mounted] == ([False] if bytecode else [])
    assert sandbox.environment.get(BYTECODE) == (mounted[0].target if bytecode else None)
