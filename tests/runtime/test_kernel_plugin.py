"""The vLLM plugin that selects the plain AWQ kernel, in the kit's own wheel."""

import sys
from importlib.metadata import distributions
from types import ModuleType

import pytest

from kaggle_kit.runtime import kernel_plugin
from kaggle_kit.wheelhouse.kit_wheel import build_kit_wheel

MODULES = ("vllm", "model_executor", "layers", "quantization", "auto_awq")


@pytest.fixture
def auto_awq(monkeypatch):
    """A module in the place of vLLM's, which is not installed where unit tests run."""
    for count in range(1, len(MODULES) + 1):
        name = ".".join(MODULES[:count])
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        if count > 1:
            setattr(sys.modules[".".join(MODULES[: count - 1])], MODULES[count - 1], module)
    module.check_marlin_supported = lambda *_, **__: True
    return module


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
    kernel_plugin.register()
    assert auto_awq.check_marlin_supported() is True


def test_another_vllm_is_an_error(auto_awq, monkeypatch):
    """A kernel that was asked for is never silently another."""
    monkeypatch.setenv(kernel_plugin.VARIABLE, "plain")
    del auto_awq.check_marlin_supported
    with pytest.raises(AttributeError, match="KIT_AWQ_KERNEL"):
        kernel_plugin.register()
