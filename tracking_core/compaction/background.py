"""Compaction in a process of its own, so that the training neither imports pyarrow nor waits for it."""

from __future__ import annotations

import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

from tracking_core.base.children import Child

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
        self._child = Child(
            "tracking_core.compaction.compaction",
            str(directory.absolute()),
            *(["--over"] if over else []),
            # Its end tells that this process is gone.
            stdin=subprocess.PIPE,
        )

    def ended(self) -> str | None:
        """None while it runs; then what went wrong, or ""."""
        code = self._child.code()
        if code is None:
            return None
        said = "" if code == 0 else self._child.last_words() or f"its process ended with {code}"
        self._child.close()
        return said

    def wait(self, timeout: float) -> str:
        """Wait for its end, or stop it; what went wrong, or ""."""
        self._child.wait(timeout)
        problem = self.ended()
        if problem is None:
            self.stop()
            return f"it took longer than {timeout:g} s"
        return problem

    def stop(self) -> None:
        """End it: it can be killed at any time."""
        self._child.kill()
        self._child.wait(5.0)
        self._child.close()


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
