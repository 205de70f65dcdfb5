"""The scalars of a run as columns: decoded once, kept as numbers, and added to as the run goes on."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tracking_core.compaction.parts import ScalarPart, read_side_by_side
from tracking_core.journal import Event, JournalReader, Superseded
from tracking_core.journal.segments import by_start

CHUNK = 1 << 22
"""About how many bytes are decoded at a time: events take ten times the memory of the numbers in them."""


class Rows(NamedTuple):
    """Rows of one scalar: writers by start, each in its own order.

    Args:
        axis: `[N]` numbers of step axes (see `ScalarColumns.axes`), or one number for all rows.
        step: int64 array of shape `[N]`.
        time: float64 array of shape `[N]`, seconds since the epoch.
        value: float64 array of shape `[N]`.
    """

    axis: np.ndarray[Any, np.dtype[np.int64]] | int
    step: np.ndarray[Any, np.dtype[np.int64]]
    time: np.ndarray[Any, np.dtype[np.float64]]
    value: np.ndarray[Any, np.dtype[np.float64]]

    def axes(self) -> list[int]:
        """The axes there are, in the order in which they come."""
        if isinstance(self.axis, int):
            return [self.axis]
        if bool(np.all(self.axis == self.axis[0])):
            # Nearly always, and without sorting.
            return [int(self.axis[0])]
        numbers, first = np.unique(self.axis, return_index=True)
        return numbers[np.argsort(first)].tolist()


_Counts = Callable[[np.ndarray[Any, np.dtype[np.int64]], Rows], np.ndarray[Any, np.dtype[np.bool_]]]
"""(numbers of rows, rows) → which of them count."""


@dataclass(slots=True)
class _Piece:
    """Rows of one scalar from one place, in order.

    Args:
        first: No row has a smaller number.
        last: No row has a larger one.
        seq: Numbers of the rows; None when nothing overlaps.
        rows: The rows.
    """

    first: int
    last: int
    seq: np.ndarray[Any, np.dtype[np.int64]] | None
    rows: Rows


class _Calls:
    """Calls that logged the same names: a training loop has few of these, and a row of one is added at once."""

    __slots__ = ("last", "last_seq", "rows", "values", "width")

    def __init__(self, width: int) -> None:
        self.width = width
        self.rows = array("q")
        self.values = array("d")
        """Row by row, `width` in each."""
        self.last: Mapping[str, float] = {}
        """What the call with the largest sequence number logged."""
        self.last_seq = -1

    def add(self, row: int, seq: int, values: Mapping[str, float]) -> None:
        self.rows.append(row)
        try:
            self.values.extend(values.values())
        except OverflowError:
            # An integer beyond the floats; those before it were taken.
            del self.values[self.width * (len(self.rows) - 1) :]
            self.values.extend(map(_to_float, values.values()))
        if seq > self.last_seq:
            self.last, self.last_seq = values, seq


class _Writer:
    """The scalars of one writer: what the values of a call have in common once, the values by the names they had."""

    def __init__(self) -> None:
        self.seq, self.axis, self.step = array("q"), array("q"), array("q")
        self.time = array("d")
        self.calls: dict[tuple[str, ...], _Calls] = {}
        self.places: dict[str, list[tuple[_Calls, int]]] = {}
        """Name → where its values are, and as which of a row."""
        self.parts: list[ScalarPart] = []
        """What compaction made of some of its segments: it is not read before somebody asks."""

    def add(self, event: Event, axis: int) -> None:
        fields, seq = event.fields, event.seq
        values = fields["values"]
        names = tuple(values)
        calls = self.calls.get(names)
        if calls is None:
            calls = self.calls[names] = _Calls(len(names))
            for place, name in enumerate(names):
                self.places.setdefault(name, []).append((calls, place))
        calls.add(len(self.seq), seq, values)
        self.seq.append(seq)
        self.axis.append(axis)
        self.step.append(fields["step"])
        self.time.append(event.time)

    def names(self) -> set[str]:
        """Names of all scalars."""
        return {*self.places, *(name for part in self.parts for name in part.names)}

    def rows(self, name: str, axis: Callable[[str], int], counts: _Counts | None = None) -> Rows | None:
        """All rows of a scalar.

        Args:
            name: The scalar.
            axis: Gives the number of an axis.
            counts: Tells by their numbers which rows count; None takes all.
        """
        pieces = self._pieces(name, axis, numbered=counts is not None)
        if counts is not None:
            pieces = [one for piece in pieces if (one := _chosen(piece, counts)) is not None]
        if not pieces:
            return None
        return pieces[0].rows if len(pieces) == 1 else _joined(pieces)

    def _pieces(self, name: str, axis: Callable[[str], int], *, numbered: bool) -> list[_Piece]:
        pieces: list[_Piece] = []
        parts = sorted((part for part in self.parts if part.count(name)), key=lambda part: part.part.files.first)
        # Lines that were under way when a segment was closed stand in the next.
        overlapping = [part for part in parts if self._overlaps(part)]
        apart = [part for part in parts if part not in overlapping]
        if not overlapping and len(apart) > 1 and not numbered:
            found = read_side_by_side(apart, name)
            spans = [(apart[0].part.files.first, apart[-1].part.files.last)]
            if len(found) > 1:
                spans = [(part.part.files.first, part.part.files.last) for part in apart]
        else:
            asked = ((part, numbered or part in overlapping) for part in parts)
            found = [rows for part, seq in asked if (rows := part.rows(name, with_seq=seq)) is not None]
            spans = [(part.part.files.first, part.part.files.last) for part in parts]
        for rows, (first, last) in zip(found, spans, strict=True):
            numbers = [axis(one) for one in rows.axes]
            axes = numbers[0] if isinstance(rows.axis, int) else np.array(numbers, np.int64)[rows.axis]
            pieces.append(_Piece(first, last, rows.seq, Rows(axes, rows.step, rows.time, rows.value)))
        logged = self._logged(name)
        if logged is not None:
            pieces.append(logged)
        return sorted(pieces, key=lambda piece: piece.first)

    def _overlaps(self, part: ScalarPart) -> bool:
        files = part.part.files
        spans = [(one.part.files.first, one.part.files.last) for one in self.parts if one is not part]
        if self.seq:
            spans.append((min(self.seq), max(self.seq)))
        return any(first <= files.last and files.first <= last for first, last in spans)

    def _logged(self, name: str) -> _Piece | None:
        places = self.places.get(name)
        if places is None:
            return None
        rows = np.concatenate([np.array(calls.rows) for calls, _ in places])
        values = np.concatenate([np.array(calls.values[place :: calls.width]) for calls, place in places])
        seq = np.array(self.seq)[rows]
        if len(seq) > 1 and not bool(np.all(seq[1:] > seq[:-1])):
            # Lines may stand out of order, and so do the calls that logged different names.
            order = np.argsort(seq, kind="stable")
            rows, values, seq = rows[order], values[order], seq[order]
        found = Rows(np.array(self.axis)[rows], np.array(self.step)[rows], np.array(self.time)[rows], values)
        return _Piece(int(seq[0]), int(seq[-1]), seq, found)

    def last(self) -> dict[str, float]:
        found: dict[str, float] = {}
        if not self.parts:
            for calls in sorted(self.calls.values(), key=lambda calls: calls.last_seq):
                found.update(calls.last)
            return found
        newest: dict[str, int] = {}
        for part in self.parts:
            for name, (_, seq, value) in part.names.items():
                if seq > newest.get(name, -1):
                    newest[name], found[name] = seq, value
        for calls in self.calls.values():
            for name, value in calls.last.items():
                if calls.last_seq > newest.get(name, -1):
                    newest[name], found[name] = calls.last_seq, value
        return found


def _chosen(piece: _Piece, counts: _Counts) -> _Piece | None:
    """The rows of a piece that count; None when there are none."""
    rows, seq = piece.rows, piece.seq
    assert seq is not None
    keep = counts(seq, rows)
    if bool(keep.all()):
        return piece
    if not bool(keep.any()):
        return None
    axis = rows.axis if isinstance(rows.axis, int) else rows.axis[keep]
    return _Piece(piece.first, piece.last, seq[keep], Rows(axis, rows.step[keep], rows.time[keep], rows.value[keep]))


def _joined(pieces: list[_Piece]) -> Rows:
    """Rows of several places as one, in order of their numbers."""
    axes = {piece.rows.axis for piece in pieces if isinstance(piece.rows.axis, int)}
    if len(axes) == 1 and all(isinstance(piece.rows.axis, int) for piece in pieces):
        axis: Any = axes.pop()
    else:
        axis = np.concatenate([_spread(piece.rows) for piece in pieces])
    step, time, value = (
        np.concatenate([getattr(piece.rows, column) for piece in pieces]) for column in ("step", "time", "value")
    )
    if all(before.last < after.first for before, after in pairwise(pieces)):
        return Rows(axis, step, time, value)
    numbers = [
        # What does not overlap has none: any between its bounds do.
        np.linspace(piece.first, piece.last, len(piece.rows.step), dtype=np.int64) if piece.seq is None else piece.seq
        for piece in pieces
    ]
    order = np.argsort(np.concatenate(numbers), kind="stable")
    return Rows(axis if isinstance(axis, int) else axis[order], step[order], time[order], value[order])


def _spread(rows: Rows) -> np.ndarray[Any, Any]:
    return np.full(len(rows.step), rows.axis, np.int64) if isinstance(rows.axis, int) else rows.axis


def _to_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


class ScalarColumns:
    """All scalars of a run.

    Args:
        directory: The run directory.
        superseded: What the run took back; it is told of what is read.
    """

    def __init__(self, directory: Path, superseded: Superseded | None = None) -> None:
        self._reader = JournalReader(directory)
        self._superseded = superseded or Superseded(directory)
        self._writers: dict[str, _Writer] = {}
        self._has_pyarrow: bool | None = None
        self.axes: list[str] = []
        """Names of the step axes, by number."""

    def refresh(self) -> None:
        """Read what was added since the last look.

        Raises:
            JournalError: The format is newer than this version knows.
        """
        files = self._reader.look()
        for name, reader in self._reader.writers.items():
            writer = self._writers.setdefault(name, _Writer())
            if reader.has_parts:
                self._superseded.look({name: files[name]})
                # Without pyarrow segments are read for as long as they are there; names and last values do not need it.
                for part in map(ScalarPart, reader.claim_parts(alone=not self._can_read_parts())):
                    writer.parts.append(part)
                    for event in part.whole():
                        writer.add(event, self._axis(event.fields["axis"]))
            # A stretch without events, as where a disk was damaged, does not end the file.
            while events := reader.read(CHUNK) or reader.read():
                for _, event in events:
                    if event.kind == "scalars":
                        writer.add(event, self._axis(event.fields["axis"]))
                    elif event.kind == "truncate":
                        self._superseded.learn([event])

    def _can_read_parts(self) -> bool:
        if self._has_pyarrow is None:
            # Asking takes long where many runs are listed.
            self._has_pyarrow = find_spec("pyarrow") is not None
        return self._has_pyarrow

    def _axis(self, name: str) -> int:
        if name not in self.axes:
            self.axes.append(name)
        return self.axes.index(name)

    def names(self) -> list[str]:
        """Names of all scalars, sorted."""
        found: set[str] = set()
        for key, writer in self._writers.items():
            names = writer.names()
            if self._superseded.of(key):
                names = {name for name in names if self._rows_of(key, name) is not None}
            found |= names
        return sorted(found)

    def rows(self, name: str, *, raw: bool = False) -> Rows | None:
        """The rows of a scalar; None when there are none.

        Args:
            name: The scalar.
            raw: Whether those that are superseded are wanted too.
        """
        writers = sorted(self._writers, key=by_start)
        found = [rows for key in writers if (rows := self._rows_of(key, name, raw=raw)) is not None]
        if not found:
            return None
        if len(found) == 1:
            return found[0]
        axis = np.concatenate([_spread(rows) for rows in found])
        step, time, value = (
            np.concatenate([getattr(rows, column) for rows in found]) for column in ("step", "time", "value")
        )
        return Rows(axis, step, time, value)

    def _rows_of(self, writer: str, name: str, *, raw: bool = False) -> Rows | None:
        """The rows of a scalar that one writer wrote."""
        truncations = [] if raw else self._superseded.of(writer, name)
        if not truncations:
            return self._writers[writer].rows(name, self._axis)

        def counts(seq: np.ndarray[Any, Any], rows: Rows) -> np.ndarray[Any, Any]:
            dropped = np.zeros(len(seq), np.bool_)
            for one in truncations:
                dropped |= one.dropped(writer, seq, _spread(rows) == self._axis(one.axis), rows.step)
            return ~dropped

        return self._writers[writer].rows(name, self._axis, counts)

    def axes_of(self, rows: Rows) -> tuple[str, ...]:
        """The step axes that rows were logged on, in the order of their first use."""
        return tuple(self.axes[number] for number in rows.axes())

    def last(self) -> dict[str, float]:
        """The value of every scalar that was logged last, as it was logged: an int stays one, and so does a bool."""
        found: dict[str, float] = {}
        for key in sorted(self._writers, key=by_start):
            writer = self._writers[key]
            last = writer.last()
            if self._superseded.of(key):
                rows = {name: self._rows_of(key, name) for name in last}
                last = {name: _as_logged(last[name], one.value[-1]) for name, one in rows.items() if one is not None}
            found.update(last)
        return found


def _as_logged(other: float, value: float) -> float:
    """A value that was kept as a float, as the number that it was, going by another of the same name."""
    if isinstance(other, bool) and value in {0.0, 1.0}:
        return bool(value)
    return int(value) if isinstance(other, int) and value.is_integer() else float(value)
