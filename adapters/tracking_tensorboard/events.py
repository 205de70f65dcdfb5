"""Event files, written on the caller's thread: what was appended is in the file, and a flush means on the disk.

An event file is a sequence of records: length, masked CRC-32C of the length, a serialized `Event`, masked CRC-32C of
that (the TFRecord format). tensorboardX's `RecordWriter` makes them. Its `SummaryWriter` is not used: it hands events
to a thread through a queue that its `flush` does not drain, and opens files by a name that two writers can share.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any, Protocol

from tensorboardX.record_writer import RecordWriter

from tracking_tensorboard.own_files import VERSION
from tracking_tensorboard.protos import Event


class EventFile(Protocol):
    """What the tracker writes to."""

    def append(self, event: bytes) -> None:
        """Add one serialized event; when this raises, nothing was added."""
        ...

    @property
    def position(self) -> Any:
        """Where the next record will be; for `take_back`."""
        ...

    def take_back(self, position: Any) -> None:
        """Remove the records from a position on, which were added since."""
        ...

    def flush(self) -> int | None:
        """Make everything durable; the length to truncate to on a restart, None where that is not possible."""
        ...

    @property
    def last(self) -> int | None:
        """Where the last record begins; None where that is not known, or of no use."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


class Framing(RecordWriter):
    """Makes records and puts them together in memory, in place of a file of its own."""

    def __init__(self) -> None:
        # Not the base's: that opens a file by name, always empty.
        self._writer = self
        self._parts: list[bytes] = []

    def frame(self, event: bytes) -> bytes:
        """One serialized event as a record."""
        self._parts.clear()
        # RecordWriter.write calls the write of its file, four times for each record.
        super().write(event)
        return b"".join(self._parts)

    def write(self, data: bytes) -> None:
        """Take a part of a record."""
        self._parts.append(data)


class LocalEventFile:
    """An event file on a file system.

    Every record is at its place in the file when `append` returns: TensorBoard sees it, and it survives the end of
    the process. A record that could be written in part only (a full disk) is taken back.

    Args:
        path: The file.
        descriptor: It is open for reading and writing, and this takes it over.
        length: How many bytes of it are kept; 0 for a new one.
    """

    def __init__(self, path: Path, descriptor: int, length: int = 0) -> None:
        os.ftruncate(descriptor, length)
        self.path = path
        self._framing = Framing()
        self._length = length
        self._synced = -1
        self._last: int | None = None
        # A new file's entry in its directory has to reach the disk too.
        self._directory_synced = length > 0
        self._descriptor = descriptor

    @classmethod
    def create(cls, path: Path, mark: bytes = b"") -> LocalEventFile:
        """Begin a new file.

        Args:
            path: The file; its directory exists.
            mark: What its first event says of whose it is; see `own_files.mark`.

        Raises:
            FileExistsError: There is such a file already.
        """
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o666)
        try:
            file = cls(path, descriptor)
            file.append(first_event() + mark)
        except OSError:
            os.close(descriptor)
            raise
        return file

    def append(self, event: bytes) -> None:
        """Add one serialized event; when this raises, nothing was added."""
        data = memoryview(self._framing.frame(event))
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(self._descriptor, data[done:], self._length + done)
        except OSError:
            # The next record goes to the same place anyway; this is for whoever reads meanwhile.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._length)
            raise
        self._last = self._length
        self._length += len(data)

    @property
    def position(self) -> tuple[int, int | None]:
        """The length, and where the last record begins."""
        return self._length, self._last

    def take_back(self, position: tuple[int, int | None]) -> None:
        """Remove the records from a position on."""
        self._length, self._last = position
        # The next record goes there anyway; this is for whoever reads meanwhile.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, self._length)

    def flush(self) -> int:
        """Write everything to the disk; the length of the file."""
        if self._length == self._synced:
            return self._length
        os.fsync(self._descriptor)
        if not self._directory_synced:
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                # Some network file systems cannot, and need not.
                with contextlib.suppress(OSError):
                    os.fsync(directory)
            finally:
                os.close(directory)
            self._directory_synced = True
        self._synced = self._length
        return self._length

    @property
    def last(self) -> int | None:
        """Where the last record begins; None before anything was appended."""
        return self._last

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def first_event() -> bytes:
    """The event that every file begins with."""
    # Version 2 tells TensorBoard that steps may go back without anything being purged.
    return Event(wall_time=time.time(), file_version=VERSION).SerializeToString()
