"""The environment of AutoAWQ, which cannot share one with current transformers: `autoawq.toml` and `autoawq.lock`.

As a program (`python -m kaggle_kit.wheelhouse.autoawq`) it makes the lock anew.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from kaggle_kit.targets import Target
from kaggle_kit.wheelhouse.fetch import Progress, silent
from kaggle_kit.wheelhouse.lock import write_lock
from kaggle_kit.wheelhouse.own_environment import SourceArchive, own_environment
from kaggle_kit.wheelhouse.resolve import resolve

NAME = "autoawq"
_FOLDER = Path(__file__).parent
LOCK = _FOLDER / f"{NAME}.lock"
ARCHIVE = SourceArchive(
    name="autoawq", version="0.2.9", sha256="f3397687118c7d23c769de0de05ff1dca8950a2644acbe1b6eb1399c691fe7ee"
)
"""AutoAWQ's last release, of May 2025; it is offered as a source archive only."""


def autoawq_target() -> Target:
    """What is locked."""
    body = tomllib.loads((_FOLDER / f"{NAME}.toml").read_text(encoding="utf-8"))
    return Target.model_validate({"name": NAME} | body)


def autoawq_environment(*, progress: Progress = silent) -> Path:
    """The Python of AutoAWQ's environment, made on first use. Raises WheelhouseError where it cannot be had."""
    return own_environment(autoawq_target(), lock=LOCK, archives=[ARCHIVE], progress=progress)


def main() -> None:
    """Make the lock anew."""
    write_lock(LOCK, resolve(autoawq_target()).lock)


if __name__ == "__main__":
    main()
