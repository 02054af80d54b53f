"""Checks of compiled libraries: do they find what they need on the target, and does its GPU run their code?

Read from the files, so that CUDA wheels can be checked on a machine without a GPU.
"""

import re
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from packaging.utils import parse_wheel_filename

from kaggle_kit.child import child_environment
from kaggle_kit.wheelhouse.archive import Inspection
from kaggle_kit.wheelhouse.checks import Check, not_run, outcome
from kaggle_kit.wheelhouse.elf import Elf
from kaggle_kit.wheelhouse.resolve import number_pair

_ELF_MACHINES = {"x86_64": "x64", "aarch64": "AArch64"}

# What every manylinux system has: the policies of auditwheel (manylinux_2_28) and the dynamic loaders.
_SYSTEM = frozenset(
    {
        "ld-linux-x86-64.so.2",
        "ld-linux-aarch64.so.1",
        "libc.so.6",
        "libm.so.6",
        "libdl.so.2",
        "librt.so.1",
        "libpthread.so.0",
        "libutil.so.1",
        "libnsl.so.1",
        "libresolv.so.2",
        "libanl.so.1",
        "libmvec.so.1",
        "libgcc_s.so.1",
        "libstdc++.so.6",
        "libatomic.so.1",
        "libz.so.1",
        "libexpat.so.1",
        "libX11.so.6",
        "libXext.so.6",
        "libXrender.so.1",
        "libICE.so.6",
        "libSM.so.6",
        "libGL.so.1",
        "libgobject-2.0.so.0",
        "libgthread-2.0.so.0",
        "libglib-2.0.so.0",
    }
)
_DRIVER = re.compile(r"lib(cuda|nvidia-[a-z0-9-]+|cudadebugger|nvcuvid)\.so(\.\d+)*")
# Modules that their package tries and does without: path → what it does then.
_OPTIONAL = {
    "numba/np/ufunc/tbbpool": "numba tries its threading layers in turn",
    "numba/np/ufunc/omppool": "numba tries its threading layers in turn",
}
_CORE = re.compile(r"(.*/)?_C(_stable_libtorch)?(\.abi3|\.cpython-.*)?\.so")
_CUDA_RUNTIME = re.compile(r"lib(?:cudart|cublas|cublasLt|nvrtc|nvJitLink|cusparse)\.so\.([0-9]{1,6})")

# glibc of a distribution → the libstdc++ that comes with it: Ubuntu 20.04, Debian 11, Ubuntu 22.04, Debian 12,
# Ubuntu 24.04, Debian 13. An older glibc between two gets the older one's.
_LIBSTDCXX = {
    (2, 28): ((3, 4, 25), (1, 3, 11)),
    (2, 31): ((3, 4, 28), (1, 3, 12)),
    (2, 35): ((3, 4, 30), (1, 3, 13)),
    (2, 39): ((3, 4, 33), (1, 3, 15)),
    (2, 41): ((3, 4, 33), (1, 3, 15)),
}


@dataclass(frozen=True)
class Library:
    """A library of the set: the wheel's file, its name in the wheel, and what it asks for."""

    wheel: str
    name: str
    elf: Elf

    @property
    def place(self) -> str:
        """Where it is, for a finding."""
        return f"{self.name} in {self.wheel}"


def libraries(inspections: Mapping[str, Inspection]) -> list[Library]:
    """All libraries of the wheels."""
    return [
        Library(wheel, name, elf)
        for wheel, inspection in inspections.items()
        for name, elf in inspection.libraries.items()
    ]


