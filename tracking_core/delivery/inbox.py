"""The journals of a run as one target reads them: new records in order, in bounded memory."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tracking_core.base.regular import LONGEST, OddFileError, open_regular, stretches
from tracking_core.delivery.cursor import Cursor, Position
from tracking_core.delivery.failed import Failed
from tracking_core.errors import StoreError
from tracking_core.journal import Event, JournalReader, Place, Superseded, Truncation
from tracking_core.journal.events import RECORD_KINDS
from tracking_core.journal.liveness import is_alive
from tracking_core.journal.reader import WriterReader
from tracking_core.layout.runs import read_run

AHEAD = 1 << 20
"""About how many bytes of a journal are read beyond the first record that is not done with."""
_SAMPLES = 512
_RECORD = re.compile(
    rb'^\{"seq":(\d+),"low":\d+,"kind":"(?:%b)"' % "|".join(sorted(RECORD_KINDS)).encode(), re.MULTILINE
)


class _Counter:
    """Counts the records in a file after an offset, and remembers counts, so that nothing is read twice."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counted: list[tuple[int, int]] = []

    def after(self, start: int, base: int) -> int:
        """How many records with a number beyond `base` follow an offset at which a line starts."""
        if not self._counted or self._counted[-1][0] < start:
            self._counted = [(start, 0)]
        with open_regular(self._path) as file:
            self._count_on(file, base)
            while len(self._counted) > 1 and self._counted[1][0] <= start:
                del self._counted[0]
            # The part of the first counted stretch that lies before `start`.
            at, count = self._counted[0]
            file.seek(at)
            return self._counted[-1][1] - count - _records(file.read(min(start - at, LONGEST)), base)

    def _count_on(self, file: Any, base: int) -> None:
        at, count = self._counted[-1]
        for one in stretches(file, at):
            if one.is_complete:
                count += _records(one.text, base)
                self._counted.append((one.start + one.length, count))


def _records(text: bytes, base: int) -> int:
    return sum(int(seq) > base for seq in _RECORD.findall(text))


class _Writer:
    """The journal of one writer, and the events read ahead from it.

    Args:
        directory: The run directory.
        reader: Reads the journal from `position`.
        position: Where the target stands in it.
    """

    def __init__(self, directory: Path, reader: WriterReader, position: Position) -> None:
        self.reader = reader
        self.base = position.seq
        self.low = position.seq + 1
        """Every event below has been read, or will never come."""
        self.held: dict[int, tuple[tuple[int, int], int, Event]] = {}
        """Number → place of the event, bytes read before it, and the event."""
        self._directory = directory
        self._passed: set[int] = set()
        self._counters: dict[int, _Counter] = {}
        self._sizes: deque[tuple[float, int]] = deque()
        self._looked_at = time.monotonic()

    def pull(self, *, final: bool, see: Callable[[Event], Event | None]) -> None:
        """Read until enough is held, or nothing is left.

        Args:
            final: Whether the writer will write no more.
            see: Called with every event; returns the part of it that counts.
        """
        over = final
        # A line that is still to be read may fill a gap, so memory is not the limit while nothing is ready.
        while self.reader.taken - self._done_with < AHEAD or not self.is_ready:
            if self._read(final=final, see=see):
                continue
            if over:
                self._close_gaps()
            elif self.has_gap and not is_alive(self._directory, self.reader.writer):
                # The writer was killed. What it wrote before is read first.
                over = True
                continue
            return

    def _read(self, *, final: bool, see: Callable[[Event], Event | None]) -> bool:
        before = self.reader.taken
        behind = self.reader.behind()
        if not behind:
            return False
        now, size = time.monotonic(), before + behind
        self._looked_at = now
        if not self._sizes or (now - self._sizes[-1][0] >= 1.0 and size > self._sizes[-1][1]):
            self._sizes.append((now, size))
            if len(self._sizes) > _SAMPLES:
                del self._sizes[1]
        try:
            events = self.reader.read(AHEAD, final=final)
        except FileNotFoundError:
            return False
        for place, event in events:
            live = see(event)
            if event.seq <= self.base:
                continue
            if event.kind in RECORD_KINDS and live is not None:
                self.held[event.seq] = (place, before, live)
            else:
                self._passed.add(event.seq)
        self.low = max(self.low, self.reader.low)
        self._advance()
        return self.reader.taken != before

    def _advance(self) -> None:
        while self.low in self.held or self.low in self._passed:
            self.low += 1
        self._passed = {seq for seq in self._passed if seq > self.low}

    def sift(self, live: Callable[[Event], Event | None]) -> None:
        """Drop what no longer counts of the events that are held."""
        for seq, (place, before, event) in list(self.held.items()):
            left = live(event)
            if left is not None:
                self.held[seq] = (place, before, left)
            else:
                del self.held[seq]
                self._passed.add(seq)
        self._advance()

    def _close_gaps(self) -> None:
        """Move the low-water mark past everything read: missing numbers will not come."""
        self.low = max([self.low, *(seq + 1 for seq in self.held), *(seq + 1 for seq in self._passed)])
        self._passed.clear()

    @property
    def has_gap(self) -> bool:
        """Whether a missing event holds back others."""
        return bool(self._passed) or (bool(self.held) and max(self.held) >= self.low)

    @property
    def is_ready(self) -> bool:
        """Whether something may be delivered."""
        return bool(self.held) and min(self.held) < self.low

    @property
    def position(self) -> Position:
        """The position before the first event that is not done with, or not written yet."""
        first = min([self.low, *self.held])
        segment, offset = min([self.reader.place, *(place for place, _, _ in self.held.values())])
        return Position(max(self.base, first - 1), offset, segment)

    @property
    def _done_with(self) -> int:
        """Bytes read before the first event that is not done with."""
        return min((taken for _, taken, _ in self.held.values()), default=self.reader.taken)

    def unread(self) -> int:
        """How many records have not been read; damaged lines may be among them."""
        files, total = self.reader.unread()
        for number, path, offset in files:
            # A file that cannot be read is not counted. Delivery reports why.
            with contextlib.suppress(OSError, OddFileError):
                counter = self._counters.get(number) or self._counters.setdefault(number, _Counter(path))
                total += counter.after(offset, self.base)
        for number in self._counters.keys() - {number for number, _, _ in files}:
            del self._counters[number]
        return total

    def lag(self, now: float) -> float:
        """For how many seconds the oldest line that is not done with has been in the file, as far as is known."""
        done_with = self._done_with
        while self._sizes and self._sizes[0][1] <= done_with:
            self._sizes.popleft()
        if self._sizes:
            return now - self._sizes[0][0]
        # It came less than a second after the last sample.
        return now - self._looked_at if self.held else 0.0


