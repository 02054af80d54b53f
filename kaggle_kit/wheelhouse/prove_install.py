"""The install itself, rehearsed: the notebook's own code, the target's Python, an empty folder, no network."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name, parse_wheel_filename

from kaggle_kit.files import remove_aside
from kaggle_kit.wheelhouse.index import uv_program
from kaggle_kit.wheelhouse.kit_wheel import kit_wheel_name
from kaggle_kit.wheelhouse.prove_report import Check, judged, not_run
from kaggle_kit.wheelhouse.uv_settings import local_uv_environment

_REHEARSAL = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from kaggle_kit.errors import KitError
from kaggle_kit.runtime.install import install_engine
try:
    done = install_engine(Path(sys.argv[2]), scratch=Path(sys.argv[3]))
except KitError as error:
    print(json.dumps({"error": str(error)}))
else:
    print(json.dumps({"python": str(done.python), "environment": dict(done.environment),
                      "installer": done.installer, "seconds": dict(done.seconds)}))
"""
_ALONE = ("unshare", "--user", "--map-root-user", "--net", "--")
_VERSION = "import sys; print(*sys.version_info[:2], sep='.')"
_LACKING = re.compile(r"The package `([^`]+)` requires `([A-Za-z0-9._-]+)[^`]*`, but it's not installed")
_OTHER_PLATFORM = re.compile(r"The package `([^`]+)` was built for a different platform")
_IMPORT_SECONDS = 300
_LAST_LINES = 6


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """An install that was made: its Python, the variables it needs, how it was cut off, and seconds by step."""

    python: Path
    environment: Mapping[str, str]
    how: str
    installer: str
    seconds: Mapping[str, float]


def find_python(version: str) -> Path | None:
    """A CPython of `version` ("3.12") on this machine that runs: this one, on the path, pyenv's or uv's; else None."""
    for path in _pythons(version):
        try:
            done = subprocess.run([path, "-I", "-c", _VERSION], capture_output=True, text=True, check=False, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.stdout.strip() == version:
            return path
    return None


def no_network() -> tuple[tuple[str, ...], str]:
    """What to put before a command so that it has no network, and how to call that.

    Where this machine gives no network space of its own, uv's and pip's own options must do.
    """
    try:
        done = subprocess.run([*_ALONE, "true"], capture_output=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        done = None
    if done is not None and done.returncode == 0:
        return _ALONE, "in a network space of its own without any network"
    return (), "with the installer told to stay offline (this machine gives no network space of its own)"


@contextmanager
def rehearsed(folder: Path, *, python: str, base: Path) -> Iterator[Rehearsal | Check]:
    """Install the wheelhouse `folder` into an empty folder below `base`, removed afterwards, in the background.

    Gives the check in place of the rehearsal where there is none: no such Python here, or the install failed.
    """
    program = find_python(python)
    if program is None:
        reason = f"there is no Python {python} on this machine; tags, metadata and ELF files were checked"
        yield not_run("install", reason, python=python)
        return
    base.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="prove-", dir=base))
    try:
        yield _rehearse(folder, program, scratch, python)
    finally:
        remove_aside(scratch)


def _rehearse(folder: Path, program: Path, scratch: Path, python: str) -> Rehearsal | Check:
    before, how = no_network()
    command = [*before, str(program), "-I", "-c", _REHEARSAL]
    command += [str(folder / kit_wheel_name()), str(folder), str(scratch / "kit")]
    done = subprocess.run(command, env=_environment(scratch), capture_output=True, text=True, check=False)
    try:
        body = json.loads(done.stdout)
    except ValueError:
        body = {"error": f"the notebook's install code does not run on this Python:\n{_tail(done.stderr)}"}
    if "error" in body:
        return judged("install", python=python, faults=[str(body["error"])])
    return Rehearsal(
        python=Path(body["python"]),
        environment=body["environment"],
        how=how,
        installer=body["installer"],
        seconds=body["seconds"],
    )