def check_symbols(inspections: Mapping[str, Inspection], *, python: str, glibc: str, machine: str) -> Check:
    """No library asks for a newer glibc or libstdc++ than the target has; no module is for another processor.

    Other libraries for another processor are noted: some packages carry those of several.
    """
    faults = [why for inspection in inspections.values() for why in inspection.unreadable.values()]
    ceiling = number_pair(glibc, what="glibc version")
    cxx, abi = max((level for level in _LIBSTDCXX.items() if level[0] <= ceiling), default=(None, (None, None)))[1]
    native = []
    foreign: Counter[str] = Counter()
    for library in libraries(inspections):
        if library.elf.machine == _ELF_MACHINES.get(machine, library.elf.machine):
            native.append(library)
        elif library.elf.module:
            faults.append(f"{library.place} is for {library.elf.machine}, the target is {machine}")
        else:
            foreign[f"of {library.wheel} for {library.elf.machine}"] += 1

    for library in native:
        for prefix, limit in (("GLIBC", ceiling), ("GLIBCXX", cxx), ("CXXABI", abi)):
            asked = library.elf.newest(prefix)
            if asked and limit and asked > limit:
                faults.append(f"{library.place} needs {prefix}_{_dotted(asked)}, the target has {_dotted(limit)}")

    newest = max((asked for library in native if (asked := library.elf.newest("GLIBC"))), default=None)
    notes = [f"{len(native)} libraries; the newest glibc asked for is {_dotted(newest) if newest else 'none'}"]
    notes += [f"passed over: {count} libraries {what}" for what, count in foreign.items()]
    return outcome("symbols", python=python, faults=faults, notes=notes)


def check_needed(inspections: Mapping[str, Inspection], *, python: str, machine: str, gpus: bool, here: bool) -> Check:
    """Every library that a Python module needs is in the set, on every Linux, or comes with the GPU's driver.

    `here`: this machine stands for the target, so what it has counts, with a warning. What only a library needs
    that no module leads to (plugins that are loaded where their system is there) is noted.
    """
    native = [
        library
        for library in libraries(inspections)
        if library.elf.machine == _ELF_MACHINES.get(machine, library.elf.machine)
    ]

    provided = {library.name.rsplit("/", 1)[-1] for library in native}
    provided |= {library.elf.soname for library in native if library.elf.soname}
    reached = _reached(native)
    faults: list[str] = []
    warnings: dict[str, None] = {}
    plugins: dict[str, set[str]] = {}

    for library in native:
        for name in (needed.rsplit("/", 1)[-1] for needed in library.elf.needed):
            if name in provided or name in _SYSTEM or (gpus and _DRIVER.fullmatch(name)) or _is_python(name, python):
                continue
            if (library.wheel, library.name) not in reached:
                plugins.setdefault(library.wheel, set()).add(name)
            elif (stem := library.name.split(".", 1)[0]) in _OPTIONAL:
                warnings[f"{library.place} needs {name}, which is in no wheel: {_OPTIONAL[stem]}"] = None
            elif here and name in _of_this_machine():
                warnings[f"{name}, needed by {library.wheel}, is of no wheel; this machine has it"] = None
            else:
                faults.append(f"{library.place} needs {name}, which is in no wheel and not on every Linux")

    notes = [
        f"plugins of {wheel} that no Python module loads need {', '.join(sorted(names))}"
        for wheel, names in sorted(plugins.items())
    ]
    return outcome("libraries", python=python, faults=faults, warnings=list(warnings), notes=notes)


def check_cuda(inspections: Mapping[str, Inspection], *, python: str, cuda: str | None) -> Check:
    """No library is linked to a CUDA of a later major than the target's driver runs."""
    if cuda is None:
        return not_run("CUDA", "the target does not say which CUDA its driver runs (`cuda`)", python=python)
    ceiling = int(cuda.split(".")[0])
    majors: Counter[int] = Counter()
    faults = []
    for library in libraries(inspections):
        for needed in library.elf.needed:
            if (match := _CUDA_RUNTIME.fullmatch(needed)) is None:
                continue
            major = int(match[1])
            majors[major] += 1
            if major > ceiling:
                faults.append(f"{library.place} needs {needed}, the target's driver runs CUDA {cuda} at most")
    notes = [f"linked to CUDA {major}: {count} times" for major, count in sorted(majors.items())]
    return outcome("CUDA", python=python, faults=faults, notes=notes or ["no library is linked to CUDA"])


