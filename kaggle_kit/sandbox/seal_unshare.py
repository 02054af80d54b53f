"""Builds the sandbox inside the namespaces that util-linux's `unshare` made, and is its process 1.

Run as a script by `seal.py`: `python -I -S seal_unshare.py PLAN`, PLAN being JSON that `seal.py` makes.
Only the standard library. Once the old root is gone no module can be imported: all imports are at the top.

The order follows from mount_namespaces(7) and pivot_root(2): mounts become private, a tmpfs takes the place
of the root with the old one below it, everything is bound from there, the old root is let go, and at last
the capabilities, so that nothing inside can mount, unmount or make a device.
"""

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)

# <sys/mount.h>
_RDONLY, _NOSUID, _NODEV, _NOEXEC = 1, 2, 4, 8
_REMOUNT, _BIND, _REC, _PRIVATE = 32, 4096, 16384, 1 << 18
_LOCKED_OPTIONS = {
    "ro": _RDONLY,
    "nosuid": _NOSUID,
    "nodev": _NODEV,
    "noexec": _NOEXEC,
    "noatime": 1024,
    "nodiratime": 2048,
    "relatime": 1 << 21,
}
_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
# <linux/prctl.h>, <linux/capability.h>
_SET_PDEATHSIG, _CAPBSET_DROP, _SET_NO_NEW_PRIVS, _CAP_AMBIENT, _AMBIENT_CLEAR_ALL = 1, 24, 38, 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
# <linux/prctl.h>, <linux/seccomp.h>, <linux/filter.h>
_SET_DUMPABLE, _SET_SECCOMP, _MODE_FILTER, _INSTRUCTION_BYTES = 4, 22, 2, 8
# <linux/sockios.h>
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_GUARDED_PROC = ("sys", "sysrq-trigger", "irq", "bus")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str = "", *, flags: int = 0, options: str = "") -> None:
    result = _LIBC.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _check(result, f"mount {source} on {target}")


def _point(path: str, *, folder: bool) -> None:
    """Make the place that something can be mounted on."""
    if folder:
        Path(path).mkdir(parents=True, exist_ok=True)
    else:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        if not Path(path).exists():
            Path(path).touch()


