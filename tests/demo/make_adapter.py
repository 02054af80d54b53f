"""Trains a small LoRA adapter for the demo model with peft, in the environment of `kit model quantize`.

    PYTHONPATH=. PYTHON-OF-THAT-ENVIRONMENT tests/demo/make_adapter.py BASE OUT

BASE is the demo model in full precision. A few steps are enough: what is tested is the way of the weights, not what
they learned.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import torch
import train_model
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SEED = 4242
STEPS = 6
RATE = 2e-3


def main() -> None:
    """Train it and save it as peft does."""
    base, out = map(Path, sys.argv[1:])
    torch.manual_seed(SEED)
    model = LlamaForCausalLM.from_pretrained(base, torch_dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=TARGETS))
    tokenizer = train_model.load_tokenizer(base)
    labels = train_model.label_ids(tokenizer)
    stage = train_model.Stage("adapter", rows=120, mean_chars=700, budgets=(256, 512), epochs=1)
    examples = train_model.make_examples(stage, tokenizer=tokenizer, seed=SEED)
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=RATE)
    for batch in train_model.batches(examples, random.Random(SEED))[:STEPS]:
        logits = train_model.label_logits(model, [list(e.ids) for e in batch], pad=2)
        targets = torch.tensor([e.target for e in batch])
        loss = -(targets * logits.log_softmax(-1)[:, labels]).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"loss {loss.item():.4f}")
    adapted.save_pretrained(out)


if __name__ == "__main__":
    main()
