"""transformers as the engine: the slow reference in full precision, on a CPU or one GPU.

It answers "does vLLM, or do 4 bits, cost accuracy?". AWQ checkpoints are written out again in full here, since
transformers' own way needs a GPU's kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError, UsageError
from kaggle_kit.runtime.checkpoint import read_config
from kaggle_kit.runtime.engine import (
    LabelScores,
    check_labels,
    check_lengths,
    class_scores,
    engine_error,
    renormalise,
)
from kaggle_kit.runtime.packing_methods import read_quantisation
from kaggle_kit.runtime.quantisation import Quantisation, packing_table, quant_method
from kaggle_kit.runtime.score_head import read_score_head

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

DTYPES = {"float32": "float32", "float16": "float16", "half": "float16", "bfloat16": "bfloat16"}
_OPTIONS = {"dtype": "float32", "device": "auto", "batch_tokens": 8192}
_PARTS = ("qweight", "qzeros", "scales")
# Where in an int32 AutoAWQ's GEMM format keeps the eight 4-bit numbers of eight neighbouring outputs: the first
# output's bits begin at 0, the second's at 16, and so on (AWQ_ORDER = 0 2 4 6 1 3 5 7 in awq/utils/packing_utils.py).
_SHIFTS = (0, 16, 4, 20, 8, 24, 12, 28)


class _Transformers:
    """A model of `transformers` and how prompts are shared out into batches."""

    _auto = ""
    """The class that finds the model's own."""

    def __init__(self, model: Path, *, label_ids: Sequence[int], longest: int, options: Mapping[str, Any]) -> None:
        """Load `model` for prompts of at most `longest` tokens.

        `options`: `dtype` ("float32", "float16" or "half", "bfloat16"), `device` ("auto", "cpu", "cuda", "cuda:1"),
        `batch_tokens` (tokens of one batch, padding included). Raises UsageError for any other option or value,
        ModelError for a checkpoint that cannot be read, EngineMemoryError if it does not fit.
        """
        import transformers

        check_labels(label_ids)
        chosen = check_options(options)
        self._label_ids = list(label_ids)
        self._longest = longest
        self._batch_tokens = int(chosen["batch_tokens"])
        self.name = f"transformers {transformers.__version__} ({chosen['dtype']})"
        try:
            self._model = _load(self._auto, model, dtype=chosen["dtype"], device=chosen["device"])
        except Exception as error:
            if known := engine_error(error, doing="loading the model"):
                raise known from error
            raise

    def stream(self, chunks: Iterable[Sequence[Sequence[int]]]) -> Iterator[list[LabelScores]]:
        """One list of answers a chunk. Raises EngineMemoryError if a batch does not fit."""
        return map(self._score, chunks)

    def _score(self, prompts: Sequence[Sequence[int]]) -> list[LabelScores]:
        check_lengths(prompts, longest=self._longest)
        scores: dict[int, LabelScores] = {}
        for batch in batches([len(prompt) for prompt in prompts], batch_tokens=self._batch_tokens):
            try:
                answers = self._answers([prompts[place] for place in batch])
            except Exception as error:
                if known := engine_error(error, doing=f"scoring {len(batch)} prompts"):
                    raise known from error
                raise
            scores.update(zip(batch, answers, strict=True))
        return [scores[place] for place in range(len(prompts))]

    def _answers(self, prompts: Sequence[Sequence[int]]) -> list[LabelScores]:
        """The answers to one batch."""
        raise NotImplementedError


