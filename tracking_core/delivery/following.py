"""Following a root: every run under it is delivered to its targets while it grows, from a separate process.

It serves trainings that cannot reach their backends. The training records on a compute node; the follower runs on a
node that has the same directory, and the network.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tracking_core.backends.targets import Target
from tracking_core.delivery.destinations import Destination
from tracking_core.delivery.ending import closing, lacks
from tracking_core.delivery.places import owner
from tracking_core.delivery.report import Note, TargetReport
from tracking_core.delivery.threads import ThreadDelivery

LOOK = 2.0
"""Seconds between two looks for new runs, and for runs that have ended."""
AGAIN = 60.0
"""Seconds until a run is tried again whose target could not be opened."""


class Follower:
    """Delivers runs as they grow.

    Args:
        note: Called with (reason, message, error) for what goes wrong.
        say: Called with (run directory, reports) when a run has ended, and delivery is over.
    """

    def __init__(self, note: Note, say: Callable[[Path, Sequence[TargetReport]], None]) -> None:
        self._note = note
        self._say = say
        self._open: dict[Path, ThreadDelivery] = {}
        self._ending: dict[Path, threading.Thread] = {}
        self._later: dict[Path, float] = {}

    def look(self, directory: Path, targets: Sequence[Target], status: str, error: str | None) -> None:
        """Begin, go on with or end the delivery of one run.

        Args:
            directory: The run directory.
            targets: The targets that it is delivered to.
            status: Its status now, as the store derives it.
            error: Error of a run that failed.
        """
        if directory in self._ending:
            return
        delivery = self._open.get(directory)
        if delivery is None:
            wanted = [target for target in targets if self._wants(directory, target, status)]
            if not wanted or time.monotonic() < self._later.get(directory, 0.0):
                return
            places = [Destination(str(target), target) for target in wanted]
            self._open[directory] = ThreadDelivery(directory, places, self._note, lambda: None)
        elif delivery.failed():
            del self._open[directory]
            self._later[directory] = time.monotonic() + AGAIN
            delivery.leave(1.0)
        elif status != "running":
            thread = threading.Thread(target=self._end, args=(directory, delivery, status, error), daemon=True)
            self._ending[directory] = thread
            thread.start()

    @staticmethod
    def _wants(directory: Path, target: Target, status: str) -> bool:
        """Whether a target lacks something, and no other process delivers to it."""
        return owner(directory, target, ask=True) is None and lacks(directory, target, status)

    def _end(self, directory: Path, delivery: ThreadDelivery, status: str, error: str | None) -> None:
        delivery.finish(*closing(status, error), AGAIN)
        reports = delivery.reports()
        self._say(directory, reports)
        self._open.pop(directory, None)
        if not all(report.ok for report in reports):
            self._later[directory] = time.monotonic() + AGAIN
        self._ending.pop(directory, None)

    @property
    def busy(self) -> bool:
        """Whether a run is being delivered."""
        return bool(self._open)

    def leave(self, timeout: float) -> None:
        """Commit what was delivered, and stop. Targets of running runs are left open for the next follower."""
        for thread in tuple(self._ending.values()):
            thread.join(timeout)
        for delivery in tuple(self._open.values()):
            delivery.leave(timeout)
