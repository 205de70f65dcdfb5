"""`wandb.Histogram`: of a sequence of numbers, or of what `numpy.histogram` returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracking_core.values.arrays import is_on_device
from tracking_core.values.histograms import Histogram as BaseHistogram

if TYPE_CHECKING:
    from tracking_core.runs.run import Run


class Histogram:
    """A distribution, as W&B's class of this name takes it. What is none is refused when it is logged.

    Args:
        sequence: Numbers of any shape. They are counted at once; those on a device are counted there when it is logged.
        np_histogram: Counts and edges instead, as `numpy.histogram` returns them.
        num_bins: Number of bins, 1 to 4096.

    Example:
        >>> Histogram([1, 2, 2, 3], num_bins=2).histogram
        [1, 3]
    """

    def __init__(self, sequence: Any = None, np_histogram: Any = None, num_bins: int = 64) -> None:
        self._value, self._bins = sequence, num_bins
        try:
            if np_histogram is not None:
                # A text, which nobody takes for numbers, where it is not of the form that it must have.
                self._value = np_histogram if len(np_histogram) == 2 else f"np_histogram={np_histogram!r:.100}"
                self._value = BaseHistogram(*np_histogram)
            elif not is_on_device(sequence):
                self._value = BaseHistogram.from_values(sequence, bins=num_bins)
        except (ValueError, TypeError):
            # A training goes on: whoever logs it says what is wrong.
            return

    @property
    def histogram(self) -> list[Any]:
        """How many values each bin holds."""
        return self._counted().counts.tolist()

    @property
    def bins(self) -> list[float]:
        """The edges of the bins."""
        return self._counted().edges.tolist()

    def log_to(self, run: Run, name: str, step: Any) -> None:
        """Record it.

        Args:
            run: The run.
            name: Its name.
            step: Its step.
        """
        run.log_histogram(name, self._value, step=step, bins=self._bins)

    def _counted(self) -> BaseHistogram:
        from tracking_core.values.histograms import to_histogram

        return to_histogram(self._value, bins=self._bins, key="wandb.Histogram")
