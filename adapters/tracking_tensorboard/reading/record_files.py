"""Reading event files: records with checksums, as any writer of TensorBoard's makes them (the TFRecord format).

```
length: uint64, masked CRC-32C of these 8 bytes: uint32, data, masked CRC-32C of the data: uint32   (little-endian)
```
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import crc32c

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
#: Longer records than protocol buffers can be are damage, not data.
_LONGEST = 2**31
_LARGEST = 2**27
"""Bytes of a record that are read: what is parsed takes several times as much memory, and a file may be long without
taking room on the disk."""


def records(path: Path, problems: list[str] | None = None) -> Iterator[bytes]:
    """The records of one event file, each a serialized `Event`; what is damaged is left out.

    Args:
        path: The file.
        problems: Gets what was damaged, in words.
    """
    with path.open("rb") as file:
        yield from records_of(file, path.name, problems)


def records_of(file: BinaryIO, name: str = "", problems: list[str] | None = None) -> Iterator[bytes]:
    """The records of an open event file; see `records`."""

    def note(what: str) -> None:
        if problems is not None:
            problems.append(f"{name}: {what}")

    at, size = 0, os.fstat(file.fileno()).st_size
    while header := file.read(_HEADER.size):
        if len(header) < _HEADER.size:
            note(f"the last record, at byte {at}, is incomplete")
            return
        length, check = _HEADER.unpack(header)
        if _masked(header[:8]) != check or length > _LONGEST:
            # Where the next record starts, only the length would tell.
            note(f"the record at byte {at} is damaged; the rest of this file cannot be read")
            return
        if length > size - at:
            # Asked first: room for what a length says is taken before anything is read. The file may have grown.
            size = os.fstat(file.fileno()).st_size
            if length > size - at:
                note(f"the last record, at byte {at}, is incomplete")
                return
        if length > _LARGEST:
            note(f"the record at byte {at} has {length} bytes and was left out; up to {_LARGEST} are read")
            file.seek(length + _FOOTER.size, os.SEEK_CUR)
            at += _HEADER.size + length + _FOOTER.size
            continue
        data, footer = file.read(length), file.read(_FOOTER.size)
        if len(data) < length or len(footer) < _FOOTER.size:
            note(f"the last record, at byte {at}, is incomplete")
            return
        if _masked(data) == _FOOTER.unpack(footer)[0]:
            yield data
        else:
            note(f"the record at byte {at} is damaged and was left out")
        at += _HEADER.size + length + _FOOTER.size


def record_end(descriptor: int, at: int) -> int | None:
    """Where the record ends that begins at a byte of an open file; None where none begins.

    Told from its header alone, which has a checksum of its own; the record need not be whole.
    """
    header = os.pread(descriptor, _HEADER.size, at)
    if len(header) < _HEADER.size:
        return None
    length, check = _HEADER.unpack(header)
    if _masked(header[:8]) != check:
        return None
    return at + _HEADER.size + length + _FOOTER.size


def _masked(data: bytes) -> int:
    check = crc32c.crc32c(data)
    return ((check >> 15 | check << 17) + 0xA282EAD8) & 0xFFFFFFFF
