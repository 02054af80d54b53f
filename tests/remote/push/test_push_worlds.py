"""Every world of the loopback Kaggle: a release ends there as it does in the plain one, and again it sends nothing."""

import pytest
from push_project import ENGINE, KERNEL, KIT, MODEL, VARIATION

from kaggle_kit.loopback.worlds import WORLDS

WANTED = {ENGINE: 1, KIT: 1, MODEL: 1, VARIATION: 1, KERNEL: 1, "submissions": 1}
MAKES = {"CreateDataset", "CreateDatasetVersion", "CreateModel", "CreateModelInstance", "SaveKernel"}


@pytest.mark.parametrize("name", WORLDS)
def test_a_release_ends_in_every_world(make, name):
    """The first push makes each thing once and ends as the world says; the second makes nothing, and ends so too."""
    place = make(worlds=(WORLDS[name],))
    place.use("both")
    first = place.push("both")
    assert first.code == (0 if WORLDS[name].ends else 1), first.text
    assert not WORLDS[name].ends or place.is_released("both")
    assert place.counts() == WANTED | ({} if WORLDS[name].ends else {"submissions": 0})
    place.kaggle.traffic.reset()
    second = place.push("both")
    assert second.code == first.code, second.text
    assert place.counts() == WANTED | ({} if WORLDS[name].ends else {"submissions": 0})
    assert not MAKES & {route.rpartition("/")[2] for route in place.kaggle.traffic.requests}
