"""Histograms: counts over edges, and separate counts of values that fit into no bin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from tracking_core.base.text import counted
from tracking_core.errors import InvalidValueError
from tracking_core.values.arrays import describe, is_on_device, to_host
from tracking_core.values.scalars import to_scalar

MAX_BINS = 4096
_REDUCED = ("min", "max", "sum", "sumsq", "num")


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """A distribution as counts between edges.

    Args:
        counts: `[B]` non-negative numbers; ints, or floats for weighted counts.
        edges: `[B + 1]` finite, increasing floats.
        nan: How many values were NaN.
        posinf: How many were +Inf.
        neginf: How many were -Inf.
        min: Smallest finite value; NaN if unknown or if there is none.
        max: Largest finite value.
        mean: Mean of the finite values.
        std: Standard deviation (population) of the finite values.

    Any of them may be on a device: they are read when it is recorded, and `log_histogram` does not wait for that.

    Raises:
        InvalidValueError: The lengths do not fit, the edges do not increase, or counts are negative. What is on a
            device is looked at when it is recorded.

    Example:
        >>> Histogram([1, 2], [0.0, 0.5, 1.0]).count
        3
    """

    counts: np.ndarray[Any, Any]
    edges: np.ndarray[Any, Any]
    nan: int = 0
    posinf: int = 0
    neginf: int = 0
    min: float = math.nan
    max: float = math.nan
    mean: float = math.nan
    std: float = math.nan

    def __post_init__(self) -> None:
        if not self.is_normal:
            return
        counts, edges = to_host(self.counts, "counts", copy=True), to_host(self.edges, "edges", copy=True)
        # Adding 0.0 turns -0.0 into 0.0: what is equal must hash alike.
        edges = edges.astype(np.float64) + 0.0
        if counts.ndim != 1 or edges.ndim != 1 or len(edges) != len(counts) + 1 or not len(counts):
            raise InvalidValueError(
                f"a histogram needs counts of shape [B] and edges of [B + 1], got {counts.shape} and {edges.shape}"
            )
        if not np.all(np.isfinite(edges)) or np.any(edges[1:] <= edges[:-1]):
            raise InvalidValueError("the edges of a histogram must be finite and increase")
        if counts.dtype.kind not in "iub":
            counts = counts.astype(np.float64)
            if np.all(np.isfinite(counts)) and np.all(counts == np.floor(counts)) and np.all(counts < 2**53):
                counts = counts.astype(np.int64)
        else:
            counts = counts.astype(np.int64)
        if not np.all(np.isfinite(counts)) or np.any(counts < 0):
            raise InvalidValueError("the counts of a histogram must be finite and not negative")
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "edges", edges)

    @property
    def is_normal(self) -> bool:
        """Whether nothing of it is on a device."""
        return not any(map(is_on_device, self.data))

    @property
    def data(self) -> tuple[Any, ...]:
        """What it was made from, in the order of the arguments."""
        return (self.counts, self.edges, *self._numbers())

    def with_data(self, data: tuple[Any, ...]) -> Histogram:
        """The histogram that a device counted, with its data on the host; see `ready_made`."""
        counts, edges, nan, posinf, neginf, low, high, mean, std = data
        found = ready_made({"counts": counts, "edges": edges, "min": low, "max": high})
        lost = {"nan": int(nan) + found.nan, "posinf": int(posinf), "neginf": int(neginf)}
        return Histogram(
            found.counts, found.edges, **lost, min=found.min, max=found.max, mean=float(mean), std=float(std)
        )

    @property
    def count(self) -> int | float:
        """How many finite values it holds."""
        return self.counts.sum().item()

    @classmethod
    def from_values(cls, values: Any, *, bins: int = 64, key: str = "values") -> Histogram:
        """Count values into equal bins between the smallest and the largest finite one.

        Args:
            values: Real numbers of any shape.
            bins: Number of bins, 1 to 4096.
            key: The name for error messages.
        """
        if not isinstance(bins, (int, np.integer)) or not 1 <= bins <= MAX_BINS:
            raise InvalidValueError(f"{key!r}: bins must be an int between 1 and {MAX_BINS}, got {bins!r:.80}")
        flat = to_host(values, key).reshape(-1)
        with np.errstate(all="ignore"):
            kept = flat.astype(np.float64)
        finite = np.isfinite(kept)
        lost = {"nan": 0, "posinf": 0, "neginf": 0}
        if not finite.all():
            lost["nan"] = int(np.isnan(kept).sum())
            lost["posinf"] = int(np.isposinf(kept).sum())
            lost["neginf"] = int(np.isneginf(kept).sum())
            kept = kept[finite]
        if not kept.size:
            return cls(np.zeros(bins, np.int64), np.linspace(0.0, 1.0, bins + 1), **lost)
        low, high = float(kept.min()), float(kept.max())
        counts, edges = _count(kept, low, high, int(bins))
        # Powers of two scale exactly, and keep sums and squares of the largest and smallest floats representable.
        peak = max(-low, high)
        scale = 0 if peak == 0 or 1e-100 < peak < 1e100 else math.frexp(peak)[1]
        scaled = np.ldexp(kept, -scale) if scale else kept
        mean, std = (float(np.ldexp(number, scale)) for number in (scaled.mean(), scaled.std()))
        if not low < mean < high:
            # By rounding alone.
            mean, std = (low, 0.0) if low == high else (min(max(mean, low), high), std)
        return cls(counts, edges, **lost, min=low, max=high, mean=mean, std=std)

    @classmethod
    def from_counts(
        cls,
        counts: np.ndarray[Any, Any],
        low: float,
        high: float,
        *,
        mean: float,
        std: float,
        nan: int = 0,
        posinf: int = 0,
        neginf: int = 0,
    ) -> Histogram:
        """A histogram over equal bins from `low` to `high`, as a device has counted them.

        Args:
            counts: `[B]` ints; all in the first bin where `low == high`.
            low: Smallest finite value; larger than `high` where there is none.
            high: Largest finite value.
            mean: Mean of the finite values.
            std: Their standard deviation.
            nan: How many values were NaN.
            posinf: How many were +Inf.
            neginf: How many were -Inf.
        """
        lost = {"nan": nan, "posinf": posinf, "neginf": neginf}
        bins = len(counts)
        if not counts.sum():
            return cls(np.zeros(bins, np.int64), np.linspace(0.0, 1.0, bins + 1), **lost)
        places, edges = _count(np.array([low, high], np.float64), low, high, bins)
        if len(places) != bins or low == high:
            # One value, or fewer representable numbers than bins: all go where the first is.
            where = int(np.argmax(places > 0))
            counts = np.bincount([where], [counts.sum()], minlength=len(places)).astype(np.int64)
        return cls(counts, edges, **lost, min=low, max=high, mean=mean, std=std)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        mine, theirs = self._numbers(), other._numbers()
        return (
            np.array_equal(self.counts, other.counts)
            and np.array_equal(self.edges, other.edges)
            and all(a == b or (a != a and b != b) for a, b in zip(mine, theirs, strict=True))  # noqa: PLR0124 - NaN equals NaN
        )

    def __hash__(self) -> int:
        return hash((self.counts.tobytes(), self.edges.tobytes()))

    def _repr_svg_(self) -> str:
        from tracking_core.values.notebook import histogram_svg

        notes = [f"{self.count:,.6g} values" if isinstance(self.count, float) else counted(self.count, "value")]
        if not math.isnan(self.mean):
            notes.append(f"mean {self.mean:.6g}")
        lost = {"NaN": self.nan, "+Inf": self.posinf, "-Inf": self.neginf}
        notes += [f"{number:,} {name}" for name, number in lost.items() if number]
        return histogram_svg(self.counts, self.edges, notes)

    def _numbers(self) -> tuple[float, ...]:
        return (self.nan, self.posinf, self.neginf, self.min, self.max, self.mean, self.std)


def _count(
    kept: np.ndarray[Any, Any], low: float, high: float, bins: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Counts and edges; a spread too small or too large for `bins` equal bins gets wider or fewer bins."""
    if low == high:
        margin = max(0.5, abs(low) * 1e-6)
        if math.isinf(high + margin) or math.isinf(low - margin):
            margin = -margin
            low, high = sorted((low, low + margin * math.copysign(1, low)))
        else:
            low, high = low - margin, high + margin
    # The difference of the largest floats, and what numpy makes of it on the way, must not overflow.
    scale = 4.0 if high - low > 1e300 else 1.0
    edges = np.clip(np.linspace(low / scale, high / scale, bins + 1) * scale, low, high)
    edges[0], edges[-1] = low, high
    if np.any(edges[1:] <= edges[:-1]):
        # Fewer representable numbers than bins: keep the edges that differ.
        edges = np.unique(edges)
    counts, edges = np.histogram(kept, bins=edges)
    return counts.astype(np.int64), edges


