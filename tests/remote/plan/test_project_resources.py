"""What of a project would be pushed: datasets, model versions, the notebook."""

import json
import os
import re
from hashlib import sha256
from pathlib import Path

import pytest

from kaggle_kit.cli.main import run
from kaggle_kit.errors import KitError, ProjectError
from kaggle_kit.project import load_project
from kaggle_kit.remote.plan.checks import check
from kaggle_kit.remote.plan.hashes import open_cache
from kaggle_kit.remote.plan.project_resources import merge, model_resource, notebook_resource, notebook_resources
from kaggle_kit.runtime.manifest import Manifest, dump_manifest, make_manifest, read_manifest, verify_files


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def project(minimal):
    """The minimal project, built, with a small model and both parts of a wheelhouse."""
    (minimal / "model").mkdir()
    (minimal / "model" / "config.json").write_text("{}", encoding="utf-8")
    (minimal / "model" / "model.safetensors").write_bytes(b"weights")
    assert run(["build", "--unproved", "--project", str(minimal)]) == 0
    part(minimal / "engine", "engine", "ada/wheels-t4")
    part(minimal / "kit", "kit", "ada/wheels-t4-kit")
    return load_project(minimal)


def part(folder: Path, name: str, reference: str) -> None:
    """A folder as `kit wheels dataset` writes it."""
    (folder / "wheels").mkdir(parents=True)
    (folder / "wheels" / "a-1-py3-none-any.whl").write_bytes(name.encode())
    made = make_manifest(folder, kind="wheelhouse", name="kaggle-t4x2", extra={"part": name})
    (folder / "manifest.json").write_text(dump_manifest(made), encoding="utf-8")
    metadata = {"id": reference, "title": reference.split("/")[1], "licenses": [{"name": "other"}]}
    (folder / "dataset-metadata.json").write_text(json.dumps(metadata), encoding="utf-8")


def model(project, name="small"):
    """The model's resource."""
    return model_resource(project, name, cache=open_cache())


def resources(project):
    """All resources of the notebook."""
    parts = {"ada/wheels-t4": project.root / "engine", "ada/wheels-t4-kit": project.root / "kit"}
    build = project.root / "build" / "answer"
    return notebook_resources(project, "answer", build=build, parts=parts, cache=open_cache())


def complaints(resource):
    """What is told of a resource, its checks included."""
    found = check([resource], unproved=lambda _: None, stale=lambda _: None)
    return [str(problem) for problem in found]


def test_the_order_of_a_push(project):
    """Wheels, then models, then the notebook that needs them."""
    assert [resource.key for resource in resources(project)] == [
        "dataset ada/wheels-t4",
        "dataset ada/wheels-t4-kit",
        "dataset ada/small-model",
        "notebook ada/best-answer",
    ]


def test_a_sound_project_has_no_problems(project):
    """Nothing is told of a project as it should be."""
    assert [complaints(resource) for resource in resources(project)] == [[], [], [], []]


def test_sub_folders_are_kept(project):
    """A wheelhouse's wheels lie in their folder; metadata for the client is not sent."""
    engine = resources(project)[0]
    assert [file.path for file in engine.files] == ["manifest.json", "wheels/a-1-py3-none-any.whl"]


def test_a_models_manifest_is_made(project):
    """What is sent of a model is found by its notebook and can be verified; nothing is written into the folder."""
    before = sorted((project.root / "model").iterdir())
    manifest = read_manifest(model(project).manifest().source)
    assert (manifest.kind, manifest.name) == ("model", "small")
    verify_files(project.root / "model", manifest)
    assert sorted((project.root / "model").iterdir()) == before


def test_the_same_content_has_one_digest(project):
    """Digest and manifest do not depend on times, and change with a byte."""
    first = model(project)
    os.utime(project.root / "model" / "config.json", (1, 1))
    assert model(project).digest == first.digest
    (project.root / "model" / "config.json").write_text("[]", encoding="utf-8")
    assert model(project).digest != first.digest


def test_what_a_model_is_allowed_is_a_warning(project):
    """The plan shows each check with its finding, sends it along, and believes no record of a danger."""
    folder = project.root / "model"
    allowed = [{"check": "head", "finding": "config.json: has none"}, {"check": "pickle", "finding": "x.bin"}]
    made = make_manifest(folder, kind="model", name="small", extra={"allowed": allowed})
    (folder / "manifest.json").write_text(dump_manifest(made), encoding="utf-8")
    resource = model(project)
    assert [problem.what for problem in resource.problems] == ["its manifest allows head: config.json: has none"]
    assert all(problem.warning for problem in resource.problems)
    assert read_manifest(resource.manifest().source).extra["allowed"] == allowed

    made = make_manifest(folder, kind="model", name="small", extra={"allowed": "all"})
    (folder / "manifest.json").write_text(dump_manifest(made), encoding="utf-8")
    assert not model(project).problems[0].warning


