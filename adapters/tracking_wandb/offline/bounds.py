"""How much of what stands in files of others is taken into memory at once.

A directory of W&B's may come from anybody: a few kilobytes of gzip can hold gigabytes, a file can be long without
taking room on the disk, and short JSON can be many objects.
"""

from __future__ import annotations

import gzip
import json
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracking_core import InvalidValueError

LARGEST_FILE = 1 << 28
"""Bytes of a medium."""
LARGEST_JSON = 1 << 26
MOST_VALUES = 1 << 21
"""Values in one JSON text; each takes a hundred bytes or more."""
LARGEST_LINE = 1 << 20
MOST_LINES = 500_000
"""The client itself writes lists of more than 100,000 files in this way."""


def check_file(place: Path, limit: int = LARGEST_FILE) -> None:
    """Refuse a file that is larger than `limit`, or no plain file.

    Raises:
        InvalidValueError: It is.
        OSError: It cannot be looked at.
    """
    found = place.stat()
    if not stat.S_ISREG(found.st_mode):
        raise InvalidValueError(f"{place.name!r} is not a regular file")
    if found.st_size > limit:
        raise InvalidValueError(f"{place.name!r} has {found.st_size} bytes; up to {limit} are read")


def read_bytes(place: Path, limit: int = LARGEST_FILE) -> bytes:
    """The content of a file; see `check_file`."""
    check_file(place, limit)
    return place.read_bytes()


def load_json(text: bytes) -> Any:
    """JSON as values.

    Raises:
        InvalidValueError: It holds more values than are read.
        ValueError: It is no JSON.
    """
    # Commas in texts count as well; that many are none of a table that people look at.
    count = text.count(b",") + text.count(b"[") + text.count(b"{")
    if count > MOST_VALUES:
        raise InvalidValueError(f"JSON of about {count} values; up to {MOST_VALUES} are read")
    return json.loads(text)


def json_lines(path: Path) -> Iterator[Any] | None:
    """The values in a file of JSON lines that was packed with gzip; None when it cannot be read, or holds too much."""
    found: list[Any] = []
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with gzip.open(path) as lines:
            while line := lines.readline(LARGEST_LINE + 1):
                if len(line) > LARGEST_LINE or len(found) == MOST_LINES:
                    return None
                found.append(load_json(line))
    except (OSError, EOFError, ValueError, RecursionError, zlib.error):
        return None
    return iter(found)
