"""Wheel names as Kaggle shows them: it takes some signs out of the names of uploaded files."""

from __future__ import annotations

from pathlib import PurePosixPath

KIT_WHEEL = "kaggle_kit_runtime-"
"""How the file name of the kit's own wheel begins."""
_TAKEN_OUT = "+~"
"""Signs that uploads lost in reports of 2024 to 2026; letters that are not ASCII go too."""


def kaggle_name(name: str) -> str:
    """What Kaggle calls a file that was uploaded as `name`: `torch-2.13.0+cu126-…` becomes `torch-2.13.0cu126-…`."""
    return "".join(sign for sign in name if sign.isascii() and sign not in _TAKEN_OUT)


def kaggle_path(path: str) -> str:
    """The same for the last part of a path with `/`."""
    pure = PurePosixPath(path)
    return str(pure.with_name(kaggle_name(pure.name)))


def kit_part_reference(reference: str) -> str:
    """The dataset of the small part (the kit's own wheel) that goes with a wheelhouse's dataset `owner/slug`."""
    return f"{reference}-kit"
