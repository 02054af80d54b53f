"""The worker's seal: what a hostile worker finds, reaches and changes in it, in both strong seals.

The attacker stands in the place of `kaggle_kit.runtime.worker`; the job, the journal and the supervisor are the real
ones. It tells what it saw as the name of a stage.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from kaggle_kit.errors import SandboxError
from kaggle_kit.runtime.job import Job, Task
from kaggle_kit.runtime.journal import Journal
from kaggle_kit.runtime.launch import Program
from kaggle_kit.runtime.supervisor import read_entries, run_job
from kaggle_kit.sandbox import worker_seal
from kaggle_kit.sandbox.seal import choose_seal
from kaggle_kit.sandbox.worker_seal import SealedLaunch, python_paths

HEAD = """
import json, os, signal, socket, sys, time
out = os.fdopen(os.dup(1), "w")
def send(event, **fields):
    out.write(json.dumps({"event": event, **fields}) + "\\n")
    out.flush()
def answer(row):
    send("answers", **{"pass": "plain", "rows": [[row, 5, [], [-1.0, -1.0], 0.9, None, []]]})
def tell(value):
    send("stage", name=json.dumps(value))
def tried(do):
    try:
        return repr(do())
    except OSError as error:
        return "refused: " + error.strerror
"""

TASK = Task(labels={"a": "A", "b": "B"}, prior={"a": 0.5, "b": 0.5}, fields={"question": 1}, template="{question}")


@pytest.fixture
def tmp_path(disk: Path) -> Path:
    """On the disk: what lies in memory is no worker's to see."""
    return disk


class Attack:
    """A home with a login, a project with a job over two rows, and a worker that is a few lines of Python."""

    def __init__(self, folder: Path, launch: SealedLaunch) -> None:
        self.launch = launch
        self.home, self.state, self.model = (folder / name for name in ("home", "project/x.csv.kit", "project/model"))
        for each in (self.home / ".kaggle", self.state, self.model):
            each.mkdir(parents=True)
        (self.home / ".kaggle" / "kaggle.json").write_text('{"key": "made-up"}')
        (self.model / "manifest.json").write_text('{"version": 1, "kind": "model", "name": "m", "files": []}')
        (self.state / "rows.csv").write_text("id,question\n1,a\n2,b\n")
        self.package = folder / "evil" / "kaggle_kit" / "runtime"
        self.package.mkdir(parents=True)
        for each in (self.package, self.package.parent):
            (each / "__init__.py").write_text("")
        self.told: list[dict] = []

    def job(self, deadline: float) -> Job:
        return Job(
            task=TASK,
            test=self.state / "rows.csv",
            id_column="id",
            model=self.model,
            journal=self.state / "journal.sqlite",
            token_budget=10,
            engine_options={},
            environment={"PYTHONPATH": str(self.package.parents[1]), "VLLM_CPU_KVCACHE_SPACE": "1"},
            deadline=deadline,
        )

    def __call__(self, body: str, *, seconds: float = 60.0, workers: int = 1, on_event=None):
        (self.package / "worker.py").write_text(HEAD + textwrap.dedent(body))
        job = self.job(time.time() + seconds)
        outcome = run_job(
            job,
            workers=workers,
            python=Path(sys.executable),
            scratch=self.state,
            on_event=on_event or self.told.append,
            launch=self.launch,
        )
        return outcome, read_entries(job, workers=workers)

    def ask(self, expression: str) -> object:
        """What an expression gives inside."""
        outcome, _ = self(f'tell({expression}); send("done", peak_bytes=1)')
        assert outcome.ended == "done", outcome
        return json.loads(next(event["name"] for event in self.told if event["event"] == "stage"))


@pytest.fixture(params=["bwrap", "unshare"])
def attack(request, tmp_path, monkeypatch):
    try:
        seal = choose_seal(request.param)
    except SandboxError as error:
        pytest.skip(str(error))
    made = Attack(tmp_path, SealedLaunch(seal))
    monkeypatch.setenv("HOME", str(made.home))
    return made


def test_the_worker_has_no_login(attack, monkeypatch):
    """Neither its own environment nor that of any process inside holds a token of this shell's."""
    names = ("KAGGLE_API_TOKEN", "KAGGLE_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD", "PYTHONSTARTUP")
    for name in names[:4]:
        monkeypatch.setenv(name, "made-up-secret")
    seen = attack.ask(
        '[dict(os.environ), [open(f"/proc/{p}/environ").read() for p in os.listdir("/proc") '
        'if p.isdigit() and p != "1"]]'  # process 1 of `unshare` lets nobody look
    )
    assert not set(names) & set(seen[0])
    assert "made-up-secret" not in json.dumps(seen)
    assert seen[0]["VLLM_CPU_KVCACHE_SPACE"] == "1"


