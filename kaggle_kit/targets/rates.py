"""Measured rates of a target's cards: `rates/TARGET.json` of the project, as `kit bench` writes it, else a shipped one.

    {"format": 1, "target": "offline-h200", "card": "sm_90", "cards": 1, "engine_cards": 1, "engine": "vllm 0.25.1",
     "model": {"layers": 60, "hidden": 7168, "intermediate": 20480, "heads": 56, "kv_heads": 8, "head_dim": 128,
               "quantisation": "awq"},
     "kernels": {"machete": 10700, "plain": 8530, "marlin": 4950}, "tokens_per_second": 10700,
     "trials": [{"rows": 512, "tokens": 309760}], "dense_flops": 6.06e14, "source": "how"}

`kernels` are prompt tokens a second of one engine on `engine_cards` cards: a build chooses the fastest exact one by
them. `dense_flops` is the rate of 16-bit weights in FLOP/s, where another model was measured too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kaggle_kit.errors import DataError, OutsideError
from kaggle_kit.outside import read_json
from kaggle_kit.places import inside
from kaggle_kit.runtime.architecture import Architecture
from kaggle_kit.runtime.kernels import Kernel
from kaggle_kit.suggest import first_problem

_SHIPPED = Path(__file__).parent / "rates"
FOLDER = "rates"
"""The project's folder of measured rates, one file a target."""
_Rate = Annotated[float, Field(gt=0, le=1e21, allow_inf_nan=False)]
_Count = Annotated[int, Field(gt=0, le=1_000_000_000)]
_MOST_BYTES = 4 << 20


class _Table(BaseModel):
    # What else a later `kit bench` tells is none of this reader's business.
    model_config = ConfigDict(frozen=True, extra="ignore")


class MeasuredModel(_Table):
    """The model that was measured, as far as its work depends on it."""

    layers: _Count
    hidden: _Count
    intermediate: _Count
    heads: _Count
    kv_heads: _Count
    head_dim: _Count
    quantisation: str | None = None

    def flops(self, tokens: float) -> float:
        """FLOP a token in prompts of so many tokens, in the layers."""
        sizes = self.model_dump(exclude={"quantisation"})
        shape = Architecture(name="", model_type="", family=None, vocabulary=1, tied=True, **sizes)
        return 2 * shape.layer_parameters + shape.attention_flops(tokens) / tokens


class MeasuredTrial(_Table):
    """Rows and tokens of one trial; both 0 where it failed."""

    rows: int = Field(default=0, ge=0, le=1_000_000_000_000)
    tokens: int = Field(default=0, ge=0, le=1_000_000_000_000_000)


class Rates(_Table):
    """What was measured on the cards of a target."""

    format: Literal[1]
    target: str
    card: str
    engine: str
    engine_cards: _Count = 1
    model: MeasuredModel
    kernels: dict[Kernel, _Rate]
    tokens_per_second: _Rate
    trials: tuple[MeasuredTrial, ...] = ()
    dense_flops: _Rate | None = None
    source: str | None = None

    @property
    def by_kernel(self) -> dict[str, float]:
        """`kernels`, as plans take them."""
        return {str(name): rate for name, rate in self.kernels.items()}

    @property
    def mean_tokens(self) -> float:
        """Tokens of a measured prompt; 600 where the trials do not tell."""
        rows = sum(trial.rows for trial in self.trials)
        return sum(trial.tokens for trial in self.trials) / rows if rows else 600.0

    def flops(self, kernel: str) -> float | None:
        """FLOP/s of one card with a 4-bit kernel, or with 16-bit weights ("dense"); None where it was not measured."""
        each = self.model.flops(self.mean_tokens) / self.engine_cards
        if kernel == "dense":
            return self.tokens_per_second * each if self.model.quantisation is None else self.dense_flops
        rate = self.by_kernel.get(kernel)
        return rate * each if rate is not None else None


def rates_path(target: str, *, project: Path | None = None) -> Path | None:
    """The file of a target's rates; None where nobody has measured it."""
    own = [inside(project, Path(FOLDER, f"{target}.json"))] if project else []
    return next((path for path in [*own, _SHIPPED / f"{target}.json"] if path.is_file()), None)


def load_rates(target: str, *, project: Path | None = None) -> Rates | None:
    """The measured rates of a target; None where there are none. Raises DataError for a file that is wrong."""
    path = rates_path(target, project=project)
    if path is None:
        return None
    try:
        return Rates.model_validate(read_json(path, most_bytes=_MOST_BYTES, follow=True))
    except OutsideError as error:
        raise DataError(f"{error}; measure the target again (kit bench)") from error
    except ValidationError as error:
        raise DataError(f"{path}: {first_problem(error, Rates)}; measure the target again (kit bench)") from error
