"""The 4-bit kernel: what can be selected where, and what is."""

import pytest

from kaggle_kit.errors import UsageError
from kaggle_kit.runtime.kernels import choose_kernel, obstacle

T4, A100, L4, H200, RTX6000 = (7, 5), (8, 0), (8, 9), (9, 0), (12, 0)
DISABLED = {"VLLM_DISABLED_KERNELS": "MacheteLinearKernel,CutlassW4A8LinearKernel"}
PLUGIN = {"KIT_AWQ_KERNEL": "plain"}
PLAIN = {"quantization": "awq"}


def choose(capability, version, **more):
    """The choice for an AWQ checkpoint."""
    return choose_kernel(**({"capability": capability, "version": version, "method": "awq"} | more))


@pytest.mark.parametrize(
    ("capability", "version", "kernel", "options"),
    [
        (T4, (0, 13, 0), "plain", PLAIN),
        (T4, (0, 14, 0), "marlin", {}),
        (T4, (0, 23, 0), "marlin", {}),
        (T4, (0, 32, 0), "marlin", {}),
        (A100, (0, 13, 0), "marlin", {}),
        (A100, (0, 5, 3), "plain", PLAIN),
        (L4, (0, 32, 0), "marlin", {}),
        (RTX6000, (0, 32, 0), "marlin", {}),
        (H200, (0, 18, 1), "plain", PLAIN),
        (H200, (0, 19, 1), "machete", {}),
        (H200, (0, 32, 0), "machete", {}),
    ],
)
def test_the_stated_default(capability, version, kernel, options):
    """Hopper goes by what an H200 measured; elsewhere Marlin, or what there is."""
    found = choose(capability, version)
    assert (found.kernel, dict(found.options), dict(found.environment)) == (kernel, options, {})


def test_an_unmeasured_choice_says_so():
    """Where two kernels can be had and nobody measured, the reason is honest."""
    assert choose(T4, (0, 23, 0)).reason == "the stated default: unmeasured on this card"
    assert choose(T4, (0, 32, 0)).reason == "the stated default: unmeasured on this card"
    assert choose(T4, (0, 13, 0)).reason == "the only one there is"


@pytest.mark.parametrize(
    ("capability", "version", "rates", "kernel", "options", "environment"),
    [
        (T4, (0, 23, 0), {"marlin": 400, "plain": 500}, "plain", PLAIN, {}),
        (T4, (0, 32, 0), {"marlin": 400, "plain": 500}, "plain", {}, PLUGIN),
        (H200, (0, 32, 0), {"marlin": 9e3, "machete": 8e3}, "marlin", {}, DISABLED),
        (A100, (0, 32, 0), {"machete": 9e3}, "marlin", {}, {}),
    ],
)
def test_a_measured_rate_wins(capability, version, rates, kernel, options, environment):
    """The fastest kernel that can be had is taken; a rate of one that cannot is passed over."""
    found = choose(capability, version, rates=rates)
    assert (found.kernel, dict(found.options), dict(found.environment)) == (kernel, options, environment)


def test_the_rates_are_in_the_reason():
    """A reader of the log sees the figures that decided."""
    found = choose(T4, (0, 23, 0), rates={"marlin": 4_000, "plain": 5_000})
    assert found.reason == "measured on this target, in tokens/s: plain 5,000, marlin 4,000"


@pytest.mark.parametrize(
    ("kernel", "capability", "version", "method", "reason"),
    [
        ("machete", T4, (0, 32, 0), "awq", "Machete runs on sm_90 (Hopper) only, the card is sm_75"),
        ("machete", RTX6000, (0, 32, 0), "awq", "Machete runs on sm_90 (Hopper) only, the card is sm_120"),
        ("machete", H200, (0, 18, 1), "awq", "vLLM 0.18.1 gives AWQ layers Marlin alone"),
        ("machete", H200, (0, 18, 1), "gptq", None),
        ("marlin", (6, 0), (0, 32, 0), "awq", "Marlin needs sm_75 or newer, the card is sm_60"),
        ("marlin", T4, (0, 13, 0), "awq", "Marlin needs sm_80 or newer before vLLM 0.14, the card is sm_75"),
        ("marlin", T4, (0, 14, 0), "awq", None),
        ("plain", T4, (0, 23, 0), "awq", None),
        ("plain", T4, (0, 24, 0), "awq", None),
        ("marlin-int8", T4, (0, 24, 0), "awq", None),
        ("marlin-int8", H200, (0, 25, 1), "compressed-tensors", None),
        ("marlin-int8", (7, 0), (0, 32, 0), "awq", "Marlin needs sm_75 or newer, the card is sm_70"),
        (
            "marlin-int8",
            T4,
            (0, 23, 0),
            "awq",
            "vLLM 0.23.0 is older than 0.24, from which on the kit's plugin admits zero points to it",
        ),
        ("plain", T4, (0, 23, 0), "gptq", "the plain kernel is for AWQ checkpoints, this one is gptq"),
    ],
)
def test_each_obstacle_has_a_reason(kernel, capability, version, method, reason):
    """What cannot run, or cannot be selected, says why."""
    assert obstacle(kernel, capability=capability, version=version, method=method) == reason


def test_a_wanted_kernel_is_taken_or_refused():
    """A kernel by name is never exchanged for another in silence."""
    assert dict(choose(H200, (0, 32, 0), wanted="marlin").environment) == DISABLED
    assert dict(choose(T4, (0, 32, 0), wanted="plain").environment) == PLUGIN
    with pytest.raises(UsageError, match=r"the kernel machete cannot be used: Machete runs on sm_90"):
        choose(T4, (0, 32, 0), wanted="machete")
    with pytest.raises(UsageError, match="no kernel 'cutlass'; use one of machete, marlin, plain, marlin-int8"):
        choose(T4, (0, 32, 0), wanted="cutlass")


@pytest.mark.parametrize(("capability", "more"), [(T4, {}), (H200, DISABLED)])
def test_int8_activations_are_vllms_own_switch(capability, more):
    """On Hopper Machete is out of the way too, which would else take the layers."""
    found = choose(capability, (0, 32, 0), wanted="marlin-int8")
    assert dict(found.environment) == {"VLLM_MARLIN_INPUT_DTYPE": "int8"} | more


def test_what_changes_the_answers_is_never_taken_unasked():
    """However fast int8 activations were measured, the fastest exact kernel is the choice."""
    assert choose(T4, (0, 32, 0), rates={"marlin": 400, "marlin-int8": 900}).kernel == "marlin"


def test_a_card_without_any_kernel_is_refused():
    """Every reason is told."""
    with pytest.raises(UsageError, match=r"no 4-bit kernel.*Machete.*Marlin needs sm_75.*AWQ needs sm_75"):
        choose((6, 0), (0, 10, 0))
