"""Readers of journals: they follow all segments of a writer, and read what compaction made of some."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tracking_core.base.regular import size_of
from tracking_core.journal.lines import Event
from tracking_core.journal.part_reader import PartReader
from tracking_core.journal.segment_reader import EVERYTHING, Damage, SegmentReader
from tracking_core.journal.segments import Place, WriterFiles, find_files, split_segment_name

Found = tuple[tuple[int, int], Event]
"""((segment, offset), event)"""


class WriterReader:
    """Reads the journal of one writer, from where it stopped last time.

    Segments are read side by side: while a writer goes on in the next one, lines may still come to the one before. One
    is done with once a `seal` names its length. Where a segment is gone, the part that was made of it is read; nothing
    is given twice.

    Args:
        path: A segment of the writer.
        place: Where to start.
        after: Events of parts up to this number are not wanted.
    """

    def __init__(self, path: Path, place: tuple[int, int] = Place(), after: int = 0) -> None:
        name = split_segment_name(path.name)
        self.writer = name[0] if name else path.stem
        self.taken = 0
        """How many bytes were read."""
        self._directory = path.parent.parent
        self._start = Place(*place)
        self._files = WriterFiles({name[1] if name else 1: path})
        self._managed = False
        self._readers: dict[int, SegmentReader | PartReader] = {}
        self._complete: set[int] = set()
        self._seals: dict[int, int] = {}
        self._firm = 0
        self._prefix = after
        self._given: set[int] = set()
        self._parts: list[PartReader] = []
        self._damage: list[Damage] = []
        self._parent: str | None = None

    def know(self, files: WriterFiles) -> None:
        """Tell it which files there are; otherwise it looks by itself."""
        self._managed = True
        self._files = files

    @property
    def damage(self) -> list[Damage]:
        """All damage met so far, by segment."""
        return [*self._damage, *(damage for number in sorted(self._readers) for damage in self._readers[number].damage)]

    @property
    def parent(self) -> str | None:
        """The writer that this one was forked from, if it was; known once a header was read."""
        return self._parent

    @property
    def has_parts(self) -> bool:
        """Whether there are parts."""
        return bool(self._files.parts)

    @property
    def place(self) -> Place:
        """Nothing that was not read stands before it."""
        numbers = self._numbers()
        if not numbers:
            # All there was is done with; what comes next is in a later segment.
            last = max(self._complete, default=0)
            return Place(last + 1, 0) if last >= self._start.segment else self._start
        reader = self._readers.get(numbers[0])
        if isinstance(reader, SegmentReader):
            return Place(numbers[0], reader.offset)
        return Place(numbers[0], self._start.offset if numbers[0] == self._start.segment else 0)

    @property
    def low(self) -> int:
        """Every event with a smaller number was read, or will not come.

        What a segment claims holds only when those before it are done with: a line may still come to them.
        """
        numbers = self._numbers()
        first = self._readers.get(numbers[0]) if numbers else None
        return max(self._firm, first.low if first is not None else 0)

    def read(self, limit: int = EVERYTHING, *, final: bool = False) -> list[Found]:
        """Read the complete lines that were added.

        Args:
            limit: Stop after about this many bytes.
            final: Whether nothing more will be written, so that an incomplete last line is damage.

        Returns:
            ((segment, offset where the line starts), event) pairs, segment by segment, headers left out.

        Raises:
            JournalError: The file's format is newer than this version knows.
            FileNotFoundError: A segment is gone, and there is nothing in its place.
        """
        events: list[Found] = []
        if not self._managed:
            self._look()
        before = self.taken
        for number in self._numbers():
            left = limit - (self.taken - before)
            if left <= 0:
                break
            if number not in self._complete:
                events += self._read(number, left, final=final)
        self._remember(events)
        self._settle()
        return events

    def claim_parts(self, *, alone: bool = False) -> list[PartReader]:
        """Parts that nothing was read of yet, neither from them nor from their segments: whoever asks reads them.

        Args:
            alone: Only those of which a segment is gone.
        """
        claimed: list[PartReader] = []
        for part in self._known_parts():
            numbers = range(part.segments[0], part.segments[1] + 1)
            if alone and all(number in self._files.segments for number in numbers):
                continue
            if not any(number in self._complete or number in self._readers for number in numbers):
                self._pass(part)
                claimed.append(part)
        return claimed

    def behind(self) -> int:
        """About how many bytes are there that were not read."""
        files, parts = self._unread()
        total = sum(part.behind() for part in parts)
        for _, path, offset in files:
            with contextlib.suppress(OSError):
                total += max(0, size_of(path) - offset)
        return total

    def unread(self) -> tuple[list[tuple[int, Path, int]], int]:
        """What was not read: (segment, file, offset) of files, and how many records there are in parts."""
        files, parts = self._unread()
        return files, sum(map(self._unread_in, parts))

    def _unread(self) -> tuple[list[tuple[int, Path, int]], list[PartReader]]:
        files: list[tuple[int, Path, int]] = []
        parts: list[PartReader] = []
        for number in self._numbers():
            reader = self._readers.get(number)
            path = self._files.segments.get(number)
            if isinstance(reader, PartReader) or path is None:
                part = reader if isinstance(reader, PartReader) else self._part_of(number)
                if part is not None and part not in parts:
                    parts.append(part)
            else:
                files.append((number, path, reader.offset if reader is not None else self._offset(number)))
        return files, parts

    def _unread_in(self, part: PartReader) -> int:
        if self._prefix < part.files.first and not self._given:
            return part.records
        numbers = part.record_numbers()
        beyond = numbers[numbers.searchsorted(self._prefix, side="right") :].tolist()
        return sum(number not in self._given for number in beyond) if self._given else len(beyond)

    # ------------------------------------------------------------------ files

    def _look(self) -> None:
        found = find_files(self._directory).get(self.writer)
        if found is not None:
            self._files = found

    def _numbers(self) -> list[int]:
        """The segments that are not done with."""
        numbers = set(self._files.segments)
        for part in self._known_parts():
            numbers.update(range(part.segments[0], part.segments[1] + 1))
        return sorted(n for n in numbers if n >= self._start.segment and n not in self._complete)

    def _known_parts(self) -> list[PartReader]:
        known = {part.files for part in self._parts}
        for files in self._files.parts:
            if files not in known:
                part = PartReader(files)
                # Of two that hold the same segments one is enough; they would be the same.
                if not any(one.segments[0] <= part.segments[0] <= one.segments[1] for one in self._parts):
                    self._parts.append(part)
        return self._parts

    def _part_of(self, number: int) -> PartReader | None:
        for part in self._known_parts():
            if part.segments[0] <= number <= part.segments[1]:
                return part
        return None

    def _offset(self, number: int) -> int:
        return self._start.offset if number == self._start.segment else 0

    # ------------------------------------------------------------------ reading

    def _read(self, number: int, limit: int, *, final: bool) -> list[Found]:
        reader = self._readers.get(number)
        if reader is None:
            path = self._files.segments.get(number)
            if path is None:
                reader = self._turn_to_part(number)
            else:
                reader = self._readers[number] = SegmentReader(path, self.writer, number, self._offset(number))
        if isinstance(reader, SegmentReader):
            offset = reader.offset
            try:
                events = reader.read(limit, final=final or number in self._seals)
                self.taken += reader.offset - offset
                self._parent = reader.parent or self._parent
            except FileNotFoundError:
                self._look()
                if self._part_of(number) is None:
                    raise
                reader = self._turn_to_part(number)
            else:
                return events
        assert reader is not None
        wanted = [pair for pair in reader.read(limit) if self._is_new(pair[1].seq)]
        self._parent = reader.parent or self._parent
        self.taken += reader.moved()
        if reader.at_end:
            self._damage += reader.damage
            self._pass(reader)
        return wanted

    def _turn_to_part(self, number: int) -> PartReader:
        part = self._part_of(number)
        if part is None:
            raise FileNotFoundError(f"{self._directory}: segment {number} of writer {self.writer} is gone")
        for one in range(part.segments[0], part.segments[1] + 1):
            old = self._readers.pop(one, None)
            if isinstance(old, SegmentReader) and one != part.segments[0]:
                self._complete.add(one)
        self._complete.update(range(part.segments[0] + 1, part.segments[1] + 1))
        self._complete.discard(part.segments[0])
        # The part is read as the first of its segments.
        self._start = Place(min(self._start.segment, part.segments[0]), 0)
        self._readers[part.segments[0]] = part
        return part

    def _pass(self, part: PartReader) -> None:
        for number in range(part.segments[0], part.segments[1] + 1):
            self._readers.pop(number, None)
            self._complete.add(number)
        self._firm = max(self._firm, part.low)

    def _is_new(self, seq: int) -> bool:
        return seq > self._prefix and seq not in self._given

    def _remember(self, events: list[Found]) -> None:
        """Keep which numbers were given: those up to one, and some beyond."""
        prefix, given = self._prefix, self._given
        for _, event in events:
            seq = event.seq
            if seq == prefix + 1:
                prefix = seq
            elif seq > prefix:
                given.add(seq)
            if event.kind == "seal":
                self._note_seal(event)
        self._prefix = prefix

    def _note_seal(self, event: Event) -> None:
        self._seals[event.fields["segment"]] = event.fields["bytes"]

    def _settle(self) -> None:
        for number in [number for number in self._seals if number in self._readers]:
            reader = self._readers[number]
            if isinstance(reader, SegmentReader) and reader.size >= self._seals[number]:
                if reader.offset < self._seals[number]:
                    # Its last line was cut off, which shows only now.
                    with contextlib.suppress(OSError):
                        reader.read(final=True)
                self._damage += reader.damage
                self._firm = max(self._firm, reader.low)
                self._complete.add(number)
                del self._readers[number]
        low = self.low
        if low - 1 > self._prefix:
            self._prefix = low - 1
            self._given = {seq for seq in self._given if seq >= low}
        while self._prefix + 1 in self._given:
            self._prefix += 1
            self._given.discard(self._prefix)


@dataclass
class JournalReader:
    """Reads the journals of all writers of a run, and finds new writers as they come.

    Args:
        directory: The run directory.
        start: Where to start, by writer: (place, number up to which nothing is wanted).
    """

    directory: Path
    writers: dict[str, WriterReader] = field(default_factory=dict[str, WriterReader])
    start: dict[str, tuple[Place, int]] = field(default_factory=dict[str, tuple[Place, int]])

    def look(self) -> dict[str, WriterFiles]:
        """Look for writers that came since, and for new files of those that were there.

        Returns:
            The files of every writer.
        """
        found = find_files(self.directory)
        for name, files in found.items():
            if name not in self.writers:
                path = self.directory / "journal" / f"{name}-000001.jsonl"
                self.writers[name] = WriterReader(path, *self.start.get(name, (Place(), 0)))
            self.writers[name].know(files)
        return found

    @property
    def damage(self) -> list[Damage]:
        """All damage met so far."""
        return [damage for reader in self.writers.values() for damage in reader.damage]


def read_events(directory: Path, *, damage: list[Damage] | None = None) -> Iterator[Event]:
    """Read all events of a run: writers in the order in which they started, each in its own order.

    Args:
        directory: The run directory.
        damage: Gets what could not be read.
    """
    reader = JournalReader(directory)
    reader.look()
    for one in reader.writers.values():
        for _, event in sorted(one.read(final=True), key=lambda pair: pair[1].seq):
            yield event
    if damage is not None:
        damage.extend(reader.damage)
