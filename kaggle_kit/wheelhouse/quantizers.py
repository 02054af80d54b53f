"""The environments of the quantisers, which cannot share one with current transformers: `NAME.toml` and its lock.

As a program (`python -m kaggle_kit.wheelhouse.quantizers`) it makes the locks anew.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from kaggle_kit.targets import Target
from kaggle_kit.wheelhouse.fetch import Progress, silent
from kaggle_kit.wheelhouse.lock import lock_name, write_lock
from kaggle_kit.wheelhouse.own_environment import SourceArchive, own_environment
from kaggle_kit.wheelhouse.resolve import resolve

_FOLDER = Path(__file__).parent
AUTOAWQ = SourceArchive(
    name="autoawq", version="0.2.9", sha256="f3397687118c7d23c769de0de05ff1dca8950a2644acbe1b6eb1399c691fe7ee"
)
"""AutoAWQ's last release, of May 2025; it is offered as a source archive only."""
ARCHIVES = {"autoawq": (AUTOAWQ,), "autoawq-cuda": (AUTOAWQ,), "llmcompressor": ()}
"""The environments by name, and what is in each besides the wheels of its lock."""


def notebook_quantizer(target: Target) -> str:
    """The environment in which a notebook on `target` quantises."""
    return "autoawq-cuda" if target.gpus else "autoawq"


def quantizer_target(name: str) -> Target:
    """What is locked."""
    body = tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    return Target.model_validate({"name": name} | body)


def quantizer_lock(name: str) -> Path:
    """Where the lock lies."""
    return _FOLDER / lock_name(name)


def quantizer_environment(name: str, *, progress: Progress = silent) -> Path:
    """The Python of a quantiser's environment, made on first use. Raises WheelhouseError where it cannot be had."""
    return own_environment(
        quantizer_target(name), lock=quantizer_lock(name), archives=ARCHIVES[name], progress=progress
    )


def main() -> None:
    """Make the locks anew."""
    for name in ARCHIVES:
        write_lock(quantizer_lock(name), resolve(quantizer_target(name)).lock)


if __name__ == "__main__":
    main()
