"""What is refused before anything is sent."""

from dataclasses import replace

import pytest
from plan_memory import dataset, notebook
from slugify import slugify

from kaggle_kit.project import load_project
from kaggle_kit.remote.plan.checks import ACCELERATORS, LICENCES, RETIRED, check
from kaggle_kit.remote.plan.resources import SentFile
from kaggle_kit.runtime.manifest import Manifest, dump_manifest, files_digest


def found(resource, **options):
    """What speaks against a resource, as sentences."""
    given = {"unproved": lambda _: None, "stale": lambda _: None} | options
    return [str(problem) for problem in check([resource], **given)]


def other(resource, **changed):
    """The same resource with something changed."""
    return replace(resource, **changed)


def test_nothing_against_what_is_right(tmp_path):
    """A sound dataset and a sound notebook have no problems."""
    assert found(dataset(tmp_path)) == []
    assert found(notebook(tmp_path)) == []


# What is wrong → settings of the notebook, and a word of the problem.
NOTEBOOKS = {
    "internet": ({"internet": True}, "internet is on"),
    "retired": ({"accelerator": "NvidiaTeslaP100"}, "retired, and Kaggle would run it on NvidiaTeslaT4"),
    "retired without another": ({"accelerator": "TpuV232"}, "a machine without any"),
    "unknown": ({"accelerator": "NvidiaTeslaT5"}, "did you mean 'NvidiaTeslaT4'"),
    "none named": ({"accelerator": None}, "Kaggle would choose"),
    "public": ({"private": False}, "everybody will see it"),
    "title short": ({"title": "abc"}, "has 3 letters"),
    "another slug": ({"title": "Bést answér to it"}, "would make 'best-answer-to-it'"),
}


@pytest.mark.parametrize("case", NOTEBOOKS)
def test_a_wrong_notebook(case, tmp_path):
    """Each fault of a notebook is told with what Kaggle would make of it."""
    changed, word = NOTEBOOKS[case]
    assert [text for text in found(notebook(tmp_path, **changed)) if word in text]


def test_internet_that_is_asked_for_is_worth_a_word(tmp_path):
    """Where kit.toml asks for it, the push may begin, and needs no proof of wheels that are not installed."""
    maker = other(notebook(tmp_path, internet=True), online=True)
    (problem,) = check([maker], unproved=lambda target: f"{target} unproved", stale=lambda _: None)
    assert problem.warning
    assert "no version of it can be handed in" in problem.what


def test_a_build_without_the_internet_that_is_asked_for(tmp_path):
    """A build from before is refused."""
    (problem,) = check([other(notebook(tmp_path), online=True)], unproved=lambda _: None, stale=lambda _: None)
    assert not problem.warning
    assert "the build has it off" in problem.what


def test_all_faults_at_once(tmp_path):
    """Nobody has to push three times to hear of three faults."""
    wrong = notebook(tmp_path, internet=True, accelerator="NvidiaTeslaP100", title="abc")
    assert len(found(wrong)) >= 3


def test_a_notebook_without_a_kernel(tmp_path):
    """A notebook that names no kernel fails on Kaggle only after queueing."""
    assert "names no kernel" in found(notebook(tmp_path, kernel=None))[0]


def test_a_session_without_a_gpu_is_right(tmp_path):
    """No accelerator is meant where no GPU is."""
    assert found(notebook(tmp_path, accelerator=None, gpu=False)) == []


def test_a_stale_build_and_an_unproved_wheelhouse(tmp_path):
    """What only the notebook and wheelhouse packages know comes in from outside."""
    told = found(notebook(tmp_path), unproved=lambda target: f"{target} unproved", stale=lambda _: "the build is old")
    assert ["the build is old" in told[0], "kaggle-t4x2 unproved" in told[1]] == [True, True]


def test_a_kit_part_is_of_the_kit_that_built_the_notebook(tmp_path):
    """Another wheel of the kit than the build names is refused, with what brings both to the present one."""
    part = dataset(tmp_path, "ada/wheels-t4-kit", **{"kaggle_kit_runtime-1-py3-none-any__whl": b"the wheel"})
    wheel = next(file for file in part.files if file.path.startswith("kaggle_kit_runtime-"))
    built = notebook(tmp_path, datasets=("ada/wheels-t4-kit",))
    given = {"unproved": lambda _: None, "stale": lambda _: None}
    assert check([part, other(built, kit_wheel=wheel.sha256)], **given) == ()
    (problem,) = check([part, other(built, kit_wheel="0" * 64)], **given)
    assert not problem.warning
    assert "kit wheels fetch --target kaggle-t4x2, then kit build answer" in problem.next_step


DATASETS = {
    "licence": ({"licence": "Apache-2.0"}, "did you mean 'apache-2.0'"),
    "title": ({"title": "x" * 51}, "has 51 letters"),
    "slug": ({"reference": "ada/abc"}, "'abc' has 3 letters"),
    "subtitle": ({"subtitle": "short"}, "subtitle"),
    "placeholder": ({"reference": "your-kaggle-name/small-model"}, "no account"),
}


@pytest.mark.parametrize("case", DATASETS)
def test_a_wrong_dataset(case, tmp_path):
    """Each fault of a dataset is told."""
    changed, word = DATASETS[case]
    assert [text for text in found(other(dataset(tmp_path), **changed)) if word in text]


def test_a_rehearsal_may_be_anybodys(tmp_path):
    """A fresh clone is rehearsed before anybody has put a name into kit.toml."""
    assert found(other(dataset(tmp_path), reference="your-kaggle-name/small-model"), rehearsal=True) == []