class Inbox:
    """Reads the journals of a run from where a cursor stands.

    Records of a writer are given out in the order of their sequence numbers. A record is held back while one before it
    is missing and may still come. Memory is bounded, however far the target lags behind.

    Args:
        directory: The run directory.
        cursor: How far the target has come.
        only: Numbers of the records that are given out; None for all.
    """

    def __init__(self, directory: Path, cursor: Cursor, *, only: Failed | None = None) -> None:
        self._only = only
        self.superseded: list[tuple[str, int]] = []
        """Writer and number of records that would be given out, and are superseded."""
        self._reader = JournalReader(directory)
        self._writers: dict[str, _Writer] = {}
        self._cursor = cursor
        self._superseded = Superseded(directory, _forks(directory))
        self.truncations: list[Truncation] = []
        """Truncations that the cursor does not know of."""
        self.sent_beyond: Truncation | None = None
        """The truncation to the earliest step beyond which records were delivered, as far as the cursor tells."""
        self._begin()
        # Reports come from other threads, and from a signal handler that interrupts a delivery.
        self._lock = threading.RLock()
        self.environment: dict[str, Any] = {}
        """What the run recorded of its environment, as far as it was read."""
        self.has_environment = False

    def pull(self, *, final: bool = False) -> None:
        """Read what was added to the journals, up to a limit.

        Args:
            final: Whether the writers have ended, so that nothing is held back.
        """
        with self._lock:
            self._look()
            for state in self._writers.values():
                state.pull(final=final, see=self._see)

    def _begin(self) -> None:
        self._reader.start = {
            writer: (Place(position.segment, position.offset), position.seq)
            for writer, position in self._cursor.writers.items()
        }

    def look(self) -> None:
        """Look for new writers, and for truncations."""
        with self._lock:
            self._look()

    def _look(self, *, counting: bool = False) -> None:
        files = self._reader.look()
        if not counting:
            # The worker handles truncations between two batches; counting must not consume them.
            self._sift(self._superseded.look(files))
        for writer, reader in self._reader.writers.items():
            if self._only is not None and self._only.first(writer) is None:
                continue
            if writer not in self._writers:
                position = self._cursor.writers.get(writer, Position())
                self._writers[writer] = _Writer(self._reader.directory, reader, position)

    def _see(self, event: Event) -> Event | None:
        if event.kind == "truncate":
            self._sift(self._superseded.learn([event]))
        live = self._superseded.live(event)
        if event.kind == "environment" and live is not None:
            self.environment.update(event.fields.get("environment", {}))
            self.has_environment = True
        if self._only is None:
            return live
        if not self._only.has(event.writer, event.seq):
            return None
        if live is None:
            self.superseded.append((event.writer, event.seq))
        return live

    @classmethod
    def of_failed(cls, directory: Path, failed: Failed) -> Inbox:
        """An inbox that gives out failed records only."""
        start = {writer: Position(first - 1) for writer, _, _ in failed if (first := failed.first(writer)) is not None}
        return cls(directory, Cursor(None, writers=start), only=failed.copy())

    def _sift(self, truncations: list[Truncation]) -> None:
        """Drop held records that truncations supersede."""
        for one in truncations:
            if one.by not in self._cursor.truncated:
                self.truncations.append(one)
                # In an earlier round the target may have come further.
                sent = [{w: self._position(w).seq for w in one.cuts}, *(e.writers for e in self._cursor.already_sent)]
                if any(map(one.reaches, sent)) and (self.sent_beyond is None or one.step < self.sent_beyond.step):
                    self.sent_beyond = one
        if truncations:
            for state in self._writers.values():
                state.sift(self._superseded.live)

    def holds_superseded(self, confirmed: Mapping[str, int]) -> bool:
        """Whether a backend has superseded records.

        Args:
            confirmed: Writer → the highest number that the backend has.
        """
        return any(one.reaches(confirmed) for one in self.truncations)

    def _position(self, writer: str) -> Position:
        if writer in self._writers:
            return self._writers[writer].position
        return self._cursor.writers.get(writer, Position())

    def look_back(self) -> None:
        """Read the environment of the run, which stands early in a journal, before the cursor."""
        reader = JournalReader(self._reader.directory)
        reader.look()
        for one in reader.writers.values():
            with contextlib.suppress(OSError):
                for _, event in one.read(AHEAD):
                    self._see(event)

    def ready(self, limit: int) -> list[Event]:
        """The next records that may be delivered, at most `limit`. They stay until they are `done`."""
        found: list[Event] = []
        with self._lock:
            for state in self._writers.values():
                ready = sorted(seq for seq in state.held if seq < state.low)
                found += [state.held[seq][2] for seq in ready[: limit - len(found)]]
        return found

    def done(self, event: Event) -> None:
        """Mark a record as delivered, failed for good, or skipped."""
        with self._lock:
            self._writers[event.writer].held.pop(event.seq, None)

    def is_done(self, event: Event) -> bool:
        """Whether a record was marked as done."""
        return event.seq not in self._writers[event.writer].held

    def rewind(self, confirmed: dict[str, int]) -> None:
        """Read on after what the backend says it has, whatever the cursor says."""
        with self._lock:
            self._reader = JournalReader(self._reader.directory)
            self._writers.clear()
            self._cursor.writers = {writer: Position(seq) for writer, seq in confirmed.items()}
            self._begin()

    def positions(self) -> dict[str, Position]:
        """Where the target stands, by writer."""
        with self._lock:
            return {writer: state.position for writer, state in self._writers.items()}

    def waiting(self) -> int:
        """How many records in the journals are not done with."""
        with self._lock:
            self._look(counting=True)
            return sum(len(state.held) + state.unread() for state in self._writers.values())

    def behind(self) -> int:
        """How many bytes of the journals have not been read."""
        with self._lock:
            self._look(counting=True)
            return sum(state.reader.behind() for state in self._writers.values())

    def lag(self) -> float:
        """For how many seconds the oldest record has waited; 0 when none waits."""
        now = time.monotonic()
        with self._lock:
            return max((state.lag(now) for state in self._writers.values()), default=0.0)

    @property
    def damage(self) -> list[str]:
        """Messages about what could not be read."""
        return [str(damage) for damage in self._reader.damage]


def _forks(directory: Path) -> Sequence[Mapping[str, Any]]:
    try:
        return read_run(directory).get("forks", ())
    except StoreError:
        # A journal can be delivered without `run.json`. Opening a target reports what is wrong with it.
        return ()
