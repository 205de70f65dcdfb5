"""What a target has still to get: its cursor, the journal behind the cursor, and what became of each record."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tracking_core.backends.targets import Target
from tracking_core.delivery.cursor import Cursor
from tracking_core.delivery.inbox import Inbox
from tracking_core.delivery.later import FACTS, LaterFacts
from tracking_core.delivery.report import Notes
from tracking_core.delivery.selection import Selection
from tracking_core.errors import Rejected
from tracking_core.journal import Event
from tracking_core.journal.events import to_record
from tracking_core.layout.runs import read_run
from tracking_core.values import Record

_AT_ONCE = 1024


class Backlog:
    """The records that one target has still to get.

    Args:
        directory: The run directory.
        target: The target, with its filters.
        cursor: How far the target has come.
        notes: Told of what goes wrong.
    """

    def __init__(self, directory: Path, target: Target, cursor: Cursor, notes: Notes) -> None:
        self.directory = directory
        self.counts = {"delivered": 0, "failed": 0, "skipped": 0}
        """Records of this session, by what became of them."""
        self.handled = 0
        """Grows with every record that is done with."""
        self.unsaved = 0
        """Records that are done with, and that the cursor on disk does not cover."""
        self.resending = False
        """Whether the records that failed before are being sent again."""
        self.superseded = False
        """Whether the backend says that it has superseded records."""
        self._target = target
        self._notes = notes
        self._environment: dict[str, object] = {}
        self._failed: Inbox | None = None
        self._recovered: list[tuple[str, int, str]] = []
        """Records that had failed, and did not this time: (writer, number, what became of it)."""
        self._is_full = False
        self._later: LaterFacts | None = None
        self._selection = Selection(target)
        self.resume(cursor)

    # ------------------------------------------------------------------ reading

    def resume(self, cursor: Cursor) -> None:
        """Read on from another cursor."""
        self.cursor = cursor
        self.restart()

    def restart(self) -> None:
        """Read again from where the cursor stands."""
        self.inbox = Inbox(self.directory, self.cursor)
        # Recorded once, at the start of a journal.
        self.inbox.environment = self._environment
        self._failed = None
        self._recovered.clear()

    @property
    def source(self) -> Inbox:
        """Where the records come from that are being delivered."""
        return self._failed if self.resending and self._failed is not None else self.inbox

    @contextmanager
    def resend(self, *, final: bool) -> Generator[None]:
        """Within it, `source` gives out the records that failed before."""
        if self._failed is None:
            self._failed = self._read_failed()
        self._failed.pull(final=final)
        self._recovered += [(*one, "superseded") for one in self._failed.superseded]
        self._failed.superseded.clear()
        self.resending = True
        try:
            yield
        finally:
            self.resending = False

    def has_failed(self, event: Event) -> bool:
        """Whether a record failed earlier, and is not to be sent now."""
        return not self.resending and self.cursor.failed.has(event.writer, event.seq)

    def wants(self, event: Event) -> bool:
        """Whether the filters let something of an event through."""
        return self._selection.wants(event)

    def record(self, event: Event) -> Record:
        """The record that the target gets for an event.

        Raises:
            JournalError: It cannot be read.
        """
        record = self._selection.of(to_record(event, self.directory))
        if not self.resending:
            return record
        if record.kind in FACTS:
            if self._later is None:
                self._later = LaterFacts(self.directory, read_run(self.directory).get("forks", ()))
            record = replace(record, data=self._later.left_of(record))
        return replace(record, again=True)

    def _read_failed(self) -> Inbox:
        return Inbox.of_failed(self.directory, self.cursor.failed)

    # ------------------------------------------------------------------ reconciling the cursor

    def reconcile(self, replaces: str | None) -> None:
        """Drop records superseded by `resume_step`; resend what changed filters now admit.

        Args:
            replaces: How the adapter replaces what was recorded; None when it cannot.
        """
        cursor, filters = self.cursor, self._target.filters
        changed = bool(cursor.writers) and cursor.filters != filters
        outdated = self.superseded or self.inbox.sent_beyond is not None
        outdated |= changed and bool(cursor.filters) and replaces == "in place"
        if replaces is not None and outdated:
            cursor.begin_generation(filters=filters)
            # Once: opening may take several tries.
            self.superseded = False
        elif changed:
            cursor.begin_round()
        cursor.target = str(self._target)
        if changed or (replaces is not None and outdated):
            self.restart()
            self.inbox.look()

    def begin_session(self) -> None:
        """Note in the cursor that the backend is open."""
        cursor = self.cursor
        cursor.opened += 1
        # The status of the last session is no longer true.
        cursor.status = None
        # The adapter has replaced them. If we are killed before the cursor is written, it does so again.
        cursor.replaced = []
        self.superseded = False
        self.acknowledge()
        self._selection = Selection(self._target, cursor.retained, cursor.already_sent)

    def acknowledge(self) -> None:
        """Note in the cursor which truncations were taken care of."""
        truncations, failed = self.inbox.truncations, self.cursor.failed
        self.cursor.truncated = sorted({*self.cursor.truncated, *(one.by for one in truncations)})
        if any(one.reaches({writer: failed.last(writer) for writer in one.cuts}) for one in truncations):
            self._forget_superseded()
        truncations.clear()
        self.inbox.sent_beyond = None

    def _forget_superseded(self) -> None:
        """Take superseded records off the failed ones."""
        inbox = self._read_failed()
        while True:
            inbox.pull()
            self.cursor.recover((*one, "superseded") for one in inbox.superseded)
            inbox.superseded.clear()
            events = inbox.ready(_AT_ONCE)
            if not events:
                return
            for event in events:
                inbox.done(event)

    # ------------------------------------------------------------------ what became of records

    def skip_failed(self, event: Event) -> None:
        """Pass over a record that failed earlier and comes by again, behind what the backend has confirmed."""
        self.inbox.done(event)
        self.handled += 1

    def done(self, event: Event, outcome: str) -> None:
        """Note what became of a record.

        Args:
            event: Its event.
            outcome: "delivered", "failed" or "skipped".
        """
        self.source.done(event)
        self.counts[outcome] += 1
        if not self.resending:
            self._count(event, outcome)
        elif outcome != "failed":
            self._recovered.append((event.writer, event.seq, outcome))
        self.unsaved += 1
        self.handled += 1

    def _count(self, event: Event, outcome: str) -> None:
        counts = self.cursor.counts
        counts[outcome] = counts.get(outcome, 0) + 1
        if outcome == "failed" and not self.cursor.failed.add(event.writer, event.seq) and not self._is_full:
            self._is_full = True
            self._notes.trouble(
                "failed",
                "failed on so many separate records that the numbers of further ones are not kept, only their count",
            )

    def refused(self, error: Rejected) -> None:
        """Count a record as failed that was counted as delivered."""
        known = len(self._recovered)
        self._recovered = [one for one in self._recovered if one[:2] != error.record]
        again = len(self._recovered) < known
        for counts in (self.counts,) if again else (self.counts, self.cursor.counts):
            if counts.get("delivered", 0) > 0:
                counts["delivered"] -= 1
                counts["failed"] = counts.get("failed", 0) + 1
        if error.record is not None:
            self.cursor.failed.add(*error.record)

    @property
    def is_saved(self) -> bool:
        """Whether the cursor on disk is up to date."""
        return not (self.unsaved or self._recovered) and self.cursor.stuck is None

    def save(self) -> None:
        """Write the cursor, after the backend has confirmed what it has.

        Raises:
            OSError: It cannot be written.
        """
        self.cursor.recover(self._recovered)
        self._recovered.clear()
        self.cursor.save(self.inbox.positions())
        self.unsaved = 0
