"""The session of a target: its backend is opened, flushed and closed, and opened again when the run goes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from tracking_core.base.problems import brief
from tracking_core.delivery.backlog import Backlog
from tracking_core.delivery.cursor import address_of
from tracking_core.delivery.destinations import Destination
from tracking_core.delivery.opening import Opener
from tracking_core.delivery.report import Notes
from tracking_core.delivery.retry import Retry, raise_if_for_training
from tracking_core.delivery.transient import Verdict, judge
from tracking_core.errors import Rejected
from tracking_core.fallbacks import call
from tracking_core.layout.presence import Presence
from tracking_core.protocol import Tracker

_CONFIRMING_TRIES, _REFUSALS = 8, 256


class Session:
    """The connection of one target to its backend.

    Args:
        destination: The target.
        backlog: The records that it has still to get.
        retry: When it is asked again.
        notes: Told of what goes wrong.
        opener: Opens the backend, if that is not a tracker that was passed as an object.
    """

    def __init__(
        self,
        destination: Destination,
        backlog: Backlog,
        retry: Retry,
        notes: Notes,
        opener: Opener,
    ) -> None:
        self.tracker: Tracker | None = None
        self.failure: str | None = None
        """Why the target was given up for this session; None if it was not."""
        self.opened = False
        self.abandoned = False
        """Whether the end of the session was given up or failed: the backend may not have everything."""
        self.broken = False
        """Whether the tracker is of no more use, and the backend is to be opened again."""
        self.strayed = False
        """Whether the directory holds another run now."""
        self.changes = 0
        """Grows when the backend is opened or closed."""
        self.committed_at = retry.clock()
        self._destination = destination
        self._backlog = backlog
        self._retry = retry
        self._notes = notes
        self._opener = opener
        self._renewed = False
        self._presence = Presence(backlog.directory)

    # ------------------------------------------------------------------ opening

    def open(self, *, wait: float) -> bool:
        """Open the backend; transient errors are retried.

        Args:
            wait: How long to wait until the run has recorded its environment, in seconds.

        Returns:
            Whether it is open; if not, `failure` says why.

        Raises:
            LeaseHeldError: Another process delivers to the target, and this worker does not wait for it.
        """
        if self.tracker is not None or self.failure is not None or self._retry.is_paused:
            return self.tracker is not None
        tracker = self._destination.tracker
        found = (tracker, getattr(tracker, "confirmed", None)) if tracker is not None else self._opener.open(wait)
        if found is None:
            self.failure = self._opener.failure
            return False
        self.tracker, confirmed = found
        inbox, cursor = self._backlog.inbox, self._backlog.cursor
        if isinstance(confirmed, Mapping):
            arrived: Mapping[str, int] = getattr(self.tracker, "arrived", confirmed)
            if inbox.holds_superseded(dict(arrived)) and self._opener.replaces is not None:
                # The backend has more than the cursor knows of.
                return self._replace_superseded()
            if not confirmed:
                cursor.forget_already_sent()
            inbox.rewind(dict(cast("Mapping[str, int]", confirmed)))
        self._backlog.begin_session()
        remarks: Any = getattr(self.tracker, "remarks", None)
        if isinstance(remarks, list) and remarks:
            said = "; ".join(map(str, cast("list[Any]", remarks)))
            self._notes.remark("opening", f"{self._destination.label}: {said}")
        cursor.url = address_of(self.tracker) or cursor.url
        self.opened = True
        self.broken = False
        self.changes += 1
        self.commit()
        return True

    def reopen(self) -> bool:
        """Open the backend again, and go on after the records that it has confirmed."""
        self.tracker = None
        self._backlog.restart()
        return self.open(wait=0.0)

    def supports(self, capability: str) -> bool:
        """Whether the tracker has a capability."""
        assert self.tracker is not None
        adapter = self._opener.adapter
        if adapter is not None:
            return adapter.supports(self.tracker, capability)
        return capability != "deliver" or callable(getattr(self.tracker, "deliver", None))

    # ------------------------------------------------------------------ going back

    def go_back(self) -> bool:
        """Handle a truncation that came while the target is open; False when it is not open any more."""
        if self._backlog.inbox.sent_beyond is not None and self._opener.replaces is not None:
            return self._replace_superseded()
        self._opener.warn_of_superseded()
        self._backlog.acknowledge()
        return True

    def _replace_superseded(self) -> bool:
        """Close the target, and open it in a new generation."""
        self._interrupt("the run went back to an earlier step", "a new generation began")
        self._backlog.superseded = True
        return self.reopen()

    def _interrupt(self, why: str, before: str) -> None:
        try:
            assert self.tracker is not None
            call(self.tracker.finish, "interrupted", error=why)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it concerns this target alone
            raise_if_for_training(error)
            self._notes.trouble("finish", f"could not be finished before {before}: {brief(error)}", error)

    # ------------------------------------------------------------------ the run directory

    def is_there(self) -> bool:
        """Whether the run is in its directory, so that journals can be read and cursors written."""
        if self.strayed:
            return False
        found = self._presence.look()
        self._renewed |= found == "anew"
        if found == "another":
            self.strayed = True
            self.failure = "the directory holds another run now"
            self._notes.trouble("given up", f"gets no more of this run: {self.failure}")
        return found in {"here", "anew"}

    def keep_up(self) -> None:
        """Keep the lease; if the run directory was deleted and made again, open the backend again."""
        if self._renewed:
            self._renewed = False
            self.commit()
            if self.tracker is not None and self._destination.tracker is None:
                self._interrupt("the directory of the run was deleted during the run", "it was opened again")
                self.reopen()
        self._opener.beat()

    # ------------------------------------------------------------------ committing and closing

    def flush(self) -> BaseException | None:
        """Ask the backend to confirm the records that it has; returns the error, if any."""
        flush: Any = getattr(self.tracker, "flush", None)
        if flush is None or not self.supports("flush"):
            return None
        try:
            flush()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it concerns this target alone
            raise_if_for_training(error)
            return error
        return None

    def commit(self) -> None:
        """Ask the backend to confirm the records that it has, then write the cursor.

        If the backend does not confirm, the cursor stays behind, and records are sent again.
        """
        self.committed_at = self._retry.clock()
        if self.tracker is not None and self._confirm() is None and self.is_there():
            self._save()

    def _confirm(self) -> Verdict | None:
        """Why the backend does not confirm the records that it has; None if it does."""
        error = self.flush() if self._backlog.unsaved else None
        if error is None:
            return None
        self._notes.trouble("commit", f"did not confirm its records: {brief(error)}", error)
        if isinstance(error, Rejected):
            self._backlog.refused(error)
        return judge(error)

    def _confirm_at_last(self) -> Verdict | None:
        """As `_confirm`, with retries: it is the last chance."""
        tries = refused = 0
        while True:
            verdict = self._confirm()
            if verdict is None:
                return None
            if verdict.kind == "rejected" and refused < _REFUSALS:
                # It concerns one record; there may be others.
                refused += 1
                continue
            tries += 1
            if verdict.kind != "transient" or tries >= _CONFIRMING_TRIES:
                return verdict
            if not self._retry.pause(self._retry.delay(verdict, tries - 1)):
                return verdict

    def _save(self) -> None:
        try:
            self._backlog.save()
        except OSError as error:
            self._notes.trouble("commit", f"could not write its cursor: {brief(error)}", error)

    def close(self, status: str, error: str | None) -> None:
        """Finish the backend and write the last cursor."""
        if self.tracker is None:
            return
        unconfirmed = self._confirm_at_last()
        confirmed = unconfirmed is None
        self.abandoned |= unconfirmed is not None and unconfirmed.kind == "transient"
        try:
            self._finish(self.tracker, status, error)
            self._backlog.cursor.status = status
        except BaseException as problem:  # noqa: BLE001 - whatever it is, it concerns this target alone
            # The backend may not have all records; that shows when it is opened again.
            confirmed, self.abandoned = False, True
            self._notes.trouble("finish", f"could not be finished: {brief(problem)}", problem)
        # Otherwise the cursor and the state of the adapter stay, and opening the run again sends the records again.
        if confirmed and self.is_there():
            self._save()
        self._backlog.unsaved = 0
        self._opener.release()
        self.tracker = None
        self.changes += 1

    def _finish(self, tracker: Tracker, status: str, error: str | None) -> None:
        for _ in range(_REFUSALS):
            try:
                call(tracker.finish, status, error=error)
            except Rejected as problem:
                if problem.record is None:
                    raise
                # It concerns one record, and the rest is finished: a second call tells whether there are others.
                self._notes.trouble("failed", f"refused a record that it had accepted: {brief(problem)}", problem)
                self._backlog.refused(problem)
            else:
                return
