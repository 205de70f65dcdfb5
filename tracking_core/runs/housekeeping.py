"""One quiet thread that does for all open runs what needs doing now and then.

It captures where a run runs, sees that its directory is there, makes journals durable against loss of power, goes on in
a new file when one is large, keeps heartbeats, and notes the accelerators once the training has started to use them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking_core.base.latch import Latch
from tracking_core.environment.settings import working_directory

if TYPE_CHECKING:
    from tracking_core.base.problems import Troubles
    from tracking_core.compaction.background import Compactor
    from tracking_core.journal import JournalWriter

TICK = 1.0
SYNC_INTERVAL = 5.0
"""Seconds of records that loss of power may cost."""
BEAT_INTERVAL = 10.0
"""Seconds between two heartbeats."""
SEGMENT = 8 << 20
"""Bytes from which on a journal goes on in a new file."""


@dataclass(eq=False)
class Charge:
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
    compactor: Compactor | None = None


class Housekeeper:
    """Looks after the open runs of this process."""

    def __init__(self) -> None:
        self._charges: list[Charge] = []
        self._wake = Latch()
        self._thread: threading.Thread | None = None

    def take(self, journal: JournalWriter, troubles: Troubles) -> Charge:
        """Begin to look after a run; its surroundings are captured soon."""
        charge = Charge(journal, troubles)
        self._charges.append(charge)
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="tracking-housekeeping", daemon=True)
            thread.start()
            self._thread = thread
        self._wake.set()
        return charge

    def leave(self, charge: Charge) -> None:
        """Look after a run for the last time."""
        charge.captured.wait(2.0)
        if charge in self._charges:
            self._charges.remove(charge)
        # The thread must be done with the journal before it is closed; a disk that hangs is not waited for. The lock is
        # not taken here, where an interrupt might leave it so.
        deadline = time.monotonic() + 2.0
        while charge.busy.locked() and time.monotonic() < deadline:
            time.sleep(0.001)
        self._note_accelerators(charge)
        if charge.compactor is not None:
            charge.compactor.stop()
        charge.journal.recover()

    def forget(self) -> None:
        """In a forked child: the thread is not there, and the runs are the parent's."""
        self.__init__()

    def _work(self) -> None:
        while True:
            self._wake.wait(TICK if self._charges else None)
            self._wake.clear()
            for charge in tuple(self._charges):
                try:
                    with charge.busy:
                        if charge in self._charges:
                            self._look_after(charge)
                except Exception as error:  # noqa: BLE001 - one run in trouble must not leave the others alone
                    charge.troubles.note("housekeeping", f"{type(error).__name__}: {error}", error=error)
                    charge.captured.set()

    def _look_after(self, charge: Charge) -> None:
        charge.journal.recover()
        if not charge.captured.is_set():
            from tracking_core.environment.machine import capture

            _note(charge, capture(working_directory() or Path()))
            charge.captured.set()
        self._note_accelerators(charge)
        now = time.monotonic()
        journal = charge.journal
        if journal.closed or charge not in self._charges:
            return
        journal.settle()
        if journal.written != charge.synced and now - charge.synced_at >= SYNC_INTERVAL:
            charge.synced, charge.synced_at = journal.written, now
            journal.sync()
        journal.rotate(SEGMENT)
        self._compact(charge)
        if now - charge.beat_at >= BEAT_INTERVAL:
            charge.beat_at = now
            journal.beat()

    @staticmethod
    def _compact(charge: Charge) -> None:
        """Let another process merge segments, a block at a time."""
        if charge.compactor is not None:
            problem = charge.compactor.ended()
            if problem is None:
                return
            charge.compactor = None
            if problem:
                charge.troubles.note("compaction", f"segments were not merged: {problem}")
        from tracking_core.journal.segments import MERGED

        blocks = charge.journal.sealed // MERGED
        if blocks > charge.merged:
            from tracking_core.compaction.background import Compactor, is_possible

            charge.merged = blocks
            if is_possible():
                charge.compactor = Compactor(charge.journal.directory)

    @staticmethod
    def _note_accelerators(charge: Charge) -> None:
        if charge.accelerators:
            return
        from tracking_core.environment.machine import accelerators

        found = accelerators()
        if found is not None:
            charge.accelerators = True
            _note(charge, {"accelerators": found})


def _note(charge: Charge, facts: Mapping[str, Any]) -> None:
    """Note something of where the run runs."""
    charge.surroundings.append(_plain(facts))
    charge.journal.append("environment", {"environment": charge.surroundings[-1]})


def _plain(facts: Any) -> Any:
    from tracking_core.journal import pack

    return pack(dict(facts))


housekeeper = Housekeeper()
