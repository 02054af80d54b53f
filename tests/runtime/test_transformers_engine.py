"""What of the reference engine needs no torch: AWQ written out in full, batches, options."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.errors import ModelError, UsageError
from kaggle_kit.runtime.transformers_engine import batches, check_options, dequantise, unpack

ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""AutoAWQ's: the i-th four bits of an int32 hold the number of the output ORDER[i]."""


def pack(numbers):
    """AutoAWQ's gemm packing of numbers from 0 to 15, (n, 8m) into (n, m) int32."""
    groups = numbers.reshape(numbers.shape[0], -1, 8).astype(np.uint32)
    packed = np.zeros(groups.shape[:2], dtype=np.uint32)
    for place, output in enumerate(ORDER):
        packed |= groups[..., output] << np.uint32(4 * place)
    return packed.view(np.int32)


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 5), columns=st.integers(1, 4))
def test_unpacking_undoes_the_packing(seed, rows, columns):
    """Every number comes back in its place, those in an int32's sign bits too."""
    numbers = np.random.default_rng(seed).integers(0, 16, (rows, 8 * columns))
    assert (unpack(pack(numbers)) == numbers).all()


@pytest.mark.parametrize("group_size", [4, -1])
def test_a_layer_is_written_out_in_full(group_size):
    """The weight is (number - zero) * scale with each group's own two, outputs first."""
    rng = np.random.default_rng(1)
    groups = 3 if group_size == 4 else 1
    numbers, zeros = rng.integers(0, 16, (12, 16)), rng.integers(0, 16, (groups, 16))
    scales = rng.random((groups, 16)).astype(np.float16)
    found = dequantise(pack(numbers), pack(zeros), scales, group_size=group_size)
    assert found.dtype == np.float32
    for place in range(12):
        group = place * groups // 12
        want = (numbers[place] - zeros[group]) * scales[group].astype(np.float32)
        assert found[:, place] == pytest.approx(want)


def test_a_layer_in_another_format_is_refused():
    """Shapes that do not belong together are an error, never a wrong weight."""
    with pytest.raises(ModelError, match="not in the gemm format"):
        dequantise(np.zeros((12, 2), np.int32), np.zeros((2, 2), np.int32), np.zeros((3, 16), np.float16), group_size=4)


@given(lengths=st.lists(st.integers(1, 50), max_size=40), batch_tokens=st.integers(1, 200))
def test_every_prompt_is_in_one_batch_that_fits(lengths, batch_tokens):
    """Each place comes once, and a batch of more than one prompt is within its tokens, padding included."""
    made = batches(lengths, batch_tokens=batch_tokens)
    assert sorted(place for batch in made for place in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or max(lengths[place] for place in batch) * len(batch) <= batch_tokens for batch in made)


def test_options_have_defaults_and_old_names():
    """Float32 unless told otherwise; "half" is vLLM's word for float16."""
    assert check_options({}) == {"dtype": "float32", "device": "auto", "batch_tokens": 8192}
    assert check_options({"dtype": "half"})["dtype"] == "float16"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int4"}, "dtype = 'int4'"),
        ({"enforce_eager": True}, "no option 'enforce_eager'; it has dtype, device, batch_tokens"),
        ({"batch_tokens": 0}, "batch_tokens = 0"),
    ],
)
def test_an_unknown_option_is_refused(options, message):
    """vLLM's options are not silently dropped by the reference."""
    with pytest.raises(UsageError, match=message):
        check_options(options)
