"""Appending on a thread of its own, where the file system may hold up whoever writes.

On a network file system, or after the file system held up an append for longer than `SLOW`, lines go through a bounded
queue: the call then no longer waits, and no longer promises that the line is in the journal when it returns. When
appends have been quick for a while, calls write by themselves again.

A thread that got no core for that long looks the same to a clock; but it never gave up its core by itself, which the
kernel counts. Asking takes time, so it is asked only after an append was slow.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from tracking_core.base.latch import Latch
from tracking_core.errors import JournalError

SLOW = 0.05
"""Seconds that the file system may hold up an append before the next ones are deferred."""
CERTAIN = 1.0
"""Seconds from which on a slow append is put down to the file system without asking."""
SUSPICION = 60.0
"""Seconds for which appends are watched more closely after one was slow."""
RECOVERY = 10.0
"""Seconds without a slow append after which calls write by themselves again."""
LIMIT = 32 << 20
"""Bytes of lines that may wait; what comes beyond is not written, and counted."""


class DeferredAppender:
    """A queue of lines, and the thread that writes them in order.

    Args:
        write: Writes one line; what `JournalWriter` does on the calling thread otherwise.
        on_recovery: Called when writing has been quick for a while and nothing waits; None if it does not matter.
    """

    def __init__(self, write: Callable[[bytes], bool], on_recovery: Callable[[], None] | None = None) -> None:
        self._write = write
        self._on_recovery = on_recovery
        self._slow_at = time.monotonic()
        self._lines: queue.SimpleQueue[tuple[bytes, Callable[[], None]]] = queue.SimpleQueue()
        self._taken = 0
        self._put = 0
        self._thread = threading.Thread(target=self._work, name="tracking-journal", daemon=True)
        self._thread.start()

    def append(self, line: bytes, done: Callable[[], None]) -> bool:
        """Queue a line, and call `done` once it is written or lost; False when too many wait."""
        if self._put - self._taken + len(line) > LIMIT:
            return False
        self._put += len(line)
        self._lines.put((line, done))
        return True

    def drain(self, timeout: float) -> bool:
        """Wait until what was queued is written; False when `timeout` seconds passed first."""
        passed = Latch()
        self._lines.put((b"", passed.set))
        return passed.wait(timeout)

    def _work(self) -> None:
        while True:
            line, done = self._lines.get()
            try:
                if line:
                    self._timed(line)
            finally:
                self._taken += len(line)
                done()
            # Whether calls go on queueing does not matter for what was queued: this thread stays.
            recovered = self._lines.empty() and time.monotonic() - self._slow_at > RECOVERY
            if recovered and self._on_recovery is not None:
                self._on_recovery()

    def _timed(self, line: bytes) -> None:
        begin, before = time.monotonic(), switches()
        try:
            self._write(line)
        except JournalError:
            # It was closed in the meantime, with lines left behind.
            return
        took = time.monotonic() - begin
        if took > CERTAIN or (took > SLOW and switches() != before):
            self._slow_at = time.monotonic()


def switches() -> int:
    """How often this thread has given up its core by itself, as for waiting; always 0 where that is not counted."""
    try:
        import resource

        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    except (ImportError, AttributeError):
        return 0
