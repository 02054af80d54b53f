"""`kit build`: three files, the same bytes on every run, all that Kaggle needs written out."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from kaggle_kit import targets
from kaggle_kit.errors import KitError, ProjectError, UsageError
from kaggle_kit.files import sha256_file
from kaggle_kit.notebook.build import build
from kaggle_kit.project import load_project
from kaggle_kit.runtime.manifest import read_manifest, verify_files
from kaggle_kit.targets import load_target

ROOT = Path(__file__).parents[2]
FILES = {"answer.ipynb", "kernel-metadata.json", "manifest.json"}


@pytest.fixture
def built(minimal):
    """A function: build the minimal project's notebook."""

    def make(*assignments: str, target: str = "kaggle-t4x2"):
        there = load_target(target, project=minimal)
        return build(load_project(minimal), "answer", target=there, assignments=assignments)

    return make


@pytest.fixture
def notebook(built):
    """The built notebook as JSON."""
    return json.loads(built().notebook.read_text(encoding="utf-8"))


@pytest.fixture
def metadata(built):
    """A function: the kernel metadata of a build."""
    return lambda **options: json.loads((built(**options).folder / "kernel-metadata.json").read_text(encoding="utf-8"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_build_is_three_files(built, minimal):
    """The folder holds the notebook, its metadata and its manifest, and no leftovers."""
    assert built().folder == minimal / "build" / "answer"
    assert set(contents(built().folder)) == FILES


def test_a_session_shorter_than_the_time_limit(built, minimal, edit):
    """Kaggle would end such a run with an error: the build is refused, with what to change."""
    edit(minimal / "kit.toml", "session_hours = 1")
    with pytest.raises(ProjectError, match=r"answer\.session_hours is 1 hours, .* is 9: .* to 1 at most, or raise"):
        built()
    assert not (minimal / "build").exists()


def test_a_time_limit_within_the_session(built, minimal, edit):
    """The value that counts is the one that was given last, here with -p."""
    edit(minimal / "kit.toml", "session_hours = 1\nparameters.time_limit_hours = 2")
    assert built("time_limit_hours=1").notebook.is_file()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["time_limit_hours=0.25", "margin_minutes=15"], r"0\.25 \(15 minutes\) less .* = 15 leaves no time"),
        (["time_limit_hours=0.2", "margin_minutes=30"], "leaves no time to score a row"),
        (["margin_minutes=540"], r"9 \(540 minutes\) less margin_minutes = 540 leaves no time"),
        (["time_limit_hours=0", "margin_minutes=0"], "leaves no time"),
        (["margin_minutes=-5"], "ends after the limit"),
    ],
)
def test_a_margin_that_leaves_no_time_is_told_by_the_build(built, values, words):
    """No row would be scored, or the session would end first; the run would call it its deadline."""
    [warning] = built(*values).warnings
    assert re.search(words, warning)
    assert "set a margin_minutes from 0" in warning


def test_a_target_shorter_than_the_time_limit(built):
    """Without hours of the notebook's own the target's session counts."""
    with pytest.raises(ProjectError, match=r"the session of the target kaggle-t4x2 is 9 hours, .* is 9\.5"):
        built("time_limit_hours=9.5")


def test_a_notebook_without_a_time_limit_in_its_cells(built, minimal, edit):
    """Where no cell reckons with the parameter, the session may be of any length."""
    (minimal / "templates" / "short.py.j2").write_text("{{ cells() }}\n")
    edit(minimal / "kit.toml", 'session_hours = 1\ntemplate = "short.py.j2"')
    assert built().notebook.is_file()


def test_two_builds_are_the_same(built):
    """A second build changes no byte."""
    first = contents(built().folder)
    assert contents(built().folder) == first


def test_a_build_does_not_depend_on_place_or_process(minimal, tmp_path):
    """Other folders, processes and hash seeds give the same bytes."""
    found = []
    for seed in ("0", "1", "4711"):
        project = shutil.copytree(minimal, tmp_path / f"elsewhere {seed}")
        command = [sys.executable, "-c", "from kaggle_kit.cli.main import main; main()", "build", "--unproved"]
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": f"UTC+{len(seed)}", "LC_ALL": "C"}
        subprocess.run(command, cwd=project, env=environment, check=True, capture_output=True)
        found.append(contents(project / "build" / "answer"))
    assert found[0] == found[1] == found[2]
    assert set(found[0]) == FILES


def test_the_reference_notebook_builds(tmp_path):
    """The repository's own notebook builds for both of its targets, differently."""
    project = load_project(ROOT)
    texts = {
        build(project, "lmsys", target=load_target(name), out=tmp_path / name).notebook.read_text(encoding="utf-8")
        for name in ("local-cpu", "kaggle-t4x2")
    }
    assert len(texts) == 2


