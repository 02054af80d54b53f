"""A head of classes: how config.json describes it, which class a label is, and what of a prompt it looks at."""

from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.errors import LabelError, ModelError
from kaggle_kit.runtime.engine import class_scores
from kaggle_kit.runtime.score_head import ScoreHead, read_score_head

LLAMA = {"architectures": ["LlamaForSequenceClassification"], "model_type": "llama"}
HEAD = ScoreHead(("tie", "A", "B", "1"), padding=0)


@pytest.mark.parametrize(
    ("config", "classes"),
    [
        ({"id2label": {"0": "tie", "1": "A", "2": "B"}}, ("tie", "A", "B")),
        ({"id2label": {"1": "B", "0": "A"}, "num_labels": 2}, ("A", "B")),
        ({"num_labels": 3}, ("LABEL_0", "LABEL_1", "LABEL_2")),
        ({}, ("LABEL_0", "LABEL_1")),
    ],
)
def test_the_classes_are_those_of_transformers(config, classes):
    """By number, whatever their order in the file; numbered ones if none is named, two if none is counted."""
    assert read_score_head(LLAMA | config).classes == classes


@pytest.mark.parametrize("names", [["LlamaForCausalLM"], ["LlamaForTokenClassification"], ["LlamaModel"], [], None])
def test_other_architectures_have_no_such_head(names):
    """Nor has a configuration that names none."""
    assert read_score_head({"architectures": names}) is None


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"id2label": {"0": "A", "2": "B"}}, "none of the number 1"),
        ({"id2label": {"0": "A", "1": "A"}}, "has the class 'A' twice"),
        ({"id2label": {"0": "A", "1": 7}}, "is not the name of a class"),
        ({"id2label": {"0": "A", "1": ""}}, "is not the name of a class"),
        ({"id2label": ["A", "B"]}, "a table of up to 10,000 classes belongs there"),
        ({"id2label": {}}, "a table of up to 10,000 classes belongs there"),
        ({"id2label": {"0": "A", "1": "B"}, "num_labels": 3}, "has 2 classes, and 'num_labels' is 3"),
        ({"num_labels": 10**9}, "a number from 1 to 10,000 belongs there"),
        ({"num_labels": True}, "a number from 1 to 10,000 belongs there"),
    ],
)
def test_classes_that_cannot_be_told_are_refused(config, words):
    """Nothing is guessed of them: a wrong order would be a wrong submission."""
    with pytest.raises(ModelError, match=words):
        read_score_head(LLAMA | config)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"num_labels": 1}, "one number a row"),
        ({"problem_type": "regression"}, "trained as a regression"),
        ({"problem_type": "multi_label_classification"}, "several right classes a row"),
        ({"problem_type": "single_label_classification"}, ""),
        ({"problem_type": None}, ""),
    ],
)
def test_numbers_that_are_no_shared_probability_are_a_fault(config, words):
    """A softmax over them would look like probabilities, and be none."""
    fault = read_score_head(LLAMA | config).fault
    assert words in fault
    assert bool(words) is bool(fault)


@pytest.mark.parametrize(
    ("table", "padding"),
    [({"pad_token_id": 7}, 7), ({"pad_token_id": None}, None), ({}, None), ({"text_config": {"pad_token_id": 3}}, 3)],
)
def test_padding_is_that_of_the_text_model(table, padding):
    """As transformers looks for it."""
    assert read_score_head(LLAMA | table).padding == padding


def test_a_label_is_a_class_by_name_or_by_number():
    """A name that looks like a number is that name."""
    assert HEAD.class_numbers(["B", "tie", "A"]) == (2, 0, 1)
    assert HEAD.class_numbers(["0", "1"]) == (0, 3)


@pytest.mark.parametrize("label", ["C", "4", "-1", "1.0", "", " A", "²"])
def test_a_label_that_is_no_class_is_refused_with_the_classes(label):
    """Whoever wrote it sees what there is."""
    with pytest.raises(LabelError, match="which has 0: 'tie', 1: 'A', 2: 'B', 3: '1': write a class's name or number"):
        HEAD.class_numbers(["A", label])


def test_two_labels_of_one_class_are_refused():
    """By its name and by its number it is the same class."""
    with pytest.raises(LabelError, match="'B' and '2' are the same class"):
        HEAD.class_numbers(["B", "2"])


@given(prompt=st.lists(st.integers(0, 3), min_size=1), padding=st.sampled_from([None, 0, 3]))
def test_padding_at_the_end_is_not_seen(prompt, padding):
    """As transformers looks for the last token that is not padding; of nothing but padding the first token is seen."""
    seen = ScoreHead(("A", "B"), padding).seen(prompt)
    last = max((place for place, token in enumerate(prompt) if token != padding), default=0)
    assert seen == prompt[: last + 1]


@given(logits=st.lists(st.floats(-50, 50), min_size=3, max_size=6))
def test_a_heads_mass_is_that_of_its_labels(logits):
    """All classes as labels have mass 1; of some of them it is their share, and their answers sum to 1."""
    everything = class_scores(logits, range(len(logits)))
    assert everything.mass == pytest.approx(1)
    some = class_scores(logits, [2, 0])
    chances = [exp(value) for value in everything.log_probabilities]
    assert some.mass == pytest.approx(chances[0] + chances[2])
    assert sum(exp(value) for value in some.log_probabilities) == pytest.approx(1)
