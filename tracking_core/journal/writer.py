"""The writer of a journal: one `os.write` for one event, from any thread.

Crash invariant: when `append` has returned True, the whole line was handed to the operating system, and survives the
death of the process. No lock is taken, so that logging from a signal handler or a finaliser cannot deadlock.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tracking_core.errors import JournalError
from tracking_core.journal.lines import FORMAT, encode_line


def new_writer_id() -> str:
    """A name for a writer: sorts by time, and no two are alike."""
    return f"{time.time_ns() // 1_000_000:011x}-{secrets.token_hex(4)}"


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
        self._torn = False
        self._low = 1
        self._done: set[int] = set()
        self._advancing = threading.Lock()
        self._pid = os.getpid()
        folder = self.directory / "journal"
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{self.id}-000001.jsonl"
        self._fd: int = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        header = {"v": FORMAT, "run": self.run_id, "writer": self.id, "segment": 1, "previous": None, "parent": parent}
        os.write(self._fd, encode_line(0, 1, "segment", round(self.clock(), 6), header))
        self._alive = folder / f"{self.id}.alive"
        self.beat()

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
        """
        seq = self._next()
        low = self._low
        at = round(self.clock() if time is None else time, 6)
        line = encode_line(seq, seq + 1 if low == seq else low, kind, at, fields)
        stored = self._write(line)
        if stored:
            self.written += 1
        else:
            self.unwritten += 1
        self._complete(seq)
        return stored

    def _write(self, line: bytes) -> bool:
        try:
            count = os.write(self._fd, b"\n" + line if self._torn else line)
            if count == len(line) + self._torn:
                self._torn = False
                return True
            # A short write, as on a disk that has just filled up: the rest of this line would not be read as part
            # of it, so begin again on a fresh line, once.
            self._torn = True
            count = os.write(self._fd, b"\n" + line)
            if count == len(line) + 1:
                self._torn = False
                return True
        except OSError as error:
            if self._fd < 0:
                raise JournalError(f"the journal of writer {self.id} is closed") from error
            if self.on_error is not None:
                self.on_error(error)
        return False

    def _complete(self, seq: int) -> None:
        """Advance the mark below which everything is written (or lost for good)."""
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
        """Write an event without content if the last line's `low` lags behind what is written."""
        self.append("mark", {})

    @property
    def is_foreign(self) -> bool:
        """Whether this process is a fork of the one that opened the file."""
        return self._pid != os.getpid()

    def reopen(self) -> None:
        """Go on in a file of one's own, in a forked child: two writers never share one."""
        os.close(self._fd)
        self._open(parent=self.id)

    def beat(self) -> None:
        """Say that this writer lives: who it is, and a counter that observers elsewhere can watch."""
        content = {**_process(), "beat": round(time.time(), 3)}
        try:
            self._alive.write_text(json.dumps(content), encoding="utf-8")
        except OSError as error:
            if self.on_error is not None:
                self.on_error(error)

    def sync(self) -> None:
        """Make what is written durable against loss of power.

        Raises:
            OSError: The disk refuses.
        """
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._fd < 0


def _process() -> dict[str, Any]:
    import socket

    return {"pid": os.getpid(), "started": process_start(os.getpid()), "boot": boot_id(), "host": socket.gethostname()}


def process_start(pid: int) -> str | None:
    """When a process of this host was started, as its kernel counts; None when there is none, or no /proc."""
    try:
        # After the last ")": the name of the program may hold anything.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def boot_id() -> str | None:
    """Identity of this boot of this host; None where there is no /proc."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
