"""Uploads to the loopback Kaggle."""

import os

import pytest
import requests

from kaggle_kit.loopback.faults import FAULTS

START = "blobs.BlobApiService/StartBlobUpload"
CONTENT = bytes(range(256)) * 2000


@pytest.fixture
def url(caller) -> str:
    """The address of an open upload of CONTENT."""
    return caller.call(START, type="DATASET", name="a.bin", contentLength=len(CONTENT))["createUrl"]


def put(url: str, data, **headers: str):
    """One PUT, without any retry."""
    return requests.put(url, data=data, headers={k.replace("_", "-"): v for k, v in headers.items()}, timeout=20)


def test_a_whole_put_is_taken(server, url):
    """One PUT of all bytes ends the upload, and each byte is counted once."""
    assert put(url, CONTENT).status_code == 200
    assert server.traffic.uploaded == len(CONTENT)


def test_the_question_what_has_come_is_answered(url):
    """308 says how much has come: nothing, a part; 200 when all has."""
    total = len(CONTENT)
    assert "Range" not in put(url, b"", Content_Range=f"bytes */{total}").headers
    assert put(url, CONTENT[:1000], Content_Range=f"bytes 0-999/{total}").status_code == 308
    assert put(url, b"", Content_Range=f"bytes */{total}").headers["Range"] == "bytes=0-999"
    assert put(url, CONTENT[1000:], Content_Range=f"bytes 1000-{total - 1}/{total}").status_code == 200
    assert put(url, b"", Content_Range=f"bytes */{total}").status_code == 200


def test_a_cut_upload_is_resumed_where_it_ended(server, url):
    """After a cut, the rest is enough."""
    server.faults.add(FAULTS["upload-cut"])
    with pytest.raises(requests.ConnectionError):
        put(url, CONTENT)
    come = int(put(url, b"", Content_Range=f"bytes */{len(CONTENT)}").headers["Range"].split("-")[1]) + 1
    assert 0 < come < len(CONTENT)
    rest = put(url, CONTENT[come:], Content_Range=f"bytes {come}-{len(CONTENT) - 1}/{len(CONTENT)}")
    assert rest.status_code == 200


def test_a_whole_put_after_a_cut_begins_anew(server, url):
    """Without Content-Range all bytes come again, and the file is right."""
    server.faults.add(FAULTS["upload-cut"])
    with pytest.raises(requests.ConnectionError):
        put(url, CONTENT)
    assert put(url, CONTENT).status_code == 200


def test_a_gap_is_refused(url):
    """Bytes beyond those that have come are not taken."""
    total = len(CONTENT)
    assert put(url, CONTENT[500:], Content_Range=f"bytes 500-{total - 1}/{total}").status_code == 400


def test_an_empty_file_comes_in_chunks(caller):
    """A file of no bytes is sent as an empty chunked body."""
    opened = caller.call(START, type="DATASET", name="empty", contentLength=0)
    assert put(opened["createUrl"], iter(())).status_code == 200


def test_an_unknown_session_is_refused(server):
    """The token in the address is all that says who sends: without a known one nothing is taken."""
    assert put(f"{server.url}/upload/nonesuch", b"", Content_Range="bytes */5").status_code == 403


def test_a_sparse_file_stays_sparse(caller, tmp_path):
    """Zeros take no room in the server's folder."""
    caller.upload("zeros.bin", bytes(8 << 20))
    (kept,) = (path for path in (tmp_path / "kaggle" / "objects").rglob("*") if path.is_file())
    assert kept.stat().st_size == 8 << 20
    assert kept.stat().st_blocks * 512 < 1 << 20


def test_bytes_need_not_be_kept(make, tmp_path, caller_of):
    """With keep_bytes off, hash and size are known and the folder stays empty."""
    make(tmp_path / "lean", keep_bytes=False)
    caller = caller_of()
    caller.dataset(**{"big.bin": os.urandom(3 << 20)})
    caller.ready()
    assert caller.about("ListDatasetFiles")["datasetFiles"][0]["totalBytes"] == 3 << 20
    assert not [path for path in (tmp_path / "lean" / "objects").rglob("*") if path.is_file()]
