"""What of a folder is sent: all that inference needs, by the names that Kaggle will show; and what was left out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache as kept_once
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_kit.errors import KitError
from kaggle_kit.files import readable_cache, write_atomic
from kaggle_kit.places import is_outside
from kaggle_kit.remote.plan.hashes import HashCache, hash_files
from kaggle_kit.remote.plan.resources import Origin, Problem, SentFile
from kaggle_kit.runtime.allowances import allowances_of
from kaggle_kit.runtime.manifest import LEFT_OUT, MANIFEST, Manifest, dump_manifest, read_manifest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What of a folder is sent, sorted by path; `left_out` names what is not, folders with a `/` at their end."""

    files: tuple[SentFile, ...]
    left_out: tuple[str, ...]
    problems: tuple[Problem, ...]


def part_contents(folder: Path, *, resource: str, cache: HashCache) -> Contents:
    """A part of a wheelhouse, which brings its own manifest. Raises KitError where it has none."""
    manifest = read_manifest(folder / MANIFEST)
    walk = _Walk(folder, resource)
    files = _hashed(dict(walk.files()), cache=cache)
    walk.compare(manifest, files, next_step="write the parts again with: kit wheels dataset")
    return walk.contents(files)


def model_contents(
    folder: Path,
    *,
    name: str,
    resource: str,
    cache: HashCache,
    linked: Collection[Path] = (),
) -> Contents:
    """A model's folder, with the manifest by which the notebook finds it as `models.NAME` of `kit.toml`.

    The manifest is made here, of what is sent; what else the folder's own one says is kept. A link may lead out of the
    folder into those of `linked` (links followed).
    """
    walk = _Walk(folder, resource, linked)
    sources = dict(walk.files())
    own = sources.pop(MANIFEST, None)
    files = _hashed(sources, cache=cache)

    extra: dict[str, object] = {}
    if own:
        try:
            manifest = read_manifest(own)
        except KitError as error:
            walk.problem(str(error), "or delete it")
        else:
            extra = dict(manifest.extra)
            walk.warn_of_allowed(manifest)
            if (manifest.kind, manifest.name) != ("model", name):
                what = f"{own} is that of the {manifest.kind} {manifest.name!r}, but kit.toml calls the model {name!r}"
                walk.problem(what, f"name the table models.{manifest.name}")
            restore = "bring the file back, or make the manifest again and repeat the dry run"
            walk.compare(manifest, files, next_step=restore)

    if not files:
        walk.problem(f"{folder} holds no file to send", "put the model there")

    made = Manifest("model", name, tuple(file.entry for file in files), extra)
    return walk.contents([*files, _written(dump_manifest(made))])


def _is_left_out(path: str) -> bool:
    return any(fnmatchcase(part, pattern) for part in path.split("/") for pattern in LEFT_OUT)


def _hashed(sources: dict[str, Path], *, cache: HashCache) -> list[SentFile]:
    return [
        SentFile(path=entry.path, size=entry.size, sha256=entry.sha256, source=sources[entry.path])
        for entry in hash_files(sources, cache=cache)
    ]


def _written(text: str) -> SentFile:
    """The made manifest, kept in the user's cache under its own hash: planning writes into no folder of a project."""
    digest = sha256(text.encode()).hexdigest()
    cache = readable_cache()
    place = cache / "manifests" / digest / MANIFEST if cache else None
    try:
        if place and (not place.is_file() or place.read_bytes() != text.encode()):
            write_atomic(place, text)
    except OSError:
        place = None
    place = place or _in_memory(text)
    return SentFile(path=MANIFEST, size=len(text.encode()), sha256=digest, source=place)


@kept_once
def _in_memory(text: str) -> Path:
    """A file of this process alone, for a disk that takes nothing: what would be sent can be said all the same."""
    descriptor = os.memfd_create(MANIFEST)
    os.write(descriptor, text.encode())
    return Path(f"/proc/self/fd/{descriptor}")


