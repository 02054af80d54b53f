"""The loopback Kaggle as a server: its environment, its login, its memory."""

import http.client
import os
import subprocess
import sys
import threading

import pytest
import requests
from loopback_client import DATASET, until

from kaggle_kit.errors import RemoteError
from kaggle_kit.loopback.runs import RunOutcome
from kaggle_kit.loopback.server import LoopbackKaggle, environment


def test_the_environment_holds_no_other_login_or_proxy(tmp_path):
    """Logins, proxies and configuration of the caller's environment are gone; PATH stays."""
    base = {
        "PATH": "/bin", "KAGGLE_USERNAME": "me", "KAGGLE_KEY": "k", "KAGGLE_CONFIG_DIR": "/c", "HTTPS_PROXY": "p",
        "ALL_PROXY": "p", "all_proxy": "p", "NETRC": "n", "XDG_CONFIG_HOME": "/x", "HOME": "/real", "KAGGLEHUB_X": "1",
    }  # fmt: skip
    found = environment(8080, tmp_path / "home", tmp_path / "tmp", token="made-up", base=base)
    assert found == {
        "PATH": "/bin",
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "tmp"),
        "KAGGLE_API_TOKEN": "made-up",
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "http_proxy": "http://127.0.0.1:8080",
        "https_proxy": "http://127.0.0.1:9",
        "no_proxy": "127.0.0.1",
    }


@pytest.mark.parametrize("lost", ["KAGGLE_API_ENVIRONMENT", None])
def test_the_official_client_cannot_reach_the_real_service(server, tmp_path, lost):
    """Even with the setting lost that points it here, the client ends at the dead proxy and not at Kaggle."""
    values = server.environment(tmp_path / "home", tmp_path / "tmp")
    if lost:
        del values[lost]
    program = (
        "import urllib.request as u; from requests.utils import get_environ_proxies as p\n"
        "print(p('https://api.kaggle.com/v1/x')['https'], p('https://www.kaggle.com')['https'],"
        " p('http://api.kaggle.com').get('http'))"
    )
    told = subprocess.run([sys.executable, "-c", program], env=values, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["http://127.0.0.1:9", "http://127.0.0.1:9", server.url]


def test_requests_for_other_hosts_are_refused_and_counted(server):
    """What comes through the proxy for another host goes nowhere."""
    response = requests.get("http://api.kaggle.com/v1/x", timeout=10)
    assert response.status_code == 403
    assert server.traffic.strangers == {"api.kaggle.com": 1}
    server.traffic.reset()


def test_a_tunnel_to_another_host_is_refused(server):
    """CONNECT, by which TLS would pass a proxy, is answered with 403."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("CONNECT", "api.kaggle.com:443")
    assert connection.getresponse().status == 403
    connection.close()
    server.traffic.reset()


def test_it_listens_on_this_machine_only(server):
    """The address is 127.0.0.1, and so is every address in its replies."""
    assert server.url == f"http://127.0.0.1:{server.port}"


@pytest.mark.usefixtures("server")
def test_a_wrong_token_is_refused(caller_of):
    """401 for calls, and an inactive token for the question whose it is."""
    stranger = caller_of("wrong")
    assert stranger.raw("datasets.DatasetApiService/ListDatasets").status_code == 401
    assert stranger.call("security.OAuthService/IntrospectToken", token="wrong") == {"active": False}


def test_a_legacy_login_is_known(server):
    """User name and key are taken as well as a token."""
    login = ("rehearsal", server.settings.token)
    url = "http://localhost/api/v1/datasets.DatasetApiService/ListDatasets"
    assert requests.post(url, json={}, auth=login, timeout=10).status_code == 200


@pytest.mark.usefixtures("server")
def test_a_call_that_is_not_known_is_501(caller):
    """What the rehearsal cannot do is said, and is not taken for something that is absent."""
    assert caller.raw("users.AccountService/ExpireApiToken").status_code == 501


def test_traffic_is_counted_by_route(server, caller):
    """Requests and bytes, per route."""
    caller.upload("a.bin", b"12345")
    assert server.traffic.requests["blobs.BlobApiService/StartBlobUpload"] == 1
    assert server.traffic.requests["PUT upload"] == 1
    assert server.traffic.bytes["PUT upload"] == server.traffic.uploaded == 5


def test_a_server_on_the_same_folder_goes_on(make, caller_of):
    """Datasets, notebooks, outputs and half an upload are there again."""
    first = make()
    caller = caller_of()
    caller.dataset()
    caller.ready()
    caller.push()
    caller.finished(1)
    opened = caller.call("blobs.BlobApiService/StartBlobUpload", type="DATASET", name="b", contentLength=6)
    requests.put(opened["createUrl"], data=b"abc", headers={"Content-Range": "bytes 0-2/6"}, timeout=10)
    port = first.port
    first.stop()
    make(port=port)
    caller = caller_of()
    assert caller.about("GetDataset")["currentVersionNumber"] == 1
    assert len(caller.kernel("ListKernelSessionOutput", versionLabel="v1")["files"]) == 2
    come = requests.put(opened["createUrl"], headers={"Content-Range": "bytes */6"}, timeout=10)
    assert come.headers["Range"] == "bytes=0-2"
    done = requests.put(opened["createUrl"], data=b"def", headers={"Content-Range": "bytes 3-5/6"}, timeout=10)
    assert done.status_code == 200


def test_a_run_that_a_stop_cut_short_begins_again(make, caller_of):
    """The next server on the folder runs it to its end."""
    begun = threading.Event()

    def slow(run):
        begun.set()
        run.cancelled.wait(20)
        return RunOutcome("COMPLETE")

    first = make(runner=slow)
    caller_of().push()
    assert begun.wait(10)
    first.stop()
    make()
    assert caller_of().finished(1) == "COMPLETE"


@pytest.mark.usefixtures("server")
def test_a_folder_is_one_servers(tmp_path):
    """A second server on the same folder is refused, with what to do."""
    with pytest.raises(RemoteError, match="choose another folder"):
        LoopbackKaggle(tmp_path / "kaggle", runner=lambda _: RunOutcome("COMPLETE"), judge=lambda *_: 0.0)


def test_a_taken_port_is_said(server, tmp_path):
    """A port that cannot be had is an error that names it."""
    other = LoopbackKaggle(
        tmp_path / "other", runner=lambda _: RunOutcome("COMPLETE"), judge=lambda *_: 0.0, port=server.port
    )
    with pytest.raises(RemoteError, match=str(server.port)):
        other.start()
    other.stop()


def test_it_stops_cleanly(make, caller_of):
    """After stop nothing listens, and no thread of it is left, even with a log stream open."""
    server = make(runner=lambda run: run.cancelled.wait(20) and RunOutcome("COMPLETE"))
    caller = caller_of()
    caller.push()
    stream = caller.session.get(
        "http://localhost/api/v1/kernels/logs/stream/rehearsal/kit-notebook", stream=True, timeout=10
    )
    server.stop()
    stream.close()
    assert not [one.name for one in threading.enumerate() if one.name.startswith(("loopback", "run "))]
    with pytest.raises(requests.ConnectionError):
        requests.get(server.url, timeout=5)


def test_no_token_is_written_down(server, caller, tmp_path):
    """The folder of a server holds no login."""
    caller.dataset()
    caller.ready()
    until(lambda: caller.about("GetDataset", DATASET)["currentVersionNumber"] == 1)
    server.stop()
    held = b"".join(path.read_bytes() for path in (tmp_path / "kaggle").rglob("*") if path.is_file())
    assert os.environ["KAGGLE_API_TOKEN"].encode() not in held
