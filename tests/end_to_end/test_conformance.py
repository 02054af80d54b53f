"""Conformance: the same prompts through every engine give the same probabilities, row by row.

The reference is transformers in float32 over the AWQ checkpoint written out in full. Tolerances were measured on
2026-11-24 over 300 demo rows (`benchmarks/engines.py`): vLLM in bfloat16, by generating (float32 head) as well as by
its classify head, differs from it by 0.0123 at most and 0.0012 on average; in bfloat16, transformers itself differs by
0.0160 and 0.0041.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from kaggle_kit.model.inspect import inspect_model
from kaggle_kit.model.memory import CPU_BLOCK, cache_tokens

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import engines  # noqa: E402

sys.path.pop()  # another module there is called as a folder of the tests

ROWS = 60
LARGEST, MEAN = 0.025, 0.003
"""Twice what was measured over five times as many rows: another processor rounds otherwise."""
VLLM = ("vllm", "vllm-classify")
KINDS = (*VLLM, "transformers")
LABELS = engines.demo_labels()
TWO = LABELS[:2]
ODD_TOKENS = [300, 36, 1999, 37, 777]
"""Five tokens that nobody would choose as labels, two of them likely."""


@pytest.fixture(scope="session")
def python():
    """The Python of an environment made offline from the local-cpu wheelhouse, as on Kaggle."""
    from kaggle_kit.targets import load_target
    from kaggle_kit.wheelhouse.environments import ready_environment
    from kaggle_kit.wheelhouse.folder import ready_wheelhouse

    return ready_environment(ready_wheelhouse(load_target("local-cpu"), project=ROOT).folder)


@pytest.fixture(scope="session")
def scored(python):
    """A function: the demo rows by one engine, for some labels; those of the demo straight, then exchanged.

    One process an engine, which is asked all there is to ask at once.
    """

    @cache
    def cases(kind):
        straight, exchanged = (engines.demo_prompts(ROWS, exchanged=swap)[1] for swap in (False, True))
        questions = [
            (straight + exchanged, LABELS),
            *((straight, tokens) for tokens in (TWO, ODD_TOKENS, LABELS[::-1])),
        ]
        asked = [engines.Case(*question, engines.OPTIONS[kind], warm=False) for question in questions]
        found = engines.score_all(python, kind, asked)
        return {tuple(case.label_ids): scored for case, scored in zip(asked, found, strict=True)}

    return lambda kind, tokens=LABELS: cases(kind)[tuple(tokens)]


def straight(found):
    """The probabilities of the rows as they are."""
    return found.probabilities[:ROWS]


def check(found, reference, *, largest=LARGEST, mean=MEAN):
    """Every row within `largest`, all within `mean` on average."""
    apart = engines.differences(found, reference)
    assert max(apart) < largest, f"row {apart.index(max(apart))}"
    assert sum(apart) / len(apart) < mean


@pytest.mark.parametrize("kind", VLLM)
def test_vllm_agrees_with_the_reference(scored, kind):
    """vLLM over 4 bits in bfloat16 gives what the weights written out in float32 give, row by row."""
    check(straight(scored(kind)), straight(scored("transformers")))


def test_classify_agrees_with_generate(scored):
    """The K-way head and the generated token are the same computation: closer than either is to the reference."""
    check(straight(scored("vllm-classify")), straight(scored("vllm")), largest=0.01, mean=0.001)


@pytest.mark.parametrize("kind", VLLM)
@pytest.mark.parametrize("tokens", [TWO, ODD_TOKENS], ids=["two", "five"])
def test_any_number_of_labels_agrees(scored, kind, tokens):
    """Two labels, and five odd tokens, are as near to the reference as the demo's three."""
    found = straight(scored(kind, tokens))
    assert {len(row) for row in found} == {len(tokens)}
    check(found, straight(scored("transformers", tokens)), largest=0.035)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_in_the_order_of_the_data(scored, kind):
    """With A and B exchanged in the rows their probabilities exchange, as far as the model learned it.

    The model is not quite symmetric: on average P(A) and the exchanged row's P(B) differ by less than 0.08, where
    read in the wrong order they would differ by more than 0.3.
    """
    both = scored(kind).probabilities
    pairs = list(zip(both[:ROWS], both[ROWS:], strict=True))
    assert sum(abs(p[0] - q[1]) + abs(p[1] - q[0]) for p, q in pairs) / len(pairs) / 2 < 0.08
    assert sum(abs(p[0] - q[0]) + abs(p[1] - q[1]) for p, q in pairs) / len(pairs) / 2 > 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_sums_to_one_in_the_order_that_was_asked(scored, kind):
    """Probabilities of a row sum to 1, and labels asked in another order give the same numbers in that order."""
    found, turned = straight(scored(kind)), straight(scored(kind, LABELS[::-1]))
    assert all(math.isclose(sum(row), 1, abs_tol=1e-6) for row in found)
    check([row[::-1] for row in turned], found, largest=0.01, mean=0.001)


def test_the_label_mass_is_the_references(scored):
    """Where vLLM tells the label mass, it is the exact one; a classify head cannot tell it."""
    masses = zip(scored("vllm").masses, scored("transformers").masses, strict=True)
    assert max(abs(found - exact) for found, exact in masses) < 0.005
    assert set(scored("vllm-classify").masses) == {None}


