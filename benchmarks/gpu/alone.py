"""A question to an engine in a process of its own, of which nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import Any

MARK = "FOUND "
_LONGEST = 1500
"""Of what a failure said."""


def ask(script: str, job: dict[str, Any], *, seconds: float = 180) -> tuple[dict[str, Any], str]:
    """Run `python script ask JOB` for so many seconds at most; the answer that it gave, and all that it printed.

    The engine's own processes outlive the one that asks, and would hold a pipe open for ever: what is printed goes to
    a file, and the whole group is killed.
    """
    with tempfile.TemporaryFile() as printed:
        command = [sys.executable, script, "ask", json.dumps(job)]
        process = subprocess.Popen(command, stdout=printed, stderr=printed, start_new_session=True)
        begun = time.monotonic()
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        printed.seek(0)
        text = printed.read().decode("utf-8", "replace")
    answers = [json.loads(line.removeprefix(MARK)) for line in text.splitlines() if line.startswith(MARK)]
    found: dict[str, Any] = answers[0] if answers else {"failed": text[-_LONGEST:]}
    return {"seconds": round(time.monotonic() - begun, 1), **found}, text


def answer(found: dict[str, Any]) -> None:
    """Give the answer, and end at once: the engine's threads can hold up a normal exit for many seconds."""
    print(f"\n{MARK}{json.dumps(found)}", flush=True)
    os._exit(0)
