"""Models that answer with a head of classes: by vLLM where it reads the head, by transformers where it does not.

The demo's head is made of the label tokens' own rows of its tied LM head, so its classes must have the probabilities
that the tokens have.
"""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import tokenizers

ROOT = Path(__file__).parents[2]
COLUMNS = ("winner_model_a", "winner_model_b", "winner_tie")
NAMES = {"0": "tie", "1": "A", "2": "B"}
"""In another order than the source's labels."""
DEBERTA = """
import sys, torch
from transformers import DebertaV2Config, DebertaV2ForSequenceClassification
torch.manual_seed(5)
config = DebertaV2Config(
    vocab_size=2048, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, pad_token_id=2,
    max_position_embeddings=512, initializer_range=0.2, num_labels=3, relative_attention=True, pos_att_type=["p2c"],
)
config.id2label = {0: "tie", 1: "A", 2: "B"}
DebertaV2ForSequenceClassification(config).save_pretrained(sys.argv[1])
"""


def _cut_head(model: Path) -> None:
    """Give the model a head of the label tokens' rows in place of its LM head."""
    tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    tokens = [tokenizer.token_to_id(name) for name in NAMES.values()]
    tensors = safetensors.numpy.load_file(model / "model.safetensors")
    tensors["score.weight"] = np.ascontiguousarray(tensors["model.embed_tokens.weight"][tokens])
    safetensors.numpy.save_file(tensors, model / "model.safetensors")
    _edit_config(model, architectures=["LlamaForSequenceClassification"], id2label=NAMES)


def _edit_config(model: Path, **values: object) -> None:
    path = model / "config.json"
    body = json.loads(path.read_text(encoding="utf-8")) | values
    path.write_text(json.dumps(body), encoding="utf-8")


def _submission(path: Path) -> dict[str, list[float]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return {row["id"]: [float(row[column]) for column in COLUMNS] for row in csv.DictReader(stream)}


def test_a_notebook_scores_by_a_trained_head(workshop):
    """The dry run's answers are those of the tokens that the head was cut from; mass is that of all classes."""
    said = workshop.dryrun("--rows", "100")
    assert said.code == 0, said.out + said.err
    tokens = _submission(workshop.results / "submission.csv")

    model = workshop.folder / "tests/demo/model"
    _cut_head(model)
    inspected = workshop.kit("model", "inspect", str(model), "--write", "--notebook", "lmsys", "--target", "local-cpu")
    assert inspected.code == 0, inspected.out + inspected.err
    assert "answers with a class of its own head: 0: tie, 1: A, 2: B" in inspected.out
    found = workshop.dryrun("--rows", "100")
    assert found.code == 0, found.out + found.err
    classes = _submission(workshop.results / "submission.csv")
    apart = [abs(x - y) for row_id in tokens for x, y in zip(tokens[row_id], classes[row_id], strict=True)]
    assert len(apart) == 300
    assert max(apart) < 0.02
    assert sum(apart) / len(apart) < 0.002


@pytest.fixture
def engine_python() -> Path:
    """The Python of an environment made offline from the local-cpu wheelhouse, as on Kaggle."""
    from kaggle_kit.targets import load_target
    from kaggle_kit.wheelhouse.environments import ready_environment
    from kaggle_kit.wheelhouse.folder import ready_wheelhouse

    return ready_environment(ready_wheelhouse(load_target("local-cpu"), project=ROOT).folder)


def test_a_head_that_vllm_does_not_read_is_scored_by_transformers(workshop, engine_python):
    """DeBERTa: the plan says so by itself, the rows are scored, and the worker's answers are the model's own."""
    model = workshop.folder / "tests/demo/model"
    for name in ("model.safetensors", "config.json", "manifest.json"):
        (model / name).unlink()
    subprocess.run([str(engine_python), "-c", DEBERTA, str(model)], check=True, capture_output=True)
    inspected = workshop.kit("model", "inspect", str(model), "--write", "--name", "demo", "--target", "local-cpu")
    assert inspected.code == 0, inspected.out + inspected.err
    table = workshop.folder / "tests/demo/data/test.csv"
    out = workshop.folder / "some.jsonl"
    scored = workshop.kit("score", str(table), "-o", str(out), "--rows", "20", "--plain")
    assert scored.code == 0, scored.out + scored.err
    assert "transformers" in scored.out + scored.err
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 20
    assert all(abs(sum(line[column] for column in COLUMNS) - 1) < 1e-6 for line in lines)
    assert len({round(line[COLUMNS[0]], 6) for line in lines}) > 10
