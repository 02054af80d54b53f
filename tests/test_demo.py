"""The committed demo: its rows, and the model that has learned them."""

import csv
import json
from pathlib import Path

import pytest
from demo import rows, task

from kaggle_kit.files import sha256_file
from kaggle_kit.runtime.tokenizers import ModelTokenizer, load_tokenizer

DATA = Path(__file__).parent / "demo" / "data"
MODEL = Path(__file__).parent / "demo" / "model"
SEED = 1
ROWS = 300


def read(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def cells(row: dict[str, str]) -> dict[str, list[str | None]]:
    return {name: json.loads(row[name]) for name in rows.FIELDS}


def text_of(row: dict[str, str]) -> str:
    return "".join(turn or "" for turns in cells(row).values() for turn in turns)


@pytest.fixture(scope="module")
def sample() -> list[dict[str, str]]:
    """Every committed row, of train.csv and of test.csv."""
    return read("train.csv") + read("test.csv")


@pytest.fixture(scope="module")
def tokenizer() -> ModelTokenizer:
    return load_tokenizer(MODEL)


def winners() -> list[int]:
    return [[row[name] for name in rows.WINNERS].index("1") for row in read("solution.csv")]


@pytest.mark.parametrize("name", ["train.csv", "test.csv", "solution.csv", "sample_submission.csv"])
def test_the_generator_reproduces_the_committed_file(name, tmp_path):
    """The same seed gives the committed bytes again."""
    rows.write_files(tmp_path, rows=ROWS, train_rows=ROWS, seed=SEED)
    assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes()


def test_a_row_does_not_depend_on_how_many_there_are():
    """Row 5 of a long file is row 5 of a short one, and another seed's row 5 is another row."""
    row = rows.make_row(5, seed=SEED, split="test")
    assert {name: str(row[name]) for name in rows.TEST_COLUMNS} == read("test.csv")[5]
    assert rows.make_row(5, seed=SEED + 1, split="test") != row


def test_mean_length_can_be_chosen():
    """Rows asked to be 5,000 characters long are so on average, within a fifth."""
    made = [rows.make_row(i, seed=SEED, split="test", mean_chars=5000) for i in range(400)]
    lengths = [len(text_of(row)) for i, row in enumerate(made) if "very_long" not in rows.kinds_of(i)]
    assert sum(lengths) / len(lengths) == pytest.approx(5000, rel=0.2)


def test_ids_are_unique(sample):
    """No two rows, of train.csv and test.csv together, share an id."""
    assert len({row["id"] for row in sample}) == 2 * ROWS


def test_files_of_the_test_rows_have_the_same_ids_in_the_same_order():
    """test.csv, solution.csv and sample_submission.csv name the same rows."""
    ids = [row["id"] for row in read("test.csv")]
    assert [row["id"] for row in read("solution.csv")] == ids
    assert [row["id"] for row in read("sample_submission.csv")] == ids


@pytest.mark.parametrize("name", ["train.csv", "solution.csv"])
def test_every_row_has_one_winner(name):
    """Exactly one of the three columns is 1, the others 0."""
    for row in read(name):
        assert sorted(row[column] for column in rows.WINNERS) == ["0", "0", "1"]


def test_every_row_has_text(sample):
    """Every committed row is well-formed: lists of texts and nulls, with some text among them."""
    for row in sample:
        assert text_of(row).strip()
        assert all(turn is None or isinstance(turn, str) for turns in cells(row).values() for turn in turns)


NASTY = {
    "null turn": lambda row: any(None in turns for turns in cells(row).values()),
    "empty list": lambda row: [] in cells(row).values(),
    "empty string": lambda row: any("" in turns for turns in cells(row).values()),
    "lone surrogate": lambda row: any("\ud800" <= c <= "\udfff" for c in text_of(row)),
    "newline": lambda row: "\n" in text_of(row),
    "quote": lambda row: '"' in text_of(row),
    "unequal turns": lambda row: len({len(turns) for turns in cells(row).values()}) > 1,
    "identical answers": lambda row: row["response_a"] == row["response_b"],
    "very long": lambda row: max(len(row[name]) for name in rows.FIELDS) > 20_000,
    "four turns": lambda row: len(cells(row)["prompt"]) == 4,
    "escaped": lambda row: any("\\u" in row[name] for name in rows.FIELDS),
    "Chinese": lambda row: any("\u4e00" <= c <= "\u9fff" for c in row["response_a"]),
    "Arabic": lambda row: any("\u0600" <= c <= "\u06ff" for c in row["response_a"]),
    "Cyrillic": lambda row: any("\u0400" <= c <= "\u04ff" for c in row["response_a"]),
    "Devanagari": lambda row: any("\u0900" <= c <= "\u097f" for c in row["response_a"]),
    "emoji": lambda row: any(c >= "\U0001f300" for c in text_of(row)),
}


@pytest.mark.parametrize("kind", NASTY)
def test_each_nasty_kind_is_in_the_test_rows(kind):
    """The test rows hold at least two of each kind of row that real data holds."""
    assert sum(map(NASTY[kind], read("test.csv"))) >= 2


def test_cells_are_ones_that_the_csv_module_reads(sample):
    """No cell reaches the csv module's default limit of 131,072 characters."""
    assert max(len(row[name]) for row in sample for name in rows.FIELDS) < 131_072


def test_no_phrase_holds_another():
    """Counting a phrase never counts a part of another phrase, or of a plain sentence."""
    phrases = [p for table in (rows.GOOD, rows.BAD) for group in table.values() for p in group]
    plain = [p for table in (rows.PLAIN, rows.ASK) for group in table.values() for p in group]
    for phrase in phrases:
        assert sum(phrase in other for other in phrases + plain) == 1


def test_probabilities_are_symmetric_and_sum_to_one(sample):
    """Exchanging the answers exchanges P(A) and P(B), and leaves P(tie)."""
    for row in sample:
        a, b, tie = rows.probabilities(row)
        back = rows.probabilities(row | {"response_a": row["response_b"], "response_b": row["response_a"]})
        assert (b, a, tie) == pytest.approx(back)
        assert a + b + tie == pytest.approx(1)


def test_the_text_carries_the_preference():
    """Whoever reads the text as it was made reaches a log loss of 0.5 to 0.65; uniform is 1.0986."""
    best = rows.log_loss([rows.probabilities(row) for row in read("test.csv")], winners())
    assert 0.5 < best < 0.65


def test_each_label_is_one_token_where_the_model_says_it(tokenizer):
    """After the template's end, A, B and tie are each one token, and three different ones."""
    plain = tokenizer.encode(task.TEMPLATE)
    said = [tokenizer.encode(task.TEMPLATE + label) for label in task.LABELS.values()]
    assert all(ids[:-1] == plain for ids in said)
    assert len({ids[-1] for ids in said}) == 3


def test_every_row_fits_the_budget_and_usual_rows_whole(sample, tokenizer):
    """No prompt passes the token budget, and most rows are not cut."""
    prompts = [task.prompt_of(row, tokenizer=tokenizer) for row in sample]
    assert max(len(prompt.token_ids) for prompt in prompts) <= task.TOKEN_BUDGET
    assert sum(not prompt.cut for prompt in prompts) > 0.9 * len(prompts)


def test_the_model_is_small():
    """The committed model takes at most 4 MB, and the data at most 3 MB."""
    assert sum(path.stat().st_size for path in MODEL.iterdir()) <= 4_000_000
    assert sum(path.stat().st_size for path in DATA.iterdir()) <= 3_000_000


def test_the_manifest_names_the_files_as_they_are():
    """manifest.json lists every other file of the model with its size and SHA-256, sorted by path."""
    text = (MODEL / "manifest.json").read_text(encoding="utf-8")
    manifest = json.loads(text)
    names = sorted(path.name for path in MODEL.iterdir() if path.name != "manifest.json")
    assert manifest == {
        "files": [{"path": n, "sha256": sha256_file(MODEL / n), "size": (MODEL / n).stat().st_size} for n in names],
        "kind": "model",
        "name": "demo",
        "version": 1,
    }
    assert text == json.dumps(manifest, indent=2, sort_keys=True) + "\n"


def test_the_model_is_a_normal_awq_checkpoint():
    """config.json says AWQ: gemm, 4 bit, groups of 128, with zero points."""
    config = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))["quantization_config"]
    told = {key: config[key] for key in ("quant_method", "version", "bits", "group_size", "zero_point")}
    assert told == {
        "quant_method": "awq",
        "version": "gemm",
        "bits": 4,
        "group_size": 128,
        "zero_point": True,
    }


def test_the_special_tokens_are_in_the_vocabulary(tokenizer):
    """The tokens that tokenizer_config.json names exist, and a prompt begins with the first of them."""
    config = json.loads((MODEL / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert tokenizer.pieces(tokenizer.encode("x"))[0] == config["bos_token"]
    for name in ("bos_token", "eos_token", "pad_token"):
        ids = [i for i in tokenizer.encode(config[name]) if tokenizer.pieces([i]) == [config[name]]]
        assert ids
