"""Who is not the loopback Kaggle's user gets nothing of it: another user of the machine can reach its port, too."""

import base64
import os
import re
import shutil
import stat
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from loopback_client import DATASET, KERNEL, NOTEBOOK, cli

from kaggle_kit.errors import RemoteError, UsageError
from kaggle_kit.loopback.app import HANDLERS
from kaggle_kit.loopback.runs import RunOutcome
from kaggle_kit.loopback.server import LoopbackKaggle
from kaggle_kit.loopback.service import INTROSPECT, Service, Settings
from kaggle_kit.loopback.store import Store

OLD = "loopback-not-a-secret"
STRANGERS = {
    "nothing": {},
    "an empty token": {"Authorization": "Bearer "},
    "the token of all servers once": {"Authorization": f"Bearer {OLD}"},
    "another token": {"Authorization": f"Bearer {Settings().token}"},
    "a legacy key": {"Authorization": f"Basic {base64.b64encode(f'rehearsal:{OLD}'.encode()).decode()}"},
    "no base64": {"Authorization": "Basic ???"},
    "letters of elsewhere": {"Authorization": "Bearer \u00e9\u00ff".encode("latin-1")},
}


def paths(template: str) -> Iterator[str]:
    """Addresses that a route answers: every call of the protocol, and a word in place of any other parameter."""
    if "{service}" in template:
        for call in {*HANDLERS} - {INTROSPECT}:
            yield f"/api/v1/{call}"
        return
    known = {"owner": KERNEL.split("/")[0], "slug": KERNEL.split("/")[1], "path": f"dataset/{DATASET}/1/a.whl"}
    yield re.sub(r"{(\w+)(:path)?}", lambda found: known.get(found[1], "guessed"), template)


@pytest.mark.parametrize("stranger", STRANGERS)
def test_no_route_answers_a_stranger(server, caller, stranger):
    """Every route that is registered, with a dataset and a notebook there to ask for."""
    caller.dataset()
    caller.ready()
    caller.push()
    caller.finished(1)
    server.traffic.reset()
    asked = 0
    for route in server._application.routes():
        for method in route.methods:
            for path in paths(route.path):
                headers = STRANGERS[stranger]
                answer = requests.request(method, server.url + path, headers=headers, data=b"{}", timeout=20)
                assert answer.status_code in {401, 403}, (method, path, answer.status_code)
                asked += 1
    assert asked > len(HANDLERS)
    assert not server.traffic.requests


@pytest.mark.parametrize("token", [OLD, "", "\ud800", 7, None, ["x"]])
@pytest.mark.usefixtures("server")
def test_whose_a_token_is_is_told_for_the_right_one_only(token):
    """The one question without a login: whoever asks must know the answer."""
    asked = requests.post(f"http://localhost/api/v1/{INTROSPECT}", json={"token": token}, timeout=20)
    assert asked.json() == {"active": False}


@pytest.mark.usefixtures("server")
def test_a_question_without_a_login_is_short():
    """It comes from anybody, and is kept in memory."""
    url = f"http://localhost/api/v1/{INTROSPECT}"
    assert requests.post(url, json={"token": "x" * (1 << 17)}, timeout=20).status_code == 413
    assert requests.post(url, data=iter([b"{}"]), timeout=20).status_code == 413


def test_a_notebook_of_a_stranger_is_not_run(make, caller_of):
    """Pushed with the token that all servers had once."""
    ran = []
    server = make(runner=lambda run: ran.append(run) or RunOutcome("COMPLETE"))
    answer = caller_of(OLD).raw("kernels.KernelsApiService/SaveKernel", slug=KERNEL, newTitle="x", text=NOTEBOOK)
    assert answer.status_code == 401
    server.stop()
    assert ran == []


def test_each_server_has_a_token_of_its_own(make, tmp_path):
    """Long enough, and shown by no representation."""
    tokens = {make(tmp_path / str(number)).settings.token for number in range(3)}
    assert len(tokens) == 3
    assert all(len(token) >= 43 for token in tokens)
    assert not [token for token in tokens if token in repr(Settings(token=token))]


def addresses(caller) -> list[str]:
    """The addresses of a dataset's file, of its archive, and of a run's output."""
    caller.dataset(**{"a file é.whl": b"bytes"})
    caller.ready()
    caller.push()
    caller.finished(1)
    owner, slug = DATASET.split("/")
    asked = {"ownerSlug": owner, "datasetSlug": slug}
    route = "http://localhost/api/v1/datasets.DatasetApiService/DownloadDataset"
    replies = [
        caller.session.post(route, json=asked | more, allow_redirects=False, timeout=20)
        for more in ({"fileName": "a file é.whl"}, {})
    ]
    outputs = caller.kernel("ListKernelSessionOutput", versionLabel="v1")["files"]
    return [*(reply.headers["Location"] for reply in replies), *(output["url"] for output in outputs)]


