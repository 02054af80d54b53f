"""The seal of a dry run: a copy of Kaggle's file tree with no network and a process space of its own.

Three seals run a command in the same `Sandbox`: bubblewrap, util-linux's `unshare` with a builder of our own, and a
plain process that says in `unsealed` what it leaves open. The last is used only if it is asked for by name: a machine
on which neither of the others works runs nothing by itself.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, NotRequired, Protocol, Self, TypedDict, Unpack

from kaggle_kit.errors import SandboxError, SealError
from kaggle_kit.sandbox import seal_driver, seal_unshare
from kaggle_kit.sandbox.mounts import (
    MASKED,
    Mount,
    Sandbox,
    lay_out,
    remove_layout,
    system_links,
    system_mounts,
    translated_environment,
)
from kaggle_kit.sandbox.seal_driver import descendants, kill_descendants
from kaggle_kit.sandbox.seal_filter import seccomp_program

WORKING = "/kaggle/working"
_DRIVER = "/kit/seal_driver.py"
_PROBE_SECONDS = 20.0
_STOP_SECONDS = 30.0
_LOOK_SECONDS = 0.05


class Streams(TypedDict):
    """What a sealed command is started with; without `stdin` it has nothing to read. It inherits `pass_fds`."""

    stdout: int | IO[bytes] | None
    stderr: int | IO[bytes] | None
    stdin: NotRequired[int | IO[bytes]]
    pass_fds: NotRequired[Sequence[int]]


@dataclass(frozen=True)
class SealedProcess:
    """A started command. As a context manager it never leaves anything of it running.

    `process` is the outermost process: its streams and its exit code are the command's.
    `depth` says how many processes of the seal stand above the command; `remove` is deleted after it.
    """

    process: "subprocess.Popen[bytes]"
    depth: int
    remove: Path | None = None

    def stop(self, *, grace_seconds: float = _STOP_SECONDS) -> int:
        """Send SIGTERM to the command, wait up to `grace_seconds`, kill all that is left.

        Returns its exit code, 128 + N where signal N ended it.
        """
        end = time.monotonic() + grace_seconds
        asked = False
        try:
            while self.process.poll() is None and time.monotonic() < end:
                asked = asked or self._ask_to_end()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(_LOOK_SECONDS)
        finally:
            # A second Ctrl-C ends the waiting, and must leave nothing of it running.
            code = self.kill()
        return code

    def kill(self) -> int:
        """SIGKILL the command and all that it started. Returns its exit code as `stop` does."""
        if self.process.poll() is None:
            # The seal's own process dies last: while it lives, its descendants can be found.
            kill_descendants(self.process.pid)
            self.process.kill()
        code = self.process.wait()
        if self.depth == 0:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        if self.remove is not None:
            remove_layout(self.remove)
        return 128 - code if code < 0 else code

    def _ask_to_end(self) -> bool:
        """SIGTERM the command, not the seal, which would end it at once; False where it is not yet there."""
        below = descendants(self.process.pid)
        command = [self.process.pid, *below][self.depth : self.depth + 1]
        for pid in command:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        return bool(command)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        # Nobody reads any more: a full pipe would hold up the command that is asked to end.
        streams = [each for each in (self.process.stdout, self.process.stderr) if each is not None]
        readers = [threading.Thread(target=drain, args=(each,), daemon=True) for each in streams]
        for reader in readers:
            reader.start()
        self.stop()
        for reader, stream in zip(readers, streams, strict=True):
            reader.join()
            stream.close()


def drain(stream: IO[bytes]) -> None:
    """Read a pipe to its end and forget what came, so that its writer never waits."""
    # ValueError: it is closed already, its reader saw the end.
    with contextlib.suppress(OSError, ValueError):
        while stream.read1(1 << 16):  # type: ignore[attr-defined]
            pass


class Seal(Protocol):
    """A way to run a command in a sandbox."""

    @property
    def name(self) -> str:
        """`bwrap`, `unshare` or `none`."""

    @property
    def unsealed(self) -> tuple[str, ...]:
        """What this seal should close and does not: plain sentences, none if it is a strong one."""

    @property
    def left_open(self) -> tuple[str, ...]:
        """What no seal of this kind closes, in a few words each."""

    def start(self, sandbox: Sandbox, command: Sequence[str], **streams: Unpack[Streams]) -> SealedProcess:
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
    pipe: int,
    most_bytes: int,
    working: str = WORKING,
    also: Sequence[str] = (),
    grace_seconds: float = 10.0,
) -> list[str]:
    """`command` run by the driver, which sends the files of `working` into `pipe` at its end or if stopped.

    `pipe` is a descriptor that the command is started with, `also` are files to send besides, all of `most_bytes` at
    most.
    """
    options = ["--working", working, "--pipe", str(pipe), "--most", str(most_bytes), "--grace", str(grace_seconds)]
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

    def argv(self, sandbox: Sandbox, command: Sequence[str], *, filter_from: int) -> list[str]:
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
        for mount in (*system_mounts(), *sandbox.ordered_mounts()):
            argv += [_bind_word(mount), str(mount.source), mount.target]
        if sandbox.working_bytes is not None:
            argv += ["--perms", "0755", "--size", str(sandbox.working_bytes), "--tmpfs", WORKING]
        argv += ["--remount-ro", "/"]
        for name, value in sandbox.environment.items():
            argv += ["--setenv", name, value]
        return [*argv, "--chdir", sandbox.workdir, "--", *command]

    def start(self, sandbox: Sandbox, command: Sequence[str], **streams: Unpack[Streams]) -> SealedProcess:
        sandbox.check()
        with _program_file() as filter_from:
            argv = self.argv(sandbox, command, filter_from=filter_from)
            streams["pass_fds"] = (*streams.get("pass_fds", ()), filter_from)
            process = _popen(argv, **streams)
        return SealedProcess(process, depth=2)


@dataclass(frozen=True)
class _Unshare:
    flags: tuple[str, ...]
    name: str = "unshare"
    unsealed: tuple[str, ...] = ()
    left_open: tuple[str, ...] = _LEFT_OPEN

    def argv(self, sandbox: Sandbox, command: Sequence[str]) -> list[str]:
        size = sandbox.working_bytes
        plan = {
            "links": system_links(),
            "mounts": [
                [str(mount.source), mount.target, mount.writable, mount.device]
                for mount in (*system_mounts(), *sandbox.ordered_mounts())
            ],
            "tmpfs": {} if size is None else {WORKING: size},
            "masked": MASKED,
            "seccomp": _filter().hex(),
            "workdir": sandbox.workdir,
            "environment": dict(sandbox.environment),
            "command": list(command),
        }
        # Unlike bwrap, unshare ends its child with itself but not itself with kit.
        argv = [_program("setpriv"), "--pdeathsig", "KILL", "--", _program("unshare"), *self.flags]
        argv += ["--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child", "--"]
        return [*argv, sys.executable, "-I", "-S", "-B", seal_unshare.__file__, json.dumps(plan)]

    def start(self, sandbox: Sandbox, command: Sequence[str], **streams: Unpack[Streams]) -> SealedProcess:
        sandbox.check()
        return SealedProcess(_popen(self.argv(sandbox, command), **streams), depth=2)


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

    def start(self, sandbox: Sandbox, command: Sequence[str], **streams: Unpack[Streams]) -> SealedProcess:
        sandbox.check()
        root = self.root or Path(tempfile.mkdtemp(prefix="kit-kaggle-"))
        try:
            lay_out(sandbox, root)
        except BaseException:
            if self.root is None:
                remove_layout(root)
            raise
        streams.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen(
            [sandbox.outside(word, root) for word in command],
            env=translated_environment(sandbox, root),
            cwd=sandbox.outside(sandbox.workdir, root),
            start_new_session=True,
            **streams,
        )
        return SealedProcess(process, depth=0, remove=None if self.root else root)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        packages = {"bwrap": "bubblewrap"}
        raise SandboxError(f"{name} is not installed: install the package {packages.get(name, 'util-linux')}")
    return found


def _popen(argv: Sequence[str], **streams: Unpack[Streams]) -> subprocess.Popen[bytes]:
    # Process 1 of the sandbox shows its environment in /proc: it gets none. A session of its own keeps Ctrl-C
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
        reasons.append(f"{seal.name}: {reason}")
    which = f"the seal {wanted} does" if wanted else "neither seal, bwrap or unshare, does"
    raise SealError(
        f"nothing was started: {which} not work on this machine.\n"
        + "".join(f"  {reason}\n" for reason in dict.fromkeys(reasons))
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
    seals: list[_Bubblewrap | _Unshare] = [
        # Versions before 0.8 do not know the last option. The filter of system calls refuses the same.
        _Bubblewrap((*own, "--disable-userns")),
        _Bubblewrap(own),
        # Where users may have no namespaces of their own, root may, and a set-user-id bwrap may.
        _Bubblewrap((), unsealed=kept),
        _Unshare(("--user", "--map-root-user")),
    ]
    return [*seals, _Unshare((), unsealed=kept)] if is_root else seals


def _why_not(seal: Seal) -> str | None:
    sandbox = Sandbox(mounts=(), working_bytes=1 << 20, environment={}, workdir=WORKING)
    try:
        sealed = seal.start(sandbox, ["/bin/sh", "-c", "true"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
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
