"""Templates are filled in by the tests' own process, but where the process that does it is what is tested."""

import pytest


@pytest.fixture(autouse=True)
def _filled_here(request: pytest.FixtureRequest) -> None:
    """test_hostile_templates and test_render start a process for every build, as kit does, but where they say."""
    if request.module.__name__ not in {"test_hostile_templates", "test_render"}:
        request.getfixturevalue("filled_here")