def _unescape(field: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field


def _restrict(target: str, flags: int) -> None:
    """Add `flags` to `target` and every mount below it.

    A remount must repeat the flags that a mount already has: in a user namespace they are locked.
    """
    real = os.path.realpath(target)
    for line in Path("/new/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines():
        fields = line.split(" ")
        point = _unescape(fields[4])
        if point != real and not point.startswith(real.rstrip("/") + "/"):
            continue
        kept = sum(_LOCKED_OPTIONS.get(option, 0) for option in set(fields[5].split(",")))
        try:
            _mount("", point, flags=_BIND | _REMOUNT | flags | kept)
        except OSError as error:
            # A mount hidden below another one cannot be reached by its path, from inside neither.
            if error.errno not in {errno.EINVAL, errno.EACCES, errno.ENOENT} or point == real:
                raise


def _bind(source: str, target: str, *, writable: bool, device: bool) -> None:
    _point(target, folder=Path(source).is_dir())
    _mount(source, target, flags=_BIND | _REC)
    if not device:
        _restrict(target, _NOSUID | _NODEV | (0 if writable else _RDONLY))


def _devices(dev: str) -> None:
    _mount("tmpfs", dev, "tmpfs", flags=_NOSUID, options="mode=0755,size=1m")
    for name in _DEVICES:
        if Path("/old/dev", name).exists():
            _point(f"{dev}/{name}", folder=False)
            _mount(f"/old/dev/{name}", f"{dev}/{name}", flags=_BIND)
    for name, where in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        Path(dev, name).symlink_to(f"/proc/self/{where}")
    Path(dev, "shm").mkdir()
    _mount("tmpfs", f"{dev}/shm", "tmpfs", flags=_NOSUID | _NODEV, options="mode=1777")
    Path(dev, "pts").mkdir()
    _mount(
        "devpts",
        f"{dev}/pts",
        "devpts",
        flags=_NOSUID | _NOEXEC,
        options="newinstance,ptmxmode=0666,mode=620",
    )
    Path(dev, "ptmx").symlink_to("pts/ptmx")


def _proc(proc: str) -> None:
    _mount("proc", proc, "proc", flags=_NOSUID | _NODEV | _NOEXEC)
    # For the kernel real root stays real root in a user namespace: /proc/sys would be writable for it.
    for name in _GUARDED_PROC:
        path = f"{proc}/{name}"
        if Path(path).exists():
            _mount(path, path, flags=_BIND | _REC)
            _restrict(path, _RDONLY)


def _build_root(plan: Mapping[str, Any]) -> None:
    _mount("none", "/", flags=_REC | _PRIVATE)
    # /tmp is covered for this process space only; the host's own is reachable again as /old/tmp.
    _mount("tmpfs", "/tmp", "tmpfs", flags=_NOSUID | _NODEV, options="mode=0755")  # noqa: S108
    Path("/tmp/old").mkdir()  # noqa: S108
    Path("/tmp/new").mkdir()  # noqa: S108
    _pivot("/tmp", "/tmp/old")  # noqa: S108
    # pivot_root wants a mount point: the sandbox's root is a tmpfs of its own.
    _mount("tmpfs", "/new", "tmpfs", flags=_NOSUID | _NODEV, options="mode=0755")
    for folder in ("proc", "dev"):
        Path("/new", folder).mkdir()
    _proc("/new/proc")
    for name in plan["masked"]:
        if Path(f"/new{name}").exists():
            _mount("/old/dev/null", f"/new{name}", flags=_BIND)
            _restrict(f"/new{name}", _RDONLY)
    _devices("/new/dev")
    for link, where in plan["links"].items():
        Path(f"/new{link}").symlink_to(where)
    for source, target, writable, device in plan["mounts"]:
        _bind(f"/old{source}", f"/new{target}", writable=writable, device=device)
    for target, size in plan["tmpfs"].items():
        _point(f"/new{target}", folder=True)
        _mount("tmpfs", f"/new{target}", "tmpfs", flags=_NOSUID | _NODEV, options=f"mode=0755,size={size}")
    _mount("", "/new", flags=_BIND | _REMOUNT | _RDONLY | _NOSUID | _NODEV)
    _leave_old_root()


def _pivot(new: str, old: str) -> None:
    number = _PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, f"the seal does not know this processor: {os.uname().machine}")
    _check(_LIBC.syscall(ctypes.c_long(number), new.encode(), old.encode()), f"pivot_root to {new}")
    os.chdir("/")


def _leave_old_root() -> None:
    os.chdir("/new")
    # Stacking the old root onto the new one and letting it go needs no folder in the read-only new one.
    _pivot(".", ".")
    _check(_LIBC.umount2(b".", _DETACH), "umount of the old root")
    os.chdir("/")


def _loopback_up() -> None:
    # Jupyter speaks to its kernel over 127.0.0.1, which is down in a new network namespace.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(door, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(door, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def _drop_capabilities() -> None:
    number = 0
    # The kernel says EINVAL behind its last capability.
    while _LIBC.prctl(_CAPBSET_DROP, number, 0, 0, 0) == 0:
        number += 1
    _LIBC.prctl(_CAP_AMBIENT, _AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = struct.pack("II", _CAPABILITY_VERSION_3, 0)
    _check(_LIBC.capset(header, bytes(24)), "capset")
    _check(_LIBC.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    # A change of credentials may clear it, and without it process 1 would outlive `unshare`.
    _check(_LIBC.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "pdeathsig")


def _refuse_calls(program: bytes) -> None:
    """Have the kernel refuse the system calls that `program` names, to this process and all that it starts."""
    count = len(program) // _INSTRUCTION_BYTES
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", count, ctypes.addressof(instructions))
    _check(_LIBC.prctl(_SET_SECCOMP, _MODE_FILTER, header, 0, 0), "seccomp")


def _run(plan: Mapping[str, Any]) -> int:
    """Run the command as a child and reap whatever is orphaned, until the command itself ends."""
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            os.chdir(plan["workdir"])
            os.execve(plan["command"][0], plan["command"], plan["environment"])  # noqa: S606
        except OSError as error:
            sys.stderr.write(f"kit: {plan['command'][0]} could not be started in the seal: {error}\n")
            sys.stderr.flush()
        os._exit(127)

    # What the command was started with is its own: kept open here, it would lie within the notebook's reach.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    _check(_LIBC.prctl(_SET_DUMPABLE, 0, 0, 0, 0), "not dumpable")

    def hand_on(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, hand_on)
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code


def main(plan: Mapping[str, Any]) -> int:
    """Build the sandbox, run its command in it, return the exit code (125: it could not be built)."""
    try:
        _loopback_up()
        _build_root(plan)
        _drop_capabilities()
        _refuse_calls(bytes.fromhex(plan["seccomp"]))
    except OSError as error:
        sys.stderr.write(f"kit: the sandbox could not be built: {error}\n")
        return 125
    return _run(plan)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
