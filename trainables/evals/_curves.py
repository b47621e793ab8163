"""A curve through scattered points: local regression (LOWESS, Cleveland 1979) and quartiles of a moving window."""

from __future__ import annotations

import numpy as np

Floats = np.ndarray
SHARE = 0.1  # of the points, in a window or a neighbourhood
BLOCK = 2**22  # values at once
NEAR, FAR = 0.001, 0.999  # of the bandwidth, where weights are 1 and 0


def quartiles(y: Floats, share: float = SHARE) -> Floats:
    """(3, n): lower quartile, median and upper quartile in a window around each of y (n,), fewer at the ends.

    The window has `share` of the points, w; of an even w one more of them is before a point than behind it.
    """
    n, shares = len(y), (0.25, 0.5, 0.75)
    width = max(1, int(share * n))
    before = width // 2
    whole = np.quantile(np.lib.stride_tricks.sliding_window_view(y, width), shares, axis=1)
    cut = [*range(before), *range(n - width + before + 1, n)]  # points whose window goes beyond an end
    found = np.empty((len(shares), n))
    found[:, before : before + whole.shape[1]] = whole
    for k in cut:
        found[:, k] = np.quantile(y[max(0, k - before) : k - before + width], shares)
    return found


def lowess(x: Floats, y: Floats, share: float = SHARE, robust: int = 1) -> Floats:
    """(n,) the smoothed y at each of x (n,), which rises; lines through the nearest `share` of the points.

    Args:
        robust: how often points far from the curve are given less weight, and it is fitted again.
    """
    n = len(x)
    nearest = min(max(int(share * n + 1e-10), 2), n)
    begin = _windows(x, nearest)
    weight, smooth = np.ones(n), y.astype(float)
    for _ in range(robust + 1):
        smooth = np.concatenate(
            [_lines(x, y, weight, begin[at : at + step], at, nearest) for step in [max(1, BLOCK // nearest)]
             for at in range(0, n, step)]
        )  # fmt: skip
        weight = _bisquare(y - smooth)
    return smooth


def _windows(x: Floats, nearest: int) -> np.ndarray:
    """(n,) where the neighbourhood of each point begins: of two that are equally wide the first."""
    begin, left = np.empty(len(x), int), 0
    for k, value in enumerate(x):
        while left + nearest < len(x) and value - x[left] > x[left + nearest] - value:
            left += 1
        begin[k] = left
    return begin


def _lines(x: Floats, y: Floats, robust: Floats, begin: np.ndarray, first: int, nearest: int) -> Floats:
    """The smoothed values of points first, first + 1, ..., whose neighbourhoods begin at `begin`."""
    at = x[first : first + len(begin), None]
    rows = begin[:, None] + np.arange(nearest)
    near, values = x[rows], y[rows]
    apart = np.abs(near - at)
    width = apart.max(1, keepdims=True)
    share = np.divide(apart, width, out=np.zeros_like(apart), where=width > 0)
    tricube = np.where(share <= NEAR, 1.0, np.where(share >= FAR, 0.0, (1 - share**3) ** 3))
    weight = tricube * robust[rows]
    total = weight.sum(1, keepdims=True)
    weight = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)
    mean = (weight * near).sum(1, keepdims=True)
    spread = (weight * (near - mean) ** 2).sum(1, keepdims=True)
    reach = x[-1] - x[0]
    sloped = np.sqrt(spread) > NEAR * reach
    lean = np.divide(at - mean, spread, out=np.zeros_like(mean), where=sloped)
    found = (weight * (1 + lean * (near - mean)) * values).sum(1)
    return np.where(total[:, 0] > 0, found, y[first : first + len(begin)])


def _bisquare(residual: Floats) -> Floats:
    """The weight of each point after its distance from the curve (n,)."""
    apart = np.abs(residual)
    limit = 6 * np.median(apart)
    if limit == 0:
        return np.ones_like(apart)
    share = apart / limit
    return np.where(share <= NEAR, 1.0, np.where(share >= FAR, 0.0, (1 - share**2) ** 2))
