"""One temperature and the labels' biases, fitted by log loss.

The answer's scores are s · ln p + b: s is 1 / temperature. The loss is convex in s and b together, so that Newton's
method finds its one minimum in a few steps, and nothing of scipy is needed. Columns that a swapped pass exchanges
share a bias: what is fitted treats them alike by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Whole = NDArray[np.int64]

LEAST_SCALE, MOST_SCALE = 0.05, 20.0
"""Where answers are all right or all wrong, the best scale has no end: temperatures stay within 0.05 and 20."""
_STEPS = 200
_ENOUGH = 1e-13
"""Nats: what a further step would gain."""


@dataclass(frozen=True)
class Fit:
    """What is done to log-probabilities: times `scale`, plus `bias` [K] (the first column's is 0)."""

    scale: float
    bias: Array

    @property
    def temperature(self) -> float:
        """By which log-probabilities are divided."""
        return 1 / self.scale


def orbits(columns: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The groups of columns that share a bias: each pair that is exchanged, and each other column alone."""
    partner = dict(pairs) | {other: one for one, other in pairs}
    groups = [sorted({k, partner.get(k, k)}) for k in range(columns)]
    return [group for k, group in enumerate(groups) if group[0] == k]


@dataclass(frozen=True)
class Pull:
    """A pull toward the point `to`, worth as many `rows` as it says: `curvature` is a row's own there."""

    to: Array
    curvature: Array
    rows: float


class Problem:
    """The rows of a fit: `values` [N, K], `outcome` [N], and which columns share a bias (none without `biased`)."""

    def __init__(self, values: Array, outcome: Whole, *, pairs: Sequence[tuple[int, int]], biased: bool) -> None:
        import numpy as np

        rows, columns = values.shape
        free = orbits(columns, pairs)[1:] if biased else []
        self._design = np.zeros((rows, columns, 1 + len(free)))
        self._design[:, :, 0] = values
        for place, group in enumerate(free, start=1):
            self._design[:, group, place] = 1
        self._true = self._design[np.arange(rows), outcome]
        self.pull: Pull | None = None
        self.size = 1 + len(free)
        self._biases = np.zeros((columns, len(free)))
        for place, group in enumerate(free):
            self._biases[group, place] = 1

    def start(self) -> Array:
        """Temperature 1 and no bias."""
        import numpy as np

        return np.eye(1, self.size).ravel()

    def loss(self, point: Array) -> float:
        """The mean log loss, and what the pull adds."""
        import numpy as np

        scores = self._design @ point
        top = scores.max(axis=1)
        logs = top + np.log(np.exp(scores - top[:, None]).sum(axis=1))
        found = float(np.mean(logs - self._true @ point))
        if self.pull is None:
            return found
        away = point - self.pull.to
        return found + self._pull_weight() * 0.5 * float(away @ self.pull.curvature @ away)

    def slope(self, point: Array) -> tuple[Array, Array]:
        """The gradient and the curvature of `loss`."""
        import numpy as np

        scores = self._design @ point
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares = odds / odds.sum(axis=1, keepdims=True)
        mean = np.einsum("nk,nkp->np", shares, self._design)
        gradient = (mean - self._true).mean(axis=0)
        spread = self._design - mean[:, None, :]
        curvature = np.einsum("nk,nkp,nkq->pq", shares, spread, spread, optimize=True) / len(shares)
        if self.pull is not None:
            gradient = gradient + self._pull_weight() * self.pull.curvature @ (point - self.pull.to)
            curvature = curvature + self._pull_weight() * self.pull.curvature
        return gradient, curvature

    def fit_of(self, point: Array) -> Fit:
        """The fit that a point stands for."""
        return Fit(float(point[0]), self._biases @ point[1:])

    def _pull_weight(self) -> float:
        return self.pull.rows / len(self._true) if self.pull else 0.0


def minimise(problem: Problem) -> Array:
    """The point with the least loss, its scale within the limits: Newton's method with steps halved where needed."""
    import numpy as np

    point = problem.start()
    loss = problem.loss(point)
    for _ in range(_STEPS):
        gradient, curvature = problem.slope(point)
        free = np.ones(len(point), dtype=bool)
        free[0] = not ((point[0] <= LEAST_SCALE and gradient[0] > 0) or (point[0] >= MOST_SCALE and gradient[0] < 0))
        step = np.zeros(len(point))
        if free.any():
            block = curvature[np.ix_(free, free)] + 1e-12 * np.eye(int(free.sum()))
            step[free] = -np.linalg.lstsq(block, gradient[free], rcond=None)[0]
        if -float(gradient @ step) < _ENOUGH:
            break
        for halvings in range(40):
            tried = point + step * 0.5**halvings
            tried[0] = min(max(tried[0], LEAST_SCALE), MOST_SCALE)
            if (found := problem.loss(tried)) < loss:
                break
        else:
            break
        point, loss = tried, found
    return point


def fit(values: Array, outcome: Whole, *, pairs: Sequence[tuple[int, int]] = (), biased: bool = False) -> Fit:
    """The temperature, and with `biased` the biases, that give [N, K] log-probabilities the least log loss."""
    problem = Problem(values, outcome, pairs=pairs, biased=biased)
    return problem.fit_of(minimise(problem))
