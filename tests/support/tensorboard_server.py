"""A real TensorBoard on the loopback interface, asked over HTTP."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEADLINE = 60.0


class TensorBoardServer:
    """A TensorBoard that answers at an address."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def get(self, path: str, **query: str) -> bytes:
        """The body of the answer to a request."""
        address = f"{self.url}/data/{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        with urllib.request.urlopen(address, timeout=DEADLINE) as answer:
            return answer.read()

    def json(self, path: str, **query: str) -> Any:
        """The answer to a request, decoded. JSON has no NaN: TensorBoard sends text in its place."""
        return json.loads(self.get(path, **query))

    def post(self, path: str, content: Any) -> Any:
        """The answer to a request that carries JSON."""
        request = urllib.request.Request(
            f"{self.url}/data/{path}", json.dumps(content).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            return json.loads(answer.read())

    def plugin(self, name: str, route: str, **query: str) -> Any:
        """The answer of a plugin."""
        return self.json(f"plugin/{name}/{route}", **query)

    def wait_for(self, run: str, tag: str, plugin: str = "scalars") -> None:
        """Return when TensorBoard has loaded a tag of a run."""
        deadline = time.monotonic() + DEADLINE
        while tag not in (tags := self.plugin(plugin, "tags")).get(run, ()):
            if time.monotonic() > deadline:
                raise AssertionError(f"TensorBoard has no {tag!r} of run {run!r} after {DEADLINE:g} s: {tags!r:.500}")
            time.sleep(0.05)


def in_process(log_directory: Path) -> TensorBoardServer:
    """A TensorBoard in this process, which loads runs with Python; it ends with the process."""
    from tensorboard import program

    board = program.TensorBoard()
    board.configure(argv=["", *_arguments(log_directory), "--load_fast", "false"])
    return TensorBoardServer(board.launch())


@contextlib.contextmanager
def fast(log_directory: Path, scratch: Path) -> Iterator[TensorBoardServer]:
    """A TensorBoard in a process of its own, which loads runs with the data server, as it does by default on Linux."""
    log = scratch / "tensorboard.log"
    command = [sys.executable, "-m", "tensorboard.main", *_arguments(log_directory), "--load_fast", "true"]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            deadline = time.monotonic() + DEADLINE
            while not (found := re.search(r" at (http://127\.0\.0\.1:\d+/)", log.read_text(errors="replace"))):
                assert process.poll() is None, log.read_text(errors="replace")
                assert time.monotonic() < deadline, log.read_text(errors="replace")
                time.sleep(0.05)
            yield TensorBoardServer(found[1])
        finally:
            process.terminate()


def _arguments(log_directory: Path) -> list[str]:
    return [
        *("--logdir", str(log_directory)),
        *("--host", "127.0.0.1", "--port", "0"),
        *("--reload_interval", "1"),
        *("--samples_per_plugin", "scalars=10000,images=10000,histograms=10000"),
    ]