def test_the_home_folder_is_not_there(attack):
    """No file of the user's but those of the job: not by its path, and not by HOME."""
    login = attack.home / ".kaggle" / "kaggle.json"
    seen = attack.ask(
        f'[os.path.exists({str(login)!r}), os.path.exists(os.path.expanduser("~/.kaggle")), '
        f"sorted(os.listdir({str(attack.state.parent)!r})), sorted(os.listdir({str(attack.state)!r}))]"
    )
    assert seen == [False, False, ["model", "x.csv.kit"], ["job-0.json", "known-0.json", "rows.csv"]]


def test_there_is_no_network(attack):
    """A server of this machine's is not reached, and no address outside."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        seen = attack.ask(
            f'[tried(lambda: socket.create_connection(("127.0.0.1", {port}), 3)), '
            f'tried(lambda: socket.create_connection(("192.0.2.1", 80), 3))]'
        )
    assert seen[0].startswith("refused: Connection refused")
    assert seen[1].startswith("refused: ")


def test_nothing_of_the_hosts_is_writable(attack, listing):
    """The rows, the job, the model, the journal, the packages: none can be changed, replaced or added to."""
    before = listing(attack.model.parents[1])
    places = [
        *(attack.state / name for name in ("rows.csv", "job-0.json", "known-0.json", "journal.sqlite", "worker-0.log")),
        *(attack.model / "manifest.json", attack.model / "new", Path(sys.prefix) / "new", Path(sys.executable)),
        *(attack.package / "worker.py", Path("/usr/new"), Path("/etc/new"), attack.home / "new"),
    ]
    seen = attack.ask(
        f"[tried(lambda: open(p, 'a')) for p in {list(map(str, places))!r}]"
        f" + [tried(lambda: os.symlink('/etc/passwd', p + '.link')) for p in {list(map(str, places))!r}]"
        f" + [tried(lambda: os.rename(p, p + '.old')) for p in {list(map(str, places))!r}]"
    )
    assert all(one.startswith("refused: ") for one in seen), seen
    after = listing(attack.model.parents[1])
    own = ("project/x.csv.kit/", "evil/kaggle_kit/runtime/worker.py")
    assert {name: after[name] for name in after if not name.startswith(own)} == {
        name: before[name] for name in before if not name.startswith(own)
    }
    assert (attack.state / "rows.csv").read_text() == "id,question\n1,a\n2,b\n"


def test_what_it_may_write_is_limited_and_gone(attack, listing):
    """Its home, caches and temporary files are one tmpfs of a bounded size, of which nothing stays on the disk."""
    seen = attack.ask(
        '[(lambda s: s.f_blocks * s.f_frsize)(os.statvfs(os.environ["HOME"])), '
        'os.environ["TMPDIR"] == os.environ["HOME"], '
        'open(os.environ["TMPDIR"] + "/x", "w").write("made"), os.environ["HF_HOME"].startswith(os.environ["HOME"])]'
    )
    assert seen[0] <= 8 << 30
    assert seen[1:] == [True, 4, True]
    assert not any(name.endswith("/x") for name in listing(attack.model.parents[1]))


def test_its_processes_and_the_hosts_do_not_meet(attack):
    """It sees a handful of processes, none of this machine's."""
    seen = attack.ask('[int(name) for name in os.listdir("/proc") if name.isdigit()]')
    assert len(seen) <= 4
    assert os.getpid() not in seen or max(seen) < 20


def test_answers_come_out_over_restarts(attack):
    """A worker that is killed in its first life is started again, with what it had answered, and the signal is told."""
    outcome, entries = attack(
        """
        known = json.load(open(sys.argv[2]))["plain"]
        if not known:
            answer("1")
            os.kill(os.getpid(), signal.SIGKILL)
        answer("2")
        tell(known)
        send("done", peak_bytes=3)
        """
    )
    assert (outcome.ended, outcome.starts, outcome.peak_bytes) == ("done", 2, 3)
    assert outcome.deaths == ["the worker was ended by SIGKILL"]
    assert sorted(entries) == ["1", "2"]


def test_exit_code_2_cannot_be_helped(attack):
    """The worker's own code comes through the seal: no second life."""
    outcome, _ = attack('send("error", message="two labels are one token"); sys.exit(2)')
    assert (outcome.ended, outcome.starts, outcome.message) == ("failed", 1, "two labels are one token")


def test_two_workers_have_a_sandbox_each(attack):
    """Side by side, each with its own card named and its own answers."""
    outcome, entries = attack(
        """
        number = os.environ["CUDA_VISIBLE_DEVICES"]
        answer(str(int(number) + 1))
        send("done", peak_bytes=1)
        """,
        workers=2,
    )
    assert outcome.ended == "done"
    assert sorted(entries) == ["1", "2"]


def test_the_deadline_reaches_the_command_politely(attack):
    """SIGTERM comes to the worker itself, whose last answers count; then nothing of it is left."""
    outcome, entries = attack(
        """
        def late(*_):
            answer("2")
            os._exit(0)
        signal.signal(signal.SIGTERM, late)
        answer("1")
        time.sleep(60)
        """,
        seconds=4,
    )
    assert outcome.ended == "deadline"
    assert sorted(entries) == ["1", "2"]
    assert survivors(attack) == []


