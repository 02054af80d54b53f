"""What a hostile notebook tries in the strong seals. Each attack is made for real, by a process inside."""

import os
import socket
import stat
from pathlib import Path

import pytest
from sealed_bench import Bench

from kaggle_kit.errors import SandboxError
from kaggle_kit.sandbox import mounts as mounts_module
from kaggle_kit.sandbox.seal import Seal

CALL = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
result = libc.syscall(*{arguments})
print(result, os.strerror(ctypes.get_errno()) if result == -1 else "done")
"""
NUMBERS = {
    "x86_64": {"keyctl": 250, "add_key": 248, "unshare": 272, "io_uring": 425, "clone": 56, "clone3": 435, "bpf": 321},
    "aarch64": {"keyctl": 219, "add_key": 217, "unshare": 97, "io_uring": 425, "clone": 220, "clone3": 435, "bpf": 280},
}[os.uname().machine]
NEW_USER = 0x10000000


@pytest.mark.parametrize("place", ["submission.csv", "executed.ipynb", "kit-run.json", "folder/deep.csv"])
@pytest.mark.parametrize("how", ["symbolic", "absolute of a folder above", "dangling"])
def test_a_link_neither_reads_nor_writes_a_file_outside(
    seal: Seal, bench: Bench, tmp_path: Path, place: str, how: str
) -> None:
    """A link that the notebook leaves under a name that kit reads leads nowhere, and the file outside stays."""
    secret = tmp_path / "secret"
    secret.write_text("a secret")
    target = {"symbolic": secret, "absolute of a folder above": bench.out.parent / "secret", "dangling": tmp_path / "x"}
    code = f"""
        import os
        os.makedirs(os.path.dirname({place!r}) or ".", exist_ok=True)
        os.symlink({str(target[how])!r}, {place!r})
    """
    bench.run(seal, code, driver=True)
    assert [path for path in bench.out.rglob("*") if path.is_symlink() or path.is_file()] == []
    assert secret.read_text() == "a secret"
    assert not (tmp_path / "x").exists()


def test_a_link_to_a_folder_brings_nothing_out(seal: Seal, bench: Bench, tmp_path: Path) -> None:
    """A folder that is a link, even within a folder, is not walked into."""
    bench.run(
        seal, f"import os; os.mkdir('a'); os.symlink({str(tmp_path)!r}, 'a/b'); os.symlink('/', 'c')", driver=True
    )
    assert [path for path in bench.out.rglob("*") if not path.is_dir()] == []


def test_no_folder_of_the_results_is_inside(seal: Seal, bench: Bench) -> None:
    """Neither the folder itself nor a way to it over the process that brings files out can be reached."""
    code = f"""
        import os
        seen = [str(bench) for bench in ({str(bench.out)!r}, "/kaggle/out") if os.path.exists(bench)]
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if int(pid) == os.getpid():
                continue
            try:
                seen += [os.readlink(f"/proc/{{pid}}/fd/{{fd}}") for fd in os.listdir(f"/proc/{{pid}}/fd")]
            except OSError:
                pass
        print([place for place in seen if place.startswith("/") and place != "/dev/null"])
        print(os.listdir("/proc/self/fd"))
    """
    ended, said = bench.run(seal, code, driver=True)
    assert ended == 0, said
    places, own = said.splitlines()
    assert places == "[]"
    assert set(eval(own)) <= {"0", "1", "2", "3"}


def test_frames_cannot_be_forged(seal: Seal, bench: Bench) -> None:
    """The pipe of the files cannot be opened through /proc by a process that the notebook starts."""
    code = r"""
        import os, struct
        parts = ((b"F", b"forged"), (b"D", b"bad"), (b"W", b""))
        frames = b"".join(struct.pack(">cI", kind, len(data)) + data for kind, data in parts)
        parents = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and int(pid) != os.getpid()]
        opened = 0
        for pid in parents:
            for fd in range(3, 40):
                try:
                    with open(f"/proc/{pid}/fd/{fd}", "wb", buffering=0) as pipe:
                        opened += 1
                        pipe.write(frames)
                except OSError:
                    pass
        print(opened)
    """
    ended, said = bench.run(seal, code, driver=True)
    assert (ended, said) == (0, "0\n")
    assert list(bench.out.iterdir()) == []


def test_mode_bits_stay_inside(seal: Seal, bench: Bench) -> None:
    """A set-user-id program, or a file that everybody may write, comes out as a plain file."""
    code = "import os\nfor n, m in (('a', 0o6777), ('b', 0o1666)): open(n, 'w').close(); os.chmod(n, m)"
    bench.run(seal, code, driver=True)
    assert {stat.S_IMODE((bench.out / name).stat().st_mode) & ~0o22 for name in "ab"} == {0o644}
    assert not any((bench.out / name).stat().st_mode & 0o7133 for name in "ab")


@pytest.mark.parametrize("kind", ["a pipe", "a socket"])
def test_special_files_are_left_behind_and_hold_nothing_up(seal: Seal, bench: Bench, kind: str) -> None:
    """What is not a file under a name that kit reads does not come out, and the rest does."""
    make = {"a pipe": "os.mkfifo('submission.csv')", "a socket": "socket.socket(1).bind('submission.csv')"}[kind]
    code, said = bench.run(seal, f"import os, socket\n{make}\nopen('z', 'w').write('z')", driver=True)
    assert code == 0
    assert "submission.csv was left behind" in said
    assert [path.name for path in bench.out.iterdir()] == ["z"]


def test_files_of_holes_do_not_fill_the_disk(seal: Seal, bench: Bench) -> None:
    """A file that claims to be an exabyte is left behind, and those that fit come out."""
    code, said = bench.run(seal, "open('a', 'w').truncate(1 << 60)\nopen('b', 'w').write('b')", driver=True)
    assert code == 0
    assert "a was left behind: it claims to have" in said
    assert [path.name for path in bench.out.iterdir()] == ["b"]


def test_folders_without_end_do_not_hold_anything_up(seal: Seal, bench: Bench) -> None:
    """A tree a thousand folders deep costs the files in it, and no other."""
    code = """
        import os
        open("submission.csv", "w").write("id")
        for _ in range(1500):
            os.mkdir("d"); os.chdir("d"); open("f", "w").close()
    """
    bench.working_bytes = 64 << 20
    ended, _ = bench.run(seal, code, driver=True)
    assert ended == 0
    assert (bench.out / "submission.csv").read_text() == "id"
    assert max(len(path.relative_to(bench.out).parts) for path in bench.out.rglob("*")) <= 33


@pytest.mark.parametrize(
    ("call", "arguments", "said"),
    [
        ("keyctl", (NUMBERS["keyctl"], 0, -3, 0), "Operation not permitted"),
        ("add_key", (NUMBERS["add_key"], b"user", b"kit", b"x", 1, -3), "Operation not permitted"),
        ("unshare", (NUMBERS["unshare"], NEW_USER), "Operation not permitted"),
        ("clone", (NUMBERS["clone"], NEW_USER | 17, 0, 0, 0, 0), "Operation not permitted"),
        ("clone3", (NUMBERS["clone3"], 0, 0), "Function not implemented"),
        ("io_uring", (NUMBERS["io_uring"], 1, 0), "Function not implemented"),
        ("bpf", (NUMBERS["bpf"], 0, 0, 0), "Operation not permitted"),
    ],
)
def test_calls_that_namespaces_do_not_hold_are_refused(
    seal: Seal, bench: Bench, call: str, arguments: tuple[object, ...], said: str
) -> None:
    """The user's keyring, new user namespaces, io_uring and the like are out of reach."""
    assert bench.run(seal, CALL.format(arguments=arguments)) == (0, f"-1 {said}\n"), call


