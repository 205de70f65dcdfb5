"""A real TensorBoard on the loopback interface, asked over HTTP."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

DEADLINE = 60.0


class TensorBoardServer:
    """A TensorBoard over a log directory; it ends with this process.

    Args:
        log_directory: What `--logdir` is given.
        fast: Whether runs are loaded by the data server (TensorBoard's default on Linux) or by Python.
    """

    def __init__(self, log_directory: Path, *, fast: bool = False) -> None:
        from tensorboard import program

        self._program = program.TensorBoard()
        self._program.configure(
            argv=[
                "",
                *("--logdir", str(log_directory)),
                *("--host", "127.0.0.1", "--port", "0"),
                *("--load_fast", "true" if fast else "false"),
                *("--reload_interval", "1"),
                *("--samples_per_plugin", "scalars=0,images=0,histograms=0,text=0,audio=0"),
            ][: None if not fast else -2]
        )
        self.url = self._program.launch().rstrip("/")

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
        while True:
            tags = self.plugin(plugin, "tags")
            if tag in tags.get(run, ()):
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"TensorBoard has no {tag!r} of run {run!r} after {DEADLINE:g} s: {tags!r:.500}")
            time.sleep(0.05)
