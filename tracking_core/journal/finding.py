"""Finds events in the files of a run without decoding the others: what a run is must not cost what it logged.

Most lines of a journal are scalars, and decoding them takes twenty times as long as looking past them. Every line
begins with `{"seq":…,"low":…,"kind":"…"`, and inside a JSON string these quotes would be escaped; where a value of a
user looks like that all the same, decoding the line shows it.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import TypeVar

from tracking_core.base.regular import LONGEST, OddFileError, open_regular, stretches
from tracking_core.errors import JournalError
from tracking_core.journal import FORMAT, Event, decode_line
from tracking_core.journal.segments import by_start

TAIL = 1 << 16
"""After its end a run writes nothing, or next to nothing: that many bytes are looked at first, from the end."""
LINE = 1 << 20
"""No header is longer."""
HEADERS = ("segment", "compacted")
"""Kinds of first lines."""
AGAIN = 5
_T = TypeVar("_T")
_START = b'{"seq":'
_OTHERS = re.compile(rb'\{"seq":\d+,"low":\d+,"kind":"(?!scalars")([^"]*)"')


@dataclass(slots=True)
class _File:
    """What is known of one file of a writer."""

    path: Path
    writer: str
    scanned: int = 0
    places: dict[str, list[tuple[int, int]]] = field(default_factory=dict[str, list[tuple[int, int]]])
    """Kind → where lines of that kind begin and end."""
    events: dict[str, list[Event]] = field(default_factory=dict[str, list[Event]])
    """Kind → the first of `places`, decoded."""


class EventFinder:
    """The events of a run that are no scalars, by kind.

    It keeps what it found, and looks only at what was added since.

    Args:
        directory: The run directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, _File] = {}
        self._parents: dict[str, str | None] = {}
        self._finished: dict[str, Event] = {}

    def of(self, kind: str) -> list[Event]:
        """Events of a kind, other than "scalars": writers by start, each in its own order.

        Raises:
            JournalError: A file's format is newer than this version knows.
        """
        return self._patiently(lambda: self._of(kind))

    def sessions(self) -> list[str]:
        """The writers of all sessions, by start.

        A run that was continued has several; a forked child only adds to the one of its parent.
        """
        return self._patiently(lambda: self._sessions(self._look()))

    def newest_end(self) -> tuple[str | None, Event | None]:
        """The writer of the newest session, None when there is none yet; and how it ended, None when it did not.

        Raises:
            JournalError: A file's format is newer than this version knows.
        """
        return self._patiently(self._newest_end)

    def _newest_end(self) -> tuple[str | None, Event | None]:
        # Of one look at the files: for a listing they are most of what there is to do.
        files = self._look()
        newest = max(self._sessions(files), key=by_start, default=None)
        if newest is None:
            return None, None
        if newest not in self._finished:
            found = self._finish(newest, files)
            if found is None:
                return newest, None
            self._finished[newest] = found
        return newest, self._finished[newest]

    def finish(self, writer: str) -> Event | None:
        """How a session ended; None when it did not.

        Raises:
            JournalError: A file's format is newer than this version knows.
        """
        if writer not in self._finished:
            found = self._patiently(lambda: self._finish(writer, self._look()))
            if found is None:
                return None
            self._finished[writer] = found
        return self._finished[writer]

    @staticmethod
    def _patiently(read: Callable[[], _T]) -> _T:
        """Read again where a file that was listed is gone: its contents have moved to another."""
        for _ in range(AGAIN):
            with contextlib.suppress(FileNotFoundError):
                return read()
        return read()

    def _of(self, kind: str) -> list[Event]:
        found: dict[tuple[str, int], Event] = {}
        for file in self._look():
            _scan(file)
            for event in _decoded(file, kind):
                found[event.writer, event.seq] = event
        return [found[key] for key in sorted(found, key=lambda key: (by_start(key[0]), key[1]))]

    def _sessions(self, there: list[_File]) -> list[str]:
        first: dict[str, Path] = {}
        for file in there:
            first.setdefault(file.writer, file.path)
        for writer in first.keys() - self._parents.keys():
            is_there, parent = _parent(first[writer])
            if is_there:
                self._parents[writer] = parent
        return [writer for writer in sorted(first, key=by_start) if self._parents.get(writer) is None]

    @staticmethod
    def _finish(writer: str, there: list[_File]) -> Event | None:
        files = [file for file in reversed(there) if file.writer == writer]
        for file in files:
            if not file.scanned and (event := _finish_at_the_end(file)) is not None:
                return event
        for file in files:
            _scan(file)
            if (event := max(_decoded(file, "finish"), key=attrgetter("seq"), default=None)) is not None:
                return event
        return None

    def _look(self) -> list[_File]:
        """The files there are, by writer and in order."""
        # Without pathlib: this is done for every run of a listing.
        journal = os.path.join(self._directory, "journal")  # noqa: PTH118 - as above
        there = [
            (name.rpartition("-")[0], os.path.join(journal, name))  # noqa: PTH118 - as above
            for name in sorted(_names(journal))
            if name.endswith(".jsonl") and not name.startswith(".")
        ]
        there += [
            (name.removeprefix("events-").rsplit("-", 2)[0], os.path.join(self._directory, name))  # noqa: PTH118 - as above
            for name in sorted(_names(self._directory))
            if name.startswith("events-") and name.endswith(".jsonl")
        ]
        there.sort(key=itemgetter(0))
        return [self._files.get(path) or self._files.setdefault(path, _File(Path(path), who)) for who, path in there]


