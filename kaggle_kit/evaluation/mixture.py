"""The weights of several models, averaged in log space as the runtime does, that give the least log loss.

The answer is proportional to the product of the members' probabilities, each to the power of its weight; the weights
are 0 or more and sum to 1. The loss is convex in them: Newton's method on the members in use, which drops a member
whose weight would fall below 0 and takes one back whose weight would help, finds the one minimum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kaggle_kit.evaluation.answers import normalise

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Whole = NDArray[np.int64]

_STEPS = 500
_ENOUGH = 1e-12


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
    for _ in range(_STEPS):
        gradient, curvature = _slope(design, true, weights)
        step = _step(gradient, curvature, used)
        if -float(gradient @ step) < _ENOUGH:
            # Of those that are left out, one whose slope is below the common one would help.
            common = float(gradient[used].mean())
            waiting = np.where(used, np.inf, gradient - common)
            best = int(waiting.argmin())
            if waiting[best] > -1e-9:
                break
            used[best] = True
            continue
        moved = _walk(design, true, weights, step)
        if moved is None:
            break
        weights = moved
        used &= weights > 0
    return np.asarray(weights / weights.sum())


def _loss(design: Array, true: Array, weights: Array) -> float:
    import numpy as np

    scores = design @ weights
    top = scores.max(axis=1)
    return float(np.mean(top + np.log(np.exp(scores - top[:, None]).sum(axis=1)) - true @ weights))


def _slope(design: Array, true: Array, weights: Array) -> tuple[Array, Array]:
    import numpy as np

    scores = design @ weights
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares = odds / odds.sum(axis=1, keepdims=True)
    mean = np.einsum("nk,nkm->nm", shares, design)
    spread = design - mean[:, None, :]
    return (mean - true).mean(axis=0), np.einsum("nk,nkp,nkq->pq", shares, spread, spread, optimize=True) / len(true)


def _step(gradient: Array, curvature: Array, used: NDArray[np.bool_]) -> Array:
    """Newton's step of the members in use, along which the weights' sum stays."""
    import numpy as np

    place = np.flatnonzero(used)
    size = len(place)
    system = np.zeros((size + 1, size + 1))
    system[:size, :size] = curvature[np.ix_(place, place)] + 1e-10 * np.eye(size)
    system[:size, size] = system[size, :size] = 1
    found = np.linalg.lstsq(system, np.append(-gradient[place], 0.0), rcond=None)[0]
    step = np.zeros(len(gradient))
    step[place] = found[:size]
    return step


def _walk(design: Array, true: Array, weights: Array, step: Array) -> Array | None:
    """The weights after as much of the step as keeps them above 0 and makes the loss less; None where none does."""
    import numpy as np

    falling = step < 0
    far = float(np.min(weights[falling] / -step[falling], initial=1.0))
    before = _loss(design, true, weights)
    for halvings in range(40):
        tried = weights + step * far * 0.5**halvings
        tried[tried < 1e-12] = 0.0
        tried /= tried.sum()
        if _loss(design, true, tried) < before:
            return tried
    return None
