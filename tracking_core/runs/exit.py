"""How runs end with their process: at exit, by SIGTERM, and in a forked child, which is not theirs."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import weakref
from contextvars import ContextVar
from types import FrameType

from tracking_core.compaction.background import compaction
from tracking_core.protocol import PREEMPTED
from tracking_core.runs.housekeeping import housekeeper
from tracking_core.runs.outcome import outcome
from tracking_core.runs.run import Run

open_runs: list[Run] = []
"""The runs of this process that are not finished, the one that was started last at the end."""
_of_context: ContextVar[tuple[weakref.ref[Run], ...]] = ContextVar("tracking_runs", default=())
"""The runs that were started or entered in a context, such as a thread or an asyncio task; weakly, since contexts live
long."""
ending: weakref.WeakSet[Run] = weakref.WeakSet()
"""Runs whose end has begun."""
_terminated = False


def enter(run: Run) -> None:
    """A run was started in this context, or its `with` block begins here."""
    _of_context.set((*(one for one in _of_context.get() if one() in open_runs and one() is not run), weakref.ref(run)))


def current_run() -> Run | None:
    """The open run that was started, or entered by `with`, last in this context; otherwise the last one of the process.

    A context is a thread or an asyncio task; a task begins with that of the code that created it. A run that was
    finished is never returned; None if no run is open.

    Example:
        >>> from tracking_core import start_run
        >>> with start_run("digits", backends="none") as run:
        ...     current_run() is run
        True
    """
    for one in reversed(_of_context.get()):
        run = one()
        if run is not None and run in open_runs:
            return run
    return open_runs[-1] if open_runs else None


def watch_exit() -> None:
    """End open runs at exit, before what backends registered: handlers run in the reverse of their order."""
    if not threading.main_thread().is_alive():
        # The handlers are running: one that is registered anew now would not be called any more.
        return
    atexit.unregister(_at_exit)
    atexit.register(_at_exit)


def _at_exit() -> None:
    error = getattr(sys, "last_value", None)
    status, text = ("preempted", "SIGTERM") if _terminated else outcome(error)
    for run in tuple(open_runs):
        run.finish(status, error=text)
    # Another thread may be ending one, as where a finaliser does: it dies with the main thread.
    for run in tuple(ending):
        run.await_end()
    compaction.leave(at_once=_terminated)


def _on_sigterm(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signal's signature
    global _terminated  # noqa: PLW0603 - what happened to the process belongs to the module
    _terminated = True
    # Let `finally` blocks and context managers run, as for Ctrl-C; then exit as SIGTERM would have.
    raise SystemExit(PREEMPTED)


def watch_signals() -> None:
    """End open runs as preempted when SIGTERM comes, unless somebody else handles it."""
    from tracking_core.environment.hosts import watches_preemption

    if threading.current_thread() is not threading.main_thread() or watches_preemption():
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def unwatch_signals() -> None:
    """Leave SIGTERM to the system again."""
    from tracking_core.environment.hosts import watches_preemption

    if threading.current_thread() is not threading.main_thread() or watches_preemption():
        return
    if signal.getsignal(signal.SIGTERM) is _on_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Fork(threading.local):
    """What the signal mask of this thread was before it forked; None when nothing was changed."""

    mask: set[int] | None = None


_fork = _Fork()


def _before_fork() -> None:
    # A signal that comes before the child has put the handler aside must wait, and is not lost.
    if signal.getsignal(signal.SIGTERM) is _on_sigterm:
        _fork.mask = {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})}


def _after_fork() -> None:
    mask, _fork.mask = _fork.mask, None
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _in_child() -> None:
    """A forked child ends as if it had never heard of us: the runs are its parent's.

    With our handler, a worker of a pool that is terminated while it is about to wait for a lock would never end: the
    handler runs only once the lock is had.
    """
    housekeeper.forget()
    compaction.forget()
    if signal.getsignal(signal.SIGTERM) is _on_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
