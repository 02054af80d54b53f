"""Models with a head of classes on a card: kit's engine against transformers in float32, and over two cards.

    python3 benchmarks/gpu/heads.py --work /tmp/heads --out OUT [--cards 2]

Small seeded models as in benchmarks/score_heads.py in half and bfloat16; and a model of Yi-34B's layers in 4-bit AWQ,
over all the cards, whose head is made of three rows of its LM head: its classes must have these tokens' probabilities.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import alone

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TOKENS = (35, 36, 462)
KINDS = ("llama", "qwen2", "gemma2", "gemma3_text", "bert", "modernbert", "deberta-v2")
OPTIONS: dict[str, Any] = {"max_num_seqs": 16, "enforce_eager": True, "gpu_memory_utilization": 0.2}


def main() -> None:
    """Ask each in a process of its own, print what comes back, and write `heads.json`."""
    if sys.argv[1:2] == ["ask"]:
        ask(json.loads(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cards", type=int, default=1)
    parser.add_argument("--layers", type=int, default=8)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    found = [asked({"do": "small", "kind": kind, "work": str(given.work / kind)}) for kind in KINDS]
    plain, headed = given.work / "plain", given.work / "headed"
    big(plain, headed, given.layers)
    more = {"tensor_parallel_size": given.cards, "dtype": "half"}
    tokens = asked({"do": "big", "model": str(plain), "labels": TOKENS, "options": more})
    classes = asked({"do": "big", "model": str(headed), "labels": [0, 1, 2], "options": more})
    if "answers" in tokens and "answers" in classes:
        pairs = zip(tokens["answers"], classes["answers"], strict=True)
        apart = max(abs(x - y) for one, other in pairs for x, y in zip(one, other, strict=True))
        found.append({"kind": f"yi-34b's layers in AWQ, {given.cards} cards", "apart": apart})
    found += [tokens, classes]
    print(json.dumps(found[-3]), flush=True)
    (given.out / "heads.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


def big(plain: Path, headed: Path, layers: int) -> None:
    """The packed model, and the same with a head of three rows of its LM head."""
    from model34 import YI_34B, make
    from safetensors.torch import load_file, save_file

    from kaggle_kit.model.inspect import inspect_model, write_manifest

    make(plain, shape=YI_34B, layers=layers)
    shutil.copytree(plain, headed)
    index = json.loads((headed / "model.safetensors.index.json").read_text(encoding="utf-8"))
    first = headed / index["weight_map"]["lm_head.weight"]
    tensors = load_file(first)
    tensors["score.weight"] = tensors.pop("lm_head.weight")[list(TOKENS)].contiguous()
    save_file(tensors, first, metadata={"format": "pt"})
    index["weight_map"] = {name: file for name, file in index["weight_map"].items() if name != "lm_head.weight"}
    index["weight_map"]["score.weight"] = first.name
    (headed / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    config = json.loads((headed / "config.json").read_text(encoding="utf-8"))
    config |= {"architectures": ["LlamaForSequenceClassification"], "num_labels": 3}
    (headed / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_manifest(inspect_model(headed, manifest=False), name="demo")


def asked(job: dict[str, Any]) -> dict[str, Any]:
    """One question in a process of its own."""
    found, _ = alone.ask(__file__, job, seconds=100)
    print(json.dumps({"asked": job.get("kind", job.get("model")), **found}), flush=True)
    return found


def ask(job: dict[str, Any]) -> None:
    """The part in a process of its own."""
    from kaggle_kit.runtime.engine import score_all
    from kaggle_kit.runtime.engines import open_engine

    if job["do"] == "small":
        import score_heads

        found = small(job["kind"], Path(job["work"]), score_heads)
    else:
        prompts = [[3 + (7 * row + place) % 1900 for place in range(50 + 40 * row)] for row in range(8)]
        engine = open_engine(
            "vllm", Path(job["model"]), label_ids=job["labels"], longest=400, options=OPTIONS | job["options"]
        )
        answers = [[math.exp(value) for value in row.log_probabilities] for row in score_all(engine, prompts)]
        found = {"engine": engine.name, "answers": answers}
    alone.answer(found)


def small(kind: str, folder: Path, heads: Any) -> dict[str, Any]:
    """How far kit's engine is from transformers itself on the processor, in float32, over the seeded prompts."""
    reference = heads.save(kind, folder)
    architecture, reader, own = heads.reader_of(folder)
    own = own and OPTIONS | own
    apart, name = {}, ""
    for dtype in ("bfloat16", "float32") if kind.startswith("gemma") or not own else ("half", "bfloat16", "float32"):
        apart[dtype], name = heads.distance(reader, folder, reference, {**own, "dtype": dtype})
    return {"kind": architecture, "engine": name, "apart": apart}


if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT)]
    main()
