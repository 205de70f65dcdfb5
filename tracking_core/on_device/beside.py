"""Compiling beside the training: a call that meets a new shape never waits for the compiler.

Until a program is compiled, copies travel to the host as they are; the next call finds the program ready.
"""

from __future__ import annotations

import atexit
import os
import queue
import threading
from collections.abc import Callable

AT_EXIT = 60.0
"""Seconds that the end of the process waits for what is just being compiled: the compiler must not outlive Python."""


class _Compiler:
    """One thread, which takes one task after the other; a task that fails is forgotten."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="tracking-compiler", daemon=True)
        self._starting: set[int] = set()
        self._ending = False

    def submit(self, task: Callable[[], object]) -> None:
        self._tasks.put(task)
        if self._thread.ident is None and not self._starting:
            # Two threads may come here at once: one of them fails to start it, which then runs.
            self._starting.add(threading.get_ident())
            try:
                self._thread.start()
                atexit.register(self.end)
            except RuntimeError:
                # No thread can be started: then nothing is compiled, and everything travels as it is.
                return

    def end(self) -> None:
        """Forget what waits, and wait for what is being compiled."""
        self._ending = True
        self._tasks.put(None)
        self._thread.join(AT_EXIT)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None and not self._ending:
            try:
                task()
            except Exception:  # noqa: BLE001, S112 - what cannot be compiled travels as it is
                continue
            finally:
                del task


_compiler = _Compiler()


def soon(task: Callable[[], object]) -> None:
    """Run something on the compiler's thread; nobody hears of it when it fails."""
    _compiler.submit(task)


def settle(timeout: float) -> bool:
    """Wait until what was submitted has run; False when `timeout` seconds passed first."""
    passed = threading.Event()
    _compiler.submit(passed.set)
    return passed.wait(timeout)


def _in_child() -> None:
    global _compiler  # noqa: PLW0603 - one for the process
    _compiler = _Compiler()


os.register_at_fork(after_in_child=_in_child)
