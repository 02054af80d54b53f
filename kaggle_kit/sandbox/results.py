"""The folder of a dry run's results: the last run's files, or this one's, never some of each."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kaggle_kit.errors import UsageError
from kaggle_kit.evaluation.run_facts import REPORT, REPORT_TEXT
from kaggle_kit.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterator


class AnyReport(Protocol):
    """What a dry run reports, of a submission or of a model."""

    @property
    def complete(self) -> bool:
        """Whether it came out as it should."""

    def lines(self) -> list[str]:
        """As a person reads it."""

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""


def write_report(report: AnyReport, results: Path) -> None:
    """The report as text and as JSON."""
    write_atomic(results / REPORT_TEXT, "\n".join(report.lines()) + "\n")
    write_atomic(results / REPORT, json.dumps(report.to_json(), indent=2, sort_keys=True) + "\n")


def _refuse_foreign(out: Path) -> None:
    """Raise UsageError where `out` holds what no dry run left there, or is a mount: its place will be taken."""
    if out.is_mount():
        raise UsageError(f"--out {out} is where a disk is mounted, and cannot be replaced whole; name a folder in it")
    if not out.exists() or all((out / name).is_file() for name in (REPORT_TEXT, REPORT)):
        return
    if not out.is_dir() or any(out.iterdir()):
        raise UsageError(f"--out {out} exists and is not a dry run's folder; name a new one, or an empty one")


@contextmanager
def swapped_in(out: Path) -> Iterator[Path]:
    """A new folder that takes the place of `out` when all went well, and is removed when not."""
    _refuse_foreign(out)
    had_parent = out.parent.exists()
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield fresh
        fresh.chmod(0o755)
        old = out.with_name(f".{out.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if out.exists():
            out.replace(old)
        fresh.replace(out)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        if not had_parent:
            with contextlib.suppress(OSError):
                out.parent.rmdir()
        raise
