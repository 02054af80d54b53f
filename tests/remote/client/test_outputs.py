"""A run's output and log: whole files, from the pushed version, and nothing outside the folder."""

import contextlib
import errno
import json
from pathlib import Path

import pytest
from scripted import CUT, META, REF, SOURCE, Reply

from kaggle_kit.errors import CredentialsError, RemoteError
from kaggle_kit.remote.client import notebooks, outputs
from kaggle_kit.remote.client.outputs import LogLine, follow_log
from kaggle_kit.remote.diagnosis import read_log


def listed(script, *names, page="", log=""):
    """An answer that lists files of the scripted server."""
    files = [{"fileName": name, "url": f"{script.url}/files/f{index}"} for index, name in enumerate(names)]
    return {"files": files, "nextPageToken": page, "log": log}


def why_lost(client, folder):
    """Why the one file of the output did not come."""
    brought = outputs.output(client, REF, 1, folder)
    assert brought.files == ()
    (why,) = brought.missing.values()
    return why


def test_the_output_is_fetched(inside, ran, tmp_path):
    """Every file comes, sub-folders kept."""
    paths = outputs.output(inside, REF, ran, tmp_path / "out").files
    assert {path.relative_to(tmp_path / "out").as_posix() for path in paths} == {"submission.csv", "logs/worker.txt"}
    assert (tmp_path / "out" / "submission.csv").read_text() == "id,a\n1,0.5\n"


def test_only_what_is_wanted_is_fetched(kaggle, inside, ran, tmp_path):
    """A pattern chooses, and only those files are asked for."""
    outputs.output(inside, REF, ran, tmp_path / "out", patterns=["*.csv"])
    assert kaggle.traffic.requests["GET file"] == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["submission.csv"]


def test_a_newer_local_file_is_replaced(inside, ran, tmp_path):
    """A larger and newer file of that name does not keep the run's file out, as it does with the official client."""
    (tmp_path / "submission.csv").write_text("old and much longer than the new one\n" * 9)
    outputs.output(inside, REF, ran, tmp_path, patterns=["submission.csv"])
    assert (tmp_path / "submission.csv").read_text() == "id,a\n1,0.5\n"


def test_an_output_that_is_not_there(inside, ran, tmp_path):
    """A pattern that matches nothing is an error that lists what there is."""
    with pytest.raises(RemoteError, match=r"no 'scores\.bin'; it holds logs/worker\.txt, submission\.csv"):
        outputs.output(inside, REF, ran, tmp_path, patterns=["scores.bin"])


def test_an_empty_output_is_an_error(inside, ran, tmp_path, fault):
    """Nothing at all is no success."""
    fault("output-empty")
    with pytest.raises(RemoteError, match="it holds nothing"):
        outputs.output(inside, REF, ran, tmp_path)


@pytest.mark.parametrize("name", ["../out.csv", "/etc/out.csv", "a/../../out.csv", "a\\..\\b", ".", ""])
def test_a_name_stays_in_the_folder(script, client, tmp_path, name):
    """A name that would leave the folder is refused, and nothing is fetched."""
    script.on("ListKernelSessionOutput", listed(script, name))
    assert "does not stay" in why_lost(client, tmp_path / "out")
    assert script.calls("f0") == []


def test_a_link_does_not_lead_out(script, client, tmp_path):
    """A folder that is a link to elsewhere is not followed."""
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "elsewhere")
    script.on("ListKernelSessionOutput", listed(script, "a/b.csv"))
    assert "does not stay" in why_lost(client, tmp_path / "out")


def test_pages_are_followed(script, client):
    """All pages are listed, always of the version asked for."""
    script.on("ListKernelSessionOutput", listed(script, "a", page="2"), listed(script, "b"))
    assert [one.name for one in outputs.list_output(client, REF, 5)] == ["a", "b"]
    assert [one.json["versionLabel"] for one in script.seen] == ["v5", "v5"]


def test_a_file_that_breaks_off_is_fetched_again(script, client, tmp_path):
    """A short answer, a cut and a 503 are repeated until the file is whole."""
    script.on("ListKernelSessionOutput", listed(script, "a.csv"))
    script.on("f0", Reply(body=b"half", length=9), Reply(503), Reply(body=b"whole one"))
    outputs.output(client, REF, 1, tmp_path)
    assert (tmp_path / "a.csv").read_bytes() == b"whole one"