def test_what_a_manifest_says_more_is_kept(project):
    """A model's own manifest may hold more than files, and its bytes stay the same when it is right."""
    folder = project.root / "model"
    made = make_manifest(folder, kind="model", name="small", extra={"made_by": "quantise"})
    (folder / "manifest.json").write_text(dump_manifest(made), encoding="utf-8")
    resource = model(project)
    assert resource.manifest().sha256 == sha256((folder / "manifest.json").read_bytes()).hexdigest()
    assert resource.problems == ()


def test_what_inference_does_not_need_stays_here(project):
    """Hidden files, caches and a training run's leavings are not sent, and named."""
    folder = project.root / "model"
    for name in (".git/config", "__pycache__/a.pyc", ".gitattributes", "optimizer.pt", "deep/training_args.bin"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    (folder / "deep" / "kept.json").write_text("{}", encoding="utf-8")
    resource = model(project)
    paths = [file.path for file in resource.files]
    assert paths == ["config.json", "deep/kept.json", "manifest.json", "model.safetensors"]
    assert resource.left_out == (".git/", ".gitattributes", "__pycache__/", "deep/training_args.bin", "optimizer.pt")


def outside(folder):
    """A link out of the folder, as in a hub's cache."""
    (folder.parent / "blob").write_bytes(b"x")
    (folder / "link.bin").symlink_to("../blob")


def folder_link(folder):
    """A link to a folder."""
    (folder / "deep").mkdir()
    (folder / "deep" / "a").write_bytes(b"x")
    (folder / "again").symlink_to("deep")


def changed(folder):
    """A file that is no longer what its manifest says."""
    made = make_manifest(folder, kind="model", name="small")
    (folder / "manifest.json").write_text(dump_manifest(made), encoding="utf-8")
    (folder / "config.json").write_text("[]", encoding="utf-8")


def cut(folder):
    """A file that the manifest lists is gone."""
    made = make_manifest(folder, kind="model", name="small")
    (folder / "manifest.json").write_text(dump_manifest(made), encoding="utf-8")
    (folder / "config.json").unlink()


def of_another(folder):
    """The manifest of another model."""
    (folder / "manifest.json").write_text(dump_manifest(Manifest("model", "large", ())), encoding="utf-8")


def empty(folder):
    """No file at all."""
    for path in folder.iterdir():
        path.unlink()


MODELS = {
    "a link that leaves": (outside, r"link to .*blob, outside of the folder; put real files there \(cp -rL"),
    "a link to nothing": (lambda folder: (folder / "a").symlink_to("nothing"), "a is a link to nothing"),
    "a link to a folder": (folder_link, "again is a link to a folder"),
    "an endless link": (
        lambda folder: (folder / "a").symlink_to("a"),
        "a is a link (that leads back to itself|to nothing)",
    ),
    "a pipe": (lambda folder: os.mkfifo(folder / "pipe"), "neither a file nor a folder"),
    "an empty folder": (lambda folder: (folder / "none").mkdir(), "the folder none/ is empty"),
    "a name with an at": (lambda folder: (folder / "a@b").write_bytes(b"x"), "refuses or changes the name 'a@b'"),
    "a changed file": (changed, "config.json is not the file that manifest.json lists"),
    "a lost file": (cut, "config.json is missing"),
    "another's manifest": (of_another, r"name the table models\.large"),
    "a damaged manifest": (lambda folder: (folder / "manifest.json").write_text("{"), "or delete it"),
    "nothing": (empty, "holds no file to send"),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_wrong_model(case, project):
    """Each fault of a model's folder is told with what to do; none of them ends the listing."""
    make, words = MODELS[case]
    make(project.root / "model")
    assert [text for text in complaints(model(project)) if re.search(words, text)]


def test_a_link_within_the_folder_is_its_file(project):
    """A link to a file beside it is sent as that file."""
    (project.root / "model" / "copy.json").symlink_to("config.json")
    resource = model(project)
    assert {file.path for file in resource.files} >= {"config.json", "copy.json"}
    assert resource.problems == ()


def test_a_version_of_a_kaggle_model(project):
    """The version that kit.toml names is apart from the reference."""
    resource = model(project, "published")
    assert (resource.kind, resource.reference, resource.version) == ("model", "ada/small/pyTorch/awq", 3)


def test_anothers_model_is_attached(project, edit):
    """A model of another owner is used as Kaggle has it, its files here notwithstanding."""
    edit(project.root / "kit.toml", '"eve/small-model"', '"ada/small-model"')
    resource = model(load_project(project.root))
    assert (resource.sent, resource.files, resource.model) == (False, (), "small")


def test_a_model_that_is_not_here(project):
    """On a machine without the weights the rest can be pushed; a warning says so."""
    (project.root / "model").rename(project.root / "elsewhere")
    resource = model(project)
    assert not resource.sent
    assert [problem.warning for problem in resource.problems] == [True]


def test_title_and_licence_are_kit_tomls(project, edit):
    """By default the title is made of the slug, and the licence is unknown."""
    assert (model(project).title, model(project).licence) == ("small model", "unknown")
    edit(
        project.root / "kit.toml", 'title = "Small one"\nlicence = "GPL-3.0"\n[models.published]', "[models.published]"
    )
    now = model(load_project(project.root))
    assert (now.title, now.licence) == ("Small one", "GPL-3.0")


def test_two_models_in_one_place(project):
    """Two models whose files differ cannot be one dataset."""
    first = model(project)
    (project.root / "model" / "config.json").write_text("[]", encoding="utf-8")
    [one] = merge([first, model(project)])
    assert "are to lie there, and differ" in one.problems[0].what


def test_a_shared_dataset_is_listed_once(project):
    """Two notebooks' resources hold their common datasets once, and the notebooks last."""
    twice = merge([*resources(project), *resources(project)])
    assert [resource.key for resource in twice] == [resource.key for resource in resources(project)]


def test_a_wheel_that_was_changed(project):
    """A part of a wheelhouse must be as its manifest says."""
    (project.root / "engine" / "wheels" / "a-1-py3-none-any.whl").write_bytes(b"other")
    assert "is not the file that manifest.json lists" in complaints(resources(project)[0])[0]


def test_a_part_without_its_folder_is_attached(project):
    """A wheelhouse that was not fetched here is used as Kaggle has it, with a word."""
    build = project.root / "build" / "answer"
    found = notebook_resources(project, "answer", build=build, parts={}, cache=open_cache())
    assert [(one.reference, one.sent) for one in found][1:3] == [("ada/wheels-t4", False), ("ada/wheels-t4-kit", False)]
    assert found[1].problems[0].warning


def test_a_notebooks_settings(project, edit):
    """The target's session is the default; image and hours are kit.toml's, and change the digest."""
    build = project.root / "build" / "answer"
    first = notebook_resource(project, "answer", build=build)
    assert (first.settings.session_seconds, first.settings.image_pinning) == (32_400, "original")
    image = f"gcr.io/kaggle-images/python@sha256:{'1' * 64}"
    edit(project.root / "kit.toml", f'image = "{image}"\nsession_hours = 0.5')
    now = notebook_resource(load_project(project.root), "answer", build=build)
    assert (now.settings.session_seconds, now.settings.docker_image, now.settings.image_pinning) == (1800, image, None)
    assert now.digest != first.digest
    assert now.source == first.source


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "best-answer"},
        {"id": 5},
        {"id": "ada/best-answer/3"},
        {"dataset_sources": 5},
        {"dataset_sources": ["nope"]},
        {"model_sources": ["a/b"]},
        {"kernel_sources": [5]},
        {"machine_shape": 5},
    ],
    ids=str,
)
def test_wrong_metadata_of_a_build_are_named(project, wrong):
    """What is not of its form in kernel-metadata.json is one error with the key, the value and the way out."""
    path = project.root / "build" / "answer" / "kernel-metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
    [(key, value)] = wrong.items()
    with pytest.raises(ProjectError) as caught:
        resources(project)
    assert f"{key} = {value!r}" in str(caught.value)
    assert "kit build" in str(caught.value)


def test_a_notebook_that_is_no_text_is_told(project):
    """A built notebook in another encoding is one error that names the file and the way out."""
    path = project.root / "build" / "answer" / "answer.ipynb"
    path.write_bytes(b"\xff\xfe" + path.read_bytes())
    with pytest.raises(ProjectError, match=r"answer\.ipynb is not UTF-8.*kit build answer"):
        resources(project)


def test_a_build_edited_by_hand(project):
    """An edit of the built notebook would be lost at the next build: it is refused."""
    path = project.root / "build" / "answer" / "answer.ipynb"
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert "was changed after it was built" in complaints(resources(project)[-1])[0]


@pytest.mark.parametrize("name", ["manifest.json", "kernel-metadata.json", "answer.ipynb"])
def test_a_build_that_is_not_whole(project, name):
    """A missing part of a build says how to build again."""
    (project.root / "build" / "answer" / name).unlink()
    with pytest.raises(ProjectError, match="build"):
        resources(project)


def test_a_part_that_is_none(project):
    """A folder that is no part of a wheelhouse says how to write one."""
    (project.root / "engine" / "dataset-metadata.json").unlink()
    with pytest.raises(KitError, match="kit wheels dataset"):
        resources(project)
