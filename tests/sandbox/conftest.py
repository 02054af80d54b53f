"""Every seal that works on this machine, and a bench to try it on."""

from pathlib import Path

import pytest
from sealed_bench import Bench, working_seal

from kaggle_kit.sandbox.seal import Seal, choose_seal


@pytest.fixture(params=["bwrap", "unshare"])
def seal(request: pytest.FixtureRequest) -> Seal:
    return working_seal(request.param)


@pytest.fixture(params=["bwrap", "unshare", "none"])
def any_seal(request: pytest.FixtureRequest, tmp_path: Path) -> Seal:
    if request.param == "none":
        return choose_seal("none", root=tmp_path / "root")
    return working_seal(request.param)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