class TransformersEngine(_Transformers):
    """A causal language model of `transformers`; all logits of the last place are seen, so the label mass is exact."""

    _auto = "AutoModelForCausalLM"

    def _answers(self, prompts: Sequence[Sequence[int]]) -> list[LabelScores]:
        import torch

        longest = max(map(len, prompts))
        # Padding stands on the left, so that every prompt's last token is in the last place; masked and not counted
        # in the positions, it changes nothing.
        pads = [longest - len(prompt) for prompt in prompts]
        device = self._model.device
        ids = torch.tensor([[0] * pad + list(prompt) for pad, prompt in zip(pads, prompts, strict=True)], device=device)
        mask = torch.tensor([[0] * pad + [1] * (longest - pad) for pad in pads], device=device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        with torch.inference_mode():
            logits = self._model(
                input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=1
            ).logits[:, -1]
            chances = logits.double().log_softmax(-1)[:, self._label_ids]
        return [renormalise(row, with_mass=True) for row in chances.tolist()]


class TransformersHead(_Transformers):
    """A model of `transformers` that answers with its own classification head; `label_ids` are numbers of classes."""

    _auto = "AutoModelForSequenceClassification"

    def __init__(self, model: Path, *, label_ids: Sequence[int], longest: int, options: Mapping[str, Any]) -> None:
        """Load `model` for prompts of at most `longest` tokens, as `TransformersEngine` does."""
        self._head = read_score_head(read_config(model))
        super().__init__(model, label_ids=label_ids, longest=longest, options=options)
        self._padding = self._model.config.get_text_config().pad_token_id
        if self._padding is None:
            # Without padding the model finds no last token in a batch of several prompts.
            self._batch_tokens = 1

    def _answers(self, prompts: Sequence[Sequence[int]]) -> list[LabelScores]:
        import torch

        # Padding stands on the right: an encoder looks at the first place, a decoder at the last that is no padding.
        prompts = [self._head.seen(prompt) if self._head else prompt for prompt in prompts]
        longest, device = max(map(len, prompts)), self._model.device
        pads = [longest - len(prompt) for prompt in prompts]
        rows = [[*prompt, *[self._padding] * pad] for pad, prompt in zip(pads, prompts, strict=True)]
        mask = [[1] * len(prompt) + [0] * pad for pad, prompt in zip(pads, prompts, strict=True)]
        with torch.inference_mode():
            logits = self._model(
                input_ids=torch.tensor(rows, device=device), attention_mask=torch.tensor(mask, device=device)
            ).logits.double()
        return [class_scores(row, self._label_ids) for row in logits.tolist()]


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with their defaults. Raises UsageError for one that the engine does not know."""
    if unknown := sorted(set(options) - set(_OPTIONS)):
        raise UsageError(f"the engine transformers has no option {unknown[0]!r}; it has {', '.join(_OPTIONS)}")
    chosen = _OPTIONS | dict(options)
    if chosen["dtype"] not in DTYPES:
        raise UsageError(f"dtype = {chosen['dtype']!r}: the engine transformers takes {', '.join(DTYPES)}")
    if not isinstance(chosen["batch_tokens"], int) or chosen["batch_tokens"] < 1:
        raise UsageError(f"batch_tokens = {chosen['batch_tokens']!r}: a whole number above 0 should be here")
    return chosen | {"dtype": DTYPES[chosen["dtype"]]}


def batches(lengths: Sequence[int], *, batch_tokens: int) -> list[list[int]]:
    """The places of prompts of these `lengths`, like lengths together, at most `batch_tokens` with padding.

    A prompt that is longer than that alone is a batch of its own. The longest come first: what does not fit into
    the memory is seen at once.
    """
    groups: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        if groups and lengths[groups[-1][0]] * (len(groups[-1]) + 1) <= batch_tokens:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


def unpack(packed: NDArray[np.int32]) -> NDArray[np.uint8]:
    """(n, m) int32 of AutoAWQ's GEMM format as (n, 8m) numbers from 0 to 15."""
    import numpy as np

    shifts = np.array(_SHIFTS, dtype=np.int32)
    numbers = (packed[..., None] >> shifts) & 15
    return numbers.reshape(*packed.shape[:-1], packed.shape[-1] * 8).astype(np.uint8)


def dequantise(
    qweight: NDArray[np.int32], qzeros: NDArray[np.int32], scales: NDArray[Any], *, group_size: int
) -> NDArray[np.float32]:
    """The (outputs, inputs) float32 weight: (number - zero) * scale, each group of inputs with its own two.

    `qweight` is (inputs, outputs / 8), `qzeros` (groups, outputs / 8), `scales` (groups, outputs). A `group_size` of
    -1 means one group. Raises ModelError if the shapes do not agree.
    """
    import numpy as np

    inputs, outputs = qweight.shape[0], qweight.shape[1] * 8
    size = inputs if group_size == -1 else group_size
    groups = inputs // size if size > 0 else 0
    if groups * size != inputs or qzeros.shape != (groups, outputs // 8) or scales.shape != (groups, outputs):
        raise ModelError(
            f"an AWQ layer of {inputs} inputs in groups of {group_size} has the shapes {qweight.shape}, "
            f"{qzeros.shape} and {scales.shape}: it is not in the gemm format"
        )
    numbers = unpack(qweight).reshape(groups, size, outputs).astype(np.float32)
    numbers -= unpack(qzeros)[:, None].astype(np.float32)
    numbers *= scales[:, None].astype(np.float32)
    weight: NDArray[np.float32] = np.ascontiguousarray(numbers.reshape(inputs, outputs).T)
    return weight


def _load(auto: str, model: Path, *, dtype: str, device: str) -> Any:
    import torch
    import transformers

    finder = getattr(transformers, auto)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = getattr(torch, dtype)
    quantisation = _quantisation(model)
    config = transformers.AutoConfig.from_pretrained(model, trust_remote_code=False)
    more: dict[str, Any] = {"dtype": kind}
    if getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None:
        # The default one leaves the cap out (integrations/sdpa_attention.py, 5.19).
        more["attn_implementation"] = "eager"
    if quantisation is None:
        loaded, state = finder.from_pretrained(
            model, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **more
        )
        if missing := sorted(state["missing_keys"]):
            # transformers fills them with random numbers, and only warns.
            raise ModelError(f"the weights of {model} lack {missing[0]}, which its config.json needs")
    else:
        del config.quantization_config
        loaded = finder.from_config(config, **more)
        tensors = _full_state(model, group_size=quantisation.group_size or -1, dtype=kind)
        missing, unexpected = loaded.load_state_dict(tensors, strict=False)
        tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
        if unexpected or set(missing) - tied:
            wrong = [*unexpected, *sorted(set(missing) - tied)]
            raise ModelError(f"the tensors of {model} are not those of its config.json, beginning with {wrong[0]}")
        loaded.tie_weights()
    return loaded.eval().to(device)


def _quantisation(model: Path) -> Quantisation | None:
    """The AWQ settings in config.json, or None for a checkpoint in full. Raises ModelError for any other kind."""
    config = read_config(model)
    if packing_table(config) is None:
        return None
    packing = read_quantisation(config)
    if packing is None or packing.method != "awq" or not packing.zero_points:
        raise ModelError(
            f"{model / 'config.json'}: quantization_config says {quant_method(config)}; the engine transformers reads "
            f"full checkpoints and AWQ's gemm format of 4 bits with zero points"
        )
    return packing


def _full_state(model: Path, *, group_size: int, dtype: Any) -> dict[str, Any]:
    """All tensors of an AWQ checkpoint, its packed layers written out in full."""
    import torch
    from safetensors import safe_open

    state: dict[str, Any] = {}
    packed: dict[str, dict[str, Any]] = {}
    for path in sorted(model.glob("*.safetensors")):
        with safe_open(path, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118  not a mapping
                layer, _, part = key.rpartition(".")
                if part not in _PARTS:
                    state[key] = tensors.get_tensor(key).to(dtype)
                    continue
                parts = packed.setdefault(layer, {})
                parts[part] = tensors.get_tensor(key).numpy()
                if len(parts) == len(_PARTS):
                    whole = dequantise(**packed.pop(layer), group_size=group_size)
                    state[f"{layer}.weight"] = torch.from_numpy(whole).to(dtype)
    if packed:
        layer, parts = next(iter(packed.items()))
        raise ModelError(f"{model}: the layer {layer} has only {', '.join(sorted(parts))} of {', '.join(_PARTS)}")
    if not state:
        raise ModelError(f"{model} holds no .safetensors file")
    return state
