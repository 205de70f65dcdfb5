"""The worker of one target: the delivery loop. It needs a run directory and a target, and no training."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tracking_core.base.redaction import redact_text
from tracking_core.delivery.backlog import Backlog
from tracking_core.delivery.cursor import Cursor
from tracking_core.delivery.destinations import Destination
from tracking_core.delivery.inbox import Inbox
from tracking_core.delivery.opening import Opener
from tracking_core.delivery.report import Note, Notes, TargetReport
from tracking_core.delivery.retry import Retry
from tracking_core.delivery.sending import Sender
from tracking_core.delivery.session import Session
from tracking_core.protocol import Tracker

BATCH = 256
COMMIT_INTERVAL = 1.0
"""Seconds between two cursors while records flow."""
ENVIRONMENT_WAIT = 3.0
"""Seconds that opening a backend waits until the run has recorded its environment, such as the git commit."""


class TargetWorker:
    """Delivers the records of one run to one target.

    Args:
        directory: The run directory.
        destination: Where to.
        pause: Waits for some seconds, and says whether to go on; how a thread or process waits.
        note: Called with (reason, message, error) for what goes wrong.
        clock: Monotonic seconds.
        waits_for_lease: Whether to wait for another process that delivers to the target; if not, `open` raises.
        comes_back: Whether `open` is called again when `pause` said no, so that the target is not given up then.
        over: What is said of a target that is given up because `pause` said no.
    """

    def __init__(
        self,
        directory: Path,
        destination: Destination,
        *,
        pause: Callable[[float], bool],
        note: Note,
        clock: Callable[[], float] = time.monotonic,
        waits_for_lease: bool = True,
        comes_back: bool = False,
        over: str = "was not open yet when the run ended",
    ) -> None:
        self.directory = directory
        self.destination = destination
        if destination.tracker is None:
            cursor = Cursor.load(directory, destination.target)
        else:
            cursor = Cursor(None, destination.label)
        self._notes = notes = Notes(destination.label, note)
        self._backlog = backlog = Backlog(directory, destination.target, cursor, notes)
        self._retry = retry = Retry(backlog, notes, pause=pause, clock=clock)
        self._opener = Opener(
            destination, backlog, retry, notes, waits_for_lease=waits_for_lease, comes_back=comes_back, over=over
        )
        self._session = Session(destination, backlog, retry, notes, self._opener)
        self._sender = Sender(self._session, backlog, retry, notes)

    # ------------------------------------------------------------------ how it stands

    @property
    def tracker(self) -> Tracker | None:
        """The open tracker; None while there is none."""
        return self._session.tracker

    @property
    def cursor(self) -> Cursor:
        """How far the target has come."""
        return self._backlog.cursor

    @property
    def inbox(self) -> Inbox:
        """What waits for the target."""
        return self._backlog.inbox

    @property
    def opened(self) -> bool:
        """Whether the backend was opened."""
        return self._session.opened

    @property
    def failure(self) -> str | None:
        """Why the target was given up for this session; None if it was not."""
        return self._session.failure

    @property
    def delay(self) -> str | None:
        """Why the target is not open yet; None if nothing is wrong."""
        return self._opener.delay

    @property
    def last_error(self) -> str | None:
        """The last thing that went wrong."""
        return self._notes.last

    @property
    def progress(self) -> int:
        """Grows with each record that is done with; it shows that the target is not stuck."""
        return self._backlog.handled + self._session.changes

    def pending(self) -> int:
        """How many records in the journal wait for this target."""
        return 0 if self._session.strayed else self.inbox.waiting()

    def report(self) -> TargetReport:
        """What became of the records of this session."""
        return TargetReport(
            self.destination.label,
            **self._backlog.counts,
            pending=self.pending(),
            last_error=self.last_error,
            lag=self.inbox.lag(),
            abandoned=self._session.abandoned,
            recoverable=self.cursor.failed.total if self.cursor.path is not None else 0,
        )

    # ------------------------------------------------------------------ opening and closing

    def open(self, *, wait: float = ENVIRONMENT_WAIT) -> bool:
        """Open the backend; transient errors are retried.

        Args:
            wait: How long to wait until the run has recorded its environment, in seconds.

        Returns:
            Whether it is open; if not, `failure` says why.

        Raises:
            LeaseHeldError: Another process delivers to the target, and this worker does not wait for it.
        """
        return self._session.open(wait=wait)

    def commit(self) -> None:
        """Ask the backend to confirm the records that it has, then write the cursor, if there is anything new."""
        if not self._backlog.is_saved:
            self._session.commit()

    def close(self, status: str, error: str | None) -> None:
        """Finish the backend and write the last cursor."""
        self._session.close(status, error)

    def release(self) -> None:
        """Release the lease."""
        self._opener.release()

    def abandon(self, reason: str) -> None:
        """Stop waiting for the end of the session."""
        self._session.abandoned = True
        self._notes.last = self._notes.last or reason

    def died(self, error: BaseException) -> None:
        """Give the target up after an error in the delivery itself."""
        # What a backend raises may quote its credentials.
        died = redact_text(f"the worker died: {error!r}")
        self._session.failure = self._notes.last = died
        self._notes.remark("worker", f"{self.destination.label}: {died}", error)

    # ------------------------------------------------------------------ delivering

    def deliver(self, *, final: bool = False, most: int | None = None) -> int:
        """Deliver one batch of new records.

        Args:
            final: Whether the writers have ended.
            most: How many records at most; None means `BATCH`.

        Returns:
            How many records were done with; 0 when there is nothing to do.
        """
        session = self._session
        if not session.is_there():
            return 0
        session.keep_up()
        if self._retry.is_paused or (session.broken and not session.reopen()):
            return 0
        self.inbox.pull(final=final)
        if self.inbox.truncations:
            if not session.go_back():
                return 0
            self.inbox.pull(final=final)
        events = self.inbox.ready(BATCH if most is None else most)
        if not events:
            if self._backlog.unsaved:
                session.commit()
            return 0
        if not session.is_there():
            # The events may be those of another run.
            return 0
        before = self.progress
        self._sender.send(events, final=final)
        if self._retry.clock() - session.committed_at >= COMMIT_INTERVAL:
            session.commit()
        return self.progress - before

    def deliver_failed(self, *, final: bool = False) -> int:
        """Send one batch of records that failed before. Those that fail again stay failed.

        Those that arrive count as delivered from the next `commit` or `close` on, when the backend has confirmed them.

        Args:
            final: Whether the writers have ended.

        Returns:
            How many records were done with; 0 when there are no more, or nothing is to be sent for now.
        """
        if self.tracker is None or self._session.broken or self._retry.is_paused:
            return 0
        before = self.progress
        with self._backlog.resend(final=final):
            self._sender.send(self._backlog.source.ready(BATCH), final=final)
        return self.progress - before