@pytest.mark.parametrize("family", [40, 38, 17, 44])  # AF_VSOCK, AF_ALG, AF_PACKET, AF_XDP
def test_sockets_of_other_families_are_refused(seal: Seal, bench: Bench, family: int) -> None:
    """A virtual machine's host answers on AF_VSOCK, which no network namespace shuts off."""
    code, said = bench.run(seal, f"import socket; socket.socket({family}, socket.SOCK_STREAM)")
    assert code == 1
    assert "Address family not supported" in said


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x32 is an interface of x86_64")
def test_the_other_interface_of_the_kernel_is_refused(seal: Seal, bench: Bench) -> None:
    """The same calls under the numbers of x32 do not pass by the filter."""
    arguments = (0x40000000 | NUMBERS["unshare"], NEW_USER)
    assert bench.run(seal, CALL.format(arguments=arguments)) == (0, "-1 Function not implemented\n")


def test_the_keyrings_of_the_user_are_not_listed(seal: Seal, bench: Bench) -> None:
    """/proc tells of no key: its files are empty or cannot be opened."""
    code = """
        for name in ("/proc/keys", "/proc/key-users"):
            try:
                print(repr(open(name).read()))
            except OSError as error:
                print("''")
    """
    assert bench.run(seal, code) == (0, "''\n''\n")


def test_threads_and_processes_go_on_working(seal: Seal, bench: Bench) -> None:
    """What engines need is not refused: threads, forks, shared memory, pipes, local sockets."""
    code = """
        import multiprocessing, socket, threading
        from multiprocessing import shared_memory
        thread = threading.Thread(target=print, args=("thread",)); thread.start(); thread.join()
        block = shared_memory.SharedMemory(create=True, size=10); block.close(); block.unlink()
        one, other = socket.socketpair(); one.send(b"x")
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(pool.map(abs, [-1, -2]), other.recv(1))
    """
    assert bench.run(seal, code) == (0, "thread\n[1, 2] b'x'\n")


@pytest.mark.parametrize("kind", ["socket", "pipe"])
def test_an_input_with_a_way_to_another_program_is_refused(
    any_seal: Seal, bench: Bench, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket of this machine in a folder that a notebook is given would be open in every seal."""
    (bench.input / "deep").mkdir()
    monkeypatch.chdir(bench.input / "deep")
    if kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        server.bind("agent")
        server.close()
    else:
        os.mkfifo("agent")
    with pytest.raises(SandboxError, match=r"deep/agent is neither a file nor a folder"):
        bench.run(any_seal, "print(1)")


def test_a_python_in_the_home_folder_does_not_bring_the_home_folder(
    seal: Seal, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an installation only programs and libraries are mounted: its prefix may be the user's home."""
    home = tmp_path / "home"
    for folder in ("bin", "lib", ".ssh", ".config"):
        (home / folder).mkdir(parents=True)
    (home / "bin/python3").write_text("#!/bin/sh\n")
    (home / ".ssh/id").write_text("a secret")
    mounts = mounts_module.python_mounts()
    monkeypatch.setattr(mounts_module.sys, "base_prefix", str(home))
    monkeypatch.setattr("sealed_bench.python_mounts", lambda: (*mounts, *mounts_module.python_mounts()))
    seen = bench.ask(seal, f"sorted(os.listdir({str(home)!r}))")
    assert seen == ["bin", "lib"]