def test_files_are_had_by_their_addresses(server, caller):
    """Without a login, as clients fetch them; each address is of this server, and none can be made from another."""
    found = addresses(caller)
    assert len(found) == 4
    for url in found:
        assert url.startswith(server.url)
        assert requests.get(url, timeout=20).status_code == 200
        path = urlsplit(url).path.split("/")
        for other in found:
            if other != url:
                swapped = [*path[:2], urlsplit(other).path.split("/")[2], *path[3:]]
                assert requests.get(server.url + "/".join(swapped), timeout=20).status_code == 403
        assert requests.get(server.url + "/".join([path[1] and "", path[1], *path[3:]]), timeout=20).status_code == 403


def test_an_address_is_of_one_kind(server, caller):
    """A file's signature opens no archive."""
    signed = next(url for url in addresses(caller) if "/archives/" in url)
    assert requests.get(signed.replace("/archives/", "/files/"), timeout=20).status_code == 403
    assert server.mistakes == ()


def test_addresses_end_with_the_server(make, caller_of):
    """The next server on the folder knows none of them."""
    first = make()
    url = addresses(caller_of())[0]
    first.stop()
    make(port=first.port)
    assert requests.get(url, timeout=20).status_code == 403


@given(st.text(), st.text())
def test_a_signature_is_of_one_path(path, other):
    """Any other path is refused, whatever letters it has; and a signature of any letters is only refused."""
    service = Service(None, Settings(), None, None, None, url="http://127.0.0.1:1")
    signature = service._signature("files", path)
    service.check_file_url("files", signature, path)
    for kind, given_signature, asked in (
        ("archives", signature, path),
        ("files", other, path),
        *([("files", signature, other)] if other != path else []),
    ):
        with pytest.raises(Exception, match="not made by this server"):
            service.check_file_url(kind, given_signature, asked)


def test_the_official_client_downloads(server, caller, tmp_path):
    """It follows the address that it is given."""
    caller.dataset(**{"a.txt": b"bytes"})
    caller.ready()
    environment = server.environment(tmp_path / "home", tmp_path / "tmp")
    done = cli(environment, "datasets", "download", DATASET, "-f", "a.txt", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "a.txt").read_bytes() == b"bytes"


def test_the_state_is_this_users_alone(make, tmp_path):
    """Whatever the folder was before: notebooks, outputs and upload tokens lie there."""
    (tmp_path / "state").mkdir(mode=0o755)
    make(tmp_path / "state")
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_a_state_that_others_can_write_is_refused(tmp_path):
    """What it says is run."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    with pytest.raises(UsageError, match="every user of this machine can write"):
        LoopbackKaggle(tmp_path / "state", runner=lambda _: RunOutcome("COMPLETE"), judge=lambda *_: 0.0)


def test_a_lock_that_is_a_link_is_refused(tmp_path):
    """A folder that came with a cloned project may hold one: the file that it leads to keeps its bytes."""
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "precious").write_text("bytes")
    (tmp_path / "state" / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(RemoteError, match="lock cannot be opened"):
        Store(tmp_path / "state")
    assert (tmp_path / "precious").read_text() == "bytes"


@pytest.fixture
def planted(tmp_path, monkeypatch, make):
    """A function: start a server on a folder that was filled elsewhere, as a clone brings it, and made to fit."""
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path / "theirs"))
    theirs = make(tmp_path / "made")
    theirs.stop()
    shutil.copytree(tmp_path / "made", tmp_path / "clone")
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path / "cache"))
    return lambda folder: LoopbackKaggle(
        tmp_path / folder, runner=lambda _: RunOutcome("COMPLETE"), judge=lambda *_: 0.0
    )


@pytest.mark.parametrize("folder", ["clone", "made"])
def test_a_state_that_came_with_a_clone_is_not_gone_on_with(planted, folder):
    """Its notebooks would run, with any folder of this machine as their input."""
    with pytest.raises(UsageError, match="was not made here by a loopback Kaggle of this user"):
        planted(folder)


@pytest.mark.parametrize("mark", ["link", "folder", "empty", "pipe", "missing"])
def test_a_mark_of_another_kind_is_none(planted, tmp_path, mark):
    """Whatever stands in its place."""
    place = tmp_path / "clone" / "mark"
    place.unlink()
    match mark:
        case "link":
            place.symlink_to(tmp_path / "made" / "mark")
        case "folder":
            place.mkdir()
        case "empty":
            place.touch()
        case "pipe":
            os.mkfifo(place)
    with pytest.raises(UsageError, match="was not made here"):
        planted("clone")


def test_a_folder_that_was_moved_is_another(make, tmp_path):
    """A mark is of one place."""
    make(tmp_path / "here").stop()
    (tmp_path / "here").rename(tmp_path / "there")
    with pytest.raises(UsageError, match="was not made here"):
        make(tmp_path / "there")
