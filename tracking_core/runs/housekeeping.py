"""One quiet thread that does for all open runs what needs doing now and then.

It captures where a run runs, sees that its directory is there, makes journals durable against loss of power, goes on in
a new file when one is large, keeps heartbeats, and notes the accelerators once the training has started to use them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking_core.base.latch import Latch
from tracking_core.environment.settings import working_directory

if TYPE_CHECKING:
    from tracking_core.base.problems import Troubles
    from tracking_core.journal import JournalWriter

TICK = 1.0
SYNC_INTERVAL = 5.0
"""Seconds of records that loss of power may cost."""
BEAT_INTERVAL = 10.0
"""Seconds between two heartbeats."""
SEGMENT = 8 << 20
"""Bytes from which on a journal goes on in a new file."""


@dataclass(eq=False)
class MonitoredRun:
    """What is looked after for one run."""

    journal: JournalWriter
    troubles: Troubles
    captured: Latch = field(default_factory=Latch)
    busy: threading.Lock = field(default_factory=threading.Lock)
    accelerators: bool = False
    surroundings: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    """What was noted of where the run runs."""
    synced: int = 0
    synced_at: float = 0.0
    beat_at: float = 0.0
    merged: int = 0
    catch_up: Callable[[], None] | None = None
    """Takes what calls have put aside for the results."""


class Housekeeper:
    """Looks after the open runs of this process."""

    def __init__(self) -> None:
        self._monitored: list[MonitoredRun] = []
        self._wake = Latch()
        self._thread: threading.Thread | None = None

    def add(
        self, journal: JournalWriter, troubles: Troubles, catch_up: Callable[[], None] | None = None
    ) -> MonitoredRun:
        """Begin to look after a run; its surroundings are captured soon."""
        monitored = MonitoredRun(journal, troubles, catch_up=catch_up)
        self._monitored.append(monitored)
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="tracking-housekeeping", daemon=True)
            thread.start()
            self._thread = thread
        self._wake.set()
        return monitored

    def remove(self, monitored: MonitoredRun) -> None:
        """Look after a run for the last time."""
        monitored.captured.wait(2.0)
        if monitored in self._monitored:
            self._monitored.remove(monitored)
        # The thread must be done with the journal before it is closed; a disk that hangs is not waited for. The lock is
        # not taken here, where an interrupt might leave it so.
        deadline = time.monotonic() + 2.0
        while monitored.busy.locked() and time.monotonic() < deadline:
            time.sleep(0.001)
        self._note_accelerators(monitored)
        monitored.journal.recover()

    def forget(self) -> None:
        """In a forked child: the thread is not there, and the runs are the parent's."""
        self.__init__()

    def _work(self) -> None:
        while True:
            self._wake.wait(TICK if self._monitored else None)
            self._wake.clear()
            for monitored in tuple(self._monitored):
                try:
                    with monitored.busy:
                        if monitored in self._monitored:
                            self._look_after(monitored)
                except Exception as error:  # noqa: BLE001 - one run in trouble must not leave the others alone
                    monitored.troubles.note("housekeeping", f"{type(error).__name__}: {error}", error=error)
                    monitored.captured.set()

    def _look_after(self, monitored: MonitoredRun) -> None:
        monitored.journal.recover()
        if not monitored.captured.is_set():
            from tracking_core.environment.machine import capture

            _note(monitored, capture(working_directory() or Path()))
            monitored.captured.set()
        self._note_accelerators(monitored)
        if monitored.catch_up is not None:
            monitored.catch_up()
        now = time.monotonic()
        journal = monitored.journal
        if journal.closed or monitored not in self._monitored:
            return
        journal.settle()
        if journal.written != monitored.synced and now - monitored.synced_at >= SYNC_INTERVAL:
            monitored.synced, monitored.synced_at = journal.written, now
            journal.sync()
        journal.rotate(SEGMENT)
        self._compact(monitored)
        if now - monitored.beat_at >= BEAT_INTERVAL:
            monitored.beat_at = now
            journal.beat()

    @staticmethod
    def _compact(monitored: MonitoredRun) -> None:
        """Let another process merge segments, a block at a time."""
        from tracking_core.journal.segments import MERGED

        blocks = monitored.journal.sealed // MERGED
        if blocks > monitored.merged:
            from tracking_core.compaction.background import compaction

            def say(problem: str) -> None:
                monitored.troubles.note("compaction", f"segments were not merged: {problem}")

            monitored.merged = blocks
            compaction.add(monitored.journal.directory, say)

    @staticmethod
    def _note_accelerators(monitored: MonitoredRun) -> None:
        if monitored.accelerators:
            return
        from tracking_core.environment.machine import accelerators

        found = accelerators()
        if found is not None:
            monitored.accelerators = True
            _note(monitored, {"accelerators": found})


def _note(monitored: MonitoredRun, facts: Mapping[str, Any]) -> None:
    """Note something of where the run runs."""
    monitored.surroundings.append(_plain(facts))
    monitored.journal.append("environment", {"environment": monitored.surroundings[-1]})


def _plain(facts: Any) -> Any:
    from tracking_core.journal import pack

    return pack(dict(facts))


housekeeper = Housekeeper()