def check_gpu_code(inspections: Mapping[str, Inspection], *, python: str, capability: str | None, engine: str) -> Check:
    """The engine's and torch's GPU code runs on the target's compute capability ("7.5").

    One library of a wheel that fits is enough, for the engine the one that it is built around: kernels for other GPUs
    lie in libraries of their own, and are named. Code for one GPU alone (sm_90a) counts as sm_90.
    A wheel of another package without fitting code is a warning.
    """
    if capability is None:
        return not_run("GPU code", "the target does not say its compute capability", python=python)
    wanted = int(capability.replace(".", ""))
    faults: list[str] = []
    warnings: list[str] = []
    notes: list[str] = []

    first = sorted(inspections, key=lambda wheel: (_package(wheel) not in {engine, "torch"}, wheel))
    for wheel, inspection in ((wheel, inspections[wheel]) for wheel in first):
        coded = {name: elf for name, elf in inspection.libraries.items() if elf.machine_code or elf.ptx}
        if not coded:
            continue
        package = _package(wheel)
        fitting = {name: elf for name, elf in coded.items() if elf.runs_on(wanted)}
        pieces = sum(elf.machine_code.get(wanted, 0) for elf in fitting.values())
        core = [name for name in coded if package == engine and _CORE.fullmatch(name) and name not in fitting]
        if not fitting or core:
            text = (
                f"{wheel} has no GPU code for compute capability {capability}, only for {_codes(list(coded.values()))}"
            )
            (faults if package in {engine, "torch"} else warnings).append(text)
            continue
        unfit = [name for name in coded if name not in fitting]
        notes.append(
            f"{wheel}: {pieces} pieces of sm_{wanted} code in {len(fitting)} of {len(coded)} libraries"
            + (f"; not for this GPU: {', '.join(unfit)}" if unfit else "")
        )
    if not notes and not faults:
        faults.append(f"no wheel holds code for a GPU, and the target has one of compute capability {capability}")
    return outcome("GPU code", python=python, faults=faults, warnings=warnings, notes=notes)


def _reached(native: Sequence[Library]) -> set[tuple[str, str]]:
    """The wheel and name of each library that importing a module may load: modules, what they need, and so on."""
    by_name: dict[str, list[Library]] = {}
    for library in native:
        for name in {library.name.rsplit("/", 1)[-1], library.elf.soname or ""}:
            by_name.setdefault(name, []).append(library)
    waiting = [library for library in native if library.elf.module]
    reached: set[tuple[str, str]] = set()
    while waiting:
        library = waiting.pop()
        if (library.wheel, library.name) not in reached:
            reached.add((library.wheel, library.name))
            waiting += [other for needed in library.elf.needed for other in by_name.get(needed, [])]
    return reached


def _codes(elves: Sequence[Elf]) -> str:
    """The GPUs that some libraries have code for, as a text."""
    machine = {code for elf in elves for code in elf.machine_code}
    ptx = {code for elf in elves for code in elf.ptx}
    return ", ".join([*(f"sm_{code}" for code in sorted(machine)), *(f"PTX {code}" for code in sorted(ptx))])


def _package(wheel: str) -> str:
    """The canonical name in a wheel's file name."""
    return str(parse_wheel_filename(wheel)[0])


def _is_python(name: str, python: str) -> bool:
    return name in {f"libpython{python}.so.1.0", "libpython3.so"}


@cache
def _of_this_machine() -> frozenset[str]:
    """The libraries that this machine's loader knows."""
    for program in ("ldconfig", "/sbin/ldconfig"):
        try:
            done = subprocess.run([program, "-p"], env=child_environment(), capture_output=True, text=True, check=False)
        except OSError:
            continue
        return frozenset(line.split()[0] for line in done.stdout.splitlines()[1:] if line.strip())
    return frozenset()


def _dotted(numbers: Sequence[int]) -> str:
    return ".".join(map(str, numbers))
