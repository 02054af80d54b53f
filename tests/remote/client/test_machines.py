"""Machines: every spelling of one is the same, another is another, and what does not tell is told apart from both."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.remote.client.machines import same_accelerator, word
from kaggle_kit.remote.plan.checks import ACCELERATORS, RETIRED

T4 = "NvidiaTeslaT4"


def seen(shape, gpu=None, tpu=None):
    """What Kaggle says of a notebook's machine."""
    return SimpleNamespace(machine_shape=shape, gpu=gpu, tpu=tpu)


@pytest.mark.parametrize(
    "shape",
    [T4, "nvidiaTeslaT4", "NVIDIA_TESLA_T4", "GPU T4 x2", "gpuT4x2", "Tesla T4", "MACHINE_SHAPE_NVIDIA_TESLA_T4"],
)
def test_spellings_of_one_machine(shape):
    """Metadata, the editor and the protocol have words of their own for it."""
    assert same_accelerator(T4, seen(shape, gpu=True)) is True
    assert same_accelerator("NvidiaL4", seen(shape, gpu=True)) is False
    assert same_accelerator("", seen(shape)) is False


@pytest.mark.parametrize(
    ("asked", "shape"),
    [("NvidiaL4", "GPU L4 x4"), ("TpuV5E8", "TPU v5e-8"), ("Tpu1VmV38", "TPU VM v3-8"), ("NvidiaH100", "GPU H100")],
)
def test_words_of_the_editor(asked, shape):
    """The editor counts the cards, and sets the version of a TPU apart."""
    assert same_accelerator(asked, seen(shape)) is True


def test_known_machines_are_all_different():
    """No two shapes that Kaggle takes, or took, are one by accident."""
    known = [*ACCELERATORS, *(shape for shape in RETIRED if shape != "Tpu1VmV38")]
    assert len({word(shape) for shape in known}) == len(known)


@pytest.mark.parametrize("shape", ["None", "none", "CPU", "cpu", "Cpu"])
def test_a_machine_without_an_accelerator(shape):
    """It has several names."""
    assert same_accelerator(None, seen(shape)) is True
    assert same_accelerator("", seen(shape, gpu=False)) is True
    assert same_accelerator(T4, seen(shape, gpu=True)) is False


@pytest.mark.parametrize("shape", ["Gpu", "GPU", "", None, "n1-standard-4", "Standard"])
def test_what_does_not_say_which(shape):
    """With a GPU of some kind nothing is known of which; without one it is another machine."""
    assert same_accelerator(T4, seen(shape, gpu=True)) is None
    assert same_accelerator("TpuV5E8", seen(shape, gpu=True)) is False
    assert same_accelerator("", seen(shape, gpu=True)) is False


@pytest.mark.parametrize("shape", ["", None, "n1-standard-4"])
def test_what_says_nothing(shape):
    """Only the switch beside it tells, where there is one."""
    assert same_accelerator(T4, seen(shape, gpu=False)) is False
    assert same_accelerator("", seen(shape, gpu=False)) is True
    assert same_accelerator(T4, seen(shape)) is None
    assert same_accelerator("", seen(shape)) is None


@given(st.sampled_from(ACCELERATORS), st.sampled_from(["", "_", " ", "-"]), st.booleans())
def test_case_and_separators_tell_nothing_apart(shape, between, small):
    """However a shape is cut into words."""
    text = "".join(f"{between}{sign}" if sign.isupper() else sign for sign in shape)
    assert same_accelerator(shape, seen(text.lower() if small else text)) is True


@given(st.one_of(st.none(), st.text()), st.sampled_from([None, True, False]))
def test_no_word_is_an_accident(shape, gpu):
    """Whatever Kaggle says, it is an answer or none."""
    assert same_accelerator(T4, seen(shape, gpu=gpu)) in (True, False, None)
