"""Which step comes next on each axis, for calls that leave the step to the run."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_LAST = 2**63 - 1


class StepCounter:
    """Counts the steps of a run, axis by axis.

    A call without a step takes one number, whatever becomes of its values. A step that is given moves the counter only
    when it is valid, and something was recorded at it.

    Args:
        start: Axis to the step that its next call takes; others begin at 0.
    """

    def __init__(self, start: Mapping[str, int] = MappingProxyType({})) -> None:
        self.next: dict[str, int] = dict(start)
        """Axis to the step that the next call without one takes."""
        self._moved: dict[str, tuple[int, int | None]] = {}

    def take(self, axis: str) -> int:
        """The step of a call that has none."""
        step = self.next.get(axis, 0)
        # Behind the last step that there is nothing comes: better it is repeated than that values are lost.
        self.next[axis] = min(step + 1, _LAST)
        return step

    def accepted(self, axis: str, step: int) -> None:
        """Something was recorded at a step; the next one comes behind it, if it is the furthest."""
        before = self.next.get(axis)
        if step >= (before or 0):
            self._moved[axis] = (step, before)
            self.next[axis] = min(step + 1, _LAST)

    def refused(self, axis: str, step: Any) -> None:
        """It turned out that what was accepted at a step could not be recorded: as if it had never come."""
        moved = self._moved.get(axis)
        if moved is not None and type(step) is int and moved[0] == step and self.next[axis] == step + 1:
            del self._moved[axis]
            if moved[1] is None:
                del self.next[axis]
            else:
                self.next[axis] = moved[1]
