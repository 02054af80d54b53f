"""The seal: what a notebook in a dry run can reach, and what comes out of it. All with real processes."""

import os
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from sealed_bench import SECONDS, Bench, wait_for

from kaggle_kit.errors import SandboxError, SealError
from kaggle_kit.sandbox.mounts import Mount, Sandbox, lay_out, offline_environment
from kaggle_kit.sandbox.seal import Seal, choose_seal


def test_the_command_runs_and_its_code_comes_back(any_seal: Seal, bench: Bench) -> None:
    """A command's output and exit code are what they are without a seal."""
    assert bench.run(any_seal, "print('hello'); raise SystemExit(7)") == (7, "hello\n")


def test_an_outside_address_is_unreachable(seal: Seal, bench: Bench) -> None:
    """A connection to another machine fails at once."""
    code, said = bench.run(seal, "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)")
    assert code == 1
    assert "Network is unreachable" in said


def test_a_server_of_this_machine_is_unreachable(seal: Seal, bench: Bench) -> None:
    """The loopback inside is not the loopback of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        code, said = bench.run(seal, f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=5)")
    assert code == 1
    assert "Connection refused" in said


def test_loopback_works_inside(seal: Seal, bench: Bench) -> None:
    """Processes inside reach each other over 127.0.0.1, as Jupyter and its kernel must."""
    code, said = bench.run(
        seal,
        """
        import socket
        server = socket.create_server(("127.0.0.1", 0))
        socket.create_connection(server.getsockname(), timeout=5)
        """,
    )
    assert (code, said) == (0, "")


def test_processes_of_this_machine_are_not_visible(seal: Seal, bench: Bench) -> None:
    """/proc lists the sandbox's own few processes and no other."""
    seen = bench.ask(seal, "[int(name) for name in os.listdir('/proc') if name.isdigit()]")
    assert len(seen) <= 3
    assert max(seen) < 10


def test_the_input_is_not_writable(seal: Seal, bench: Bench) -> None:
    """Neither can a file of the input be changed nor one be added to it."""
    for name in ("test.csv", "new.csv"):
        code, said = bench.run(seal, f"open('/kaggle/input/lmsys/{name}', 'a')")
        assert code == 1
        assert "Read-only file system" in said


def test_only_the_named_places_are_writable(seal: Seal, bench: Bench) -> None:
    """The root, /etc, /usr, /sys and the kernel's own settings in /proc/sys take no writes.

    For real root the last would be a way out of the seal (kernel.core_pattern).
    """
    places = [
        "/",
        "/etc",
        "/usr",
        "/kaggle",
        "/kaggle/input",
        "/sys",
        "/proc/sys",
        "/proc/sys/kernel/core_pattern",
    ]
    assert bench.ask(seal, f"[place for place in {places} if os.access(place, os.W_OK)]") == []
    places = ["/kaggle/working", "/kaggle/temp", "/dev/shm"]
    assert bench.ask(seal, f"[place for place in {places} if not os.access(place, os.W_OK)]") == []


def test_the_command_has_no_capabilities(seal: Seal, bench: Bench) -> None:
    """Nothing inside can mount, make devices or gain rights by a set-user-id program."""
    lines = bench.ask(seal, "open('/proc/self/status').read().splitlines()")
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {0}
    assert status["NoNewPrivs"] == "1"


def test_the_home_folder_is_not_visible(seal: Seal, bench: Bench) -> None:
    """Of the user's home there is at most the way to a mounted Python."""
    home = Path.home()
    secret = home / f".kit-test-{os.getpid()}"
    secret.write_text("secret")
    try:
        seen = bench.ask(seal, f"os.listdir({str(home)!r}) if os.path.isdir({str(home)!r}) else []")
    finally:
        secret.unlink()
    prefix = Path(sys.base_prefix)
    assert set(seen) <= ({prefix.relative_to(home).parts[0]} if prefix.is_relative_to(home) else set())


