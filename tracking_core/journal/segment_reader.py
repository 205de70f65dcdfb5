"""Reads one file of a journal: it follows the file as it grows, steps over damage, and says where it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tracking_core.base import regular
from tracking_core.base.regular import EVERYTHING, OddFileError, open_regular, stretches
from tracking_core.errors import JournalError
from tracking_core.journal.lines import FORMAT, Event, decode_line
from tracking_core.journal.schema import OF_PARTS

_START = re.compile(rb'\{"seq":\d+,"low":\d+,"kind":"')
"""How every line starts; inside a JSON string its quotes would be escaped."""
_TRIES = 16
"""In a damaged line a whole one is looked for at so many places."""


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
        self._skipped = 0
        """How much was read of a line that is too long to be one, of which the end has not come yet."""
        self.damage: list[Damage] = []
        self.parent: str | None = None
        """The writer that this one was forked from, if it was; known once the header was read."""

    def read(self, limit: int = EVERYTHING, *, final: bool = False) -> list[tuple[tuple[int, int], Event]]:
        """Read the complete lines that were added.

        Args:
            limit: Stop after about this many bytes.
            final: Whether nothing more will be written, so that an incomplete last line is damage.

        Returns:
            ((number of the segment, offset where the line starts), event) pairs, headers left out.

        Raises:
            JournalError: The file's format is newer than this version knows.
            OSError: It cannot be read. What is no regular file is damage, and is not read.
        """
        events: list[tuple[tuple[int, int], Event]] = []
        try:
            file = open_regular(self.path)
        except OddFileError as error:
            self._note(Damage(self.path, 0, 0, str(error.strerror)))
            return events
        with file:
            left = 0
            for one in stretches(file, self.offset, skipped=self._skipped, limit=limit):
                self._skipped = 0
                if one.text:
                    for line in one.text.split(b"\n")[:-1]:
                        self._take(line, events)
                elif one.is_complete:
                    reason = f"the line is longer than {regular.LONGEST} bytes"
                    self._note(Damage(self.path, self.offset, one.length - 1, reason))
                    self.offset += one.length
                else:
                    left = one.length
                    self._skipped = left if left > regular.LONGEST else 0
            self.size = self.offset + left
            if final and left and not file.read(1):
                self._note(Damage(self.path, self.offset, left, "the last line is incomplete"))
        return events

    def _take(self, line: bytes, events: list[tuple[tuple[int, int], Event]]) -> None:
        start = self.offset
        self.offset += len(line) + 1
        part, failure, tries = 0, "", _TRIES
        while line:
            try:
                event = decode_line(line[part:], self.writer)
                if event.kind in OF_PARTS:
                    raise JournalError(f"a line of the kind {event.kind!r} does not belong in a journal")  # noqa: TRY301
                break
            except JournalError as error:
                failure = failure or str(error)
            # Behind what a full disk tore, or a damaged line end, a whole line may stand.
            found = _START.search(line, part + 1)
            tries -= 1
            if found is None or not tries:
                self._note(Damage(self.path, start, len(line), failure))
                return
            part = found.start()
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
        version = event.fields["v"]
        if version > FORMAT:
            # Whoever asks again must not get the rest of the file.
            self.offset = start
            raise JournalError(
                f"{self.path} has format {version}, this version reads up to {FORMAT}: upgrade tracking-core"
            )
