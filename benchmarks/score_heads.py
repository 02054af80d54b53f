"""Models with a classification head of their own: kit's two engines against transformers in float32.

    python benchmarks/score_heads.py ENV/bin/python [--write] [KIND ...]

ENV is an environment made from the local-cpu wheelhouse. For each kind a small seeded model is saved and scored over
seeded prompts, among them one that ends in padding: by transformers itself, one prompt at a time, and by kit's engines.
The table stands in docs/models.md: `--write` puts it there. `one KIND FOLDER` is the part in that environment.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from engines import run_there

ROOT = Path(__file__).parents[1]
PAGE, MARK = ROOT / "docs" / "models.md", "<!-- heads -->"
CLASSES = 3
LENGTHS = (5, 17, 60, 33, 120)
PADDING, VOCABULARY = 1, 512
_ENDS = {"vocab_size": VOCABULARY, "pad_token_id": PADDING, "bos_token_id": 2, "eos_token_id": 3}
_ENCODER = {
    **_ENDS,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
_DECODER = {**_ENCODER, "num_key_value_heads": 2, "head_dim": 32}
_GEMMA = {**_DECODER, "query_pre_attn_scalar": 32, "sliding_window": 64}
_GPT2 = {**_ENDS, "n_embd": 128, "n_layer": 2, "n_head": 4, "n_positions": 256}
_OPT = {**_ENCODER, "ffn_dim": 256, "word_embed_proj_dim": 128}
KINDS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma"), _DECODER),
    **dict.fromkeys(("gemma2", "gemma3_text"), _GEMMA),
    "qwen2_moe": {
        **_DECODER,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "shared_expert_intermediate_size": 64,
    },
    "gpt2": _GPT2,
    "opt": _OPT,
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "modernbert", "deberta-v2", "electra"), _ENCODER),
}
LABELS = (2, 0, 1)
"""Classes, in another order than the head's."""


def main() -> None:
    """Print the table; with `--write` put it into the page."""
    if sys.argv[1:2] == ["one"]:
        one(sys.argv[2], Path(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", type=Path)
    parser.add_argument("kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    lines = [
        "| architecture | read by | float32 | bfloat16 |",
        "|---|---|---|---|",
        *(line(given.python, kind) for kind in given.kinds),
    ]
    if given.write:
        text = PAGE.read_text(encoding="utf-8")
        head, _, rest = text.partition(f"{MARK}\n")
        kept = rest.splitlines(keepends=True)
        while kept and kept[0].startswith("|"):
            del kept[0]
        PAGE.write_text("\n".join([head + MARK, *lines, ""]) + "".join(kept), encoding="utf-8")
    print("\n".join(lines))


def line(python: Path, kind: str) -> str:
    """One kind's line of the table, made in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        run_there(python, __file__, "one", kind, folder, what=kind)
        found = json.loads(Path(folder, "out.json").read_text(encoding="utf-8"))
    print(kind, found, file=sys.stderr)
    apart = " | ".join(f"{found['apart'][dtype]:.1e}" for dtype in ("float32", "bfloat16"))
    return f"| {found['architecture']} | {found['engine']} | {apart} |"


def one(kind: str, folder: Path) -> None:
    """Make the model, score it, and write how far the engines are from transformers itself."""
    from kaggle_kit.runtime.engines import TRANSFORMERS

    model = folder / "model"
    reference = save(kind, model)
    architecture, reader, own = reader_of(model)
    own = own and {**own, "enforce_eager": True, "max_num_seqs": 8}
    apart, name = {}, ""
    for dtype in ("float32", "bfloat16"):
        mine, read_by = distance(reader, model, reference, {**own, "dtype": dtype})
        name = name or read_by
        plain, _ = distance(TRANSFORMERS, model, reference, {"dtype": dtype}) if own else (mine, "")
        apart[dtype] = max(mine, plain)
    body = {"architecture": architecture, "engine": name, "apart": apart}
    (folder / "out.json").write_text(json.dumps(body), encoding="utf-8")
    sys.stderr.flush()
    os._exit(0)


def reader_of(model: Path) -> tuple[str, str, dict[str, Any]]:
    """A model's architecture, the engine that reads its head, and what that engine is told of it; empty for none."""
    from kaggle_kit.runtime.engine_facts import engine_facts
    from kaggle_kit.runtime.engines import TRANSFORMERS
    from kaggle_kit.runtime.vllm_engine import vllm_version

    facts, config = engine_facts(vllm_version()), json.loads((model / "config.json").read_text(encoding="utf-8"))
    architecture = config["architectures"][0]
    if not facts.scorer(architecture, config["model_type"]):
        return architecture, TRANSFORMERS, {}
    return architecture, "vllm", {"enable_prefix_caching": architecture not in facts.other}


def distance(reader: str, model: Path, reference: list[list[float]], options: dict[str, Any]) -> tuple[float, str]:
    """The largest difference of a probability of an engine of kit's from the reference, and the engine's name."""
    from kaggle_kit.runtime.engine import score_all
    from kaggle_kit.runtime.engines import open_engine

    engine = open_engine(reader, model, label_ids=LABELS, longest=max(LENGTHS) + 2, options=options)
    worst = max(
        abs(math.exp(value) - want[number])
        for row, want in zip(score_all(engine, prompts()), reference, strict=True)
        for value, number in zip(row.log_probabilities, LABELS, strict=True)
    )
    return worst, engine.name


def prompts() -> list[list[int]]:
    """Seeded token ids; the last prompt ends in two of padding."""
    draw = random.Random(1)
    made = [[draw.randrange(4, VOCABULARY) for _ in range(length)] for length in LENGTHS]
    return [*made, [*made[1], PADDING, PADDING]]


def save(kind: str, folder: Path) -> list[list[float]]:
    """Save the seeded model of this kind; what transformers says of the prompts, a probability a class."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.manual_seed(7)
    config = AutoConfig.for_model(kind, num_labels=CLASSES, **KINDS[kind])
    if hasattr(config, "initializer_range"):
        config.initializer_range = 0.2  # so that the classes differ
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").float().eval()
    model.save_pretrained(folder)
    rows = []
    for prompt in prompts():
        mask = [[int(token != PADDING) for token in prompt]]
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([prompt]), attention_mask=torch.tensor(mask)).logits[0]
        rows.append(logits.double().softmax(-1).tolist())
    return rows


if __name__ == "__main__":
    main()
