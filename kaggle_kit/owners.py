"""Who else on this machine could change a file or folder: what others can write is not believed.

A path is this user's where every folder and link on the way to it, and the file itself, belongs to this user or to
root, and nobody else may write to it. Folders on the way may be shared where the sticky bit keeps what is in them, as
/tmp is.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_kit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_LINKS = 40
_EVERY_USER = 0xFFFFFFFF
_ACL = "system.posix_acl_access"


def own_folder(path: Path, *, what: str, remedy: str) -> Path:
    """`path` as an absolute folder of this user alone; it is made, with mode 0700, where it is missing.

    One that others can read is closed to them: what lies deeper may be open. Raises UsageError, with `what` the folder
    is and the `remedy`, where somebody else could change it, or where it cannot be made.
    """
    path = path.absolute()
    missing = []
    place = path
    while not os.path.lexists(place):
        missing.append(place)
        place = place.parent
    try:
        refuse_shared(place, what=f"{what} {path}", remedy=remedy, on_the_way=bool(missing))
        for folder in reversed(missing):
            if not os.path.lexists(folder):  # another process may be making it, too
                folder.mkdir(mode=0o700, exist_ok=True)
        refuse_shared(path, what=f"{what} {path}", remedy=remedy)
        status = path.stat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            reason = "it is no folder" if not stat.S_ISDIR(status.st_mode) else _belongs(path, status.st_uid)
            raise UsageError(f"{what} {path} cannot be used: {reason}. {remedy}")
        if stat.S_IMODE(status.st_mode) & 0o077:
            path.chmod(stat.S_IMODE(status.st_mode) & ~0o077)
    except OSError as error:
        from kaggle_kit.files import refusal

        raise UsageError(f"{what} {path} cannot be used: {refusal(error, path)}. {remedy}") from error
    return path


def refuse_shared(path: Path, *, what: str, remedy: str, on_the_way: bool = False) -> None:
    """Raise UsageError, with `what` it is and the `remedy`, where another user but root could change `path`.

    With `on_the_way` it is a folder on the way to the thing itself. Raises OSError where it is missing.
    """
    if reason := why_shared(path, on_the_way=on_the_way):
        raise UsageError(f"{what} cannot be used: {reason}. {remedy}")


def why_shared(path: Path, *, on_the_way: bool = False) -> str | None:
    """Who but this user and root could change or replace `path`, as a sentence; None where nobody can.

    Raises OSError where there is nothing at `path`.
    """
    believed = {os.geteuid(), 0} | _outside_users()
    for place, status, last in _way(path):
        if status.st_uid not in believed:
            return _belongs(place, status.st_uid)
        if stat.S_ISLNK(status.st_mode) or (status.st_mode & stat.S_ISVTX and (on_the_way or not last)):
            continue
        if status.st_mode & stat.S_IWOTH:
            return f"every user of this machine can write to {place}"
        if status.st_mode & stat.S_IWGRP and not _is_private(status.st_gid, place):
            return f"the group {_group_name(status.st_gid)} can write to {place}"
    return None


def _way(path: Path) -> Iterator[tuple[Path, os.stat_result, bool]]:
    """Every folder and link from / to `path`, with its own status, and whether it is the end of the way."""
    here, links = Path("/"), 0
    left = list(reversed(path.absolute().parts[1:]))
    yield here, here.lstat(), not left
    while left:
        name = left.pop()
        if name == "..":
            here = here.parent
            continue
        place = here / name
        status = place.lstat()
        yield place, status, not left
        if not stat.S_ISLNK(status.st_mode):
            here = place
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = place.readlink()
        if target.is_absolute():
            here = Path("/")
        left += reversed([part for part in target.parts if part != "/"])


def _outside_users() -> set[int]:
    """The one id by which a user namespace shows all users that are not in it, the machine's root among them."""
    try:
        spans = [line.split() for line in Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()]
        if sum(int(span[2]) for span in spans) >= _EVERY_USER:
            return set()
        return {int(Path("/proc/sys/fs/overflowuid").read_text(encoding="ascii"))}
    except (OSError, ValueError, IndexError):
        return set()


def _is_private(gid: int, place: Path) -> bool:
    """Whether a group is this user's own: of the same name and with no other member, as many systems make it."""
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
        listed = os.listxattr(place)
    except KeyError:
        return False
    except OSError:  # a file system without such attributes
        listed = []
    alone = group.gr_name == user.pw_name and user.pw_gid == gid and set(group.gr_mem) <= {user.pw_name}
    return alone and _ACL not in listed


def _belongs(place: Path, uid: int) -> str:
    return f"{place} belongs to {_user_name(uid)}, and this is {_user_name(os.geteuid())}"


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _group_name(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
