"""The vLLM plugin that selects 4-bit kernels, in the kit's own wheel."""

import sys
from dataclasses import dataclass
from importlib.metadata import distributions
from types import ModuleType, SimpleNamespace

import pytest

from kaggle_kit.runtime import kernel_plugin
from kaggle_kit.wheelhouse.folder import build_kit_wheel

MODULES = ("vllm", "model_executor", "layers", "quantization", "auto_awq")


KERNEL = ("vllm", "model_executor", "kernels", "linear", "mixed_precision", "marlin")


def stand_in(monkeypatch, parts):
    """A module in the place of vLLM's, which is not installed where unit tests run."""
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        module = sys.modules.get(name) or ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        if count > 1:
            setattr(sys.modules[".".join(parts[: count - 1])], parts[count - 1], module)
    return module


@pytest.fixture
def auto_awq(monkeypatch):
    """Where AWQ layers choose their kernel."""
    module = stand_in(monkeypatch, MODULES)
    module.check_marlin_supported = lambda *_, **__: True
    return module


@dataclass(frozen=True)
class Number:
    """A number type as vLLM describes them."""

    bits: int
    bias: int


FOUR, FOUR_BIASED, EIGHT_BIASED = Number(4, 0), Number(4, 8), Number(8, 128)


@pytest.fixture
def prepare(monkeypatch):
    """How Marlin makes a layer ready with activations of so many bytes: vLLM's own assertion, and the type after it."""

    class MarlinLinearKernel:
        def __init__(self, config):
            self.config = config

        def process_weights_after_loading(self, _):
            if self.config.act_type.itemsize == 1:
                assert self.config.weight_type == FOUR_BIASED

    stand_in(monkeypatch, KERNEL).MarlinLinearKernel = MarlinLinearKernel
    stand_in(monkeypatch, ("vllm", "scalar_type")).scalar_types = SimpleNamespace(uint4=FOUR, uint4b8=FOUR_BIASED)

    def call(weight_type, *, act_bytes):
        kernel_plugin.register()
        config = SimpleNamespace(act_type=SimpleNamespace(itemsize=act_bytes), weight_type=weight_type)
        kernel = MarlinLinearKernel(config)
        kernel.process_weights_after_loading(None)
        return kernel.config.weight_type

    return call


def test_the_wheel_names_the_plugin(tmp_path):
    """vLLM finds it among the entry points of the group that it loads in every process."""
    wheel = build_kit_wheel(tmp_path)
    (found,) = distributions(path=[str(wheel)])
    (point,) = found.entry_points
    assert (point.group, point.load()) == ("vllm.general_plugins", kernel_plugin.register)


def test_it_selects_the_plain_kernel(auto_awq, monkeypatch):
    """Where the variable asks for it, Marlin counts as not supported."""
    monkeypatch.setenv(kernel_plugin.VARIABLE, "plain")
    kernel_plugin.register()
    assert auto_awq.check_marlin_supported(4, 128, has_zp=True) is False


def test_otherwise_vllm_chooses(auto_awq, monkeypatch):
    """Without the variable nothing is changed."""
    monkeypatch.delenv(kernel_plugin.VARIABLE, raising=False)
    monkeypatch.delenv(kernel_plugin.INPUT_TYPE, raising=False)
    kernel_plugin.register()
    assert auto_awq.check_marlin_supported() is True


def test_another_vllm_is_an_error(auto_awq, monkeypatch):
    """A kernel that was asked for is never silently another."""
    monkeypatch.setenv(kernel_plugin.VARIABLE, "plain")
    del auto_awq.check_marlin_supported
    with pytest.raises(AttributeError, match="KIT_AWQ_KERNEL"):
        kernel_plugin.register()


def test_int8_activations_are_for_zero_points_too(prepare, monkeypatch):
    """With the switch on, 4-bit weights with zero points pass the assertion, and stay what they are for the kernel."""
    monkeypatch.setenv(kernel_plugin.INPUT_TYPE, "int8")
    kind = prepare(FOUR, act_bytes=1)
    assert (kind.bits, kind.bias) == (FOUR.bits, FOUR.bias)
    assert kind == FOUR_BIASED
    assert hash(kind) == hash(FOUR)


def test_8_bit_weights_are_still_kept_away(prepare, monkeypatch):
    """What the assertion is for still fails."""
    monkeypatch.setenv(kernel_plugin.INPUT_TYPE, "int8")
    with pytest.raises(AssertionError):
        prepare(EIGHT_BIASED, act_bytes=1)


def test_other_activations_keep_their_types(prepare, monkeypatch):
    """A layer with activations of 16 bits is not touched."""
    monkeypatch.setenv(kernel_plugin.INPUT_TYPE, "int8")
    assert prepare(FOUR, act_bytes=2) is FOUR


def test_without_the_switch_zero_points_are_refused(prepare, monkeypatch):
    """Nothing is changed unasked."""
    monkeypatch.delenv(kernel_plugin.INPUT_TYPE, raising=False)
    with pytest.raises(AssertionError):
        prepare(FOUR, act_bytes=1)
