"""A wheelhouse as datasets, with the names that Kaggle shows."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from planted import finish, make_target, make_wheel, place

from kaggle_kit.errors import UsageError, WheelhouseError
from kaggle_kit.runtime.install import install, install_engine
from kaggle_kit.runtime.manifest import kaggle_name, kaggle_path
from kaggle_kit.wheelhouse import folder as folder_module
from kaggle_kit.wheelhouse.dataset import made_kit_part, make_dataset, make_kit_part, stored_names

REFERENCE = "someone/kit-wheels-tiny"


@pytest.fixture
def wheelhouse(tmp_path: Path) -> Path:
    """The engine, a wheel with a local version, and one for another Python."""
    folder = place(tmp_path / "project")
    make_wheel(folder)
    make_wheel(folder, "local-1.0+cpu-py3-none-any.whl")
    make_wheel(folder, "other-1.0-cp312-cp312-manylinux_2_17_x86_64.whl")
    target = make_target(pythons=("3.11", "3.12"))
    return finish(
        tmp_path / "project", target=target, pythons={"other-1.0-cp312-cp312-manylinux_2_17_x86_64.whl": ("3.12",)}
    )


@pytest.fixture
def out(wheelhouse: Path, tmp_path: Path) -> Path:
    """The two parts, written."""
    make_dataset(wheelhouse, reference=REFERENCE, out=tmp_path / "out")
    return tmp_path / "out"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_names_and_places(out: Path) -> None:
    """Wheels lie in a sub-folder under the names that Kaggle shows; the kit's own wheel is a part of its own."""
    assert sorted(contents(out / "engine")) == [
        "README.md",
        "dataset-metadata.json",
        "manifest.json",
        "wheels/engine-1.0-py3-none-any.whl",
        "wheels/local-1.0cpu-py3-none-any.whl",
        "wheels/other-1.0-cp312-cp312-manylinux_2_17_x86_64.whl",
    ]
    assert sorted(contents(out / "kit")) == [
        "README.md",
        "dataset-metadata.json",
        folder_module.kit_wheel_name(),
        "manifest.json",
    ]


def test_manifest_knows_the_true_names(out: Path) -> None:
    """The stored name leads to the true one, and Pythons are told by stored name."""
    body = json.loads((out / "engine" / "manifest.json").read_text())
    assert body["true_names"] == {"wheels/local-1.0cpu-py3-none-any.whl": "local-1.0+cpu-py3-none-any.whl"}
    assert body["only"] == {"wheels/other-1.0-cp312-cp312-manylinux_2_17_x86_64.whl": ["3.12"]}
    assert body["pythons"] == ["3.11", "3.12"]
    assert body["installed_bytes"]["3.12"] > body["installed_bytes"]["3.11"] > 0


def test_private_and_within_kaggles_limits(out: Path) -> None:
    """Each part has an id of its own, a title of 6 to 50 letters, one licence, and is private."""
    found = [json.loads((out / part / "dataset-metadata.json").read_text()) for part in ("engine", "kit")]
    assert [body["id"] for body in found] == [REFERENCE, f"{REFERENCE}-kit"]
    assert all(6 <= len(body["title"]) <= 50 and body["isPrivate"] and len(body["licenses"]) == 1 for body in found)
    assert all(20 <= len(body["subtitle"]) <= 80 for body in found)


def test_hard_links(out: Path, wheelhouse: Path) -> None:
    """Gigabytes take no second place on the disk."""
    for file in ("engine-1.0-py3-none-any.whl", "other-1.0-cp312-cp312-manylinux_2_17_x86_64.whl"):
        assert (out / "engine" / "wheels" / file).samefile(wheelhouse / file)


def test_same_bytes_again(out: Path, wheelhouse: Path, tmp_path: Path) -> None:
    """The same wheelhouse gives the same folders, over an earlier one and anew."""
    first = contents(out)
    make_dataset(wheelhouse, reference=REFERENCE, out=out)
    make_dataset(wheelhouse, reference=REFERENCE, out=tmp_path / "anew")
    assert contents(out) == contents(tmp_path / "anew") == first


