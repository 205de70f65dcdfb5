"""Readers of journals: they follow files that grow, step over damage, and say where it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tracking_core.errors import JournalError
from tracking_core.journal.lines import FORMAT, Event, decode_line

_CHUNK = 1 << 20


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
            rest = b""
            taken = 0
            while taken < limit:
                chunk = file.read(_CHUNK)
                if not chunk:
                    break
                taken += len(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._take(line, events)
        if final and rest:
            self.damage.append(Damage(self.path, self.offset, len(rest), "the last line is incomplete"))
        return events

    def _take(self, line: bytes, events: list[tuple[int, Event]]) -> None:
        start = self.offset
        self.offset += len(line) + 1
        if not line:
            return
        try:
            event = decode_line(line, self.writer)
        except JournalError as error:
            self.damage.append(Damage(self.path, start, len(line), str(error)))
            return
        if event.kind != "segment":
            events.append((start, event))
        else:
            self._check_header(event)

    def _check_header(self, event: Event) -> None:
        self.parent = event.fields.get("parent")
        if event.fields.get("v", 0) > FORMAT:
            raise JournalError(
                f"{self.path} has format {event.fields.get('v')}, this version reads up to {FORMAT}: "
                "upgrade tracking-core"
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
