"""Makes `tests/demo/model`: a small Llama that has learned the demo task, quantised to AWQ.

    python -m venv /tmp/train && . /tmp/train/bin/activate
    pip install torch==2.13.0 transformers==4.51.3 tokenizers==0.21.4
    pip install accelerate==1.15.0 datasets==5.0.1 zstandard==0.25.0 setuptools wheel
    pip install --no-build-isolation --no-deps autoawq==0.2.9
    PYTHONPATH=. python tests/demo/train_model.py --work /tmp/demo-model --out tests/demo/model

One environment serves both steps, since AutoAWQ 0.2.9 ties transformers to 4.51.3. Everything is seeded,
but floating point sums differ between machines, so another machine makes a slightly different model.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rows
import task
import tokenizers
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from kaggle_kit.files import sha256_file, write_atomic
from kaggle_kit.runtime.tokenizers import ModelTokenizer, load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
VOCABULARY = 2048
BOS, EOS, PAD = "<s>", "</s>", "<pad>"
LETTERS = tuple(task.LABELS.values())
# Seeds of rows that no committed file has.
TRAIN_SEED = 1000
TOKENS_PER_STEP = 8192
PEAK_RATE = 1.5e-3
AWQ = {"zero_point": True, "q_group_size": 128, "w_bit": 4, "version": "GEMM"}


@dataclass(frozen=True)
class Example:
    """The token ids of one prompt, and the probabilities of A, B and tie that made its winner."""

    ids: tuple[int, ...]
    target: tuple[float, float, float]


@dataclass(frozen=True)
class Stage:
    """One step of the curriculum: short rows first."""

    name: str
    rows: int
    mean_chars: float
    budgets: tuple[int, ...]
    epochs: int


STAGES = (
    Stage("short", rows=4_000, mean_chars=260, budgets=(192, 256), epochs=2),
    Stage("usual", rows=5_000, mean_chars=700, budgets=(192, 256, 384, 512), epochs=1),
)


def make_tokenizer(folder: Path) -> ModelTokenizer:
    """Train the byte-level BPE on the task's own text and save it in the form every loader knows."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_tokenizer_texts(), trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "model_max_length": 2048,
        "clean_up_tokenization_spaces": False,
    }
    write_atomic(folder / "tokenizer_config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")
    return load_tokenizer(folder)


def _tokenizer_texts() -> Iterator[str]:
    for number in range(4_000):
        row = rows.make_row(number, seed=TRAIN_SEED - 1, split="train", mean_chars=400)
        text = "\n\n".join(turn for name in task.SHARES for turn in task.turns(row[name]))
        yield text.encode("utf-8", "replace").decode()
        yield task.TEMPLATE + random.Random(number).choice(LETTERS)


def label_ids(tokenizer: ModelTokenizer) -> list[int]:
    """The token of each label where the model says it; fails where one is not a single token."""
    plain = tokenizer.encode(task.TEMPLATE)
    found = [tokenizer.encode(task.TEMPLATE + label) for label in LETTERS]
    assert all(ids[:-1] == plain for ids in found), found
    assert len({ids[-1] for ids in found}) == len(LETTERS), found
    return [ids[-1] for ids in found]


def exchanged(row: dict[str, Any]) -> dict[str, Any]:
    """The row with A and B exchanged."""
    return row | {"response_a": row["response_b"], "response_b": row["response_a"]}


def make_examples(stage: Stage, *, tokenizer: ModelTokenizer, seed: int) -> list[Example]:
    """The stage's rows and, for each, the same row with A and B exchanged."""
    rng = random.Random(seed)
    examples = []
    for number in range(stage.rows):
        row = rows.make_row(number, seed=seed, split="train", mean_chars=stage.mean_chars)
        a, b, tie = rows.probabilities(row)
        budget = rng.choice(stage.budgets)
        for version, target in ((row, (a, b, tie)), (exchanged(row), (b, a, tie))):
            prompt = task.prompt_of(version, tokenizer=tokenizer, budget=budget)
            examples.append(Example(prompt.token_ids, target))
    return examples


