"""The worker of one target. It needs a run directory and a way to open the target, and nothing else of the training."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from tracking_core.backends.hooks import RunInfo
from tracking_core.backends.plugins import Adapter
from tracking_core.base.problems import brief
from tracking_core.base.redaction import redact_text
from tracking_core.base.regular import OddFileError
from tracking_core.delivery.cursor import Cursor
from tracking_core.delivery.described import current_config, run_info
from tracking_core.delivery.destinations import Destination
from tracking_core.delivery.inbox import Inbox
from tracking_core.delivery.later import FACTS, LaterFacts
from tracking_core.delivery.lease import Lease
from tracking_core.delivery.places import take
from tracking_core.delivery.report import TargetReport
from tracking_core.delivery.selection import Selection
from tracking_core.delivery.transient import Verdict, judge
from tracking_core.errors import (
    AdapterError,
    BatchInterrupted,
    JournalError,
    LeaseHeldError,
    Rejected,
    RetryLater,
    SettingsError,
)
from tracking_core.fallbacks import call, replay
from tracking_core.journal import Event
from tracking_core.journal.events import to_record
from tracking_core.layout.presence import Presence
from tracking_core.layout.runs import read_run
from tracking_core.protocol import PREEMPTED, Tracker
from tracking_core.values import Record

BATCH = 256
COMMIT_INTERVAL = 1.0
"""Seconds between two cursors while records flow."""
ENVIRONMENT_WAIT = 3.0
"""Seconds that opening a backend waits for what the run records of where it runs, such as the git commit."""
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
_OPENING_TRIES, _CONFIRMING_TRIES, _AGAIN_TRIES = 3, 8, 3
STUCK = 600.0
"""Seconds that a record may hold up those behind it with what may pass, if the backend takes those."""
BREAKER = 10
"""Failures in a row after which a target is left alone for a while: what comes then stays in the journal, and is not
counted as failed."""
#: Kinds with a capability of their own name; what a backend has no place for is not sent to it.
_CAPABILITY = {"scalars": "scalars", "images": "images", "histogram": "histograms", "artifact": "artifacts"}

Note = Callable[[str, str, BaseException | None], None]


class TargetWorker:
    """Delivers the records of one run to one target.

    Args:
        directory: The run directory.
        destination: Where to.
        pause: Waits for some seconds, and says whether to go on; how a thread or process waits.
        note: Called with (reason, message, error) for what goes wrong.
        clock: Monotonic seconds.
        waits_for_lease: Whether to wait for another who delivers to the target; if not, `open` raises.
        comes_back: Whether `open` is called again when `pause` said no, so that the target is not given up then.
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
    ) -> None:
        self.directory = directory
        self.destination = destination
        self.tracker: Tracker | None = None
        self.failure: str | None = None
        """Why the target was given up for this session; None while it is not."""
        self.delay: str | None = None
        """What keeps the target from being opened for now; None while nothing does."""
        self.last_error: str | None = None
        self.progress = 0
        """Grows whenever something was done with; how others see that the target is not stuck."""
        self.opened = False
        self.abandoned = False
        """Whether the end was not waited for any longer."""
        self._pause = pause
        self.note = note
        self._clock = clock
        self._waits_for_lease = waits_for_lease
        self._comes_back = comes_back
        self._adapter: Adapter | None = None
        self._fallbacks: set[str] = set()
        self._session = {"delivered": 0, "failed": 0, "skipped": 0}
        self._uncommitted = 0
        self._arrived: list[tuple[str, int, str]] = []
        """What had failed before, and did not this time: (writer, number, what became of it)."""
        self._committed_at = clock()
        self._lease: Lease | None = None
        self._selection = Selection(destination.target)
        if destination.tracker is None:
            self.cursor = Cursor.load(directory, destination.target)
        else:
            self.cursor = Cursor(None, destination.label)
        self.inbox = Inbox(directory, self.cursor)
        self._presence = Presence(directory)

    # ------------------------------------------------------------------ opening

    def open(self, *, wait: float = ENVIRONMENT_WAIT) -> bool:
        """Open the backend, with retries for what may pass.

        Args:
            wait: How long to wait for what the run records of where it runs, in seconds.

        Returns:
            Whether it is open; if not, `failure` says why.

        Raises:
            LeaseHeldError: Another delivers to it, and this worker does not wait for that.
        """
        if self.tracker is not None or self.failure is not None or self._clock() < self._open_until:
            return self.tracker is not None
        if self.destination.tracker is not None:
            self._confirmed = getattr(self.destination.tracker, "confirmed", None)
            self.tracker = self.destination.tracker
        else:
            self._open_adapter(wait)
        if self.tracker is None:
            return False
        confirmed = self._confirmed
        if isinstance(confirmed, Mapping):
            arrived: Mapping[str, int] = getattr(self.tracker, "arrived", confirmed)
            if self.inbox.holds_superseded(dict(arrived)) and self._replaces is not None:
                # More had arrived than the cursor knew of.
                return self._again_anew()
            if not confirmed:
                self.cursor.forget_given()
            self.inbox.rewind(dict(confirmed))
        self.cursor.opened += 1
        # What it was closed with before says nothing of it now.
        self.cursor.status = None
        # The adapter has put aside what there was; killed before the cursor is written, it would do so again.
        self.cursor.replaced = []
        self._anew = False
        self._acknowledge()
        self._selection = Selection(self.destination.target, self.cursor.kept, self.cursor.given)
        remarks: Any = getattr(self.tracker, "remarks", None)
        if isinstance(remarks, list) and remarks:
            said = "; ".join(map(str, cast("list[Any]", remarks)))
            self.note("opening", f"{self.destination.label}: {said}", None)
        self.opened = True
        self._broken = False
        self.progress += 1
        self._commit()
        return True

    def _open_adapter(self, wait: float) -> None:
        deadline = self._clock() + wait
        if self.cursor.writers:
            self.inbox.look_back()
        self.inbox.pull()
        while not self.inbox.has_environment and self._clock() < deadline and self._pause(0.02):
            self.inbox.pull()
        tries = failures = 0
        while True:
            try:
                self._adapter = self.destination.adapter()
                assert self._adapter is not None
                self._take_lease()
                self._agree()
                tracker = self._adapter.open(self.destination.target, self._run_info())
                # Here, since a backend that is asked may not answer.
                self._confirmed = getattr(tracker, "confirmed", None)
                self.tracker = tracker
            except (RetryLater, LeaseHeldError) as error:
                if isinstance(error, LeaseHeldError) and not self._waits_for_lease:
                    raise
                self._trouble("retry", f"cannot be opened yet: {error}", error)
                after = judge(error).after
                delay = after if after is not None else self._backoff(tries)
            except (AdapterError, SettingsError, OddFileError) as error:
                self._give_up(f"cannot be opened: {error}", error)
                return
            except BaseException as error:  # noqa: BLE001 - a backend may raise anything; it must not reach the loop
                _raise_if_for_training(error)
                verdict = judge(error)
                passes = verdict.kind == "transient"
                # What passes is waited for as long as the run goes on.
                failures += not passes
                if failures >= _OPENING_TRIES or not isinstance(error, Exception):
                    self._give_up(f"cannot be opened: {brief(error)}", error)
                    return
                self._trouble(
                    "retry" if passes else "open", f"cannot be opened yet: {brief(error)}; trying again", error
                )
                delay = verdict.after if verdict.after is not None else self._backoff(tries)
            else:
                return
            tries += 1
            if not self._pause(delay):
                if self._comes_back:
                    self._open_until = self._clock() + delay
                else:
                    self._give_up("was not open yet when the run ended", None)
                return

    def _take_lease(self) -> None:
        """Become the one who delivers to this target, and go on where the last one stopped."""
        if self._lease is None:
            assert self._adapter is not None
            self._lease = take(self.directory, self.destination.target, self._adapter, self.destination.label)
            self.cursor = Cursor.load(self.directory, self.destination.target)
            self._begin_inbox()

    def _agree(self) -> None:
        """Find out what the target has that does not count any more, or has not because its filters were others."""
        self.inbox.look()
        filters = self.destination.target.filters
        changed = bool(self.cursor.writers) and self.cursor.filters != filters
        begun = False
        if self._anew or self.inbox.has_delivered or (changed and self.cursor.filters and self._replaces == "in place"):
            begun = self._begin_anew()
        if changed and not begun:
            self.cursor.begin_round()
            self._begin_inbox()
            self.inbox.look()
        self.cursor.target = str(self.destination.target)

    @property
    def _replaces(self) -> str | None:
        return self._adapter.info.replaces if self._adapter is not None else None

    def _begin_anew(self) -> bool:
        """Record everything anew, in place of what the target has; False if it cannot replace that."""
        if self._replaces is None:
            if self.inbox.has_delivered:
                self.note(
                    "superseded",
                    f"{self.destination.label} keeps what it was given beyond the step that the run went back to: it "
                    "has no way to take that back",
                    None,
                )
            return False
        self.cursor.begin_generation(filters=self.destination.target.filters)
        # Once: opening may take several tries.
        self._anew = False
        self._begin_inbox()
        self.inbox.look()
        return True

    def _begin_inbox(self) -> None:
        environment = self.inbox.environment
        self.inbox = Inbox(self.directory, self.cursor)
        self.inbox.environment.update(environment)

    def _acknowledge(self) -> None:
        """Remember which truncations were taken care of."""
        known = {*self.cursor.truncated, *(one.by for one in self.inbox.taken_back)}
        self.cursor.truncated = sorted(known)
        failed = self.cursor.failed
        if any(one.reaches({writer: failed.last(writer) for writer in one.cuts}) for one in self.inbox.taken_back):
            self._forget_superseded()
        self.inbox.taken_back.clear()
        self.inbox.has_delivered = False

    def _forget_superseded(self) -> None:
        """Of what failed, what the run took back since does not count any more."""
        inbox = Inbox.of_failed(self.directory, self.cursor.failed)
        while True:
            inbox.pull()
            self.cursor.take_off((*one, "superseded") for one in inbox.superseded)
            inbox.superseded.clear()
            events = inbox.take(BATCH)
            if not events:
                return
            for event in events:
                inbox.done(event)

    def _go_back(self) -> bool:
        """Take care of a truncation that came while the target is open; False when it is not open any more."""
        if self.inbox.has_delivered:
            if self._replaces is not None:
                return self._again_anew()
            self._begin_anew()
        self._acknowledge()
        return True

    def _again_anew(self) -> bool:
        """Close the target, and open it to record everything anew."""
        try:
            assert self.tracker is not None
            call(self.tracker.finish, "interrupted", error="the run went back to an earlier step")
        except BaseException as error:  # noqa: BLE001 - whatever it is, it concerns this target alone
            _raise_if_for_training(error)
            self._trouble("finish", f"could not be finished before it was begun anew: {brief(error)}", error)
        self._anew = True
        return self._reopen()

    def release(self) -> None:
        """Let others deliver to this target."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    def _run_info(self) -> RunInfo:
        facts = read_run(self.directory)
        run = run_info(facts, self.directory)
        return replace(
            run,
            # A backend that is opened again must not go back to what the run was started with.
            config=current_config(self.directory, run.config, facts.get("forks", ())),
            resumed=self.cursor.opened > 0,
            state=self.cursor.state,
            environment={**run.environment, **self.inbox.environment},
            generation=self.cursor.generation,
            replaced=tuple(self.cursor.replaced),
            round=self.cursor.round,
        )

    # ------------------------------------------------------------------ delivering

    def deliver(self, *, final: bool = False) -> int:
        """Deliver one batch of what is new.

        Args:
            final: Whether the writers will write no more.

        Returns:
            How many records were done with; 0 when there is nothing to do.
        """
        if not self._is_there():
            return 0
        if self._renewed:
            self._begin_again()
        if self._lease is not None:
            self._lease.beat()
        if self._clock() < self._open_until or (self._broken and not self._reopen()):
            return 0
        self.inbox.pull(final=final)
        if self.inbox.taken_back:
            if not self._go_back():
                return 0
            self.inbox.pull(final=final)
        events = self.inbox.take(BATCH)
        if not events:
            if self._uncommitted:
                self._commit()
            return 0
        if not self._is_there():
            # What was read just now may be another run's.
            return 0
        before = self.progress
        self._final = final
        self._deliver(events)
        if self._clock() - self._committed_at >= COMMIT_INTERVAL:
            self._commit()
        return self.progress - before

    def _is_there(self) -> bool:
        """Whether the run is in its directory, so that it can be read, and cursors be written."""
        if not self._strayed:
            found = self._presence.look()
            self._renewed |= found == "anew"
            if found == "another":
                self._strayed = True
                self.failure = "the directory holds another run now"
                self._trouble("given up", f"gets no more of this run: {self.failure}", None)
            return found in {"here", "anew"}
        return False

    def _begin_again(self) -> None:
        """Open the backend again: what it keeps in the run directory was deleted with it."""
        self._renewed = False
        self._commit()
        if self.tracker is None or self.destination.tracker is not None:
            return
        try:
            call(self.tracker.finish, "interrupted", error="the directory of the run was deleted while it went on")
        except BaseException as error:  # noqa: BLE001 - whatever it is, it concerns this target alone
            _raise_if_for_training(error)
            self._trouble("finish", f"could not be finished before it was opened again: {brief(error)}", error)
        self._reopen()

    def deliver_failed(self, *, final: bool = False) -> int:
        """Send one batch of what failed before once more; what fails again stays failed.

        What arrives is taken off the failed at the next `commit` or `close`, when the backend has confirmed it.

        Args:
            final: Whether the writers will write no more.

        Returns:
            How many records were done with; 0 when there are no more, or the backend is not to be asked for now.
        """
        if self.tracker is None or self._broken or self._clock() < self._open_until:
            return 0
        if self._failed is None:
            self._failed = Inbox.of_failed(self.directory, self.cursor.failed)
        self._failed.pull(final=final)
        self._arrived += [(*one, "superseded") for one in self._failed.superseded]
        self._failed.superseded.clear()
        before = self.progress
        self._again = True
        try:
            self._deliver(self._failed.take(BATCH))
        finally:
            self._again = False
        return self.progress - before

    def _deliver(self, events: Sequence[Event]) -> None:
        batch: list[tuple[Event, Record]] = []
        for event in events:
            if not self._again and self.cursor.failed.has(event.writer, event.seq):
                # It stands behind what the backend has confirmed, and comes by again; it is sent on request alone.
                self.inbox.done(event)
                self.progress += 1
                continue
            if not self._wanted(event):
                self._done(event, "skipped")
                continue
            try:
                record = self._record(event)
                if not record.data and self._again:
                    # Later ones say all of it otherwise.
                    self._done(event, "skipped")
                else:
                    batch.append((event, record))
            except JournalError as error:
                if judge(error).kind == "transient" and not self._is_stuck(event):
                    # It is there, but cannot be read now; what stands before it goes first.
                    if self._send_all(batch):
                        self._wait(error, judge(error))
                    return
                self._fail(event, error, str(error))
        self._send_all(batch)

    def _record(self, event: Event) -> Record:
        record = self._selection.of(to_record(event, self.directory))
        if not self._again:
            return record
        if record.kind in FACTS:
            if self._later is None:
                self._later = LaterFacts(self.directory, read_run(self.directory).get("forks", ()))
            record = replace(record, data=self._later.left_of(record))
        return replace(record, again=True)

    def _send_all(self, batch: list[tuple[Event, Record]]) -> bool:
        """Send records in order; False when the worker is to stop in between."""
        whole = self._supports("deliver")
        at = 0
        while at < len(batch):
            part = batch[at:] if whole else batch[at : at + 1]
            taken, error = self._send([record for _, record in part])
            for event, _ in part[:taken]:
                self._retries = 0
                self._done(event, "delivered")
            at += taken
            if error is None or at == len(batch):
                continue
            if not self._after_error(batch[at][0], error):
                return False
            while at < len(batch) and self._source.is_done(batch[at][0]):
                at += 1
        return True

    def _send(self, records: Sequence[Record]) -> tuple[int, BaseException | None]:
        """Give records to the tracker; how many it took, and what stopped it."""
        assert self.tracker is not None
        try:
            if self._supports("deliver"):
                deliver: Any = getattr(self.tracker, "deliver", None)
                deliver(records)
            else:
                for record in records:
                    replay(record, self.tracker, on_fallback=self._on_fallback)
        except BatchInterrupted as error:
            taken = error.taken if self._supports("deliver") else 0
            return max(0, min(taken, len(records))), error.__cause__ or error
        except BaseException as error:  # noqa: BLE001 - whatever it is, it concerns this target alone
            _raise_if_for_training(error)
            return 0, error
        return len(records), None

    _retries = 0
    _failures = 0
    _open_until = float("-inf")
    _broken = False
    _anew = False
    _strayed = False
    _renewed = False
    _final = False
    _again = False
    _failed: Inbox | None = None
    _later: LaterFacts | None = None
    _confirmed: Any = None
    _stuck: tuple[str, int] | None = None
    _stuck_at = 0.0
    _looks = 0

    @property
    def _source(self) -> Inbox:
        """Where the records come from that are being delivered."""
        return self._failed if self._again and self._failed is not None else self.inbox

    def _reopen(self) -> bool:
        """Open the backend again, and go on after what it has confirmed."""
        self.tracker = None
        self.inbox = Inbox(self.directory, self.cursor)
        self._failed = None
        self._arrived.clear()
        return self.open(wait=0.0)

    def _after_error(self, event: Event, error: BaseException) -> bool:
        """Decide about a record that failed: wait and try again, or count it and go on. False means stop."""
        verdict = judge(error)
        if verdict.kind == "transient":
            return self._after_transient(event, error, verdict)
        self._retries = 0
        if verdict.kind == "failed":
            self._failures += 1
            if self._failures >= BREAKER:
                if self._failures > BREAKER + 1 and self._takes_others(event):
                    return True
                wait = self._backoff(self._failures - BREAKER)
                self._open_until = self._clock() + wait
                self._trouble(
                    "left alone",
                    f"failed {self._failures} times in a row and is left alone for {wait:g} s: {brief(error)}",
                    error,
                )
                return False
        self._fail(event, error)
        return True

    def _after_transient(self, event: Event, error: BaseException, verdict: Verdict) -> bool:
        if self._again and self._retries >= _AGAIN_TRIES:
            # It has failed already: nobody has to wait for it.
            self._retries = 0
            self._fail(event, error)
            return True
        if getattr(self.tracker, "broken", False) is True:
            # Asking this tracker again is of no use: the next round opens a new one.
            self._broken = True
            stuck = self._is_stuck(event)
            self._looks += 1
            if stuck and self._looks > _OPENING_TRIES:
                # The backend could be opened again and again, and broke at this record each time.
                self._fail(event, error)
            self._wait(error, verdict)
            return False
        if self._is_stuck(event) and self._takes_others(event):
            return True
        return self._wait(error, verdict)

    def _wait(self, error: BaseException, verdict: Verdict) -> bool:
        """Wait until a record may be tried again; False when the worker is to stop."""
        if isinstance(error, RetryLater):
            self._trouble("retry", f"asks to retry later: {error}", error)
        else:
            self._trouble("retry", f"takes nothing for now, and is tried again: {brief(error)}", error)
        delay = verdict.after if verdict.after is not None else self._backoff(self._retries)
        self._retries += 1
        return self._pause(delay)

    def _is_stuck(self, event: Event) -> bool:
        """Whether a record has held up the others for too long."""
        if self._again:
            return False
        key = (event.writer, event.seq)
        if self._stuck != key:
            self._stuck, self._looks = key, 0
            self._stuck_at = self._clock() - self.cursor.waited(*key)
        return self._clock() - self._stuck_at >= STUCK

    def _takes_others(self, stuck: Event) -> bool:
        """Whether the backend takes what stands behind a record, but still not that: then it has failed.

        It is not enough that others are taken, since it may have come back just then: so it is tried once more. Each
        may take as long as the backend takes to say no: so it is looked less and less often, and then at more of them.
        """
        self._looks += 1
        if self._looks & (self._looks - 1):
            return False
        source = self._source
        source.pull(final=self._final)
        events = source.take(BATCH)
        if not events or (events[0].writer, events[0].seq) != (stuck.writer, stuck.seq) or source.taken_back:
            return False
        behind = events[1 : 1 + self._looks]
        before = [stuck]
        for number, event in enumerate(behind):
            if self._broken or (number and not self._pause(0.0)):
                return False
            if not self._again and self.cursor.failed.has(event.writer, event.seq):
                continue
            if not self._wanted(event):
                self._done(event, "skipped")
            elif self._try(event) is None:
                break
            else:
                before.append(event)
        else:
            return False
        # One that merely keeps what it is given has not answered.
        if not self._answers():
            return False
        for event in before:
            error = self._try(event)
            if error is not None and not self._broken:
                self._fail(event, error)
        return True

    def _try(self, event: Event) -> BaseException | None:
        """Send one record; what came of it, None when it was taken."""
        try:
            _, error = self._send([self._record(event)])
        except JournalError as problem:
            return problem
        if error is None:
            self._done(event, "delivered")
        self._broken = getattr(self.tracker, "broken", False) is True
        return error

    def _answers(self) -> bool:
        flush: Any = getattr(self.tracker, "flush", None)
        try:
            if flush is not None and self._supports("flush"):
                flush()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it concerns this target alone
            _raise_if_for_training(error)
            return False
        return True

    def _fail(self, event: Event, error: BaseException, message: str | None = None) -> None:
        what = "refused" if isinstance(error, Rejected) else "failed on"
        said = message or f"{what} a {event.kind} record (seq {event.seq}): {brief(error)}"
        self._trouble("failed", said, error)
        self._done(event, "failed")

    def _wanted(self, event: Event) -> bool:
        kind = event.kind
        if kind in _CAPABILITY and not self._supports(_CAPABILITY[kind]):
            self._on_fallback(kind)
            return False
        return self._selection.wants(event)

    def _supports(self, capability: str) -> bool:
        assert self.tracker is not None
        if self._adapter is not None:
            return self._adapter.supports(self.tracker, capability)
        return capability != "deliver" or callable(getattr(self.tracker, "deliver", None))

    def _on_fallback(self, kind: str) -> None:
        if kind not in self._fallbacks:
            self._fallbacks.add(kind)
            self.note(
                "fallback", f"{self.destination.label} has no place of its own for {kind}; the local store has it", None
            )

    def _done(self, event: Event, outcome: str) -> None:
        if outcome == "delivered":
            self._failures = self._looks = 0
        if self._stuck == (event.writer, event.seq):
            self._stuck = self.cursor.stuck = None
        self._source.done(event)
        self._session[outcome] += 1
        if self._again:
            if outcome != "failed":
                self._arrived.append((event.writer, event.seq, outcome))
        else:
            self._count(event, outcome)
        self._uncommitted += 1
        self.progress += 1

    def _count(self, event: Event, outcome: str) -> None:
        counts = self.cursor.counts
        counts[outcome] = counts.get(outcome, 0) + 1
        if outcome == "failed" and not self.cursor.failed.add(event.writer, event.seq) and not self._beyond:
            self._beyond = True
            self._trouble(
                "failed",
                "failed on so many records here and there that the numbers of further ones are not kept; they are "
                "counted alone",
                None,
            )

    _beyond = False

    # ------------------------------------------------------------------ committing and closing

    def commit(self) -> None:
        """Let the backend make durable what it has, and write the cursor."""
        if self._uncommitted or self._arrived or self.cursor.stuck is not None:
            self._commit()

    def _commit(self) -> None:
        self._committed_at = self._clock()
        if self.tracker is None or not self._flushed() or not self._is_there():
            return
        self.cursor.take_off(self._arrived)
        self._arrived.clear()
        try:
            self.cursor.save(self.inbox.positions())
            self._uncommitted = 0
        except OSError as error:
            self._trouble("commit", f"could not write its cursor: {brief(error)}", error)

    def _flushed(self) -> bool:
        """Whether the backend confirms what it has; if not, the cursor stays behind, and records are sent again."""
        flush: Any = getattr(self.tracker, "flush", None)
        if not self._uncommitted or flush is None or not self._supports("flush"):
            return True
        try:
            flush()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it concerns this target alone
            _raise_if_for_training(error)
            self._trouble("commit", f"could not confirm what it has: {brief(error)}", error)
            if isinstance(error, Rejected):
                self._refused_after_all(error)
            self._unconfirmed = judge(error)
            return False
        self._unconfirmed = None
        return True

    _unconfirmed: Verdict | None = None

    def _flushed_at_last(self) -> bool:
        """As `_flushed`, with patience: nobody will ask later."""
        tries = refused = 0
        while tries < _CONFIRMING_TRIES:
            if self._flushed():
                return True
            verdict = self._unconfirmed
            if verdict is not None and verdict.kind == "rejected" and refused < BATCH:
                # That was one record; of the others it says nothing.
                refused += 1
                continue
            tries += 1
            if verdict is None or verdict.kind != "transient":
                return False
            if not self._pause(verdict.after if verdict.after is not None else self._backoff(tries - 1)):
                return False
        return False

    def _refused_after_all(self, error: Rejected) -> None:
        """Count a record as failed that was taken before."""
        known = len(self._arrived)
        self._arrived = [one for one in self._arrived if one[:2] != error.record]
        again = len(self._arrived) < known
        for counts in (self._session,) if again else (self._session, self.cursor.counts):
            if counts.get("delivered", 0) > 0:
                counts["delivered"] -= 1
                counts["failed"] = counts.get("failed", 0) + 1
        if error.record is not None:
            self.cursor.failed.add(*error.record)

    def close(self, status: str, error: str | None) -> None:
        """Finish the backend and write the last cursor."""
        if self.tracker is None:
            return
        confirmed = self._flushed_at_last()
        if not confirmed and self._unconfirmed is not None and self._unconfirmed.kind == "transient":
            self.abandoned = True
        try:
            self._finish(status, error)
            self.cursor.status = status
        except BaseException as problem:  # noqa: BLE001 - whatever it is, it concerns this target alone
            # It may not have what it took after all; opening it again tells.
            confirmed, self.abandoned = False, True
            self._trouble("finish", f"could not be finished: {brief(problem)}", problem)
        # What was not confirmed is sent again when the run is opened again: the cursor stays where it was, and what the
        # adapter keeps with it.
        if confirmed and self._is_there():
            self.cursor.take_off(self._arrived)
            try:
                self.cursor.save(self.inbox.positions())
            except OSError as problem:
                self._trouble("commit", f"could not write its cursor: {brief(problem)}", problem)
        self._uncommitted = 0
        self.release()
        self.tracker = None
        self.progress += 1

    def _finish(self, status: str, error: str | None) -> None:
        assert self.tracker is not None
        for _ in range(BATCH):
            try:
                call(self.tracker.finish, status, error=error)
            except Rejected as problem:
                if problem.record is None:
                    raise
                # That was one record, and it is finished but for that: a second call says what else there is.
                self._trouble("failed", f"refused what it had taken: {brief(problem)}", problem)
                self._refused_after_all(problem)
            else:
                return

    def report(self) -> TargetReport:
        """What became of the records of this session."""
        return TargetReport(
            self.destination.label,
            delivered=self._session["delivered"],
            failed=self._session["failed"],
            skipped=self._session["skipped"],
            pending=self.pending(),
            last_error=self.last_error,
            lag=self.inbox.lag(),
            abandoned=self.abandoned,
            recoverable=self.cursor.failed.total if self.cursor.path is not None else 0,
        )

    def pending(self) -> int:
        """How many records in the journal this target has not been done with."""
        return 0 if self._strayed else self.inbox.waiting()

    def _give_up(self, message: str, error: BaseException | None) -> None:
        self.failure = message if error is not None or self.delay is None else f"{message}: {self.delay}"
        self.release()
        self._trouble("given up", f"{message}; its records stay in the journal", error)

    def _trouble(self, reason: str, message: str, error: BaseException | None) -> None:
        self.last_error = redact_text(message)
        if not self.opened and reason in {"open", "retry"}:
            self.delay = self.last_error
        self.note(f"{self.destination.label}: {reason}", f"{self.destination.label} {message}", error)

    @staticmethod
    def _backoff(tries: int) -> float:
        return min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(tries, 10))


def _raise_if_for_training(error: BaseException) -> None:
    """Raise on what a signal brought into a delivery that runs on the training's own thread.

    Ctrl-C, and SystemExit from a handler of SIGTERM, are then meant for the training. On threads of their own workers
    never see them, and a backend that raises them is one that failed.
    """
    if (
        isinstance(error, KeyboardInterrupt) or (isinstance(error, SystemExit) and error.code == PREEMPTED)
    ) and threading.current_thread() is threading.main_thread():
        raise error