def is_ready_made(values: Any) -> bool:
    """Whether a value is a mapping that `ready_made` takes, and no tree of arrays."""
    if not isinstance(values, Mapping):
        return False
    given = cast("Mapping[Any, Any]", values)
    if not {"counts", "edges"} <= given.keys() <= {"counts", "edges", *_REDUCED}:
        return False
    shapes = [getattr(given[name], "shape", None) or (len(given[name]),) for name in ("counts", "edges")]
    return len(shapes[0]) == len(shapes[1]) == 1 and shapes[1][0] == shapes[0][0] + 1


def ready_made(values: Mapping[str, Any]) -> Histogram:
    """A histogram that a step has reduced by itself, as inside `jit`.

    Args:
        values: `counts` `[B]` and `edges` `[B + 1]`; and, where they are known, numbers about what was counted: `min`,
            `max`, `sum`, `sumsq` (the sum of the squares) and `num` (how many).

    Returns:
        The histogram. Where an edge is not finite, as when NaN was among the values, nothing can be said of the others:
        all are counted as NaN, at least one. Bins without a width go into the one that follows.

    Raises:
        InvalidValueError: The lengths do not fit, edges decrease, or counts are negative.
    """
    counts, edges = to_host(values["counts"], "counts"), to_host(values["edges"], "edges").astype(np.float64)
    number, total, squares = (_number(values.get(name)) for name in ("num", "sum", "sumsq"))
    if edges.ndim == 1 and len(edges) > 1 and not np.all(np.isfinite(edges)):
        many = number if math.isfinite(number) else float(counts.sum())
        bins = len(edges) - 1
        return Histogram(np.zeros(bins, np.int64), np.linspace(0.0, 1.0, bins + 1), nan=max(1, int(many)))
    if edges.ndim == counts.ndim == 1 and len(edges) == len(counts) + 1 and np.any(edges[1:] == edges[:-1]):
        counts, edges = _with_widths(counts, edges)
    many = number if number > 0 else float(counts.sum())
    with np.errstate(all="ignore"):
        mean = float(np.float64(total) / many)
        std = float(np.sqrt(np.maximum(np.float64(squares) / many - mean * mean, 0.0)))
    low, high = _number(values.get("min")), _number(values.get("max"))
    return Histogram(counts, edges, min=low, max=high, mean=mean, std=std)


