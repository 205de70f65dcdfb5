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

from tensorboardX.record_writer import REGISTERED_FACTORIES, RecordWriter

from tracking_core import MissingDependencyError, SettingsError
from tracking_tensorboard.protos import Event


class EventFile(Protocol):
    """What the tracker writes to."""

    def append(self, event: bytes) -> None:
        """Add one serialized event; when this raises, nothing was added."""
        ...

    def flush(self) -> int | None:
        """Make everything durable; the length to truncate to on a restart, None where that is not possible."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


class _Framing(RecordWriter):
    """Makes records and puts them together in memory, in place of a file of its own."""

    def __init__(self) -> None:
        # Not the base's: that opens a file by name, always empty.
        self._writer = self
        self._parts: list[bytes] = []

    def frame(self, event: bytes) -> bytes:
        self._parts.clear()
        # RecordWriter.write calls the write of its file, four times for each record.
        super().write(event)
        return b"".join(self._parts)

    def write(self, data: bytes) -> None:
        self._parts.append(data)


class LocalEventFile:
    """An event file on a file system.

    Every record is at its place in the file when `append` returns: TensorBoard sees it, and it survives the end of
    the process. A record that could be written in part only (a full disk) is taken back.

    Args:
        path: The file; its directory exists.
        length: None makes a new file. A number continues an existing one, of which only so many bytes are kept.

    Raises:
        FileExistsError: There is such a file already, and `length` is None.
        FileNotFoundError: There is none, or it is shorter than `length`.
    """

    def __init__(self, path: Path, *, length: int | None = None) -> None:
        self.path = path
        self._framing = _Framing()
        self._length = length or 0
        # A new file's entry in its directory has to reach the disk too.
        self._directory_synced = length is not None
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if length is None else 0)
        self._descriptor = os.open(path, flags, 0o666)
        try:
            if length is None:
                self.append(_file_version())
            elif os.fstat(self._descriptor).st_size < length:
                raise FileNotFoundError(f"{path} is shorter than the {length} bytes that were confirmed")
            else:
                os.ftruncate(self._descriptor, length)
        except OSError:
            os.close(self._descriptor)
            raise

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
        self._length += len(data)

    def flush(self) -> int:
        """Write everything to the disk; the length of the file."""
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
        return self._length

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class RemoteEventFile:
    """An event file in a bucket, through tensorboardX's own writers: every flush uploads the whole file anew.

    Args:
        url: Such as `gs://bucket/runs/a/events.out.tfevents.…`.

    Raises:
        SettingsError: tensorboardX knows no writer for the scheme.
        MissingDependencyError: The package for that kind of storage is not installed.
    """

    def __init__(self, url: str) -> None:
        scheme = url.partition(":")[0]
        if scheme not in REGISTERED_FACTORIES:
            known = ", ".join(f"{name}://" for name in sorted(REGISTERED_FACTORIES))
            raise SettingsError(
                f"tensorboard: cannot write to {scheme}://; name a directory, or one of {known}, or register a writer "
                "with tensorboardX.record_writer.register_writer_factory"
            )
        try:
            self._records: Any = RecordWriter(url)
        except ImportError as error:
            raise MissingDependencyError(
                f"tensorboard: writing to {scheme}:// needs another package: {error}"
            ) from error
        self._records.write(_file_version())

    def append(self, event: bytes) -> None:
        """Add one serialized event."""
        self._records.write(event)

    def flush(self) -> None:
        """Upload the file."""
        self._records.flush()

    def close(self) -> None:
        """Upload the file a last time."""
        self._records.close()


def _file_version() -> bytes:
    # Version 2 tells TensorBoard that steps may go back without anything being purged.
    return Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString()
