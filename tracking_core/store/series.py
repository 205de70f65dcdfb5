"""One scalar over its steps, as arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """The values of one scalar, in the order in which they were logged.

    Args:
        name: Name of the scalar.
        axis: The step axis.
        step: int64 array of shape `[N]`.
        time: float64 array of shape `[N]`, seconds since the epoch.
        value: float64 array of shape `[N]`.

    Example:
        >>> Series("loss", "step", np.array([0, 1]), np.array([0.0, 1.0]), np.array([2.0, 1.5])).last
        1.5
    """

    name: str
    axis: str
    step: np.ndarray[Any, np.dtype[np.int64]]
    time: np.ndarray[Any, np.dtype[np.float64]]
    value: np.ndarray[Any, np.dtype[np.float64]]

    def __len__(self) -> int:
        return len(self.step)

    def __iter__(self) -> Iterator[tuple[int, float]]:
        """(step, value) pairs."""
        return iter(zip(self.step.tolist(), self.value.tolist(), strict=True))

    @property
    def last(self) -> float:
        """The value that was logged last.

        Raises:
            IndexError: The series is empty.
        """
        return float(self.value[-1])

    def __repr__(self) -> str:
        return f"Series({self.name!r}, axis={self.axis!r}, {len(self)} values)"
