"""The seal of a dry run: a copy of Kaggle's file tree with no network and a process space of its own.

Three seals give the same `Room`: bubblewrap, util-linux's `unshare` with a builder of our own, and, where
neither works, a plain process that says in `unsealed` what it leaves open.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from kaggle_kit.errors import SandboxError
from kaggle_kit.sandbox import seal_driver, seal_unshare
from kaggle_kit.sandbox.seal_layout import lay_out, offline_environment, remove_layout, translate
from kaggle_kit.sandbox.seal_process import Sealed
from kaggle_kit.sandbox.seal_room import Mount, Room, system_links, system_mounts

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
OUT = "/kaggle/out"
_DRIVER = "/kit/seal_driver.py"
_PROBE_SECONDS = 20.0


class Seal(Protocol):
    """A way to run a command in a room."""

    @property
    def name(self) -> str:
        """`bwrap`, `unshare` or `none`."""

    @property
    def unsealed(self) -> tuple[str, ...]:
        """What this seal leaves open: plain sentences, none where it holds everything."""

    def start(
        self,
        room: Room,
        command: Sequence[str],
        *,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes],
        stderr: int | IO[bytes],
    ) -> Sealed:
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
    working: str = WORKING,
    out: str = OUT,
    grace_seconds: float = 10.0,
) -> list[str]:
    """`command` run by the driver, which brings the files of `working` to `out` at its end or if stopped."""
    options = ["--working", working, "--out", out, "--grace", str(grace_seconds)]
    return [str(python), "-I", _DRIVER, *options, "--", *command]


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

    def argv(self, room: Room, command: Sequence[str]) -> list[str]:
        argv = [_program("bwrap"), *self.flags, "--unshare-all", "--die-with-parent", "--new-session"]
        argv += ["--cap-drop", "ALL", "--clearenv", "--proc", "/proc", "--dev", "/dev"]
        # For the kernel real root stays real root in a user namespace: /proc/sys would be writable for it.
        argv += ["--ro-bind", "/proc/sys", "/proc/sys"]
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

    def start(
        self,
        room: Room,
        command: Sequence[str],
        *,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes],
        stderr: int | IO[bytes],
    ) -> Sealed:
        room.check()
        return Sealed(_popen(self.argv(room, command), stdin, stdout, stderr), depth=2)


@dataclass(frozen=True)
class _Unshare:
    flags: tuple[str, ...]
    name: str = "unshare"
    unsealed: tuple[str, ...] = ()

    def argv(self, room: Room, command: Sequence[str]) -> list[str]:
        size = room.working_bytes
        plan = {
            "links": system_links(),
            "mounts": [
                [str(mount.source), mount.target, mount.writable or mount.device]
                for mount in (*system_mounts(), *room.ordered_mounts())
            ],
            "tmpfs": {} if size is None else {WORKING: size},
            "workdir": room.workdir,
            "environment": dict(room.environment),
            "command": list(command),
        }
        # Unlike bwrap, unshare ends its child with itself but not itself with kit.
        argv = [_program("setpriv"), "--pdeathsig", "KILL", "--", _program("unshare"), *self.flags]
        argv += ["--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child", "--"]
        return [*argv, sys.executable, "-I", "-S", "-B", seal_unshare.__file__, json.dumps(plan)]

    def start(
        self,
        room: Room,
        command: Sequence[str],
        *,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes],
        stderr: int | IO[bytes],
    ) -> Sealed:
        room.check()
        return Sealed(_popen(self.argv(room, command), stdin, stdout, stderr), depth=2)


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

    def start(
        self,
        room: Room,
        command: Sequence[str],
        *,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes],
        stderr: int | IO[bytes],
    ) -> Sealed:
        room.check()
        root = self.root or Path(tempfile.mkdtemp(prefix="kit-kaggle-"))
        try:
            lay_out(room, root)
        except BaseException:
            if self.root is None:
                remove_layout(root)
            raise
        process = subprocess.Popen(
            [room.outside(word, root) for word in command],
            env=translate(room, root),
            cwd=room.outside(room.workdir, root),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        return Sealed(process, depth=0, remove=None if self.root else root)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        packages = {"bwrap": "bubblewrap"}
        raise SandboxError(f"{name} is not installed: install the package {packages.get(name, 'util-linux')}")
    return found


def _popen(
    argv: Sequence[str], stdin: int | IO[bytes], stdout: int | IO[bytes], stderr: int | IO[bytes]
) -> subprocess.Popen[bytes]:
    # Process 1 of the room shows its environment in /proc: it gets none. A session of its own keeps Ctrl-C
    # from ending the seal before the driver has brought the files out.
    return subprocess.Popen(argv, env={}, cwd="/", stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True)


def choose_seal(wanted: str | None = None, *, root: Path | None = None) -> Seal:
    """The seal called `wanted` (`bwrap`, `unshare`, `none`), or the strongest that works on this machine.

    Each is tried with a real command first. `root` is the folder in which the seal `none` lays out /kaggle
    (a temporary one, removed afterwards, where it is not given).
    Raises SandboxError where the wanted seal does not work here, with the reason.
    """
    if wanted == "none":
        return _Plain(root)
    if wanted not in {None, "bwrap", "unshare"}:
        raise SandboxError(f"there is no seal {wanted!r}: choose bwrap, unshare or none")
    reasons = []
    for seal in _candidates():
        if wanted not in {None, seal.name}:
            continue
        reason = _why_not(seal)
        if reason is None:
            return seal
        reasons.append(f"{seal.name}: {reason}")
    if wanted is None:
        return _Plain(root)
    raise SandboxError(f"the seal {wanted} does not work on this machine: {'; '.join(reasons)}")


def _candidates() -> list[_Bubblewrap | _Unshare]:
    is_root = os.geteuid() == 0
    kept = (_STILL_ROOT,) if is_root else ()
    found: list[_Bubblewrap | _Unshare] = [
        _Bubblewrap(("--unshare-user", "--uid", "0", "--gid", "0")),
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
