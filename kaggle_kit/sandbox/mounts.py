"""What a sealed process sees: mounts of this machine's files, an environment, a size limit.

The mounts are those of the caller, the system, and the Python that kit runs on. The seal `none` cannot mount: it lays
the same tree out with links.
"""

import os
import shutil
import stat
import sys
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
_LIBRARY_FOLDERS = ("lib", "lib64")


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
class Sandbox:
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
                return word if _is_in_place(mount) else f"{root}{word}"
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


def _is_in_place(mount: Mount) -> bool:
    return Path(mount.target).resolve() == mount.source


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def system_links() -> dict[str, str]:
    """System folders that are links on this machine (`/bin` → `usr/bin`), to be made again inside."""
    return {name: str(Path(name).readlink()) for name in _SYSTEM_FOLDERS if Path(name).is_symlink()}


def system_mounts() -> tuple[Mount, ...]:
    """The read-only mounts that every sandbox has: programs, libraries, a bare /etc, and /sys.

    vLLM reads the processor's shape from /sys (`lscpu`).
    """
    folders = [name for name in _SYSTEM_FOLDERS if Path(name).is_dir() and not Path(name).is_symlink()]
    own = [Mount(path, f"/etc/{path.name}") for path in sorted(_ETC.iterdir())]
    given = [Mount(Path(name).resolve(), name) for name in (*folders, *_SYSTEM_ETC, "/sys") if Path(name).exists()]
    return (*given, *own)


def base_python() -> Path:
    """The interpreter that environments stand on; in an environment sys.executable is a link in it."""
    return Path(getattr(sys, "_base_executable", "") or sys.executable)


def python_mounts() -> tuple[Mount, ...]:
    """The read-only mounts of the base Python: its programs and libraries, where the system's mounts lack them."""
    paths = dict.fromkeys(path for prefix in _base_prefixes() for path in installed_paths(prefix))
    return tuple(Mount(path, str(path)) for path in paths)


def installed_paths(prefix: Path) -> list[Path]:
    """What a Python that is installed at `prefix` needs: its programs, its libraries, and nothing else that lies there.

    The folder may be the user's home, or one that holds more of the user than a Python, such as ~/.local.
    """
    programs = [path for path in sorted((prefix / "bin").glob("python*")) if path.is_file()]
    return programs + [path for name in _LIBRARY_FOLDERS if (path := prefix / name).is_dir()]


def _base_prefixes() -> list[Path]:
    """The folders of the installation, as an environment knows them and as they are if a link is on the way."""
    places = (Path(sys.base_prefix), Path(sys.base_exec_prefix), base_python().resolve().parent.parent)
    prefixes = dict.fromkeys(path for place in places for path in (place.absolute(), place.resolve()))
    return [path for path in prefixes if path != Path("/") and not path.is_relative_to("/usr")]


def offline_environment() -> Mapping[str, str]:
    """Variables that make tools give up at once instead of waiting for a network that is not there."""
    dead = "http://127.0.0.1:9"
    proxies = {name: dead for each in ("http_proxy", "https_proxy", "all_proxy") for name in (each, each.upper())}
    switches = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "UV_OFFLINE", "PIP_NO_INDEX")
    return {**proxies, **dict.fromkeys(switches, "1"), "no_proxy": "127.0.0.1,localhost"}


def lay_out(sandbox: Sandbox, root: Path) -> None:
    """Make the sandbox's tree under `root`; a writable mount is a link to its folder.

    A read-only folder of /kaggle becomes a tree of real folders without write permission, whose files are links:
    nothing can be added or removed (but by root), yet a file's own permissions decide whether it can be overwritten.
    Other read-only folders are kit's own, and links: an engine's bytecode is tens of thousands of files.
    Raises SandboxError where `root` already holds something in the way.
    """
    try:
        for mount in sandbox.ordered_mounts():
            if _is_in_place(mount):
                continue
            target = Path(f"{root}{mount.target}")
            target.parent.mkdir(parents=True, exist_ok=True)
            if mount.writable or mount.source.is_file() or not mount.target.startswith("/kaggle/"):
                target.symlink_to(mount.source)
            else:
                _link_tree(mount, target)
        Path(f"{root}/kaggle/working").mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise SandboxError(
            f"{error.filename2 or error.filename} is in the way of the sandbox: give it an empty folder"
        ) from error


def _link_tree(mount: Mount, target: Path) -> None:
    target.mkdir(exist_ok=True)
    tree = [target]
    for folder, folders, names in os.walk(mount.source, followlinks=True):
        here = target / Path(folder).relative_to(mount.source)
        for name in folders:
            (here / name).mkdir(exist_ok=True)
            tree.append(here / name)
        for name in names:
            (here / name).symlink_to(Path(folder, name))
    for each in tree:
        each.chmod(0o555)


def translated_environment(sandbox: Sandbox, root: Path) -> dict[str, str]:
    """The sandbox's environment with its paths as they are under `root`.

    Added are the offline switches, and KIT_KAGGLE_ROOT, which says where /kaggle is.
    """
    inside = {
        name: os.pathsep.join(sandbox.outside(part, root) for part in value.split(os.pathsep))
        for name, value in sandbox.environment.items()
    }
    return {**offline_environment(), **inside, "KIT_KAGGLE_ROOT": f"{root}/kaggle"}


def remove_layout(folder: Path) -> None:
    """Delete what `lay_out` made: links, never what they lead to."""
    for each, folders, _ in os.walk(folder):
        for name in folders:
            path = Path(each, name)
            if not path.is_symlink():
                path.chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)
