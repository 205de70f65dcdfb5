"""Readers of journals: they follow files that grow, step over damage, and say where it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
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


class WriterReader:
    """Reads the journal of one writer, from where it stopped last time.

    Args:
        path: The first segment of the writer.
        offset: Where to start, in bytes: 0, or an `offset` that this class reported.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.writer = path.name.rpartition("-")[0]
        self.offset = offset
        """Where the next line starts."""
        self.damage: list[Damage] = []
        self.parent: str | None = None
        """The writer that this one was forked from, if it was; known once the header was read."""

    def read(self, limit: int = 1 << 30, *, final: bool = False) -> list[tuple[int, Event]]:
        """Read the complete lines that were added.

        Args:
            limit: Stop after about this many bytes.
            final: Whether nothing more will be written, so that an incomplete last line is damage.

        Returns:
            (offset where the line starts, event) pairs in the order of the file, headers left out.

        Raises:
            JournalError: The file's format is newer than this version knows.
        """
        events: list[tuple[int, Event]] = []
        with self.path.open("rb") as file:
            file.seek(self.offset)
            rest, taken, before = b"", 0, self.offset
            # At least one line, however long: with none the next call would stand here again.
            while (taken < limit or self.offset == before) and (chunk := file.read(_CHUNK)):
                taken += len(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._take(line, events)
            if final and rest and not file.read(1):
                self._note(Damage(self.path, self.offset, len(rest), "the last line is incomplete"))
        return events

    def _take(self, line: bytes, events: list[tuple[int, Event]]) -> None:
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
            events.append((start + part, event))
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


@dataclass
class JournalReader:
    """Reads the journals of all writers of a run, and finds new writers as they come.

    Args:
        directory: The run directory.
    """

    directory: Path
    writers: dict[str, WriterReader] = field(default_factory=dict[str, WriterReader])

    def look(self) -> None:
        """Look for writers that came since."""
        try:
            paths = sorted((self.directory / "journal").glob("*-000001.jsonl"))
        except OSError:
            return
        for path in paths:
            name = path.name.rpartition("-")[0]
            if name not in self.writers:
                self.writers[name] = WriterReader(path)

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
