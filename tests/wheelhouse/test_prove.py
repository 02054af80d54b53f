"""The proof: what it checks, what it says, and who may rely on it. Faults are in test_planted_faults."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from planted import finish, gpu_library, make_target, make_wheel, place

from kaggle_kit.cli.main import kit
from kaggle_kit.errors import WheelhouseError
from kaggle_kit.wheelhouse import prove as prove_module
from kaggle_kit.wheelhouse.checks import Check, Proof
from kaggle_kit.wheelhouse.prove import find_python, no_network, proof_problem, prove

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc here to make libraries with")


def sound(project: Path) -> Path:
    """Make a project with a sound wheelhouse: the engine asks for a helper, and for what is left out."""
    folder = place(project)
    make_wheel(folder, requires=["helper>=1", "unwanted", 'other; python_version < "3"'])
    make_wheel(folder, "helper-1.5-py3-none-any.whl")
    finish(project)
    return project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a sound wheelhouse, to be changed."""
    return sound(tmp_path / "project")


@dataclass(frozen=True)
class Proved:
    """A project, what stood in the way before its proof, and the proof."""

    project: Path
    before: str | None
    proof: Proof


@pytest.fixture
def proved(tmp_path_factory: pytest.TempPathFactory, environment: None) -> Proved:  # noqa: ARG001
    """A project with a sound wheelhouse, proved. Nobody changes it: it is proved once."""
    if not _PROVED:
        project = sound(tmp_path_factory.mktemp("proved") / "project")
        before = proof_problem(project, "tiny")
        _PROVED.append(Proved(project, before, prove(make_target(), project=project)))
    return _PROVED[0]


_PROVED: list[Proved] = []


def result(proof: Proof, name: str, python: str | None = None) -> Check:
    """The one check of that name."""
    (found,) = [check for check in proof.checks if check.name == name and python in {None, check.python}]
    return found


def test_a_sound_wheelhouse_is_proved(proved: Proved) -> None:
    """It is installed with no network, fits together, and its engine is imported."""
    proof = proved.proof
    assert proof.verdict == "proved", proof.lines()
    assert [check.name for check in proof.checks if check.result == "not run"] == []
    assert result(proof, "install").notes[0].startswith("by ")
    assert result(proof, "import engine").notes == ("version 1.0",)


def test_what_is_left_out_on_purpose_is_said(proved: Proved) -> None:
    """The target's exclusions are accepted in metadata and after the install, and noted in both."""
    proof = proved.proof
    assert result(proof, "requirements").notes == (
        "unwanted is left out on purpose (required by engine-1.0-py3-none-any.whl)",
    )
    assert result(proof, "pip check").notes == ("engine asks for unwanted, which is left out on purpose",)


def test_a_target_that_leaves_nothing_out(project: Path) -> None:
    """The same wheels fail where the target does not say that it leaves the package out."""
    finish(project, target=make_target(exclude=()))
    assert result(prove(make_target(exclude=()), project=project), "requirements").result == "failed"


def test_tags_inside_that_disagree_are_a_warning(project: Path) -> None:
    """A WHEEL file that names other tags than the file's name is noted; installers go by the name."""
    make_wheel(place(project), "odd-1.0-cp38-abi3-manylinux_2_17_x86_64.whl", tags="cp312-cp312-linux_x86_64")
    finish(project)
    proof = prove(make_target(), project=project)
    assert proof.verdict == "proved", proof.lines()
    assert result(proof, "names inside").result == "warned"


def test_a_python_that_is_not_here(project: Path) -> None:
    """For a Python that this machine lacks the install says so, and all else is checked."""
    finish(project, target=make_target(pythons=("3.11", "3.99")))
    proof = prove(make_target(pythons=("3.11", "3.99")), project=project)
    assert result(proof, "install", "3.99").result == "not run"
    assert "there is no Python 3.99 on this machine" in result(proof, "install", "3.99").notes[0]
    assert result(proof, "tags", "3.99").result == "passed"