def test_the_notebook_is_valid(built):
    """nbformat has nothing to say about the notebook, not even as a warning."""
    nbformat.validate(nbformat.read(built().notebook, as_version=nbformat.NO_CONVERT))


def test_kernel_and_language_are_written(notebook):
    """Kaggle's client fails on a notebook without a language: both are there."""
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["metadata"]["language_info"]["name"] == "python"
    assert (notebook["nbformat"], notebook["nbformat_minor"] >= 5) == (4, True)


def test_nothing_has_run(notebook):
    """Outputs are empty, and no cell has a number."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) == 9
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_cell_ids_are_cell_names(notebook):
    """A cell's id is its name."""
    assert [cell["id"] for cell in notebook["cells"]] == [cell["metadata"]["name"] for cell in notebook["cells"]]
    assert notebook["cells"][0]["id"] == "title"


def test_cell_ids_are_stable(built, minimal, edit):
    """A change of one cell, and a new one, leave every other cell as it was."""
    before = {cell["id"]: cell for cell in json.loads(built().notebook.read_text())["cells"]}
    source = minimal / "notebooks_src" / "answer.py"
    edit(source, '"first": 0.5, "second": 0.5', '"first": 0.75, "second": 0.25')
    edit(source, '# %% name="new"\nnew = 1')
    after = {cell["id"]: cell for cell in json.loads(built().notebook.read_text())["cells"]}
    assert {name for name in after if after[name] != before.get(name)} == {"labels", "new"}
    assert set(before) <= set(after)


@pytest.mark.parametrize("target", ["local-cpu", "kaggle-t4x2"])
def test_the_internet_is_always_off(metadata, target):
    """`enable_internet` is written, and false, and so is the TPU."""
    assert metadata(target=target)["enable_internet"] is False
    assert metadata(target=target)["enable_tpu"] is False


@pytest.mark.parametrize(("target", "shape", "gpu"), [("local-cpu", "", False), ("kaggle-t4x2", "NvidiaTeslaT4", True)])
def test_the_accelerator_is_always_written(metadata, target, shape, gpu):
    """`machine_shape` is written for a session without a GPU too."""
    found = metadata(target=target)
    assert (found["machine_shape"], found["enable_gpu"]) == (shape, gpu)


def test_the_address(metadata):
    """The notebook's address is the owner and the title's slug, and it is private."""
    found = metadata()
    assert (found["id"], found["title"], found["is_private"]) == ("ada/best-answer", "Best answer", True)
    assert (found["code_file"], found["language"], found["kernel_type"]) == ("answer.ipynb", "python", "notebook")


def test_a_public_notebook(metadata, minimal, edit):
    """`private = false` makes it public."""
    edit(minimal / "kit.toml", "private = false")
    assert metadata()["is_private"] is False


def test_the_sources_of_a_dataset_model(metadata):
    """Competition, wheelhouse and model are attached."""
    found = metadata()
    assert found["competition_sources"] == ["best-answer"]
    assert found["dataset_sources"] == ["ada/small-model", "ada/wheels-t4", "ada/wheels-t4-kit"]
    assert (found["model_sources"], found["kernel_sources"]) == ([], [])


def test_the_sources_of_a_kaggle_model(metadata, minimal, edit):
    """A version of a Kaggle Model is a model source, and no dataset."""
    edit(minimal / "kit.toml", 'model = "published"', 'model = "small"')
    found = metadata()
    assert found["dataset_sources"] == ["ada/wheels-t4", "ada/wheels-t4-kit"]
    assert found["model_sources"] == ["ada/small/pyTorch/awq/3"]


def test_the_wheelhouse_is_the_targets(metadata):
    """Another target attaches another wheelhouse."""
    assert "ada/wheels-cpu" in metadata(target="local-cpu")["dataset_sources"]


def test_the_manifest_agrees(built):
    """The manifest names the build, and the other files by size and hash."""
    folder = built().folder
    manifest = read_manifest(folder / "manifest.json")
    assert (manifest.kind, manifest.name, manifest.extra["target"]) == ("build", "answer", "kaggle-t4x2")
    assert {entry.path: entry.sha256 for entry in manifest.files} == {
        name: sha256_file(folder / name) for name in FILES - {"manifest.json"}
    }
    verify_files(folder, manifest)


def injected(built) -> str:
    cells = json.loads(built.notebook.read_text(encoding="utf-8"))["cells"]
    return next(("".join(cell["source"]) for cell in cells if cell["id"] == "injected-parameters"), "")


def test_without_overrides_nothing_is_injected(built):
    """The parameters cell alone speaks where nobody overrides it."""
    assert injected(built()) == ""


def test_parameters_from_kit_toml(built, minimal, edit):
    """kit.toml overrides a parameter."""
    edit(minimal / "kit.toml", "parameters.token_budget = 64")
    assert injected(built()) == "token_budget = 64"


