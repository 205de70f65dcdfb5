"""Histograms in: what is on a device is counted there or by the encoder, as is much; little on the host at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from tracking_core.errors import InvalidStepError, InvalidValueError
from tracking_core.intake.resolver import resolver
from tracking_core.intake.sink import Array, Sink
from tracking_core.on_device import reducing
from tracking_core.on_device.arrays import is_device_array, local_view, tracing
from tracking_core.on_device.programs import programs, read_histogram
from tracking_core.values import Histogram, to_histogram, to_name
from tracking_core.values.histograms import is_ready_made
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
        if _is_tree(values):
            return self._tree(name, values, step, step_axis, wall_time, bins)
        if self._is_counted_later(values):
            return self._reduce(name, values, step, step_axis, wall_time, bins)
        where = (step, step_axis, wall_time)
        apart = self._take_apart(name, values)
        if apart is not None:

            def arrived(host: list[Array]) -> dict[str, Any]:
                return HISTOGRAM.encode(to_histogram(apart.whole(host), bins=bins, key=name), self._put)

            return self._named("histogram", name, arrived, *where, arrays=apart.arrays, late=False)
        if not self._inline and _is_large(values, bins):
            copied = values.copy()

            def counted(_: list[Array]) -> dict[str, Any]:
                return HISTOGRAM.encode(to_histogram(copied, bins=bins, key=name), self._put)

            return self._named("histogram", name, counted, *where, nbytes=copied.nbytes)
        fields = HISTOGRAM.encode(to_histogram(values, bins=bins, key=name), self._put)
        return self._named("histogram", name, lambda _: fields, *where, late=False)

    def _is_counted_later(self, values: Any) -> bool:
        return not self._inline and is_device_array(values) and not tracing()

    def _tree(
        self, name: str, tree: Mapping[str, Any], step: Any, step_axis: str, wall_time: float | None, bins: int
    ) -> bool:
        taken = False
        for path, leaf in _leaves(tree):
            full = f"{name}/{path}"
            try:
                taken |= self.log_histogram(full, leaf, step=step, step_axis=step_axis, wall_time=wall_time, bins=bins)
            except InvalidStepError:
                raise
            except InvalidValueError as error:
                self._left_out(full, error)
        return taken

    def _reduce(self, name: str, values: Any, step: Any, step_axis: str, wall_time: float | None, bins: int) -> bool:
        """Dispatch the counting of a device array, or a copy of it that the encoder counts."""
        if not isinstance(values.dtype, np.dtype) or values.dtype.kind == "c" or not 1 <= bins <= 4096:
            raise InvalidValueError(f"{name!r}: expected real numbers and 1 to 4096 bins, got {values.dtype}")
        array = local_view(values, name)
        found, reduced = reducing.take(array, programs().histogram, bins, has_room=resolver().may_copy)

        def fields(host: list[Array]) -> dict[str, Any]:
            if not reduced:
                return HISTOGRAM.encode(to_histogram(host[0], bins=bins, key=name), self._put)
            numbers = read_histogram(host[0])
            numbers.pop("count")
            histogram = Histogram.from_counts(numbers.pop("counts"), **numbers)
            return HISTOGRAM.encode(histogram, self._put)

        held = 0 if reduced else array.nbytes
        where = (step, step_axis, wall_time)
        return self._named(
            "histogram", name, fields, *where, arrays=[found], nbytes=held, is_copy=True, late=not reduced
        )


def _is_tree(values: Any) -> bool:
    return isinstance(values, Mapping) and not is_ready_made(values)


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
