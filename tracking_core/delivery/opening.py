"""Opening the backend of a target: take the lease, reconcile the cursor, and retry transient errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tracking_core.backends.hooks import RunInfo
from tracking_core.backends.plugins import Adapter
from tracking_core.base.problems import brief
from tracking_core.base.regular import OddFileError
from tracking_core.delivery.backlog import Backlog
from tracking_core.delivery.cursor import Cursor
from tracking_core.delivery.described import current_config, run_info
from tracking_core.delivery.destinations import Destination
from tracking_core.delivery.lease import Lease
from tracking_core.delivery.places import take_lease
from tracking_core.delivery.report import Notes
from tracking_core.delivery.retry import Retry, raise_if_for_training
from tracking_core.delivery.transient import judge
from tracking_core.errors import AdapterError, LeaseHeldError, RetryLater, SettingsError
from tracking_core.layout.runs import read_run
from tracking_core.protocol import Tracker

_TRIES = 3


class Opener:
    """Opens the backend of one target.

    Args:
        destination: The target.
        backlog: The records that it has still to get.
        retry: When it is asked again.
        notes: Told of what goes wrong.
        waits_for_lease: Whether to wait for another process that delivers to the target; if not, `open` raises.
        comes_back: Whether `open` is called again after `pause` said no, so that the target is not given up then.
        over: What is said of a target that is given up because `pause` said no.
    """

    def __init__(
        self,
        destination: Destination,
        backlog: Backlog,
        retry: Retry,
        notes: Notes,
        *,
        waits_for_lease: bool,
        comes_back: bool,
        over: str,
    ) -> None:
        self.adapter: Adapter | None = None
        self.failure: str | None = None
        """Why the target was given up for this session; None if it was not."""
        self.delay: str | None = None
        """Why the target is not open yet; None if nothing is wrong."""
        self._destination = destination
        self._backlog = backlog
        self._retry = retry
        self._notes = notes
        self._waits_for_lease = waits_for_lease
        self._comes_back = comes_back
        self._over = over
        self._lease: Lease | None = None

    @property
    def replaces(self) -> str | None:
        """How the adapter replaces what was recorded; None when it cannot, or is not known yet."""
        return self.adapter.info.replaces if self.adapter is not None else None

    def open(self, wait: float) -> tuple[Tracker, Any] | None:
        """Open the backend; transient errors are retried.

        Args:
            wait: How long to wait until the run has recorded its environment, in seconds.

        Returns:
            The tracker, and what the backend has confirmed; None when it is not open. `failure` then says whether the
            target was given up.

        Raises:
            LeaseHeldError: Another process delivers to the target, and this worker does not wait for it.
        """
        self._await_environment(wait)
        tries = failures = 0
        while True:
            try:
                return self._try_to_open()
            except (RetryLater, LeaseHeldError) as error:
                if isinstance(error, LeaseHeldError) and not self._waits_for_lease:
                    raise
                self._not_yet("retry", str(error), error)
                verdict = judge(error)
            except (AdapterError, SettingsError, OddFileError) as error:
                self._give_up(f"cannot be opened: {error}", error)
                return None
            except BaseException as error:  # noqa: BLE001 - a backend may raise anything; it must not reach the loop
                raise_if_for_training(error)
                verdict = judge(error)
                passes = verdict.kind == "transient"
                # A transient error is waited for as long as the run goes on.
                failures += not passes
                if failures >= _TRIES or not isinstance(error, Exception):
                    self._give_up(f"cannot be opened: {brief(error)}", error)
                    return None
                self._not_yet("retry" if passes else "open", f"{brief(error)}; trying again", error)
            delay = self._retry.delay(verdict, tries)
            tries += 1
            if not self._retry.pause(delay):
                if self._comes_back:
                    self._retry.pause_target(delay)
                else:
                    self._give_up(self._over, None)
                return None

    def _await_environment(self, wait: float) -> None:
        deadline = self._retry.clock() + wait
        inbox = self._backlog.inbox
        if self._backlog.cursor.writers:
            inbox.look_back()
        inbox.pull()
        while not inbox.has_environment and self._retry.clock() < deadline and self._retry.pause(0.02):
            inbox.pull()

    def _try_to_open(self) -> tuple[Tracker, Any]:
        directory, target = self._backlog.directory, self._destination.target
        adapter = self.adapter = self._destination.adapter()
        assert adapter is not None
        if self._lease is None:
            self._lease = take_lease(directory, target, adapter, self._destination.label)
            # From here on nobody else moves it.
            self._backlog.resume(Cursor.load(directory, target))
        self._backlog.inbox.look()
        self.warn_of_superseded()
        self._backlog.reconcile(self.replaces)
        tracker = adapter.open(target, self._run_info())
        # Read here, where errors are retried: the backend may not answer.
        return tracker, getattr(tracker, "confirmed", None)

    def _run_info(self) -> RunInfo:
        directory, cursor = self._backlog.directory, self._backlog.cursor
        facts = read_run(directory)
        run = run_info(facts, directory)
        return replace(
            run,
            # With all changes: a backend that is opened again must not go back to the first configuration.
            config=current_config(directory, run.config, facts.get("forks", ())),
            resumed=cursor.opened > 0,
            state=cursor.state,
            environment={**run.environment, **self._backlog.inbox.environment},
            generation=cursor.generation,
            replaced=tuple(cursor.replaced),
            round=cursor.round,
        )

    def warn_of_superseded(self) -> None:
        """Say so if the target has superseded records, and cannot replace them."""
        truncation = self._backlog.inbox.sent_beyond
        if self.replaces is None and truncation is not None:
            self._notes.remark(
                "superseded",
                f"{self._destination.label} cannot delete records; those after {truncation.axis} {truncation.step} "
                "remain beside the new ones",
            )

    def _not_yet(self, reason: str, message: str, error: BaseException) -> None:
        self._notes.trouble(reason, f"cannot be opened yet: {message}", error)
        self.delay = self._notes.last

    def _give_up(self, message: str, error: BaseException | None) -> None:
        self.failure = message if error is not None or self.delay is None else f"{message}: {self.delay}"
        self.release()
        self._notes.trouble("given up", f"{message}; its records stay in the journal", error)

    def beat(self) -> None:
        """Keep the lease."""
        if self._lease is not None:
            self._lease.beat()

    def release(self) -> None:
        """Release the lease."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None
