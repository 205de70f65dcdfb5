"""Delivery of a run from the deliverer process, which is restarted when it dies."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tracking_core.base.children import Restarts
from tracking_core.delivery.cursor import Cursor
from tracking_core.delivery.destinations import Destination
from tracking_core.delivery.process import client as processes
from tracking_core.delivery.process.client import Deliverer, deliverer
from tracking_core.delivery.progress import waiting
from tracking_core.delivery.report import Note, TargetReport
from tracking_core.delivery.threads import STALLED

RESTARTS, STEADY = 3, 600.0
"""How often a deliverer that dies is started anew for a run; and after how many seconds that counts from zero again."""
APART, FEW = 2, 8
"""After how many deaths each target of a run gets a deliverer of its own, so that one which kills it does not keep the
others waiting; if no more than that many runs are served."""
SILENT = f"has said nothing for {processes.STARVED:g} s"
_COUNTED = ("delivered", "failed", "skipped")


class RemoteDelivery:
    """Delivers a run from the deliverer process.

    Args:
        directory: The run directory.
        destinations: Where to; targets only, no objects.
        note: Called with (reason, message, error) for what goes wrong.
        on_open: Called after a backend was opened.
        alone: Whether to use a process that serves nobody else.
    """

    def __init__(
        self,
        directory: Path,
        destinations: Sequence[Destination],
        note: Note,
        on_open: Callable[[], None],
        *,
        alone: bool = False,
    ) -> None:
        self._directory = directory
        self._destinations = tuple(destinations)
        self._note = note
        self._on_open = on_open
        self._key = str(directory)
        self._facts: dict[str, dict[str, Any]] = {}
        self._reports: list[TargetReport] | None = None
        self._finished = False
        self._alone = alone
        self._parts: list[RemoteDelivery] = []
        self._restarts = Restarts(RESTARTS, STEADY)
        self._lost = False
        self._given_up = False
        self._restarting = threading.Lock()
        self._base = {d.label: self._counts(d) for d in self._destinations}
        self._carried: dict[str, dict[str, int]] = {}
        self._begin()

    def _counts(self, destination: Destination) -> dict[str, int]:
        """Counts of records since the run began, from the cursor."""
        return Cursor.load(self._directory, destination.target, ask=True).counts

    def _since_start(self, destination: Destination) -> dict[str, int]:
        """The same, since this session began."""
        base = self._base[destination.label]
        now = self._counts(destination)
        return {key: now.get(key, 0) - base.get(key, 0) for key in _COUNTED}

    def _begin(self) -> None:
        self._process = deliverer(alone=self._alone)
        self._process.attach(self._key, self)
        self._process.open(
            self._key, self._directory, [[d.label, str(d.target), d.target.named] for d in self._destinations]
        )

    def lost(self, process: Deliverer) -> None:
        """The deliverer has died: start another, which goes on from the cursors."""
        with self._restarting:
            if self._process is not process or self._lost:
                return
            again = self._restarts.again()
            process.ended.wait(processes.GLANCE)
            self._lost = not again
            said = f" ({process.last_words})" if process.last_words else ""
            then = "; another is started" if again else ""
            self._note("deliverer", f"the deliverer process has ended{said}{then}", None)
            if not again:
                return
            # A deliverer counts what it did itself.
            self._carried = {d.label: self._since_start(d) for d in self._destinations}
            with contextlib.suppress(OSError, RuntimeError):
                # Where no process or thread can be started, the journal keeps what is left.
                if self._restarts.count >= APART and len(self._destinations) > 1 and process.runs <= FEW:
                    self._part()
                else:
                    self._begin()

    def _part(self) -> None:
        """Give each target its own process."""
        self._lost = True
        for destination in self._destinations:
            part = RemoteDelivery(self._directory, [destination], self._note, self._on_open, alone=True)
            part._restarts.count = self._restarts.count
            self._parts.append(part)

    def hear(self, message: dict[str, Any]) -> None:
        """Take what the deliverer says on its own."""
        if "note" in message:
            reason, text, error = message["note"]
            self._note(reason, text, None if error is None else RuntimeError(error))
        if "facts" in message:
            self._facts = message["facts"]
        if message.get("opened"):
            self._on_open()

    def recorded(self) -> None:
        """Nothing to do: the deliverer looks for itself."""

    def await_open(self, timeout: float) -> list[str]:
        """Wait until every target is open; returns why those that are not, are not."""
        answer = self._ask({"do": "await_open", "timeout": timeout})
        if answer is None:
            return [f"the deliverer process {self._fault() or SILENT}"]
        return answer.get("closed", [])

    def tracker(self, label: str, timeout: float = 60.0) -> Any:  # noqa: ARG002 - as ThreadDelivery has it
        """None: the backend's own object lives in the deliverer."""
        return None

    def open_trackers(self) -> list[tuple[str, Any]]:
        """(label, facts) of the backends that are open, as far as the deliverer has said."""
        if self._parts:
            return [pair for part in self._parts for pair in part.open_trackers()]
        return [(label, _Facts(**facts)) for label, facts in self._facts.items()]

    def flush(self, timeout: float | None) -> None:
        """Wait until everything recorded so far is delivered and confirmed, or `timeout` passes without progress."""
        limit = STALLED if timeout is None else timeout
        self._insist({"do": "flush", "timeout": limit})
        for part in self._parts:
            part.flush(timeout)

    def finish(self, status: str, error: str | None, timeout: float) -> None:
        """Deliver what is left and finish the targets; gives up on one after `timeout` seconds without progress."""
        message = {"do": "finish", "status": status, "error": error, "timeout": timeout}
        answer = self._insist(message)
        self._finished = answer is not None and "reports" in answer
        self._process.detach(self._key)
        for part in self._parts:
            part.finish(status, error, timeout)

    def reports(self) -> list[TargetReport]:
        """What became of the records, target by target."""
        if self._parts:
            return [self._in_all(report) for part in self._parts for report in part.reports()]
        answered = self._finished
        if not answered and not self._process.gone:
            answered = self._ask({"do": "reports"}, processes.GLANCE) is not None
        if answered and self._reports is not None:
            return [self._in_all(report) for report in self._reports]
        return [self._report_without(destination) for destination in self._destinations]

    def _in_all(self, report: TargetReport) -> TargetReport:
        """A report that includes the work of deliverers that have died."""
        before = self._carried.get(report.target, {})
        return replace(report, **{key: getattr(report, key) + before.get(key, 0) for key in _COUNTED})

    def _report_without(self, destination: Destination) -> TargetReport:
        """A report from the journal and the cursor, for when the deliverer does not answer."""
        pending = waiting(self._directory, destination.target)
        what = self._fault() or (SILENT if self._given_up else "")
        error = f"the deliverer process {what}" if pending and what else None
        return replace(
            TargetReport(destination.label, pending=pending, last_error=error), **self._since_start(destination)
        )

    def _fault(self) -> str:
        """What is wrong with the deliverer; "" when it has only not come to an answer yet."""
        if self._process.gone:
            return "has ended"
        return "does not answer" if self._process.is_stopped() else ""

    def _ask(self, message: dict[str, Any], silence: float | None = None) -> dict[str, Any] | None:
        if silence is None:
            silence = processes.PATIENCE
        answer = self._process.ask({**message, "run": self._key}, silence)
        if answer is not None and "reports" in answer:
            self._reports = [TargetReport(**report) for report in answer["reports"]]
            self._facts = answer["facts"]
        return answer

    def _insist(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """Ask; if the deliverer dies, ask the next one."""
        while True:
            process = self._process
            answer = self._ask(message)
            if answer is not None or not process.gone:
                self._given_up = answer is None
                return answer
            self.lost(process)
            if self._lost or self._process is process:
                return None


class _Facts:
    """What is known here of a backend that is open there."""

    def __init__(self, url: str | None, should_stop: bool) -> None:
        self.url = url
        self.should_stop = should_stop