def test_a_change_of_the_kit_leaves_the_engines_part(
    out: Path, wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another wheel of the kit changes the small part only."""
    first = contents(out)
    monkeypatch.setattr(folder_module, "_WHEEL", folder_module._WHEEL + b"X-Changed: yes\n")
    (wheelhouse / folder_module.kit_wheel_name()).unlink()
    (wheelhouse / "manifest.json").unlink()
    only = {"other-1.0-cp312-cp312-manylinux_2_17_x86_64.whl": ("3.12",)}
    finish(tmp_path / "project", target=make_target(pythons=("3.11", "3.12")), pythons=only)
    make_dataset(wheelhouse, reference=REFERENCE, out=out)
    changed = {path for path, content in contents(out).items() if first[path] != content}
    assert changed == {f"kit/{folder_module.kit_wheel_name()}", "kit/manifest.json"}


@pytest.mark.parametrize("with_uv", [True, False])
def test_installs_from_both_parts(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_uv: bool) -> None:
    """From what Kaggle shows, read-only, uv and pip make the environment, with the true versions."""
    import uv

    monkeypatch.setenv("PATH", str(Path(uv.find_uv_bin()).parent) if with_uv else "/nowhere")
    done = install_engine([out / "engine", out / "kit"], scratch=tmp_path / "scratch")
    assert done.installer == ("uv" if with_uv else "pip")
    site = next((done.python.parents[1] / "lib").glob("python*/site-packages"))
    assert (site / "local-1.0+cpu.dist-info").is_dir()
    assert (site / "kaggle_kit" / "runtime").is_dir()
    assert (site / "other.py").exists() == (sys.version_info[:2] == (3, 12))


def test_a_flattened_upload_installs_too(out: Path, tmp_path: Path) -> None:
    """Where Kaggle strips the single sub-folder, the wheels are found beside the manifest."""
    for path in list((out / "engine" / "wheels").iterdir()):
        shutil.move(path, out / "engine" / path.name)
    assert install([out / "engine", out / "kit"], scratch=tmp_path / "scratch").is_file()


def test_a_part_that_is_not_attached(out: Path, tmp_path: Path) -> None:
    """One part without the other ends with the part's name."""
    with pytest.raises(
        WheelhouseError, match=r"the part 'engine' of the wheelhouse tiny is missing.*attach its dataset"
    ):
        install(out / "kit", scratch=tmp_path / "scratch")
    with pytest.raises(WheelhouseError, match="the part 'kit' of the wheelhouse tiny is missing"):
        install(out / "engine", scratch=tmp_path / "scratch")


def test_parts_that_do_not_belong_together(out: Path, wheelhouse: Path, tmp_path: Path) -> None:
    """The kit's part of one upload and the engine's of another are refused."""
    make_wheel(wheelhouse, "late-1.0-py3-none-any.whl")
    finish(tmp_path / "project", target=make_target(pythons=("3.11", "3.12")))
    make_dataset(wheelhouse, reference=REFERENCE, out=tmp_path / "later")
    with pytest.raises(WheelhouseError, match="was made for another version of the wheelhouse tiny"):
        install([tmp_path / "later" / "engine", out / "kit"], scratch=tmp_path / "scratch")


def test_a_corrupt_file_of_a_part(out: Path, tmp_path: Path) -> None:
    """A file that changed on the way is named before anything is installed."""
    path = out / "engine" / "wheels" / "local-1.0cpu-py3-none-any.whl"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1] + b"x")
    with pytest.raises(WheelhouseError, match=r"local-1\.0cpu-py3-none-any\.whl .*it is corrupt"):
        install([out / "engine", out / "kit"], scratch=tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize("reference", ["no-owner", "me/ab", "me/Upper-case", "me/two--hyphens", f"me/{'x' * 47}"])
def test_a_reference_that_kaggle_would_refuse(wheelhouse: Path, tmp_path: Path, reference: str) -> None:
    """Length and letters are checked before gigabytes are uploaded; the small part's longer slug too."""
    with pytest.raises(UsageError, match="is no dataset for Kaggle"):
        make_dataset(wheelhouse, reference=reference, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(wheelhouse: Path, tmp_path: Path) -> None:
    """Nothing of the user's is overwritten."""
    (tmp_path / "out" / "engine").mkdir(parents=True)
    (tmp_path / "out" / "engine" / "precious.txt").write_text("keep")
    with pytest.raises(UsageError, match="is no part of a wheelhouse's dataset"):
        make_dataset(wheelhouse, reference=REFERENCE, out=tmp_path / "out")
    assert (tmp_path / "out" / "engine" / "precious.txt").read_text() == "keep"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["engine"]


def test_a_broken_wheelhouse_is_not_written(wheelhouse: Path, tmp_path: Path) -> None:
    """What is not whole is not made ready for an upload."""
    (wheelhouse / "engine-1.0-py3-none-any.whl").unlink()
    with pytest.raises(WheelhouseError, match="is missing"):
        make_dataset(wheelhouse, reference=REFERENCE, out=tmp_path / "out")


def test_the_kits_part_alone(tmp_path: Path) -> None:
    """It needs no wheelhouse: the kit's own wheel, with the manifest by which a notebook finds it."""
    folder = make_kit_part("tiny", reference=REFERENCE, out=tmp_path)
    assert (folder / folder_module.kit_wheel_name()).read_bytes() == folder_module.kit_wheel_bytes()
    body = json.loads((folder / "manifest.json").read_text())
    assert (body["kind"], body["name"], body["part"]) == ("wheelhouse", "tiny", "kit")
    assert json.loads((folder / "dataset-metadata.json").read_text())["id"] == f"{REFERENCE}-kit"


def test_only_a_part_that_was_made_alone_is_taken_alone(out: Path, tmp_path: Path) -> None:
    """The kit's part that belongs to an engine's is not."""
    folder = make_kit_part("tiny", reference=REFERENCE, out=tmp_path / "alone")
    assert made_kit_part(REFERENCE, tmp_path / "alone") == {f"{REFERENCE}-kit": folder}
    assert made_kit_part(REFERENCE, out) == made_kit_part(REFERENCE, tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    ("true", "shown"),
    [
        ("torch-2.13.0+cu126-cp312-cp312-linux_x86_64.whl", "torch-2.13.0cu126-cp312-cp312-linux_x86_64.whl"),
        ("a~b-1.0-py3-none-any.whl", "ab-1.0-py3-none-any.whl"),
        ("café-1.0-py3-none-any.whl", "caf-1.0-py3-none-any.whl"),
        ("plain-1.0-py3-none-any.whl", "plain-1.0-py3-none-any.whl"),
        ("two-1!2.0+a.b-py3-none-any.whl", "two-1!2.0a.b-py3-none-any.whl"),
    ],
)
def test_signs_are_taken_out(true: str, shown: str) -> None:
    """The signs that uploads lose are lost here too, and no others."""
    assert kaggle_name(true) == shown


def test_only_the_last_part_of_a_path_changes() -> None:
    """Folders keep their names."""
    assert kaggle_path("a+b/c+d.whl") == "a+b/cd.whl"


def test_each_true_name_has_its_stored_one() -> None:
    """The mapping holds every file, renamed or not."""
    assert stored_names(["a-1+x.whl", "b-1.whl"]) == {"a-1+x.whl": "a-1x.whl", "b-1.whl": "b-1.whl"}


def test_two_files_under_one_name_are_refused() -> None:
    """Kaggle would keep one of the two, and nobody knows which."""
    with pytest.raises(WheelhouseError, match=r"a-1\+1\.whl and a-11\.whl would both be a-11\.whl on Kaggle"):
        stored_names(["a-1+1.whl", "a-11.whl"])


def test_a_sign_that_kaggle_does_not_take_is_refused() -> None:
    """An @ would fail after the upload."""
    with pytest.raises(WheelhouseError, match="Kaggle takes no file named a@1"):
        stored_names(["a@1.whl"])
