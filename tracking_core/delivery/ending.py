"""Ending the targets of a run that nobody has finished: whether it broke off, and with which status."""

from __future__ import annotations

import secrets
import socket
import time
from pathlib import Path

from tracking_core.backends.targets import Target
from tracking_core.base.processes import STALE, owner_of, read_facts
from tracking_core.base.regular import own_folder
from tracking_core.delivery.cursor import Cursor
from tracking_core.delivery.progress import waiting
from tracking_core.journal.finding import EventFinder

BROKE_OFF = "the process ended without finishing the run"


def closing(status: str, error: str | None = None) -> tuple[str, str | None]:
    """The status and error to end a target with.

    Args:
        status: Status of the run, as the store derives it; not "running".
        error: What went wrong, for a run that failed.
    """
    return ("failed", BROKE_OFF) if status == "crashed" else (status, error)


def is_written_to(directory: Path, *, now: float | None = None) -> bool:
    """Whether a process may still add to a run: one of several that train together, or a forked child.

    Args:
        directory: The run directory.
        now: A second time by which heartbeats from other hosts have to be stale, besides the clock of this host.
    """
    beats = (directory / "journal").glob("[!.]*.alive")
    living = [path for path in beats if owner_of(path) is not None or (now is not None and _beats(path, now))]
    finder = EventFinder(directory)
    return any(finder.finish(path.stem) is None for path in living)


def broke_off(directory: Path) -> bool:
    """Whether a run ended without being finished, and no process on any host may add to it.

    A process on another host is known by its heartbeat. The clocks of this host and of the file system may differ, so
    the heartbeat must be stale by both.
    """
    newest, end = EventFinder(directory).newest_end()
    return newest is not None and end is None and not is_written_to(directory, now=_clock(directory))


def lacks(directory: Path, target: Target, status: str) -> bool:
    """Whether a target lacks records of a run, or its end, or has to be sent what changed filters admit.

    Args:
        directory: The run directory.
        target: The target.
        status: Status of the run, as the store derives it.
    """
    cursor = Cursor.load(directory, target, ask=True)
    if status == "running" or cursor.status != closing(status)[0] or cursor.filters != target.filters:
        return True
    return waiting(directory, target, cursor, superseded=True) > 0


def _beats(path: Path, now: float) -> bool:
    """Whether a heartbeat of another host is fresh at a time."""
    try:
        fresh = now - path.stat().st_mtime < STALE
        return fresh and read_facts(path)["host"] != socket.gethostname()
    except (OSError, ValueError, KeyError):
        return False


def _clock(directory: Path) -> float:
    """The time by the clock of this host or that of the file system, whichever is behind."""
    now = time.time()
    try:
        probe = own_folder(directory / "cursors") / f".clock.{secrets.token_hex(6)}"
    except OSError:
        return now
    try:
        probe.write_bytes(b"")
        return min(now, probe.stat().st_mtime)
    except OSError:
        return now
    finally:
        probe.unlink(missing_ok=True)
