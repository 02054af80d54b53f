"""The engines by name."""

from pathlib import Path

import pytest

from kaggle_kit.errors import UsageError
from kaggle_kit.runtime.engines import ENGINES, open_engine


def test_an_unknown_engine_is_refused_with_the_list():
    """The error names what was asked for and what there is."""
    with pytest.raises(UsageError, match=r"no engine 'vlm'; use one of vllm, vllm-classify, transformers"):
        open_engine("vlm", Path("model"), label_ids=[1, 2], longest=8, options={})


@pytest.mark.parametrize("kind", ENGINES)
def test_labels_are_checked_before_anything_is_loaded(kind):
    """No engine starts for labels that cannot be told apart."""
    with pytest.raises(UsageError, match="two or more distinct tokens"):
        open_engine(kind, Path("model"), label_ids=[7, 7], longest=8, options={})
