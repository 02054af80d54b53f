"""An environment for a tool that cannot share one: the lock is the target's, and archives come by their hashes only."""

from __future__ import annotations

import pytest

from kaggle_kit.targets import load_target
from kaggle_kit.wheelhouse.lock import read_lock
from kaggle_kit.wheelhouse.quantizers import (
    ARCHIVES,
    AUTOAWQ,
    notebook_quantizer,
    quantizer_lock,
    quantizer_target,
)
from kaggle_kit.wheelhouse.ready import refuse_old_lock


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_quantisers_lock_is_its_targets(name):
    """Who changes `NAME.toml` makes the lock anew."""
    refuse_old_lock(read_lock(quantizer_lock(name)), quantizer_target(name), path=quantizer_lock(name))


@pytest.mark.parametrize(("name", "transformers"), [("autoawq", "4."), ("llmcompressor", "5.")])
def test_a_quantisers_lock_holds_what_it_lives_with(name, transformers):
    """Its own transformers, torch's CPU build, and peft."""
    versions = {wheel.name: wheel.version for wheel in read_lock(quantizer_lock(name)).wheels}
    assert versions["transformers"].startswith(transformers)
    assert versions["torch"].endswith("+cpu")
    assert "peft" in versions
    assert not {"triton", "torchvision"} & versions.keys()


def test_on_a_gpu_torch_is_the_indexs_own():
    """For Kaggle's Pythons, no build with a local version, which an index does not have; CUDA comes with it."""
    lock = read_lock(quantizer_lock("autoawq-cuda"))
    assert lock.pythons == load_target("kaggle-t4x2").pythons
    for python in lock.pythons:
        versions = {wheel.name: wheel.version for wheel in lock.wheels_for(python)}
        assert versions["transformers"] == "4.51.3"
        assert versions["torch"] == "2.13.0"
        assert {"triton", "nvidia-cublas", "peft", "setuptools"} <= versions.keys()


def test_on_kaggle_it_holds_what_the_image_imports():
    """The image's sitecustomize imports wrapt in every Python that starts, one of an environment of our own too."""
    lock = read_lock(quantizer_lock("autoawq-cuda"))
    assert all("wrapt" in {wheel.name for wheel in lock.wheels_for(python)} for python in lock.pythons)


@pytest.mark.parametrize(("target", "name"), [("kaggle-t4x2", "autoawq-cuda"), ("local-cpu", "autoawq")])
def test_a_notebook_quantises_with_its_targets_packages(target, name):
    """CUDA's where the target has GPUs."""
    assert notebook_quantizer(load_target(target)) == name


def test_an_archive_is_required_with_its_hash():
    """As pip and uv read it."""
    assert AUTOAWQ.requirement.startswith("autoawq==0.2.9 --hash=sha256:f33976")
