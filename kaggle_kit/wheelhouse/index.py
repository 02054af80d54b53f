"""What a package index offers to a machine that need not be this one, asked through uv.

uv resolves for a foreign Python and platform and writes the answer as pylock.toml (PEP 751); everything
that knows uv's options and that file is here.
"""

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.wheelhouse.pip_settings import pip_find_links
from kaggle_kit.wheelhouse.uv_settings import uv_environment

_TIMEOUT_SECONDS = 900
_ERROR_LINES = 10


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One wheel file on an index; `size` in bytes is None where the index does not tell."""

    name: str
    version: str
    file: str
    url: str
    sha256: str
    size: int | None


@dataclass(frozen=True, kw_only=True)
class Question:
    """What to ask: requirements for CPython `python` on Linux `machine` with `glibc`, wheels only.

    `constraints` limit versions without asking for anything. `preferences` (package, version) are taken wherever
    they will do. `exclude_newer` is a moment as RFC 3339 writes it.
    """

    requirements: tuple[str, ...]
    python: str
    machine: str
    glibc: str
    exclude: tuple[str, ...] = ()
    dependencies: bool = True
    exclude_newer: str | None = None
    constraints: tuple[str, ...] = ()
    preferences: tuple[tuple[str, str], ...] = ()


def torch_sources(torch_backend: str | None) -> list[tuple[str, ...]]:
    """The uv options that lead to torch's build for `torch_backend`, the first choice first.

    A CPU build differs from the usual one in its local version only (2.13.0+cpu), so the folders that pip
    is told to look in may hold it; else uv knows PyTorch's own index. A target without a backend takes what
    the index calls torch, and no find-links: a +cpu build there would win over the CUDA one.
    """
    if torch_backend is None:
        return [()]
    links = pip_find_links()
    own_index = ("--torch-backend", torch_backend)
    with_links = tuple(part for link in links for part in ("--find-links", link))
    return [with_links, own_index] if links else [own_index]


def ask(question: Question, *, source: tuple[str, ...] = ()) -> tuple[Offer, ...]:
    """The wheels that answer `question`, `source` being further uv options (see `torch_sources`).

    One package may be offered as several files. Raises WheelhouseError with the first lines of uv's own
    explanation where it finds no answer.
    """
    with tempfile.TemporaryDirectory(prefix="kit-resolve-") as folder:
        return _offers(tomllib.loads(_run_uv(question, source, Path(folder))))


def _run_uv(question: Question, source: tuple[str, ...], folder: Path) -> str:
    (folder / "requirements.in").write_text("\n".join([*question.requirements, ""]), encoding="utf-8")
    # An override that no Python satisfies takes a package out, whoever asks for it.
    never = [f'{name}; python_version < "0"' for name in question.exclude]
    (folder / "overrides.txt").write_text("\n".join([*never, ""]), encoding="utf-8")
    (folder / "constraints.txt").write_text("\n".join([*question.constraints, ""]), encoding="utf-8")
    if question.preferences:
        # uv keeps to the versions of a former answer wherever they still will do.
        (folder / "pylock.toml").write_text(_former_answer(question.preferences), encoding="utf-8")
    command = [
        *(uv_program(), "pip", "compile", "requirements.in", "--no-header"),
        *("--override", "overrides.txt", "--constraint", "constraints.txt"),
        # Wheels only, so any Python will do; left to itself uv would search for one of that version.
        *("--python", sys.executable, "--python-version", question.python),
        *("--python-platform", f"{question.machine}-manylinux_{question.glibc.replace('.', '_')}"),
        *("--only-binary", ":all:", "--format", "pylock.toml", "--output-file", "pylock.toml"),
        *("--color", "never", "--no-progress", "--quiet"),
        *(() if question.dependencies else ("--no-deps",)),
        *(("--exclude-newer", question.exclude_newer) if question.exclude_newer else ()),
        *source,
    ]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=uv_environment(),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise WheelhouseError(
            f"uv did not resolve {_short(question.requirements)} within {_TIMEOUT_SECONDS} s; "
            "check the connection to the package index and try again"
        ) from error
    if done.returncode != 0:
        raise WheelhouseError(
            f"uv cannot resolve {_short(question.requirements)} for Python {question.python} on "
            f"{question.machine}, glibc {question.glibc}:\n{_relevant(done.stderr)}"
        )
    return (folder / "pylock.toml").read_text(encoding="utf-8")


def _former_answer(preferences: Sequence[tuple[str, str]]) -> str:
    packages = [f'[[packages]]\nname = "{name}"\nversion = "{version}"' for name, version in preferences]
    return "\n".join(['lock-version = "1.0"', 'created-by = "kit"', *packages, ""])


def ask_archive(name: str, version: str) -> tuple[str, str, int, str]:
    """The source archive of a release: its address, file name, size in bytes and SHA-256.

    Raises WheelhouseError where the index has none, or does not tell its hash and size.
    """
    with tempfile.TemporaryDirectory(prefix="kit-resolve-") as folder:
        (Path(folder) / "requirements.in").write_text(f"{name}=={version}\n", encoding="utf-8")
        command = [
            *(uv_program(), "pip", "compile", "requirements.in", "--no-header", "--no-deps"),
            *("--python", sys.executable, "--format", "pylock.toml", "--output-file", "pylock.toml"),
            *("--color", "never", "--no-progress", "--quiet"),
        ]
        done = subprocess.run(command, cwd=folder, env=uv_environment(), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise WheelhouseError(f"{name} {version} cannot be had:\n{_relevant(done.stderr)}")
        packages = tomllib.loads((Path(folder) / "pylock.toml").read_text(encoding="utf-8")).get("packages", [])
    archive = packages[0].get("sdist", {}) if packages else {}
    try:
        url, size, sha256 = str(archive["url"]), int(archive["size"]), str(archive["hashes"]["sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise WheelhouseError(f"the index does not tell address, size and hash of {name} {version}'s source") from error
    return url, unquote(urlsplit(url).path).rsplit("/", 1)[-1], size, sha256


def uv_program() -> str:
    """The program of the Python package uv. Raises WheelhouseError where it is missing."""
    import uv

    try:
        return uv.find_uv_bin()
    except FileNotFoundError as error:
        raise WheelhouseError(f"the program of the Python package uv is missing ({error}); install uv again") from error


def _offers(pylock: Mapping[str, Any]) -> tuple[Offer, ...]:
    offers = []
    for package in pylock.get("packages", []):
        wheels = package.get("wheels", [])
        if not wheels:
            raise WheelhouseError(
                f"{package['name']} {package.get('version', '')} is not offered as a wheel with a hash; "
                "choose another version, or leave it out by the target's `exclude`"
            )
        offers += [_offer(package, wheel) for wheel in wheels]
    return tuple(offers)


def _offer(package: Mapping[str, Any], wheel: Mapping[str, Any]) -> Offer:
    url = wheel.get("url") or Path(wheel["path"]).resolve().as_uri()
    file = unquote(urlsplit(url).path).rsplit("/", 1)[-1]
    sha256 = wheel.get("hashes", {}).get("sha256")
    if not sha256:
        raise WheelhouseError(f"the index gives no SHA-256 for {file}, so it cannot be locked")
    return Offer(
        name=package["name"],
        version=package["version"],
        file=file,
        url=url,
        sha256=sha256,
        size=wheel.get("size"),
    )


def _relevant(stderr: str) -> str:
    lines = [line.rstrip() for line in stderr.splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("warning:", "Using Python"))] or lines
    kept = told[:_ERROR_LINES] + (["  …"] if len(told) > _ERROR_LINES else [])
    return "\n".join(kept) or "  uv gave no reason"


def _short(requirements: Sequence[str]) -> str:
    named = ", ".join(requirements[:3])
    return named if len(requirements) <= 3 else f"{named} and {len(requirements) - 3} more"
