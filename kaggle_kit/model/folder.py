"""The files of a model's folder: which are sent to Kaggle, and which would harm there."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import islice
from typing import TYPE_CHECKING, Literal

from kaggle_kit.errors import ModelError, OutsideError
from kaggle_kit.outside import read_bytes
from kaggle_kit.runtime.manifest import LEFT_OUT, MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path


_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_ELSEWHERE = (".gguf", ".onnx", ".h5", ".msgpack", ".ot", ".tflite")
"""Weights for other programs than the kit's engines."""
_LFS = re.compile(rb"version https://git-lfs\.github\.com/spec/v\d\noid sha256:[0-9a-f]{64}\nsize (\d+)\n")
_LFS_BYTES = 1024
MOST_FILES = 20_000
_MOST_LEVELS = 16
_LONGEST_NAME = 120
_ADAPTER = "adapter_config.json"
_NEEDED = {"config.json": "config", "tokenizer.json": "tokenizer"}
"""Files without which nothing can be scored, and the checks that look at them."""


@dataclass(frozen=True)
class Folder:
    """A model's folder: path below it (with `/`) → file, of all that is sent but the manifest; and what is wrong."""

    root: Path
    files: Mapping[str, Path]
    left_out: tuple[str, ...]
    problems: tuple[Problem, ...]
    unreadable: frozenset[str]
    """Files of which a problem says that they hold nothing to read: pointers and empty ones."""

    @property
    def bytes(self) -> int:
        """What is sent, in bytes."""
        return sum(path.stat().st_size for path in self.files.values())


def read_folder(root: Path) -> Folder:
    """Walk through `root`.

    Raises ModelError if it is not a folder, cannot be read, or holds more files or levels than any model.
    """
    if not root.is_dir():
        raise ModelError(f"{root} is not a folder: name the folder that holds config.json and the weights")
    try:
        return _read(root)
    except (OSError, OutsideError) as error:
        raise ModelError(f"{root} cannot be read: {error}; see that it is a model's folder, and readable") from error


def _read(root: Path) -> Folder:
    files: dict[str, Path] = {}
    left_out: list[str] = []
    problems: list[Problem] = []
    unreadable = set()
    for name, path in _walk(root, root, left_out, problems):
        if name == MANIFEST:
            continue
        if len(files) >= MOST_FILES:
            raise ModelError(f"{root} holds more than {MOST_FILES:,} files: see that it is a model's folder")
        files[name] = path
        if problem := _no_content(name, path):
            problems.append(problem)
            unreadable.add(name)
        elif problem := _harmful(name):
            problems.append(problem)
    return Folder(root, dict(sorted(files.items())), tuple(sorted(left_out)), tuple(problems), frozenset(unreadable))


def _walk(root: Path, folder: Path, left_out: list[str], problems: list[Problem]) -> Iterator[tuple[str, Path]]:
    paths = sorted(islice(folder.iterdir(), MOST_FILES + 1))
    if len(folder.relative_to(root).parts) > _MOST_LEVELS:
        raise ModelError(f"{root} holds folders {_MOST_LEVELS} levels deep: see that it is a model's folder")
    for path in paths:
        name = path.relative_to(root).as_posix()
        if not path.name.isprintable():
            what = "has a name of signs that cannot be printed, and Kaggle takes no such file"
            problems.append(Problem(ascii(name)[:_LONGEST_NAME], what, "rename or remove it", check="file-name"))
        elif any(fnmatchcase(path.name, pattern) for pattern in LEFT_OUT):
            left_out.append(name)
        elif path.is_dir() and not path.is_symlink():
            yield from _walk(root, path, left_out, problems)
        elif problem := _bad_link(root, path, name):
            problems.append(problem)
        else:
            yield name, path


def _bad_link(root: Path, path: Path, name: str) -> Problem | None:
    """What is wrong with a path that is not a folder; Hugging Face's cache consists of links out of the folder."""
    copy = f"put real files there: cp -rL {root} COPY"
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):
        return Problem(name, "is a link to nothing", "remove it, or bring its file back", check="link")
    if path.is_symlink() and not real.is_relative_to(root.resolve()):
        what = f"is a link to {real}, outside of the folder, and Kaggle would not get it"
        return Problem(name, what, copy, check="link")
    if not real.is_file():
        return Problem(name, "is neither a file nor a folder of its own", "remove it", check="link")
    return None


def _no_content(name: str, path: Path) -> Problem | None:
    size = path.stat().st_size
    if size == 0:
        return Problem(name, "is empty (0 bytes)", "download or copy it again", check=_content_check(name))
    if size > _LFS_BYTES:
        return None
    pointer = _LFS.match(read_bytes(path, most_bytes=_LFS_BYTES, follow=True))
    if pointer is None:
        return None
    what = f"is a pointer of Git LFS, not the file of {int(pointer[1]):,} bytes that it stands for"
    step = "fetch the files (git lfs pull), or download the model with another tool"
    return Problem(name, what, step, check=_content_check(name))


def _content_check(name: str) -> str:
    """The check that a file without content fails, by what needs it."""
    if name in _NEEDED:
        return _NEEDED[name]
    return "weights" if ".safetensors" in name else "empty-file"


def _harmful(name: str) -> Problem | None:
    file = name.rsplit("/", 1)[-1]
    if file.endswith(_PICKLES):
        what = "is a pickle: loading it runs whatever code it holds, and kit's engines load safetensors alone"
        step = "delete it; if it holds the only weights, save the model as safetensors"
        return Problem(name, what, step, check="pickle")
    if file == _ADAPTER:
        what = "makes transformers load the model that it names, and lay an adapter over it"
        step = "remove it, or merge the adapter first: kit model quantize SRC OUT --adapter PATH"
        return Problem(name, what, step, check="adapter-config")
    if file.startswith("adapter_model"):
        what = "is a LoRA adapter: alone it is not a model, and beside one it is not used"
        step = "merge it first: kit model quantize SRC OUT --adapter PATH, or peft's merge_and_unload"
        return Problem(name, what, step, check="adapter-weights")
    if file.endswith(_ELSEWHERE):
        what = "is for other programs, and would be sent for nothing"
        return warning(name, what, "delete it", check="other-program")
    return None


@dataclass(frozen=True)
class Problem:
    """One finding. An "error" would fail later; a "warning" is a doubt that the author should know of.

    `check` is its name among runtime.allowances.CHECKS; `allowed`: it was an error, and the user knows better.
    """

    file: str
    what: str
    next_step: str
    severity: Literal["error", "warning"] = "error"
    check: str = ""
    allowed: bool = False

    def __str__(self) -> str:
        """The sentence that a user reads."""
        return f"{self.file}: {self.what}; {self.next_step}"


def warning(file: str, what: str, next_step: str, *, check: str = "") -> Problem:
    """A finding that does not stop the checkpoint from being used."""
    return Problem(file, what, next_step, "warning", check)


def by_check(check: str, problems: Iterable[Problem]) -> list[Problem]:
    """The same, `check` being the name of those that have none."""
    return [problem if problem.check else replace(problem, check=check) for problem in problems]