def check_installed(made: Rehearsal, *, python: str, exclude: Sequence[str], mismatched: Iterable[str]) -> Check:
    """What is installed fits together: `uv pip check`, less what the target leaves out on purpose.

    `mismatched` wheels have other tags inside than in their names, by which uv judges after the install.
    """
    if made.environment:
        return not_run("pip check", "an overlay lies over the image's packages, which are not here", python=python)
    command = [uv_program(), "pip", "check", "--offline", "--python", str(made.python.absolute())]
    done = _ask(command)
    left_out = {canonicalize_name(name) for name in exclude}
    inside = {parse_wheel_filename(file)[0] for file in mismatched}
    faults, said = [], []
    for line in done.stderr.splitlines():
        if not line.startswith("The package `"):
            continue
        lacking = _LACKING.match(line)
        if lacking and canonicalize_name(lacking[2]) in left_out:
            said.append(f"{lacking[1]} asks for {lacking[2]}, which is left out on purpose")
        elif (other := _OTHER_PLATFORM.match(line)) and canonicalize_name(other[1]) in inside:
            said.append(f"{other[1]} has the tags of another platform in its WHEEL file, not in its name")
        else:
            faults.append(line)
    if done.returncode and not faults and not said:
        faults.append(f"uv pip check failed:\n{_tail(done.stderr)}")
    return judged("pip check", python=python, faults=faults, said=said)


def check_import(
    made: Rehearsal, *, python: str, module: str, gpus: int, variables: Mapping[str, str], scratch: Path
) -> Check:
    """The engine can be imported. Where the target has a GPU and this machine none, a failure may be due to that."""
    name = f"import {module}"
    blind = gpus > 0 and not Path("/dev/nvidia0").exists()
    before, _ = no_network()
    environment = _environment(scratch) | dict(variables) | dict(made.environment)
    command = [*before, str(made.python), "-c", f"import {module}; print(getattr({module}, '__version__', ''))"]
    try:
        done = subprocess.run(
            command, env=environment, cwd=scratch, capture_output=True, text=True, check=False, timeout=_IMPORT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return judged(name, python=python, faults=[f"it did not end within {_IMPORT_SECONDS} s"])
    if done.returncode and blind:
        reason = "this machine has no GPU, and the import ends without one; libraries and GPU code were read instead"
        return not_run(name, f"{reason}:\n{_tail(done.stderr)}", python=python)
    if done.returncode:
        return judged(name, python=python, faults=[f"it fails:\n{_tail(done.stderr)}"])
    said = [f"version {line}" for line in done.stdout.strip().splitlines()[-1:]]
    said += ["without a GPU: its kernels were read, not run"] if blind else []
    return judged(name, python=python, faults=[], said=said)


def _pythons(version: str) -> Iterator[Path]:
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        yield Path(sys.executable)
    roots = {Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv"), Path.home() / ".pyenv"}
    for root in sorted(roots):
        for folder in sorted(root.glob(f"versions/{version}.*"), reverse=True):
            yield folder / "bin" / "python"
    if found := shutil.which(f"python{version}"):
        yield Path(found)
    for place in ("/usr/bin", "/usr/local/bin", f"/opt/python{version}/bin"):
        yield Path(place) / f"python{version}"
    for how in ("--system", "--managed-python"):
        command = [uv_program(), "python", "find", "--offline", "--no-python-downloads", how, version]
        done = _ask(command)
        if done.returncode == 0 and done.stdout.strip():
            yield Path(done.stdout.strip())


def _ask(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Ask uv about this machine, away from the working folder: uv starts the Python of a .venv that it finds there."""
    environment = local_uv_environment()
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False)


def _environment(scratch: Path) -> dict[str, str]:
    """A home and caches of its own: nothing that this user has installed or configured helps."""
    home = scratch / "home"
    home.mkdir(exist_ok=True)
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_LAST_LINES:])