def batches(examples: list[Example], rng: random.Random) -> list[list[Example]]:
    """Examples of like length together, about TOKENS_PER_STEP tokens each, in random order."""
    ordered = sorted(examples, key=lambda e: (len(e.ids) // 16, rng.random()))
    made: list[list[Example]] = [[]]
    for example in ordered:
        if (len(made[-1]) + 1) * len(example.ids) > TOKENS_PER_STEP:
            made.append([])
        made[-1].append(example)
    rng.shuffle(made)
    return made


def label_logits(model: LlamaForCausalLM, batch: list[list[int]], *, pad: int) -> torch.Tensor:
    """The logits, over the vocabulary, of the token after each prompt: (prompts, vocabulary)."""
    longest = max(map(len, batch))
    # Padding on the right needs no mask: a causal model's earlier places never see it.
    padded = torch.tensor([ids + [pad] * (longest - len(ids)) for ids in batch])
    last = torch.tensor([len(ids) - 1 for ids in batch])
    hidden = model.model(input_ids=padded, use_cache=False).last_hidden_state
    return model.lm_head(hidden[torch.arange(len(batch)), last]).float()


def new_model(tokenizer_size: int) -> LlamaForCausalLM:
    """A small Llama whose linear layers suit 4-bit kernels: inputs a multiple of 128, outputs of 64."""
    config = LlamaConfig(
        vocab_size=tokenizer_size,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        initializer_range=0.04,
    )
    return LlamaForCausalLM(config)


def train(model: LlamaForCausalLM, *, tokenizer: ModelTokenizer, seed: int) -> None:
    """Teach the label token alone, towards the probabilities that drew the winners, which are less noisy."""
    labels = label_ids(tokenizer)
    rng = random.Random(seed)
    plan: list[list[Example]] = []
    for place, stage in enumerate(STAGES):
        examples = make_examples(stage, tokenizer=tokenizer, seed=TRAIN_SEED + place)
        mean = sum(len(e.ids) for e in examples) / len(examples)
        for _ in range(stage.epochs):
            plan += batches(examples, rng)
        print(f"{stage.name}: {len(examples)} prompts of {mean:.0f} tokens, to step {len(plan)}", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.02)
    warmup = 60
    begun, seen, total = time.monotonic(), 0, 0.0
    model.train()
    for step, batch in enumerate(plan):
        rate = min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / len(plan))) + 0.01)
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * rate
        targets = torch.tensor([e.target for e in batch])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = label_logits(model, [list(e.ids) for e in batch], pad=2)
        loss = -(targets * functional.log_softmax(logits, -1)[:, labels]).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen, total = seen + len(batch), total + loss.item() * len(batch)
        if (step + 1) % 25 == 0:
            took = time.monotonic() - begun
            print(f"step {step + 1}/{len(plan)}  loss {total / seen:.4f}  {took:.0f} s", flush=True)
            seen, total = 0, 0.0
    model.eval()


def read_sample() -> tuple[list[dict[str, str]], list[int]]:
    """The committed test rows and the place of each row's winner."""
    with (HERE / "data" / "test.csv").open(encoding="utf-8", newline="") as stream:
        test = list(csv.DictReader(stream))
    with (HERE / "data" / "solution.csv").open(encoding="utf-8", newline="") as stream:
        winners = [[row[name] for name in task.LABELS].index("1") for row in csv.DictReader(stream)]
    return test, winners


@torch.no_grad()
def evaluate(model: LlamaForCausalLM, *, tokenizer: ModelTokenizer) -> dict[str, float]:
    """Log loss over the committed test rows, label mass, and the swapped pass's mean difference."""
    test, winners = read_sample()
    labels = label_ids(tokenizer)
    both = []
    mass = 0.0
    for exchange in (False, True):
        found = []
        for row in test:
            view = exchanged(row) if exchange else row
            ids = list(task.prompt_of(view, tokenizer=tokenizer).token_ids)
            chances = label_logits(model, [ids], pad=2).softmax(-1)[0, labels]
            mass += float(chances.sum()) / len(test) / 2
            found.append((chances / chances.sum()).tolist())
        both.append(found)
    straight = both[0]
    back = [[b, a, tie] for a, b, tie in both[1]]
    mean = [[(x + y) / 2 for x, y in zip(p, q, strict=True)] for p, q in zip(straight, back, strict=True)]
    return {
        "log_loss": rows.log_loss(straight, winners),
        "log_loss_swap_averaged": rows.log_loss(mean, winners),
        "swap_difference": sum(abs(p[0] - q[0]) for p, q in zip(straight, back, strict=True)) / len(test),
        "label_mass": mass,
        "bayes": rows.log_loss([rows.probabilities(row) for row in test], winners),
    }


