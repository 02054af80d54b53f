"""What is fitted by log loss: one temperature and the labels' biases of a model, or the weights of several models.

The answer's scores are linear in what is fitted, and so the loss is convex: Newton's method finds its one minimum in a
few steps, and nothing of scipy is needed.

Of one model they are s · ln p + b, where s is 1 / temperature; columns that a swapped pass exchanges share a bias, so
that what is fitted treats them alike. Of several models they are the weighted sum of ln p, as the runtime averages
them; weights are 0 or more and sum to 1. A member whose weight would fall below 0 is dropped, and comes back if its
weight would help.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.evaluation.answers import normalise

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from kaggle_kit.evaluation.metrics import Array, Whole


LEAST_SCALE, MOST_SCALE = 0.05, 20.0
"""Where answers are all right or all wrong, the best scale has no end: temperatures stay within 0.05 and 20."""
_STEPS = 200
_ENOUGH = 1e-13
"""Nats: what a further step would gain."""
_WEIGHT_STEPS = 500
_ENOUGH_FOR_WEIGHTS = 1e-12
_HALVINGS = 40


def _mean_loss(design: Array, true: Array, point: Array) -> float:
    """The mean log loss of the scores `design` [N, K, P] · `point` [P]; `true` [N, P] is `design` of what came true."""
    import numpy as np

    scores = design @ point
    top = scores.max(axis=1)
    logs = top + np.log(np.exp(scores - top[:, None]).sum(axis=1))
    return float(np.mean(logs - true @ point))


def _mean_slope(design: Array, true: Array, point: Array) -> tuple[Array, Array]:
    """The gradient [P] and the curvature [P, P] of `_mean_loss`."""
    import numpy as np

    scores = design @ point
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares = odds / odds.sum(axis=1, keepdims=True)
    mean = np.einsum("nk,nkp->np", shares, design)
    spread = design - mean[:, None, :]
    curvature = np.einsum("nk,nkp,nkq->pq", shares, spread, spread, optimize=True) / len(shares)
    return (mean - true).mean(axis=0), curvature


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
        loss = _mean_loss(self._design, self._true, point)
        if self.pull is None:
            return loss
        away = point - self.pull.to
        return loss + self._pull_weight() * 0.5 * float(away @ self.pull.curvature @ away)

    def slope(self, point: Array) -> tuple[Array, Array]:
        """The gradient and the curvature of `loss`."""
        gradient, curvature = _mean_slope(self._design, self._true, point)
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
        for halvings in range(_HALVINGS):
            tried = point + step * 0.5**halvings
            tried[0] = min(max(tried[0], LEAST_SCALE), MOST_SCALE)
            if (less := problem.loss(tried)) < loss:
                break
        else:
            break
        point, loss = tried, less
    return point


def fit(values: Array, outcome: Whole, *, pairs: Sequence[tuple[int, int]] = (), biased: bool = False) -> Fit:
    """The temperature, and with `biased` the biases, that give [N, K] log-probabilities the least log loss."""
    problem = Problem(values, outcome, pairs=pairs, biased=biased)
    return problem.fit_of(minimise(problem))


def mix(members: Array, weights: Array) -> Array:
    """[N, K]: the weighted mean in log space of `members` [M, N, K]; `weights` [M] sum to 1."""
    import numpy as np

    return normalise(np.tensordot(weights, members, axes=1))


def best_weights(members: Array, outcome: Whole) -> Array:
    """[M]: the weights with the least mean log loss of `members` [M, N, K] against `outcome` [N]."""
    import numpy as np

    count, rows = members.shape[:2]
    design = np.moveaxis(members, 0, -1)
    true = design[np.arange(rows), outcome]
    weights = np.full(count, 1 / count)
    used = np.ones(count, dtype=bool)

    for _ in range(_WEIGHT_STEPS):
        gradient, curvature = _mean_slope(design, true, weights)
        step = _weight_step(gradient, curvature, used)
        if -float(gradient @ step) < _ENOUGH_FOR_WEIGHTS:
            # Of those that are left out, one whose slope is below the common one would help.
            common = float(gradient[used].mean())
            waiting = np.where(used, np.inf, gradient - common)
            best = int(waiting.argmin())
            if waiting[best] > -1e-9:
                break
            used[best] = True
            continue
        moved = _next_weights(design, true, weights, step)
        if moved is None:
            break
        weights = moved
        used &= weights > 0
    return np.asarray(weights / weights.sum())


def _weight_step(gradient: Array, curvature: Array, used: NDArray[np.bool_]) -> Array:
    """Newton's step of the members in use, along which the weights' sum stays."""
    import numpy as np

    place = np.flatnonzero(used)
    size = len(place)
    system = np.zeros((size + 1, size + 1))
    system[:size, :size] = curvature[np.ix_(place, place)] + 1e-10 * np.eye(size)
    system[:size, size] = system[size, :size] = 1
    solved = np.linalg.lstsq(system, np.append(-gradient[place], 0.0), rcond=None)[0]
    step = np.zeros(len(gradient))
    step[place] = solved[:size]
    return step


def _next_weights(design: Array, true: Array, weights: Array, step: Array) -> Array | None:
    """The weights after as much of the step as keeps them above 0 and makes the loss less; None if none does."""
    import numpy as np

    falling = step < 0
    far = float(np.min(weights[falling] / -step[falling], initial=1.0))
    before = _mean_loss(design, true, weights)
    for halvings in range(_HALVINGS):
        tried = weights + step * far * 0.5**halvings
        tried[tried < 1e-12] = 0.0
        tried /= tried.sum()
        if _mean_loss(design, true, tried) < before:
            return tried
    return None
