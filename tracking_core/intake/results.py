"""What the scalars of a run have come to so far: last and best values, and a small curve of each.

It is kept beside the journal, from the values that are written there, so that the end of a run need not read anything
back. A call only puts its values aside; many of them are taken together.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from tracking_core.base.metric_names import is_larger_better
from tracking_core.base.redaction import redact_tree
from tracking_core.values.config import settled

MOST_WAITING = 4096
"""Calls that may wait to be taken; a thread takes them every second or so, and a call only where there are more."""
POINTS = 128
"""A curve has at most so many."""
MOST = 1000
"""Scalars of which more than the last value is kept."""
_PATIENCE = 1.0
_Rows = list[tuple[int, int, Mapping[str, float]]]


@dataclass(slots=True)
class ScalarResult:
    """One scalar so far.

    Args:
        name: Its name.
        axis: The step axis of its last value.
        count: How many values there were.
        last: The last value.
        last_step: Its step.
        min: The smallest value that is a number; NaN when there is none.
        min_step: Its step.
        max: The largest value that is a number.
        max_step: Its step.
        curve: Some of the values in order, about evenly spaced.
    """

    name: str
    axis: str
    count: int = 0
    last: float = math.nan
    last_step: int = 0
    min: float = math.nan
    min_step: int = 0
    max: float = math.nan
    max_step: int = 0
    curve: list[float] = field(default_factory=list[float])
    _stride: int = 1

    @property
    def best(self) -> float:
        """The largest or the smallest value, whichever the name says is better."""
        return self.max if is_larger_better(self.name) else self.min

    @property
    def best_step(self) -> int:
        """The step of that."""
        return self.max_step if is_larger_better(self.name) else self.min_step

    def add(self, values: np.ndarray[Any, Any], steps: list[int], low: int, high: int) -> None:
        """Take further values.

        Args:
            values: `[N]` floats.
            steps: Their steps.
            low: Where the smallest is; that of another value if none is a number.
            high: Where the largest is.
        """
        # Not `<`: the first one is compared with NaN.
        if not values[low] >= self.min and not math.isnan(values[low]):
            self.min, self.min_step = float(values[low]), steps[low]
        if not values[high] <= self.max and not math.isnan(values[high]):
            self.max, self.max_step = float(values[high]), steps[high]
        self.curve += values[-self.count % self._stride :: self._stride].tolist()
        while len(self.curve) > POINTS:
            del self.curve[1::2]
            self._stride *= 2
        self.count += len(values)
        self.last, self.last_step = float(values[-1]), steps[-1]


class Results:
    """What the scalars of a run have come to."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, int, Mapping[str, float]]] = deque()
        self._lock = threading.Lock()
        self._last: dict[str, Any] = {}
        self._set: dict[str, Any] = {}
        self._scalars: dict[str, ScalarResult] = {}

    def add(self, axis: str, step: int, values: Mapping[str, float]) -> None:
        """Put the scalars of one call aside, which are not changed any more."""
        waiting = self._waiting
        waiting.append((axis, step, values))
        # Whoever else takes them has these as well.
        if len(waiting) < MOST_WAITING:
            return
        if self._lock.acquire(blocking=False):
            try:
                self._take()
            finally:
                self._lock.release()
        elif len(waiting) > 2 * MOST_WAITING:
            # Nobody takes them, as in a child that was forked while somebody did.
            waiting.popleft()

    def set(self, values: Mapping[str, Any]) -> None:
        """Take what `log_summary` sets."""
        self._set.update(values)

    def summary(self) -> dict[str, Any]:
        """The last value of every scalar, and what `log_summary` has set, which goes before it."""
        self.catch_up()
        # What was set is searched for secrets where it is written, which may be later.
        return {**self._last, **redact_tree(settled(self._set))}

    def scalars(self) -> list[ScalarResult]:
        """The scalars, in the order in which they came; of very many the first."""
        self.catch_up()
        return list(self._scalars.values())

    @property
    def count(self) -> int:
        """How many scalars there are."""
        return len(self._last)

    def catch_up(self) -> None:
        """Take the calls that wait."""
        # In a forked child somebody may have had the lock who is not there.
        if self._lock.acquire(timeout=_PATIENCE):
            try:
                self._take()
            finally:
                self._lock.release()

    def _take(self) -> None:
        groups: dict[tuple[str, tuple[str, ...]], _Rows] = {}
        waiting = self._waiting
        before: tuple[str, tuple[str, ...]] | None = None
        rows: _Rows = []
        for number in range(len(waiting)):
            axis, step, values = waiting.popleft()
            group = axis, tuple(values)
            # Mostly the names of the call before; comparing them is faster than hashing them.
            if group != before:
                before, rows = group, groups.setdefault(group, [])
            rows.append((number, step, values))
        # What came last counts, also where calls had different names.
        pieces: dict[str, list[_Piece]] = {}
        for (axis, names), rows in sorted(groups.items(), key=lambda group: group[1][-1][0]):
            self._last.update(rows[-1][2])
            for name, piece in _pieces(axis, names[: MOST + 1], rows):
                pieces.setdefault(name, []).append(piece)
        for name, found in pieces.items():
            scalar = self._scalars.get(name)
            if scalar is None:
                if len(self._scalars) >= MOST:
                    continue
                scalar = self._scalars[name] = ScalarResult(name, found[-1].axis)
            scalar.axis = found[-1].axis
            piece = found[0] if len(found) == 1 else _joined(found)
            scalar.add(piece.values, piece.steps, piece.low, piece.high)


class _Piece(NamedTuple):
    """Values of one scalar from calls that had the same names.

    Args:
        axis: Their step axis.
        numbers: Which of the calls they are from.
        steps: Their steps.
        values: `[N]` floats.
        low: Where the smallest is; that of another value if none is a number.
        high: Where the largest is.
    """

    axis: str
    numbers: list[int]
    steps: list[int]
    values: np.ndarray[Any, Any]
    low: int
    high: int


def _pieces(axis: str, names: tuple[str, ...], rows: _Rows) -> Iterator[tuple[str, _Piece]]:
    """The values of each name, of calls that had the same names."""
    try:
        found = chain.from_iterable(values.values() for _, _, values in rows)
        values = np.fromiter(found, np.float64, len(rows) * len(rows[0][2])).reshape(len(rows), -1)
    except OverflowError:
        # An integer beyond the floats.
        values = np.array([[_to_float(one) for one in values.values()] for _, _, values in rows])
    values = values[:, : len(names)]
    numbers, steps = [number for number, _, _ in rows], [step for _, step, _ in rows]
    low, high = _extremes(values)
    for at, name in enumerate(names):
        yield name, _Piece(axis, numbers, steps, values[:, at], low[at], high[at])


def _joined(pieces: list[_Piece]) -> _Piece:
    """Values from calls that had different names, in the order of the calls."""
    numbers = np.concatenate([piece.numbers for piece in pieces])
    order = np.argsort(numbers)
    values = np.concatenate([piece.values for piece in pieces])[order]
    all_steps = [step for piece in pieces for step in piece.steps]
    (low,), (high,) = _extremes(values[:, None])
    steps = [all_steps[at] for at in order.tolist()]
    return _Piece(pieces[-1].axis, numbers[order].tolist(), steps, values, low, high)


def _extremes(values: np.ndarray[Any, Any]) -> tuple[list[int], list[int]]:
    """Where the smallest and the largest of each column are; NaN is neither."""
    missing = np.isnan(values)
    low = np.where(missing, np.inf, values).argmin(axis=0).tolist()
    return low, np.where(missing, -np.inf, values).argmax(axis=0).tolist()


def _to_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