def test_half_a_file_is_never_left(script, client, tmp_path):
    """A file that never comes whole leaves the old one, and no part."""
    (tmp_path / "a.csv").write_bytes(b"old")
    script.on("ListKernelSessionOutput", listed(script, "a.csv"))
    script.on("f0", Reply(body=b"half", length=9))
    assert "a.csv could not be fetched whole" in why_lost(client, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == {"a.csv": b"old"}


def test_a_file_that_does_not_come_keeps_no_other_back(script, client, tmp_path):
    """What follows a refused file comes all the same, and the refused one is named with its reason."""
    script.on("ListKernelSessionOutput", listed(script, "cache.bin", "submission.csv"))
    script.on("f0", Reply(404))
    script.on("f1", Reply(body=b"id"))
    brought = outputs.output(client, REF, 1, tmp_path)
    assert [path.name for path in brought.files] == ["submission.csv"]
    assert list(brought.missing) == ["cache.bin"]
    assert "404" in brought.missing["cache.bin"]


def test_an_address_that_has_ended_is_asked_for_anew(script, client, tmp_path):
    """A refused address is taken from a new list once more before the file counts as lost."""
    script.on("ListKernelSessionOutput", listed(script, "a.csv"))
    script.on("f0", Reply(403), Reply(body=b"id"))
    brought = outputs.output(client, REF, 1, tmp_path)
    assert [path.read_bytes() for path in brought.files] == [b"id"]
    assert brought.missing == {}


def test_a_full_disk_is_named(script, client, tmp_path, monkeypatch):
    """A file for which there is no room is missing for that reason, with the place that is full."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    script.on("ListKernelSessionOutput", listed(script, "a.csv"))
    script.on("f0", Reply(body=b"id"))
    monkeypatch.setattr(Path, "replace", full)
    assert f"{tmp_path}" in (why := why_lost(client, tmp_path))
    assert "No space left" in why


def test_no_login_goes_to_the_file_server(script, client, tmp_path):
    """Addresses that the server names are fetched without the login."""
    script.on("ListKernelSessionOutput", listed(script, "a.csv"))
    script.on("f0", Reply(body=b"x"))
    outputs.output(client, REF, 1, tmp_path)
    assert "Authorization" not in script.calls("f0")[0].headers


@pytest.mark.parametrize("url", ["https://elsewhere.example/a", "http://10.0.0.1/a", "file:///etc/passwd"])
def test_no_file_comes_from_elsewhere(script, client, tmp_path, url):
    """In a rehearsal nothing is fetched from another machine."""
    script.on("ListKernelSessionOutput", {"files": [{"fileName": "a.csv", "url": url}]})
    assert "not one that kit fetches from" in why_lost(client, tmp_path)


def test_a_redirect_does_not_lead_elsewhere(script, client, tmp_path):
    """A redirect is checked like the address itself."""
    script.on("ListKernelSessionOutput", listed(script, "a.csv"))
    script.on("f0", Reply(302, headers={"Location": "http://elsewhere.example/a"}))
    assert "elsewhere.example" in why_lost(client, tmp_path)


def test_the_log_is_read(inside, ran):
    """The log of the version is there, in a form that kit can read."""
    text = read_log(outputs.log(inside, REF, ran)).text
    assert "begin" in text
    assert "end" in text


def test_the_log_is_followed_to_its_end(inside):
    """Each line comes once, while the run goes on or after it."""
    version = notebooks.push(inside, META, SOURCE, session_timeout_s=60).version
    text = "".join(line.text for line in follow_log(inside, REF, version))
    assert (text.count("begin"), text.count("end")) == (1, 1)


def event(text, at):
    """One server-sent event."""
    return f"data: {json.dumps({'stream_name': 'stdout', 'time': at, 'data': text})}\n\n".encode()


SSE = {"Content-Type": "text/event-stream"}


def test_a_cut_log_goes_on(script, client):
    """After a cut the server begins anew; each line is given once."""
    whole = event("one", 1) + event("two", 2) + event("three", 3) + b"data: END_OF_LOG\n\n"
    begun = event("one", 1) + event("two", 2)
    script.on("score-it", Reply(body=begun, headers=SSE, length=len(whole)), CUT, Reply(body=whole, headers=SSE))
    script.on("GetKernelSessionStatus", {"status": "RUNNING"})
    assert [line.text for line in follow_log(client, REF, 3)] == ["one", "two", "three"]
    assert all(one.target.endswith("?versionLabel=v3") for one in script.calls("score-it"))


@pytest.mark.parametrize("headers", [SSE, {"Content-Type": "application/json"}])
def test_a_log_nested_without_end_is_text(script, client, headers):
    """A line, or a whole log, that no parser can walk is shown as it came."""
    deep = "[" * 200_000
    body = f"data: {deep}\n\ndata: END_OF_LOG\n\n" if headers is SSE else deep
    script.on("score-it", Reply(body=body.encode(), headers=headers))
    assert [line.text.strip() for line in follow_log(client, REF, 3)] == [deep]


def test_a_log_that_goes_on_without_repeating(script, client):
    """A server that sends only what is new is heard in full."""
    first = Reply(body=event("one", 1), headers=SSE)
    script.on("score-it", first, Reply(body=event("two", 2) + b"data: END_OF_LOG\n\n", headers=SSE))
    assert [line.text for line in follow_log(client, REF, 1)] == ["one", "two"]


def test_a_finished_log_is_a_list(script, client):
    """A run that is over answers with a JSON list."""
    script.on("score-it", Reply(body=[{"stream_name": "stderr", "time": 2, "data": "x\n"}]))
    assert list(follow_log(client, REF, 1)) == [LogLine("stderr", 2.0, "x\n")]


def test_a_run_that_has_not_begun_is_waited_for(script, client):
    """While the run is queued there is no log, and that is no failure."""
    done = Reply(body=event("one", 1) + b"data: END_OF_LOG\n\n", headers=SSE)
    script.on("score-it", *[Reply(404)] * 5, done)
    script.on("GetKernelSessionStatus", {"status": "QUEUED"})
    assert [line.text for line in follow_log(client, REF, 1)] == ["one"]


def test_a_run_that_ended_without_a_log(script, client):
    """A run that is over and has no log ends the following."""
    script.on("score-it", Reply(body=b""))
    script.on("GetKernelSessionStatus", {"status": "ERROR"})
    assert list(follow_log(client, REF, 1)) == []


def test_a_log_that_cannot_be_followed(script, client):
    """Failure after failure is an error that says the run goes on."""
    script.on("score-it", CUT)
    script.on("GetKernelSessionStatus", {})
    with pytest.raises(RemoteError, match="The run goes on at Kaggle"):
        list(follow_log(client, REF, 1))


def test_a_log_is_not_everybodys(script, client):
    """401 is a matter of the login, 403 of the name."""
    script.on("score-it", Reply(401), Reply(403))
    with pytest.raises(CredentialsError):
        list(follow_log(client, REF, 1))
    with pytest.raises(RemoteError, match="403"):
        list(follow_log(client, REF, 1))


REPLIES = {
    "deep": b"[" * 200_000,
    "deep objects": b'{"a":' * 100_000,
    "a long number": b'{"files": [], "log": ' + b"9" * 10_000 + b"}",
    "no list": b'{"files": 3}',
    "no objects": b'{"files": ["a"]}',
    "an object": b'{"files": {"a": 1}}',
    "no address": b'{"files": [{"fileName": "a.csv", "url": "http://["}]}',
    "no port": b'{"files": [{"fileName": "a.csv", "url": "http://127.0.0.1:99999/x"}]}',
    "a file of this machine": b'{"files": [{"fileName": "a.csv", "url": "file:///etc/passwd"}]}',
}


@pytest.mark.parametrize("case", REPLIES)
def test_a_reply_of_another_shape(script, client, tmp_path, case):
    """It is an error, or the file is named with why it did not come; never a traceback."""
    script.on("ListKernelSessionOutput", Reply(body=REPLIES[case]))
    with contextlib.suppress(RemoteError):
        assert "a.csv" in outputs.output(client, REF, 1, tmp_path / "out").missing
    assert list(tmp_path.glob("out/*")) == []


def test_half_a_character_in_a_name(script, client, tmp_path):
    """It is replaced, for no file could have such a name here; the log that was cut in one is read, too."""
    body = json.dumps(listed(script, "a\ud83d.csv", log="cut \ud83d")).encode()
    script.on("ListKernelSessionOutput", Reply(body=body))
    script.on("f0", Reply(body=b"x"))
    assert [path.name for path in outputs.output(client, REF, 1, tmp_path).files] == ["a\ufffd.csv"]
    assert outputs.log(client, REF, 1) == "cut \ufffd"


@pytest.mark.parametrize("length", ["\u00b2", "9" * 5000, "-1"])
def test_a_length_that_is_no_number(script, client, tmp_path, length):
    """It says nothing of the file: no traceback."""
    script.on("ListKernelSessionOutput", listed(script, "a.csv"))
    script.on("f0", Reply(body=b"x", length=length))
    brought = outputs.output(client, REF, 1, tmp_path)
    assert [*(path.name for path in brought.files), *brought.missing] == ["a.csv"]


@pytest.mark.parametrize("time", ["1" + "0" * 400, "true", "NaN", "-1", '"1"', "[]"])
def test_a_time_in_a_log_that_is_none(script, client, time):
    """The line comes without a time."""
    raw = f'[{{"data": "x\\n", "time": {time}}}]'
    script.on("score-it", Reply(body=raw.encode()))
    assert [(line.text, line.time_s) for line in follow_log(client, REF, 1)] == [("x\n", None)]
    assert read_log(raw).times == ()