def _number(value: Any) -> float:
    return math.nan if value is None else float(to_scalar(value, "a number of a histogram"))


def _with_widths(
    counts: np.ndarray[Any, Any], edges: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Counts and edges without bins that have no width; what was in them goes into the next."""
    kept, where = np.unique(edges, return_inverse=True)
    if np.any(edges[1:] < edges[:-1]):
        return counts, edges
    if len(kept) == 1:
        return counts.sum(keepdims=True), _count(kept, kept[0], kept[0], 1)[1]
    places = np.minimum(where[:-1], len(kept) - 2)
    merged = np.zeros(len(kept) - 1, counts.dtype)
    np.add.at(merged, places, counts)
    return merged, kept


def to_histogram(values: Any, *, bins: int = 64, key: str = "values") -> Histogram:
    """A `Histogram` as it is, a ready-made one checked, anything else counted into `bins`.

    Args:
        values: See above. Ready-made is a tuple of two 1-d arrays of different lengths, which are counts and edges, or
            what `ready_made` takes.
        bins: Number of bins, 1 to 4096.
        key: The name for error messages.

    Raises:
        InvalidValueError: The values are not real numbers, or counts and edges do not fit together.
    """
    if isinstance(values, Histogram):
        return values if values.is_normal else values.with_data(values.data)
    reduced = values if is_ready_made(values) else None
    if isinstance(values, tuple) and len(values) == 2:
        counts, edges = (to_host(part, key) for part in values)
        if counts.ndim == edges.ndim == 1 and len(counts) != len(edges):
            reduced = {"counts": counts, "edges": edges}
    if reduced is not None:
        try:
            return ready_made(reduced)
        except InvalidValueError as error:
            raise InvalidValueError(f"{key!r}: {error}") from error
    if isinstance(values, (str, bytes, dict)) or values is None:
        raise InvalidValueError(f"{key!r}: expected numbers, got {describe(values)}")
    return Histogram.from_values(values, bins=bins, key=key)
