"""Where a run that is continued had come to: the last step of every axis, found without reading what it logged.

Parts say it in the first line of their events file. Of segments that are not merged the end is read.
"""

from __future__ import annotations

import math
import os
import socket
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tracking_core.base.processes import read_facts
from tracking_core.base.regular import OddFileError, open_regular
from tracking_core.compaction.parts import COLUMNS
from tracking_core.errors import JournalError, MissingDependencyError
from tracking_core.journal import Superseded, Truncation, decode_line
from tracking_core.journal.finding import EventFinder
from tracking_core.journal.liveness import lives_here
from tracking_core.journal.part_reader import dictionary, integers, load_parquet, part_lines, read_header
from tracking_core.journal.segments import PartFiles, WriterFiles, find_files
from tracking_core.values.kinds import STEPPED

READ = 128 << 20
"""Bytes of segments that are read at most, over all writers."""
LEAST = 1 << 20
"""Bytes that are read of each writer, however many there are."""
BEATING = 25.0
"""Seconds since its last heartbeat for which a writer on another host is taken to go on."""
STEPS = 1 << 63
_WHOLE = 60
_TAIL = len(b',"crc":"00000000"}')


class _Line(msgspec.Struct):
    """What is asked of a line; the values in it are not decoded."""

    kind: str
    seq: int
    axis: str = "step"
    step: int | None = None


_decoder = msgspec.json.Decoder(_Line)


def last_steps(
    directory: Path,
    forks: Sequence[Mapping[str, Any]] = (),
    known: Mapping[str, int] | None = None,
    *,
    on_error: Callable[[JournalError], None] | None = None,
) -> dict[str, int]:
    """The largest step that a run has on every axis, whatever was logged there; what it took back is left out.

    Args:
        directory: The run directory.
        forks: The entry `forks` of its `run.json`.
        known: Axis → a step that is the last one there, whatever is found.
        on_error: Called with what is wrong with the files of a writer, of which the rest is left out; None raises.

    Raises:
        JournalError: Something is damaged, or of a newer format.
    """
    files = find_files(directory)
    superseded = Superseded(directory, forks)
    superseded.look(files)
    found = dict(known or {})
    limit = max(LEAST, READ // max(1, len(files)))
    # Newest first: what older ones hold is mostly below, and then their columns are not opened.
    for writer in reversed(files):
        cuts = [one for one in superseded.truncations if writer in one.cuts]
        try:
            _Steps(writer, files[writer], cuts, found).take(limit)
        except JournalError as error:
            if on_error is None:
                raise
            on_error(error)
    found.update(known or {})
    # Beyond there is no step.
    return {axis: step for axis, step in found.items() if step < STEPS - 1}


class _Steps:
    """Looks for the last steps of one writer.

    Args:
        writer: Its name.
        files: Its files.
        truncations: Those that concern it.
        found: Axis → the largest step so far; it is changed.
    """

    def __init__(
        self, writer: str, files: WriterFiles, truncations: Sequence[Truncation], found: dict[str, int]
    ) -> None:
        self._writer = writer
        self._files = files
        self._truncations = truncations
        self._found = found

    def take(self, limit: int) -> None:
        """Look at the segments that are in no part, from the end and up to so many bytes; then at the parts."""
        headers = [(part, read_header(part.events, self._writer).fields) for part in reversed(self._files.parts)]
        merged = {number for _, fields in headers for number in range(fields["segments"][0], fields["segments"][1] + 1)}
        for number, path in sorted(self._files.segments.items(), reverse=True):
            if number not in merged and limit > 0:
                limit -= self._take_segment(path, limit)
        for part, fields in headers:
            self._take_part(part, fields.get("steps"))

    def _take_segment(self, path: Path, limit: int) -> int:
        try:
            with open_regular(path) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - limit))
                lines = file.read(limit).split(b"\n")
        except (FileNotFoundError, OddFileError):
            return 0
        # The first may be a part of one, and the last is being written.
        # From the end: there the last step mostly stands, and then nothing is asked of the others.
        for line in reversed(lines[1 if size > limit else 0 : -1]):
            where = _where(line, self._writer)
            if where is not None and where.step is not None and where.step > self._found.get(where.axis, -STEPS - 1):
                self._take_event(where.kind, where.seq, where.axis, where.step)
        return size

    def _take_event(self, kind: str, seq: int, axis: str, step: int) -> None:
        if not any(one.drops(kind, self._writer, seq, axis, step) for one in self._truncations):
            self._note(axis, step)

    def _note(self, axis: str, step: int) -> None:
        self._found[axis] = max(step, self._found.get(axis, step))

    # ------------------------------------------------------------------ parts

    def _take_part(self, part: PartFiles, steps: Mapping[str, int] | None) -> None:
        try:
            bounds = steps if steps is not None else self._bounds(part)
        except MissingDependencyError:
            # Nothing can be said of columns, and nobody here can read them.
            bounds = {}
        unsure: dict[str, int] = {}
        for axis, last in bounds.items():
            bound, is_sure = self._bound(part, axis, last)
            if bound > self._found.get(axis, -STEPS - 1):
                if is_sure:
                    self._note(axis, bound)
                else:
                    unsure[axis] = bound
        if unsure:
            self._read(part, unsure)

    def _bound(self, part: PartFiles, axis: str, last: int) -> tuple[int, bool]:
        """What no step of a part on an axis that counts is beyond; and whether one that counts is there."""
        bound, is_sure = last, True
        for one in self._truncations:
            cut = one.cuts[self._writer]
            if axis == one.axis:
                if last > one.step:
                    is_sure = False
                    bound = min(bound, one.step) if part.last <= cut.last else bound
            elif cut.first is not None and part.last >= cut.first:
                is_sure = False
            if not one.by and part.last > cut.last:
                is_sure = False
        return bound, is_sure

    def _bounds(self, part: PartFiles) -> dict[str, int]:
        """Axis → the largest step in a part whose header does not say it, as those of older versions."""
        bounds: dict[str, int] = {}
        for axis, step in self._rows(part, beyond=None):
            bounds[axis] = max(step, bounds.get(axis, step))
        return bounds

    def _read(self, part: PartFiles, unsure: Mapping[str, int]) -> None:
        """Find out which rows of a part count, where some may not."""
        try:
            for axis, step in self._rows(part, beyond={axis: self._found.get(axis, -STEPS - 1) for axis in unsure}):
                self._note(axis, step)
        except MissingDependencyError:
            # Too large leaves a gap, too small would write over what is there.
            for axis, bound in unsure.items():
                self._note(axis, bound)

    def _rows(self, part: PartFiles, beyond: Mapping[str, int] | None) -> Iterator[tuple[str, int]]:
        """(axis, step) of what may be the last on its axis.

        Args:
            part: The part.
            beyond: Axis → the step that matters only what is beyond it; and what was taken back does not. None gives
                bounds of all.
        """
        for event in part_lines(part.events, self._writer):
            if event.kind in STEPPED:
                axis, step = event.fields.get("axis", "step"), event.fields["step"]
                dropped = (one.drops(event.kind, self._writer, event.seq, axis, step) for one in self._truncations)
                if beyond is None or (step > beyond.get(axis, STEPS) and not any(dropped)):
                    yield axis, step
        with load_parquet(part.scalars).ParquetFile(part.scalars, read_dictionary=["axis"]) as file:
            unknown: list[int] = []
            least = -math.inf if beyond is None else min(beyond.values())
            for group in range(file.num_row_groups):
                axis, largest = _in_group(file, group)
                if axis is not None and beyond is None:
                    yield axis, int(largest)
                elif largest > least and (axis is None or beyond is None or axis in beyond):
                    unknown.append(group)
            if unknown:
                yield from self._in_columns(file, unknown, all_of_them=beyond is None)

    def _in_columns(self, file: Any, groups: list[int], *, all_of_them: bool) -> Iterator[tuple[str, int]]:
        table = file.read_row_groups(groups, columns=["axis", "step", *([] if all_of_them else ["seq"])])
        if not table.num_rows:
            return
        codes, axes = dictionary(table, "axis")
        steps = integers(table, "step")
        keep = np.ones(len(steps), np.bool_)
        for one in () if all_of_them else self._truncations:
            on_axis = codes == (axes.index(one.axis) if one.axis in axes else -1)
            keep &= ~one.dropped(self._writer, integers(table, "seq"), on_axis, steps)
        for code, axis in enumerate(axes):
            rows = steps[keep & (codes == code)]
            if len(rows):
                yield axis, int(rows.max())