@pytest.mark.parametrize("name", ["a@b", "torch+cu", "grün", "a:b", " a", "a.zip", "b.tar.gz"])
def test_a_name_that_kaggle_breaks(name, tmp_path):
    """Names that Kaggle refuses, changes or unpacks are told before the upload."""
    assert found(dataset(tmp_path, **{name: b"1"}))


def test_two_names_but_for_capitals(tmp_path):
    """Two names that differ in capitals only are one on some systems."""
    assert "one name but for capitals" in found(dataset(tmp_path, A=b"1", a=b"2"))[0]


def test_files_at_the_top(tmp_path):
    """Kaggle takes fifty files at the top, the manifest among them."""
    assert found(dataset(tmp_path, **{f"f{n}": b"1" for n in range(49)})) == []
    assert "51 files at the top" in found(dataset(tmp_path, **{f"f{n}": b"1" for n in range(50)}))[0]


def test_a_pickle_is_a_warning(tmp_path):
    """Weights as a pickle run code where they are loaded."""
    one = dataset(tmp_path, pytorch_model__bin=b"1")
    [problem] = check([one], unproved=lambda _: None, stale=lambda _: None)
    assert problem.warning
    assert "pickle" in problem.what


def test_a_secret_stops_the_push_and_is_not_told(tmp_path):
    """The problem names file, line and kind."""
    secret = "hf" + "_abcDEF0123456789abcDEF0123456789ab"
    told = found(dataset(tmp_path, readme=f"one\n{secret}\n".encode()))
    assert "readme, line 2 holds what looks like a Hugging Face token" in told[0]
    assert secret not in told[0]


def test_a_file_that_was_pushed_before_is_not_searched(tmp_path):
    """Hashes of the last push need no second look."""
    one = dataset(tmp_path, readme=b"hf_" + b"abcDEF0123456789abcDEF0123456789ab")
    assert found(one, passed={file.sha256 for file in one.files}) == []


def test_what_is_not_sent_is_not_checked(tmp_path):
    """Another's dataset is as it is."""
    assert found(other(dataset(tmp_path), sent=False, licence=None)) == []


@pytest.mark.parametrize("title", ["Best answer", "LMSYS: 3rd try!", "a  b  c d e", "A_b_c & d", "Café au lait"])
def test_kits_slug_is_kaggles(minimal, edit, title):
    """The slug of kit.toml is what Kaggle's client expects."""
    edit(minimal / "kit.toml", title, "Best answer")
    assert load_project(minimal).notebook("answer").slug == slugify(title)


def test_tables_are_without_contradiction():
    """No accelerator is both offered and retired, and no licence stands twice."""
    assert not set(ACCELERATORS) & set(RETIRED)
    assert {name for name in RETIRED.values() if name} <= set(ACCELERATORS)
    assert len(set(LICENCES)) == len(LICENCES)


def quality(path, *, most_kl, kl=None, of=None):
    """A model's dataset whose manifest tells a mean KL of `kl`, of the files whose digest is `of`."""
    made = dataset(path, manifest=False)
    entries = tuple(file.entry for file in made.files)
    plain = Manifest("model", "m", entries, {})
    told = {"kl_mean": kl, "files_sha256": of or files_digest(plain)}
    manifest = path / "told" / "manifest.json"
    manifest.parent.mkdir()
    manifest.write_text(dump_manifest(replace(plain, extra={"quality": told} if kl is not None else {})))
    sent = SentFile(path="manifest.json", size=manifest.stat().st_size, sha256="0" * 64, source=manifest)
    return other(made, files=(*made.files, sent), most_kl=most_kl)


@pytest.mark.parametrize(
    ("told", "what"),
    [
        ({"most_kl": None}, None),
        ({"most_kl": 0.01, "kl": 0.009}, None),
        ({"most_kl": 0.01}, "nobody has compared it with its reference"),
        ({"most_kl": 0.01, "kl": 0.02}, "its mean KL from its reference is 0.02000, above most_kl = 0.01"),
        ({"most_kl": 0.01, "kl": 0.001, "of": "0" * 64}, "its files have changed since it was compared"),
    ],
)
def test_a_model_that_is_too_far_from_its_reference_is_not_pushed(told, what, tmp_path):
    """Where kit.toml limits it: it must have been compared, as it is, and pass."""
    said = [one for one in found(quality(tmp_path, **told)) if "reference" in one]
    assert bool(said) == (what is not None)
    assert what is None or what in said[0]


NOISE = "q7Zt2mX9bR4kLw8sVd3Nf6Hc"


def test_a_title_that_holds_a_secret_is_refused(tmp_path):
    """What stands on Kaggle's page is checked as files are, and not repeated by this check."""
    told = found(other(dataset(tmp_path), subtitle=f"with the api key {NOISE}"))
    assert any("the subtitle holds what looks like a token or password" in text for text in told)


def test_a_file_for_a_login_is_refused_by_its_name(tmp_path):
    """A kaggle.json in a folder that is sent is refused whatever it holds, unless it says that it is none."""
    told = found(dataset(tmp_path, **{"kaggle.json": b"{}"}))
    assert any("kaggle.json is a file for a login or a private key" in text for text in told)
    assert found(dataset(tmp_path, **{"kaggle.json": b'{"note": "not-a-secret"}'})) == []


def test_a_secret_in_the_projects_file_is_refused(tmp_path):
    """The texts of kit.toml become titles and parameters, so it is searched with what is sent."""
    config = tmp_path / "kit.toml"
    config.write_text(f'owner = "ada"\n[notebooks.a.parameters]\napi_key = "{NOISE}"\n')
    told = found(dataset(tmp_path), config=config)
    assert ["kit.toml, line 3 holds what looks like a token or password (api_key)" in text for text in told] == [True]
    assert NOISE not in told[0]
