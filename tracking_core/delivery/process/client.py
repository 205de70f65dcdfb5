"""The deliverer process as the training sees it: started once for all runs, and talked to over a socket."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import os
import queue
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any, Protocol

from tracking_core.base.children import Child, Children, import_path
from tracking_core.base.latch import Latch

PATIENCE = 6.0
"""Seconds that the deliverer may keep silent before one looks whether it was stopped: while it owes an answer, it says
every second that it lives."""
GLANCE = 1.0
"""The same, for questions that a training asks on its way."""
STARVED = 60.0
"""Seconds that it may keep silent where it was not stopped, as on a machine that is too busy to let it run."""


class Listener(Protocol):
    """A run that a deliverer serves."""

    def hear(self, message: dict[str, Any]) -> None:
        """Take what the deliverer says on its own."""

    def lost(self, process: Deliverer) -> None:
        """The deliverer has died."""


class Deliverer:
    """The process, and what it has said."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        number = theirs.fileno()
        try:
            self._child = Child("tracking_core.delivery.process.server", str(number), inherited=[number])
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self.process = self._child.process
        # A deliverer that is stopped must not stop whoever talks to it. This counts for sending alone.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(PATIENCE), 0))
        self._socket = ours
        self._sending = threading.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, queue.SimpleQueue[dict[str, Any] | None]] = {}
        self._runs: dict[str, Listener] = {}
        self.gone = False
        """Whether the process has ended, or the socket was closed."""
        self._closing = False
        self.ended = Latch()
        """Set when the process has ended, and `last_words` is known."""
        self.last_words = ""
        """What it said last on its standard error, once it has ended."""
        self._heard = time.monotonic()
        self._environ: dict[str, str] | None = None
        self._owner = os.getpid()
        threading.Thread(target=self._listen, name="tracking-deliverer", daemon=True).start()

    def attach(self, key: str, delivery: Listener) -> None:
        """Pass what is said about a run on to it."""
        self._runs[key] = delivery

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return not self.gone and self.process.poll() is None

    @property
    def runs(self) -> int:
        """How many runs it serves."""
        return len(self._runs)

    def detach(self, key: str) -> None:
        """A run has ended; the process ends with the last of them at exit."""
        self._runs.pop(key, None)

    def send(self, message: dict[str, Any]) -> bool:
        """Send a message; False when the process is gone."""
        try:
            with self._sending:
                self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self.gone = True
        return not self.gone

    def open(self, key: str, directory: Path, targets: list[list[Any]]) -> None:
        """Ask it to deliver a run to targets: label, canonical form, and whether this account named it, of each."""
        environ = dict(os.environ)
        self.send(
            {
                "do": "open",
                "run": key,
                "dir": str(directory),
                # What may have changed since the process was started, and decides how a backend opens.
                "path": import_path(),
                "env": environ if environ != self._environ else None,
                "targets": targets,
            }
        )
        self._environ = environ

    def ask(self, message: dict[str, Any], silence: float) -> dict[str, Any] | None:
        """Send a request and wait for its answer.

        Args:
            message: The request.
            silence: For how many seconds nothing may be heard.

        Returns:
            The answer; None when the process kept silent, or is gone.
        """
        number = next(self._numbers)
        asked = time.monotonic()
        self._waiting[number] = answer = queue.SimpleQueue[dict[str, Any] | None]()
        try:
            if not self.send({**message, "id": number}):
                return None
            while not self.gone or not answer.empty():
                quiet = time.monotonic() - max(self._heard, asked)
                if quiet >= silence and (silence < PATIENCE or quiet >= STARVED or self.is_stopped()):
                    return None
                with contextlib.suppress(queue.Empty):
                    return answer.get(timeout=max(silence - quiet, GLANCE / 4))
            return None
        finally:
            self._waiting.pop(number, None)

    def is_stopped(self) -> bool:
        """Whether the process was stopped, as by SIGSTOP; also where the system does not tell."""
        try:
            stat = Path(f"/proc/{self.process.pid}/stat").read_bytes()
        except OSError:
            return True
        return stat.rpartition(b")")[2].split()[0] in {b"T", b"t"}

    def close(self) -> None:
        """Let the process end, and wait for it a moment."""
        if self._owner != os.getpid():
            return
        self._closing = True
        self.send({"do": "bye"})
        if self._child.wait(PATIENCE) is None:
            self._child.kill()
            self.process.wait()
        self._socket.close()

    def let_go(self) -> None:
        """In a forked child: the deliverer must see the end of the training, even if the child lives on."""
        self.gone = True
        # The reader of the thread that is not here keeps `close` from closing.
        number = self._socket.detach()
        if number >= 0:
            os.close(number)

    def _listen(self) -> None:
        try:
            with self._socket.makefile("r", encoding="utf-8") as lines:
                for line in lines:
                    message = json.loads(line)
                    self._heard = time.monotonic()
                    if "id" in message:
                        if (answer := self._waiting.get(message["id"])) is not None:
                            answer.put(message)
                    elif message.get("run") in self._runs:
                        self._runs[message["run"]].hear(message)
        except (OSError, ValueError):
            pass
        finally:
            self.gone = True
            for answer in tuple(self._waiting.values()):
                answer.put(None)
            self._socket.close()
            if not self._closing:
                self._child.wait(PATIENCE)
            self.last_words = self._child.last_words()
            self._child.close()
            self.ended.set()
            for delivery in tuple(self._runs.values()) if not self._closing else ():
                delivery.lost(self)


_shared: Deliverer | None = None
_deliverers = Children[Deliverer](Deliverer.let_go)


def deliverer(*, alone: bool = False) -> Deliverer:
    """The deliverer of this process; a new one when there is none, or it has died.

    Args:
        alone: Whether to start one that serves nobody else.
    """
    global _shared  # noqa: PLW0603 - one for the process
    with _deliverers.lock:
        _deliverers.all[:] = [one for one in _deliverers.all if one.is_alive]
        if not alone and _shared is not None and _shared.is_alive:
            return _shared
        made = Deliverer()
        _deliverers.all.append(made)
        if not alone:
            _shared = made
        atexit.unregister(_close)
        atexit.register(_close)
        return made


def _close() -> None:
    for one in tuple(_deliverers.all):
        one.close()
