"""Transaction logs of W&B of our own making, for what the client does not write on demand."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

BLOCK = 32 * 1024


def frame(kind: int, data: bytes) -> bytes:
    return struct.pack("<IHB", zlib.crc32(bytes([kind]) + data), len(data), kind) + data


def write_log(path: Path, records: Iterable[Any], tail: bytes = b"") -> Path:
    """Write a log as LevelDB's format says."""
    content = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
    for record in records:
        data, first = record.SerializeToString(), True
        while first or data:
            room = BLOCK - len(content) % BLOCK
            if room < 7:
                content += bytes(room)
                room = BLOCK
            part, data = data[: room - 7], data[room - 7 :]
            content += frame(
                {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}[first, not data], part
            )
            first = False
    path.write_bytes(content + tail)
    return path
