"""Moments, as seconds since the epoch: which ones can be kept."""

from __future__ import annotations

import math
from typing import Any

from tracking_core.errors import InvalidValueError

LATEST = 9_223_372_036.0
"""Seconds before and after 1970 that 64 bits of nanoseconds hold, as Arrow, pandas and NumPy count: 1677 to 2262."""


def to_seconds(time: Any) -> float:
    """A moment as it is recorded: rounded to microseconds.

    Raises:
        InvalidValueError: It is no number, or none that a backend or a column of times can hold.
    """
    try:
        seconds = float(time)
        if math.isfinite(seconds):
            seconds = round(seconds, 6)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidValueError(f"wall_time: expected seconds since the epoch, got {type(time).__name__}") from error
    if not -LATEST <= seconds <= LATEST:
        hint = "; are these milliseconds or nanoseconds?" if math.isfinite(seconds) else ""
        raise InvalidValueError(f"wall_time: expected seconds since the epoch, got {seconds:.10g}{hint}")
    return seconds