def test_a_classify_head_over_two_cards_is_refused(python):
    """With tensor parallelism the head would be cut out of the wrong rows: it does not start."""
    prompts = engines.demo_prompts(1)[1]
    options = engines.CPU | {"tensor_parallel_size": 2}
    with pytest.raises(RuntimeError, match=r"UsageError: .*each card holds a part of the LM head"):
        engines.score(python, "vllm-classify", prompts, label_ids=LABELS, options=options)


PROBE = """
import json, os, sys
from pathlib import Path
import engines
from kaggle_kit.errors import RunError
from kaggle_kit.runtime import vllm_engine
from kaggle_kit.runtime.engine import EngineMemoryError, score_all
from kaggle_kit.runtime.engines import open_engine

prompts = engines.demo_prompts(12)[1]
longest = max(map(len, prompts))
engine = open_engine(
    "vllm", engines.DEMO / "model", label_ids=engines.demo_labels(), longest=longest,
    options=engines.CPU | {"max_num_seqs": 4},
)
before = score_all(engine, prompts)
model = engine._llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner.model
tensors = {}
for tensor in [*model.parameters(), *model.buffers()]:
    tensors[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
cache = engine._llm.llm_engine.vllm_config.cache_config
# Chunks of all sizes, one of them empty, and a chunk that is taken before the last one is answered.
cuts, flow = [0, 1, 1, 6, 12], []

def chunks():
    for first, end in zip(cuts, cuts[1:]):
        flow.append("taken")
        yield prompts[first:end]

streamed = []
for answers in engine.stream(chunks()):
    flow.append("answered")
    streamed.append(answers)
llm_engine, told = engine._llm.llm_engine, []
step, steps = llm_engine.step, [0]

def failing():
    steps[0] += 1
    if steps[0] == 2:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    return step()

llm_engine.step = failing
try:
    score_all(engine, prompts)
except EngineMemoryError as error:
    told.append(str(error))
llm_engine.step = step
try:
    score_all(engine, [prompts[0], [5] * (longest + 1)])
except RunError as error:
    told.append(str(error))
after = score_all(engine, prompts[3:7])

def apart(found, want):
    return max(abs(x - y) for p, q in zip(found, want, strict=True)
               for x, y in zip(p.log_probabilities, q.log_probabilities, strict=True))

vllm_engine.vllm_version = lambda: (0, 19, 1)
older = open_engine(
    "vllm", engines.DEMO / "model", label_ids=engines.demo_labels(), longest=longest, options=engines.CPU
)
processed = score_all(older, prompts)
Path(sys.argv[1]).write_text(json.dumps({
    "flow": flow, "sizes": [len(answers) for answers in streamed],
    "streamed_apart": apart([scores for answers in streamed for scores in answers], before),
    "weights": sum(tensors.values()), "blocks": cache.num_gpu_blocks, "block": cache.block_size,
    "told": told, "rows": len(after), "apart": apart(after, before[3:7]),
    "older": older.name, "older_apart": apart(processed, before), "older_mass": processed[0].mass,
}))
os._exit(0)
"""


@pytest.fixture(scope="session")
def probed(python, tmp_path_factory):
    """What PROBE found, in one process."""
    folder = tmp_path_factory.mktemp("probe")
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}", "HOME": str(folder), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [str(python), "-c", PROBE, str(folder / "out.json")],
        env=engines.ENVIRONMENT | paths,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "out.json").read_text())


def test_a_failed_batch_leaves_nothing_behind(probed):
    """After memory ran out in the middle of a batch, and after a prompt too long, the next batch is answered rightly.

    The failure is thrown into the real engine's second step, with requests waiting in it.
    """
    assert probed["told"][0].startswith("the engine ran out of memory while scoring")
    assert probed["told"][1].startswith("prompt 1 of the batch has")
    assert probed["rows"] == 4
    assert probed["apart"] < 0.02


def test_the_engine_takes_the_next_chunk_before_it_has_answered_the_last(probed):
    """Chunks of any size come back whole and in order, and no step waits half empty for a chunk's end."""
    assert probed["sizes"] == [1, 0, 5, 6]
    assert probed["streamed_apart"] < 0.02
    assert probed["flow"][:2] == ["taken", "taken"]


def test_the_way_of_older_versions_gives_the_same(probed):
    """0.10.2 to 0.19 are asked for processed log-probabilities: today's engine, asked so, gives the same numbers.

    Those versions themselves do not run here. Only the label mass is lost.
    """
    assert probed["older"] == "vllm 0.19.1 (processed_logprobs)"
    assert probed["older_apart"] < 0.15
    assert probed["older_mass"] is None


def test_weights_are_what_vllm_holds(probed):
    """What `kit model fit` says: within 10 percent, packed layers and tied embeddings included."""
    told = inspect_model(engines.DEMO / "model").checkpoint().weight_bytes
    assert told == pytest.approx(probed["weights"], rel=0.10)


def test_keys_and_values_are_what_vllm_keeps(probed):
    """Tokens in 1 GiB, in the CPU's blocks."""
    model = inspect_model(engines.DEMO / "model").checkpoint().architecture
    assert probed["block"] == CPU_BLOCK
    assert cache_tokens(model, 1 << 30, block=CPU_BLOCK) == pytest.approx(probed["blocks"] * probed["block"], rel=0.10)
