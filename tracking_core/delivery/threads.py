"""Delivery inside the training process: one thread for each target.

The threads are daemons: a backend that hangs for ever cannot keep the process from ending. Records that were not
delivered stay in the journal.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tracking_core.base.latch import Latch
from tracking_core.delivery.destinations import Destination
from tracking_core.delivery.report import Note, TargetReport
from tracking_core.delivery.worker import TargetWorker

POLL, IDLE_POLL = 0.05, 1.0
"""Seconds between two looks into the journal: of a run that records, and of one that is idle."""
STALLED = 60.0
"""Seconds without progress after which `flush` stops waiting, when no timeout is given."""


class _Lane:
    """One target: its worker and the thread that runs it."""

    def __init__(
        self,
        directory: Path,
        destination: Destination,
        note: Note,
        on_open: Callable[[], None],
        batch: Callable[[], int | None],
    ) -> None:
        self.destination = destination
        self._batch = batch
        self.worker = TargetWorker(directory, destination, pause=self._pause, note=note)
        self._settled = Latch()
        self._on_open = on_open
        self._wake = Latch()
        self._stop = Latch()
        self._asked = 0
        self._answered = 0
        self._ending: tuple[str, str | None] | None = None
        self._leaving = False
        self.ended = False
        self.thread = threading.Thread(target=self._run, name=f"tracking-{destination.label}", daemon=True)

    def _pause(self, seconds: float) -> bool:
        """Wait, unless the lane was given up."""
        return not self._stop.wait(seconds)

    def _run(self) -> None:
        me = threading.current_thread()
        try:
            if not self.worker.opened and self.worker.open():
                self._on_open()
            self._tell()
            idle = POLL
            while self._ending is None and self.thread is me:
                # The request is read before the work, so that what was recorded before it is delivered.
                asked = self._asked
                if self.worker.tracker is not None and self.worker.deliver(most=self._batch()):
                    idle = POLL
                elif asked > self._answered:
                    self.worker.commit()
                    self._answered = asked
                    self._tell()
                else:
                    # Longer and longer: a thousand idle runs must cost nothing.
                    self._wake.wait(idle)
                    self._wake.clear()
                    idle = min(idle * 1.25, IDLE_POLL)
                if self._leaving and self.thread is me:
                    self.worker.commit()
                    self.worker.release()
                    return
            while self.thread is me and self.worker.tracker is not None and self.worker.deliver(most=self._batch()):
                pass
            if self.thread is not me or self._ending is None:
                # Another thread goes on, even with the end.
                return
            if self._stop.is_set():
                # It was given up. Records that it did deliver must not be sent again.
                self.worker.commit()
            else:
                self.worker.close(*self._ending)
        except BaseException as error:  # noqa: BLE001 - a thread that dies silently would look like a slow backend
            self.worker.died(error)
        finally:
            self.ended = self.thread is me
            self._tell()

    def move(self, prepare: Callable[[], None]) -> None:
        """Go on in a new thread, which has the priority of the calling thread, and runs `prepare` first."""
        before = self.thread

        def go_on() -> None:
            before.join()
            prepare()
            self._run()

        self.thread = threading.Thread(target=go_on, name=before.name, daemon=True)
        self.thread.start()
        self._wake.set()

    def _tell(self) -> None:
        self._settled.set()

    def ask(self) -> int:
        """Ask that everything recorded so far is delivered and confirmed; returns a number for `answered`."""
        self._asked += 1
        self._wake.set()
        return self._asked

    def end(self, status: str, error: str | None) -> None:
        """Ask that everything is delivered, then the target finished."""
        self._ending = (status, error)
        self._wake.set()

    def leave(self) -> None:
        """Stop after the current batch, and leave the target open for other workers."""
        self._leaving = True
        self._wake.set()

    def abandon(self) -> None:
        """Stop waiting inside the worker. The remaining records stay in the journal."""
        self._stop.set()
        self._wake.set()

    def wait(self, done: Callable[[], bool], timeout: float) -> bool:
        """Wait until `done` says so; gives up after `timeout` seconds without progress."""
        seen, deadline = self.worker.progress, time.monotonic() + timeout
        while not done():
            now = time.monotonic()
            if self.worker.progress != seen:
                seen, deadline = self.worker.progress, now + timeout
            # Not `is_alive`: after an interrupt it takes a running thread for one that has ended.
            if now >= deadline or self.ended:
                return done()
            self._settled.wait(min(POLL, deadline - now))
            self._settled.clear()
        return True

    @property
    def is_complete(self) -> bool:
        """Whether the target is open, and nothing waits for it."""
        return self.worker.tracker is not None and self.worker.failure is None and self.worker.pending() == 0

    def answered(self, asked: int) -> bool:
        """Whether a request was fulfilled, or never will be."""
        return self._answered >= asked or self.ended or self.worker.failure is not None


class ThreadDelivery:
    """Delivers a run from threads of this process.

    Args:
        directory: The run directory.
        destinations: Where to.
        note: Called with (reason, message, error) for what goes wrong.
        on_open: Called on the worker's thread after it opened its backend.
    """

    def __init__(
        self, directory: Path, destinations: Sequence[Destination], note: Note, on_open: Callable[[], None]
    ) -> None:
        self.directory = directory
        self.batch: int | None = None
        """How many records are delivered before a thread looks whether another is to go on; None for the usual."""
        self._lanes = [_Lane(directory, destination, note, on_open, lambda: self.batch) for destination in destinations]
        for lane in self._lanes:
            lane.thread.start()

    def recorded(self) -> None:
        """Nothing to do: the threads poll the journal."""

    def await_open(self, timeout: float) -> list[str]:
        """Wait until every target is open; returns the reasons of those that are not."""
        for lane in self._lanes:
            lane.wait(lambda lane=lane: lane.worker.opened or lane.worker.failure is not None, timeout)
        return [
            f"{lane.destination.label} {lane.worker.failure or lane.worker.delay or 'is not open yet'}"
            for lane in self._lanes
            if not lane.worker.opened
        ]

    def tracker(self, label: str, timeout: float = 60.0) -> Any:
        """The open tracker of a target, by label or adapter name; None when there is none."""
        for lane in self._lanes:
            if label in {lane.destination.label, lane.destination.target.name}:
                lane.wait(lambda lane=lane: lane.worker.opened or lane.worker.failure is not None, timeout)
                return lane.worker.tracker
        return None

    def open_trackers(self) -> list[tuple[str, Any]]:
        """(label, tracker) of those targets that are open now."""
        return [
            (lane.destination.label, lane.worker.tracker) for lane in self._lanes if lane.worker.tracker is not None
        ]

    def flush(self, timeout: float | None) -> None:
        """Wait until everything recorded so far is delivered and confirmed, or `timeout` passes without progress."""
        asked = [(lane, lane.ask()) for lane in self._lanes]
        for lane, number in asked:
            lane.wait(lambda lane=lane, number=number: lane.answered(number), STALLED if timeout is None else timeout)

    def finish(self, status: str, error: str | None, timeout: float) -> None:
        """Deliver what is left and finish the targets; gives up on one after `timeout` seconds without progress."""
        for lane in self._lanes:
            lane.end(status, error)
        for lane in self._lanes:
            if not lane.wait(lambda lane=lane: lane.ended, timeout):
                lane.abandon()
                lane.worker.abandon(f"made no progress for {timeout:g} s")

    def conclude(self, status: str, error: str | None, timeout: float) -> None:
        """Finish the targets that have everything, and leave the others as they are.

        Args:
            status: Status of the run.
            error: What went wrong.
            timeout: Seconds without progress after which a target is given up.
        """
        complete = [lane for lane in self._lanes if lane.is_complete]
        for lane in complete:
            lane.end(status, error)
        for lane in complete:
            lane.wait(lambda lane=lane: lane.ended, timeout)

    def leave(self, timeout: float) -> None:
        """Stop, commit what was delivered, and leave the targets open for the next worker."""
        for lane in self._lanes:
            lane.leave()
        for lane in self._lanes:
            lane.wait(lambda lane=lane: lane.ended, timeout)

    def failed(self) -> bool:
        """Whether a target was given up, or its worker died."""
        return any(lane.worker.failure is not None for lane in self._lanes)

    def reports(self) -> list[TargetReport]:
        """What became of the records, target by target."""
        return [lane.worker.report() for lane in self._lanes]

    def lags(self) -> list[float]:
        """For how many seconds the oldest record of each target has waited."""
        return [lane.worker.inbox.lag() for lane in self._lanes]

    def move(self, lag: float = -1.0, prepare: Callable[[], None] = lambda: None) -> None:
        """Move open targets to new threads, which have the priority of the calling one.

        Args:
            lag: Only those that lag by more than so many seconds.
            prepare: What those threads do first.
        """
        for lane in self._lanes:
            if lane.worker.tracker is not None and lane.worker.inbox.lag() > lag and not lane.ended:
                lane.move(prepare)

    def tasks(self) -> list[int]:
        """The numbers of the threads of open targets, as the system has them."""
        found = [lane.thread.native_id for lane in self._lanes if lane.worker.tracker is not None and not lane.ended]
        return [number for number in found if number is not None]
