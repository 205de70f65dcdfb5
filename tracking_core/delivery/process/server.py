"""The deliverer: one low-priority process that serves all runs of the training process that started it.

`python -m tracking_core.delivery.process.server FD` gets one end of a socket. Requests and answers are lines of JSON.
It imports neither the training's main module nor JAX, ignores SIGINT, takes SIGTERM as "drain and go", and sees the
death of the training as the end of the socket: then it delivers what is in the journals for a while, and goes. A run
that nobody goes on with is ended as failed at those backends that have all of it; in the journal nothing is written.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tracking_core.backends.plugins import forget_adapters
from tracking_core.backends.targets import parse_target
from tracking_core.base.redaction import redact_text
from tracking_core.delivery import scratch
from tracking_core.delivery.destinations import Destination
from tracking_core.delivery.ending import broke_off, closing
from tracking_core.delivery.process.priority import (
    HURRY,
    NICE,
    PREFIX,
    lower_backends,
    lower_client_threads,
    set_priority,
)
from tracking_core.delivery.threads import ThreadDelivery
from tracking_core.errors import TrackingError

DRAIN = 60.0
"""Seconds that journals are delivered after the training has died."""
DEATH, ENDING = 5.0, 20.0
"""Seconds that a training which has closed its end of the socket may take to die; and that a backend then has to end a
run without any progress."""
FEW = 16
"""Records in a batch at the lowest priority: on a busy machine one takes seconds, and whoever goes on waits for it."""
LAG = 30.0
"""Seconds of lag from which a target is delivered to at a higher priority."""
WATCH = 1.0
"""Seconds between two looks at what backends ask for, and between two signs of life while the training waits."""


class Server:
    """Answers one training process.

    Args:
        connection: Its socket.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._runs: dict[str, ThreadDelivery] = {}
        self._lock = threading.Lock()
        self._said: dict[str, Any] = {}
        self._hurried: set[str] = set()
        self._asked = 0
        self._pace = threading.Lock()
        """Held while the priority of lanes is decided."""
        self._awaited: Counter[str] = Counter()
        """How many requests are there of each run that the training waits for."""
        self._environ: dict[str, str] = {}
        self._over = False

    def serve(self) -> None:
        """Answer requests until the training closes the socket, or dies."""
        _raise_file_limit()
        threading.Thread(target=self._watch, name=f"{PREFIX}watch", daemon=True).start()
        try:
            self._serve()
        finally:
            self._over = True

    def _serve(self) -> None:
        for request in self._requests():
            if request["do"] == "open":
                # In order with what follows; opening itself happens on the lanes' threads.
                self._open(request)
            elif request["do"] == "bye":
                return
            else:
                with self._lock:
                    self._asked += 1
                threading.Thread(target=self._answer, args=(request,), name=f"{PREFIX}answer", daemon=True).start()
        self.drain(orphaned=True)

    def _requests(self) -> Iterator[dict[str, Any]]:
        """What the training asks for, until it has closed the socket.

        One that is killed may do so in the middle of a line; and where it had not read all that was said to it, the
        end shows as an error.
        """
        with self._connection.makefile("r", encoding="utf-8") as lines:
            try:
                for line in lines:
                    yield json.loads(line)
            except (OSError, ValueError):
                return

    def drain(self, *, orphaned: bool = False) -> None:
        """Deliver what is in the journals, for as long as it moves and at most for `DRAIN` seconds; see to the ends.

        Args:
            orphaned: Whether the training has closed the socket, and so is dead, or soon will be.
        """
        deadline = time.monotonic() + DRAIN
        for delivery in list(self._runs.values()):
            delivery.flush(max(0.0, deadline - time.monotonic()))
        # Its files are closed a moment before its process is gone.
        until = time.monotonic() + (DEATH if orphaned else 0.0)
        for delivery in list(self._runs.values()):
            with contextlib.suppress(TrackingError, OSError):
                while not (broken := broke_off(delivery.directory)) and time.monotonic() < until:
                    time.sleep(0.05)
                if broken:
                    delivery.conclude(*closing("crashed"), ENDING)

    def _open(self, request: dict[str, Any]) -> None:
        run = request["run"]
        # Sent again only when it has changed.
        self._environ = request["env"] or self._environ
        _follow(request["path"], self._environ)

        def note(reason: str, message: str, error: BaseException | None) -> None:
            text = None if error is None else redact_text(f"{type(error).__name__}: {error}")
            self._send({"run": run, "note": [reason, redact_text(message), text]})

        def on_open() -> None:
            with self._pace:
                if not self._awaited[run]:
                    set_priority(NICE)
            lower_backends()
            self._send({"run": run, "opened": True})

        destinations = [
            Destination(label, replace(parse_target(target), named=named))
            for label, target, named in request["targets"]
        ]
        delivery = ThreadDelivery(Path(request["dir"]), destinations, note, on_open)
        delivery.batch = FEW
        with self._lock:
            self._runs[run] = delivery

    def _answer(self, request: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"id": request["id"]}
        try:
            with self._lock:
                delivery = self._runs[request["run"]]
            if request["do"] == "flush":
                with self._at_once(request["run"], delivery):
                    delivery.flush(request["timeout"])
            elif request["do"] == "finish":
                with self._at_once(request["run"], delivery):
                    delivery.finish(request["status"], request["error"], request["timeout"])
                with self._lock:
                    self._runs.pop(request["run"], None)
            elif request["do"] == "await_open":
                answer["closed"] = delivery.await_open(request["timeout"])
            answer["reports"] = [asdict(report) for report in delivery.reports()]
            answer["facts"] = facts(delivery)
        except BaseException as error:  # noqa: BLE001 - the training must get an answer, whatever happened
            answer["failed"] = redact_text(f"{type(error).__name__}: {error}")
        with self._lock:
            self._asked -= 1
        self._send(answer)

    @contextlib.contextmanager
    def _at_once(self, run: str, delivery: ThreadDelivery) -> Generator[None]:
        """Deliver at the priority of the calling thread, which was never lowered, while the training waits."""
        with self._pace:
            self._awaited[run] += 1
            if self._awaited[run] == 1:
                delivery.move()
                delivery.batch = None
        try:
            yield
        finally:
            with self._pace:
                self._awaited[run] -= 1
                if not self._awaited[run]:
                    del self._awaited[run]
                    delivery.batch = FEW
                    for task in delivery.tasks():
                        set_priority(NICE, task)
                    self._hurried.discard(run)
            lower_client_threads()

    def _watch(self) -> None:
        """Say that the process lives, and when a backend has an address or asks to stop; hurry those that lag."""
        while not self._over:
            time.sleep(WATCH)
            if self._asked:
                self._send({"alive": True})
            with self._lock:
                runs = dict(self._runs)
            for run, delivery in runs.items():
                now = facts(delivery)
                if now != self._said.get(run):
                    self._said[run] = now
                    self._send({"run": run, "facts": now})
                if run not in self._hurried and any(report_lag > LAG for report_lag in delivery.lags()):
                    with self._pace:
                        if not self._awaited[run]:
                            # From this thread, whose priority was never lowered: a thread cannot raise its own.
                            self._hurried.add(run)
                            delivery.move(LAG, lambda: set_priority(HURRY))

    def _send(self, message: dict[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        try:
            with self._sending:
                self._connection.sendall(line)
        except OSError:
            # The training is gone; the main thread sees that as well.
            return


def _follow(path: list[str], environ: dict[str, str]) -> None:
    """Find what the training finds, and open backends as it would: with its import path and its environment."""
    new = [entry for entry in path if entry not in sys.path]
    if new:
        sys.path.extend(new)
        importlib.invalidate_caches()
        forget_adapters()
    for name in set(os.environ) - set(environ):
        del os.environ[name]
    os.environ.update(environ)


def facts(delivery: ThreadDelivery) -> dict[str, dict[str, Any]]:
    """What the training may want to know of each open backend: its address, and whether it asks to stop."""
    found: dict[str, dict[str, Any]] = {}
    for label, tracker in delivery.open_trackers():
        address = getattr(tracker, "url", None)
        stop = getattr(tracker, "should_stop", False) is True
        found[label] = {"url": address if isinstance(address, str) else None, "should_stop": stop}
    return found


def _raise_file_limit() -> None:
    """Allow as many open files as the system lets this process have: each open run takes a few."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    """Serve the training at the other end of the socket whose number is the argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    scratch.begin()
    server = Server(socket.socket(fileno=int(sys.argv[1])))
    asked = threading.Event()

    def terminate(*_: object) -> None:
        if not asked.is_set():
            asked.set()
            threading.Thread(target=_drain_and_go, args=(server,), daemon=True).start()

    signal.signal(signal.SIGTERM, terminate)
    server.serve()
    _go()


def _drain_and_go(server: Server) -> None:
    server.drain()
    _go()


def _go() -> None:
    scratch.end()
    # Not through exit handlers: a backend's own would mark runs as finished that nobody has finished.
    os._exit(0)


if __name__ == "__main__":
    main()
