"""A flag that one thread waits for and another sets, and that an interrupted thread cannot leave locked.

`threading.Event` and `threading.Condition` take their lock in Python: a signal that comes just behind that, on the main
thread, leaves it taken, and whoever sets or waits next does so for ever. Here the waiting is done by a queue in C.
"""

from __future__ import annotations

import queue


class Latch:
    """Like `threading.Event`, for a few waiters."""

    def __init__(self) -> None:
        self._set = False
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._set

    def set(self) -> None:
        """Set it, and wake who waits."""
        self._set = True
        self._tokens.put(None)

    def clear(self) -> None:
        """Reset it, for the one who waits for the next time."""
        self._set = False
        while not self._tokens.empty():
            try:
                self._tokens.get_nowait()
            except queue.Empty:
                break

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; False when `timeout` seconds passed first."""
        if not self._set:
            try:
                self._tokens.get(timeout=None if timeout is None else max(0.0, timeout))
            except queue.Empty:
                return self._set
            if self._set:
                # For whoever else waits.
                self._tokens.put(None)
        return self._set
