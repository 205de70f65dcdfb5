"""Retries: backoff, circuit breaker, and what to do about a record that the backend did not accept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal, NamedTuple

from tracking_core.base.handlers import raise_from_handler
from tracking_core.base.problems import brief
from tracking_core.delivery.backlog import Backlog
from tracking_core.delivery.report import Notes
from tracking_core.delivery.transient import Verdict
from tracking_core.errors import RetryLater
from tracking_core.journal import Event
from tracking_core.protocol import PREEMPTED

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
_REOPENINGS, _RESENDING_TRIES = 3, 3
STUCK = 600.0
"""Seconds of transient errors after which a record may fail, if the backend accepts the records behind it."""
BREAKER = 10
"""Consecutive failures that open the circuit breaker: the target is paused, and its records stay in the journal."""


class Decision(NamedTuple):
    """What to do about a record that the backend did not accept.

    Args:
        action: "fail" counts it as failed and goes on; "wait" tries it again after a wait; "reopen" does so with a new
            connection; "pause" opens the circuit breaker.
        probe: Whether to try the records behind it first. If the backend accepts those, the record has failed.
        gives_up: With "reopen", whether the record counts as failed.
    """

    action: Literal["fail", "wait", "reopen", "pause"]
    probe: bool = False
    gives_up: bool = False


class Retry:
    """Decides when records are sent to one target again.

    Args:
        backlog: The records of the target.
        notes: Told of what goes wrong.
        pause: Waits for some seconds, and says whether to go on.
        clock: Monotonic seconds.
    """

    def __init__(
        self, backlog: Backlog, notes: Notes, *, pause: Callable[[float], bool], clock: Callable[[], float]
    ) -> None:
        self.pause = pause
        self.clock = clock
        self._backlog = backlog
        self._notes = notes
        self._paused_until = float("-inf")
        self._tries = 0
        self._failures = 0
        self._probes = 0
        self._stuck: tuple[str, int] | None = None
        self._stuck_since = 0.0

    @property
    def is_paused(self) -> bool:
        """Whether nothing is to be sent for now."""
        return self.clock() < self._paused_until

    def pause_target(self, seconds: float) -> None:
        """Send nothing for a while."""
        self._paused_until = self.clock() + seconds

    def open_breaker(self, error: BaseException) -> None:
        """Pause the target after consecutive failures."""
        seconds = backoff(self._failures - BREAKER)
        self.pause_target(seconds)
        self._notes.trouble(
            "paused",
            f"paused for {seconds:g} s after {self._failures} consecutive failures: {brief(error)}",
            error,
        )

    @staticmethod
    def delay(verdict: Verdict, tries: int) -> float:
        """Seconds to wait: those that the backend asks for, or else the backoff."""
        return verdict.after if verdict.after is not None else backoff(tries)

    def wait(self, error: BaseException, verdict: Verdict) -> bool:
        """Wait until a record may be sent again; False when the worker is to stop."""
        if isinstance(error, RetryLater):
            self._notes.trouble("retry", f"asks to retry later: {error}", error)
        else:
            self._notes.trouble("retry", f"did not accept a record, which is sent again: {brief(error)}", error)
        delay = self.delay(verdict, self._tries)
        self._tries += 1
        return self.pause(delay)

    def decide(self, event: Event, verdict: Verdict, *, broken: bool) -> Decision:
        """Decide about a record that the backend did not accept.

        Args:
            event: Its event.
            verdict: What the error says.
            broken: Whether the tracker is of no more use.
        """
        if verdict.kind == "failed":
            self._failures += 1
        if verdict.kind != "transient":
            self._tries = 0
            if verdict.kind == "failed" and self._failures >= BREAKER:
                return Decision("pause", probe=self._failures > BREAKER + 1)
            return Decision("fail")
        if self._backlog.resending and self._tries >= _RESENDING_TRIES:
            # It failed before; the others do not have to wait for it.
            self._tries = 0
            return Decision("fail")
        stuck = self.is_stuck(event)
        if broken:
            self._probes += 1
            # If the backend broke at this record each time that it was opened, the record is to blame.
            return Decision("reopen", gives_up=stuck and self._probes > _REOPENINGS)
        return Decision("wait", probe=stuck)

    def is_stuck(self, event: Event) -> bool:
        """Whether a record has failed with transient errors for too long."""
        if self._backlog.resending:
            return False
        key = (event.writer, event.seq)
        if self._stuck != key:
            self._stuck, self._probes = key, 0
            self._stuck_since = self.clock() - self._backlog.cursor.waited(*key)
        return self.clock() - self._stuck_since >= STUCK

    def probe_size(self) -> int:
        """How many of the records behind a stuck one are tried now; 0 for none.

        A try may take as long as a timeout. So probes become rarer, and larger: 1, 2, 4, ….
        """
        self._probes += 1
        return 0 if self._probes & (self._probes - 1) else self._probes

    def accepted(self) -> None:
        """The backend accepted a record in its turn."""
        self._tries = 0

    def done(self, event: Event, *, delivered: bool) -> None:
        """A record is done with."""
        if delivered:
            self._failures = self._probes = 0
        if self._stuck == (event.writer, event.seq):
            self._stuck = self._backlog.cursor.stuck = None


def backoff(tries: int) -> float:
    """Seconds to wait after so many tries."""
    return min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(tries, 10))


def raise_if_for_training(error: BaseException) -> None:
    """Raise again what a signal raised in a delivery on the training's own thread.

    Ctrl-C, SystemExit from a handler of SIGTERM, and what the program's own handlers raise are then meant for the
    training. Other threads never get them: a
    backend that raises them there has failed.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if isinstance(error, KeyboardInterrupt) or (isinstance(error, SystemExit) and error.code == PREEMPTED):
        raise error
    raise_from_handler(error)
