"""Checkpoints to break."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from checkpoints import copy_demo

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the demo model without its manifest."""
    return copy_demo(tmp_path / "model")
