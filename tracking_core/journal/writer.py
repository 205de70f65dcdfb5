"""The writer of a journal: one `os.write` for one event, from any thread.

Crash invariant: when `append` has returned True, the whole line was handed to the operating system, and survives the
death of the process. No lock is taken, so that logging from a signal handler or a finaliser cannot deadlock.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from tracking_core.errors import JournalError
from tracking_core.journal.deferral import CERTAIN, SLOW, SUSPICION, DeferredAppender, on_network, switches
from tracking_core.journal.lines import FORMAT, encode_line
from tracking_core.journal.rotation import Retired, Turning
from tracking_core.journal.segments import segment_path
from tracking_core.journal.times import to_seconds as _seconds


def new_writer_id() -> str:
    """A name for a writer: sorts by time, and no two are alike."""
    return f"{time.time_ns():016x}-{secrets.token_hex(4)}"


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
        self._open()

    def _open(self, parent: str | None = None) -> None:
        self.id = new_writer_id()
        self.written = 0
        """How many events were written."""
        self.unwritten = 0
        """How many events could not be written."""
        self._next = itertools.count(1).__next__
        self._low = 1
        self._done: set[int] = set()
        self._appender: DeferredAppender | None = None
        self._deferred: DeferredAppender | None = None
        self._suspicious = 0.0
        self._reserved: dict[int, float] = {}
        self._given_up = False
        self._advancing = threading.Lock()
        self._pid = os.getpid()
        folder = self.directory / "journal"
        folder.mkdir(parents=True, exist_ok=True)
        self._parent = parent
        self._turning = Turning()
        self.path = segment_path(folder, self.id, 1)
        self._fd: int = _create(self.path)
        line = self._header(1)
        self._torn = os.write(self._fd, line) != len(line)
        self._alive = folder / f"{self.id}.alive"
        self.beat()
        if on_network(folder):
            self.defer(for_good=True)

    def _header(self, number: int) -> bytes:
        previous = self.path.name if number > 1 else None
        header = {"v": FORMAT, "run": self.run_id, "writer": self.id, "segment": number, "previous": previous}
        return encode_line(0, self._low, "segment", _seconds(self.clock()), {**header, "parent": self._parent})

    def append(self, kind: str, fields: Mapping[str, Any], *, time: float | None = None) -> bool:
        """Write one event.

        Args:
            kind: Kind of the event.
            fields: JSON values, see `encode_line`.
            time: Seconds since the epoch; None means now.

        Returns:
            Whether it was written. What was not is counted in `unwritten`.

        Raises:
            JournalError: The journal was closed.
            InvalidValueError: `time` is no moment that can be kept, or the event is too long for a line.
        """
        at = _seconds(self.clock() if time is None else time)
        return self.write(self._next(), kind, fields, at)

    def reserve(self, time: float | None = None) -> tuple[int, float]:
        """Take the place of an event that is written later: its number, and its time in seconds since the epoch.

        Whoever takes one must `write` it or `give_up`: until then the journal claims nothing beyond it.
        """
        at = _seconds(self.clock() if time is None else time)
        seq = self._next()
        self._reserved[seq] = monotonic()
        return seq, at

    def write(self, seq: int, kind: str, fields: Mapping[str, Any], at: float) -> bool:
        """Write an event whose place was reserved; see `append`."""
        deferred, over = self._deferred, True
        try:
            low = self._low
            line = encode_line(seq, seq + 1 if low == seq else low, kind, at, fields)
            if deferred is None:
                return self._write(line)
            over = not self._queue(deferred, seq, line)
        except BaseException:
            self._given_up = True
            raise
        finally:
            # Whatever happened, the number is done with: the others do not wait for it.
            if over:
                self._complete(seq)
        return not over

    def give_up(self, seq: int) -> None:
        """Say that an event whose place was reserved will not come."""
        self._given_up = True
        self._complete(seq)

    def settle(self) -> None:
        """Tell readers what will not come, if nothing is written after it that would; they wait for it otherwise."""
        if self._given_up and not self._done and not self._reserved and not self.closed:
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

    @property
    def all_written(self) -> bool:
        """Whether no event is under way that has a place before the next."""
        return not self._done

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

    def _queue(self, deferred: DeferredAppender, seq: int, line: bytes) -> bool:
        if self._fd < 0:
            raise JournalError(f"the journal of writer {self.id} is closed")
        self._reserved.setdefault(seq, monotonic())
        if deferred.append(line, lambda: self._complete(seq)):
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
            if self._fd < 0:
                raise JournalError(f"the journal of writer {self.id} is closed") from error
            failure = error
        self.unwritten += 1
        if self.on_error is not None:
            self.on_error(failure)
        return False

    def _complete(self, seq: int) -> None:
        """Advance the mark below which everything is written (or lost for good)."""
        if self._reserved:
            self._reserved.pop(seq, None)
        if self._low == seq and not self._done:
            self._low = seq + 1
            return
        self._done.add(seq)
        # Whoever finds the lock taken leaves the advance to the one who has it, or to the next event.
        if self._advancing.acquire(blocking=False):
            try:
                while self._low in self._done:
                    self._done.discard(self._low)
                    self._low += 1
            finally:
                self._advancing.release()

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
        header = self._header(turning.number + 1)
        new = _create(path)
        try:
            if os.write(new, header) != len(header):
                path.unlink()
                raise OSError(errno.ENOSPC, "the header of the next segment could not be written", str(path))
            with turning.lock:
                if self._fd < 0:
                    path.unlink()
                    return
                # Behind the same number: a write that begins before this goes to the old file, the others to the new.
                old = os.dup(self._fd)
                os.dup2(new, self._fd, inheritable=False)
        finally:
            os.close(new)
        before, self.path = self.path, path
        turning.number += 1
        barrier = self._next()
        turning.retired.append(Retired(turning.number - 1, before, old, barrier))
        self.write(barrier, "mark", {}, _seconds(self.clock()))

    def seal(self) -> None:
        """Say of segments to which nothing comes any more how long they are, and what their digest is.

        Raises:
            OSError: One cannot be made durable.
        """
        turning = self._turning
        if not turning.busy.acquire(blocking=False):
            return
        try:
            while turning.retired and self._low > turning.retired[0].barrier and self._fd >= 0:
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
        if self._fd < 0:
            return
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
            self.unwritten, self.written = self.unwritten + self.written, 0
            raise FileNotFoundError(errno.ENOENT, "the journal was deleted while the run went on", str(self.path))
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


def process_facts() -> dict[str, Any]:
    """Which process this is, so that others can tell whether it lives."""
    import socket

    return {"pid": os.getpid(), "started": process_start(os.getpid()), "boot": boot_id(), "host": socket.gethostname()}


def process_start(pid: int) -> str | None:
    """When a process of this host was started, as its kernel counts; None when there is none, or no /proc."""
    try:
        # After the last ")": the name of the program may hold anything.
        facts = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        # One that has ended, and that its parent has not asked after yet, is still listed.
        return facts[19] if facts[0] not in {"Z", "X"} else None
    except (OSError, IndexError):
        return None


def boot_id() -> str | None:
    """Identity of this boot of this host; None where there is no /proc."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
