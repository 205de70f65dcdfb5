"""Compaction in a process of its own, so that the training neither imports pyarrow nor waits for it.

One process serves all runs of a training, and a thread of the training asks it. What it has not come to when both are
gone stays JSON Lines, which can be read as well, until somebody picks it up: the next training in the project,
`tracking sync` or `tracking compact`.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import os
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tracking_core.base.processes import owner_of

if TYPE_CHECKING:
    from tracking_core.base.children import Child

WORTH = 256 << 10
"""Bytes of journals from which on a run is compacted when it ends. What describes its surroundings may take 100 KB."""
IDLE = 10.0
"""Seconds without a request after which the process is let go."""
RECENT = 64
"""How many runs of a project are looked at for what other trainings have left, the newest first."""
_PATIENCE = 2.0


def is_possible() -> bool:
    """Whether pyarrow is installed; it is not imported."""
    try:
        return find_spec("pyarrow") is not None
    except (ImportError, ValueError):
        return False


def is_worth_it(directory: Path) -> bool:
    """Whether the journal of a run is so long that it is compacted when the run ends."""
    try:
        with os.scandir(directory / "journal") as entries:
            return sum(entry.stat().st_size for entry in entries) >= WORTH
    except OSError:
        return False


def left_over(project: Path) -> Iterator[Path]:
    """Runs of a project that have ended and were not compacted, among the newest ones.

    Args:
        project: Directory of the project.
    """
    try:
        # Ids sort by the time they were made.
        names = heapq.nlargest(RECENT, (name for name in os.listdir(project) if not name.startswith(".")))  # noqa: PTH208
    except OSError:
        return
    for name in names:
        with contextlib.suppress(OSError):
            if is_left_over(project / name):
                yield project / name


def is_left_over(directory: Path) -> bool:
    """Whether a run has a long journal that is in no part yet, and nobody writes to it."""
    if not is_worth_it(directory):
        return False
    from tracking_core.compaction.compaction import covered_segments
    from tracking_core.journal.segments import find_files

    if any(owner_of(beat) is not None for beat in (directory / "journal").glob("[!.]*.alive")):
        return False
    return any(files.segments.keys() - covered_segments(files) for files in find_files(directory).values())


@dataclass(frozen=True)
class _Request:
    """A run to compact.

    Args:
        directory: Its directory.
        over: Whether it has ended; one that goes on is merged as far as its files are full.
        say: Called with what went wrong.
    """

    directory: Path
    over: bool
    say: Callable[[str], None]


class _Process:
    """The process that compacts. It ends when this one does."""

    def __init__(self) -> None:
        from tracking_core.base.children import Child

        # Plain numbers, and no file objects: a forked child can let go of them whatever other threads were doing.
        theirs_in, self._requests = os.pipe()
        self._answers, theirs_out = os.pipe()
        try:
            self._child: Child = Child(
                "tracking_core.compaction.server", str(theirs_out), stdin=theirs_in, inherited=[theirs_out]
            )
        except BaseException:
            self.let_go()
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._child.pid

    def send(self, request: _Request) -> None:
        """Ask for a run; one that is gone shows in the answer."""
        self._write({"dir": str(request.directory.absolute()), "over": request.over})

    def answer(self) -> str | None:
        """Wait for an answer: what went wrong, or ""; None when it has died."""
        line = b""
        while not line.endswith(b"\n"):
            chunk = os.read(self._answers, 1 << 12)
            if not chunk:
                return None
            line += chunk
        return json.loads(line)["problem"]

    def last_words(self) -> str:
        """Why it has died, as far as it said so."""
        code = self._child.wait(_PATIENCE)
        return self._child.last_words() or f"its process ended with {code}"

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._child.code() is None

    def bye(self) -> None:
        """Let it do what it was asked for, and go."""
        # At exit nothing waits for a process that is stopped.
        os.set_blocking(self._requests, False)
        self._write({"do": "bye"})
        # A thread may wait for an answer: that end stays open.
        os.close(self._requests)
        self._requests = -1

    def forsake(self) -> None:
        """Let it go on when this process is gone."""
        self.bye()
        self._child.forsake()

    def kill(self) -> None:
        """End it at once: it can be killed at any time."""
        self._child.kill()

    def end(self) -> None:
        """End it, if it has not ended by itself, and let go of it."""
        if self._child.wait(0.0 if self._requests >= 0 else _PATIENCE) is None:
            self._child.kill()
            self._child.wait(_PATIENCE)
        self._child.close()
        self.let_go()

    def let_go(self) -> None:
        """Close this end; in a forked child, so that it sees the end of the training even if the child lives on."""
        numbers, self._requests, self._answers = (self._requests, self._answers), -1, -1
        for number in numbers:
            if number >= 0:
                os.close(number)

    def _write(self, message: dict[str, object]) -> None:
        with contextlib.suppress(OSError):
            os.write(self._requests, json.dumps(message).encode() + b"\n")


class Compaction:
    """Has the runs of this process compacted, one after the other."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[_Request | Path] = queue.SimpleQueue()
        self._starts = itertools.count()
        self._process: _Process | None = None
        self._taken: _Request | None = None
        """What the thread has in hand, and has not asked for yet."""
        self._starting = threading.Lock()
        self._seen: set[Path] = set()
        self._left = False

    @property
    def pid(self) -> int | None:
        """The number of the process; None while there is none."""
        process = self._process
        return None if process is None else process.pid

    def add(self, directory: Path, say: Callable[[str], None], *, over: bool = False) -> None:
        """Have a run compacted soon. This starts no process itself, and waits for nothing.

        Args:
            directory: The run directory.
            say: Called from a thread with what went wrong, if something did.
            over: Whether the run has ended; then only one with a long journal is compacted.
        """
        self._put(_Request(directory, over, say))

    def pick_up(self, project: Path) -> None:
        """Have compacted what earlier trainings left in a project; asked again for one, nothing is done.

        Args:
            project: Directory of the project.
        """
        if project not in self._seen:
            self._seen.add(project)
            self._put(project)

    def _put(self, what: _Request | Path) -> None:
        if self._left:
            return
        self._waiting.put(what)
        # Whoever counts first; no lock, which an interrupt might leave taken.
        if next(self._starts) == 0:
            with contextlib.suppress(RuntimeError):
                # Where no thread can be started, it is handed over at exit.
                threading.Thread(target=self._work, name="tracking-compaction", daemon=True).start()

    def leave(self, *, at_once: bool) -> None:
        """The training ends: the process does for a while what is still to be done, and goes.

        Args:
            at_once: Whether this process was told to go, and leaves nothing behind that runs.
        """
        self._left = True
        if not self._starting.acquire(timeout=_PATIENCE):
            return
        try:
            if at_once:
                if self._process is not None:
                    self._process.kill()
                return
            rest = [one for one in self._rest() if _is_due(one)]
            if rest and self._process is None:
                with contextlib.suppress(OSError):
                    self._process = _Process()
            if self._process is not None:
                for request in rest:
                    self._process.send(request)
                self._process.forsake()
        finally:
            self._starting.release()

    def forget(self) -> None:
        """In a forked child: the thread is not there, and the process is the parent's."""
        if self._process is not None:
            self._process.let_go()
        self.__init__()

    def _rest(self) -> Iterator[_Request]:
        """What was not asked for yet."""
        if self._taken is not None:
            yield self._taken
        with contextlib.suppress(queue.Empty):
            while True:
                what = self._waiting.get_nowait()
                if isinstance(what, _Request):
                    yield what

    def _work(self) -> None:
        while not self._left:
            try:
                what = self._waiting.get(timeout=None if self._process is None else IDLE)
            except queue.Empty:
                self._let_go()
                continue
            if isinstance(what, _Request):
                self._compact(what)
            else:
                for directory in left_over(what):
                    # Nobody is there to be told: whoever asks for it with `tracking compact` is.
                    self._compact(_Request(directory, False, lambda problem: None))  # noqa: ARG005

    def _compact(self, request: _Request) -> None:
        """Ask for one run, and wait until it is done."""
        self._taken = request
        try:
            if not _is_due(request):
                return
            problem = self._ask(request)
            if problem is None and self._process is not None:
                # It may have died before it read this, of something else.
                words = self._process.last_words()
                problem = self._ask(request)
                problem = words if problem is None else problem
        except Exception as error:  # noqa: BLE001 - one run in trouble must not leave the others alone
            problem = f"{type(error).__name__}: {error}"
        finally:
            self._taken = None
        if problem and not self._left:
            request.say(problem)

    def _ask(self, request: _Request) -> str | None:
        """Ask for a run and wait for the answer, from a new process if there is none or it has died; see `answer`."""
        with self._starting:
            if self._left:
                # `leave` saw to it, or it stays for whoever comes next.
                return ""
            if self._process is not None and not self._process.is_alive:
                self._process.end()
                self._process = None
            if self._process is None:
                self._process = _Process()
            self._process.send(request)
            self._taken = None
        return self._process.answer()

    def _let_go(self) -> None:
        """Nothing was asked for a while."""
        with self._starting:
            process, self._process = self._process, None
            if process is not None and not self._left:
                process.bye()
                process.end()


def _is_due(request: _Request) -> bool:
    return (not request.over or is_worth_it(request.directory)) and is_possible()


compaction = Compaction()
