"""What a package index offers to a machine that need not be this one, asked through uv; and where that index is.

uv resolves for a foreign Python and platform and writes the answer as pylock.toml (PEP 751); everything that knows uv's
options and that file is here.

Where packages come from is this user's and this machine's business alone. Left to itself uv also obeys a uv.toml or
pyproject.toml in the working folder and in every folder above it, /tmp among them, where anybody may put one; and
variables that replace versions. Here it reads the user's and the machine's own files, which nobody else can write, and
of the variables those that say where the index is and how it is reached. Two of pip's settings, which uv does not read,
count too: where else to look, and which index, in pip's places and order
(https://pip.pypa.io/en/stable/topics/configuration/): a variable wins over the environment's own file, that over the
user's, that over the machine's. A file that somebody else could change stops the run.
"""

import configparser
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from kaggle_kit.child import child_environment
from kaggle_kit.errors import WheelhouseError
from kaggle_kit.files import home_folder, user_cache, write_atomic
from kaggle_kit.owners import refuse_shared
from kaggle_kit.runtime.install import is_index_setting
from kaggle_kit.suggest import some
from kaggle_kit.wheelhouse.lock import Lock, LockedWheel

_TIMEOUT_SECONDS = 900
_ERROR_LINES = 10
_SEARCH = re.compile(r"Searching for a compatible version of (\S+) \(")
_CANDIDATE = re.compile(r"Found candidate for package \S+ with range .* after \d+ steps: (\S+) version")
_NO_WHEEL = re.compile(r"no usable wheels|no wheels with a matching")
"""How uv 0.8 to 0.11 says what it looks at."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One wheel file on an index; `size` in bytes is None if the index does not tell."""

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


def ask(
    question: Question, *, source: tuple[str, ...] = (), searched_again: set[str] | None = None
) -> tuple[Offer, ...]:
    """The wheels that answer `question`, `source` being further uv options (see `torch_sources`).

    One package may be offered as several files. `searched_again` receives the packages of which uv did not take the
    first version that it looked at, whatever the reason. Raises WheelhouseError with the first lines of uv's own
    explanation where it finds no answer.
    """
    log: list[str] = []
    with tempfile.TemporaryDirectory(prefix="kit-resolve-") as folder:
        offers = _offers(_run_uv(question, source, Path(folder), log=None if searched_again is None else log))
    if searched_again is not None:
        searches = Counter(match[1] for line in log if (match := _SEARCH.search(line)))
        searched_again |= {name for name, times in searches.items() if times > 1}
    return offers


def ask_passed_over(question: Question, *, source: tuple[str, ...] = ()) -> str | None:
    """The newest version of the one requirement of `question` if the index has such, and none as a wheel that fits.

    None if there is no such version, or one that can be had; empty if uv does not say which is the newest.
    """
    log: list[str] = []
    question = replace(question, dependencies=False, constraints=(), preferences=())
    with tempfile.TemporaryDirectory(prefix="kit-resolve-") as folder, suppress(WheelhouseError):
        _run_uv(question, source, Path(folder), log=log)
        return None
    if not any(_NO_WHEEL.search(line) for line in log):
        return None
    return next((match[1] for line in log if (match := _CANDIDATE.search(line))), "")


