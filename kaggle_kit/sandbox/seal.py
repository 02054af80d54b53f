"""The seal of a dry run: a copy of Kaggle's file tree with no network and a process space of its own.

Three seals give the same `Room`: bubblewrap, util-linux's `unshare` with a builder of our own, and a plain process
that says in `unsealed` what it leaves open. The last is used only if it is asked for by name: a machine on which
neither of the others works runs nothing by itself.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NotRequired, Protocol, TypedDict, Unpack

from kaggle_kit.errors import SandboxError, SealError
from kaggle_kit.sandbox import seal_driver, seal_unshare
from kaggle_kit.sandbox.seal_filter import seccomp_program
from kaggle_kit.sandbox.seal_layout import lay_out, offline_environment, remove_layout, translate
from kaggle_kit.sandbox.seal_process import Sealed
from kaggle_kit.sandbox.seal_room import MASKED, Mount, Room, system_links, system_mounts

__all__ = [
    "Mount",
    "Room",
    "Seal",
    "Sealed",
    "choose_seal",
    "driver_command",
    "driver_mount",
    "offline_environment",
]

WORKING = "/kaggle/working"
_DRIVER = "/kit/seal_driver.py"
_PROBE_SECONDS = 20.0


class Streams(TypedDict):
    """What a sealed command is started with; without `stdin` it has nothing to read. It inherits `pass_fds`."""

    stdout: int | IO[bytes] | None
    stderr: int | IO[bytes] | None
    stdin: NotRequired[int | IO[bytes]]
    pass_fds: NotRequired[Sequence[int]]


class Seal(Protocol):
    """A way to run a command in a room."""

    @property
    def name(self) -> str:
        """`bwrap`, `unshare` or `none`."""

    @property
    def unsealed(self) -> tuple[str, ...]:
        """What this seal should close and does not: plain sentences, none if it is a strong one."""

    @property
    def left_open(self) -> tuple[str, ...]:
        """What no seal of this kind closes, in a few words each."""

    def start(self, room: Room, command: Sequence[str], **streams: Unpack[Streams]) -> Sealed:
        """Start `command` (its first word an absolute path as seen inside).

        The seal ends with the thread that called this, so that nothing outlives a killed kit: call it from a
        thread that stays. Raises SandboxError where a mount's source is missing.
        """


def driver_mount() -> Mount:
    """The mount that puts the driver inside."""
    return Mount(source=Path(seal_driver.__file__), target=_DRIVER)


def driver_command(
    python: Path,
    command: Sequence[str],
    *,
    outlet: int,
    most_bytes: int,
    working: str = WORKING,
    also: Sequence[str] = (),
    grace_seconds: float = 10.0,
) -> list[str]:
    """`command` run by the driver, which sends the files of `working` to `outlet` at its end or if stopped.

    `outlet` is a descriptor that the command is started with, `also` are files to send besides, all of `most_bytes`
    at most.
    """
    options = ["--working", working, "--outlet", str(outlet), "--most", str(most_bytes), "--grace", str(grace_seconds)]
    for path in also:
        options += ["--also", path]
    return [str(python), "-I", _DRIVER, *options, "--", *command]


_LEFT_OPEN = (
    "memory and processor time are not limited",
    "the kernel is this machine's own",
    "/sys tells what hardware it has",
)


def _bind_word(mount: Mount) -> str:
    """What bwrap calls the mount: any other than the first keeps devices from being used."""
    if mount.device:
        return "--dev-bind"
    return "--bind" if mount.writable else "--ro-bind"


@dataclass(frozen=True)
class _Bubblewrap:
    flags: tuple[str, ...]
    name: str = "bwrap"
    unsealed: tuple[str, ...] = ()
    left_open: tuple[str, ...] = _LEFT_OPEN

    def argv(self, room: Room, command: Sequence[str], *, filter_from: int) -> list[str]:
        argv = [_program("bwrap"), *self.flags, "--unshare-all", "--die-with-parent", "--new-session"]
        argv += ["--cap-drop", "ALL", "--clearenv", "--seccomp", str(filter_from), "--proc", "/proc", "--dev", "/dev"]
        # For the kernel real root stays real root in a user namespace: /proc/sys would be writable for it.
        argv += ["--ro-bind", "/proc/sys", "/proc/sys"]
        for name in MASKED:
            argv += ["--ro-bind", "/dev/null", name]
        # Without it /etc, made for the files in it, is closed to all but its owner.
        argv += ["--dir", "/etc"]
        for link, where in system_links().items():
            argv += ["--symlink", where, link]
        for mount in (*system_mounts(), *room.ordered_mounts()):
            argv += [_bind_word(mount), str(mount.source), mount.target]
        if room.working_bytes is not None:
            argv += ["--perms", "0755", "--size", str(room.working_bytes), "--tmpfs", WORKING]
        argv += ["--remount-ro", "/"]
        for name, value in room.environment.items():
            argv += ["--setenv", name, value]
        return [*argv, "--chdir", room.workdir, "--", *command]

    def start(self, room: Room, command: Sequence[str], **streams: Unpack[Streams]) -> Sealed:
        room.check()
        with _program_file() as filter_from:
            argv = self.argv(room, command, filter_from=filter_from)
            streams["pass_fds"] = (*streams.get("pass_fds", ()), filter_from)
            process = _popen(argv, **streams)
        return Sealed(process, depth=2)


@dataclass(frozen=True)
class _Unshare:
    flags: tuple[str, ...]
    name: str = "unshare"
    unsealed: tuple[str, ...] = ()
    left_open: tuple[str, ...] = _LEFT_OPEN

    def argv(self, room: Room, command: Sequence[str]) -> list[str]:
        size = room.working_bytes
        plan = {
            "links": system_links(),
            "mounts": [
                [str(mount.source), mount.target, mount.writable, mount.device]
                for mount in (*system_mounts(), *room.ordered_mounts())
            ],
            "tmpfs": {} if size is None else {WORKING: size},
            "masked": MASKED,
            "seccomp": _filter().hex(),
            "workdir": room.workdir,
            "environment": dict(room.environment),
            "command": list(command),
        }
        # Unlike bwrap, unshare ends its child with itself but not itself with kit.
        argv = [_program("setpriv"), "--pdeathsig", "KILL", "--", _program("unshare"), *self.flags]
        argv += ["--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child", "--"]
        return [*argv, sys.executable, "-I", "-S", "-B", seal_unshare.__file__, json.dumps(plan)]

    def start(self, room: Room, command: Sequence[str], **streams: Unpack[Streams]) -> Sealed:
        room.check()
        return Sealed(_popen(self.argv(room, command), **streams), depth=2)


_STILL_ROOT = "The command is this machine's root, without capabilities but with no user namespace of its own."
_NOTHING_SEALED = (
    "The network is not closed: only proxies that lead nowhere and offline switches discourage its use.",
    "Every file that this user may read or write is visible and writable, the input's own files included.",
    "The processes of this machine are visible, and those of this user can be signalled.",
    "The size of /kaggle/working is not limited.",
    "/kaggle is not at its own path: the notebook finds it through KIT_KAGGLE_ROOT.",
)


@dataclass(frozen=True)
class _Plain:
    root: Path | None = None
    name: str = "none"
    unsealed: tuple[str, ...] = field(default=_NOTHING_SEALED)
    left_open: tuple[str, ...] = ()

    def start(self, room: Room, command: Sequence[str], **streams: Unpack[Streams]) -> Sealed:
        room.check()
        root = self.root or Path(tempfile.mkdtemp(prefix="kit-kaggle-"))
        try:
            lay_out(room, root)
        except BaseException:
            if self.root is None:
                remove_layout(root)
            raise
        streams.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen(
            [room.outside(word, root) for word in command],
            env=translate(room, root),
            cwd=room.outside(room.workdir, root),
            start_new_session=True,
            **streams,
        )
        return Sealed(process, depth=0, remove=None if self.root else root)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        packages = {"bwrap": "bubblewrap"}
        raise SandboxError(f"{name} is not installed: install the package {packages.get(name, 'util-linux')}")
    return found


def _popen(argv: Sequence[str], **streams: Unpack[Streams]) -> subprocess.Popen[bytes]:
    # Process 1 of the room shows its environment in /proc: it gets none. A session of its own keeps Ctrl-C
    # from ending the seal before the driver has brought the files out.
    streams.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.Popen(argv, env={}, cwd="/", start_new_session=True, **streams)


def _filter() -> bytes:
    program = seccomp_program()
    if program is None:
        raise SandboxError("the seal does not know the system calls of this machine's processor")
    return program


@contextmanager
def _program_file() -> Iterator[int]:
    """A descriptor from which bubblewrap reads the filter of system calls."""
    descriptor = os.memfd_create("kit-seal-filter")
    try:
        os.write(descriptor, _filter())
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def choose_seal(wanted: str | None = None, *, root: Path | None = None) -> Seal:
    """The seal called `wanted` (`bwrap`, `unshare`, `none`), or the strongest that works on this machine.

    Each is tried with a real command first. `root` is the folder in which the seal `none` lays out /kaggle
    (a temporary one, removed afterwards, where it is not given).
    Raises SealError if the wanted seal, or without one any strong seal, does not work here, with the reasons.
    """
    if wanted == "none":
        return _Plain(root)
    if wanted not in {None, "bwrap", "unshare"}:
        raise SealError(f"there is no seal {wanted!r}: choose bwrap, unshare or none")
    reasons = []
    for seal in _candidates():
        if wanted not in {None, seal.name}:
            continue
        reason = _why_not(seal)
        if reason is None:
            return seal
        if (told := f"{seal.name}: {reason}") not in reasons:
            reasons.append(told)
    which = f"the seal {wanted} does" if wanted else "neither seal, bwrap or unshare, does"
    raise SealError(
        f"nothing was started: {which} not work on this machine.\n"
        + "".join(f"  {reason}\n" for reason in reasons)
        + "".join(f"{way}\n" for way in _ways_out())
        + "To run without a seal what you trust like a program of your own, say --seal none."
    )


def _ways_out() -> list[str]:
    """What makes a strong seal work on this machine."""
    ways = []
    if shutil.which("bwrap") is None:
        ways.append("Install bubblewrap: apt install bubblewrap, or the package of this name on your system.")
    if _says(_APPARMOR, "1"):
        ways.append(
            "AppArmor keeps ordinary users from making namespaces here (Ubuntu does since 23.10). Allow it for "
            "bubblewrap alone: write these lines to /etc/apparmor.d/bwrap, then: sudo apparmor_parser -r "
            f"/etc/apparmor.d/bwrap\n{_PROFILE}"
        )
    if _says(_NAMESPACES, "0"):
        ways.append(f"User namespaces are switched off here: sudo sysctl {_NAMESPACES.name}=1 under user or kernel.")
    return ways


_APPARMOR = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
_NAMESPACES = Path("/proc/sys/kernel/unprivileged_userns_clone")
_PROFILE = """  abi <abi/4.0>,
  include <tunables/global>
  profile bwrap /usr/bin/bwrap flags=(unconfined) {
    userns,
  }"""


def _says(setting: Path, value: str) -> bool:
    try:
        return setting.read_text(encoding="ascii").strip() == value
    except OSError:
        return False


def _candidates() -> list[_Bubblewrap | _Unshare]:
    is_root = os.geteuid() == 0
    kept = (_STILL_ROOT,) if is_root else ()
    own = ("--unshare-user", "--uid", "0", "--gid", "0")
    found: list[_Bubblewrap | _Unshare] = [
        # Versions before 0.8 do not know the last option. The filter of system calls refuses the same.
        _Bubblewrap((*own, "--disable-userns")),
        _Bubblewrap(own),
        # Where users may have no namespaces of their own, root may, and a set-user-id bwrap may.
        _Bubblewrap((), unsealed=kept),
        _Unshare(("--user", "--map-root-user")),
    ]
    return [*found, _Unshare((), unsealed=kept)] if is_root else found


def _why_not(seal: Seal) -> str | None:
    room = Room(mounts=(), working_bytes=1 << 20, environment={}, workdir=WORKING)
    try:
        sealed = seal.start(room, ["/bin/sh", "-c", "true"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    except (SandboxError, OSError) as error:
        return str(error)
    with sealed:
        try:
            _, said = sealed.process.communicate(timeout=_PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            return f"it did not end within {_PROBE_SECONDS:.0f} seconds"
    if sealed.process.returncode == 0:
        return None
    return said.decode("utf-8", "replace").strip() or f"it ended with code {sealed.process.returncode}"
