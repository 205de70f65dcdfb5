"""One scalar over its steps, as arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracking_core.base.text import counted


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """The values of one scalar over one step axis.

    polars, pandas, DuckDB and pyarrow read it directly, through Arrow's C stream interface.

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
        """The value of the last row: the row with the largest step, or of raw rows the one that was logged last.

        Raises:
            IndexError: The series is empty.
        """
        return float(self.value[-1])

    def resolved(self) -> Series:
        """One row per step, sorted by step: of rows with the same step, the last one stays."""
        step = self.step
        if len(step) < 2 or bool(np.all(step[1:] > step[:-1])):
            return self
        # Stable: the last of equal steps is the one that was logged last.
        order = np.argsort(step, kind="stable")
        ordered = step[order]
        return self._rows(order[np.append(ordered[1:] != ordered[:-1], True)])

    def downsample(self, n: int) -> Series:
        """The same curve with fewer of its rows: the first, the last, and the extremes between them.

        The smallest and the largest value of every bucket of rows stay, so that no spike is lost. NaN is neither; one
        row of every gap stays if there is room.

        Args:
            n: How many rows to keep at most, 4 or more.

        Raises:
            InvalidValueError: `n` is not an int, or is too small.

        Example:
            >>> zeros = np.zeros(1000)
            >>> series = Series("loss", "step", np.arange(1000), zeros, zeros)
            >>> len(series.downsample(100)) <= 100
            True
        """
        from tracking_core.store.downsampling import kept_rows

        kept = kept_rows(self.value, n)
        return self if len(kept) == len(self) else self._rows(kept)

    def to_arrow(self) -> Any:
        """A `pyarrow.Table` with the columns step (int64), time and value (float64); nothing is copied.

        Each field has the name of the scalar and the axis in its metadata, as `name` and `axis`. NaN stays NaN.

        Raises:
            MissingDependencyError: pyarrow is not installed.
        """
        from tracking_core.store.arrow import to_table

        return to_table(self)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The rows as an Arrow stream (the PyCapsule interface of Arrow); see `to_arrow`."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def _rows(self, rows: np.ndarray[Any, Any]) -> Series:
        return Series(self.name, self.axis, self.step[rows], self.time[rows], self.value[rows])

    def _repr_html_(self) -> str:
        from tracking_core.values.notebook import series_html

        shown = self.resolved().downsample(1000)
        return series_html(self.name, self.axis, len(self), shown.step, shown.value)

    def __repr__(self) -> str:
        return f"Series({self.name!r}, axis={self.axis!r}, {counted(len(self), 'value')})"
