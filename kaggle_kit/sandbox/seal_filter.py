"""The system calls that a sealed process is refused, as a program for the kernel's seccomp.

Namespaces do not hold everything: a user's keyring, io_uring's own way around other filters, sockets to the virtual
machine's host, and new namespaces in which more of the kernel can be reached. What a notebook has no use for is refused
here. The layout of a program is that of <linux/filter.h> and <linux/seccomp.h>, numbers are those of the kernel's
system call tables. Only the standard library: `seal_unshare.py` runs without the kit.
"""

import errno
import platform
import struct

_LOAD, _EQUAL, _ABOVE_OR_EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000
"""From this number on x86_64 has the calls of another interface, which would pass by the numbers below."""

# Name → number on x86_64 and on aarch64.
_REFUSED = {
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "ptrace": (101, 117),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "syslog": (103, 116),
    "acct": (163, 89),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "quotactl": (179, 60),
    "fanotify_init": (300, 262),
}
# A program that asks whether these are there takes another way, if it is told that they are not.
_ABSENT = {
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "clone3": (435, 435),  # its flags lie in memory, where no filter can read them; libraries fall back to clone
}
_CLONE = (56, 220)
_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET, as flags of clone."""
_SOCKET = (41, 198)
_SOCKETPAIR = (53, 199)
_FAMILIES = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6, AF_NETLINK. Others, such as AF_VSOCK, are not shut off with the network."""


def seccomp_program(machine: str | None = None) -> bytes | None:
    """The filter for `machine` (this one's processor by default), as the kernel takes it; None for an unknown one.

    Every call that is not refused is allowed, for seccomp stands beside the namespaces, not in their place.
    """
    machine = machine or platform.machine()
    if machine not in _ARCHITECTURES:
        return None
    column = list(_ARCHITECTURES).index(machine)
    program = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, _ARCHITECTURES[machine], yes=1),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
    ]
    if machine == "x86_64":
        program += [_step(_ABOVE_OR_EQUAL, _X32, no=1), _step(_RETURN, _ERRNO | errno.ENOSYS)]
    for calls, answer in ((_REFUSED, errno.EPERM), (_ABSENT, errno.ENOSYS)):
        for numbers in calls.values():
            program += [_step(_EQUAL, numbers[column], no=1), _step(_RETURN, _ERRNO | answer)]

    program += [
        _step(_EQUAL, _CLONE[column], no=4),
        _step(_LOAD, _FIRST_ARGUMENT),
        _step(_ANY_BIT, _NEW_NAMESPACES, no=1),
        _step(_RETURN, _ERRNO | errno.EPERM),
        _step(_RETURN, _ALLOW),
    ]
    allowed = len(_FAMILIES)
    program += [
        _step(_EQUAL, _SOCKET[column], yes=1),
        _step(_EQUAL, _SOCKETPAIR[column], no=allowed + 2),
        _step(_LOAD, _FIRST_ARGUMENT),
        *(_step(_EQUAL, family, yes=allowed - place) for place, family in enumerate(_FAMILIES)),
        _step(_RETURN, _ERRNO | errno.EAFNOSUPPORT),
        _step(_RETURN, _ALLOW),
    ]
    return b"".join(program)


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """One instruction: load or return `value`, or compare with it and skip `yes` or `no` instructions."""
    return struct.pack("=HBBI", code, yes, no, value)
