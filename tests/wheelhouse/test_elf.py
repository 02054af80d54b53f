"""Libraries, read from their files: what they need, and for which GPU they hold code."""

import shutil
from pathlib import Path

import pytest
from planted import compile_library, gpu_library, library_for_glibc

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.wheelhouse.elf import Elf, read_elf

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc here to make libraries with")


def _read(content: bytes, tmp_path: Path) -> Elf:
    path = tmp_path / "library.so"
    path.write_bytes(content)
    return read_elf(path)


def test_needed_libraries_and_versions(tmp_path: Path) -> None:
    """Each needed library is told, and each symbol version that is asked of it."""
    elf = _read(library_for_glibc(tmp_path / "gcc", "2.39"), tmp_path)
    assert elf.needed == ("libc.so.6",)
    assert elf.versions == {"libc.so.6": ("GLIBC_2.39",)}
    assert elf.newest("GLIBC") == (2, 39)
    assert elf.newest("GLIBCXX") is None
    assert elf.module


def test_versions_are_compared_as_numbers() -> None:
    """2.9 is older than 2.17, and GLIBCXX is not GLIBC; a private version counts for nothing."""
    elf = Elf(
        machine="x64", versions={"libc.so.6": ("GLIBC_2.9", "GLIBC_2.17", "GLIBC_PRIVATE"), "b": ("GLIBCXX_3.4",)}
    )
    assert elf.newest("GLIBC") == (2, 17)
    assert elf.newest("GLIBCXX") == (3, 4)


def test_own_name(tmp_path: Path) -> None:
    """The name by which others ask for it is told; without PyInit_ it is no module."""
    elf = _read(compile_library("int f(void) { return 1; }", tmp_path / "x.so", "-Wl,-soname,libx.so.3"), tmp_path)
    assert (elf.soname, elf.module, elf.machine_code) == ("libx.so.3", False, {})


def test_gpu_code(tmp_path: Path) -> None:
    """Pieces of machine code and of PTX are counted by compute capability, without unpacking them."""
    elf = _read(gpu_library(tmp_path, [(2, 75), (2, 75), (2, 90), (1, 80)]), tmp_path)
    assert elf.machine_code == {75: 2, 90: 1}
    assert elf.ptx == {80: 1}


@pytest.mark.parametrize(
    ("code", "capability", "runs"),
    [
        ([(2, 75)], 75, True),
        ([(2, 80)], 75, False),
        ([(2, 80)], 89, True),  # the same major, an earlier minor
        ([(2, 89)], 80, False),  # a later minor
        ([(2, 70)], 80, False),  # another major
        ([(1, 70)], 75, True),  # PTX is compiled by the driver for what comes later
        ([(1, 80)], 75, False),
        ([], 75, False),
    ],
)
def test_which_gpu_runs_it(tmp_path: Path, code: list[tuple[int, int]], capability: int, runs: bool) -> None:
    """Machine code runs within its major from its minor on; PTX on everything later."""
    assert _read(gpu_library(tmp_path, code), tmp_path).runs_on(capability) == runs


@pytest.mark.parametrize("content", [b"", b"no library", b"\x7fELF\x02\x01\x01" + bytes(9)])
def test_no_library(tmp_path: Path, content: bytes) -> None:
    """What is no ELF file, or was cut, is an error with its name."""
    with pytest.raises(WheelhouseError, match=r"library\.so is not a whole ELF file"):
        _read(content, tmp_path)


def test_a_cut_library(tmp_path: Path) -> None:
    """Half a library is an error too."""
    content = gpu_library(tmp_path, [(2, 75)])
    with pytest.raises(WheelhouseError, match="is not a whole ELF file"):
        _read(content[: len(content) // 2], tmp_path)
