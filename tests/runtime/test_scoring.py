"""The scoring loop: order, copies, refusals, deaths, budgets, and the swapped pass, on engines that a test can see."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_kit.errors import RunError
from kaggle_kit.runtime.cost_model import CostModel
from kaggle_kit.runtime.engine import EngineDiedError, EngineMemoryError, LabelScores
from kaggle_kit.runtime.governor import Governor
from kaggle_kit.runtime.job import Task
from kaggle_kit.runtime.journal import SWAPPED, Entry, Journal
from kaggle_kit.runtime.prompts import Prompt, PromptBuilder, parse_template
from kaggle_kit.runtime.scoring import Scorer, copies, scoring_order


class Clock:
    """A clock that only an engine moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Bytes:
    """A tokenizer of one token a character, with none of its own."""

    class Encoded:
        def __init__(self, text):
            self.ids = [ord(character) for character in text]
            self.offsets = [(place, place + 1) for place in range(len(text))]

    def encode_batch(self, texts):
        return [self.Encoded(text) for text in texts]


class Engine:
    """Scores a prompt by its length, at `second_a_token`; `faults` maps prompts to what a batch with them raises."""

    name = "fake"

    def __init__(self, clock, *, second_a_token=0.001, most=None, faults=None):
        self.clock = clock
        self.second_a_token = second_a_token
        self.most = most
        self.faults = faults or {}
        self.batches = []

    def stream(self, chunks):
        for chunk in chunks:
            yield self.score(chunk)

    def score(self, prompts):
        self.batches.append(["".join(map(chr, prompt)) for prompt in prompts])
        self.clock.now += self.second_a_token * sum(map(len, prompts))
        for prompt in prompts:
            if (error := self.faults.get(tuple(prompt))) is not None:
                raise error
        if self.most is not None and len(prompts) > self.most:
            raise EngineMemoryError("out of memory")
        return [LabelScores((-float(len(prompt)), -0.5), 0.9) for prompt in prompts]

    @property
    def lengths(self):
        return [[len(prompt) for prompt in batch] for batch in self.batches]


TEMPLATE = parse_template("{a}|{b}|", fields=("a", "b"))
TASK = Task(
    labels={"first": "A", "second": "B"},
    prior={"first": 0.5, "second": 0.5},
    fields={"a": 1, "b": 1},
    template="{a}|{b}|",
    row_format="text",
    swap={"a": "b", "first": "second"},
)


class Room:
    """A scorer with all its parts in reach; `live` is another life over the same journal."""

    def __init__(self, path):
        self.path = path
        self.clock = Clock()
        self.told = []
        self.journal = Journal(path, configuration="c")
        self.live()

    def live(self, *, deadline=float("inf"), full=1000, floor=None, **engine):
        self.engine = Engine(self.clock, **engine)
        self.builder = PromptBuilder(TEMPLATE, {"a": 1, "b": 1}, full, Bytes())
        self.governor = Governor(deadline=deadline, full=full, clock=self.clock, floor=floor, model=CostModel())
        self.scorer = Scorer(self.engine, self.journal, self.governor, self.builder, self.told.append, clock=self.clock)
        return self

    def prompts(self, rows):
        built = self.builder.build([{"a": [a], "b": [b]} for a, b in rows.values()])
        return dict(zip(rows, built, strict=True))

    def todo(self, rows):
        done = self.journal.read()
        return {row_id: prompt for row_id, prompt in self.prompts(rows).items() if row_id not in done}


@pytest.fixture
def room(tmp_path):
    """A scoring room whose time nobody limits."""
    made = Room(tmp_path / "journal.sqlite")
    yield made
    made.journal.close()


def rows(count, *, step=1):
    """Rows of ascending length, each of its own text."""
    return {str(i): ("x" * (i * step), f"{i}") for i in range(count)}


def ids(text):
    return tuple(map(ord, text))


