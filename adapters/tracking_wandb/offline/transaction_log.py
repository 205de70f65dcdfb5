"""Reader of the transaction log that a W&B client writes for each run, `run-<id>.wandb`.

The format is LevelDB's log with two changes. The file begins with seven bytes, `:W&B`, the little-endian number
0xBEE1 and a version, 0; they count as part of the first block. And the checksum is the plain CRC-32 of the type
byte and the data, not the masked Castagnoli one.

```
block   32 KiB, counted from the start of the file; at most six bytes of zeros fill the end of one
frame   crc32: uint32, length: uint16, type: uint8 (all little-endian), then `length` bytes
type    1 the whole record, 2 its first, 3 a middle, 4 its last fragment
record  wandb.proto.wandb_internal_pb2.Record
```

See <https://github.com/google/leveldb/blob/main/doc/log_format.md>.

The client appends while the run goes on, so a file may end in the middle of a record. That is no error here: the
records before it are given, and `TransactionLog.end` says where the reading stopped and why.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias

from tracking_core.errors import MissingDependencyError, TrackingError

if TYPE_CHECKING:
    from collections.abc import Iterator

Record: TypeAlias = Any  # wandb.proto.wandb_internal_pb2.Record: the client ships no types for its messages

MAGIC = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
BLOCK = 32 * 1024

_FRAME = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


class LogFormatError(TrackingError, ValueError):
    """The file is not a W&B transaction log, or of a version that this reader does not know."""


@dataclass(frozen=True, slots=True)
class LogEnd:
    """Where reading a transaction log stopped, and why.

    Attributes:
        kind: `clean`: at the end of a record. `torn`: in the middle of one, as while the run is going on or after
            its process was killed. `corrupt`: at bytes that are wrong; what lies behind them was not read.
        offset: Bytes from the start of the file to the end of the last record that was given. Reading may be
            taken up again from here with `TransactionLog(path, start=offset)`.
        reason: What was found, in words; empty for `clean`.
    """

    kind: Literal["clean", "torn", "corrupt"]
    offset: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Frame:
    """One frame as it stands in the file: its type, its data and where it ends."""

    type: int
    data: bytes
    end: int


class TransactionLog:
    """The records of one transaction log, in the order in which they were written.

    Iterating opens the file, reads it to its present end and closes it; `end` then tells how that went. Nothing is
    raised for a file that is incomplete or damaged.

    Args:
        path: The `run-<id>.wandb` file.
        start: Where to begin: 0, or the `end.offset` of an earlier reading of the same file.

    Example:
        ```python
        log = TransactionLog("wandb/offline-run-20260101_120000-a1b2c3/run-a1b2c3.wandb")
        rows = [record.history for record in log if record.HasField("history")]
        if log.end.kind != "clean":
            print(f"stopped at byte {log.end.offset}: {log.end.reason}")
        ```
    """

    def __init__(self, path: str | os.PathLike[str], *, start: int = 0) -> None:
        self.path = Path(path)
        self.start = start
        self.end = LogEnd("torn", start, "nothing has been read yet")

    def __iter__(self) -> Iterator[Record]:
        """Give the records, decoded.

        Raises:
            MissingDependencyError: wandb, whose message classes are needed, is not installed.
            LogFormatError: The file begins with something else than a transaction log does.
            OSError: The file cannot be opened or read.
        """
        record_type, decode_error = _message_classes()
        begin = self.start
        for data in self.payloads():
            record = record_type()
            try:
                record.ParseFromString(data)
            except decode_error as error:
                self.end = LogEnd("corrupt", begin, f"the bytes are not a wandb Record: {error}")
                return
            begin = self.end.offset
            yield record

    def payloads(self) -> Iterator[bytes]:
        """Give the records as the bytes that were written; wandb is not needed for this.

        Raises:
            LogFormatError: The file begins with something else than a transaction log does.
            OSError: The file cannot be opened or read.
        """
        self.end = LogEnd("torn", self.start, "nothing has been read yet")
        with self.path.open("rb") as file:
            if self.start >= len(MAGIC):
                file.seek(self.start)
            elif not self._read_magic(file):
                return
            yield from self._join(file)

    def _read_magic(self, file: BinaryIO) -> bool:
        found = file.read(len(MAGIC))
        if found == MAGIC:
            return True
        if MAGIC.startswith(found):
            self.end = LogEnd("torn", 0, f"only {len(found)} of the {len(MAGIC)} bytes of the file header are there")
            return False
        raise LogFormatError(
            f"{self.path} is not a W&B transaction log of a known version: expected it to begin with {MAGIC!r}, "
            f"found {found!r}. Pass the run-<id>.wandb file of a run directory."
        )

    def _join(self, file: BinaryIO) -> Iterator[bytes]:
        """Put fragments together to records, and keep `end` at the end of the last whole one."""
        done = max(self.start, len(MAGIC))
        parts: list[bytes] = []
        while True:
            frame = _read_frame(file, done)
            if isinstance(frame, LogEnd):
                torn = parts and frame.kind == "clean"
                self.end = LogEnd("torn", done, "the last fragments of a record are missing") if torn else frame
                return
            if (frame.type in {_FULL, _FIRST}) == bool(parts):
                self.end = LogEnd("corrupt", done, f"a fragment of type {frame.type} is out of place")
                return
            parts.append(frame.data)
            if frame.type in {_FULL, _LAST}:
                done = frame.end
                # Set before the record is given: whoever stops iterating finds the place to go on from.
                self.end = LogEnd("clean", done)
                yield b"".join(parts)
                parts = []


def _read_frame(file: BinaryIO, done: int) -> _Frame | LogEnd:
    """Read one frame at the position of `file`; `done` is the offset to report if there is none."""
    begin = file.tell()
    room = BLOCK - begin % BLOCK
    if room < _FRAME.size:
        file.seek(room, os.SEEK_CUR)
        begin, room = begin + room, BLOCK
    header = file.read(_FRAME.size)
    if not header:
        return LogEnd("clean", done)
    if len(header) < _FRAME.size:
        return LogEnd("torn", done, f"the frame header at byte {begin} is cut off")
    crc, length, kind = _FRAME.unpack(header)
    if kind not in {_FULL, _FIRST, _MIDDLE, _LAST}:
        if not any(header) and _only_zeros(file):
            # After a power cut a file system may have kept the length of the file and not its bytes.
            return LogEnd("torn", done, f"from byte {begin} on the file holds zeros only")
        return LogEnd("corrupt", done, f"the frame at byte {begin} has the unknown type {kind}")
    if length > room - _FRAME.size:
        return LogEnd("corrupt", done, f"the frame at byte {begin} would run beyond its block")
    data = file.read(length)
    if len(data) < length:
        return LogEnd("torn", done, f"the frame at byte {begin} has {len(data)} of its {length} bytes")
    if zlib.crc32(data, zlib.crc32(header[-1:])) != crc:
        return LogEnd("corrupt", done, f"the checksum of the frame at byte {begin} is wrong")
    return _Frame(kind, data, begin + _FRAME.size + length)


def _only_zeros(file: BinaryIO) -> bool:
    """Whether the rest of a file holds nothing else; it may be long without taking room on the disk."""
    while chunk := file.read(BLOCK):
        if chunk.strip(b"\0"):
            return False
    return True


def _message_classes() -> tuple[type[Any], type[Exception]]:
    # The client makes its message classes at run time: an import statement would tell a type checker no more.
    try:
        messages = import_module("wandb.proto.wandb_internal_pb2")
        return messages.Record, import_module("google.protobuf.message").DecodeError
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "Reading a W&B transaction log needs the wandb package, which is not installed. "
            "Install it with: pip install 'tracking-core[wandb]'"
        ) from error