def test_a_worker_that_does_not_listen_is_ended(attack, monkeypatch):
    """Whoever ignores SIGTERM, and leaves its session, is killed with all that it started."""
    monkeypatch.setattr("kaggle_kit.runtime.supervisor.GRACE_SECONDS", 0.5)
    since = time.monotonic()
    outcome, _ = attack(
        """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            os.setsid()
            time.sleep(120)
        time.sleep(120)
        """,
        seconds=3,
    )
    assert outcome.ended == "deadline"
    assert time.monotonic() - since < 30
    assert survivors(attack) == []


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_it(attack):
    """As without a seal: KeyboardInterrupt comes to the caller, and no worker stays."""

    def interrupt(_event):
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        attack('answer("1"); tell("here"); time.sleep(60)', on_event=interrupt)
    assert survivors(attack) == []
    with Journal(attack.state / "journal.sqlite", configuration="", begin=False) as journal:
        assert journal.count() == 1


def test_a_worker_ends_with_its_kit(attack, tmp_path):
    """Killed with -9, kit leaves no worker behind."""
    script = tmp_path / "kit.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import subprocess, sys
            from pathlib import Path
            from kaggle_kit.runtime.launch import Program
            from kaggle_kit.sandbox.seal import choose_seal
            from kaggle_kit.sandbox.worker_seal import SealedLaunch
            launch = SealedLaunch(choose_seal({attack.launch.seal.name!r}))
            command = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(99)  # {tmp_path.name}"]
            running = launch(Program(command, environment={{}}))
            print(running.process.stdout.readline(), flush=True)
            running.process.wait()
            """
        )
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as kit:
        assert b"up" in kit.stdout.readline()
        assert survivors(attack)
        kit.kill()
    for _ in range(100):
        if not survivors(attack):
            break
        time.sleep(0.05)
    assert survivors(attack) == []


def survivors(attack: Attack) -> list[str]:
    """The command lines of living processes that name this test's folder, pytest's own left out."""
    name = attack.home.parent.name
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            if name in line and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(line)
        except psutil.Error:
            continue
    return [line for line in found if "kit.py" not in line]


def test_a_folder_that_holds_the_home_is_not_shown(attack):
    """A project that calls your home folder, or what is above it, a model gets an error."""
    for folder in (attack.home, attack.home.parent, Path("/")):
        with pytest.raises(SandboxError, match="your home folder"):
            attack.launch(Program([sys.executable, "-c", ""], environment={}, reads=[folder]))


def test_a_link_out_of_a_model_is_told(attack):
    """A link to a login in the model's folder is neither followed nor a riddle inside."""
    (attack.model / "config.json").symlink_to(attack.home / ".kaggle" / "kaggle.json")
    with pytest.raises(SandboxError, match=r"config\.json is a link out of its folder"):
        attack("tell(1)")


def test_a_python_in_the_home_folder_brings_its_libraries_alone(tmp_path, monkeypatch):
    """Where the home folder itself is a Python's prefix, its bin and lib are shown, and not the rest."""
    home = tmp_path / "home"
    (home / "lib" / "python3.11").mkdir(parents=True)
    (home / "bin").mkdir()
    (home / ".kaggle").mkdir()
    told = {"roots": [str(home)] * 4, "files": [str(home / "bin" / "python3")] * 2, "version": "python3.11"}
    told["path"] = [str(home), str(home / "lib" / "python3.11")]
    python = home / "bin" / "python3"
    python.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(told)}\nEND\n")
    python.chmod(0o755)
    monkeypatch.setenv("HOME", str(home))
    assert set(python_paths(python)) == {python, home / "lib", home / "lib" / "python3.11"}


def test_what_is_no_python_is_told():
    """Any other program cannot be asked what it needs."""
    with pytest.raises(SandboxError, match="is it a Python"):
        python_paths(Path("/bin/true"))


def test_a_card_is_there_where_it_is_asked_for(attack, tmp_path, monkeypatch):
    """The nodes of the cards are shown and can be used, with `cards` alone; what is a node elsewhere cannot."""
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).symlink_to("/dev/zero")
    (tmp_path / "dev" / "sda").symlink_to("/dev/zero")
    monkeypatch.setattr(worker_seal, "_DEV", tmp_path / "dev")
    asked = f"[tried(lambda: open({str(tmp_path / 'dev')!r} + '/' + n, 'rb').read(2)) for n in ('nvidia0', 'sda')]"
    assert attack.ask(asked) == ["refused: No such file or directory"] * 2
    attack.launch, attack.told = SealedLaunch(attack.launch.seal, cards=True), []
    assert attack.ask(asked) == [repr(bytes(2)), "refused: No such file or directory"]


def test_a_card_whose_node_is_not_made_yet_is_told(tmp_path, monkeypatch):
    """CUDA makes it at its first use, with rights that nothing sealed has."""
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(worker_seal, "_DEV", tmp_path)
    with pytest.raises(SandboxError, match="nvidia-modprobe -u"):
        worker_seal._card_mounts()
