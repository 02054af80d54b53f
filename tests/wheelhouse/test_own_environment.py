"""An environment for a tool that cannot share one: the lock is the target's, and archives come by their hashes only."""

from __future__ import annotations

from kaggle_kit.wheelhouse.autoawq import ARCHIVE, LOCK, autoawq_target
from kaggle_kit.wheelhouse.lock import read_lock
from kaggle_kit.wheelhouse.ready import refuse_old_lock


def test_autoawqs_lock_is_the_targets():
    """Who changes `autoawq.toml` makes the lock anew."""
    refuse_old_lock(read_lock(LOCK), autoawq_target(), path=LOCK)


def test_autoawqs_lock_holds_what_it_lives_with():
    """The transformers that AutoAWQ still works with, torch's CPU build, and peft."""
    versions = {wheel.name: wheel.version for wheel in read_lock(LOCK).wheels}
    assert versions["transformers"] == "4.51.3"
    assert versions["torch"].endswith("+cpu")
    assert "peft" in versions
    assert not {"triton", "torchvision"} & versions.keys()


def test_an_archive_is_required_with_its_hash():
    """As pip and uv read it."""
    assert ARCHIVE.requirement.startswith("autoawq==0.2.9 --hash=sha256:f33976")
