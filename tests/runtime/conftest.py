"""Fixtures: the demo's tokenizer and model, a task, and a job over rows that a test writes."""

import csv
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from kaggle_kit.runtime.job import Job, Task
from kaggle_kit.runtime.tokenizers import ModelTokenizer, load_tokenizer

DEMO = Path(__file__).parents[1] / "demo"


@pytest.fixture(scope="session")
def model() -> Path:
    """The committed demo model."""
    return DEMO / "model"


@pytest.fixture(scope="session")
def data() -> Path:
    """The committed demo rows."""
    return DEMO / "data"


@pytest.fixture(scope="session")
def tokenizer(model: Path) -> ModelTokenizer:
    """The demo model's tokenizer: byte-level, 2,048 tokens, one special token in front."""
    return load_tokenizer(model)


@pytest.fixture(autouse=True)
def _csv_limit() -> Iterator[None]:
    """The csv module's limit is one for the whole process: each test begins with Python's own."""
    csv.field_size_limit(131_072)
    yield
    csv.field_size_limit(sys.maxsize)


@pytest.fixture
def task() -> Task:
    """Three labels, of which the columns are not in alphabetical order."""
    return Task(
        labels={"winner_tie": "tie", "winner_model_a": "A", "winner_model_b": "B"},
        prior={"winner_model_a": 0.4, "winner_model_b": 0.35, "winner_tie": 0.25},
        fields={"prompt": 20, "response_a": 40, "response_b": 40},
        template="[P]\n{prompt}\n\n[A]\n{response_a}\n\n[B]\n{response_b}\n\n[Preferred]\n",
    )


@pytest.fixture
def make_job(tmp_path: Path, task: Task, model: Path) -> Callable[..., Job]:
    """Writes a test.csv of lines and gives the job over it."""

    def make(lines: Sequence[Sequence[str]], **changes: object) -> Job:
        path = tmp_path / "test.csv"
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([["id", "prompt", "response_a", "response_b"], *lines])
        parts = {
            "task": task,
            "test": path,
            "id_column": "id",
            "model": model,
            "journal": tmp_path / "journal.sqlite",
            "token_budget": 100,
            "engine_options": {"dtype": "bfloat16", "enforce_eager": True},
        }
        return Job(**(parts | changes))

    return make


@pytest.fixture
def bare_environment() -> dict[str, str]:
    """What a subprocess of a test needs of this process's environment."""
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
