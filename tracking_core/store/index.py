"""What is known of runs that have ended, beside them, so that a listing need not open their files again.

`<root>/.index/<project>` holds what was read of each run of a project, and the state in which its files were then:
inode, size, times of modification and of change, of `run.json`, of the two directories that files come to and go from,
and of each file of the journal. What was read counts as long as all of these are the same; a run that goes on is read.
So the index may be deleted, damaged, outdated or missing at any time: it says nothing then.

A file can change twice within one tick of a file system's clock, and look the same. So only what had not changed for a
while is noted, by the clock of that file system: that of a file which was written before anything was looked at.

It is written by whoever lists many runs that are not in it, whole, and put in place whole. Of two that write at once
one wins; what only the other knew is noted another time.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import re
import stat
import time
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from tracking_core._version import __version__
from tracking_core.base import trees
from tracking_core.base.files import aside_of, replace_file
from tracking_core.base.regular import open_regular
from tracking_core.journal import Event
from tracking_core.journal.finding import EventFinder
from tracking_core.journal.liveness import is_alive
from tracking_core.layout.runs import is_run, read_run, wrong_facts
from tracking_core.protocol import STATUSES
from tracking_core.store.records import RunRecord

DIRECTORY = ".index"
FORMAT = 1
FEWEST = 64
"""A listing with fewer runs that are not in the index writes none: reading them takes no time."""
SHARE = 50
"""Nor does one where they are less than one in so many."""
TRIED = 200
"""Of how many runs that are in the index a listing finds out whether they have changed."""
SECONDS = 0.5
"""How long a listing may look closer at runs for the index; or for `PORTION` of the time that it took itself."""
PORTION = 0.25
SETTLED = 2_000_000_000
"""Nanoseconds without a change; the coarsest clocks of file systems tick every two seconds."""
LARGEST = 1 << 15
"""A configuration, a summary or what else `run.json` says is not held when it takes more bytes."""
TOTAL = 1 << 26
"""Nor are any more of them when there are that many bytes."""
MOST_FILES = 32
"""A run with more files in its journal is not held."""
_MOST = 1 << 29
"""An index of more bytes says nothing."""
ABANDONED = 3600.0
"""Seconds after which a file that was never put in place is removed."""
_MAGIC = b"tracking-core index"
_ASIDE = re.compile(r"\..*\.[0-9a-f]{12}", re.DOTALL)

Stamp = tuple[int, int, int, int]
"""The state of a file: inode, size, times of modification and of change in nanoseconds."""


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """What was read of one run.

    Args:
        about: The state of its `run.json`.
        places: The states of its directory, of that of the journal, and of the files there, as `files` names them.
        files: Names of the files of the journal.
        facts: What `run.json` says, but for the configuration and the environment.
        writer: The newest session.
        end: Status, error and time with which that ended; None when it broke off.
        config: The configuration, as MessagePack; None when it is not held.
        summary: The summary, as MessagePack; None when it is not held.
    """

    about: Stamp
    places: list[Stamp]
    files: list[str]
    facts: dict[str, Any]
    writer: str | None
    end: tuple[Literal[STATUSES], str | None, float] | None  # pyright: ignore[reportInvalidTypeForm] - as in schema
    config: bytes | None
    summary: bytes | None


class Held:
    """What the index says of a run, for as long as that is true.

    Args:
        directory: The run directory.
        entry: What was read.
    """

    __slots__ = ("_directory", "_entry")

    def __init__(self, directory: Path, entry: Entry) -> None:
        self._directory = str(directory)
        self._entry: Entry | None = entry

    @property
    def counts(self) -> bool:
        """Whether nothing had changed when it was looked at last."""
        return self._entry is not None

    def is_current(self) -> bool:
        """Whether nothing has changed up to now."""
        return self._true() is not None

    def newest_end(self) -> tuple[str | None, Event | None] | None:
        """As `EventFinder.newest_end`; None when the files have to be read."""
        entry = self._true()
        if entry is None:
            return None
        if entry.end is None or entry.writer is None:
            return entry.writer, None
        status, error, at = entry.end
        return entry.writer, Event(0, 0, "finish", at, {"status": status, "error": error}, entry.writer)

    def config(self) -> dict[str, Any] | None:
        """The configuration; None when the files have to be read."""
        entry = self._true()
        return None if entry is None else _unpacked(entry.config)

    def summary(self) -> dict[str, Any] | None:
        """The summary; None when the files have to be read."""
        entry = self._true()
        return None if entry is None else _unpacked(entry.summary)

    def _true(self) -> Entry | None:
        entry = self._entry
        if entry is not None:
            try:
                if _places(self._directory, entry.files) == entry.places:
                    return entry
            except (OSError, ValueError):
                pass
            self._entry = None
        return None


class ProjectIndex:
    """The index of one project, which is read again when it has changed.

    Args:
        root: Root of the store.
        name: Name of the project's directory.
    """

    def __init__(self, root: Path, name: str) -> None:
        self._path = root / DIRECTORY / name
        self._last: tuple[Stamp | None, dict[str, Entry]] = (None, {})

    def begin(self) -> Listing:
        """Begin to list the runs of the project."""
        try:
            with open_regular(self._path) as file:
                stamp = _stamp(os.fstat(file.fileno()))
                if stamp != self._last[0]:
                    self._last = stamp, _decoded(file.read(_MOST + 1))
        except OSError:
            self._last = None, {}
        return Listing(self._path, self._last[1])


class Listing:
    """One listing of the runs of a project.

    Args:
        path: The file of the index.
        entries: What it says.
    """

    def __init__(self, path: Path, entries: dict[str, Entry]) -> None:
        self._path = path
        self._entries = entries
        self._read: dict[str, tuple[Stamp, dict[str, Any]]] = {}
        """What stands in the `run.json` of runs that are not in the index."""
        self._held: dict[str, Held] = {}
        """What was handed out of it."""

    def record(self, path: Path) -> RunRecord | None:
        """The run in a directory; None where there is none.

        Raises:
            StoreError: Its `run.json` cannot be read.
        """
        try:
            found = os.stat(f"{path}/run.json")  # noqa: PTH116 - paths take long to join
        except OSError:
            found = None
        if found is None and not is_run(path):
            return None
        if found is None or not stat.S_ISREG(found.st_mode):
            # It says what stands there.
            return RunRecord(path, read_run(path))
        entry = self._entries.get(path.name)
        if entry is not None and not _holds(entry):
            # Nobody here has written that.
            del self._entries[path.name]
            entry = None
        if entry is None or entry.about != _stamp(found):
            facts = read_run(path)
            self._read[path.name] = _stamp(found), facts
            return RunRecord(path, facts)
        held = self._held[path.name] = Held(path, entry)
        return RunRecord(path, entry.facts, held)

    def learn(self, records: Iterable[RunRecord], spent: float) -> None:
        """Look closer at runs that are not in the index, and write it, when that is worth it.

        Args:
            records: All runs of the project, as `record` gave them: what else there is in the index is dropped.
            spent: How long the listing took, in seconds.
        """
        there = {record.dir.name: record for record in records}
        self._try_some()
        candidates = [there[name] for name in there if name not in self._held or not self._held[name].counts]
        if len(candidates) < max(FEWEST, len(self._entries) // SHARE):
            return
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(exist_ok=True)
            with trees.opened(self._path.parent) as folder:
                until = time.monotonic() + max(SECONDS, PORTION * spent)
                learned = self._look_closer(candidates, self._clock() - SETTLED, until)
                if learned:
                    kept = {name: entry for name, entry in self._entries.items() if name in there}
                    replace_file(self._path, _encoded({**kept, **learned}))
                    _sweep(self._path.parent.parent, folder)

    def _clock(self) -> int:
        """The time by the clock of the file system, in nanoseconds."""
        probe = aside_of(self._path)
        try:
            probe.write_bytes(b"-")
            return probe.stat().st_mtime_ns
        finally:
            probe.unlink(missing_ok=True)

    def _try_some(self) -> None:
        """Find out whether much of the index is true no more: a listing of which nothing is asked does not tell."""
        held = list(self._held.values())
        tried = random.sample(held, min(TRIED, len(held)))
        if sum(not one.is_current() for one in tried) * SHARE > len(tried):
            for one in held:
                one.is_current()

    def _look_closer(self, records: list[RunRecord], before: int, until: float) -> dict[str, Entry]:
        learned: dict[str, Entry] = {}
        for record in records:
            # Whoever asks such a run itself is told why it cannot be read.
            with contextlib.suppress(Exception):
                entry = self._entry_of(record, before)
                if entry is not None:
                    learned[record.dir.name] = entry
            if time.monotonic() > until:
                break
        return learned

    def _entry_of(self, record: RunRecord, before: int) -> Entry | None:
        """What the index can hold of a run; None when it goes on, or has changed a moment ago."""
        directory, name = str(record.dir), record.dir.name
        # The state first, then what is read: what comes in between makes the entry false, not the reading.
        about = _stamp(os.stat(f"{directory}/run.json"))  # noqa: PTH116 - paths take long to join
        files = _journal_files(directory)
        if len(files) > MOST_FILES:
            return None
        if name not in self._read:
            # The index knew it, but not what has come since.
            self._read[name] = about, read_run(record.dir)
        stamp, known = self._read[name]
        if about != stamp:
            return None
        places = _places(directory, files)
        if max(max(one[2:]) for one in (about, *places)) >= before or files != _journal_files(directory):
            return None
        writer, end = EventFinder(record.dir).newest_end()
        if end is None and writer is not None and is_alive(record.dir, writer):
            return None
        facts = {key: value for key, value in known.items() if key not in {"config", "environment"}}
        if _packed(facts) is None:
            return None
        ended = None if end is None else (end.fields["status"], end.fields.get("error"), end.time)
        return Entry(about, places, files, facts, writer, ended, _packed(record.config), _packed(record.summary()))


def _packed(tree: Mapping[str, Any]) -> bytes | None:
    try:
        packed = msgspec.msgpack.encode(tree)
    except (OverflowError, UnicodeEncodeError):
        # Integers beyond 64 bits, and names that are no text.
        return None
    return packed if len(packed) <= LARGEST else None


def _holds(entry: Entry) -> bool:
    """Whether an entry says what one may say."""
    return not wrong_facts(entry.facts) and (entry.end is None or math.isfinite(entry.end[2]))


def _unpacked(packed: bytes | None) -> dict[str, Any] | None:
    try:
        return None if packed is None else msgspec.msgpack.decode(packed, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _journal_files(directory: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(f"{directory}/journal") if name.endswith(".jsonl"))  # noqa: PTH208 - names
    except FileNotFoundError:
        return []


def _places(directory: str, files: list[str]) -> list[Stamp]:
    """The state of all that a run is read from, but for `run.json`.

    Raises:
        OSError: Something is gone.
    """
    journal = f"{directory}/journal"
    return [_stamp(os.stat(path)) for path in (directory, journal, *(f"{journal}/{name}" for name in files))]  # noqa: PTH116 - as above


def _stamp(found: os.stat_result) -> Stamp:
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


# -------------------------------------------------------------------- the file


def _head(content: bytes) -> bytes:
    # What a summary is may change from one version to the next.
    return _MAGIC + b" %d %s %08x\n" % (FORMAT, __version__.encode(), zlib.crc32(content))


def _encoded(entries: dict[str, Entry]) -> bytes:
    room = TOTAL
    for name, entry in sorted(entries.items(), key=lambda item: item[1].facts["started"], reverse=True):
        room -= len(entry.config or b"") + len(entry.summary or b"")
        if room < 0:
            entries[name] = msgspec.structs.replace(entry, config=None, summary=None)
    content = msgspec.msgpack.encode(entries)
    return _head(content) + content


def _decoded(content: bytes) -> dict[str, Entry]:
    """What an index says; nothing if it is damaged, or was written by another version."""
    head, _, rest = content.partition(b"\n")
    if head + b"\n" != _head(rest):
        return {}
    try:
        return msgspec.msgpack.decode(rest, type=dict[str, Entry])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _sweep(root: Path, fd: int) -> None:
    """Remove what writers that were killed have left behind, and the index of projects that are gone.

    Args:
        root: Root of the store.
        fd: The open directory of the index; what is in it and was not written by an index stays.
    """
    for name in trees.names(fd):
        with contextlib.suppress(OSError):
            if _ASIDE.fullmatch(name):
                if time.time() - os.stat(name, dir_fd=fd, follow_symlinks=False).st_mtime > ABANDONED:
                    os.unlink(name, dir_fd=fd)
            elif not (root / name).exists() and trees.read_file(name, fd, len(_MAGIC)) == _MAGIC:
                os.unlink(name, dir_fd=fd)
