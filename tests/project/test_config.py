"""kit.toml as a user writes it, rightly and wrongly."""

import pytest
from pydantic import ValidationError

from kaggle_kit.cli.main import run
from kaggle_kit.errors import ProjectError, UsageError
from kaggle_kit.project import find_project, load_project
from kaggle_kit.project.config import Model

NOTEBOOK = '[notebooks.answer]\nsource = "notebooks_src/answer.py"\ntitle = "Best answer"\nmodel = "small"\n'


def test_a_project_is_read(minimal):
    """What kit.toml says is what the project holds."""
    project = load_project(minimal)
    assert project.competition == "best-answer"
    assert project.models["published"].kaggle_model == "ada/small/pyTorch/awq/3"
    assert project.notebook("answer").template == "offline.py.j2"
    assert project.notebook("answer").private


def test_the_image_is_the_first_versions_by_default(minimal):
    """A notebook keeps the image of its first version unless kit.toml says another."""
    notebook = load_project(minimal).notebook("answer")
    assert (notebook.image, notebook.session_hours) == ("original", None)


def test_an_image_is_pinned_by_its_digest(minimal, edit):
    """An image of Kaggle's is named with its digest; hours may be whole or parts."""
    image = f"gcr.io/kaggle-images/python@sha256:{'0' * 64}"
    edit(minimal / "kit.toml", f'image = "{image}"\nsession_hours = 9')
    notebook = load_project(minimal).notebook("answer")
    assert (notebook.image, notebook.session_hours) == (image, 9.0)


def test_a_notebook_has_no_internet_unless_it_says_so(minimal, edit):
    """The network is given where kit.toml asks for it, and the adapter is one of the models that are attached."""
    assert not load_project(minimal).notebook("answer").internet
    edit(minimal / "kit.toml", 'internet = true\ntemplate = "quantize.py.j2"\nadapter = "published"')
    notebook = load_project(minimal).notebook("answer")
    assert notebook.internet
    assert notebook.model_names == ("small", "published")


def test_a_model_has_a_title_and_a_licence(minimal, edit):
    """What Kaggle shows of a model is said beside its place."""
    edit(
        minimal / "kit.toml",
        'dataset = "ada/small-model"\ntitle = "Small model"\nlicence = "apache-2.0"',
        'dataset = "ada/small-model"',
    )
    model = load_project(minimal).models["small"]
    assert (model.title, model.licence) == ("Small model", "apache-2.0")


def test_a_project_is_frozen(minimal):
    """A loaded project cannot be changed."""
    with pytest.raises(ValueError, match="frozen"):
        load_project(minimal).owner = "eve"


def test_the_project_is_found_from_below(minimal):
    """A folder deep inside a project belongs to it."""
    below = minimal / "notebooks_src"
    assert find_project(below) == minimal


def test_no_project_anywhere(tmp_path):
    """Outside of any project, the error says where it looked and what to do."""
    with pytest.raises(ProjectError, match=r"no kit\.toml in .* or any folder above it.*--project DIR"):
        find_project(tmp_path)


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Best answer", "best-answer"),
        ("LMSYS: 3rd try!", "lmsys-3rd-try"),
        ("  a  b  c d e", "a-b-c-d-e"),
        ("Café für alle", "cafe-fur-alle"),
    ],
)
def test_a_slug_is_made_of_the_title(minimal, edit, title, slug):
    """The notebook's address is its title in lower case, hyphens for all else."""
    edit(minimal / "kit.toml", title, "Best answer")
    assert load_project(minimal).notebook("answer").slug == slug


def test_an_unknown_notebook_is_guessed(minimal):
    """A misspelt notebook gets a suggestion and the list of those that exist."""
    with pytest.raises(UsageError, match=r"no notebook 'anser'; did you mean 'answer'\?; known: answer"):
        load_project(minimal).notebook("anser")


