"""`kit wheels` as a user meets it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fake_index import Index

from kaggle_kit.cli.main import kit
from kaggle_kit.errors import UsageError, WheelhouseError

_TARGET = """
summary = "for tests"
python = "3.11"
glibc = "2.35"
engine = "engine==1.0"
extras = ["helper>=1"]
exclude = ["unwanted"]
session_seconds = 60
working_bytes = 1000000
"""


@pytest.fixture
def project(stocked: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a target of its own, and a folder below it to stand in."""
    assert stocked.port
    folder = tmp_path / "project"
    (folder / "targets").mkdir(parents=True)
    (folder / "below").mkdir()
    (folder / "kit.toml").touch()
    (folder / "targets" / "tiny.toml").write_text(_TARGET)
    monkeypatch.chdir(folder / "below")
    return folder


def _kit(*arguments: str) -> Result:
    result = CliRunner().invoke(kit, ["wheels", *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_from_lock_to_verify(project: Path) -> None:
    """lock, fetch and verify follow each other, each from a folder below the project."""
    assert "4 wheels" in _kit("lock", "--target", "tiny").stdout
    fetched = _kit("fetch", "--target", "tiny")
    assert "ready in" in fetched.stdout
    assert "wheels: 0 of 0 MB" in fetched.stderr
    assert "every SHA-256" in _kit("verify", "--target", "tiny").stdout
    assert "names and sizes" in _kit("verify", "--target", "tiny", "--quick").stdout
    assert (project / "wheels" / "tiny" / "manifest.json").is_file()


def test_lock_says_what_was_passed_over(project: Path, stocked: Index) -> None:
    """A newer version that comes as source only is a note, and the lock is written all the same."""
    stocked.files["helper-2.0.tar.gz"] = b"not opened"
    assert (
        "  note: helper 1.5 is locked for Python 3.11: the newer 2.0 comes as"
        in _kit("lock", "--target", "tiny").stdout
    )
    assert (project / "wheels" / "pylock.tiny.toml").is_file()


def test_lock_twice_is_the_same(project: Path) -> None:
    """The same index gives the same lock, byte for byte."""
    _kit("lock", "--target", "tiny")
    first = (project / "wheels" / "pylock.tiny.toml").read_bytes()
    _kit("lock", "--target", "tiny")
    assert (project / "wheels" / "pylock.tiny.toml").read_bytes() == first


def test_list(project: Path) -> None:
    """The list names each wheel, the largest first, and as JSON holds the whole lock."""
    assert project.is_dir()
    _kit("lock", "--target", "tiny")
    assert _kit("list", "--target", "tiny").stdout.startswith("child ")
    body = json.loads(_kit("list", "--target", "tiny", "--json").stdout)
    assert [wheel["name"] for wheel in body["wheels"]] == ["binary", "child", "engine", "helper"]


def test_other_folder(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--project` names the project from anywhere."""
    monkeypatch.chdir(tmp_path)
    assert _kit("lock", "--target", "tiny", "--project", str(project)).exit_code == 0


def test_outside_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside any project the error says what is missing."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"kit\.toml"):
        _kit("list", "--target", "tiny")


@pytest.mark.parametrize("command", ["lock", "fetch", "verify", "list", "sbom"])
def test_unknown_target(project: Path, command: str) -> None:
    """A target that does not exist is wrong use in every command, with the name that was meant."""
    assert project.is_dir()
    with pytest.raises(UsageError, match=r"'tinny'.*did you mean 'tiny'"):
        _kit(command, "--target", "tinny")


def test_failed_lock_keeps_the_old_one(project: Path, stocked: Index) -> None:
    """A lock that cannot be made leaves the former one as it was."""
    _kit("lock", "--target", "tiny")
    before = (project / "wheels" / "pylock.tiny.toml").read_bytes()
    stocked.files.clear()
    (project / "targets" / "tiny.toml").write_text(_TARGET.replace("engine==1.0", "engine==3.0"))
    with pytest.raises(WheelhouseError, match=r"engine==3\.0"):
        _kit("lock", "--target", "tiny")
    assert (project / "wheels" / "pylock.tiny.toml").read_bytes() == before


def test_fetch_repairs(project: Path) -> None:
    """After a flipped byte verify fails, fetch repairs, and verify passes."""
    _kit("lock", "--target", "tiny")
    _kit("fetch", "--target", "tiny")
    wheel = project / "wheels" / "tiny" / "child-0.1-py3-none-any.whl"
    wheel.chmod(0o644)
    wheel.write_bytes(wheel.read_bytes()[:-1] + b"!")
    with pytest.raises(WheelhouseError, match="Repair it with: kit wheels fetch --target tiny"):
        _kit("verify", "--target", "tiny")
    _kit("fetch", "--target", "tiny")
    assert _kit("verify", "--target", "tiny").exit_code == 0


def test_lock_says_why(project: Path) -> None:
    """`lock` prints the reasons of its choice."""
    assert project.is_dir()
    assert "the table of engines says nothing of engine==1.0" in _kit("lock", "--target", "tiny").stdout


def test_lock_with_another_engine_can_be_fetched(project: Path, stocked: Index) -> None:
    """A lock of an engine named on the command line is used though the target says another one."""
    stocked.add("engine-0.9-py3-none-any.whl")
    _kit("lock", "--target", "tiny", "--engine", "engine==0.9")
    _kit("fetch", "--target", "tiny")
    assert (project / "wheels" / "tiny" / "engine-0.9-py3-none-any.whl").is_file()


def test_lock_an_overlay(project: Path) -> None:
    """`--mode overlay` takes the target's freeze, and says what stays and what is laid over."""
    (project / "targets" / "tiny.txt").write_text("child==0.1\nbinary==1.0\n")
    (project / "targets" / "tiny.toml").write_text(f'{_TARGET}freeze = {{ "3.11" = "tiny.txt" }}\n')
    said = _kit("lock", "--target", "tiny", "--mode", "overlay").stdout
    assert "3 wheels" in said
    assert "1 packages of the image will do as they are" in said
    assert "binary 1.0 of the image will not do: 2.0 is laid over it" in said


def test_list_counts_the_parts(project: Path) -> None:
    """The list adds up what is locked and the kit's own wheel, and says how many licences nobody told."""
    assert project.is_dir()
    _kit("lock", "--target", "tiny")
    said = _kit("list", "--target", "tiny").stdout
    assert "engine part" in said
    assert "kit part        1 wheels" in said
    assert "4 licences are unknown" in said
    body = json.loads(_kit("list", "--target", "tiny", "--json").stdout)
    assert body["totals"]["engine part"]["wheels"] == 4
    assert {wheel["licence"] for wheel in body["wheels"]} == {"unknown"}


def test_diff_of_two_locks(project: Path, stocked: Index, tmp_path: Path) -> None:
    """Two locks are compared by target or by file; a newer package breaks nothing, and the exit code is 0."""
    _kit("lock", "--target", "tiny")
    old = tmp_path / "pylock.old.toml"
    (project / "wheels" / "pylock.tiny.toml").rename(old)
    stocked.add("helper-1.6-py3-none-any.whl")
    _kit("lock", "--target", "tiny")
    result = _kit("diff", str(old), "tiny")
    assert (result.exit_code, result.stdout) == (0, "helper 1.5 → 1.6\n1 difference, none of which breaks anything\n")


def test_diff_with_an_image_that_moved(project: Path, tmp_path: Path) -> None:
    """A freeze of another Python breaks the binary wheel: exit code 1, and JSON says the same."""
    assert project.is_dir()
    _kit("lock", "--target", "tiny")
    freeze = tmp_path / "freeze.txt"
    freeze.write_text("# python 3.13\nhelper==2.0\n")
    result = _kit("diff", "tiny", str(freeze))
    assert result.exit_code == 1
    assert "breaks: 1 cp311 wheel will not load on 3.13: binary" in result.stdout
    assert "helper 1.5 → 2.0 in the image" in result.stdout
    body = json.loads(_kit("diff", "tiny", str(freeze), "--json").stdout)
    assert body["breaks"] is True
    assert {change["kind"] for change in body["changes"]} == {"python", "wheels", "package"}


def test_diff_with_a_python_that_is_told(project: Path, tmp_path: Path) -> None:
    """`--python` tells what a freeze does not."""
    assert project.is_dir()
    _kit("lock", "--target", "tiny")
    (tmp_path / "freeze.txt").write_text("helper==1.5\n")
    assert _kit("diff", "tiny", str(tmp_path / "freeze.txt"), "--python", "3.11").stdout == "nothing differs\n"


def test_diff_with_a_targets_image(project: Path) -> None:
    """`image:TARGET` compares with what is known of that target's images."""
    assert project.is_dir()
    _kit("lock", "--target", "tiny")
    result = _kit("diff", "tiny", "image:kaggle-t4x2")
    assert result.exit_code == 1
    assert "1 cp311 wheel will not load on 3.13: binary" in result.stdout


def test_sbom_to_a_file(project: Path, tmp_path: Path) -> None:
    """`sbom` prints the bill, or writes the same text to a file."""
    assert project.is_dir()
    _kit("lock", "--target", "tiny")
    printed = _kit("sbom", "--target", "tiny").stdout
    _kit("sbom", "--target", "tiny", "--out", str(tmp_path / "tiny.cdx.json"))
    assert (tmp_path / "tiny.cdx.json").read_text() == printed
    assert json.loads(printed)["specVersion"] == "1.6"


def test_importing_is_light() -> None:
    """The command's module imports neither requests, pydantic, packaging, rich nor uv, so `kit --help` stays fast."""
    heavy = "requests pydantic packaging rich uv"
    program = f"import sys, kaggle_kit.cli.wheels; print([m for m in '{heavy}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[]"
