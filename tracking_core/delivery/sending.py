"""Sending records to an open backend, and handling those that it does not accept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracking_core.base.problems import brief
from tracking_core.delivery.backlog import Backlog
from tracking_core.delivery.report import Notes
from tracking_core.delivery.retry import Retry, raise_if_for_training
from tracking_core.delivery.session import Session
from tracking_core.delivery.transient import judge
from tracking_core.errors import BatchInterrupted, JournalError, Rejected
from tracking_core.fallbacks import replay
from tracking_core.journal import Event
from tracking_core.protocol import CORE_CAPABILITIES
from tracking_core.values import Record
from tracking_core.values.kinds import KINDS

#: Kind → the capability that it needs, which has no fallback: a backend without it does not get these records.
_NEEDED = {kind.name: kind.capability for kind in KINDS.values() if kind.capability in CORE_CAPABILITIES}


class Sender:
    """Sends records to one target.

    Args:
        session: The connection to its backend.
        backlog: The records that it has still to get.
        retry: When it is asked again.
        notes: Told of what goes wrong.
    """

    def __init__(self, session: Session, backlog: Backlog, retry: Retry, notes: Notes) -> None:
        self._session = session
        self._backlog = backlog
        self._retry = retry
        self._notes = notes
        self._fallbacks: set[str] = set()
        self._final = False

    def send(self, events: Sequence[Event], *, final: bool) -> None:
        """Send the records of some events, and handle those that are not accepted.

        Args:
            events: Events from `backlog.source`.
            final: Whether the writers have ended.
        """
        self._final = final
        batch: list[tuple[Event, Record]] = []
        for event in events:
            if self._backlog.has_failed(event):
                # It is sent on request only.
                self._backlog.skip_failed(event)
                continue
            if not self._wanted(event):
                self._done(event, "skipped")
                continue
            try:
                record = self._backlog.record(event)
                if not record.data and self._backlog.resending:
                    # Later records have set all of it since.
                    self._done(event, "skipped")
                else:
                    batch.append((event, record))
            except JournalError as error:
                verdict = judge(error)
                if verdict.kind == "transient" and not self._retry.is_stuck(event):
                    # It cannot be read for now. The records before it are sent first.
                    if self._send_all(batch):
                        self._retry.wait(error, verdict)
                    return
                self._fail(event, error, str(error))
        self._send_all(batch)

    def _send_all(self, batch: list[tuple[Event, Record]]) -> bool:
        """Send records in order; False when the worker is to stop in between."""
        whole = self._session.supports("deliver")
        at = 0
        while at < len(batch):
            part = batch[at:] if whole else batch[at : at + 1]
            taken, error = self._send([record for _, record in part])
            for event, _ in part[:taken]:
                self._retry.accepted()
                self._done(event, "delivered")
            at += taken
            if error is None or at == len(batch):
                continue
            if not self._after_error(batch[at][0], error):
                return False
            while at < len(batch) and self._backlog.source.is_done(batch[at][0]):
                at += 1
        return True

    def _send(self, records: Sequence[Record]) -> tuple[int, BaseException | None]:
        """Send records to the tracker; returns how many it accepted, and the error that stopped it."""
        tracker: Any = self._session.tracker
        whole = self._session.supports("deliver")
        try:
            if whole:
                tracker.deliver(records)
            else:
                for record in records:
                    replay(record, tracker, on_fallback=self._on_fallback)
        except BatchInterrupted as error:
            taken = error.taken if whole else 0
            return max(0, min(taken, len(records))), error.__cause__ or error
        except BaseException as error:  # noqa: BLE001 - whatever it is, it concerns this target alone
            raise_if_for_training(error)
            return 0, error
        return len(records), None

    def _after_error(self, event: Event, error: BaseException) -> bool:
        """Handle a record that was not accepted; False when the worker is to stop."""
        verdict = judge(error)
        decision = self._retry.decide(event, verdict, broken=self._is_broken())
        if decision.probe and self._accepts_others(event):
            return True
        if decision.action == "fail":
            self._fail(event, error)
            return True
        if decision.action == "pause":
            self._retry.open_breaker(error)
            return False
        if decision.action == "wait":
            return self._retry.wait(error, verdict)
        # The next batch opens the backend again.
        self._session.broken = True
        if decision.gives_up:
            self._fail(event, error)
        self._retry.wait(error, verdict)
        return False

    def _accepts_others(self, stuck: Event) -> bool:
        """Whether the backend accepts records behind one that is stuck.

        The backend may have come back just then. So the stuck record is sent once more before it counts as failed.
        """
        count = self._retry.probe_size()
        source = self._backlog.source
        if not count:
            return False
        source.pull(final=self._final)
        events = source.ready(1 + count)
        if not events or (events[0].writer, events[0].seq) != (stuck.writer, stuck.seq) or source.truncations:
            return False
        before = [stuck]
        for number, event in enumerate(events[1:]):
            if self._session.broken or (number and not self._retry.pause(0.0)):
                return False
            if self._backlog.has_failed(event):
                continue
            if not self._wanted(event):
                self._done(event, "skipped")
            elif self._try(event) is None:
                break
            else:
                before.append(event)
        else:
            return False
        # A backend that merely buffers records has not accepted them.
        if self._session.flush() is not None:
            return False
        for event in before:
            error = self._try(event)
            if error is not None and not self._session.broken:
                self._fail(event, error)
        return True

    def _try(self, event: Event) -> BaseException | None:
        """Send one record; returns the error, or None when it was accepted."""
        try:
            _, error = self._send([self._backlog.record(event)])
        except JournalError as problem:
            return problem
        if error is None:
            self._done(event, "delivered")
        self._session.broken = self._is_broken()
        return error

    def _is_broken(self) -> bool:
        return getattr(self._session.tracker, "broken", False) is True

    def _fail(self, event: Event, error: BaseException, message: str | None = None) -> None:
        what = "refused" if isinstance(error, Rejected) else "failed on"
        said = message or f"{what} a {event.kind} record (seq {event.seq}): {brief(error)}"
        self._notes.trouble("failed", said, error)
        self._done(event, "failed")

    def _done(self, event: Event, outcome: str) -> None:
        self._retry.done(event, delivered=outcome == "delivered")
        self._backlog.done(event, outcome)

    def _wanted(self, event: Event) -> bool:
        kind = event.kind
        if kind in _NEEDED and not self._session.supports(_NEEDED[kind]):
            self._on_fallback(kind)
            return False
        return self._backlog.wants(event)

    def _on_fallback(self, kind: str) -> None:
        if kind not in self._fallbacks:
            self._fallbacks.add(kind)
            self._notes.remark(
                "fallback", f"{self._notes.label} cannot show records of the kind {kind}; the local store has them"
            )
