"""The process that uploads: one of low priority for a training process, for all of its runs.

`python -m tracking_core.mirror.server ADDRESS INTERVAL FD` reads requests from stdin and writes answers to FD, both
lines of JSON. It imports neither the training's main module nor JAX, and ignores SIGINT. The end of stdin is the end of
the training: then it looks once more at every run, for a minute at most, and goes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tracking_core.mirror.uploader import RunUploader
from tracking_core.remote.address import Mirroring, parse_address
from tracking_core.remote.objects import Objects, open_objects

NICE = 10
"""A round takes tens of milliseconds; at the lowest priority, beside a few busy threads a core, half a minute."""
AT_ONCE = 8
"""Uploads at a time."""
LAST = 60.0
"""Seconds that the last look may take when the training is gone."""
TICK = 1.0
"""Seconds between two signs of life."""
AFTER = 300.0
"""Seconds that a finished run is looked after: compaction may still be going on."""
LONGEST = 60.0
"""Seconds between two rounds at most, when rounds fail and the interval is shorter."""


class _Run:
    """A run that is looked after."""

    def __init__(self, uploader: RunUploader) -> None:
        self.uploader = uploader
        self.due = 0.0
        self.failures = 0
        self.users = 0
        self.over: float | None = None
        self.busy = threading.Lock()


class Server:
    """Serves one training process.

    Args:
        mirroring: The mirror.
        objects: Its objects.
        answers: Where answers go.
    """

    def __init__(self, mirroring: Mirroring, objects: Objects, answers: int) -> None:
        self._mirroring = mirroring
        self._objects = objects
        self._answers = answers
        self._lines = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="lines")
        self._bulk = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="bulk")
        self._runs: dict[str, _Run] = {}
        self._wake = threading.Event()
        self._sending = threading.Lock()
        self._bytes = 0
        self._ended = threading.Event()

    def serve(self) -> None:
        """Answer requests until the training is gone, then look at everything a last time."""
        for work in (self._work, self._beat, self._tick):
            threading.Thread(target=work, daemon=True).start()
        with contextlib.suppress(OSError, ValueError), os.fdopen(0, "rb", buffering=0) as requests:
            for line in requests:
                self._take(json.loads(line))
        self.end()

    def end(self) -> None:
        """Look at every run a last time."""
        self._ended.set()
        threading.Timer(LAST, os._exit, [0]).start()
        for run in list(self._runs.values()):
            self._until_done(run, time.monotonic() + LAST)
            run.uploader.release()

    def _take(self, request: dict[str, Any]) -> None:
        key = request["run"]
        if request["do"] == "open":
            run = self._runs.get(key)
            if run is None:
                uploader = RunUploader(Path(key), self._mirroring, self._objects, self._lines, self._bulk, self._count)
                run = self._runs[key] = _Run(uploader)
            run.users += 1
            run.due, run.over = 0.0, None
            self._wake.set()
        elif request["do"] == "finish":
            threading.Thread(target=self._finish, args=(request,), daemon=True).start()

    def _finish(self, request: dict[str, Any]) -> None:
        """Upload until nothing is left, or nothing has moved for too long."""
        run = self._runs[request["run"]]
        run.users -= 1
        if not run.users:
            run.over = time.monotonic()
        done = self._until_done(run, None, request["timeout"])
        if run.over is not None:
            run.uploader.release()
        self._say({"run": request["run"], "state": run.uploader.state.__dict__})
        self._say({"id": request["id"], "done": done})

    def _until_done(self, run: _Run, deadline: float | None, patience: float = LAST) -> bool:
        moved, at, pause = self._bytes, time.monotonic(), 0.2
        while not self._round(run, last=True):
            now = time.monotonic()
            if self._bytes != moved:
                moved, at, pause = self._bytes, now, 0.2
            if now - at >= patience or (deadline is not None and now >= deadline):
                return False
            time.sleep(min(pause, max(0.0, at + patience - now)))
            pause = min(2 * pause, 5.0)
        return True

    def _round(self, run: _Run, *, last: bool = False) -> bool:
        with run.busy:
            done = run.uploader.round(last=last or run.over is not None)
        self._say({"run": str(run.uploader.directory), "state": run.uploader.state.__dict__})
        return done

    def _work(self) -> None:
        while not self._ended.is_set():
            due = min((run.due for run in self._runs.values()), default=time.monotonic() + 3600.0)
            self._wake.wait(max(0.0, due - time.monotonic()))
            self._wake.clear()
            for key, run in list(self._runs.items()):
                if run.due <= time.monotonic() and not self._ended.is_set():
                    self._round_in_turn(key, run)

    def _round_in_turn(self, key: str, run: _Run) -> None:
        """Upload what is new of a run, and say when that is done again: an interval after this began."""
        began = time.monotonic()
        done = self._round(run)
        run.failures = 0 if done else run.failures + 1
        again = self._mirroring.interval
        if not done:
            # A failed round is repeated sooner, and ever more rarely.
            again = min(2.0 ** min(run.failures, 10), max(again, LONGEST))
        run.due = began + again
        if run.over is not None and began - run.over > AFTER:
            self._runs.pop(key, None)

    def _beat(self) -> None:
        """Keep heartbeats going while a round takes long."""
        while not self._ended.wait(self._mirroring.interval):
            for run in list(self._runs.values()):
                if run.over is None:
                    # The rounds say what is wrong.
                    with contextlib.suppress(Exception):
                        run.uploader.beat()

    def _tick(self) -> None:
        while True:
            self._say({"moved": self._bytes})
            time.sleep(TICK)

    def _count(self, count: int) -> None:
        self._bytes += count

    def _say(self, message: dict[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        # A training that is gone is seen by the main thread as well.
        with contextlib.suppress(OSError), self._sending:
            while True:
                try:
                    # So short that it goes out as a whole or not at all.
                    os.write(self._answers, line)
                except BlockingIOError:
                    # A training that is stopped, or a child of it that lives on, must not stop uploads.
                    if "id" in message:
                        time.sleep(0.1)
                        continue
                break


def main() -> None:
    """Serve the training at the other end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    address = parse_address(sys.argv[1], origin="the mirror")
    # Opened first: at a low priority importing takes long on a busy machine.
    objects = open_objects(address)
    with contextlib.suppress(Exception):
        objects.find("run.json")
    _lower()
    os.set_blocking(int(sys.argv[3]), False)
    server = Server(Mirroring(address, float(sys.argv[2])), objects, int(sys.argv[3]))

    def terminate(*_: object) -> None:
        def go() -> None:
            server.end()
            os._exit(0)

        threading.Thread(target=go, daemon=True).start()

    signal.signal(signal.SIGTERM, terminate)
    server.serve()
    os._exit(0)


def _lower() -> None:
    """Take a low priority, with all threads that clients have started."""
    tasks = [0]
    with contextlib.suppress(OSError):
        tasks += [int(task.name) for task in Path("/proc/self/task").iterdir()]
    for task in tasks:
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, task, NICE)


if __name__ == "__main__":
    main()