def test_the_probe_comes_first_and_the_rest_ascend(room):
    """Eight chunks of all lengths, then the shortest first; every row once."""
    room.scorer.first_pass(room.prompts(rows(400)))
    lengths = room.engine.lengths
    assert len({max(chunk) // 60 for chunk in lengths[:8]}) > 3
    rest = [length for chunk in lengths[8:] for length in chunk]
    assert rest == sorted(rest)
    assert sum(map(len, lengths)) == 400
    assert len(room.journal.read()) == 400
    assert room.journal.most_times() == 1


def test_few_rows_have_no_probe(room):
    """Below what a probe needs all come in one ascending order."""
    room.scorer.first_pass(room.prompts(rows(20)))
    (chunk,) = room.engine.lengths
    assert chunk == sorted(chunk)


def test_each_row_has_its_own_score(room):
    """Whatever the order of scoring, an entry holds what the engine said of its own prompt."""
    prompts = room.prompts(rows(150))
    room.scorer.first_pass(prompts)
    entries = room.journal.read()
    assert {name: entry.log_probabilities[0] for name, entry in entries.items()} == {
        name: -float(len(prompt.token_ids)) for name, prompt in prompts.items()
    }


def test_progress_counts_rows_and_tokens(room):
    """The last report says that all is done."""
    prompts = room.prompts(rows(100))
    room.scorer.first_pass(prompts)
    last = room.told[-1]
    tokens = sum(len(prompt.token_ids) for prompt in prompts.values())
    assert (last.pass_name, last.rows, last.all_rows, last.tokens, last.all_tokens) == (
        "plain",
        100,
        100,
        tokens,
        tokens,
    )


def test_copies_are_scored_once_and_say_whose_they_are(room):
    """Rows with the same prompt share one scoring, and each has an entry of its own."""
    room.scorer.first_pass(room.prompts({"1": ("x", "y"), "2": ("x", "y"), "3": ("z", "y"), "4": ("x", "y")}))
    assert sum(map(len, room.engine.batches)) == 2
    entries = room.journal.read()
    assert entries["2"].log_probabilities == entries["1"].log_probabilities
    assert [entries[name].flags for name in "1234"] == [(), ("copy of 1",), (), ("copy of 1",)]


@pytest.mark.parametrize("error", [ValueError("too long"), RunError("no probability")])
@pytest.mark.parametrize("refused", [(0,), (23,), (5, 6), tuple(range(24))])
def test_a_row_at_fault_costs_only_itself(room, refused, error):
    """Wherever the rows at fault stand, they alone have a problem, and every other row is scored."""
    prompts = room.prompts(rows(24))
    room.engine.faults = {tuple(prompts[str(i)].token_ids): error for i in refused}
    room.scorer.first_pass(prompts)
    entries = room.journal.read()
    assert len(entries) == 24
    assert {int(name) for name, entry in entries.items() if entry.log_probabilities is None} == set(refused)
    assert entries[str(refused[0])].problem == f"the engine refused it: {error}"


def test_a_model_that_answers_nothing_is_given_up(room):
    """After 256 rows that it refused, not after the last; what it said of the first is told."""
    prompts = room.prompts(rows(600))
    room.engine.faults = {tuple(prompt.token_ids): RunError("not all are finite") for prompt in prompts.values()}
    with pytest.raises(RunError, match=r"answered none of the first \d+ rows: .*not all are finite"):
        room.scorer.first_pass(prompts)
    assert 256 <= len(room.journal.read()) < 600


def test_one_bad_row_of_a_chunk_costs_few_calls(room):
    """Halving finds one row among 30 in at most 11 calls."""
    prompts = room.prompts(rows(30))
    room.engine.faults = {tuple(prompts["20"].token_ids): ValueError("x")}
    room.scorer.first_pass(prompts)
    assert len(room.engine.batches) <= 11


def test_a_refused_rows_copies_share_its_problem(room):
    """What the engine refuses once it is not asked again."""
    room.engine.faults = {ids("x|y|"): ValueError("no")}
    room.scorer.first_pass(room.prompts({"1": ("x", "y"), "2": ("x", "y")}))
    assert [entry.problem for entry in room.journal.read().values()] == ["the engine refused it: no"] * 2
    assert len(room.engine.batches) == 1


def test_a_batch_that_is_too_large_for_the_memory_is_halved(room):
    """An engine that runs out of memory over more than four rows scores all of them in fours."""
    room.live(most=4)
    room.scorer.first_pass(room.prompts(rows(20)))
    assert all(entry.problem is None for entry in room.journal.read().values())
    assert max(map(len, room.engine.batches[-3:])) <= 20
    assert len(room.journal.read()) == 20


def test_a_dead_engine_is_not_taken_for_a_bad_row(room):
    """It is raised through, the chunks before it stay, and the chunk that it held is noted."""
    prompts = room.prompts(rows(400))
    prompts["dead"] = Prompt(array("i", [1] * 1000), {"a": ("x",), "b": ("y",)})
    room.engine.faults = {(1,) * 1000: EngineDiedError("gone")}
    with pytest.raises(EngineDiedError, match="gone"):
        room.scorer.first_pass(prompts)
    assert "dead" in room.journal.in_flight()
    assert not set(room.journal.in_flight()) & set(room.journal.read())


def test_an_engine_that_answers_too_little_is_an_error(room):
    """Fewer answers than prompts are never matched by guess, nor taken for the row's own fault."""
    room.engine.score = lambda _: []
    with pytest.raises(ValueError, match="zip"):
        room.scorer.first_pass(room.prompts(rows(10)))
    assert room.journal.count() == 0


def test_suspects_come_last_and_alone(room):
    """Rows over which an engine died are scored one by one after all others."""
    room.journal.begin(["3", "1"])
    room.scorer.first_pass(room.prompts(rows(10)))
    assert [len(batch) for batch in room.engine.batches] == [8, 1, 1]
    assert room.journal.in_flight() == {}
    assert len(room.journal.read()) == 10


def test_a_row_that_kills_the_engine_costs_no_other_row(room):
    """Life after life: the row and its copies get a problem after two deaths alone, and every other row is scored."""
    table = rows(20) | {"bad": ("k", "k"), "twin": ("k", "k")}
    lives = 0
    while True:
        lives += 1
        room.live(faults={ids("k|k|"): EngineDiedError("gone")})
        try:
            room.scorer.first_pass(room.todo(table))
            break
        except EngineDiedError:
            assert lives < 10
    entries = room.journal.read()
    assert lives == 4
    assert {name for name, entry in entries.items() if entry.problem} == {"bad", "twin"}
    assert entries["bad"].problem == "the engine died over it"
    assert len(entries) == 22
    assert room.journal.most_times() == 1


def test_the_longest_rows_are_cut_again_where_time_is_short(room):
    """When the governor lowers the budget, prompts are cut to it, say so, and the short ones stay whole."""
    room.live(deadline=60.0, floor=50)
    table = rows(400)  # 400 rows of up to 400 tokens: 82 s at a millisecond a token
    room.scorer.first_pass(room.prompts(table))
    entries = room.journal.read()
    assert len(entries) == 400
    assert room.clock.now <= 60
    cut = {name: entry for name, entry in entries.items() if entry.cut}
    assert cut
    assert all(entry.cut == ("a",) for entry in cut.values())
    assert min(int(name) for name in cut) > 100
    assert max(entry.tokens for entry in cut.values()) < 400


def test_when_nothing_fits_the_rest_is_left(room):
    """Where even the least budget is too much, the shortest rows are scored and the longest left out."""
    room.live(deadline=20.0, floor=900)
    room.scorer.first_pass(room.prompts(rows(400)))
    done = room.journal.read()
    assert 0 < len(done) < 400
    assert room.clock.now <= 21
    left = [i for i in range(400) if str(i) not in done]
    assert sum(left) / len(left) > 200


def test_after_the_deadline_nothing_is_scored(room):
    """With no time left the engine is not called."""
    room.live(deadline=0.0)
    room.scorer.first_pass(room.prompts(rows(10)))
    assert room.engine.batches == []


def answered(probabilities):
    """Plain entries of rows by their probabilities of the first label."""
    from math import log

    return {name: Entry(name, 5, (), (log(p), log(1 - p))) for name, p in probabilities.items()}


def swap(room, table, done):
    swapped = room.journal.read(pass_name=SWAPPED)
    left = {name: prompt for name, prompt in room.prompts(table).items() if name not in swapped}
    room.scorer.swapped_pass(left, TASK, done=done)


def test_the_swapped_pass_exchanges_the_fields(room):
    """The engine sees the other field in each place, and the answer is kept as the swapped pass's."""
    swap(room, {"1": ("left", "right")}, answered({"1": 0.5}))
    assert room.engine.batches == [["right|left|"]]
    assert list(room.journal.read(pass_name=SWAPPED)) == ["1"]
    assert room.journal.read() == {}


def test_the_most_undecided_rows_are_swapped_first(room):
    """Among rows of one length, the nearest to even comes first and the surest last."""
    room.scorer.chunk_rows = 1
    swap(room, dict.fromkeys("123", ("x", "y")), answered({"1": 0.9, "2": 0.5, "3": 0.99}))
    assert list(room.journal.read(pass_name=SWAPPED)) == ["2", "1", "3"]


def test_the_swapped_pass_stops_when_time_does(room):
    """What cannot be paid is not begun, and what was done before the deadline stays."""
    room.live(deadline=10.0)
    table = rows(300)
    done = answered(dict.fromkeys(table, 0.5))
    room.governor.observe([100] * 64, 6.4)
    swap(room, table, done)
    assert 0 < len(room.journal.read(pass_name=SWAPPED)) < 300
    assert room.clock.now <= 10


def test_a_swapped_pass_goes_on_in_another_life(room):
    """A new life, which has timed nothing yet, swaps the rows that are left, and none twice."""
    table = rows(100)
    done = answered(dict.fromkeys(table, 0.5))
    room.scorer.chunk_rows = 30
    room.engine.faults = {ids("50|" + "x" * 50 + "|"): EngineDiedError("gone")}
    with pytest.raises(EngineDiedError):
        swap(room, table, done)
    before = set(room.journal.read(pass_name=SWAPPED))
    assert "50" in room.journal.in_flight()
    room.live()
    swap(room, table, done)
    after = set(room.journal.read(pass_name=SWAPPED))
    assert after == set(table)
    assert before < after
    assert room.journal.most_times() == 1


def test_a_task_without_exchanged_columns_has_no_swapped_pass(room):
    """Without a pair of columns nothing could be mapped back, so nothing is swapped."""
    task = Task(**TASK.to_json() | {"swap": {"a": "b"}})
    room.scorer.swapped_pass(room.prompts({"1": ("x", "y")}), task, done=answered({"1": 0.5}))
    assert room.engine.batches == []


def test_chunks_grow_with_the_engines_speed(room):
    """A fast engine gets larger chunks, so that its batches stay full."""
    room.live(second_a_token=1e-6)
    room.scorer.first_pass(room.prompts(rows(900)))
    assert max(map(len, room.engine.batches)) > 128


class Ahead(Engine):
    """Takes one chunk more than it has answered, as vLLM does."""

    def stream(self, chunks):
        held = None
        for chunk in chunks:
            if held is not None:
                yield self.score(held)
            held = chunk
        if held is not None:
            yield self.score(held)


def with_ahead(room, **engine):
    room.engine = room.scorer.engine = Ahead(room.clock, **engine)
    return room


def test_an_engine_that_takes_chunks_ahead_scores_each_row_once(room):
    """Every row has its own answer, and the chunks' times add up to the whole."""
    with_ahead(room)
    prompts = room.prompts(rows(400))
    seen = []
    observe = room.governor.observe
    room.governor.observe = lambda lengths, seconds: (seen.append(seconds), observe(lengths, seconds))
    room.scorer.first_pass(prompts)
    entries = room.journal.read()
    assert {name: entry.log_probabilities[0] for name, entry in entries.items()} == {
        name: -float(len(prompt.token_ids)) for name, prompt in prompts.items()
    }
    assert room.journal.most_times() == 1
    assert sum(seen) == pytest.approx(room.clock.now)


@pytest.mark.parametrize("refused", [(0,), (70,), (10, 130)])
def test_a_refusal_of_one_chunk_costs_no_row_of_the_one_that_was_taken_ahead(room, refused):
    """Both chunks are given again, and the stream goes on behind them."""
    prompts = room.prompts(rows(300))
    with_ahead(room, faults={tuple(prompts[str(i)].token_ids): ValueError("x") for i in refused})
    room.scorer.first_pass(prompts)
    entries = room.journal.read()
    assert len(entries) == 300
    assert {int(name) for name, entry in entries.items() if entry.problem} == set(refused)


def test_work_taken_ahead_counts_against_the_deadline(room):
    """A chunk that waits behind another does not make the run late."""
    room.live(deadline=20.0, floor=900)
    with_ahead(room)
    room.scorer.first_pass(room.prompts(rows(400)))
    assert 0 < len(room.journal.read()) < 400
    assert room.clock.now <= 20


def test_a_fault_of_our_own_is_not_taken_for_a_bad_prompt(room):
    """What fails while a chunk is being made is raised, and costs no row an answer."""
    room.scorer.governor.affordable = lambda _: 1 // 0
    room.governor.observe([10] * 64, 1.0)
    with pytest.raises(ZeroDivisionError):
        room.scorer.first_pass(room.prompts(rows(10)))
    assert room.journal.count() == 0


IDS = st.text(max_size=5) | st.just("\ud800")
TOKENS = st.lists(st.integers(0, 3), min_size=1, max_size=12) | st.integers(60, 200).map(lambda n: [1] * n)


def made(tokens):
    return {row_id: Prompt(array("i", ids), {}) for row_id, ids in tokens.items()}


@given(tokens=st.dictionaries(IDS, TOKENS, max_size=150))
@settings(max_examples=60)
def test_every_id_is_scored_exactly_once(tokens):
    """Probe and rest together hold each id once, whatever the prompts."""
    chunks, rest = scoring_order(made(tokens))
    assert sorted([*(row_id for chunk in chunks for row_id in chunk), *rest]) == sorted(tokens)


@given(tokens=st.dictionaries(IDS, TOKENS, max_size=60))
@settings(max_examples=60)
def test_copies_cover_every_row_once(tokens):
    """Each row is scored itself or is the copy of one that is, and copies have exactly that one's prompt."""
    found = copies(made(tokens))
    named = [*found, *(other for others in found.values() for other in others)]
    assert sorted(named) == sorted(tokens)
    assert all(tokens[one] == tokens[other] for one, others in found.items() for other in others)
    assert len({tuple(tokens[one]) for one in found}) == len(found)


def test_common_prefixes_stay_together():
    """Rows that begin alike beyond the template's head follow each other, at their shortest row's place."""
    head = [7] * 10
    tokens = {}
    for number in range(3):  # 3 prompts of a long shared text, between others of lengths in between
        tokens[f"shared{number}"] = head + [1] * 100 + [number] * (10 * (number + 1))
        tokens[f"other{number}"] = head + [50 + number] * (105 + 10 * number)
    _, rest = scoring_order(made(tokens))
    places = [rest.index(f"shared{number}") for number in range(3)]
    assert places == list(range(places[0], places[0] + 3))


def test_the_shortest_come_first():
    """Without a common text the order is by length, then by id."""
    _, rest = scoring_order(made({"b": [1, 2], "c": [3], "a": [2, 2], "d": [4, 5, 6]}))
    assert rest == ["c", "a", "b", "d"]


def test_no_rows_have_no_order():
    """Nothing to score is no error."""
    assert scoring_order({}) == ([], [])
    assert copies({}) == {}
