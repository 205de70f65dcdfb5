"""The writer of a journal: one `os.write` for one event, from any thread.

Crash invariant: when `append` has returned True, the whole line was handed to the operating system, and survives the
death of the process. No lock is taken, so that logging from a signal handler or a finaliser cannot deadlock.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic, sleep, time_ns
from typing import Any

from tracking_core.base.handlers import raise_from_handler
from tracking_core.base.processes import process_facts
from tracking_core.base.regular import open_regular, own_folder
from tracking_core.environment.mounts import on_network
from tracking_core.errors import JournalError
from tracking_core.journal.deferral import CERTAIN, SLOW, SUSPICION, DeferredAppender, switches
from tracking_core.journal.lines import FORMAT, decode_line, encode_line
from tracking_core.journal.numbers import Numbers, Ticket
from tracking_core.journal.rotation import Retired, Turning
from tracking_core.journal.segments import by_start, find_files, new_writer_id, newest_start, segment_path
from tracking_core.journal.times import to_seconds as _seconds


class JournalWriter:
    """Appends events to a file of its own in a run directory.

    Args:
        directory: The run directory.
        run_id: Identity of the run, for the header.
        clock: Gives seconds since the epoch.

    Raises:
        OSError: The file cannot be created.
    """

    def __init__(self, directory: Path, run_id: str, *, clock: Callable[[], float] = time.time) -> None:
        self.directory = directory
        self.run_id = run_id
        self.clock = clock
        self.on_error: Callable[[OSError], None] | None = None
        """Called with what keeps an event from being written."""
        self.on_astray: Callable[[], bool] | None = None
        """Called to look whether the files are still where they belong, and to begin them anew; whether it did."""
        self._open()

    def _open(self, parent: str | None = None) -> None:
        self.id = self._new_name(forked=parent is not None)
        self.written = 0
        """How many events were written."""
        self.unwritten = 0
        """How many events could not be written."""
        self.kinds: set[str] = set()
        """Kinds of events that were handed over to be written."""
        self._numbers = Numbers()
        self._take, self._held = self._numbers.take, self._numbers.held
        self._low = 1
        self._appender: DeferredAppender | None = None
        self._deferred: DeferredAppender | None = None
        self._suspicious = 0.0
        self._reserved: dict[int, float] = {}
        self._given_up = False
        self._pid = os.getpid()
        folder = own_folder(self.directory / "journal", parents=True)
        self._parent = parent
        self._turning = Turning()
        self.path = segment_path(folder, self.id, 1)
        self._alive = folder / f"{self.id}.alive"
        # First: whoever sees a journal without a heartbeat takes the run for one that crashed.
        self._say_alive()
        self._fd: int = _create(self.path)
        line = self._header(1)
        self._torn = os.write(self._fd, line) != len(line)
        if on_network(folder):
            self.defer(for_good=True)

    def _new_name(self, *, forked: bool) -> str:
        ticks = time.monotonic_ns()
        if forked:
            # Counted from its parent, whose name may be ahead of the clock.
            before, self._named_at = self._named_at, ticks
            at = by_start(self.id)[0]
            return new_writer_id(at, at + ticks - before)
        self._named_at = ticks
        return new_writer_id(newest_start(self.directory))

    def _header(self, number: int, *, first: bool = False) -> bytes:
        previous = self.path.name if number > 1 and not first else None
        header = {"v": FORMAT, "run": self.run_id, "writer": self.id, "segment": number, "previous": previous}
        return encode_line(0, self._low, "segment", self._now(), {**header, "parent": self._parent})

    def _now(self) -> float:
        """This moment, in whole microseconds."""
        # Dividing gives the number that rounding would, and with cold caches rounding takes as long as a write.
        return time_ns() // 1000 / 1e6 if self.clock is time.time else _seconds(self.clock())

    def append(self, kind: str, fields: Mapping[str, Any], *, time: float | None = None, small: bool = False) -> bool:
        """Write one event.

        Args:
            kind: Kind of the event.
            fields: JSON values, see `encode_line`.
            time: Seconds since the epoch; None means now.
            small: See `encode_line`.

        Returns:
            Whether it was written. What was not is counted in `unwritten`.

        Raises:
            JournalError: The journal was closed.
            InvalidValueError: `time` is no moment that can be kept, or the event is too long for a line.
        """
        at = self._now() if time is None else _seconds(time)
        return self.write(self._take(), kind, fields, at, small=small)

    def reserve(self, time: float | None = None) -> tuple[Ticket, float]:
        """Take the place of an event that is written later: its ticket, and its time in seconds since the epoch.

        Whoever takes one must `write` it or `give_up`: until then the journal claims nothing beyond it. One whose
        ticket nobody holds any more is given up by `reclaim`.
        """
        at = self._now() if time is None else _seconds(time)
        ticket = self._take()
        self._reserved[ticket[0]] = monotonic()
        return ticket, at

    def write(self, ticket: Ticket, kind: str, fields: Mapping[str, Any], at: float, *, small: bool = False) -> bool:
        """Write an event whose place was reserved; see `append`."""
        seq = ticket[0]
        deferred, over = self._deferred, True
        self.kinds.add(kind)
        try:
            # No further than this event, which is not done with.
            low, held = self._low, self._held
            while low < seq and low not in held:
                low += 1
            self._low = low
            line = encode_line(seq, seq + 1 if low == seq else low, kind, at, fields, small=small)
            if deferred is None:
                if self._torn or self._suspicious:
                    return self._write(line)
                # `_write`, written out for when all is well: this is what every step of a training does.
                begin = monotonic()
                try:
                    self._torn = os.write(self._fd, line) != len(line)
                except OSError as error:
                    return self._lost(error)
                if self._torn:
                    return self._write(line)
                self.written += 1
                if (took := monotonic() - begin) > SLOW:
                    self._was_slow(took, None)
                return True
            over = not self._queue(deferred, ticket, line)
        except BaseException:
            self._given_up = True
            raise
        finally:
            # Whatever happened, the number is done with: the others do not wait for it.
            if over:
                self._complete(ticket)
        return not over

    def give_up(self, ticket: Ticket) -> None:
        """Say that an event whose place was reserved will not come."""
        self._given_up = True
        self._complete(ticket)

    def reclaim(self) -> None:
        """Give up what nobody is left to write: the number of a call that was interrupted before it had it in hand."""
        found = self._numbers.forsaken()
        if found:
            self._given_up = True
        for seq in found:
            self._reserved.pop(seq, None)

    def abandon(self, patience: float) -> None:
        """Give up what is not written within `patience` seconds: at the end, when nothing is on its way any more."""
        self.reclaim()
        deadline = monotonic() + patience
        # Other threads may be in the middle of a call.
        while self._held and monotonic() < deadline:
            sleep(0.01)
        for ticket in tuple(self._held.values()):
            self.give_up(ticket)

    def settle(self) -> None:
        """Publish the low-water mark when reserved numbers were abandoned.

        Otherwise readers wait for a gap that never fills.
        """
        self.reclaim()
        if self._given_up and not self._held and not self.closed:
            self._given_up = False
            self.mark()

    @property
    def waiting(self) -> int:
        """How many events have a place, and wait to be written."""
        return len(self._reserved)

    @property
    def lag(self) -> float:
        """For how many seconds the oldest event has waited to be written; 0 when none does."""
        oldest = min(self._reserved.copy().values(), default=None)
        return 0.0 if oldest is None else max(0.0, monotonic() - oldest)

    def defer(self, *, for_good: bool = False) -> None:
        """Append on a thread of its own from now on: calls no longer wait, nor promise that their line is written.

        Args:
            for_good: Whether to stay with that, even when appends are quick again.
        """
        if self._appender is None:
            self._appender = DeferredAppender(self._write, None if for_good else self._recovered)
        self._deferred = self._appender

    def _recovered(self) -> None:
        """Appends have been quick for a while, and none waits."""
        self._deferred = None

    @property
    def durability(self) -> str:
        """Either "journal" (a call over host values is written when it returns) or "deferred" (soon after)."""
        return "journal" if self._deferred is None else "deferred"

    def drain(self, timeout: float) -> bool:
        """Wait until deferred lines are written; False when `timeout` seconds passed first."""
        return self._appender is None or self._appender.drain(timeout)

    def _queue(self, deferred: DeferredAppender, ticket: Ticket, line: bytes) -> bool:
        if self._fd < 0:
            raise JournalError(f"the journal of writer {self.id} is closed")
        self._reserved.setdefault(ticket[0], monotonic())
        if deferred.append(line, lambda: self._complete(ticket)):
            return True
        self._given_up = True
        self.unwritten += 1
        if self.on_error is not None:
            self.on_error(OSError(errno.EAGAIN, "too many lines wait to be written", str(self.path)))
        return False

    def _write(self, line: bytes) -> bool:
        begin = monotonic()
        before = switches() if begin < self._suspicious else None
        stored = self._write_now(line)
        took = monotonic() - begin
        if took > SLOW and self._deferred is None:
            self._was_slow(took, before)
        return stored

    def _was_slow(self, took: float, before: int | None) -> None:
        """Find out whether the file system held up an append, or the machine is merely busy."""
        if took < CERTAIN and (before is None or switches() == before):
            # The thread may just have been without a core. From now on that can be told apart, at a price.
            self._suspicious = monotonic() + SUSPICION
            return
        with contextlib.suppress(RuntimeError):
            # No thread can be started while the interpreter ends; then calls go on waiting.
            self.defer()

    def _write_now(self, line: bytes) -> bool:
        failure = OSError(errno.ENOSPC, "only a part of the line could be written", str(self.path))
        try:
            for again in (False, True):
                # After a short write, as on a disk that has just filled up, begin on a fresh line: what comes next
                # would be read as part of the torn one.
                fresh = again or self._torn
                text = b"\n" + line if fresh else line
                if os.write(self._fd, text) == len(text):
                    if fresh:
                        self._torn = False
                    self.written += 1
                    return True
                self._torn = True
        except OSError as error:
            failure = error
        return self._lost(failure)

    def _lost(self, failure: OSError) -> bool:
        """An event could not be written."""
        # A watchdog's TimeoutError is an OSError as well.
        raise_from_handler(failure)
        if self._fd < 0:
            raise JournalError(f"the journal of writer {self.id} is closed") from failure
        self.unwritten += 1
        if self.on_error is not None:
            self.on_error(failure)
        return False

    def _complete(self, ticket: Ticket) -> None:
        """An event is written, or lost for good."""
        if self._reserved:
            self._reserved.pop(ticket[0], None)
        self._held.pop(ticket[0], None)

    def mark(self) -> None:
        """Write an event without content, for the sake of its `low`."""
        self.append("mark", {})

    def rotate(self, limit: int) -> None:
        """Go on in the next segment when this one is large, and seal those that are done with.

        Args:
            limit: From how many bytes on a segment is large.

        Raises:
            OSError: The next one cannot be made; this one is written on.
        """
        fd = self._fd
        if fd >= 0 and self._turning.busy.acquire(blocking=False):
            try:
                if os.fstat(fd).st_size >= limit:
                    self._turn()
            finally:
                self._turning.busy.release()
            self.seal()

    def _turn(self) -> None:
        turning = self._turning
        path = turning.next_path(self.path.parent, self.id)
        old = self._go_on_in(path, self._header(turning.number + 1), lambda: os.dup(self._fd))
        if old is None:
            return
        before, self.path = self.path, path
        turning.number += 1
        turning.before = self.written
        barrier = self._take()
        turning.retired.append(Retired(turning.number - 1, before, old, barrier[0]))
        self.write(barrier, "mark", {}, self._now())

    def _go_on_in(self, path: Path, header: bytes, leave: Callable[[], int]) -> int | None:
        """Put a new file behind the descriptor.

        Args:
            path: The file.
            header: Its first line.
            leave: Called while the old file is still there.

        Returns:
            What `leave` returned; None when the journal was closed meanwhile, and there is no new file.

        Raises:
            OSError: The file cannot be made.
        """
        new = _create(path)
        try:
            if os.write(new, header) != len(header):
                path.unlink()
                raise OSError(errno.ENOSPC, "the header of the next segment could not be written", str(path))
            with self._turning.lock:
                if self._fd < 0:
                    path.unlink()
                    return None
                left = leave()
                # Behind the same number: a write that begins before this goes to the old file, the others to the new.
                os.dup2(new, self._fd, inheritable=False)
                return left
        finally:
            os.close(new)

    @property
    def is_astray(self) -> bool:
        """Whether what is written does not arrive under the name of the file: that was deleted, or moved away."""
        fd, path = self._fd, self.path
        if fd < 0:
            return False
        try:
            own = os.fstat(fd)
            there = os.stat(path)  # noqa: PTH116 - asked every second
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            # Not known just now, as of a network file system that does not answer.
            return False
        if (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino) or path != self.path:
            return False
        # Some file systems number a file anew; then it is as long as what was written, and begins as ours.
        return there.st_size < own.st_size or not self._is_own(path)

    def _is_own(self, path: Path) -> bool:
        try:
            with open_regular(path) as file:
                header = decode_line(file.readline(1 << 16).rstrip(b"\n"))
        except (OSError, JournalError):
            return False
        return header.kind == "segment" and header.fields.get("writer") == self.id

    def recover(self) -> bool:
        """Begin the files anew if they are gone; whether they were."""
        return self.on_astray() if self.on_astray is not None else False

    def renew(self, directory: Path, run_id: str) -> int:
        """Go on in a new segment where files are gone that were written to.

        Args:
            directory: The run directory: the same, made anew, or another.
            run_id: Identity of the run.

        Returns:
            How many events were lost with the files; of files that were moved away none are.

        Raises:
            OSError: It cannot be made.
        """
        turning = self._turning
        with turning.busy:
            folder = own_folder(directory / "journal", parents=True)
            self.directory, self.run_id = directory, run_id
            path = segment_path(folder, self.id, turning.number + 1)
            lost = self._go_on_in(path, self._header(turning.number + 1, first=True), self.count_lost)
            if lost is None:
                return 0
            turning.close()
            self.path, self._alive = path, folder / self._alive.name
            turning.number += 1
            turning.before = self.written
        self.mark()
        self.beat()
        return lost

    @property
    def is_deleted(self) -> bool:
        """Whether nobody can open the file that is written to."""
        fd = self._fd
        return fd >= 0 and os.fstat(fd).st_nlink == 0

    def count_lost(self) -> int:
        """Count what was written to a file that nobody can open any more as not written; how many events that are."""
        if not self.is_deleted:
            return 0
        files, number = find_files(self.directory).get(self.id), self._turning.number
        has_earlier = files is not None and (files.parts or any(one < number for one in files.segments))
        lost = max(0, self.written - (self._turning.before if has_earlier else 0))
        self.written, self.unwritten = self.written - lost, self.unwritten + lost
        return lost

    def seal(self) -> None:
        """Say of segments to which nothing comes any more how long they are, and what their digest is.

        Raises:
            OSError: One cannot be made durable.
        """
        turning = self._turning
        if not turning.busy.acquire(blocking=False):
            return
        try:
            while turning.retired and self._numbers.passed(turning.retired[0].barrier) and self._fd >= 0:
                one = turning.retired[0]
                if not self.append("seal", one.seal()):
                    return
                turning.retired.pop(0)
                os.close(one.fd)
        finally:
            turning.busy.release()

    @property
    def sealed(self) -> int:
        """How many segments are sealed."""
        return self._turning.number - 1 - len(self._turning.retired)

    @property
    def is_foreign(self) -> bool:
        """Whether this process is a fork of the one that opened the file."""
        return self._pid != os.getpid()

    def reopen(self) -> None:
        """Go on in a file of one's own, in a forked child: two writers never share one."""
        # A thread that is not here may have held the lock when the process was forked.
        self._turning.lock = threading.Lock()
        self.close()
        self._open(parent=self.id)

    def beat(self) -> None:
        """Say that this writer lives: who it is, and a counter that observers elsewhere can watch."""
        if self._fd >= 0:
            self._say_alive()

    def _say_alive(self) -> None:
        content = {**process_facts(), "beat": round(time.time(), 3)}
        try:
            self._alive.write_text(json.dumps(content), encoding="utf-8")
        except OSError as error:
            if self.on_error is not None:
                self.on_error(error)

    def sync(self) -> None:
        """Make what is written durable against loss of power; of a closed journal nothing.

        Raises:
            OSError: The disk refuses; or the file was deleted, and what went into it is counted as not written.
        """
        fd = self._fd
        if fd < 0:
            return
        if os.fstat(fd).st_nlink == 0 and not self.path.exists():
            if self.recover():
                return
            self.count_lost()
            raise FileNotFoundError(errno.ENOENT, "the journal was deleted during the run", str(self.path))
        os.fsync(fd)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        # Closed while it is exchanged, the number might be another file's by then; that takes no time.
        locked = self._turning.lock.acquire(timeout=1.0)
        try:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)
        finally:
            if locked:
                self._turning.lock.release()
        self._turning.close()

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._fd < 0


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
