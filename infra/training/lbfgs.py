"""Limited-memory BFGS (Nocedal and Wright, "Numerical Optimization", algorithms 7.4 and 3.1)."""

from collections import deque
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

_MEMORY: Final = 10
_SUFFICIENT: Final = 1e-4
_BACKTRACKS: Final = 20


def minimise(
    loss: Callable[[Vector], tuple[float, Vector]], start: Vector, *, steps: int, tolerance: float = 1e-6
) -> Vector:
    """A local minimum.

    Args:
        loss: value and gradient.
        start: where to begin.
        steps: most iterations.
        tolerance: relative decrease at which to stop.
    """
    pairs: deque[tuple[Vector, Vector]] = deque(maxlen=_MEMORY)
    point, (value, gradient) = start, loss(start)
    for _ in range(steps):
        direction = -_scaled(gradient, pairs)
        slope, length = float(gradient @ direction), 1.0
        for _ in range(_BACKTRACKS):
            moved = point + length * direction
            new_value, new_gradient = loss(moved)
            if new_value <= value + _SUFFICIENT * length * slope:
                break
            length /= 2
        else:
            return point
        step, change = moved - point, new_gradient - gradient
        if float(step @ change) > 0:
            pairs.append((step, change))
        settled = value - new_value < tolerance * max(1.0, abs(value))
        point, value, gradient = moved, new_value, new_gradient
        if settled:
            return point
    return point


def _scaled(gradient: Vector, pairs: deque[tuple[Vector, Vector]]) -> Vector:
    """The two-loop recursion: the gradient times the approximate inverse Hessian."""
    if not pairs:
        return gradient / max(1.0, float(np.abs(gradient).sum()))
    result = gradient.copy()
    shares = []
    for step, change in reversed(pairs):
        share = float(step @ result) / float(step @ change)
        shares.append(share)
        result -= share * change
    step, change = pairs[-1]
    result *= float(step @ change) / float(change @ change)
    for (step, change), share in zip(pairs, reversed(shares), strict=True):
        result += step * (share - float(change @ result) / float(step @ change))
    return result
