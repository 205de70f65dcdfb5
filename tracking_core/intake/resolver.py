"""The resolver: the only place that waits for a device; and the encoder, where media become bytes.

Two threads serve all runs of the process. Calls put their drafts into a queue that may be fed from a signal handler or
a finaliser, and return; the resolver takes what has gathered in a few dozen milliseconds, fetches it, and writes it.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tracking_core.base.latch import Latch

GATHER = 0.03
"""Seconds that the resolver lets drafts gather, so that many cross from the device at once."""
MEDIA_LIMIT = 64 << 20
"""Bytes of media that may wait; what comes beyond is dropped and counted. A larger one waits beside them."""

COPIES_LIMIT = min(1 << 30, max(MEDIA_LIMIT, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 16))
"""Bytes of copies that wait to be counted: all parameters of a model may come in one call."""

Array = np.ndarray[Any, Any]


@dataclass(slots=True, eq=False)
class Draft:
    """An event that has its place in the journal, and waits for its values.

    Args:
        arrays: What has to come from a device.
        write: Called with the arrays on the host; writes the event.
        fail: Called with what was raised, when the event cannot be written.
        encode: Whether `write` takes long, and so belongs on the encoder's thread.
        nbytes: Memory that it holds on to.
        is_copy: Whether that is a copy that waits to be counted, and no medium.
    """

    arrays: Sequence[Any]
    write: Callable[[list[Array]], None]
    fail: Callable[[Exception], None]
    encode: bool = False
    nbytes: int = 0
    is_copy: bool = False
    host: list[Array] = field(default_factory=list[Array])


@dataclass(slots=True, eq=False)
class _Mark:
    """Passes through both threads behind everything that was put before it."""

    passed: Latch


class Resolver:
    """The two threads and their queues."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._fetch: queue.SimpleQueue[Draft | _Mark] = queue.SimpleQueue()
        self._encode: queue.SimpleQueue[Draft | _Mark] = queue.SimpleQueue()
        self._threads = (
            threading.Thread(target=self._resolve, name="tracking-resolver", daemon=True),
            threading.Thread(target=self._write_media, name="tracking-encoder", daemon=True),
        )
        self._started = False
        self._starter: dict[str, int] = {}
        self._starting: set[int] = set()
        self._held: dict[int, int] = {}
        self._copied: dict[int, int] = {}

    def may_copy(self, nbytes: int) -> bool:
        """Whether that many more bytes of copies may wait to be counted."""
        return sum(self._copied.copy().values()) + nbytes <= COPIES_LIMIT

    def has_room(self, nbytes: int) -> bool:
        """Whether that many more bytes of media may wait."""
        held = self._held.copy().values()
        if nbytes > MEDIA_LIMIT:
            return max(held, default=0) <= MEDIA_LIMIT
        return sum(one for one in held if one <= MEDIA_LIMIT) + nbytes <= MEDIA_LIMIT

    def submit(self, draft: Draft) -> None:
        """Hand over a draft; it is written before a mark that is put after it has passed."""
        if draft.nbytes:
            (self._copied if draft.is_copy else self._held)[id(draft)] = draft.nbytes
        if not self._running():
            # The call does it itself where no thread can be started, as while the interpreter ends, and where that is
            # going on: in another thread, or in this one, in the middle of which a finaliser runs.
            self._settle(draft)
            return
        (self._fetch if draft.arrays or not draft.encode else self._encode).put(draft)

    def drain(self, timeout: float) -> bool:
        """Wait until everything that was submitted is written; False when `timeout` seconds passed first."""
        if not self._started or self._pid != os.getpid():
            return True
        mark = _Mark(Latch())
        self._fetch.put(mark)
        return mark.passed.wait(timeout)

    def waiting(self) -> int:
        """About how many drafts wait."""
        return self._fetch.qsize() + self._encode.qsize()

    def _running(self) -> bool:
        """Whether both threads run; started once, even if the one who starts them is interrupted meanwhile."""
        if self._started:
            return True
        me = threading.get_ident()
        # Without a lock, which an interrupt might leave taken: one thread starts them.
        if self._starter.setdefault("is", me) != me or me in self._starting:
            return False
        try:
            self._starting.add(me)
            for thread in self._threads:
                _start_once(thread)
        except RuntimeError:
            self._starter.clear()
            return False
        finally:
            self._starting.discard(me)
        self._started = True
        return True

    def _resolve(self) -> None:
        while True:
            batch = [self._fetch.get()]
            if not isinstance(batch[0], _Mark):
                time.sleep(GATHER)
            while not self._fetch.empty():
                batch.append(self._fetch.get())
            drafts = [one for one in batch if isinstance(one, Draft)]
            with _transfers_allowed():
                _start_copies(drafts)
                for one in batch:
                    if isinstance(one, _Mark):
                        self._encode.put(one)
                    elif not self._fetched(one):
                        continue
                    elif one.encode:
                        self._encode.put(one)
                    else:
                        self._write(one)
            # What was fetched must not be kept alive until the next batch.
            one = None
            del batch, drafts

    def _write_media(self) -> None:
        while True:
            one = self._encode.get()
            if isinstance(one, _Mark):
                one.passed.set()
            else:
                self._write(one)
            del one

    def _settle(self, draft: Draft) -> None:
        if self._fetched(draft):
            self._write(draft)

    def _fetched(self, draft: Draft) -> bool:
        """Bring the arrays of one draft to the host; one that is poisoned does not touch the others."""
        try:
            draft.host = [np.asarray(array) for array in draft.arrays]
        except Exception as error:  # noqa: BLE001 - whatever a device reports concerns this draft alone
            self._failed(draft, error)
            return False
        draft.arrays = ()
        return True

    def _write(self, draft: Draft) -> None:
        try:
            draft.write(draft.host)
        except Exception as error:  # noqa: BLE001 - counted and said by the run it belongs to
            self._failed(draft, error)
        else:
            self._forget(draft)

    def _failed(self, draft: Draft, error: Exception) -> None:
        self._forget(draft)
        draft.fail(error)

    def _forget(self, draft: Draft) -> None:
        (self._copied if draft.is_copy else self._held).pop(id(draft), None)


def _start_once(thread: threading.Thread) -> None:
    """Start a thread that may have been started before, by a call that was interrupted.

    Raises:
        RuntimeError: No thread can be started.
    """
    # One that was begun shows by a number within a moment; without one it was not.
    if thread.ident is None:
        try:
            thread.start()
        except RuntimeError:
            if thread.ident is None:
                raise


def _start_copies(drafts: Sequence[Draft]) -> None:
    """Let all copies to the host run at once, before the first is waited for."""
    for draft in drafts:
        for array in draft.arrays:
            try:
                array.copy_to_host_async()
            except Exception:  # noqa: BLE001, S112 - fetching it will say why
                continue


def _transfers_allowed() -> AbstractContextManager[Any]:
    jax = sys.modules.get("jax")
    guard = getattr(jax, "transfer_guard", None)
    return guard("allow") if guard is not None else nullcontext()


_resolver = Resolver()


def resolver() -> Resolver:
    """The resolver of this process."""
    return _resolver


def _in_child() -> None:
    """A forked child has none of its parent's threads, and none of its business."""
    global _resolver  # noqa: PLW0603 - one for the process
    _resolver = Resolver()


os.register_at_fork(after_in_child=_in_child)
