"""A push that cannot be right: exit code and message, and nothing on Kaggle."""

import json

import pytest
from push_project import TOKEN, rebuild

from kaggle_kit.remote.client import client
from kaggle_kit.runtime.manifest import dump_manifest, file_entry, read_manifest


def refused(world, told, code: int, *parts: str) -> None:
    """The exit code, all parts in the message, and an empty Kaggle to which nothing was sent."""
    assert told.code == code, told.text
    assert all(part in told.text for part in parts), told.text
    assert (world.kaggle.traffic.uploaded, world.counts()) == (0, {"submissions": 0})


def test_an_unknown_notebook_is_named_with_a_near_one(world):
    """Exit code 2, and what was meant."""
    refused(world, world.push("anser"), 2, "no notebook 'anser'", "answer")


def test_a_notebook_that_was_never_built_is_refused(world):
    """Exit code 2, and the command that builds it."""
    for path in (world.root / "build" / "answer").iterdir():
        path.unlink()
    refused(world, world.push(), 2, "kit build answer")


def test_an_old_build_is_refused(world):
    """A build that is older than its source: exit code 1, and the command that builds it."""
    source = world.root / "notebooks_src" / "answer.py"
    source.write_text(source.read_text().replace('"hello"', '"good day"'))
    refused(world, world.push(), 1, "older than its sources", "kit build answer")


def test_an_unproved_wheelhouse_is_refused(world):
    """Without --unproved: exit code 1, and the commands that fetch and prove it."""
    refused(world, world.kit("push", "answer", "--submit"), 1, "kit wheels fetch", "kit wheels prove")


@pytest.mark.parametrize("lasting", [True, False])
def test_internet_on_is_refused(world, lasting):
    """Internet on in the build's metadata is refused, however well its manifest was adapted to it."""
    folder = world.root / "build" / "answer"
    path = folder / "kernel-metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"enable_internet": True}))
    if lasting:
        manifest = read_manifest(folder / "manifest.json")
        files = tuple(file_entry(folder / entry.path, folder) for entry in manifest.files)
        fields = vars(manifest) | {"files": files}
        (folder / "manifest.json").write_text(dump_manifest(type(manifest)(**fields)))
    refused(world, world.push(), 1, "internet is on", "kit build answer")


def test_without_a_login_nothing_begins(world, monkeypatch):
    """Exit code 2, and how to log in."""
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    refused(world, world.push(), 2, "no login", "kaggle auth login")


def test_a_wrong_token_is_not_taken(world, monkeypatch):
    """Exit code 2, and that the token is not accepted; the token itself is not said."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", "a-wrong-token-4711")
    told = world.push()
    refused(world, told, 2, "not accepted", "kaggle auth login")
    assert "4711" not in told.text


@pytest.mark.parametrize("value", ["LOCALHOTS", "localhost", "TEST", "STAGING"])
def test_a_misspelled_environment_is_not_production(world, monkeypatch, value):
    """The official client would go to the real service: exit code 2 before any call."""
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", value)
    world.kaggle.traffic.reset()
    refused(world, world.push(), 2, f"KAGGLE_API_ENVIRONMENT={value!r}", "LOCALHOST")
    assert not world.kaggle.traffic.requests


def test_a_lost_environment_cannot_reach_the_real_service(world, monkeypatch):
    """Without the variable kit asks the real address, which here ends at a port where nothing listens: exit code 1."""
    monkeypatch.delenv("KAGGLE_API_ENVIRONMENT")
    quick = client.REHEARSAL
    monkeypatch.setattr(client, "Patience", lambda: quick)
    told = world.push()
    assert told.code == 1, told.text
    assert "https://api.kaggle.com" in told.text
    assert not world.kaggle.traffic.requests


def test_a_secret_in_a_source_is_refused(world):
    """The login's own token in a notebook's cell is found before anything is sent, and not repeated."""
    source = world.root / "notebooks_src" / "answer.py"
    source.write_text(source.read_text().replace('"hello"', f'"{TOKEN}"'))
    rebuild(world.root, "answer")
    refused(world, world.push(), 1, "answer.ipynb, line", "take it out")


def test_a_broken_file_of_a_model_is_refused(world):
    """A link that leads out of the model's folder: exit code 1 and what to do."""
    (world.root / "model" / "extra.safetensors").symlink_to("/etc/hostname")
    refused(world, world.push(), 1, "extra.safetensors is a link", "put real files there")


NOISE = "q7Zt2mX9bR4kLw8sVd3Nf6Hc1"
HEX = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
LINES = {
    "a subscript": f'os.environ["WANDB_API_KEY"] = "{HEX}9b7c5d3e"',
    "the key of Kaggle": f"os.environ['KAGGLE_KEY'] = '{HEX}'",
    "any key": f'os.environ["MY_API_KEY"] = "{NOISE}"',
    "lines of a call": f'os.environ.setdefault(\n    "MY_API_KEY",\n    "{NOISE}",\n)',
    "a type": f'my_token: str | None = "{NOISE}"',
    "an argument": f'print("api_key", "{NOISE}")',
}


@pytest.mark.parametrize("form", LINES)
def test_a_secret_beside_its_name_is_refused(world, form):
    """Whatever stands between the name and the value in a cell, the push is refused and the value not shown."""
    source = world.root / "notebooks_src" / "answer.py"
    source.write_text(f'{source.read_text().rstrip()}\n\n# %% name="login"\nimport os\n\n{LINES[form]}\n')
    rebuild(world.root, "answer")
    told = world.push()
    refused(world, told, 1, "answer.ipynb, line", "looks like", "not-a-secret")
    assert not any(value in told.text for value in (NOISE, HEX))


def test_a_secret_given_as_a_parameter_is_refused(world):
    """A parameter of kit.toml, or of -p, stands in the notebook that is sent."""
    source = world.root / "notebooks_src" / "answer.py"
    text = source.read_text()
    place = text.index("time_limit_hours")
    source.write_text(f'{text[:place]}api_key: str = ""\n{text[place:]}')
    assert world.kit("build", "answer", "--unproved", "-p", f"api_key={NOISE}").code == 0
    told = world.push()
    assert told.code == 1
    assert "looks like a token or password (api_key)" in told.text
    assert NOISE not in told.text
    assert world.kaggle.traffic.uploaded == 0
