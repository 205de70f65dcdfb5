"""Compaction in a process of its own, so that the training neither imports pyarrow nor waits for it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from tracking_core.environment.machine import import_path

WORTH = 256 << 10
"""Bytes of journals from which on a run is compacted when it ends. What describes its surroundings may take 100 KB."""
PATIENCE = 30.0
"""Seconds that the end of a run waits for it."""


class Compactor:
    """A process that compacts one run. It ends when this process does.

    Args:
        directory: The run directory.
        over: Whether the run has ended.
    """

    def __init__(self, directory: Path, *, over: bool = False) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it has ended
        # Without -P the working directory would come first, and a json.py in it would be imported.
        command = [sys.executable, "-P", "-m", "tracking_core.compaction.compaction", str(directory.absolute())]
        self._process = subprocess.Popen(
            [*command, *(["--over"] if over else [])],
            # Its end tells that this process is gone.
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            # Ctrl-C is for the training; the same session, since priorities are compared within one.
            process_group=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(import_path())},
        )

    def ended(self) -> str | None:
        """None while it runs; then what went wrong, or ""."""
        code = self._process.poll()
        if code is None:
            return None
        if code == 0:
            self._close()
            return ""
        self._said.seek(0)
        said = self._said.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
        self._close()
        return said or f"its process ended with {code}"

    def wait(self, timeout: float) -> str:
        """Wait for its end, or stop it; what went wrong, or ""."""
        deadline = time.monotonic() + timeout
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        problem = self.ended()
        if problem is None:
            self.stop()
            return f"it took longer than {timeout:g} s"
        return problem

    def stop(self) -> None:
        """End it: it can be killed at any time."""
        if self._process.poll() is None:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5.0)
        self._close()

    def _close(self) -> None:
        self._said.close()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()


def is_possible() -> bool:
    """Whether pyarrow is installed; it is not imported."""
    try:
        return find_spec("pyarrow") is not None
    except (ImportError, ValueError):
        return False


def compact_at_end(directory: Path) -> str:
    """Compact a run that has just ended, when it is worth it; what went wrong, or ""."""
    try:
        size = sum(entry.stat().st_size for entry in os.scandir(directory / "journal"))
        if size < WORTH or not is_possible():
            return ""
        return Compactor(directory, over=True).wait(PATIENCE)
    except OSError as error:
        return str(error)
