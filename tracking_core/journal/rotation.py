"""Going on in a new segment, while other threads write: no line is lost, and none waits.

The number of the descriptor stays: `dup2` puts the new file behind it, so that a write goes to one file or the other.
"""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracking_core.base.regular import open_regular
from tracking_core.journal.segments import segment_path

_CHUNK = 1 << 20


@dataclass(slots=True)
class Retired:
    """A segment that is no longer written to, once every event that was under way has come.

    Args:
        number: Its number.
        path: The file.
        fd: A descriptor of it.
        barrier: When everything up to this number is written, nothing comes to the file any more.
    """

    number: int
    path: Path
    fd: int
    barrier: int

    def seal(self) -> dict[str, Any]:
        """Make the file durable, and describe it: the fields of a `seal`.

        Raises:
            OSError: The disk refuses.
        """
        os.fsync(self.fd)
        digest, size = hashlib.sha256(), 0
        with open_regular(self.path) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
        return {"segment": self.number, "bytes": size, "sha256": digest.hexdigest()}


class Turning:
    """What a writer keeps to go on in new segments."""

    def __init__(self) -> None:
        self.number = 1
        self.before = 0
        """How many events were written before this segment was begun, about."""
        self.retired: list[Retired] = []
        self.lock = threading.Lock()
        """Held for the moment in which the descriptor changes its file, so that it is not closed meanwhile."""
        self.busy = threading.Lock()
        """Held by whoever goes on in the next segment, or seals one: others leave it to them."""

    def next_path(self, folder: Path, writer: str) -> Path:
        """The file of the next segment."""
        return segment_path(folder, writer, self.number + 1)

    def close(self) -> None:
        """Let go of the files."""
        retired, self.retired = self.retired, []
        for one in retired:
            os.close(one.fd)
