"""What a run that broke off last did: when, and how often it had been started again before."""

from __future__ import annotations

import os
from pathlib import Path

from tracking_core.base.regular import open_regular
from tracking_core.errors import JournalError
from tracking_core.journal import decode_line
from tracking_core.journal.finding import EventFinder

_TAIL = 1 << 16
"""Bytes at the end of a file that are looked through."""


def last_moment(directory: Path) -> float | None:
    """When the last record of a run was made, in seconds since the epoch; None when none can be read.

    Args:
        directory: The run directory.
    """
    return max(_moments(directory).values(), default=None)


def restarts(directory: Path) -> int:
    """How often a run was continued: sessions that began after all those before them had ended.

    The processes of one training, which all write to the run, are no restarts of each other.

    Args:
        directory: The run directory.

    Raises:
        JournalError: A file's format is newer than this version knows.
    """
    moments = _moments(directory)
    count, until = 0, None
    for writer in EventFinder(directory).sessions():
        began = _began(writer)
        if until is not None and began > until:
            count += 1
        until = max(until or began, began, moments.get(writer, began))
    return count


def _began(writer: str) -> float:
    """When a writer began: its name says so, in nanoseconds."""
    try:
        return int(writer.partition("-")[0], 16) / 1e9
    except ValueError:
        return 0.0


def _moments(directory: Path) -> dict[str, float]:
    """Writer → the time of its last record, as far as it stands at the ends of its files."""
    found: dict[str, float] = {}
    for path in (*directory.glob("journal/*.jsonl"), *directory.glob("events-*.jsonl")):
        if path.name.startswith("events-"):
            writer = path.stem.removeprefix("events-").rsplit("-", 2)[0]
        else:
            writer = path.stem.rpartition("-")[0]
        at = _last(path, writer)
        if at is not None:
            found[writer] = max(at, found.get(writer, at))
    return found


def _last(path: Path, writer: str) -> float | None:
    try:
        with open_regular(path) as content:
            size = content.seek(0, os.SEEK_END)
            content.seek(max(0, size - _TAIL))
            lines = content.read(_TAIL).split(b"\n")
    except OSError:
        return None
    for line in reversed(lines):
        try:
            if line:
                return decode_line(line, writer).time
        except JournalError:
            # The beginning of it is missing, or its end.
            continue
    return None
