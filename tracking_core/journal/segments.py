"""The files of a journal: the segments that a writer has written one after the other, and the parts made of them.

A writer goes on in a new segment when one is large. What compaction made of closed segments is a part: two files in
the run directory, which count only when both are there.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from tracking_core.values.fields import NUMBERS

MERGED = 8
"""How many segments are merged into a part; of a writer that is gone the rest as well."""
LIMIT = 1 << 62
"""Nanoseconds since the epoch from which on the name of a writer is not believed: the year 2116."""
_NAME = re.compile(r"([0-9a-f]{16})-[0-9a-f]{8}")
# No writer comes to numbers of more digits.
_SEGMENT = re.compile(r"([^.].*)-([0-9]{6,12})\.jsonl")
_PART = re.compile(r"events-(.+)-([0-9]{1,19})-([0-9]{1,19})\.jsonl")


class Place(NamedTuple):
    """Where a line stands in the journal of one writer.

    Args:
        segment: Number of the segment, from 1.
        offset: Where in it the line starts, in bytes.
    """

    segment: int = 1
    offset: int = 0


@dataclass(frozen=True, slots=True, order=True)
class PartFiles:
    """The two files of a part.

    Args:
        writer: Whose events they hold.
        first: The smallest sequence number in them.
        last: The largest.
        directory: The run directory.
    """

    writer: str
    first: int
    last: int
    directory: Path

    @property
    def events(self) -> Path:
        """What is not a scalar, as lines of a journal."""
        return self.directory / f"events-{self.writer}-{self.first}-{self.last}.jsonl"

    @property
    def scalars(self) -> Path:
        """The scalars, as Parquet."""
        return self.directory / f"scalars-{self.writer}-{self.first}-{self.last}.parquet"


@dataclass(slots=True)
class WriterFiles:
    """The files of one writer.

    Args:
        segments: Number → file.
        parts: What was made of closed segments.
    """

    segments: dict[int, Path] = field(default_factory=dict[int, Path])
    parts: list[PartFiles] = field(default_factory=list[PartFiles])


def new_writer_id(after: int = 0, now: int | None = None) -> str:
    """A name for a writer: sorts by time, and no two are alike.

    Args:
        after: It sorts behind a writer that was started then, in nanoseconds since the epoch: the clock of this host
            may be behind that of the one which recorded before.
        now: Nanoseconds since the epoch; None asks the clock.
    """
    at = time.time_ns() if now is None else now
    # A clock that is centuries ahead says nothing, either.
    at = max(at if at < LIMIT else 0, after + 1)
    return f"{at:016x}-{secrets.token_hex(4)}"


@lru_cache(maxsize=4096)
def by_start(writer: str) -> tuple[int, str]:
    """Sorts writers by their start, which their names tell.

    A name of another form, or beyond `LIMIT`, comes before all others: whatever is in such a file must not hold against
    what is recorded later.

    Args:
        writer: Name of the writer.

    Returns:
        Nanoseconds since the epoch, or -1; and the name.
    """
    match = _NAME.fullmatch(writer)
    at = int(match[1], 16) if match else LIMIT
    return (at if at < LIMIT else -1), writer


def newest_start(directory: Path) -> int:
    """When the newest writer of a run was started, in nanoseconds since the epoch, as its name says; 0 for none."""
    journal = (match[0] for name in _names(directory / "journal") if (match := split_segment_name(name)))
    parts = (match[1] for name in _names(directory) if (match := _PART.fullmatch(name)))
    return max((at for writer in {*journal, *parts} if (at := by_start(writer)[0]) < LIMIT - 1), default=0)


def segment_path(folder: Path, writer: str, number: int) -> Path:
    """The file of a segment."""
    return folder / f"{writer}-{number:06d}.jsonl"


def split_segment_name(name: str) -> tuple[str, int] | None:
    """Writer and number of a segment, from the name of its file; None when it is none."""
    match = _SEGMENT.fullmatch(name)
    return (match[1], int(match[2])) if match else None


def find_files(directory: Path) -> dict[str, WriterFiles]:
    """The files of every writer of a run, writers by start.

    Args:
        directory: The run directory.
    """
    found: dict[str, WriterFiles] = {}
    folder = directory / "journal"
    # Segments first: what is gone by the time they are listed is in a part that is listed after them.
    for name in _names(folder):
        match = split_segment_name(name)
        if match is not None:
            found.setdefault(match[0], WriterFiles()).segments[match[1]] = folder / name
    names = set(_names(directory))
    for name in names:
        match = _PART.fullmatch(name)
        if match and f"scalars{name.removeprefix('events').removesuffix('.jsonl')}.parquet" in names:
            part = PartFiles(match[1], int(match[2]), int(match[3]), directory)
            if not part.first <= part.last < NUMBERS:
                continue
            found.setdefault(part.writer, WriterFiles()).parts.append(part)
    for files in found.values():
        files.parts.sort()
    return {writer: found[writer] for writer in sorted(found, key=by_start)}


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208 - followed runs are listed many times a second
    except OSError:
        return []
