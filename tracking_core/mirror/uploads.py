"""Objects on their way into a mirror: each is uploaded once, several at a time."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from pathlib import Path

from tracking_core.base.redaction import redact_text
from tracking_core.base.regular import LONGEST, OddFileError, open_regular, read_regular
from tracking_core.errors import StoreError
from tracking_core.mirror.files import Segment
from tracking_core.remote.objects import Listed, Objects

SMALL = 8 << 20
"""Bytes up to which a file is read before it is uploaded."""
HOPELESS = 3
"""After so many failures in a row a round is given up."""


@dataclass
class State:
    """How far a run has come.

    Args:
        delivered: Objects that were uploaded.
        pending: Objects that wait.
        failed: Objects that will not be there.
        error: What went wrong last; None when the last round went well.
        since: From when on everything is there that was there before, in seconds since the epoch.
    """

    delivered: int = 0
    pending: int = 0
    failed: int = 0
    error: str | None = None
    since: float = 0.0


def _is_local(error: BaseException) -> bool:
    """Whether a file here is what could not be read: that says nothing of the server."""
    return isinstance(error, OSError) and error.filename is not None


class Uploads:
    """Uploads objects, and knows which are there.

    Args:
        objects: The objects of the mirror.
        lines: Uploads what is small and urgent, several at a time.
        bulk: The same for media and contents of artifacts, which may be large.
        moved: Called with numbers of bytes, as they go.
    """

    def __init__(
        self, objects: Objects, lines: ThreadPoolExecutor, bulk: ThreadPoolExecutor, moved: Callable[[int], None]
    ) -> None:
        self.state = State(since=time.time())
        self.there: dict[str, Listed] = {}
        """What was in the mirror at the beginning."""
        self.sent: dict[str, tuple[int, ...] | str] = {}
        """What is there now, or will not be; of what changes, which content."""
        self.under_way: dict[str, Future[None]] = {}
        self.failed: dict[str, str] = {}
        """Key → what went wrong in this round."""
        self.refused: dict[str, str] = {}
        """Key → why it will not be there."""
        self.gone = False
        """Whether a file was gone in this round that is in another now."""
        self._objects = objects
        self._lines = lines
        self._moved = moved
        self._row = {lines: 0, bulk: 0}

    def begin(self) -> None:
        """Begin a round."""
        self.failed, self.gone = {}, False
        self._row = dict.fromkeys(self._row, 0)

    def end(self, began: float) -> bool:
        """Say how the round went that began then; whether everything is there."""
        waiting = [key for key, one in self.under_way.items() if not one.done()]
        self.state.pending = len({*self.failed, *waiting})
        self.state.failed = len(self.refused)
        self.state.error = next(reversed({**self.refused, **self.failed}.values()), None)
        if self.state.pending or self.gone:
            return False
        self.state.since = began
        return True

    def put_file(
        self, key: str, file: Path | Callable[[], Path], pool: ThreadPoolExecutor | None = None, *, look: bool = False
    ) -> None:
        """Upload a file that never changes; `look` asks for the one object, where no listing has it."""

        def put() -> None:
            try:
                path = file if isinstance(file, Path) else file()
                with open_regular(path) as opened:
                    size = os.fstat(opened.fileno()).st_size
            except (ValueError, OddFileError) as error:
                self.refuse(key, error)
                return
            there = self._objects.find(key) if look else self.there.get(key)
            if there is None or there.size != size:
                if size <= SMALL:
                    self._objects.put(key, read_regular(path, SMALL))
                    self._moved(size)
                else:
                    self._objects.put_file(key, path, self._moved)
                self.state.delivered += 1
            self.sent[key] = ()

        if key not in self.sent:
            self._submit(key, put, pool)

    def put_segment(self, key: str, segment: Segment) -> None:
        """Upload a segment as far as it goes, if that has changed."""
        if self.sent.get(key) == (segment.length,) or not segment.length:
            return
        there = self.there.get(key)

        def put() -> None:
            if key in self.sent or there is None or there.size != segment.length:
                if segment.length > LONGEST:
                    # Longer than writers make them. A line that is cut off behind it does no harm.
                    self._objects.put_file(key, segment.path, self._moved)
                else:
                    with open_regular(segment.path) as file:
                        content = file.read(segment.length)
                    self._objects.put(key, content)
                    self._moved(len(content))
                self.state.delivered += 1
            self.sent[key] = (segment.length,)

        self._submit(key, put)

    def put_now(self, key: str, content: bytes) -> None:
        """Upload something small that changes, if it has."""
        digest = hashlib.sha256(content).hexdigest()
        if self.sent.get(key) != digest:
            self._objects.put(key, content)
            self._moved(len(content))
            self.sent[key] = digest
            self.state.delivered += 1

    def put_version(self, key: str, path: Path) -> None:
        """Upload what describes a version. It is there already, or is new."""

        def put() -> None:
            try:
                content = read_regular(path)
            except OddFileError as error:
                self.refuse(key, error)
                return
            if self._objects.find(key) is None:
                self._objects.put(key, content)
                self._moved(len(content))
                self.state.delivered += 1
            elif self._objects.get(key) != content:
                self.refused[key] = f"{key}: the mirror has another version of that number, from another root"
            self.sent[key] = ()

        if key not in self.sent:
            self._submit(key, put)

    def remove(self, key: str) -> None:
        """Remove an object, if it is there."""
        if key in self.sent or key in self.there:
            self._objects.remove(key)
            self.sent.pop(key, None)
            self.there.pop(key, None)

    def _submit(self, key: str, put: Callable[[], None], pool: ThreadPoolExecutor | None = None) -> None:
        pool = pool or self._lines

        def guarded() -> None:
            if self._row[pool] >= HOPELESS:
                raise StoreError(next(reversed(self.failed.values()), "the server does not answer"))
            try:
                put()
            except Exception as error:
                if not _is_local(error):
                    self._row[pool] += 1
                raise
            self._row[pool] = 0

        if key not in self.under_way:
            self.under_way[key] = pool.submit(guarded)

    def wait(self, seconds: float | None, but: Iterable[str] = ()) -> None:
        """Wait for uploads, and see what became of them."""
        wanted = {key: self.under_way[key] for key in self.under_way.keys() - set(but)}
        deadline = None if seconds is None else time.monotonic() + seconds
        while wanted:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            wait_for(wanted.values(), left, return_when="FIRST_COMPLETED")
            self._collect()
            wanted = {key: one for key, one in wanted.items() if key in self.under_way}
        self._collect()

    def _collect(self) -> None:
        for key, one in list(self.under_way.items()):
            if not one.done():
                continue
            del self.under_way[key]
            error = one.exception()
            if error is None:
                continue
            if not (isinstance(error, FileNotFoundError) and _is_local(error)):
                self.fail(key, error)
            elif "/journal/" in key or key.endswith((".jsonl", ".parquet")):
                # It was compacted, and is in a part that the next round finds.
                self.gone = True
            elif not key.endswith(".json"):
                # Of a version that is gone, the event has all that a reader of the run needs.
                self.refused[key] = f"{key}: the file is gone"
                self.sent[key] = ()

    def refuse(self, key: str, error: Exception) -> None:
        """Leave out what is none of a run's files, and never will be there."""
        self.refused[key] = redact_text(f"{key}: {getattr(error, 'strerror', None) or error}"[:2000])[:500]
        self.sent[key] = ()

    def fail(self, key: str, error: BaseException) -> None:
        """Note what went wrong; it is tried again in the next round."""
        what = f"{key}: " if key else ""
        self.failed[key] = redact_text(f"{what}{type(error).__name__}: {error}"[:2000])[:500]