def test_nothing_is_inherited_from_the_environment(
    any_seal: Seal, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command sees the sandbox's variables only (and those that the weak seal and Python itself add)."""
    monkeypatch.setenv("KAGGLE_KEY", "secret")
    seen = bench.ask(any_seal, "sorted(os.environ)")
    added = {"PWD", "LC_CTYPE"} | ({"KIT_KAGGLE_ROOT", *offline_environment()} if any_seal.name == "none" else set())
    assert set(bench.environment) <= set(seen) <= set(bench.environment) | added


def test_process_one_does_not_show_the_environment_either(
    seal: Seal, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/proc/1/environ holds nothing of the user's environment."""
    monkeypatch.setenv("KAGGLE_KEY", "secret")
    code, said = bench.run(seal, "print(open('/proc/1/environ').read())")
    assert "secret" not in said
    assert code == 0 or "Permission denied" in said


def test_working_is_limited_and_what_was_written_comes_out(seal: Seal, bench: Bench) -> None:
    """A full /kaggle/working answers ENOSPC; what it holds is still brought out, and the code stays."""
    code, said = bench.run(
        seal,
        """
        import os
        os.makedirs("deep/er")
        open("deep/er/first.csv", "w").write("id\\n")
        with open("big", "wb", buffering=0) as stream:
            while True:
                stream.write(bytes(4096))
        """,
        driver=True,
    )
    assert code == 1
    assert "No space left on device" in said
    assert (bench.out / "deep/er/first.csv").read_text() == "id\n"
    assert 900_000 < (bench.out / "big").stat().st_size <= 1 << 20


def test_files_come_out_of_every_seal(any_seal: Seal, bench: Bench) -> None:
    """Where no size is limited the files are brought out as well, whole and under their own names."""
    code, said = bench.run(any_seal, "open('submission.csv', 'w').write('id\\n'); raise SystemExit(3)", driver=True)
    assert (code, said) == (3, "")
    assert [path.name for path in bench.out.iterdir()] == ["submission.csv"]


def test_links_out_of_working_are_left_behind(seal: Seal, bench: Bench) -> None:
    """A link that would lead elsewhere on this machine does not come out, and the log says so."""
    code, said = bench.run(
        seal, "import os; os.symlink('/etc/passwd', 'a'); open('b', 'w'); os.symlink('b', 'c')", driver=True
    )
    assert code == 0
    assert "a was left behind" in said
    assert sorted(path.name for path in bench.out.iterdir() if not path.is_symlink()) == ["b", "c"]


def test_sigterm_brings_out_what_is_there(any_seal: Seal, bench: Bench) -> None:
    """A run that is stopped leaves the files that it had written."""
    code = """
        import time
        open("submission.csv", "w").write("half")
        open("/kaggle/temp/ready", "w")
        time.sleep(1000)
    """
    if any_seal.name == "none":
        code = code.replace("/kaggle/", "../")
    with bench.start(any_seal, code, driver=True) as sealed:
        wait_for(bench.temp / "ready")
        assert sealed.stop(grace_seconds=20) == 128 + 15
    assert (bench.out / "submission.csv").read_text() == "half"


def test_a_command_that_ignores_sigterm_is_killed_and_its_files_come_out(seal: Seal, bench: Bench) -> None:
    """The driver kills a deaf command after its own grace and still brings the files out."""
    code = """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open("submission.csv", "w").write("half")
        open("/kaggle/temp/ready", "w")
        time.sleep(1000)
    """
    with bench.start(seal, code, driver=True) as sealed:
        wait_for(bench.temp / "ready")
        assert sealed.stop(grace_seconds=20) == 128 + 9
    assert (bench.out / "submission.csv").read_text() == "half"


def test_a_talkative_command_is_stopped_though_nobody_reads(seal: Seal, bench: Bench) -> None:
    """A command whose output fills the pipe ends at once when its context is left, and its files come out."""
    code = """
        open("submission.csv", "w").write("half")
        open("/kaggle/temp/ready", "w")
        while True: print("x" * 1000)
    """
    with bench.start(seal, code, driver=True):
        wait_for(bench.temp / "ready")
        time.sleep(0.3)
        left = time.monotonic()
    assert time.monotonic() - left < 5
    assert (bench.out / "submission.csv").read_text() == "half"


@pytest.mark.parametrize("how", ["end", "stop", "kill"])
def test_grandchildren_die(any_seal: Seal, bench: Bench, how: str) -> None:
    """A process that detached itself inside is gone once the run is over, however it ended."""
    naps = f"10{os.getpid() % 1000:03}{('end', 'stop', 'kill').index(how)}"
    code = f"""
        import subprocess, time
        subprocess.Popen(["/bin/sh", "-c", "setsid sleep {naps} & sleep {naps}"], start_new_session=True)
        time.sleep(0.3)
        open("/kaggle/temp/ready", "w")
        time.sleep(0 if {how == "end"} else 1000)
    """
    if any_seal.name == "none":
        code = code.replace("/kaggle/", "../")
    with bench.start(any_seal, code, driver=True) as sealed:
        wait_for(bench.temp / "ready")
        if how == "end":
            sealed.process.wait(SECONDS)
        elif how == "stop":
            sealed.stop(grace_seconds=20)
        else:
            sealed.kill()
    assert [each.pid for each in psutil.process_iter(["cmdline"]) if naps in (each.info["cmdline"] or [])] == []


def test_nothing_survives_a_killed_kit(seal: Seal, bench: Bench) -> None:
    """When the process that started the seal is killed with -9, everything inside dies."""
    naps = f"20{os.getpid() % 1000:03}"
    script = f"""
        import sys, subprocess
        from pathlib import Path
        from kaggle_kit.sandbox.mounts import Mount, Sandbox
        from kaggle_kit.sandbox.seal import choose_seal
        mounts = (Mount(Path({str(bench.temp)!r}), "/kaggle/temp", writable=True),)
        sandbox = Sandbox(mounts, 1 << 20, {{"PATH": "/usr/bin:/bin"}}, "/kaggle/working")
        command = ["/bin/sh", "-c", "touch /kaggle/temp/ready; sleep {naps}"]
        sealed = choose_seal({seal.name!r}).start(sandbox, command, stdout=None, stderr=None)
        sealed.process.wait()
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)]) as kit:
        wait_for(bench.temp / "ready")
        kit.kill()
    end = time.monotonic() + 10
    while found := [e for e in psutil.process_iter(["cmdline"]) if naps in (e.info["cmdline"] or [])]:
        assert time.monotonic() < end, found
        time.sleep(0.05)


def test_the_strong_seals_leave_nothing_open(seal: Seal) -> None:
    """Where a user namespace can be had, both seals have nothing to confess."""
    if subprocess.run(["unshare", "--user", "--map-root-user", "true"], check=False).returncode != 0:
        pytest.skip("no user namespace can be had here")
    assert seal.unsealed == ()


def test_the_strongest_seal_is_chosen() -> None:
    """Without a wish the choice is bwrap, then unshare, and never none."""
    for name in ("bwrap", "unshare"):
        if works(name):
            assert choose_seal().name == name
            return
    with pytest.raises(SealError):
        choose_seal()


def works(name: str) -> bool:
    try:
        choose_seal(name)
    except SealError:
        return False
    return True


def test_the_weak_seal_says_what_it_does_not_seal() -> None:
    """Network, files, processes and size: each has its sentence."""
    said = " ".join(choose_seal("none").unsealed)
    for word in ("network", "file", "processes", "size", "KIT_KAGGLE_ROOT"):
        assert word in said


def test_the_weak_seal_tells_where_kaggle_is(bench: Bench, tmp_path: Path) -> None:
    """Without namespaces the notebook finds its input below KIT_KAGGLE_ROOT."""
    seal = choose_seal("none", root=tmp_path / "root")
    found = bench.ask(seal, "os.listdir(os.environ['KIT_KAGGLE_ROOT'] + '/input/lmsys')")
    assert found == ["test.csv"]


def test_the_weak_seal_links_a_folder_of_kits_own(bench: Bench, tmp_path: Path) -> None:
    """An engine's bytecode is tens of thousands of files: it is one link. An input is a folder of links to files."""
    (tmp_path / "bytecode").mkdir()
    mounts = (Mount(tmp_path / "bytecode", "/kit/bytecode"), Mount(bench.input, "/kaggle/input/lmsys"))
    lay_out(Sandbox(mounts, None, {}, "/"), tmp_path / "root")
    assert (tmp_path / "root/kit/bytecode").readlink() == tmp_path / "bytecode"
    assert not (tmp_path / "root/kaggle/input/lmsys").is_symlink()
    assert (tmp_path / "root/kaggle/input/lmsys/test.csv").readlink() == bench.input / "test.csv"


def test_the_weak_seal_leaves_no_folder_behind(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary layout goes when the run is over, and what it links to stays."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    assert bench.run(choose_seal("none"), "print(1)") == (0, "1\n")
    assert list((tmp_path / "tmp").iterdir()) == []
    assert (bench.input / "test.csv").read_text() == "id\n1\n"


def test_a_seal_that_is_not_installed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wanted seal that cannot be had is refused with the package to install."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SealError, match="install the package bubblewrap"):
        choose_seal("bwrap")


def test_without_a_seal_nothing_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a strong seal gives wrong use, both ways out, and no weaker seal by itself."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SealError) as caught:
        choose_seal()
    assert caught.value.exit_code == 2
    for part in ("nothing was started", "bwrap: ", "unshare: ", "apt install bubblewrap", "--seal none"):
        assert part in str(caught.value)
    assert choose_seal("none").name == "none"


def test_where_apparmor_forbids_namespaces_the_way_out_is_its_profile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On Ubuntu 24.04 the lines of a profile for bubblewrap stand in the error."""
    monkeypatch.setenv("PATH", "/nonexistent")
    (tmp_path / "restrict").write_text("1\n")
    monkeypatch.setattr("kaggle_kit.sandbox.seal._APPARMOR", tmp_path / "restrict")
    with pytest.raises(SealError, match=r"profile bwrap /usr/bin/bwrap flags=\(unconfined\)"):
        choose_seal()


def test_a_seal_of_an_unknown_name_is_an_error() -> None:
    """A misspelt seal is refused with the names that exist."""
    with pytest.raises(SealError, match="choose bwrap, unshare or none"):
        choose_seal("docker")


def test_a_missing_source_is_an_error(any_seal: Seal) -> None:
    """A mount of a folder that is not there is refused before anything starts."""
    sandbox = Sandbox((Mount(Path("/nonexistent/data"), "/kaggle/input/data"),), 1 << 20, {}, "/")
    with pytest.raises(SandboxError, match="/nonexistent/data"):
        any_seal.start(sandbox, ["/bin/true"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.skipif(os.geteuid() != 0, reason="already an ordinary user")
@pytest.mark.parametrize("name", ["bwrap", "unshare"])
def test_an_ordinary_user_has_the_same_seal(name: str) -> None:
    """A user without rights gets the whole seal, where this machine's kernel lets users have namespaces."""
    system = Path("/usr/bin/python3")
    script = f"""
        import subprocess, sys
        if sys.version_info < (3, 11): raise SystemExit(77)
        from kaggle_kit.sandbox.mounts import Sandbox
        from kaggle_kit.sandbox.seal import choose_seal
        seal = choose_seal({name!r})
        assert seal.unsealed == ()
        command = ["/bin/sh", "-c", "grep -c : /proc/net/dev; id -u; touch /usr/x || touch file && ls"]
        sandbox = Sandbox((), 1 << 20, {{"PATH": "/usr/bin:/bin"}}, "/kaggle/working")
        with seal.start(sandbox, command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as sealed:
            print(sealed.process.communicate()[0].decode().split())
    """
    argv = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", str(system), "-B", "-c"]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [*argv, textwrap.dedent(script)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": root},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if not system.exists() or done.returncode == 77 or "No module named" in done.stderr:
        pytest.skip("an ordinary user has no Python of 3.11 or newer that can read this checkout")
    if "SealError" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.stdout.strip() == "['1', '0', 'file']", done.stderr
