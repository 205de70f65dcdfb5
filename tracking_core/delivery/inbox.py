"""The journal as one target sees it: what is new and may be delivered, in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tracking_core.delivery.cursor import Cursor, Position
from tracking_core.journal import Event, JournalReader
from tracking_core.journal.events import RECORD_KINDS
from tracking_core.store.liveness import is_alive


class Inbox:
    """Reads the journals of a run from where a cursor stands.

    Events of a writer are given out by their sequence numbers, and only those below its `low`: before that an
    earlier one may still come.

    Args:
        directory: The run directory.
        cursor: How far the target has come.
    """

    def __init__(self, directory: Path, cursor: Cursor) -> None:
        self._reader = JournalReader(directory)
        self._base: dict[str, int] = {}
        self._held: dict[str, dict[int, tuple[int, Event]]] = {}
        self._low: dict[str, int] = {}
        self._cursor = cursor
        self.environment: dict[str, Any] = {}
        """What the run recorded of where it runs, as far as it was read."""
        self.has_environment = False

    def pull(self, *, final: bool = False) -> None:
        """Read what was added to the journals.

        Args:
            final: Whether the writers will write no more, so that nothing is held back.
        """
        self._reader.look()
        for writer, reader in self._reader.writers.items():
            if writer not in self._base:
                position = self._cursor.writers.get(writer, Position())
                self._base[writer] = position.seq
                self._held[writer] = {}
                self._low[writer] = 1
                reader.offset = position.offset
            try:
                events = reader.read(final=final)
            except FileNotFoundError:
                continue
            for offset, event in events:
                if event.kind == "environment":
                    self.environment.update(event.fields.get("environment", {}))
                    self.has_environment = True
                self._low[writer] = max(self._low[writer], event.low)
                if final:
                    self._low[writer] = max(self._low[writer], event.seq + 1)
                if event.seq > self._base[writer]:
                    self._held[writer][event.seq] = (offset, event)

    def take(self, limit: int, *, final: bool = False) -> list[Event]:
        """Take up to `limit` events that may be delivered; other than records they are passed over."""
        taken: list[Event] = []
        for writer, held in self._held.items():
            low = self._low[writer]
            if held and not final and max(held) >= low and not is_alive(self._reader.directory, writer):
                # What is missing below will not come any more: its writer was killed on the way.
                low = self._low[writer] = max(held) + 1
            for seq in sorted(held):
                if len(taken) >= limit or (seq >= low and not final):
                    break
                event = held[seq][1]
                if event.kind in RECORD_KINDS:
                    taken.append(event)
                else:
                    held.pop(seq)
        return taken

    def done(self, event: Event) -> None:
        """Say that an event was delivered, failed for good, or left out."""
        self._held[event.writer].pop(event.seq, None)

    def is_done(self, event: Event) -> bool:
        """Whether an event was said to be done."""
        return event.seq not in self._held[event.writer]

    def rewind(self, confirmed: dict[str, int]) -> None:
        """Begin again after what the backend itself says it has, whatever the cursor says."""
        self._reader = JournalReader(self._reader.directory)
        self._base.clear()
        self._held.clear()
        self._low.clear()
        self._cursor.writers = {writer: Position(seq, 0) for writer, seq in confirmed.items()}

    def positions(self) -> dict[str, Position]:
        """Where the target stands now: before the first event that is not done with, or not yet written."""
        found: dict[str, Position] = {}
        for writer, held in self._held.items():
            first = min([self._low[writer], *held])
            offset = min([self._reader.writers[writer].offset, *(offset for offset, _ in held.values())])
            found[writer] = Position(max(self._base[writer], first - 1), offset)
        return found

    def waiting(self) -> int:
        """How many records are read, and neither delivered nor given up."""
        return sum(1 for held in self._held.values() for _, event in held.values() if event.kind in RECORD_KINDS)

    @property
    def damage(self) -> list[str]:
        """What could not be read, in words."""
        return [str(damage) for damage in self._reader.damage]
