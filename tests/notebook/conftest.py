"""The tests of notebooks fill each template in once, but for those that are of the filling in."""

import pytest

ANEW = {"test_hostile_templates", "test_render"}


@pytest.fixture(autouse=True)
def _filled_once(request: pytest.FixtureRequest) -> None:
    """A test that asks for `filled_anew` starts a process for every build, and so do the modules of ANEW."""
    if request.module.__name__ not in ANEW and "filled_anew" not in request.fixturenames:
        request.getfixturevalue("filled_once")


@pytest.fixture
def filled_anew() -> None:
    """Each build of this test fills its template in."""
