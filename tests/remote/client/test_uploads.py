"""Files to Kaggle: whole, once, from where they were cut, and to nobody else."""

import io
import os
import stat
import threading
import time
from hashlib import sha256
from itertools import pairwise
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import CUT, QUICK, Reply

from kaggle_kit.errors import RemoteError
from kaggle_kit.files import sha256_file, user_cache
from kaggle_kit.remote.client import uploads
from kaggle_kit.remote.client.client import Client
from kaggle_kit.remote.client.credentials import log_in
from kaggle_kit.remote.client.uploads import Upload, forget, upload_files

SIZE = 300_000


@pytest.fixture
def file(tmp_path):
    """A file of 300 kB that no two parts of are the same."""
    path = tmp_path / "weights.bin"
    path.write_bytes(os.urandom(SIZE))
    return path


def send(client, *paths, **options):
    """Send files under their own names."""
    return upload_files(client, [whole(path) for path in paths], **options)


def whole(path):
    """A file to send under its own name, as it is now."""
    return Upload(path, path.name, sha256_file(path) if path.is_file() else "0" * 64)


def test_a_file_is_sent_whole(kaggle, inside, file):
    """One file is one token, and its bytes are sent once."""
    (sent,) = send(inside, file)
    assert (sent.name, sent.size, kaggle.traffic.uploaded) == ("weights.bin", SIZE, SIZE)
    assert sent.token not in repr(sent)


def test_the_second_run_sends_nothing(kaggle, inside, file):
    """A file that was sent is known in a new process, by its name, size and time: no byte is sent again."""
    first = send(inside, file)
    kaggle.traffic.reset()
    assert send(Client(log_in(patience=QUICK), patience=QUICK), file) == first
    assert kaggle.traffic.uploaded == 0


def test_a_changed_file_is_sent_anew(inside, file):
    """Another size, time or hash is another file."""
    first = send(inside, file)
    os.utime(file, ns=(1, 1))
    second = send(inside, file)
    assert second != first
    status = file.stat()
    file.write_bytes(os.urandom(SIZE))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert send(inside, file) != second


def test_what_is_sent_is_what_was_checked(kaggle, inside, file):
    """A file replaced by one of its size and time after it was hashed: refused when it is sent, and not kept as sent.

    Back as it was, it is sent again.
    """
    checked, bytes_, status = whole(file), file.read_bytes(), file.stat()
    file.write_bytes(os.urandom(SIZE))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    for _ in range(2):
        kaggle.traffic.reset()
        with pytest.raises(RemoteError, match=r"weights\.bin changed after it was checked.*no version is made"):
            upload_files(inside, [checked])
        assert kaggle.traffic.uploaded == SIZE
    file.write_bytes(bytes_)
    (sent,) = upload_files(inside, [checked])
    assert sent.size == SIZE


def test_a_file_that_changes_in_its_upload_is_refused_whatever_its_time(inside, file, tmp_path):
    """Written in place, with its time set back; and replaced by another of its size."""
    size = 5_000_000  # more than is read at once: what was read before the change is what was checked
    file.write_bytes(os.urandom(size))
    for replaced in (False, True):
        upload, status, done = whole(file), file.stat(), []

        def change(_path, at, replaced=replaced, status=status, done=done):
            if at and not done:
                done.append(at)
                target = tmp_path / "new" if replaced else file
                target.write_bytes(b"x" * size)
                os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
                target.replace(file)

        with pytest.raises(RemoteError, match=r"weights\.bin changed"):
            upload_files(inside, [upload], progress=change)