def ask_archive(name: str, version: str) -> tuple[str, str, int, str]:
    """The source archive of a release: its address, file name, size in bytes and SHA-256.

    Raises WheelhouseError if the index has none, or does not tell its hash and size.
    """
    with tempfile.TemporaryDirectory(prefix="kit-resolve-") as folder:
        refusal = f"{name} {version} cannot be had"
        pylock = _compile([f"{name}=={version}"], ["--no-deps"], Path(folder), refusal=refusal)
    packages = pylock.get("packages", [])
    archive = packages[0].get("sdist", {}) if packages else {}
    try:
        url, size, sha256 = str(archive["url"]), int(archive["size"]), str(archive["hashes"]["sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise WheelhouseError(f"the index does not tell address, size and hash of {name} {version}'s source") from error
    return url, unquote(urlsplit(url).path).rsplit("/", 1)[-1], size, sha256


def _run_uv(
    question: Question, source: tuple[str, ...], folder: Path, *, log: list[str] | None = None
) -> dict[str, Any]:
    # An override that no Python satisfies takes a package out, whoever asks for it.
    never = [f'{name}; python_version < "0"' for name in question.exclude]
    (folder / "overrides.txt").write_text("\n".join([*never, ""]), encoding="utf-8")
    (folder / "constraints.txt").write_text("\n".join([*question.constraints, ""]), encoding="utf-8")
    if question.preferences:
        # uv keeps to the versions of a former answer wherever they still will do.
        (folder / "pylock.toml").write_text(_former_answer(question.preferences), encoding="utf-8")

    options = [
        *("--override", "overrides.txt", "--constraint", "constraints.txt", "--python-version", question.python),
        *("--python-platform", f"{question.machine}-manylinux_{question.glibc.replace('.', '_')}"),
        *("--only-binary", ":all:"),
        *(() if question.dependencies else ("--no-deps",)),
        *(("--exclude-newer", question.exclude_newer) if question.exclude_newer else ()),
        *source,
    ]
    refusal = (
        f"uv cannot resolve {some(question.requirements)} for Python {question.python} on "
        f"{question.machine}, glibc {question.glibc}"
    )
    return _compile(question.requirements, options, folder, refusal=refusal, log=log)


def _compile(
    requirements: Sequence[str],
    options: Sequence[str],
    folder: Path,
    *,
    refusal: str,
    log: list[str] | None = None,
) -> dict[str, Any]:
    """The pylock.toml of `requirements`, made in `folder`. `log` receives the lines in which uv says what it looks at.

    Raises WheelhouseError: `refusal`, and uv's reason.
    """
    (folder / "requirements.in").write_text("\n".join([*requirements, ""]), encoding="utf-8")
    command = [
        *(uv_program(), "pip", "compile", "requirements.in", "--no-header"),
        # Any Python will do; left to itself uv would search for one of the version that is asked for.
        *("--python", sys.executable, "--format", "pylock.toml", "--output-file", "pylock.toml"),
        *("--color", "never", "--no-progress", "--quiet", *options),
    ]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=uv_environment() | ({} if log is None else {"RUST_LOG": "uv_resolver=trace"}),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise WheelhouseError(
            f"uv did not resolve {some(requirements)} within {_TIMEOUT_SECONDS} s; "
            "check the connection to the package index and try again"
        ) from error
    lines = done.stderr.splitlines()
    if log is not None:
        log += lines
    if done.returncode != 0:
        raise WheelhouseError(f"{refusal}:\n{_relevant(lines)}")
    return tomllib.loads((folder / "pylock.toml").read_text(encoding="utf-8"))


def _former_answer(preferences: Sequence[tuple[str, str]]) -> str:
    packages = [f'[[packages]]\nname = "{name}"\nversion = "{version}"' for name, version in preferences]
    return "\n".join(['lock-version = "1.0"', 'created-by = "kit"', *packages, ""])


def uv_program() -> str:
    """The program of the Python package uv. Raises WheelhouseError if it is missing."""
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


def _relevant(stderr: Sequence[str]) -> str:
    told = [at for at, line in enumerate(stderr) if line.startswith("error:")]  # what uv looked at stands before
    lines = [line.rstrip() for line in stderr[told[-1] if told else 0 :] if line.strip()]
    reasons = [line for line in lines if not line.startswith(("warning:", "Using Python"))] or lines
    kept = reasons[:_ERROR_LINES] + (["  …"] if len(reasons) > _ERROR_LINES else [])
    return "\n".join(kept) or "  uv gave no reason"


def locate(wheels: Sequence[LockedWheel], lock: Lock) -> dict[str, str]:
    """The addresses of `wheels` (all or some of `lock`'s), by file name.

    A file counts only with the locked SHA-256. Raises WheelhouseError naming the first that no index offers.
    """
    wanted = {wheel.file: wheel for wheel in wheels}
    urls: dict[str, str] = {}
    seen: dict[str, str] = {}
    failures: list[str] = []
    for source in torch_sources(lock.torch_backend):
        missing = [wheel for file, wheel in wanted.items() if file not in urls]
        if not missing:
            break
        for offer in _pinned_offers(missing, lock, source=source, failures=failures):
            seen[offer.file] = offer.sha256
            if offer.file in wanted and wanted[offer.file].sha256 == offer.sha256:
                urls[offer.file] = offer.url
    _refuse_missing(wanted, target=lock.target, urls=urls, seen=seen, failures=failures)
    return urls


def _pinned_offers(
    wheels: Sequence[LockedWheel], lock: Lock, *, source: tuple[str, ...], failures: list[str]
) -> list[Offer]:
    """What the index offers of exactly these versions, for each of the lock's Pythons that still wants one."""
    offers: list[Offer] = []
    for python in lock.pythons:
        asked = [wheel for wheel in wheels if wheel in lock.wheels_for(python) or wheel not in lock.wheels]
        asked = [wheel for wheel in asked if wheel.file not in {offer.file for offer in offers}]
        if not asked:
            continue
        try:
            offers += ask(_pins(asked, lock, python), source=source)
        except WheelhouseError as error:
            failures.append(str(error))
    return offers


def _pins(wheels: Sequence[LockedWheel], lock: Lock, python: str) -> Question:
    return Question(
        requirements=tuple(f"{wheel.name}=={wheel.version}" for wheel in wheels),
        python=python,
        machine=lock.machine,
        glibc=lock.glibc,
        dependencies=False,
    )


def _refuse_missing(
    wanted: Mapping[str, LockedWheel],
    *,
    target: str,
    urls: Mapping[str, str],
    seen: Mapping[str, str],
    failures: Sequence[str],
) -> None:
    missing = [wheel for file, wheel in sorted(wanted.items()) if file not in urls]
    if not missing:
        return
    wheel = missing[0]
    more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    if wheel.file in seen:
        reason = f"the index offers it with SHA-256 {seen[wheel.file]}, the lock wants {wheel.sha256}"
    elif failures:
        reason = failures[0]
    else:
        reason = "the index does not offer this file"
    raise WheelhouseError(
        f"{wheel.file}{more} cannot be had: {reason}\n"
        f"Try again where the index has it, or make the lock again with: kit wheels lock --target {target}"
    )


_KEPT = {
    "UV_EXCLUDE_NEWER",  # whoever set it wants nothing newer
    "SSL_CLIENT_CERT",
    # Where uv and keyring find logins of an index.
    *("XDG_DATA_HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"),
}


def uv_environment() -> dict[str, str]:
    """What uv is given: this user's index, certificates and proxies, pip's where uv has none; and kit's own cache.

    Raises UsageError if somebody else could change a configuration file, or the cache.
    """
    environment = child_environment(network=True)
    environment |= {name: value for name, value in os.environ.items() if name in _KEPT or is_index_setting(name)}
    environment |= {"UV_NO_CONFIG": "1", "UV_CACHE_DIR": str(user_cache() / "uv")}
    if isinstance(bundle := certificates(), str):
        environment["SSL_CERT_FILE"] = bundle
    if configuration := _configuration():
        environment["UV_CONFIG_FILE"] = str(configuration)
    if not environment.keys() & {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} and (index := pip_index_url()):
        environment["UV_DEFAULT_INDEX"] = index
    return environment


def local_uv_environment() -> dict[str, str]:
    """What uv is given for a question about this machine: no setting of anybody, and no network."""
    kept = {name: value for name, value in os.environ.items() if name == "XDG_DATA_HOME"}
    return child_environment(kept | {"UV_NO_CONFIG": "1", "UV_OFFLINE": "1", "UV_CACHE_DIR": str(user_cache() / "uv")})


def _configuration() -> Path | None:
    """The one file that uv is to read: the named one; else the user's, over the machine's where both are there."""
    if named := os.environ.get("UV_CONFIG_FILE"):
        path = Path(named).absolute()
        if path.exists():  # else uv says so
            refuse_shared_settings(path, whose="uv's")
        return path
    if os.environ.get("UV_NO_CONFIG", "").lower() not in {"", "0", "false", "no", "off", "n", "f"}:
        return None
    user, *machine = _configuration_folders()
    places = ([user / "uv" / "uv.toml"], [*(folder / "uv" / "uv.toml" for folder in machine), Path("/etc/uv/uv.toml")])
    files = [path for each in places for path in [path for path in each if path.is_file()][:1]]
    for path in files:
        refuse_shared_settings(path, whose="uv's")
    return _merged(*files) if len(files) == 2 else next(iter(files), None)


def _configuration_folders() -> list[Path]:
    """Where programs keep their settings: this user's folder, then the machine's."""
    user = Path(os.environ.get("XDG_CONFIG_HOME") or home_folder() / ".config")
    machine = (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)
    return [user, *(Path(folder) for folder in machine if folder)]


def _merged(user: Path, machine: Path) -> Path:
    """Both as one file, as uv itself joins them: of two values the user's, of two lists both, the user's first."""
    import tomlkit

    both = []
    for path in (user, machine):
        try:
            both.append(tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return path  # uv says what is wrong with it
    written = user_cache() / "uv.toml"
    write_atomic(written, tomlkit.dumps(_joined(*both)))
    return written


def _joined(user: Any, machine: Any) -> Any:
    if isinstance(user, dict) and isinstance(machine, dict):
        shared = {key: _joined(user[key], machine[key]) for key in user.keys() & machine.keys()}
        return machine | user | shared
    if isinstance(user, list) and isinstance(machine, list):
        return user + machine
    return user


def certificates() -> str | bool:
    """The CA bundle that the environment names for OpenSSL, requests or pip; True where it names none."""
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT"):
        if (path := os.environ.get(variable)) and Path(path).exists():
            return path
    return True


def pip_find_links() -> tuple[str, ...]:
    """pip's find-links: addresses, or folders as absolute paths; empty where none is set."""
    return tuple(_absolute(link) for link in _setting("find-links").split())


def pip_index_url() -> str | None:
    """pip's index-url, None if none is set."""
    return _setting("index-url").strip() or None


def refuse_shared_settings(path: Path, *, whose: str) -> None:
    """Raise UsageError if somebody else could change `path`, a configuration file of pip or uv; OSError for none."""
    remedy = "It says where packages come from: take the right to write there from others (chmod go-w), or remove it"
    refuse_shared(path, what=f"{whose} configuration {path}", remedy=remedy)


def _setting(name: str) -> str:
    variable = f"PIP_{name.upper().replace('-', '_')}"
    if variable in os.environ:
        return os.environ[variable]
    for path in _files():
        if path.is_file():
            refuse_shared_settings(path, whose="pip's")
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue  # pip reports its own broken files; kit only looks for a hint in them
        if value := parser.get("global", name, fallback=""):
            return value
    return ""


def _files() -> list[Path]:
    """pip's configuration files, the strongest first."""
    named = os.environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    user, *machine = (folder / "pip" / "pip.conf" for folder in _configuration_folders())
    own = [Path(sys.prefix) / "pip.conf", user, home_folder() / ".pip" / "pip.conf", Path("/etc/pip.conf")]
    return [*([Path(named)] if named else []), *own, *machine]


def _absolute(link: str) -> str:
    # uv runs in a folder of its own, where a relative path would lead elsewhere.
    return link if urlsplit(link).scheme else str(Path(link).expanduser().resolve())
