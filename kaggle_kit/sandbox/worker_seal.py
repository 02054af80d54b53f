"""The seal of a worker on a user's own machine: the model and the rows to read, and nothing to find or to reach.

Everything stands at its own path, so that a job says the same inside and outside. Read-only are the Python with its
packages, the kit's own wheel, and the files that the caller names; what the worker writes on the way is a tmpfs of
limited size that ends with it. A card's device nodes are there where the engine is for cards: on an H200 (driver 580)
CUDA, NCCL within one card and Triton's compiler worked so in `unshare`; bubblewrap was not tried with a card.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_kit.child import child_environment
from kaggle_kit.errors import SandboxError
from kaggle_kit.files import home_folder
from kaggle_kit.runtime.supervisor import CACHES
from kaggle_kit.sandbox.mounts import Mount, Sandbox, installed_paths, offline_environment, refuse_special_files
from kaggle_kit.sandbox.seal import WORKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from kaggle_kit.runtime.launch import Program, Running
    from kaggle_kit.sandbox.seal import Seal

_SCRATCH_BYTES = 8 << 30
"""The most that caches and temporary files may take; a tmpfs takes what is written, and no more."""
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sys", "/dev")
_CARDS = ("nvidia[0-9]*", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps/*", "dxg")
"""What CUDA opens below /dev; /proc/driver/nvidia is in any proc, and libcuda among the system's libraries."""
_DEV = Path("/dev")
_UNIFIED = "nvidia-uvm"
_ASK = """
import json, sys
roots = [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix]
files = [sys.executable, getattr(sys, "_base_executable", "") or sys.executable]
print(json.dumps({"roots": roots, "files": files, "path": sys.path}))
"""


@dataclass(frozen=True)
class SealedLaunch:
    """Starts workers in `seal`, each in a sandbox of its own; with `cards` it sees this machine's."""

    seal: Seal
    cards: bool = False
    _environment: Mapping[str, str] = field(
        default_factory=lambda: {"HOME": WORKING, "TMPDIR": WORKING} | dict.fromkeys(CACHES, f"{WORKING}/cache")
    )

    def __call__(self, program: Program) -> Running:
        """Start `program` sealed. Raises SandboxError where something that it reads cannot be shown.

        The seal ends with the thread that called this: call it from one that stays as long as the worker.
        """
        python = Path(program.command[0])
        packages = [Path(part) for part in program.environment.get("PYTHONPATH", "").split(os.pathsep) if part]
        mounts = {
            path: Mount(path, str(path)) for path in _outermost((*python_paths(python), *packages, *program.reads))
        }
        mounts |= {path: Mount(path, str(path), writable=True) for path in map(_absolute, program.writes)}
        for path in program.reads:
            _refuse_links(path, program.reads)
            refuse_special_files(path)
        sandbox = Sandbox(
            mounts=(*mounts.values(), *(_card_mounts() if self.cards else ())),
            working_bytes=_SCRATCH_BYTES,
            environment={
                **offline_environment(),
                **program.environment,
                **self._environment,
                "PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin",
            },
            workdir=str(program.folder or WORKING),
        )
        pipe = subprocess.PIPE
        return self.seal.start(sandbox, program.command, stdin=pipe, stdout=pipe, stderr=pipe)


def _absolute(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))


def _outermost(paths: Iterable[Path]) -> Iterator[Path]:
    """The paths to be shown, as they are named; what lies within another is left out, and so are system folders.

    Raises SandboxError for a folder that holds the user's home.
    """
    outermost: list[Path] = []
    for path in sorted(dict.fromkeys(map(_absolute, paths)), key=lambda path: len(path.parts)):
        if _is_system(path) or any(path.is_relative_to(outer) for outer in outermost):
            continue
        if _holds_home(path):
            raise SandboxError(f"{path} holds your home folder, which no worker is shown: name a folder below it")
        outermost.append(path)
        yield path


def _refuse_links(folder: Path, shown: Sequence[Path]) -> None:
    """Raise SandboxError where a link in `folder` leads to what is not `shown`: inside it would lead to nothing."""
    if not folder.is_dir():
        return
    for link in (path for path in folder.iterdir() if path.is_symlink() and path.exists()):
        real = link.resolve()
        if not any(real.is_relative_to(other.resolve()) for other in (folder, *shown)):
            raise SandboxError(
                f"{link} is a link out of its folder, to {real}, and a sealed worker is shown the folder alone: "
                f"put the file itself there"
            )


def _holds_home(path: Path) -> bool:
    home = home_folder()
    return home.is_relative_to(path) or home.resolve().is_relative_to(path.resolve())


@cache
def python_paths(python: Path) -> tuple[Path, ...]:
    """The files and folders that a Python needs beside the system's own: its environment, its base, its packages.

    Raises SandboxError where the Python cannot be asked.
    """
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", _ASK], env=child_environment(), capture_output=True, check=True, timeout=60
        )
        answer = json.loads(done.stdout)
        roots, files, path = ([Path(part) for part in answer[name] if part] for name in ("roots", "files", "path"))
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        raise SandboxError(f"{python} cannot be asked what it needs: {error}; is it a Python?") from error
    needed: list[Path] = [python, *files, *(each.resolve() for each in (python, *files))]
    for root in dict.fromkeys((*roots, *(each.resolve() for each in roots))):
        needed += [root] if (root / "pyvenv.cfg").is_file() else installed_paths(root)
    needed += [place for place in path if not _holds_home(place)]
    return tuple(place for place in dict.fromkeys(needed) if place.exists() and not _is_system(place))


def _is_system(path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in _SYSTEM)


def _card_mounts() -> tuple[Mount, ...]:
    """The device nodes of this machine's cards. Raises SandboxError where CUDA's own is not made yet."""
    nodes = [path for pattern in _CARDS for path in sorted(_DEV.glob(pattern))]
    if any(path.name == "nvidiactl" for path in nodes) and not (_DEV / _UNIFIED).exists():
        raise SandboxError(
            f"/dev/{_UNIFIED} is missing, which CUDA makes at its first use, and cannot within a seal: make it with "
            f"nvidia-modprobe -u -c 0, or run any program that uses CUDA once"
        )
    return tuple(Mount(path, str(path), writable=True, device=True) for path in nodes)
