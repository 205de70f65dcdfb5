"""Histograms in: arrays of a device are counted there, large ones of the host by the encoder, small ones at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from tracking_core.errors import InvalidStepError, InvalidValueError
from tracking_core.intake.sink import Array, Sink
from tracking_core.on_device.arrays import is_device_array, local_view, tracing
from tracking_core.on_device.programs import histogram_words, read_histogram
from tracking_core.values import Histogram, to_axis, to_histogram, to_name
from tracking_core.values.kinds import HISTOGRAM
from tracking_core.values.scalars import flatten_scalars

COUNTED_AT_ONCE = 4096
"""Host arrays up to this size are counted into bins by the call; larger ones are copied, and counted by the encoder."""


class HistogramIntake(Sink):
    """Takes distributions in."""

    def log_histogram(
        self,
        name: str,
        values: Any,
        *,
        step: Any,
        step_axis: str = "step",
        wall_time: float | None = None,
        bins: int = 64,
    ) -> bool:
        """See `Tracker.log_histogram`; a mapping or tree of arrays gives one for each, named by its path."""
        name = to_name(name)
        if isinstance(values, Mapping):
            return self._tree(name, cast("Mapping[str, Any]", values), step, step_axis, wall_time, bins)
        if self._is_counted_there(values):
            return self._reduce([name], [values], step, step_axis, wall_time, bins)
        if not self._inline and _is_large(values, bins):
            copied = values.copy()

            def counted() -> dict[str, Any]:
                return HISTOGRAM.encode(to_histogram(copied, bins=bins, key=name), self._put)

            return self._named("histogram", name, counted, step, step_axis, wall_time, nbytes=copied.nbytes)
        fields = HISTOGRAM.encode(to_histogram(values, bins=bins, key=name), self._put)
        return self._named("histogram", name, lambda: fields, step, step_axis, wall_time, late=False)

    def _is_counted_there(self, values: Any) -> bool:
        return not self._inline and is_device_array(values) and not tracing()

    def _tree(
        self, name: str, tree: Mapping[str, Any], step: Any, step_axis: str, wall_time: float | None, bins: int
    ) -> bool:
        names: list[str] = []
        arrays: list[Any] = []
        taken = False
        for path, leaf in _leaves(tree):
            full = f"{name}/{path}"
            if self._is_counted_there(leaf):
                names.append(full)
                arrays.append(leaf)
                continue
            try:
                taken |= self.log_histogram(full, leaf, step=step, step_axis=step_axis, wall_time=wall_time, bins=bins)
            except InvalidStepError:
                raise
            except InvalidValueError as error:
                self._left_out(full, error)
        if names:
            taken |= self._reduce(names, arrays, step, step_axis, wall_time, bins)
        return taken

    def _reduce(
        self, names: list[str], values: list[Any], step: Any, step_axis: str, wall_time: float | None, bins: int
    ) -> bool:
        """Dispatch the counting of device arrays, all in one program, and write one event for each."""
        axis = to_axis(step_axis)
        step_arrays, read_step = self._take_step(step)
        kept: list[str] = []
        arrays: list[Any] = []
        for name, value in zip(names, values, strict=True):
            try:
                if not isinstance(value.dtype, np.dtype) or value.dtype.kind == "c" or not 1 <= bins <= 4096:
                    raise InvalidValueError(f"{name!r}: expected real numbers and 1 to 4096 bins, got {value.dtype}")  # noqa: TRY301
                arrays.append(local_view(value, name))
                kept.append(name)
            except InvalidValueError as error:
                self._left_out(name, error)
        if not arrays:
            return False
        for name, words in zip(kept, histogram_words(arrays, bins), strict=True):

            def fields(host: list[Array], *, name: str = name) -> dict[str, Any]:
                numbers = read_histogram(host[0])
                numbers.pop("count")
                histogram = Histogram.from_counts(numbers.pop("counts"), **numbers)
                event = {"axis": axis, "step": read_step(host[1:]), "name": name}
                return {**event, **HISTOGRAM.encode(histogram, self._put)}

            self._submit("histogram", name, [words, *step_arrays], fields, wall_time, (axis, step))
        return False


def _is_large(values: Any, bins: int) -> bool:
    """Whether an array is large, and nothing keeps it from being counted later."""
    return (
        isinstance(values, np.ndarray)
        and values.size > COUNTED_AT_ONCE
        and values.dtype.kind in "biufV"
        and type(bins) is int
        and 1 <= bins <= 4096
    )


def _leaves(tree: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(path, leaf) pairs of a tree: with JAX at hand of any that it knows, such as a Flax state."""
    import sys

    jax = sys.modules.get("jax")
    if jax is None:
        return list(flatten_scalars(tree))
    found: list[tuple[str, Any]] = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
        if isinstance(leaf, Mapping):
            # A mapping that JAX does not know.
            found += flatten_scalars(cast("Mapping[str, Any]", leaf), name)
        else:
            found.append((name, leaf))
    return found