@pytest.mark.parametrize("name", ["upload-cut", "upload-503", "upload-reply-lost"])
def test_a_resumed_upload_is_compared_too(kaggle, inside, file, fault, name):
    """After a cut and in the next run the whole file is compared, not only what was sent last."""
    checked = Upload(file, file.name, "0" * 64)
    fault(name)
    with pytest.raises(RemoteError, match="changed after it was checked"):
        upload_files(inside, [checked])
    fault(name)
    inside.patience = inside.patience.__class__(attempts=1)
    kaggle.faults.fired.clear()
    with pytest.raises(RemoteError, match="goes on from there"):
        upload_files(inside, [checked])
    if name != "upload-reply-lost":
        with pytest.raises(RemoteError, match="changed after it was checked"):
            upload_files(Client(log_in(patience=QUICK), patience=QUICK), [checked])


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=9), st.integers(1, 40), st.integers(1, 40))
def test_the_hash_of_what_was_sent(data, places, piece, mark):
    """However often a server has less than was sent: the hash in the end is that of the whole file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uploads, "_MARK_BYTES", mark)
        patch.setattr(uploads, "_READ_BYTES", piece)
        sent, stream = uploads._SentHash(), io.BytesIO(data)
        for place in (*places, 0, len(data)):
            at = min(place, len(data))
            sent.move(stream, at)
            assert (sent.at, stream.tell(), sent.hexdigest()) == (at, at, sha256(data[:at]).hexdigest())
            sent.add(stream.read(piece))
        sent.move(stream, len(data))
    assert sent.hexdigest() == sha256(data).hexdigest()


@pytest.mark.parametrize("name", ["upload-cut", "upload-500", "upload-503", "upload-expired", "upload-reply-lost"])
def test_a_fault_is_overcome(kaggle, inside, file, fault, name):
    """A cut, 5xx, an expired session and a lost reply end in a whole file at Kaggle."""
    fault(name)
    (sent,) = send(inside, file)
    assert kaggle.faults.fired[name] == 1
    kaggle.traffic.reset()
    assert send(inside, file) == (sent,)
    assert kaggle.traffic.uploaded == 0


def test_a_cut_upload_goes_on_from_the_last_byte(kaggle, inside, file, fault):
    """After a cut in the middle only the rest is sent."""
    fault("upload-cut")
    offsets = []
    send(inside, file, progress=lambda _path, at: offsets.append(at))
    assert kaggle.traffic.requests["PUT upload query"] == 1
    begins = [at for before, at in pairwise(offsets) if at < before]
    assert all(at >= 1 << 16 for at in begins)


def test_another_process_goes_on_from_the_last_byte(kaggle, inside, file, fault):
    """An upload that ended in an error is taken up at its offset by the next run."""
    fault("upload-cut")
    inside.patience = inside.patience.__class__(attempts=1)
    with pytest.raises(RemoteError, match="goes on from there"):
        send(inside, file)
    kaggle.traffic.reset()
    send(Client(log_in(patience=QUICK), patience=QUICK), file)
    assert 0 < kaggle.traffic.uploaded <= SIZE - (1 << 16)
    assert kaggle.traffic.requests["blobs.BlobApiService/StartBlobUpload"] == 0


def test_an_empty_file_is_sent(inside, tmp_path):
    """A file of no bytes is a file."""
    path = tmp_path / "empty.txt"
    path.touch()
    (sent,) = send(inside, path)
    assert sent.size == 0


def test_a_missing_file_is_named(inside, tmp_path):
    """A file that is not there is named before anything is sent."""
    with pytest.raises(RemoteError, match=r"gone\.bin cannot be sent"):
        send(inside, tmp_path / "gone.bin")


def test_many_files_keep_their_order(inside, tmp_path):
    """Tokens come in the order of the files, however they were sent."""
    paths = [tmp_path / f"{number}.txt" for number in range(9)]
    for path in paths:
        path.write_text(path.name * 1000)
    assert [one.name for one in send(inside, *paths)] == [path.name for path in paths]


def test_one_failure_keeps_what_is_done(kaggle, inside, file, tmp_path):
    """The first failure is raised with how much is there; the next run sends the rest only."""
    other = tmp_path / "other.bin"
    other.write_bytes(b"x" * 1000)

    def grow(path, _at):
        if path == other:
            other.write_bytes(b"y" * 2000)

    with pytest.raises(RemoteError, match=r"other\.bin changed while it was sent.*1 of 2 files are at Kaggle"):
        send(inside, file, other, parallel=1, progress=grow)
    kaggle.traffic.reset()
    send(inside, file, other)
    assert kaggle.traffic.uploaded == 2000


def test_a_further_link_to_a_file_is_no_change(inside, file, tmp_path):
    """A dry run beside the push links the same wheels: their bytes stay."""
    [sent] = send(inside, file, progress=lambda *_: os.link(file, tmp_path / uuid4().hex))
    assert sent.size == file.stat().st_size


@pytest.mark.parametrize("waits_for", ["its start", "its bytes"])
def test_a_wait_ends_when_another_file_fails(script, client, file, tmp_path, waits_for):
    """While one file waits as long as the server asks, another's failure is told at once."""
    other = tmp_path / "other.bin"
    other.write_bytes(b"x")
    waiting = threading.Event()
    client.tell = lambda _: waiting.set()
    later = Reply(429, headers={"Retry-After": "500"})

    def start(seen):
        name = seen.json["name"]
        if waits_for == "its start" and name == file.name:
            return later
        return Reply(body={"token": "t", "createUrl": f"{script.url}/put/{name}"})

    def refuse(_seen):
        waiting.wait(10)
        return Reply(400)

    script.on("StartBlobUpload", start)
    script.on(file.name, later)
    script.on(other.name, refuse)
    begun = time.monotonic()
    with pytest.raises(RemoteError, match=r"other\.bin was not taken"):
        send(client, file, other)
    assert waiting.is_set()
    assert time.monotonic() - begun < 10