def test_a_path_that_does_not_exist(minimal):
    """A path is named with the key that gave it, as written and as looked for."""
    with pytest.raises(ProjectError, match=r"kit\.toml: models\.small\.path = 'model', but .*/minimal/model does not"):
        load_project(minimal).path("model", key="models.small.path")


def test_a_path_that_exists(minimal):
    """A path is below the project's root."""
    assert load_project(minimal).path("templates", key="x") == minimal / "templates"


# What stands in the file → what is put there instead (None: at the end), and what the message must hold.
WRONG = {
    "not TOML": (None, "owner = ", ["cannot be read as TOML", "line"]),
    "twice the same key": (None, "[models.small]", ["cannot be read as TOML"]),
    "unknown key": ('owner = "ada"', 'ownr = "ada"', ["unknown key 'ownr'", "did you mean 'owner'?"]),
    "unknown key nothing like one": ('owner = "ada"', 'owner = "ada"\nzzz = 1', ["unknown key 'zzz'", "known: "]),
    "unknown nested key": ('title = "B', 'tite = "B', ["'notebooks.answer.tite'", "did you mean 'title'?"]),
    "unknown key of a model": (
        'path = "model"\ndataset',
        'pth = "model"\ndataset',
        ["'models.small.pth'", "did you mean 'path'?"],
    ),
    "root is no key": ('owner = "ada"', 'owner = "ada"\nroot = "/"', ["unknown key 'root'"]),
    "missing key": ('competition = "best-answer"\n', "", ["the key 'competition' is missing"]),
    "missing nested key": ('model = "small"\n', "", ["the key 'notebooks.answer.model' is missing"]),
    "wrong type": ('owner = "ada"', "owner = 7", ["owner = 7", "string"]),
    "wrong nested type": ('target = "kaggle-t4x2"', 'target = "x"\nprivate = "no"', ["answer.private = 'no'", "bool"]),
    "a table where a text should be": ('owner = "ada"', "owner = {}", ["owner = {}"]),
    "a text where a table should be": (
        '[wheelhouses]\nlocal-cpu = "ada/wheels-cpu"\nkaggle-t4x2 = "ada/wheels-t4"',
        'wheelhouses = "ada/x"',
        ["wheelhouses = 'ada/x'"],
    ),
    "both places": (
        'dataset = "ada/small-model"',
        'dataset = "ada/m"\nkaggle_model = "ada/m/pyTorch/awq/1"',
        ["models.small", "either dataset or kaggle_model, and not both"],
    ),
    "neither place": ('dataset = "ada/small-model"', "", ["models.small", "either dataset or kaggle_model"]),
    "unknown model": ('model = "small"', 'model = "smal"', ["answer.model = 'smal'", "did you mean 'small'?"]),
    "bad competition": ('"best-answer"', '"Best Answer"', ["competition = 'Best Answer'"]),
    "trust that is the user's": ('owner = "ada"', 'trusted = true\nowner = "ada"', ["unknown key 'trusted'"]),
    "bad owner": ('owner = "ada"', 'owner = "Ada L"', ["owner = 'Ada L'"]),
    "dataset without owner": ('"ada/small-model"', '"small-model"', ["models.small.dataset = 'small-model'"]),
    "model without version": ('"ada/small/pyTorch/awq/3"', '"ada/small/pyTorch/awq"', ["published.kaggle_model"]),
    "title too short": ('"Best answer"', '"Best"', ["notebooks.answer.title = 'Best'", "5"]),
    "title too long": ('"Best answer"', f'"{"x" * 51}"', ["notebooks.answer.title", "50"]),
    "title without letters": ('"Best answer"', '"!!!!!!"', ["notebooks.answer.title", "letters"]),
    "notebook name": ("[notebooks.answer]", '[notebooks."an/swer"]', ["notebooks.an/swer", "letters, digits"]),
    "a list as parameter": (None, "parameters.token_budget = [1]", ["parameters.token_budget = [1]", "a number"]),
    "no finite parameter": (None, "parameters.time_limit_hours = nan", ["time_limit_hours = nan", "finite"]),
    "no finite engine option": (None, "engine_options.x = -inf", ["engine_options.x = -inf", "finite"]),
    "missing source": ('"notebooks_src/answer.py"', '"nope.py"', ["answer.source = 'nope.py'", "does not exist"]),
    "unknown parameter": (None, "parameters.token_buget = 1", ["answer.parameters", "did you mean 'token_budget'?"]),
    "parameter of another type": (None, "parameters.token_budget = 1.5", ["answer.parameters", "type int", "1.5"]),
    "text for a bool": (None, 'parameters.verbose = "true"', ["answer.parameters", "type bool", "'true'"]),
    "a title of a model that Kaggle refuses": (
        'path = "model"\nd',
        'path = "model"\ntitle = "abc"\nd',
        ["small.title", "6"],
    ),
    "licence in another spelling": (
        'path = "model"\nd',
        'path = "model"\nlicense = "GPL-3.0"\nd',
        ["'models.small.license'", "did you mean 'licence'?"],
    ),
    "an image without a digest": (None, 'image = "gcr.io/kaggle-images/python:v160"', ["notebooks.answer.image"]),
    "a session longer than Kaggle's": (None, "session_hours = 13", ["notebooks.answer.session_hours = 13", "12"]),
    "internet without a template for it": (
        None,
        "internet = true",
        ["notebooks.answer", "offline.py.j2 is of notebooks without internet", 'template = "quantize.py.j2"'],
    ),
    "a template for internet without it": (
        None,
        'template = "quantize.py.j2"',
        ["notebooks.answer", "installs from the package index: say internet = true"],
    ),
    "internet and a solution": (
        None,
        'internet = true\ntemplate = "quantize.py.j2"\nsolution = "x.csv"',
        ["notebooks.answer", "scores nothing: leave out solution"],
    ),
    "an adapter without internet": (None, 'adapter = "published"', ["notebooks.answer", "internet = true"]),
    "an unknown adapter": (
        None,
        'internet = true\ntemplate = "quantize.py.j2"\nadapter = "publishd"',
        ["notebooks.answer.adapter = 'publishd'", "did you mean 'published'?"],
    ),
    "the model as its own adapter": (
        None,
        'internet = true\ntemplate = "quantize.py.j2"\nadapter = "small"',
        ["notebooks.answer.adapter = 'small' is not another table under models"],
    ),
    "two notebooks of one address": (
        None,
        '[notebooks.two]\nsource = "x.py"\ntitle = "best: ANSWER"\nmodel = "small"\ntarget = "local-cpu"',
        ["notebooks.answer and notebooks.two", "one notebook on Kaggle, ada/best-answer", "another title"],
    ),
    "two models in one dataset": (
        None,
        '[models.two]\npath = "other"\ndataset = "ada/small-model"',
        ["models.small and models.two would both lie in ada/small-model", "another place"],
    ),
    "two models in one variation": (
        None,
        '[models.two]\npath = "other"\nkaggle_model = "ada/small/pyTorch/awq/4"',
        ["models.published and models.two would both lie in ada/small/pyTorch/awq on Kaggle"],
    ),
    "a model in a wheelhouse": (
        '"ada/small-model"',
        '"ada/wheels-t4"',
        ["wheelhouses.kaggle-t4x2 and models.small would both lie in ada/wheels-t4"],
    ),
    "an integer of thousands of digits": (
        None,
        f"parameters.token_budget = {'9' * 5000}",
        ["cannot be read as TOML", "5000 digits"],
    ),
    "an integer that no float holds": (
        None,
        f"parameters.time_limit_hours = {'9' * 400}",
        ["answer.parameters", "the parameter time_limit_hours is of type float", "1,329 bits"],
    ),
    "brackets in brackets": (None, f"x = {'[' * 5000}", ["cannot be read as TOML"]),
    "no wheelhouse": ('kaggle-t4x2 = "ada/wheels-t4"\n', "", ["no dataset for the target 'kaggle-t4x2'", "add: "]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_kit_toml(case, minimal, edit, listing, monkeypatch, capsys):
    """One line names the file and the key, the exit code is 2, and no file is touched."""
    old, new, words = WRONG[case]
    edit(minimal / "kit.toml", new, old)
    before = listing(minimal)
    monkeypatch.chdir(minimal)
    assert run(["build"]) == 2
    message = capsys.readouterr().err
    assert "kit.toml: " in message or "kit.toml cannot" in message or "kit.toml has" in message
    assert [word for word in words if word not in message] == []
    assert "PosixPath" not in message
    assert len(message.splitlines()) == 1
    assert listing(minimal) == before


def test_one_folder_may_be_named_twice(minimal, edit):
    """Two tables of one folder and one dataset push the same: that is no error."""
    edit(minimal / "kit.toml", '[models.again]\npath = "./model"\ndataset = "ada/small-model"')
    assert load_project(minimal).models["again"].place == "ada/small-model"


def test_kit_toml_missing(tmp_path, capsys):
    """A folder without kit.toml is named."""
    assert run(["build", "--project", str(tmp_path)]) == 2
    assert f"{tmp_path}/kit.toml is missing" in capsys.readouterr().err


def test_kit_toml_itself_given_as_the_project(minimal, capsys):
    """Naming the file instead of the folder is an error that says what a project is."""
    assert run(["build", "--project", str(minimal / "kit.toml")]) == 2
    assert "a project is a folder with a kit.toml" in capsys.readouterr().err


def test_kit_toml_not_utf8(minimal, capsys):
    """Bytes that are no text are an error of the file."""
    (minimal / "kit.toml").write_bytes(b'owner = "\xff"')
    assert run(["build", "--project", str(minimal)]) == 2
    assert "kit.toml is not UTF-8" in capsys.readouterr().err


def test_a_source_outside_of_the_project_works_once_it_is_allowed(minimal, edit, capsys):
    """A source may stand beside the project where kit.toml says so and the user has allowed it."""
    (minimal / "notebooks_src" / "answer.py").rename(minimal.parent / "answer.py")
    edit(minimal / "kit.toml", "../answer.py", "notebooks_src/answer.py")
    edit(minimal / "kit.toml", 'outside = [".."]\nowner = "ada"', 'owner = "ada"')
    assert run(["allow", "..", "--project", str(minimal)]) == 0
    assert run(["build", "--unproved", "--project", str(minimal)]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "reference",
    [
        "qwen-lm/qwen2.5/transformers/7b-instruct-awq/1",
        "metaresearch/llama-3.1/transformers/8b-instruct/2",
        "mistral-ai/mistral/pyTorch/7b-instruct-v0.1-hf/1",
        "keras/qwen/keras/qwen2.5_0.5b_en/12",
        "google/gemma/tensorFlow2/2b/1",
        "Owner_1/M/vllm/a/1",
    ],
)
def test_a_model_is_named_as_kaggles_pages_name_it(reference):
    """Dots, capitals, underscores and digits stand in the addresses of published models."""
    assert Model(path="m", kaggle_model=reference).kaggle_model == reference


@pytest.mark.parametrize(
    "reference",
    [
        "a/b",
        "a/b/c/d",
        "a/b/c/d/0",
        "a/b/c/d/x",
        "a/../c/d/1",
        "a/b c/c/d/1",
        "/b/c/d/1",
        "a/b/2c/d/1",
        "a/b/c/d/1/",
        "a/-/c/d/1",
    ],
)
def test_a_reference_of_another_form_is_refused_in_words(reference):
    """The error says what to write, and prints no pattern."""
    with pytest.raises(ValidationError, match="owner/model/framework/variation/version") as refusal:
        Model(path="m", kaggle_model=reference)
    assert "pattern" not in str(refusal.value)
    assert "^" not in str(refusal.value).split("[type=")[0]
