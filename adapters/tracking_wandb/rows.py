"""Rows of the history: how names, steps and axes become keys, and what W&B is told about the axes.

W&B's own step only counts rows up and drops what goes back, so it is left to itself. The step of a row is a value of
the row, under the name of its axis, and `define_metric` says which axis a key is drawn over:

```
log_scalars({"loss": 0.5}, step=3)                          {"step": 3, "loss": 0.5}
log_scalars({"val/loss": 0.4}, step=1, step_axis="epoch")   {"epoch": 1, "val/loss": 0.4, "_tracking_axis": "epoch"}
```

Keys with an underscore in front are hidden by W&B. Every row may have:

| key | content |
|---|---|
| `_timestamp` | when it was recorded, in seconds since the epoch |
| `_tracking_axis` | the key of the row's axis; a row without it is on the axis `step` |
| `_tracking_seq`, `_tracking_writer` | the record of the journal that it came from; of several, the last one |
| `_tracking_first` | the number of the first of several; from there to `_tracking_seq` all records are in the row |
| `_tracking_round` | the round it was given in, from 1; a row without it is of round 0 (see `RunInfo.round`) |
| `_tracking_again` | 1 when the record had failed before, and came behind others on request |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tracking_core.values import Record
from tracking_wandb.names import artifact_key, fits_artifact, is_cut, media_key, metric_key

MAIN_AXIS = "step"
TIMESTAMP, AXIS = "_timestamp", "_tracking_axis"
SEQ, WRITER, ROUND, AGAIN = "_tracking_seq", "_tracking_writer", "_tracking_round", "_tracking_again"
FIRST = "_tracking_first"
_INT64 = 2**63


class Rows:
    """Builds the rows of one run.

    Args:
        define: The run's `define_metric`.
        remember: Called with (key, name) when a key does not hold its whole name.
        round_: The round that rows of records are given in.
    """

    def __init__(self, define: Callable[..., Any], remember: Callable[[str, str], None], *, round_: int = 0) -> None:
        self._define = define
        self._remember = remember
        self._round = round_
        self._axes: dict[str, str] = {}
        self._keys: dict[tuple[str, bool, bool], str] = {}
        self._drawn: set[str] = set()
        self._axis(MAIN_AXIS)
        define("*", step_metric=MAIN_AXIS, step_sync=False)

    def build(
        self,
        values: Mapping[str | tuple[str, str], Any],
        *,
        step: int,
        axis: str,
        wall_time: float | None,
        media: bool = False,
        artifact_of: str | None = None,
        hidden: Mapping[str, Any] | None = None,
        record: Record | None = None,
        first: int | None = None,
    ) -> dict[str, Any]:
        """One row.

        Args:
            values: Names to what is logged under them; a pair is a name and what is put behind its key.
            step: Position on the axis.
            axis: Name of the axis.
            wall_time: Seconds since the epoch; None leaves it to the client.
            media: Whether the values are files, whose keys become parts of paths.
            artifact_of: For values that become artifacts as well, with names made of their keys and of this, the id of
                the run.
            hidden: Further entries, by their keys.
            record: The journal record it comes from, if any; of several, the last one.
            first: The number of the first of several records; None for a row of one.
        """
        column = self._axis(axis)
        row: dict[str, Any] = {}
        for name, value in values.items():
            name, suffix = (name, "") if isinstance(name, str) else name  # noqa: PLW2901 - taken apart
            row[self._key(name, suffix, column, media=media, artifact_of=artifact_of)] = value
        row.update(hidden or {})
        row[column] = step
        if axis != MAIN_AXIS:
            row[AXIS] = column
        if wall_time is not None:
            row[TIMESTAMP] = wall_time
        if record is not None:
            row[SEQ], row[WRITER] = record.seq, record.writer
            if first is not None and first < record.seq:
                row[FIRST] = first
            if self._round:
                row[ROUND] = self._round
            if record.again:
                row[AGAIN] = 1
        return row

    def repeat(self) -> None:
        """Tell W&B once more of the main axis, which changes nothing and makes the client write."""
        self._define(MAIN_AXIS, hidden=MAIN_AXIS not in self._drawn, step_sync=False)

    def _key(self, name: str, suffix: str, column: str, *, media: bool, artifact_of: str | None) -> str:
        """The key of a name in a row whose axis has the key `column`; W&B is told of it when it is new."""
        known = (name, media, artifact_of is not None and not fits_artifact(artifact_of, media_key(name), suffix))
        key = self._keys.get(known)
        if key is None:
            key = media_key(name) if media else metric_key(name)
            if known[2] and artifact_of is not None:
                key = artifact_key(artifact_of, name)
            self._keys[known] = key
            if is_cut(key):
                self._remember(key, name)
        key += suffix
        if key == column:
            key += "~value"
        if key not in self._drawn:
            self._drawn.add(key)
            self._draw(key, column)
        return key

    def _axis(self, axis: str) -> str:
        column = self._axes.get(axis)
        if column is None:
            column = self._axes[axis] = metric_key(axis)
            if is_cut(column):
                self._remember(column, axis)
            if "*" not in column:
                # An axis is no curve of its own, unless something of the same name was logged as one.
                self._define(column, hidden=column not in self._drawn, step_sync=False)
        return column

    def _draw(self, key: str, column: str) -> None:
        """Say which axis a new key is drawn over: the one on which it came first."""
        if "*" in key:
            # A star is a pattern to define_metric; the key keeps the main axis in the charts W&B makes by itself.
            return
        if key in self._axes.values():
            self._define(key, step_metric=column, hidden=False, step_sync=False, overwrite=True)
        elif column != MAIN_AXIS and "*" not in column:
            self._define(key, step_metric=column, step_sync=False)


def storable(value: bool | float) -> int | float:
    """A number as W&B keeps it: True and False are drawn as 1 and 0, what exceeds 64 bits is a float."""
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, float) or -_INT64 <= value < _INT64 else float(value)
