"""Fewer points that draw the same picture.

tsdownsample (Rust, 10 MB), the best kept of the libraries for this, does not do it: MinMaxLTTB dropped the largest
value of all from 85 of 200 series of noise, MinMax keeps neither the first row nor the last, and where there is one
NaN in a bucket the variants for NaN give it in place of the extremes.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from tracking_core.errors import InvalidValueError

SMALLEST = 4
"""Room for the first, the last, the smallest and the largest."""


def kept_rows(value: np.ndarray[Any, np.dtype[np.float64]], n: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Which rows of a series to keep: the first, the last, and of every bucket of rows the smallest and the largest.

    The buckets hold equally many rows. NaN is neither small nor large; where values turn to NaN one row that is NaN is
    kept, so that a drawing shows the gap, as long as that takes no more than a quarter of the rows.

    Args:
        value: Array of shape `[N]`.
        n: How many rows to keep at most, 4 or more.

    Returns:
        Rising row numbers, at most `n`; all of them when `N <= n`.

    Raises:
        InvalidValueError: `n` is not an int, or is too small.
    """
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < SMALLEST:
        raise InvalidValueError(
            f"downsample: expected a number of points of {SMALLEST} or more (the first, the last, the smallest, the "
            f"largest), got {n!r:.80}"
        )
    length = len(value)
    if length <= n:
        return np.arange(length)
    nan = np.isnan(value)
    gaps = whole = np.empty(0, np.int64)
    if nan.any():
        whole = np.flatnonzero(~nan)
        starts = nan.copy()
        starts[1:] &= ~nan[:-1]
        gaps = np.flatnonzero(starts)
        if len(gaps) > (n - SMALLEST) // 4:
            gaps = gaps[np.linspace(0, len(gaps) - 1, (n - SMALLEST) // 4).astype(np.int64)]
        value = value[whole]
    buckets = min((int(n) - 2 - len(gaps)) // 2, len(value))
    bounds = [at * len(value) // buckets for at in range(buckets + 1)] if buckets else [0]
    chosen = [
        start + int(place)
        for start, end in pairwise(bounds)
        for place in (value[start:end].argmin(), value[start:end].argmax())
    ]
    extremes = np.array(chosen, np.int64)
    if len(whole):
        extremes = whole[extremes]
    return np.unique(np.concatenate([np.array([0, length - 1]), gaps, extremes]))
