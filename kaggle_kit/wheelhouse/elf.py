"""What a compiled library asks of the machine that loads it, read from its ELF file; nothing is loaded or run.

Libraries and symbol versions come from `.dynamic` and `.gnu.version_r` (pyelftools). GPU code lies in `.nv_fatbin`:
containers (magic 0xBA55ED50: u16 version, u16 header size, u64 bytes that follow) of entries, each with a header (u16
kind: 1 PTX, 2 machine code; u32 header size at 4, u64 payload size at 8, u32 compute capability at 28) before a payload
that may be compressed; the header never is. No CUDA documentation describes this layout; it is what the binaries of
CUDA 11 to 13 show.
"""

import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaggle_kit.errors import WheelhouseError

_CONTAINER = struct.pack("<I", 0xBA55ED50)
_CODE_SECTIONS = (".nv_fatbin", "__nv_relfatbin")
_PTX, _MACHINE_CODE = 1, 2


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
            tuple(int(part) for part in version.removeprefix(f"{prefix}_").split("."))
            for versions in self.versions.values()
            for version in versions
            if version.startswith(f"{prefix}_") and version.removeprefix(f"{prefix}_").replace(".", "").isdecimal()
        ]
        return max(numbers, default=None)

    def runs_on(self, capability: int) -> bool:
        """Whether some GPU code in it serves `capability` (75): machine code of the same major and no later minor,
        or PTX of the same or an earlier capability, which the driver compiles.
        """
        fits = any(code // 10 == capability // 10 and code <= capability for code in self.machine_code)
        return fits or any(code <= capability for code in self.ptx)


def read_elf(path: Path) -> Elf:
    """Read the library `path`. Raises WheelhouseError where it is no ELF file or is cut."""
    from elftools.common.exceptions import ELFError
    from elftools.construct import ConstructError
    from elftools.elf.elffile import ELFFile

    with path.open("rb") as stream:
        try:
            elf = ELFFile(stream)
            sections = {section.name: section for section in elf.iter_sections()}
            dynamic = _dynamic(sections)
            code = [
                found
                for name in _CODE_SECTIONS
                if name in sections and sections[name]["sh_type"] != "SHT_NOBITS"
                for found in _gpu_code(stream.fileno(), sections[name]["sh_offset"], sections[name]["sh_size"])
            ]
            strings = sections.get(".dynstr")
            return Elf(
                machine=str(elf.get_machine_arch()),
                soname=next(iter(dynamic["DT_SONAME"]), None),
                needed=tuple(dynamic["DT_NEEDED"]),
                versions=_versions(sections),
                machine_code=_counts(code, _MACHINE_CODE),
                ptx=_counts(code, _PTX),
                module=strings is not None and b"\0PyInit_" in strings.data(),
            )
        except (ELFError, ConstructError, struct.error, UnicodeDecodeError, ValueError, KeyError, OSError) as error:
            raise WheelhouseError(f"{path.name} is not a whole ELF file: {error}") from error


def _dynamic(sections: Mapping[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"DT_NEEDED": [], "DT_SONAME": []}
    if (section := sections.get(".dynamic")) is not None:
        for tag in section.iter_tags():
            if tag.entry.d_tag == "DT_NEEDED":
                found["DT_NEEDED"].append(tag.needed)
            elif tag.entry.d_tag == "DT_SONAME":
                found["DT_SONAME"].append(tag.soname)
    return found


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


def _counts(code: list[tuple[int, int]], wanted: int) -> dict[int, int]:
    found = [capability for kind, capability in code if kind == wanted]
    return {capability: found.count(capability) for capability in sorted(set(found))}
