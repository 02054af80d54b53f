"""One checkpoint in the number formats that an engine can read it in: what each costs and gains.

    python3 benchmarks/gpu/forms.py /dev/shm/forms --layers 12            # 34B-shaped, random weights, on the card
    python3 benchmarks/gpu/forms.py /dev/shm/demo --model tests/demo/full # a checkpoint in full precision

Below OUT a folder a form, named as in `FORMS`. Weights are rounded to the nearest number of each form, without any
calibration, so that forms with the same weights and other activations differ by the activations alone: `w4a16`,
`w4a8-int8` and `w4a8-fp8` share the same tensors.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]

from model34 import DEMO, GROUP, YI_34B, finish, unquantised

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOUR = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": GROUP}
_TOKEN = {"num_bits": 8, "symmetric": True, "strategy": "token", "dynamic": True}
_CHANNEL = {"num_bits": 8, "symmetric": True, "strategy": "channel"}
FORMS: dict[str, dict[str, Any] | None] = {
    "w16a16": None,
    "w4a16": {"format": "pack-quantized", "weights": _FOUR, "input_activations": None},
    "w4a8-int8": {"format": "pack-quantized", "weights": _FOUR, "input_activations": None},
    "w4a8-fp8": {
        "format": "pack-quantized",
        "weights": _FOUR,
        "input_activations": {**_TOKEN, "type": "float"},
    },
    "w8a8-int8": {
        "format": "int-quantized",
        "weights": {**_CHANNEL, "type": "int"},
        "input_activations": {**_TOKEN, "type": "int"},
    },
    "w8a8-fp8": {
        "format": "float-quantized",
        "weights": {**_CHANNEL, "type": "float"},
        "input_activations": {**_TOKEN, "type": "float"},
    },
}
"""Each form in compressed-tensors' words. `w4a8-int8` is `w4a16` read with VLLM_MARLIN_INPUT_DTYPE=int8."""


def rounded(form: str, name: str, weight: Any) -> dict[str, Any]:
    """The tensors of a layer's `weight` (outputs, inputs), which lies on the card or not, in a form."""
    import torch

    outputs, inputs = weight.shape
    if form == "w16a16":
        return {f"{name}.weight": weight.half().cpu()}
    if form.startswith("w8a8"):
        most = 127.0 if form.endswith("int8") else 448.0
        scale = (weight.float().abs().amax(1, keepdim=True) / most).clamp_min(1e-9)
        kind = torch.int8 if form.endswith("int8") else torch.float8_e4m3fn
        whole = (weight.float() / scale).clamp(-most, most)
        whole = whole.round() if form.endswith("int8") else whole
        return {f"{name}.weight": whole.to(kind).cpu(), f"{name}.weight_scale": scale.half().cpu()}
    groups = weight.float().reshape(outputs, inputs // GROUP, GROUP)
    scale = (groups.abs().amax(2) / 7.5).clamp_min(1e-6).half()
    numbers = (groups / scale.float().unsqueeze(2)).round().clamp(-8, 7).reshape(outputs, inputs // 8, 8).int() + 8
    packed = torch.zeros(outputs, inputs // 8, dtype=torch.int64, device=weight.device)
    for place in range(8):
        packed |= numbers[:, :, place].long() << (4 * place)
    return {
        f"{name}.weight_packed": packed.where(packed < 2**31, packed - 2**32).int().cpu(),
        f"{name}.weight_scale": scale.cpu(),
        f"{name}.weight_shape": torch.tensor([outputs, inputs]),
    }


def random_layers(layers: int) -> Iterator[tuple[list[tuple[str, Any]], dict[str, Any]]]:
    """A 34B-shaped model, a layer at a time: the matrices by name, and what stays as it is."""
    import torch

    torch.manual_seed(1)
    for number in range(layers):
        matrices = [
            (f"model.layers.{number}.{part}.{name}", torch.randn(outputs, inputs, device="cuda") / inputs**0.5)
            for part, sizes in YI_34B.matrices.items()
            for name, (inputs, outputs) in sizes.items()
        ]
        yield matrices, unquantised(YI_34B, number)


def checkpoint_layers(model: Path) -> Iterator[tuple[list[tuple[str, Any]], dict[str, Any]]]:
    """A checkpoint in full precision, all of it at once."""
    from safetensors.torch import load_file

    tensors = load_file(model / "model.safetensors")
    names = [name for name in tensors if name.endswith("proj.weight")]
    matrices = [(name.removesuffix(".weight"), tensors.pop(name)) for name in names]
    yield matrices, tensors


def make(out: Path, *, model: Path | None, layers: int, forms: list[str]) -> None:
    """Write the forms below `out`."""
    from safetensors.torch import save_file

    source = checkpoint_layers(model) if model else random_layers(layers)
    index: dict[str, dict[str, str]] = {form: {} for form in forms}
    for form in forms:
        shutil.rmtree(out / form, ignore_errors=True)
        (out / form).mkdir(parents=True)
    for number, (matrices, whole) in enumerate(source):
        for form in forms:
            tensors = dict(whole)
            for name, weight in matrices:
                tensors |= rounded(form, name, weight)
            file = f"model-{number:05d}.safetensors"
            save_file(tensors, out / form / file, metadata={"format": "pt"})
            index[form].update(dict.fromkeys(tensors, file))
    for form in forms:
        finish(out / form, config_of(form, model=model, layers=layers), index[form], tokenizer=model or DEMO)


def config_of(form: str, *, model: Path | None, layers: int) -> dict[str, Any]:
    """The config.json of a form."""
    config = YI_34B.config(layers=layers)
    if model:
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    if (scheme := FORMS[form]) is None:
        return config
    group = {"targets": ["Linear"], "weights": scheme["weights"], "input_activations": scheme["input_activations"]}
    told = {"quant_method": "compressed-tensors", "quantization_status": "compressed", "format": scheme["format"]}
    return {**config, "quantization_config": {**told, "config_groups": {"group_0": group}, "ignore": ["lm_head"]}}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, help="a checkpoint in full precision, in one file of weights")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--forms", nargs="+", choices=sorted(FORMS), default=sorted(FORMS))
    args = parser.parse_args()
    make(args.out, model=args.model, layers=args.layers, forms=args.forms)
    return 0


if __name__ == "__main__":
    sys.exit(main())
