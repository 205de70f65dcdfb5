"""What a training knows of its mirror: a process that uploads, told of each run, and asked at the end of it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tracking_core.base.children import Child, Children, Restarts
from tracking_core.delivery.interface import Delivery
from tracking_core.delivery.report import TargetReport
from tracking_core.environment.settings import Settings
from tracking_core.remote.address import Mirroring, mirroring

Note = Callable[[str, str, BaseException | None], None]
SILENCE = 30.0
"""Seconds without a sign of life after which the process counts as hung: it has a low priority."""
GRACE = 1.0
"""Seconds that it has, beyond the timeout, to say that it gave up."""
MISSED, SLACK = 3, 30.0
"""A run is behind when the mirror was not complete for so many intervals, and so many seconds."""
RESTARTS = 3
"""How often it is started anew in the life of a training."""
NAME = "mirror"
"""Its name in reports."""


def mirrored(delivery: Delivery, directory: Path, settings: Settings, note: Note) -> Delivery:
    """Mirror a run, if that is set: what delivers it, with the mirror as one target more.

    Args:
        delivery: What delivers it.
        directory: The run directory.
        settings: Environment and file.
        note: Called with (reason, message, error) for what goes wrong.

    Raises:
        SettingsError: The setting is wrong, or a package is missing.
    """
    wanted = mirroring(settings)
    return delivery if wanted is None else MirroredDelivery(delivery, Mirrored(directory, wanted, note))


class MirroredDelivery:
    """Delivers a run as before, and waits at its end until the mirror has it too.

    Args:
        delivery: What delivers it.
        mirror: Its mirror.
    """

    def __init__(self, delivery: Delivery, mirror: Mirrored) -> None:
        self._delivery = delivery
        self._mirror = mirror
        # Called for every record.
        self.recorded = delivery.recorded
        self.await_open = delivery.await_open
        self.tracker = delivery.tracker
        self.open_trackers = delivery.open_trackers
        self.flush = delivery.flush

    def finish(self, status: str, error: str | None, timeout: float) -> None:
        """Deliver what is left, finish the targets, and wait for the mirror."""
        self._delivery.finish(status, error, timeout)
        self._mirror.finish(timeout)

    def reports(self) -> list[TargetReport]:
        """What became of the records, target by target; of the mirror, what became of its objects."""
        return [*self._delivery.reports(), self._mirror.report()]


class Mirrored:
    """The mirror of one run.

    Args:
        directory: The run directory.
        wanted: The mirror.
        note: Called with (reason, message, error) for what goes wrong.
    """

    def __init__(self, directory: Path, wanted: Mirroring, note: Note) -> None:
        self.key = str(directory)
        self._where = f"{wanted.address}"
        self._behind = MISSED * wanted.interval + SLACK
        self._over = False
        self._note = note
        self._state: dict[str, Any] = {"delivered": 0, "pending": 0, "failed": 0, "error": None, "since": time.time()}
        self._process: MirrorProcess | None = None
        try:
            self._process = mirror_process(wanted)
            self._process.open(self)
        except OSError as error:
            self._state |= {"pending": 1, "error": f"no process can be started ({error})"}
            note(NAME, f"{self._where}: the run is not mirrored: no process can be started ({error})", error)

    def hear(self, state: dict[str, Any]) -> None:
        """Take what the process says of this run."""
        self._state = state
        if state["error"] is not None:
            again = "; it will be tried again" if state["pending"] else ""
            self._note(NAME, f"{self._where}: {state['error']}{again}", None)

    def lost(self, message: str, *, for_good: bool) -> None:
        """The process has died."""
        self._note(NAME, f"{self._where}: {message}", None)
        if for_good:
            self._state = {**self._state, "pending": max(1, self._state["pending"]), "error": message}

    def finish(self, timeout: float) -> None:
        """Wait until everything is there, or `timeout` seconds pass without progress."""
        self._over = True
        if self._process is None or not self._process.finish(self, timeout):
            error = self._state["error"] or f"it did not end within {timeout:g} s"
            self._state = {**self._state, "pending": max(1, self._state["pending"]), "error": error}

    def report(self) -> TargetReport:
        """What became of the objects of this run."""
        state: dict[str, Any] = self._state
        if not (self._over or state["pending"]) and time.time() - state["since"] > self._behind:
            # A server that takes connections and never answers: nothing has failed yet.
            state = {**state, "pending": 1, "error": f"{self._where}: nothing has been uploaded for a while"}
        lag = max(0.0, time.time() - state["since"]) if state["pending"] else 0.0
        counts = {key: state[key] for key in ("delivered", "pending", "failed")}
        return TargetReport(NAME, **counts, last_error=state["error"], lag=lag)


class MirrorProcess:
    """The process, and what it has said.

    Args:
        wanted: The mirror.
    """

    def __init__(self, wanted: Mirroring) -> None:
        self.wanted = wanted
        self.environ = dict(os.environ)
        self.gone = False
        self._runs: list[Mirrored] = []
        self._numbers = itertools.count(1)
        self._waiting: dict[int, queue.SimpleQueue[bool]] = {}
        self._sending = threading.Lock()
        self._moved = 0
        self._heard = time.monotonic()
        self._restarts = Restarts(RESTARTS)
        self._start()

    def _start(self) -> None:
        # Plain numbers, and no file objects: a forked child can let go of them whatever other threads were doing.
        theirs_in, self._requests = os.pipe()
        self._replies, theirs_out = os.pipe()
        try:
            self._child = Child(
                "tracking_core.mirror.server",
                *(str(self.wanted.address), str(self.wanted.interval), str(theirs_out)),
                # Its end tells that this process is gone.
                stdin=theirs_in,
                inherited=[theirs_out],
                environ=self.environ,
            )
        except OSError:
            os.close(self._requests)
            os.close(self._replies)
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        threading.Thread(target=self._listen, args=(self._replies,), name="tracking-mirror", daemon=True).start()

    def serves(self, wanted: Mirroring) -> bool:
        """Whether it can take a run: it has the environment that it was started with."""
        return not self.gone and self.wanted == wanted and self.environ == dict(os.environ)

    @property
    def idle(self) -> bool:
        """Whether it has no runs to look after."""
        return not self._runs

    def close(self) -> None:
        """Let it look at everything a last time, and end."""
        self.gone = True
        os.close(self._requests)

    def open(self, run: Mirrored) -> None:
        """Mirror a run from now on."""
        self._runs.append(run)
        self._send({"do": "open", "run": run.key})

    def finish(self, run: Mirrored, timeout: float) -> bool:
        """Wait until everything of a run is there; False when `timeout` seconds pass without progress."""
        while True:
            begun = self._restarts.count
            done = self._ask_to_finish(run, timeout)
            if done or begun == self._restarts.count or self.gone:
                if run in self._runs:
                    self._runs.remove(run)
                return done

    def _ask_to_finish(self, run: Mirrored, timeout: float) -> bool:
        number = next(self._numbers)
        self._waiting[number] = answer = queue.SimpleQueue[bool]()
        self._send({"do": "finish", "run": run.key, "id": number, "timeout": timeout})
        moved, at = self._moved, time.monotonic()
        # The process itself gives up after that time, and says why.
        patience = timeout + GRACE
        try:
            while not self.gone or not answer.empty():
                now = time.monotonic()
                if self._moved != moved:
                    moved, at = self._moved, now
                left = min(at + patience, max(self._heard, at) + SILENCE + timeout) - now
                if left <= 0:
                    break
                with contextlib.suppress(queue.Empty):
                    return answer.get(timeout=left)
            return False
        finally:
            self._waiting.pop(number, None)

    def _send(self, message: dict[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        # A process that is gone is seen by whoever listens.
        with contextlib.suppress(OSError), self._sending:
            os.write(self._requests, line)

    def _listen(self, replies: int) -> None:
        rest = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(replies, 1 << 16):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    with contextlib.suppress(ValueError, KeyError):
                        self._hear(json.loads(line))
        self._ended()

    def _hear(self, message: dict[str, Any]) -> None:
        self._heard = time.monotonic()
        if "state" in message:
            # A process may have a run open twice.
            for run in tuple(self._runs):
                if run.key == message["run"]:
                    run.hear(message["state"])
        self._moved = message.get("moved", self._moved)
        if "id" in message and (answer := self._waiting.get(message["id"])) is not None:
            answer.put(message["done"])

    def _ended(self) -> None:
        """The process has died: another goes on, which finds out what is there already."""
        self._child.wait(5.0)
        said = self._child.last_words()
        self._child.close()
        if self.gone:
            os.close(self._replies)
            return
        again = self._restarts.again()
        os.close(self._requests)
        os.close(self._replies)
        if again:
            try:
                self._start()
            except OSError:
                again = False
        message = f"the mirror process has ended{f' ({said})' if said else ''}"
        for run in tuple(self._runs):
            run.lost(f"{message}; a new one is started" if again else message, for_good=not again)
            if again:
                self._send({"do": "open", "run": run.key})
        self.gone = not again
        # Whoever waits for an answer asked the one that has died.
        for answer in tuple(self._waiting.values()):
            answer.put(False)

    def let_go(self) -> None:
        """In a forked child: the process must see the end of the training, even if the child lives on."""
        self.gone = True
        for number in (self._requests, self._replies):
            with contextlib.suppress(OSError):
                os.close(number)


_processes = Children[MirrorProcess](MirrorProcess.let_go)


def mirror_process(wanted: Mirroring) -> MirrorProcess:
    """The process that mirrors for this training; a new one when there is none that fits.

    Raises:
        OSError: None can be started.
    """
    with _processes.lock:
        _processes.all[:] = [one for one in _processes.all if not one.gone]
        for one in _processes.all:
            if one.serves(wanted):
                return one
            if one.idle:
                one.close()
        _processes.all.append(MirrorProcess(wanted))
        return _processes.all[-1]