def test_parameters_from_the_command_line_win(built, minimal, edit):
    """-p overrides kit.toml, and the build knows the value."""
    edit(minimal / "kit.toml", 'parameters = { token_budget = 64, greeting = "hi" }')
    made = built("token_budget=32", "verbose=true")
    assert injected(made) == "token_budget = 32\ngreeting = 'hi'\nverbose = True"
    assert made.literals()["token_budget"] == 32
    assert made.literals()["labels"] == {"first": "A", "second": "B"}


def test_engine_options_of_kit_toml(built, minimal, edit):
    """A notebook's engine options stand over its target's, beside the others."""
    edit(minimal / "kit.toml", "engine_options.max_num_seqs = 3")
    text = built().notebook.read_text(encoding="utf-8")
    assert "'max_num_seqs': 3" in text
    assert "'dtype': 'half'" in text


@pytest.mark.parametrize("place", ["kit.toml", "target"])
@pytest.mark.parametrize("option", ["trust_remote_code = true", 'worker_cls = "evil.Worker"', 'load_format = "pt"'])
def test_engine_options_that_bring_code_are_refused(built, minimal, edit, listing, place, option):
    """Wherever a project writes them, nothing is built, and the sentence names the option and the way."""
    if place == "kit.toml":
        edit(minimal / "kit.toml", f"engine_options.{option}")
    else:
        target = minimal / "targets" / "kaggle-t4x2.toml"
        target.parent.mkdir()
        shipped = Path(targets.__file__).with_name(target.name).read_text(encoding="utf-8")
        freeze = "".join(f"{line}\n" for line in shipped.splitlines() if not line.startswith("freeze"))
        target.write_text(freeze.replace("[engine_options]", f"[engine_options]\n{option}"))
    before = listing(minimal)
    with pytest.raises(UsageError, match=f"{option.split()[0]}.*--trust-remote-code"):
        built()
    assert listing(minimal) == before


@pytest.mark.parametrize("wrong", ["token_buget=1", "token_budget=x", "token_budget"])
def test_a_wrong_override_writes_nothing(built, minimal, listing, wrong):
    """A wrong -p leaves the folder as it was."""
    before = listing(minimal)
    with pytest.raises(KitError, match=r"token_bud?get"):
        built(wrong)
    assert listing(minimal) == before


def test_a_failed_build_keeps_the_last_one(built, minimal, edit):
    """A source that became wrong does not spoil what was built before."""
    before = contents(built().folder)
    edit(minimal / "notebooks_src" / "answer.py", "x = = 1")
    with pytest.raises(KitError, match="not valid Python"):
        built()
    assert contents(minimal / "build" / "answer") == before


def with_kernel(kernel: str):
    """The reference project, whose notebook asks for a 4-bit kernel."""
    project = load_project(ROOT)
    notebook = project.notebooks["lmsys"].model_copy(update={"kernel": kernel})
    return project.model_copy(update={"notebooks": {"lmsys": notebook}})


def test_a_kernel_by_name_is_in_the_notebook(tmp_path):
    """What kit.toml asks for reaches the session; without it nothing is said."""
    target = load_target("kaggle-t4x2")
    asked = build(with_kernel("marlin-int8"), "lmsys", target=target, out=tmp_path / "asked")
    assert 'kernel=\\"marlin-int8\\",' in asked.notebook.read_text(encoding="utf-8").replace("'", '\\"')
    plain = build(load_project(ROOT), "lmsys", target=target, out=tmp_path / "plain")
    assert "kernel=" not in plain.notebook.read_text(encoding="utf-8")


def test_a_kernel_that_the_cards_lack_is_refused(tmp_path):
    """The build says why, before anything is written; on a CPU no kernel is chosen."""
    with pytest.raises(ProjectError, match=r"lmsys.kernel = 'machete': Machete runs on sm_90 .* the card is sm_75"):
        build(with_kernel("machete"), "lmsys", target=load_target("kaggle-t4x2"), out=tmp_path / "never")
    assert not (tmp_path / "never").exists()
    build(with_kernel("machete"), "lmsys", target=load_target("local-cpu"), out=tmp_path / "here")


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"model": "demo-full"}, "no model .* has 4-bit weights"), ({"engine": "transformers"}, "has no such kernels")],
)
def test_a_kernel_that_would_do_nothing_is_refused(tmp_path, change, reason):
    """A kernel for a model in full precision, or for another engine, is a mistake on a CPU too."""
    project = with_kernel("marlin")
    notebook = project.notebooks["lmsys"].model_copy(update=change)
    project = project.model_copy(update={"notebooks": {"lmsys": notebook}})
    with pytest.raises(ProjectError, match=reason):
        build(project, "lmsys", target=load_target("local-cpu"), out=tmp_path / "never")
