"""What transformers 5 renamed is said to AutoAWQ's old transformers in its own words."""

from __future__ import annotations

from pathlib import Path

import pytest
from full_precision import full_demo

from kaggle_kit.errors import ModelError
from kaggle_kit.model.quantize_source import make_view, old_words

WHERE = Path("config.json")


def test_the_rope_theta_is_found_again():
    """A new config's theta is not silently replaced by the old default."""
    found = old_words({"rope_parameters": {"rope_theta": 5e6, "rope_type": "default"}}, where=WHERE)
    assert found["rope_theta"] == 5e6
    assert "rope_scaling" not in found


def test_rope_scaling_is_found_again():
    """Scaled positions stay scaled."""
    rope = {"rope_theta": 1e4, "rope_type": "llama3", "factor": 8.0}
    assert old_words({"rope_parameters": rope}, where=WHERE)["rope_scaling"] == {"rope_type": "llama3", "factor": 8.0}


def test_rope_by_kind_of_layer_is_refused():
    """What the old words cannot say is an error."""
    with pytest.raises(ModelError, match="rope_parameters"):
        old_words({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}, where=WHERE)


def test_the_dtype_has_its_old_name():
    """`dtype` was `torch_dtype`."""
    assert old_words({"dtype": "bfloat16"}, where=WHERE)["torch_dtype"] == "bfloat16"


def test_code_of_the_checkpoint_is_not_in_the_view(tmp_path):
    """The view holds the configuration and the weights alone."""
    model = full_demo(tmp_path / "model")
    (model / "modeling.py").write_text("raise SystemExit")
    view = make_view(model, tmp_path / "view")
    assert sorted(path.name for path in view.iterdir()) == ["config.json", "model.safetensors"]
