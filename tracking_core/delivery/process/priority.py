"""Priorities of the threads of the deliverer, and of what backends start.

On Linux each thread has its own. Without privileges a priority can be lowered, and not raised again: whatever is to go
on at a higher one needs a new thread, which has the priority of the thread that started it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

NICE, HURRY = 19, 5
"""Niceness of delivering, once a backend is open; and that of a target which lags behind."""
BACKEND = 10
"""Niceness of threads and processes that clients of backends start: they cannot be raised when the training waits."""
PREFIX = "tracking-"
"""What the names of our own threads begin with."""


def set_priority(nice: int, task: int = 0) -> None:
    """Set the niceness of a thread.

    Args:
        nice: The niceness.
        task: Its number; 0 means the thread that calls this.
    """
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, task, nice)


def lower_backends() -> None:
    """Lower what clients of backends have started: threads of this process, and processes with theirs."""
    lower_client_threads()
    for pid, session in _started():
        _lower(_tasks(pid))
        if session != os.getsid(0):
            # Sessions compete with each other first, and niceness counts within one.
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/autogroup").write_text(str(BACKEND), encoding="ascii")


def lower_client_threads() -> None:
    """Lower the threads of this process that are not ours."""
    there = set(_tasks(os.getpid()))
    # Asked after that: a thread of ours that was seen there is known by now, or has no number yet.
    known = threading.enumerate()
    if all(thread.native_id for thread in known):
        _lower(there - {thread.native_id for thread in known if is_own(thread)})


def is_own(thread: threading.Thread) -> bool:
    """Whether a thread is ours, and not that of a client."""
    return thread is threading.main_thread() or thread.name.startswith(PREFIX)


def _lower(tasks: Iterable[int]) -> None:
    with contextlib.suppress(AttributeError):
        for task in tasks:
            with contextlib.suppress(OSError):
                if os.getpriority(os.PRIO_PROCESS, task) < BACKEND:
                    os.setpriority(os.PRIO_PROCESS, task, BACKEND)


def _tasks(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208
    except OSError:
        return []


def _started() -> Iterator[tuple[int, int]]:
    """(number, session) of each process that descends from this one, or is in its group, if it leads one.

    In a group of others they cannot be told from theirs.
    """
    facts: dict[int, tuple[int, int, int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            # After the last ")": the name of the program may hold anything.
            _, parent, group, session, *_ = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            facts[int(entry.name)] = int(parent), int(group), int(session)
    me = os.getpid()
    leads = os.getpgid(0) == me
    for pid, (_, group, session) in facts.items():
        above = pid
        while above in facts and above != me:
            above = facts[above][0]
        if pid != me and (above == me or (leads and group == me)):
            yield pid, session
