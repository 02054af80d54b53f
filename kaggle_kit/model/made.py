"""What a quantiser made and says, looked at before it is taken: it has loaded a stranger's weights, maybe sealed."""

from __future__ import annotations

import json
import os
import re
import stat
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError
from kaggle_kit.runtime.events import count, text, texts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MOST_FILES = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.(safetensors|json|jinja|txt|model)")
"""Weights and settings. What else a library leaves (a recipe, code) is no part of a model, and stays behind."""
_MOST_SETTINGS = 1 << 20
_MOST_DEPTH = 12


def take_files(made: Path, target: Path) -> None:
    """Move the model's files in the folder `made`, whose writer has ended, into the new folder `target`.

    Both are on one disk. Raises ModelError where something else than files lies there: a link, a folder, a device.
    """
    target.mkdir()
    with ExitStack() as stack:

        def opened(path: Path) -> int:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            return descriptor

        try:
            source, place = opened(made), opened(target)
        except OSError as error:
            raise ModelError(f"the quantiser left no folder {made.name}: {error.strerror}") from error
        names = sorted(os.listdir(source))  # noqa: PTH208  of the folder that was opened
        if len(names) > _MOST_FILES:
            raise ModelError(f"the quantiser left {len(names):,} files where a model has a few")
        for name in names:
            told = os.stat(name, dir_fd=source, follow_symlinks=False)
            if not stat.S_ISREG(told.st_mode) or told.st_nlink != 1:
                raise ModelError(f"the quantiser left {name!r}, which is no file of its own: nothing of it is taken")
            if not _NAME.fullmatch(name):
                continue
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=place)
            os.chmod(name, 0o644, dir_fd=place)


def names_in(answer: Mapping[str, Any], key: str) -> list[str]:
    """A list of texts in a quantiser's answer. Raises ModelError for anything else."""
    try:
        return texts(answer.get(key))
    except TypeError as error:
        raise _wrong(key, error) from error


def versions_in(answer: Mapping[str, Any]) -> dict[str, str]:
    """The versions of its libraries. Raises ModelError for anything else."""
    try:
        return {text(name): text(version) for name, version in dict(answer.get("versions") or {}).items()}
    except (TypeError, ValueError) as error:
        raise _wrong("versions", error) from error


def counts_in(answer: Mapping[str, Any], *keys: str) -> dict[str, int]:
    """Those of the counts that it gives. Raises ModelError for anything else."""
    try:
        return {key: count(answer[key]) for key in keys if key in answer}
    except TypeError as error:
        raise _wrong(keys[0], error) from error


def settings_in(answer: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A JSON object of some depth and size. Raises ModelError for anything else."""
    found = answer.get(key)
    if not isinstance(found, dict) or not _is_flat(found, _MOST_DEPTH) or len(json.dumps(found)) > _MOST_SETTINGS:
        raise _wrong(key, "no object of settings")
    return found


def _is_flat(value: Any, depth: int) -> bool:
    if depth == 0:
        return False
    if isinstance(value, dict):
        return all(_is_flat(one, depth - 1) for one in value.values())
    return not isinstance(value, list) or all(_is_flat(one, depth - 1) for one in value)


def _wrong(key: str, why: object) -> ModelError:
    return ModelError(f"the quantiser's answer {key!r} is {why}: nothing of it is taken")
