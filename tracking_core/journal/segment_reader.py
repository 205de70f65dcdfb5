"""Reads one file of a journal: it follows the file as it grows, steps over damage, and says where it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tracking_core.errors import JournalError
from tracking_core.journal.lines import FORMAT, Event, decode_line

_CHUNK = 1 << 20
_START = b'{"seq":'
"""How every line starts; inside a JSON string its quotes would be escaped."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A place in a journal that cannot be read.

    Args:
        file: The file.
        offset: Where the damaged line starts, in bytes.
        length: How long it is, in bytes.
        reason: What is wrong with it.
    """

    file: Path
    offset: int
    length: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file.name}, byte {self.offset}: {self.reason} ({self.length} bytes)"


class SegmentReader:
    """Reads one file, from where it stopped last time.

    Args:
        path: The file.
        writer: Whose it is.
        number: Its number.
        offset: Where to start, in bytes: 0, or where a line starts.
    """

    def __init__(self, path: Path, writer: str, number: int = 1, offset: int = 0) -> None:
        self.path = path
        self.writer = writer
        self.number = number
        self.offset = offset
        """Where the next line starts."""
        self.size = 0
        """How far the file has been looked at, in bytes."""
        self.low = 0
        """The largest `low` of a line that was read."""
        self.damage: list[Damage] = []
        self.parent: str | None = None
        """The writer that this one was forked from, if it was; known once the header was read."""

    def read(self, limit: int = 1 << 30, *, final: bool = False) -> list[tuple[tuple[int, int], Event]]:
        """Read the complete lines that were added.

        Args:
            limit: Stop after about this many bytes.
            final: Whether nothing more will be written, so that an incomplete last line is damage.

        Returns:
            ((number of the segment, offset where the line starts), event) pairs, headers left out.

        Raises:
            JournalError: The file's format is newer than this version knows.
            OSError: It cannot be read.
        """
        events: list[tuple[tuple[int, int], Event]] = []
        with self.path.open("rb") as file:
            file.seek(self.offset)
            rest, taken, before = b"", 0, self.offset
            # At least one line, however long: with none the next call would stand here again.
            while (taken < limit or self.offset == before) and (chunk := file.read(_CHUNK)):
                taken += len(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._take(line, events)
            self.size = self.offset + len(rest)
            if final and rest and not file.read(1):
                self._note(Damage(self.path, self.offset, len(rest), "the last line is incomplete"))
        return events

    def _take(self, line: bytes, events: list[tuple[tuple[int, int], Event]]) -> None:
        start = self.offset
        self.offset += len(line) + 1
        part, failure = 0, ""
        while line:
            try:
                event = decode_line(line[part:], self.writer)
                break
            except JournalError as error:
                failure = failure or str(error)
            # Behind what a full disk tore, or a damaged line end, a whole line may stand.
            part = line.find(_START, part + 1)
            if part < 0:
                self._note(Damage(self.path, start, len(line), failure))
                return
        else:
            return
        if part:
            self._note(Damage(self.path, start, part, failure))
        if event.kind != "segment":
            self.low = max(self.low, event.low)
            events.append(((self.number, start + part), event))
        else:
            self._check_header(event, start)

    def _note(self, damage: Damage) -> None:
        if damage not in self.damage[-1:]:
            self.damage.append(damage)

    def _check_header(self, event: Event, start: int) -> None:
        self.parent = event.fields.get("parent")
        version = event.fields.get("v")
        if not isinstance(version, int) or version > FORMAT:
            # Whoever asks again must not get the rest of the file.
            self.offset = start
            raise JournalError(
                f"{self.path} has format {version}, this version reads up to {FORMAT}: upgrade tracking-core"
            )
