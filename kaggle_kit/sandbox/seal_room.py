"""What a sealed process sees: the mounts of its file tree, its environment, its size limit."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from kaggle_kit.errors import SandboxError

_ETC = Path(__file__).parent / "seal_etc"
_SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# What the dynamic linker and Debian's choice of programs need; all else of /etc tells about this machine.
_SYSTEM_ETC = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives")

MASKED = ("/proc/keys", "/proc/key-users")
"""Files of /proc that tell of the user's keyrings on this machine, empty inside."""
INPUT = "/kaggle/input"


@dataclass(frozen=True)
class Mount:
    """A file or folder of this machine, and its absolute place inside. Read-only unless `writable`.

    A `device` is a device's node, through which the card behind it is used.
    """

    source: Path
    target: str
    writable: bool = False
    device: bool = False


@dataclass(frozen=True)
class Room:
    """All that a sealed process sees beside the system's own folders.

    `working_bytes` is the size of the tmpfs at /kaggle/working; None where a mount is given for it instead.
    `environment` is the whole environment: nothing is inherited. Everything that is not in a writable mount,
    /kaggle/working or /dev/shm is read-only, /tmp included, which exists only as a mount.
    """

    mounts: tuple[Mount, ...]
    working_bytes: int | None
    environment: Mapping[str, str]
    workdir: str

    def check(self) -> None:
        """Raise SandboxError if a mount's source is missing, its target is not an absolute path, or an input is not
        made of files: a socket in it would lead to a program of this machine, whatever the seal.
        """
        for mount in self.mounts:
            if not mount.source.exists():
                raise SandboxError(f"{mount.source}, which is to be {mount.target} in the sandbox, does not exist")
            if not mount.target.startswith("/") or ".." in PurePosixPath(mount.target).parts:
                raise SandboxError(f"a mount's target must be an absolute path, and {mount.target!r} is not one")
            if _is_below(mount.target, INPUT):
                refuse_special_files(mount.source)

    def ordered_mounts(self) -> tuple[Mount, ...]:
        """The mounts with resolved sources, outer folders before what is mounted within them."""
        ordered = sorted(self.mounts, key=lambda mount: len(PurePosixPath(mount.target).parts))
        return tuple(replace(mount, source=mount.source.resolve()) for mount in ordered)

    def outside(self, word: str, root: Path) -> str:
        """Where the seal `none` has the inside path `word`; any other word is returned as it is.

        Paths inside are those at or below a mount's target or /kaggle. A mount at its own path stays there.
        """
        for mount in reversed(self.ordered_mounts()):
            if _is_below(word, mount.target):
                return word if _stays(mount) else f"{root}{word}"
        return f"{root}{word}" if _is_below(word, "/kaggle") else word


def refuse_special_files(source: Path) -> None:
    """Raise SandboxError if `source` is, or has below it, a socket, a pipe or a device. Links are not followed."""
    modes = [(source, source.stat().st_mode)]
    if stat.S_ISDIR(modes[0][1]):
        paths = (Path(each, name) for each, _, names in os.walk(source) for name in names)
        # A file that went away meanwhile is not there to be opened either.
        modes = [(path, path.lstat().st_mode) for path in paths if os.path.lexists(path)]
    for path, mode in modes:
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise SandboxError(f"{path} is neither a file nor a folder; take it out of what a sealed run is given")


def _stays(mount: Mount) -> bool:
    return Path(mount.target).resolve() == mount.source


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def system_links() -> dict[str, str]:
    """System folders that are links on this machine (`/bin` → `usr/bin`), to be made again inside."""
    return {name: str(Path(name).readlink()) for name in _SYSTEM_FOLDERS if Path(name).is_symlink()}


def system_mounts() -> tuple[Mount, ...]:
    """The read-only mounts that every room has: programs, libraries, a bare /etc, and /sys.

    vLLM reads the processor's shape from /sys (`lscpu`).
    """
    folders = [name for name in _SYSTEM_FOLDERS if Path(name).is_dir() and not Path(name).is_symlink()]
    own = [Mount(path, f"/etc/{path.name}") for path in sorted(_ETC.iterdir())]
    given = [Mount(Path(name).resolve(), name) for name in (*folders, *_SYSTEM_ETC, "/sys") if Path(name).exists()]
    return (*given, *own)