def quantise(source: Path, out: Path, *, tokenizer: ModelTokenizer) -> None:
    """AWQ, calibrated on the task's own prompts."""
    from awq import AutoAWQForCausalLM
    from transformers import PreTrainedTokenizerFast

    model = AutoAWQForCausalLM.from_pretrained(str(source), device_map="cpu", safetensors=True)
    usual = Stage("calibration", rows=128, mean_chars=700, budgets=(512,), epochs=1)
    prompts = [list(e.ids) for e in make_examples(usual, tokenizer=tokenizer, seed=TRAIN_SEED + 50)]
    model.quantize(
        PreTrainedTokenizerFast(tokenizer_file=str(source / "tokenizer.json"), eos_token=EOS, pad_token=PAD),
        quant_config=AWQ,
        calib_data=prompts,
        max_calib_samples=len(prompts),
        max_calib_seq_len=512,
    )
    model.save_quantized(str(out))
    halve(out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(source / name, out / name)


def halve(folder: Path) -> None:
    """Store in fp16 what AutoAWQ left in fp32 (embeddings, norms), and say so in config.json."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = {k: v.half() if v.is_floating_point() else v for k, v in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)
    for name, changes in (
        ("config.json", {"torch_dtype": "float16", "use_cache": True}),
        ("generation_config.json", {"do_sample": False}),
    ):
        told = json.loads((folder / name).read_text(encoding="utf-8")) | changes
        write_atomic(folder / name, json.dumps(told, indent=2, sort_keys=True) + "\n")


def dequantised(folder: Path) -> LlamaForCausalLM:
    """The AWQ checkpoint with its 4-bit weights written out again in full, in fp32."""
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    config = LlamaConfig.from_pretrained(folder)
    del config.quantization_config
    packed = ("qweight", "qzeros", "scales")
    state = {name: tensor.float() for name, tensor in tensors.items() if not name.endswith(packed)}
    for name in [k.removesuffix(".qweight") for k in tensors if k.endswith(".qweight")]:
        weight, zero = (_unpack(tensors[f"{name}.{part}"]) for part in ("qweight", "qzeros"))
        scale = tensors[f"{name}.scales"].float()
        spread = [t.repeat_interleave(AWQ["q_group_size"], dim=0) for t in (zero, scale)]
        state[f"{name}.weight"] = ((weight - spread[0]) * spread[1]).T.contiguous()
    model = LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    assert set(missing) <= {"lm_head.weight"}, missing
    model.tie_weights()
    return model.eval()


def _unpack(packed: torch.Tensor) -> torch.Tensor:
    """Eight 4-bit numbers out of each int32, in the order of AutoAWQ's GEMM packing."""
    shifts = torch.tensor([0, 16, 4, 20, 8, 24, 12, 28])
    return ((packed[..., None] >> shifts) & 15).flatten(-2).float()


def write_manifest(folder: Path) -> None:
    """`manifest.json`: the name, size and SHA-256 of each file of the model."""
    names = sorted(path.name for path in folder.iterdir() if path.name != "manifest.json")
    files = []
    for name in names:
        path = folder / name
        files.append({"path": name, "sha256": sha256_file(path), "size": path.stat().st_size})
    manifest = {"files": files, "kind": "model", "name": "demo", "version": 1}
    write_atomic(folder / "manifest.json", json.dumps(manifest, indent=2, sort_keys=True) + "\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train and quantise the demo model.")
    parser.add_argument("--work", type=Path, required=True, help="folder for the fp32 model")
    parser.add_argument("--out", type=Path, required=True, help="folder for the AWQ model")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only-quantise", action="store_true", help="the model is in --work already")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    begun = time.monotonic()
    if args.only_quantise:
        tokenizer = load_tokenizer(args.work)
    else:
        tokenizer = make_tokenizer(args.work)
        print(f"labels {dict(zip(LETTERS, label_ids(tokenizer), strict=True))}")
        model = new_model(VOCABULARY)
        train(model, tokenizer=tokenizer, seed=args.seed)
        model.save_pretrained(args.work)
        print(f"fp32, {time.monotonic() - begun:.0f} s: {evaluate(model, tokenizer=tokenizer)}", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    quantise(args.work, args.out, tokenizer=tokenizer)
    write_manifest(args.out)
    print(f"AWQ, {time.monotonic() - begun:.0f} s: {evaluate(dequantised(args.out), tokenizer=tokenizer)}")


if __name__ == "__main__":
    main()
