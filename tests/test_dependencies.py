"""What is installed is what was locked, and what is imported is declared."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kaggle_kit"
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# Of the engines' and quantisers' environments, which are not the kit's: imported in programs that run there.
ENGINES = {"IPython", "awq", "compressed_tensors", "datasets", "llmcompressor", "peft", "safetensors"}
ENGINES |= {"torch", "transformers", "vllm"}
# What is used through names that its makers may change at any time, and where.
PRIVATE = {"kagglesdk": "remote/client/wire.py", "uvicorn": "loopback/app.py"}
# The same of engines, whose versions the targets' locks fix.
PRIVATE_OF_ENGINES = {"runtime/vllm_engine.py"}


def declared(*, dev: bool) -> list[Requirement]:
    """The dependencies of pyproject.toml; with `dev` also the extra and what builds the project."""
    project = PYPROJECT["project"]
    more = [*project["optional-dependencies"]["dev"], *PYPROJECT["build-system"]["requires"]] if dev else []
    return [Requirement(line) for line in [*project["dependencies"], *more]]


def locked() -> list[tuple[Requirement, str]]:
    """Each requirement of the lock, and the lines of its hashes."""
    entries = re.split(r"\n(?=[A-Za-z])", re.sub(r"^#.*\n", "", LOCK, flags=re.MULTILINE).strip())
    return [(Requirement(entry.split("\\\n")[0].strip()), entry.partition("\\\n")[2]) for entry in entries]


def versions(python: str) -> dict[str, Version]:
    """What the lock installs on Linux for a Python."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
        "platform_system": "Linux",
        "platform_python_implementation": "CPython",
    }
    found = {}
    for requirement, _ in locked():
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (pin,) = requirement.specifier
            found[canonicalize_name(requirement.name)] = Version(pin.version)
    return found


def recipe() -> list[str]:
    """The commands by which make installs."""
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", ".venv/.ready"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [line for line in done.stdout.splitlines() if " pip install " in line]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_satisfies_the_project(python):
    """Every dependency is in it, within its range; who changes one runs make lock."""
    found = versions(python)
    for requirement in declared(dev=True):
        version = found[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement}: {version} is locked"


def test_the_lock_is_exact_and_hashed():
    """One version each, with the SHA-256 of its files, and nothing that says where to fetch them."""
    for requirement, hashes in locked():
        assert re.fullmatch(r"==[^*]+", str(requirement.specifier)), requirement
        assert requirement.url is None
        lines = hashes.replace("\\\n", "\n").split("\n")
        assert hashes
        assert all(re.fullmatch(r"\s+--hash=sha256:[0-9a-f]{64}\s*", line) for line in lines), requirement
    rest = [line for line in LOCK.splitlines() if line.startswith("-") or "://" in line or "file:" in line]
    assert rest == []


def test_make_installs_the_lock_only():
    """Wheels by their hashes; for the project itself, and what builds it, nothing is fetched."""
    packages, project = recipe()
    assert {"--require-hashes", "--only-binary", "requirements.lock"} <= set(packages.split())
    assert {"--no-deps", "--no-build-isolation", "--no-index"} <= set(project.split())


def install(folder: Path, digest: str) -> subprocess.CompletedProcess[str]:
    """Install a small wheel with the options of make, from a folder, by a lock that says `digest`."""
    (folder / "requirements.lock").write_text(f"tiny==1.0 \\\n    --hash=sha256:{digest}\n")
    options = recipe()[0].partition(" pip install ")[2].split()
    command = [sys.executable, "-m", "pip", "install", *options, "--no-index", "--find-links", str(folder)]
    command += ["--target", str(folder / "installed"), "--no-cache-dir"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_wheel_that_was_tampered_with_is_not_installed(tmp_path):
    """The error names the package and both hashes; nothing is installed."""
    info = "tiny-1.0.dist-info"
    with zipfile.ZipFile(tmp_path / "tiny-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("tiny.py", "")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    done = install(tmp_path, "0" * 64)
    assert done.returncode != 0
    assert re.search(r"DO NOT MATCH THE HASHES[\s\S]*tiny==1\.0[\s\S]*Expected sha256 0{64}", done.stderr)
    assert not (tmp_path / "installed").exists()


def third_party() -> dict[str, set[str]]:
    """The modules of others that the kit imports, and where."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for name in names:
                top = name.split(".")[0]
                if top not in sys.stdlib_module_names and top != "kaggle_kit":
                    found.setdefault(top, set()).add(path.relative_to(PACKAGE).as_posix())
    return found


def test_every_import_is_declared():
    """What is imported directly is a dependency of its own: another package's dependencies may change."""
    names = {canonicalize_name(requirement.name) for requirement in declared(dev=False)}
    owners = importlib.metadata.packages_distributions()
    imports = third_party()
    assert len(imports) > 20
    undeclared = {
        module: sorted(places)
        for module, places in imports.items()
        if module not in ENGINES and not {canonicalize_name(owner) for owner in owners.get(module, ())} & names
    }
    assert undeclared == {}


def test_only_programs_of_the_engines_import_what_is_theirs():
    """Nothing that runs in the kit's own Python needs an engine."""
    imports = third_party()
    places = {place for module in ENGINES for place in imports.get(module, ())}
    assert all(place.startswith(("runtime/", "model/quantize_worker")) for place in places), places


@pytest.mark.parametrize("name", PRIVATE)
def test_what_is_used_privately_has_an_upper_bound(name):
    """A later version may have no such name: pip must not take it."""
    (requirement,) = [each for each in declared(dev=False) if each.name == name]
    assert any(part.operator in {"<", "<=", "==", "~="} for part in requirement.specifier)


def test_private_names_of_others_are_used_where_it_is_said():
    """A use of a private name is marked, and stands in the table above."""
    marked = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "noqa: SLF001" in path.read_text(encoding="utf-8")
    }
    assert marked <= {*PRIVATE.values(), *PRIVATE_OF_ENGINES}