def test_no_login_goes_with_the_bytes(script, client, file):
    """The PUT carries no Authorization header, not even one of a .netrc."""
    script.on("StartBlobUpload", {"token": "t", "createUrl": f"{script.url}/put/f1"})
    script.on("f1", Reply(200))
    send(client, file)
    assert "Authorization" not in script.calls("f1")[0].headers


@pytest.mark.parametrize(
    "url", ["https://storage.example/x", "http://10.1.2.3/x", "ftp://127.0.0.1/x", "http://127.0.0.1.example/"]
)
def test_a_file_goes_nowhere_else(script, client, file, url):
    """An address off this machine, in a rehearsal, gets nothing."""
    script.on("StartBlobUpload", {"token": "t", "createUrl": url})
    with pytest.raises(RemoteError, match="Nothing was sent"):
        send(client, file)


@pytest.mark.parametrize("answer", [{}, {"token": "t"}, {"createUrl": "http://127.0.0.1/x"}])
def test_a_start_without_token_or_address(script, client, file, answer):
    """An answer with half of what is needed is an error that names the file."""
    script.on("StartBlobUpload", answer)
    with pytest.raises(RemoteError, match=r"file weights\.bin"):
        send(client, file)


def test_a_server_that_never_takes_it(script, client, file):
    """Cut after cut without progress ends after the last attempt."""
    script.on("StartBlobUpload", {"token": "t", "createUrl": f"{script.url}/put/f1"})
    script.on("f1", CUT)
    with pytest.raises(RemoteError, match="Run the same command again"):
        send(client, file)
    assert len(script.calls("f1")) <= 2 * QUICK.attempts


def test_a_refused_file_is_not_repeated(script, client, file):
    """A plain refusal of a fresh upload is told with what the server said."""
    script.on("StartBlobUpload", {"token": "t", "createUrl": f"{script.url}/put/f1"})
    script.on("f1", Reply(400, {"message": "name not allowed"}))
    with pytest.raises(RemoteError, match="name not allowed"):
        send(client, file)
    assert len(script.calls("f1")) == 1


def test_a_resumed_upload_says_its_range(script, client, file):
    """After a 308 the rest is sent with its place in the file."""
    script.on("StartBlobUpload", {"token": "t", "createUrl": f"{script.url}/put/f1"})
    script.on("f1", Reply(503), Reply(308, headers={"Range": "bytes=0-99999"}), Reply(200))
    send(client, file)
    query, rest = script.calls("f1")[1:]
    assert query.headers["Content-Range"] == f"bytes */{SIZE}"
    assert rest.headers["Content-Range"] == f"bytes 100000-{SIZE - 1}/{SIZE}"
    assert rest.body == file.read_bytes()[100_000:]


def test_sessions_are_private(inside, file):
    """The file with tokens and addresses is its user's alone."""
    send(inside, file)
    folder = user_cache() / "uploads"
    (kept,) = folder.glob("*.sqlite3")
    assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(kept.stat().st_mode)) == (0o700, 0o600)


def test_used_tokens_are_forgotten(inside, file):
    """What a version holds is sent anew for the next one that needs it."""
    first = send(inside, file)
    forget(inside, [whole(file)])
    assert send(inside, file) != first