def _where(line: bytes, writer: str) -> _Line | None:
    """What a line says of where it belongs; None where it is no event with a step, or damaged."""
    if line[-10:-2] != b"%08x" % zlib.crc32(line[:-_TAIL]):
        # Behind what a full disk tore, a whole line may stand.
        at = line.rfind(b'{"seq":')
        return _where(line[at:], writer) if at > 0 else None
    try:
        found = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            event = decode_line(line, writer)
            found = _Line(event.kind, event.seq, event.fields.get("axis", "step"), event.fields.get("step"))
        except JournalError:
            return None
    if found.kind not in STEPPED or not isinstance(found.axis, str) or type(found.step) is not int:
        return None
    return found


def _in_group(file: Any, group: int) -> tuple[str | None, float]:
    """The axis of a row group, None when it has several; and the largest step in it; as its statistics say."""
    columns = file.metadata.row_group(group)
    axis, step = (columns.column(COLUMNS.index(name)).statistics for name in ("axis", "step"))
    if step is None or not step.has_min_max:
        return None, math.inf
    # Where a text is long, its bounds may be cut.
    if axis is None or not axis.has_min_max or axis.min != axis.max or len(axis.min) > _WHOLE:
        return None, step.max
    return axis.min, step.max


def goes_on(directory: Path, own: str) -> bool:
    """Whether another process records into the run, so that this one joins it and does not continue it.

    Args:
        directory: The run directory.
        own: The writer of this process.

    Raises:
        JournalError: The format is newer than this version knows.
    """
    finder = EventFinder(directory)
    return any(
        other != own and _lives(directory, other, own) and finder.finish(other) is None for other in finder.sessions()
    )


def _lives(directory: Path, writer: str, own: str) -> bool:
    """As `liveness.is_alive`, but on other hosts sooner in doubt: a run is continued more often than joined."""
    if lives_here(directory, writer):
        return True
    path, mine = (directory / "journal" / f"{name}.alive" for name in (writer, own))
    try:
        said, now = read_facts(path), read_facts(mine)
        # Both were changed by the clock of the file system; that of a copy is new, and the beat in it is not.
        quiet = max(mine.stat().st_mtime - path.stat().st_mtime, abs(now["beat"] - said["beat"]) - BEATING)
        return said["host"] != socket.gethostname() and quiet < BEATING
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return False
