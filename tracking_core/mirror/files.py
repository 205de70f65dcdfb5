"""What of a run directory belongs into a mirror, and how far each file may be uploaded.

Cursors go along only where what they speak of is not on the machine that may be lost: the files of a target on its
disk are not in the mirror, and whoever delivers from there has to begin them anew.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracking_core.backends.targets import parse_target
from tracking_core.base.json_text import load_json
from tracking_core.base.processes import read_facts
from tracking_core.base.regular import bounded_lines, end_of_lines, is_regular, open_regular, read_regular
from tracking_core.delivery.places import ENDING, FOLDER, cursor_paths
from tracking_core.errors import JournalError, TrackingError
from tracking_core.journal import decode_line
from tracking_core.journal.segments import PartFiles, find_files

_ARTIFACT = b'"kind":"artifact"'


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment, as far as it is uploaded.

    Args:
        path: The file.
        writer: Whose it is.
        length: How many bytes of it: up to the last complete line, where more may come.
    """

    path: Path
    writer: str
    length: int


@dataclass(slots=True)
class Snapshot:
    """What is in a run directory at one moment.

    Args:
        segments: Writers by start, each in order.
        parts: What was made of closed segments.
        moved: Whether a segment went while this was made: the next snapshot has the part that it is in.
    """

    segments: list[Segment] = field(default_factory=list[Segment])
    parts: list[PartFiles] = field(default_factory=list[PartFiles])
    moved: bool = False


def snapshot(directory: Path) -> Snapshot:
    """Look at the journals and parts of a run. What a line names was in place before the line was written."""
    found = Snapshot()
    for writer, files in find_files(directory).items():
        newest = max(files.segments, default=0)
        for number, path in sorted(files.segments.items()):
            if path.exists() and not is_regular(path):
                continue
            try:
                length = _complete(path) if number == newest else path.stat().st_size
            except FileNotFoundError:
                found.moved = True
                continue
            found.segments.append(Segment(path, writer, length))
        found.parts += files.parts
    return found


def _complete(path: Path) -> int:
    with open_regular(path) as file:
        return end_of_lines(file)


def artifacts_in(path: Path, writer: str, start: int, end: int) -> Iterator[Mapping[str, Any]]:
    """The fields of the artifacts that lines of a file record.

    Args:
        path: A segment, or the events file of a part.
        writer: Whose it is.
        start: Where the first line starts, in bytes.
        end: Where the last one ends.
    """
    with open_regular(path) as file:
        file.seek(start)
        for length, line in bounded_lines(file):
            start += length + 1
            if start > end:
                return
            if line is not None and _ARTIFACT in line:
                with contextlib.suppress(JournalError):
                    event = decode_line(line, writer)
                    if event.kind == "artifact":
                        yield event.fields


def heartbeats(directory: Path, interval: float) -> dict[str, bytes]:
    """Name → content of the heartbeats of a run; they say how often they can be seen in the mirror."""
    found: dict[str, bytes] = {}
    for path in (directory / "journal").glob("*.alive"):
        # One that is being written is seen the next time.
        with contextlib.suppress(OSError, ValueError, RecursionError):
            found[path.name] = json.dumps({**read_facts(path), "mirrored": interval}).encode()
    return found


def cursors(directory: Path) -> dict[str, bytes]:
    """Name → content of the cursors, and of what is kept of places, that mean something to who reads the mirror."""
    found: dict[str, bytes] = {}
    for path in (*cursor_paths(directory), *(directory / FOLDER).glob(f"[!.]*{ENDING}")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, TrackingError):
            content = read_regular(path)
            if not _is_on_disk(load_json(content)["target"]):
                found[path.name] = content
    return found


def _is_on_disk(text: str) -> bool:
    from tracking_core.backends.plugins import find_adapter

    target = parse_target(text)
    return "://" not in target.path and find_adapter(target.name).info.local_path


def is_safe(name: str) -> bool:
    """Whether a part of a key that came from elsewhere may become the name of a file."""
    return bool(name) and name[0] != "." and "/" not in name and "\\" not in name and "\0" not in name


_OF_A_RUN = re.compile(
    r"(?:run|origin)\.json|journal/[^./][^/]*\.(?:jsonl|alive)|(?:events|scalars)-[^/]+|cursors/[^./][^/]*\.json"
)
_OF_A_PLACE = re.compile(rf"{FOLDER}/[^./][^/]*{re.escape(ENDING)}")


def is_read_at_once(name: str) -> bool:
    """Whether a file of a run, by its path in the run directory, is fetched without being asked for."""
    return _OF_A_RUN.fullmatch(name) is not None or _OF_A_PLACE.fullmatch(name) is not None