def origins(folder: Path, files: Iterable[SentFile], *, root: Path) -> tuple[Origin, ...]:
    """`folder` itself, and every other to which links in it lead; `root` is the project's. Made files do not count."""
    kept = readable_cache()
    home, made = folder.resolve(), kept.resolve() if kept else Path("/proc")
    places = {file.source.resolve().parent for file in files if not file.source.is_relative_to("/proc/self/fd")}
    others = sorted(place for place in places if not place.is_relative_to(home) and not place.is_relative_to(made))
    return tuple(Origin(folder=place, outside=is_outside(root, place)) for place in (home, *others))


class _Walk:
    """A walk through one folder, and what it met on the way."""

    def __init__(self, folder: Path, resource: str, linked: Collection[Path] = ()) -> None:
        self.folder = folder
        self.homes = (folder.resolve(), *linked)
        self.resource = resource
        self.left_out: list[str] = []
        self.problems: list[Problem] = []

    def contents(self, files: list[SentFile]) -> Contents:
        """The result of the walk."""
        ordered = tuple(sorted(files, key=lambda file: file.path))
        return Contents(files=ordered, left_out=tuple(sorted(self.left_out)), problems=tuple(self.problems))

    def warn_of_allowed(self, manifest: Manifest) -> None:
        """Note what the model's author allowed though `kit model inspect` found it wrong."""
        step = f"the notebook's plan allows it too; kit model inspect {self.folder} --write makes a manifest without it"
        try:
            allowed = allowances_of(manifest)
        except KitError as error:
            self.problem(str(error), "or delete it")
            return
        self.problems += [
            Problem(resource=self.resource, what=f"its manifest allows {allowance}", next_step=step, warning=True)
            for allowance in allowed
        ]

    def compare(self, manifest: Manifest, files: list[SentFile], *, next_step: str) -> None:
        """Note the first file that is not what the manifest says, if there is one."""
        here = {file.path: file.entry for file in files}
        wrong = [entry for entry in manifest.files if here.get(entry.path, entry) != entry]
        missing = [entry for entry in manifest.files if entry.path not in here and not _is_left_out(entry.path)]
        if entries := missing or wrong:
            what = "is missing" if missing else "is not the file that manifest.json lists"
            more = f" (and {len(entries) - 1} more)" if len(entries) > 1 else ""
            self.problem(f"{entries[0].path} {what}{more}", next_step)

    def files(self, below: str = "") -> Iterator[tuple[str, Path]]:
        """Path on Kaggle and place of every file that is sent."""
        folder = self.folder / below
        try:
            names = sorted(path.name for path in folder.iterdir())
        except OSError as error:
            raise KitError(f"{folder} cannot be read: {error.strerror}") from error
        if not names and below:
            self.problem(f"the folder {below} is empty, and Kaggle keeps no empty folders", "remove it")
        for name in names:
            path, known = folder / name, f"{below}{name}"
            if path.is_dir() and not path.is_symlink():
                if _is_left_out(name):
                    self.left_out.append(f"{known}/")
                else:
                    yield from self.files(f"{known}/")
            elif _is_left_out(name):
                self.left_out.append(known)
            elif self._is_sound(path, known):
                yield known, path

    def _is_sound(self, path: Path, known: str) -> bool:
        """Whether `path` is a file, or a link to one below the same folder, or where links may lead."""
        copy = (
            f"put real files there (cp -rL {self.folder} COPY) and name the copy in kit.toml, or list the folder that "
            f"it leads to there under outside"
        )
        try:
            real = path.resolve()
        except (OSError, RuntimeError):
            self.problem(f"{known} is a link that leads back to itself", "remove it")
            return False
        if path.is_symlink() and not any(real.is_relative_to(home) for home in self.homes):
            self.problem(f"{known} is a link to {real}, outside of the folder", copy)
        elif path.is_symlink() and real.is_dir():
            self.problem(f"{known} is a link to a folder, which would be sent twice", "remove the link")
        elif not real.exists():
            self.problem(f"{known} is a link to nothing", "remove it")
        elif not real.is_file():
            self.problem(f"{known} is neither a file nor a folder", "remove it")
        else:
            return True
        return False

    def problem(self, what: str, next_step: str) -> None:
        """Note what is wrong."""
        self.problems.append(Problem(resource=self.resource, what=what, next_step=next_step))