@pytest.mark.parametrize("version", ["3.10", "3.12", "3.13"])
def test_another_python_of_this_machine(project: Path, version: str) -> None:
    """The notebook's install code runs on each Python that an image may have."""
    if find_python(version) is None:
        pytest.skip(f"there is no Python {version} here")
    target = make_target(pythons=(version,))
    finish(project, target=target)
    proof = prove(target, project=project)
    assert result(proof, "install").result == "passed", "\n".join(proof.lines())
    assert result(proof, "import engine").result == "passed"


def test_the_install_has_no_network() -> None:
    """Where this machine can cut a process off, a connection from inside fails."""
    before, words = no_network()
    if not before:
        pytest.skip("this machine gives no network space of its own")
    program = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    python = find_python("3.11")
    done = subprocess.run([*before, python, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "without any network" in words


def test_without_a_network_space_it_says_so(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this machine cannot cut a process off, the installer is told to stay offline, and the proof says that."""
    monkeypatch.setattr(prove_module, "_ALONE", ("/nowhere/unshare",))
    notes = result(prove(make_target(), project=project), "install").notes
    assert "told to stay offline (this machine gives no network space of its own)" in notes[0]


def test_an_install_code_that_fails_is_a_failed_check(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the notebook would meet is what the proof says."""
    monkeypatch.setattr(prove_module, "_REHEARSAL", "raise SystemExit('boom')")
    check = result(prove(make_target(), project=project), "install")
    assert check.result == "failed"
    assert "boom" in check.notes[0]


def test_an_engine_that_cannot_be_imported(project: Path) -> None:
    """An engine whose import fails is a failed check, with the last words."""
    make_wheel(place(project), members={"engine.py": b"import nothing_of_that_name\n"})
    finish(project)
    check = result(prove(make_target(exclude=("unwanted",)), project=project), "import engine")
    assert check.result == "failed"
    assert "No module named 'nothing_of_that_name'" in check.notes[0]


@needs_gcc
@pytest.mark.parametrize(
    ("code", "outcome"),
    [([(2, 75), (2, 90)], "passed"), ([(1, 70)], "passed"), ([(2, 80), (2, 90)], "failed"), ([], "failed")],
)
def test_gpu_code(project: Path, tmp_path: Path, code: list[tuple[int, int]], outcome: str) -> None:
    """A target with a GPU needs an engine with code for it."""
    library = gpu_library(tmp_path / "gcc", code)
    make_wheel(place(project), members={"engine_C.abi3.so": library})
    target = make_target(gpus=2, compute_capability="7.5", cuda="13.0", exclude=())
    finish(project, target=target)
    check = result(prove(target, project=project, install=False), "GPU code")
    assert check.result == outcome, check.notes


@needs_gcc
def test_cuda_later_than_the_driver(project: Path, tmp_path: Path) -> None:
    """A library that is linked to a CUDA which the driver does not run is named."""
    from planted import compile_library

    cudart = tmp_path / "libcudart.so.13"
    compile_library("int cuda(void) { return 1; }", cudart, "-Wl,-soname,libcudart.so.13")
    source = "extern int cuda(void); void *PyInit_x(void) { return cuda() ? 0 : 0; }"
    module = compile_library(source, tmp_path / "x.so", "-x", "none", cudart)
    make_wheel(place(project), members={"engine_x.so": module, "nvidia/libcudart.so.13": cudart.read_bytes()})
    target = make_target(gpus=1, compute_capability="7.5", cuda="12.8", exclude=())
    finish(project, target=target)
    check = result(prove(target, project=project, install=False), "CUDA")
    assert (check.result, check.notes[0]) == (
        "failed",
        "engine_x.so in engine-1.0-py3-none-any.whl needs libcudart.so.13, the target's driver runs CUDA 12.8 at most",
    )


def test_too_little_scratch_space(project: Path) -> None:
    """What the installed wheels take is compared with what the target is known to have."""
    check = result(prove(make_target(scratch_bytes=100), project=project, install=False), "space")
    assert check.result == "failed"


def test_the_proof_file_is_the_same_again(proved: Proved, tmp_path: Path) -> None:
    """A proof holds no time and no place: the same again, over an earlier one and elsewhere too."""
    first = (place(proved.project) / "proof.json").read_bytes()
    project = shutil.copytree(proved.project, tmp_path / "elsewhere")
    prove(make_target(), project=project)
    assert (place(project) / "proof.json").read_bytes() == first
    assert str(proved.project).encode() not in first


def test_proved(proved: Proved) -> None:
    """After a proof nothing stands in the way."""
    assert proved.before == (
        f"the wheelhouse {place(proved.project)} was never proved; run: kit wheels prove --target tiny"
    )
    assert proof_problem(proved.project, "tiny") is None


def test_a_proof_is_of_one_manifest(project: Path) -> None:
    """A wheelhouse that changed since is not proved."""
    prove(make_target(), project=project, install=False)
    make_wheel(place(project), "more-1.0-py3-none-any.whl")
    finish(project)
    # `finish` also counted the proof among the files; a wheelhouse that kit assembles does not.
    assert "has changed since it was proved" in str(proof_problem(project, "tiny"))


def test_a_proof_is_of_one_lock(project: Path) -> None:
    """A lock that was made anew since is not proved by the old files."""
    prove(make_target(), project=project, install=False)
    lock = project / "wheels" / "pylock.tiny.toml"
    lock.write_text(lock.read_text().replace('exclude = ["unwanted"]', 'exclude = ["unwanted", "more"]'))
    assert "the lock of tiny has changed" in str(proof_problem(project, "tiny"))


def test_a_failed_proof(project: Path) -> None:
    """A failed proof is told with its first fault."""
    make_wheel(place(project), "needy-1.0-py3-none-any.whl", requires=["surprise"])
    finish(project)
    prove(make_target(), project=project, install=False)
    assert "failed its proof (requirements): needy-1.0-py3-none-any.whl requires surprise" in str(
        proof_problem(project, "tiny")
    )


@pytest.mark.parametrize("text", ["", "[]", '{"verdict": "proved"}'])
def test_a_proof_that_cannot_be_read(project: Path, text: str) -> None:
    """A broken proof proves nothing."""
    (place(project) / "proof.json").write_text(text)
    assert "cannot be read; run: kit wheels prove" in str(proof_problem(project, "tiny"))


def test_nothing_to_prove(tmp_path: Path, project: Path) -> None:
    """Without a lock or without files the command that makes them is named."""
    with pytest.raises(WheelhouseError, match="kit wheels lock --target tiny"):
        prove(make_target(), project=tmp_path)
    (place(project) / "manifest.json").unlink()
    with pytest.raises(WheelhouseError, match="kit wheels fetch --target tiny"):
        prove(make_target(), project=project)
    assert "kit wheels fetch --target tiny" in str(proof_problem(project, "tiny"))


def test_command_line(project: Path) -> None:
    """The command prints the checks, as text and as JSON, and ends with 1 where one failed."""
    (project / "kit.toml").write_text("")
    (project / "targets").mkdir()
    text = 'summary = "x"\npython = "3.11"\nglibc = "2.35"\nengine = "engine==1.0"\nexclude = ["unwanted"]\n'
    (project / "targets" / "tiny.toml").write_text(f"{text}session_seconds = 60\nworking_bytes = 1\n")
    arguments = ["--target", "tiny", "--project", str(project)]
    done = CliRunner().invoke(kit, ["wheels", "prove", *arguments])
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "tiny: proved")
    done = CliRunner().invoke(kit, ["wheels", "prove", *arguments, "--json", "--no-install"])
    assert json.loads(done.stdout)["verdict"] == "proved"
    (place(project) / "helper-1.5-py3-none-any.whl").unlink()
    done = CliRunner().invoke(kit, ["wheels", "prove", *arguments])
    assert done.exit_code == 1
    assert "helper-1.5-py3-none-any.whl is missing" in done.stdout
