"""The journal as one target sees it: what is new and may be delivered, in order, and in bounded memory."""

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
"""About how many bytes of a journal are read beyond what is done with."""
_SAMPLES = 512
_RECORD = re.compile(
    rb'^\{"seq":(\d+),"low":\d+,"kind":"(?:%b)"' % "|".join(sorted(RECORD_KINDS)).encode(), re.MULTILINE
)


class _Counter:
    """Counts records in a file beyond a place, without reading all of it again and again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counted: list[tuple[int, int]] = []

    def after(self, start: int, base: int) -> int:
        """How many records with a number beyond `base` stand behind a place where a line starts."""
        if not self._counted or self._counted[-1][0] < start:
            self._counted = [(start, 0)]
        with open_regular(self._path) as file:
            self._count_on(file, base)
            while len(self._counted) > 1 and self._counted[1][0] <= start:
                del self._counted[0]
            # What was read of the first of the counted stretches.
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
    """What is known of the journal of one writer.

    Args:
        directory: The run directory.
        reader: Reads it, from where the target stands.
        position: Where the target stands in it.
    """

    def __init__(self, directory: Path, reader: WriterReader, position: Position) -> None:
        self.reader = reader
        self.base = position.seq
        self.low = position.seq + 1
        """Every event below has been read, or will never come."""
        self.held: dict[int, tuple[tuple[int, int], int, Event]] = {}
        """Number → where the event stands, how much had been read before, and the event."""
        self._directory = directory
        self._passed: set[int] = set()
        self._counters: dict[int, _Counter] = {}
        self._sizes: deque[tuple[float, int]] = deque()
        self._looked_at = time.monotonic()

    def pull(self, *, final: bool, see: Callable[[Event], Event | None]) -> None:
        """Read on, until enough is held, or nothing is left.

        Args:
            final: Whether the writer will write no more.
            see: Is shown every event, and says what counts of it.
        """
        over = final
        # A gap may be filled by a line that is still to be read, however much is held behind it.
        while self.reader.taken - self._done_with < AHEAD or not self.is_ready:
            if self._read(final=final, see=see):
                continue
            if over:
                self._close_gaps()
            elif self.has_gap and not is_alive(self._directory, self.reader.writer):
                # It was killed on the way. What it wrote before that is read first.
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
        """Keep what counts of the events that are held."""
        for seq, (place, before, event) in list(self.held.items()):
            left = live(event)
            if left is not None:
                self.held[seq] = (place, before, left)
            else:
                del self.held[seq]
                self._passed.add(seq)
        self._advance()

    def _close_gaps(self) -> None:
        """What is missing below what was read will not come any more."""
        self.low = max([self.low, *(seq + 1 for seq in self.held), *(seq + 1 for seq in self._passed)])
        self._passed.clear()

    @property
    def has_gap(self) -> bool:
        """Whether events are held back by one that has not come."""
        return bool(self._passed) or (bool(self.held) and max(self.held) >= self.low)

    @property
    def is_ready(self) -> bool:
        """Whether something may be delivered."""
        return bool(self.held) and min(self.held) < self.low

    @property
    def position(self) -> Position:
        """Before the first event that is not done with, or not yet written."""
        first = min([self.low, *self.held])
        segment, offset = min([self.reader.place, *(place for place, _, _ in self.held.values())])
        return Position(max(self.base, first - 1), offset, segment)

    @property
    def _done_with(self) -> int:
        """Of what was read, how much is done with, in bytes."""
        return min((taken for _, taken, _ in self.held.values()), default=self.reader.taken)

    def unread(self) -> int:
        """How many records there are beyond what was read; a line that is damaged may be among them."""
        files, total = self.reader.unread()
        for number, path, offset in files:
            # What cannot be read cannot be counted; whoever reads it says why.
            with contextlib.suppress(OSError, OddFileError):
                counter = self._counters.get(number) or self._counters.setdefault(number, _Counter(path))
                total += counter.after(offset, self.base)
        for number in self._counters.keys() - {number for number, _, _ in files}:
            del self._counters[number]
        return total

    def lag(self, now: float) -> float:
        """For how many seconds the oldest line that is not done with has been in a file, as far as was looked."""
        done_with = self._done_with
        while self._sizes and self._sizes[0][1] <= done_with:
            self._sizes.popleft()
        if self._sizes:
            return now - self._sizes[0][0]
        # What was read last came within the second in which no further sample is taken.
        return now - self._looked_at if self.held else 0.0


class Inbox:
    """Reads the journals of a run from where a cursor stands.

    Records of a writer are given out by their sequence numbers, and only those before which none is missing that may
    still come. What is held in memory is bounded, however far the target lags behind.

    Args:
        directory: The run directory.
        cursor: How far the target has come.
        only: The numbers that are given out; None for all.
    """

    def __init__(self, directory: Path, cursor: Cursor, *, only: Failed | None = None) -> None:
        self._only = only
        self.superseded: list[tuple[str, int]] = []
        """Writer and number of what would be given out, but was taken back."""
        self._reader = JournalReader(directory)
        self._writers: dict[str, _Writer] = {}
        self._cursor = cursor
        self._superseded = Superseded(directory, _forks(directory))
        self.taken_back: list[Truncation] = []
        """What the run took back, and the cursor does not know of."""
        self.has_delivered = False
        """Whether something of that was delivered, as far as the cursor tells."""
        self._begin()
        # Reports are asked for from other threads; and from a signal handler that interrupts a delivery.
        self._lock = threading.RLock()
        self.environment: dict[str, Any] = {}
        """What the run recorded of where it runs, as far as it was read."""
        self.has_environment = False

    def pull(self, *, final: bool = False) -> None:
        """Read what was added to the journals, as far as there is room for it.

        Args:
            final: Whether the writers will write no more, so that nothing is held back.
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
        """Look for writers that came since."""
        with self._lock:
            self._look()

    def _look(self, *, counting: bool = False) -> None:
        files = self._reader.look()
        if not counting:
            # What is taken back is for the worker to see, while no batch of it is under way.
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
        """One that gives out what failed, and nothing else."""
        before = {writer: Position(first - 1) for writer, _, _ in failed if (first := failed.first(writer)) is not None}
        return cls(directory, Cursor(None, writers=before), only=failed.copy())

    def _sift(self, truncations: list[Truncation]) -> None:
        """Let go of what was superseded just now."""
        for one in truncations:
            if one.by not in self._cursor.truncated:
                self.taken_back.append(one)
                # In an earlier round it may have come further.
                rounds = [{w: self._position(w).seq for w in one.cuts}, *(had.writers for had in self._cursor.given)]
                self.has_delivered |= any(one.reaches(given) for given in rounds)
        if truncations:
            for state in self._writers.values():
                state.sift(self._superseded.live)

    def holds_superseded(self, confirmed: Mapping[str, int]) -> bool:
        """Whether a backend, by what it has of each writer, has something that the run took back since.

        Args:
            confirmed: Writer → the highest number it has.
        """
        return any(one.reaches(confirmed) for one in self.taken_back)

    def _position(self, writer: str) -> Position:
        if writer in self._writers:
            return self._writers[writer].position
        return self._cursor.writers.get(writer, Position())

    def look_back(self) -> None:
        """Find what the run recorded of where it runs, though it stands before the cursor: early in a journal."""
        reader = JournalReader(self._reader.directory)
        reader.look()
        for one in reader.writers.values():
            with contextlib.suppress(OSError):
                for _, event in one.read(AHEAD):
                    self._see(event)

    def take(self, limit: int) -> list[Event]:
        """The next `limit` records, or fewer, that may be delivered; they stay until they are `done`."""
        taken: list[Event] = []
        with self._lock:
            for state in self._writers.values():
                ready = sorted(seq for seq in state.held if seq < state.low)
                taken += [state.held[seq][2] for seq in ready[: limit - len(taken)]]
        return taken

    def done(self, event: Event) -> None:
        """Say that an event was delivered, failed for good, or left out."""
        with self._lock:
            self._writers[event.writer].held.pop(event.seq, None)

    def is_done(self, event: Event) -> bool:
        """Whether an event was said to be done."""
        return event.seq not in self._writers[event.writer].held

    def rewind(self, confirmed: dict[str, int]) -> None:
        """Begin again after what the backend itself says it has, whatever the cursor says."""
        with self._lock:
            self._reader = JournalReader(self._reader.directory)
            self._writers.clear()
            self._cursor.writers = {writer: Position(seq) for writer, seq in confirmed.items()}
            self._begin()

    def positions(self) -> dict[str, Position]:
        """Where the target stands now, by writer."""
        with self._lock:
            return {writer: state.position for writer, state in self._writers.items()}

    def waiting(self) -> int:
        """How many records are in the journals, and neither delivered nor given up."""
        with self._lock:
            self._look(counting=True)
            return sum(len(state.held) + state.unread() for state in self._writers.values())

    def lag(self) -> float:
        """For how many seconds the oldest record has waited; 0 when none does."""
        now = time.monotonic()
        with self._lock:
            return max((state.lag(now) for state in self._writers.values()), default=0.0)

    @property
    def damage(self) -> list[str]:
        """What could not be read, in words."""
        return [str(damage) for damage in self._reader.damage]


def _forks(directory: Path) -> Sequence[Mapping[str, Any]]:
    try:
        return read_run(directory).get("forks", ())
    except StoreError:
        # A journal can be delivered without it, and whoever opens a target says what is wrong.
        return ()
