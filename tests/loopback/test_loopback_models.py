"""Kaggle Models on the loopback Kaggle."""

import pytest
from loopback_client import until

M = "models.ModelApiService/"
MODEL = {"ownerSlug": "rehearsal", "modelSlug": "kit-model"}
WHOLE = MODEL | {"framework": "MODEL_FRAMEWORK_TRANSFORMERS", "instanceSlug": "awq"}


@pytest.fixture
def variation(caller):
    """A model with one variation, its first version still processed."""
    caller.call(M + "CreateModel", ownerSlug="rehearsal", slug="kit-model", title="Kit model", isPrivate=True)
    caller.call(M + "CreateModelInstance", **MODEL, body=body(caller, instanceSlug="awq"))


def body(caller, **fields) -> dict:
    """A request's body with one file."""
    files = [{"token": caller.upload("model.safetensors", b"weights", "MODEL")}]
    return {"framework": "MODEL_FRAMEWORK_TRANSFORMERS", "licenseName": "Apache 2.0", "files": files} | fields


def ready(caller, number: int) -> None:
    """Ask until a version is the current one."""
    until(lambda: caller.call(M + "GetModelInstance", **WHOLE)["versionNumber"] == number)


@pytest.mark.usefixtures("variation")
def test_a_version_becomes_current_after_some_polls(caller):
    """Version 0 is said until version 1 is ready."""
    assert caller.call(M + "GetModelInstance", **WHOLE)["versionNumber"] == 0
    ready(caller, 1)


@pytest.mark.usefixtures("variation")
def test_versions_count_up_and_are_listed(caller):
    """A new version is the next number, in reply, page and list."""
    ready(caller, 1)
    made = caller.call(M + "CreateModelInstanceVersion", **WHOLE, body=body(caller, versionNotes="more"))
    assert made["ref"] == "rehearsal/kit-model/transformers/awq/2"
    ready(caller, 2)
    listed = caller.call(M + "ListModelInstanceVersions", **WHOLE)["versionList"]["versions"]
    assert [one["versionNumber"] for one in listed] == [2, 1]


@pytest.mark.usefixtures("variation")
def test_files_are_read_back(caller):
    """Names and sizes are listed, and the bytes can be fetched."""
    ready(caller, 1)
    assert caller.call(M + "ListModelInstanceVersionFiles", **WHOLE)["files"][0]["size"] == 7
    fetched = caller.raw(M + "DownloadModelInstanceVersion", **WHOLE, versionNumber=1, path="model.safetensors")
    assert fetched.content == b"weights"


@pytest.mark.usefixtures("variation")
def test_a_model_is_read_back(caller):
    """Page, list of models and list of variations agree."""
    assert caller.call(M + "GetModel", **MODEL)["instances"][0]["slug"] == "awq"
    assert caller.call(M + "ListModels", owner="rehearsal")["models"][0]["ref"] == "rehearsal/kit-model"
    assert caller.call(M + "ListModelInstances", **MODEL)["instances"][0]["lastVersionId"] == 1


@pytest.mark.parametrize("wrong", [{"licenseName": "nonesuch"}, {"framework": "NONESUCH"}, {"files": []}])
def test_what_kaggle_does_not_accept_is_an_error_in_a_200(caller, wrong):
    """Licence, framework and files are checked."""
    caller.call(M + "CreateModel", ownerSlug="rehearsal", slug="kit-model", title="Kit model")
    assert caller.call(M + "CreateModelInstance", **MODEL, body=body(caller, instanceSlug="awq", **wrong))["error"]


def test_nobody_writes_what_is_anothers(caller):
    """A model for another owner is refused with 403."""
    assert caller.raw(M + "CreateModel", ownerSlug="somebody", slug="x", title="X").status_code == 403


def test_a_public_model_can_be_attached(server, caller, tmp_path):
    """A model that the server was given is a valid source, its framework in any case."""
    server.add_model("somebody/llama/transformers/8b", tmp_path / "data")
    assert "invalidModelSources" not in caller.push(modelDataSources=["somebody/llama/Transformers/8b/1"])
