"""Which step comes next on each axis, for calls that leave the step to the run."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_LAST = 2**63 - 1
_MANY = 64
"""Outcomes from which on they are counted by a call that does not need them."""


class StepCounter:
    """Counts the steps of a run, axis by axis.

    A call without a step takes one number, whatever becomes of its values. A step that is given moves the counter only
    when it is valid, and something was recorded at it. What is still computed on a device is promised: it counts until
    it turns out that nothing of it can be recorded.

    Args:
        start: Axis to the step that its next call takes; others begin at 0.
    """

    def __init__(self, start: Mapping[str, int] = MappingProxyType({})) -> None:
        self.next: dict[str, int] = dict(start)
        """Axis to the step behind what was taken or recorded for certain."""
        self._promised: dict[str, Counter[int]] = {}
        # Outcomes come from the thread that resolves values; only threads that log count them.
        self._news: deque[tuple[str, int, int]] = deque()

    def take(self, axis: str) -> int:
        """The step of a call that has none."""
        step = self.coming(axis)
        # Behind the last step that there is nothing comes: better it is repeated than that values are lost.
        self.next[axis] = min(step + 1, _LAST)
        return step

    def coming(self, axis: str) -> int:
        """The step that `take` would give."""
        self._count()
        step = self.next.get(axis, 0)
        promised = self._promised.get(axis)
        if promised:
            # What lies behind is of no interest any more, also what an interrupt has left there.
            for old in [one for one in promised if one < step]:
                del promised[old]
            step = min(max([step, *(one + 1 for one, count in promised.items() if count > 0)]), _LAST)
        return step

    def accepted(self, axis: str, step: int) -> None:
        """Something was recorded at a step; the next one comes behind it, if it is the furthest."""
        if step >= self.next.get(axis, 0):
            self.next[axis] = min(step + 1, _LAST)

    def promise(self, axis: str, step: Any) -> None:
        """Something will be recorded at a step, if it turns out that it can be; a step on a device is not known yet."""
        if type(step) is int:
            self._news.append((axis, step, 1))
            if len(self._news) > _MANY:
                self._count()

    def resolve(self, axis: str, promised: Any, step: int | None) -> None:
        """It turned out what became of a promise, and at which step it was recorded; None where it was not."""
        if type(promised) is int:
            self._news.append((axis, promised, -1))
        if step is not None:
            self._news.append((axis, step, 0))

    def _count(self) -> None:
        while self._news:
            try:
                axis, step, change = self._news.popleft()
            except IndexError:
                # Another thread counts as well.
                return
            if not change:
                self.accepted(axis, step)
            elif step >= self.next.get(axis, 0):
                promised = self._promised.setdefault(axis, Counter())
                promised[step] += change
                if not promised[step]:
                    del promised[step]
