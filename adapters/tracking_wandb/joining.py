"""Scalars of one step that come one key at a time: they become one row of the history.

`log_scalars({"a": …}, step=5)` and then `log_scalars({"b": …}, step=5)` are one row, as two calls of `wandb.log` with
one step are. The row stays open until something comes that does not fit, until a flush, or for a second. While it is
open, W&B has nothing of it: it does not count as sent, and the cursor of the run stays before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracking_core import Rejected
from tracking_wandb.failures import is_gone, is_unreachable

if TYPE_CHECKING:
    from tracking_core.values import Record

LONGEST = 1.0
"""Seconds that a row stays open after its first record."""
MOST_KEYS = 1000
"""Keys of one row. W&B bounds the size of a row, and many calls must not make one that it refuses."""


@dataclass(slots=True)
class OpenRow:
    """A row that is being put together, of records of one writer, on one axis, at one step.

    Args:
        step: Position on the axis.
        axis: Name of the axis.
        wall_time: When the first record was logged, in seconds since the epoch: the time of the row.
        records: Its records, whose numbers follow one another.
        values: Their numbers by name.
        since: Monotonic seconds when it was begun.
    """

    step: int
    axis: str
    wall_time: float | None
    records: list[Record]
    values: dict[str, int | float]
    since: float

    @property
    def is_due(self) -> bool:
        """Whether it has been open for long enough."""
        return time.monotonic() - self.since >= LONGEST

    def takes(self, record: Record, values: Mapping[str, int | float], step: int, axis: str) -> bool:
        """Whether a record belongs into it."""
        last = self.records[-1]
        return (
            (step, axis, record.writer) == (self.step, self.axis, last.writer)
            # A gap is a record of another kind, or one that the target does not get.
            and record.seq == last.seq + 1
            and len(self.values) + len(values) <= MOST_KEYS
            and self.values.keys().isdisjoint(values)
            and not self.is_due
        )


class Joining:
    """Joins the scalars of records to rows.

    Args:
        hand_over: Gives a row to the client.
    """

    def __init__(self, hand_over: Callable[[OpenRow], None]) -> None:
        self.row: OpenRow | None = None
        """The row that is open."""
        self._hand_over = hand_over
        self._refused: list[Rejected] = []

    def add(
        self, record: Record, values: Mapping[str, int | float], *, step: int, axis: str, wall_time: float | None
    ) -> None:
        """Add the numbers of a record to the row that is open, or begin another one."""
        if self.row is not None and self.row.takes(record, values, step, axis):
            self.row.values.update(values)
            self.row.records.append(record)
            return
        self.end()
        self.row = OpenRow(step, axis, wall_time, [record], dict(values), time.monotonic())

    def end(self) -> None:
        """Hand over the row that is open; it stays open when that raises, because the client does not answer."""
        row = self.row
        if row is None:
            return
        try:
            self._hand_over(row)
        except Exception as error:
            if is_gone(error) or is_unreachable(error):
                raise
            # It concerns the records of this row, and not the one that comes now: a flush tells.
            self._refused += [Rejected(f"wandb: {error}", record=(one.writer, one.seq)) for one in row.records]
        self.row = None

    def raise_refused(self) -> None:
        """Report a record whose row could not be logged, each once.

        Raises:
            Rejected: There is one.
        """
        if self._refused:
            raise self._refused.pop(0)
