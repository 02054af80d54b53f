"""What Kaggle will call the files of an upload, with both names known, and no two files under one."""

from collections.abc import Iterable

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.runtime.manifest import kaggle_name

__all__ = ["kaggle_name", "stored_names"]


def stored_names(names: Iterable[str]) -> dict[str, str]:
    """The name that Kaggle will show, for each true name.

    Raises WheelhouseError where two files would get one name, or where Kaggle refuses a sign: an `@` makes the
    processing of an upload fail later, without an error at the upload (reported on Kaggle's client, issue 430).
    """
    stored: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name in sorted(names):
        shown = kaggle_name(name)
        if "@" in name or not shown:
            raise WheelhouseError(f"Kaggle takes no file named {name}; leave this package out of the wheelhouse")
        if (other := taken.setdefault(shown, name)) != name:
            raise WheelhouseError(
                f"{other} and {name} would both be {shown} on Kaggle, which takes + and ~ out of names; keep one"
            )
        stored[name] = shown
    return stored
