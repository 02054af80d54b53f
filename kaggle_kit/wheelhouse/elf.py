"""What a compiled library asks of the machine that loads it, read from its ELF file; nothing is loaded or run.

Libraries and symbol versions come from `.dynamic` and `.gnu.version_r` (pyelftools). GPU code lies in `.nv_fatbin`:
containers (magic 0xBA55ED50: u16 version, u16 header size, u64 bytes that follow) of entries, each with a header (u16
kind: 1 PTX, 2 machine code; u32 header size at 4, u64 payload size at 8, u32 compute capability at 28) before a payload
that may be compressed; the header never is. No CUDA documentation describes this layout; it is what the binaries of
CUDA 11 to 13 show.
"""

import io
import mmap
import os
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.outside import shown

_CONTAINER = struct.pack("<I", 0xBA55ED50)
_CODE_SECTIONS = (".nv_fatbin", "__nv_relfatbin")
_PTX, _MACHINE_CODE = 1, 2
_MOST_SECTIONS = 10_000
_MOST_READS = 5_000_000
_SPARE_BYTES = 64 << 20
_MOST_CAPABILITIES = 1000
_NUMBERS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,5}")


@dataclass(frozen=True, kw_only=True)
class Elf:
    """One library.

    `versions`: library → the symbol versions that are taken from it ("GLIBC_2.17"). `machine_code` and `ptx`: how many
    pieces of GPU code there are for each compute capability (75 is 7.5). `module`: Python can import it.
    """

    machine: str
    soname: str | None = None
    needed: tuple[str, ...] = ()
    versions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    machine_code: Mapping[int, int] = field(default_factory=dict)
    ptx: Mapping[int, int] = field(default_factory=dict)
    module: bool = False

    def newest(self, prefix: str) -> tuple[int, ...] | None:
        """The highest version with `prefix` ("GLIBC") that is asked of any library, as numbers; None for none."""
        numbers = [
            tuple(map(int, version.removeprefix(f"{prefix}_").split(".")))
            for versions in self.versions.values()
            for version in versions
            if version.startswith(f"{prefix}_") and _NUMBERS.fullmatch(version.removeprefix(f"{prefix}_"))
        ]
        return max(numbers, default=None)

    def runs_on(self, capability: int) -> bool:
        """Whether some GPU code in it serves `capability` (75): machine code of the same major and no later minor,
        or PTX of the same or an earlier capability, which the driver compiles.
        """
        fits = any(code // 10 == capability // 10 and code <= capability for code in self.machine_code)
        return fits or any(code <= capability for code in self.ptx)


class _Budget(io.BufferedReader):
    """A file that can be read only so often and so much: tables in it may say that they are endless."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._bytes = os.fstat(self.fileno()).st_size + _SPARE_BYTES
        self._reads = _MOST_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """As ever. Raises ValueError if the budget is used up."""
        body = super().read(self._bytes + 1 if size is None or size < 0 else min(size, self._bytes + 1))
        self._bytes -= len(body)
        self._reads -= 1
        if self._bytes < 0 or self._reads < 0:
            raise ValueError("its tables are longer than any library's")
        return body


def read_elf(path: Path) -> Elf:
    """Read the library `path`. Raises WheelhouseError if it is no ELF file or is cut."""
    with _Budget(path) as stream:
        try:
            return _elf(stream)
        except Exception as error:  # what pyelftools meets in tables that mean nothing is of any kind
            raise WheelhouseError(f"{path.name} is not a whole ELF file: {shown(str(error))}") from error


def _elf(stream: _Budget) -> Elf:
    from elftools.elf.elffile import ELFFile

    elf = ELFFile(stream)
    if elf.num_sections() > _MOST_SECTIONS:
        raise ValueError(f"it has {elf.num_sections():,} sections")
    sections = {section.name: section for section in elf.iter_sections()}
    dynamic = _dynamic(sections)
    code: Counter[tuple[int, int]] = Counter()
    for name in _CODE_SECTIONS:
        if name in sections and sections[name]["sh_type"] != "SHT_NOBITS":
            for piece in _gpu_code(stream.fileno(), sections[name]["sh_offset"], sections[name]["sh_size"]):
                code[piece] += 1
                if len(code) > _MOST_CAPABILITIES:
                    raise ValueError("it has code for more kinds of GPU than there are")
    return Elf(
        machine=str(elf.get_machine_arch()),
        soname=next(iter(dynamic["DT_SONAME"]), None),
        needed=tuple(dynamic["DT_NEEDED"]),
        versions=_versions(sections),
        machine_code=_counts(code, _MACHINE_CODE),
        ptx=_counts(code, _PTX),
        module=_is_module(sections.get(".dynstr")),
    )


def _is_module(strings: Any) -> bool:
    """Whether the table of names has one that Python calls. One that is packed or has no bytes is none of a module."""
    if strings is None or strings["sh_type"] == "SHT_NOBITS" or strings.compressed:
        return False
    return b"\0PyInit_" in strings.data()


def _dynamic(sections: Mapping[str, Any]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {"DT_NEEDED": [], "DT_SONAME": []}
    if (section := sections.get(".dynamic")) is not None:
        for tag in section.iter_tags():
            if tag.entry.d_tag == "DT_NEEDED":
                names["DT_NEEDED"].append(tag.needed)
            elif tag.entry.d_tag == "DT_SONAME":
                names["DT_SONAME"].append(tag.soname)
    return names


def _versions(sections: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    section = sections.get(".gnu.version_r")
    if section is None:
        return {}
    return {library.name: tuple(sorted(item.name for item in items)) for library, items in section.iter_versions()}


def _gpu_code(descriptor: int, start: int, size: int) -> Iterator[tuple[int, int]]:
    """The kind and the compute capability of each piece of GPU code in a section."""
    if not size:
        return
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as body:
        end = min(start + size, len(body))
        place = body.find(_CONTAINER, start, end)
        while 0 <= place <= end - 16:
            _, header, length = struct.unpack_from("<HHQ", body, place + 4)
            stop = min(place + header + length, end)
            yield from _entries(body, place + header, stop)
            place = body.find(_CONTAINER, max(stop, place + 16), end)


def _entries(body: mmap.mmap, place: int, stop: int) -> Iterator[tuple[int, int]]:
    while place <= stop - 32:
        kind, _, header, payload = struct.unpack_from("<HHIQ", body, place)
        (capability,) = struct.unpack_from("<I", body, place + 28)
        if header < 32:
            return  # no entry: what follows cannot be read
        yield kind, capability
        place += header + payload


def _counts(code: Mapping[tuple[int, int], int], wanted: int) -> dict[int, int]:
    return {capability: count for (kind, capability), count in sorted(code.items()) if kind == wanted}