def _names(directory: str | Path) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208 - as above
    except OSError:
        return []


def _decoded(file: _File, kind: str) -> Iterator[Event]:
    places = file.places.get(kind, [])
    events = file.events.setdefault(kind, [])
    if len(places) > len(events):
        with open_regular(file.path) as content:
            for start, end in places[len(events) :]:
                content.seek(start)
                event = _decode(content.read(min(end - start, LONGEST)), file.writer, kind)
                # One that is damaged keeps its place, so that the others are counted right.
                events.append(event or Event(-1, 0, kind, 0.0, {}, file.writer))
    return (event for event in events if event.seq >= 0)


def _scan(file: _File) -> None:
    """Find the lines that were added to a file."""
    try:
        content = open_regular(file.path)
    except OddFileError:
        # Whoever reads the journal says that it is damaged.
        return
    with content:
        if content.seek(0, os.SEEK_END) <= file.scanned:
            return
        if not file.scanned:
            content.seek(0)
            _check_format(content.readline(LINE), file)
        # Not mapped into memory: on a network file system a mapped file that is removed ends the process.
        for one in stretches(content, file.scanned):
            newline = -1
            for match in _OTHERS.finditer(one.text):
                if newline < match.end():
                    # Once for a line: a damaged one may hold any number of beginnings.
                    newline = one.text.find(b"\n", match.end())
                place = (one.start + match.start(), one.start + newline)
                file.places.setdefault(match[1].decode("utf-8", "replace"), []).append(place)
            # What has no newline yet is being written; or it is longer than any line, and is passed over.
            if one.is_complete or one.length > LONGEST:
                file.scanned = one.start + one.length


def _header(line: bytes, writer: str) -> Event | None:
    """What the first line of a file says, if it is one."""
    for kind in HEADERS:
        if (header := _decode(line, writer, kind)) is not None:
            return header
    return None


def _check_format(line: bytes, file: _File) -> None:
    header = _header(line, file.writer)
    if header is not None and header.fields["v"] > FORMAT:
        raise JournalError(
            f"{file.path} has format {header.fields['v']}, this version reads up to {FORMAT}: upgrade tracking-core"
        )


def _decode(line: bytes, writer: str, kind: str) -> Event | None:
    try:
        event = decode_line(line.removesuffix(b"\n"), writer)
    except JournalError:
        return None
    return event if event.kind == kind else None


def _parent(path: Path) -> tuple[bool, str | None]:
    """Whether a file has its header yet, and the writer that its own was forked from."""
    try:
        with open_regular(path) as content:
            header = _header(content.readline(LINE), "")
    except OddFileError:
        return False, None
    parent = header.fields.get("parent") if header is not None else None
    return header is not None, parent if isinstance(parent, str) else None


def _finish_at_the_end(file: _File) -> Event | None:
    """The end that a file tells of in its last bytes."""
    try:
        with open_regular(file.path) as content:
            _check_format(content.readline(LINE), file)
            content.seek(max(0, content.seek(0, os.SEEK_END) - TAIL))
            text = content.read(TAIL)
    except OddFileError:
        return None
    return next((event for _, event in found_from_the_end(text, file.writer, "finish")), None)


def found_from_the_end(text: bytes, writer: str, kind: str) -> Iterator[tuple[int, Event]]:
    """Where lines of a kind begin in a part of a file, and what they say, from the last to the first."""
    marker = b'"kind":"%b"' % kind.encode()
    at = text.rfind(marker)
    while at >= 0:
        start, end = text.rfind(_START, 0, at), text.find(b"\n", at)
        if start >= 0 and end >= 0 and (event := _decode(text[start:end], writer, kind)) is not None:
            yield start, event
        at = text.rfind(marker, 0, at)
