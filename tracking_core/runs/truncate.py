"""Where journals have to be cut, so that a run goes on from an earlier step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tracking_core.compaction.parts import COLUMNS
from tracking_core.journal import Cut, Event, JournalReader, Superseded, Truncation
from tracking_core.journal.part_reader import (
    PartReader,
    check_columns,
    damage_named,
    dictionary,
    integers,
    open_columns,
    part_lines,
)
from tracking_core.journal.superseded import EXEMPT
from tracking_core.values.kinds import STEPPED

_CHUNK = 1 << 22


class _Block(NamedTuple):
    """Some rows of a writer: arrays of shape `[N]`, exempt names left out.

    Args:
        axes: Names of axes.
        seq: Numbers.
        axis: Places in `axes`.
        step: Steps.
        time: Seconds since the epoch.
        last: The largest number of an event, of whatever kind.
        whole: Whether nothing was left out that is not beyond the step.
    """

    axes: list[str]
    seq: np.ndarray[Any, Any]
    axis: np.ndarray[Any, Any]
    step: np.ndarray[Any, Any]
    time: np.ndarray[Any, Any]
    last: int
    whole: bool = True

    def on(self, axis: str) -> np.ndarray[Any, Any]:
        return self.axis == (self.axes.index(axis) if axis in self.axes else -1)


def find_truncation(
    directory: Path, axis: str, step: int, superseded: Superseded, *, by: str
) -> tuple[Truncation, set[str]]:
    """What has to be superseded, so that `step` is the last step of an axis.

    A writer is cut at its first row beyond the step. Of one that has none, as a data worker that logs on another axis,
    what was logged later than the first such row of any writer is cut off. Times tell which that is, unless one of the
    two went back itself: it had found all that came before, and clocks may differ.

    Args:
        directory: The run directory.
        axis: Name of the axis.
        step: The last step that counts.
        superseded: What the run has taken back already.
        by: The writer that goes on; "" for a fork.

    Returns:
        The truncation, and the axes that something was logged on; none where that is not known.

    Raises:
        JournalError: The format is newer than this version knows.
    """
    reader = JournalReader(directory)
    superseded.look(reader.look())
    lasts: dict[str, int] = {}
    beyond: dict[str, tuple[int, float]] = {}
    axes: set[str] = set()
    is_known = True
    for name in reader.writers:
        lasts[name] = 0
        for block in _blocks(directory, name, superseded, beyond=step):
            lasts[name] = max(lasts[name], block.last)
            axes.update(block.axes)
            is_known &= block.whole
            rows = np.flatnonzero(block.on(axis) & (block.step > step))
            if len(rows):
                first = rows[np.argmin(block.seq[rows])]
                found = (int(block.seq[first]), float(block.time[first]))
                beyond[name] = min(found, beyond.get(name, found))
    cuts = {name: Cut(lasts[name], beyond[name][0] if name in beyond else None) for name in lasts}
    found = {one.by: one.cuts for one in superseded.truncations if one.by}
    for name in lasts.keys() - beyond.keys() if beyond else ():
        later = [
            int(numbers.min())
            for block in _blocks(directory, name, superseded)
            if len(numbers := block.seq[_is_later(name, block, beyond, found)])
        ]
        cuts[name] = Cut(lasts[name], min(later, default=None))
    return Truncation(axis, step, cuts, by), axes if is_known else set()


def _is_later(
    name: str, block: _Block, beyond: Mapping[str, tuple[int, float]], found: Mapping[str, Mapping[str, Cut]]
) -> np.ndarray[Any, Any]:
    """Which rows of a writer are later than the first row of another that is beyond the step.

    Args:
        name: The writer.
        block: Rows of it.
        beyond: Other writer → number and time of that row.
        found: Writer that went back → where it cut those that it found.
    """
    later = np.zeros(len(block.seq), np.bool_)
    for other, (seq, time) in beyond.items():
        before = found[other][name].last if name in found.get(other, ()) else 0
        is_after = other in found.get(name, ()) and seq <= found[name][other].last
        later |= (block.seq > before) & (is_after | (block.time >= time))
    return later


def _blocks(directory: Path, writer: str, superseded: Superseded, *, beyond: int | None = None) -> Iterator[_Block]:
    """The rows of a writer that count, block by block; of columns not those that have no step `beyond` one."""
    truncations = superseded.of(writer)
    for block in _all_blocks(directory, writer, beyond):
        keep = np.ones(len(block.seq), np.bool_)
        for one in truncations:
            keep &= ~one.dropped(writer, block.seq, block.on(one.axis), block.step)
        yield block._replace(seq=block.seq[keep], axis=block.axis[keep], step=block.step[keep], time=block.time[keep])


def _all_blocks(directory: Path, writer: str, beyond: int | None) -> Iterator[_Block]:
    journal = JournalReader(directory)
    journal.look()
    reader = journal.writers[writer]
    if find_spec("pyarrow") is not None:
        for part in reader.claim_parts():
            yield _of_columns(part, beyond)
            yield _of_events(list(part_lines(part.files.events, writer)))
    while events := reader.read(_CHUNK) or reader.read():
        yield _of_events([event for _, event in events])


def _of_columns(part: PartReader, beyond: int | None) -> _Block:
    path = part.files.scalars
    with open_columns(path) as file, damage_named(path):
        groups = [number for number in range(file.num_row_groups) if beyond is None or _largest(file, number) > beyond]
        is_whole = len(groups) == file.num_row_groups
        table = file.read_row_groups(groups, columns=["name", "seq", "axis", "step", "time"])
        check_columns(table)
        if not table.num_rows:
            return _of_events([])._replace(last=part.files.last, whole=is_whole)
        names, texts = dictionary(table, "name")
        axis, axes = dictionary(table, "axis")
    wanted = ~np.array([text.startswith(EXEMPT) for text in texts])[names]
    return _Block(
        axes, integers(table, "seq")[wanted], axis[wanted], integers(table, "step")[wanted],
        integers(table, "time")[wanted] / 1e6, part.files.last, is_whole,
    )  # fmt: skip


def _largest(file: Any, group: int) -> float:
    """The largest step in a row group, as its statistics say."""
    bounds = file.metadata.row_group(group).column(COLUMNS.index("step")).statistics
    return bounds.max if bounds is not None and bounds.has_min_max else math.inf


def _of_events(events: list[Event]) -> _Block:
    rows = [event for event in events if event.kind in STEPPED and any(map(_concerned, _names(event)))]
    axes = list(dict.fromkeys(event.fields.get("axis", "step") for event in rows))
    return _Block(
        axes,
        np.array([event.seq for event in rows], np.int64),
        np.array([axes.index(event.fields.get("axis", "step")) for event in rows], np.int64),
        np.array([event.fields["step"] for event in rows], np.int64),
        np.array([event.time for event in rows], np.float64),
        max((event.seq for event in events), default=0),
    )


def _names(event: Event) -> list[str]:
    if event.kind in {"scalars", "images"}:
        return list(event.fields["values" if event.kind == "scalars" else "images"])
    return [event.fields["name"]]


def _concerned(name: str) -> bool:
    return not name.startswith(EXEMPT)
