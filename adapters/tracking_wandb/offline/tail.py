"""Following the transaction log of a run that is being written: what has reached the disk."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tracking_wandb.offline.transaction_log import LogFormatError, TransactionLog

_PAUSES = (0.005, 0.01, 0.02, 0.05)
"""Seconds between two looks; the last one is repeated."""


class LogTail:
    """Waits until something stands in a transaction log. Each look reads what was added since the last one.

    Args:
        path: The `run-<id>.wandb` file; it may be yet to come.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._last_step = -1
        self._ended = False

    def __str__(self) -> str:
        return f"row {self._last_step} (byte {self._offset})"

    def await_row(self, step: int, seconds: float) -> bool:
        """Whether the row of the client's step `step` is there, within some seconds."""
        return self._await(lambda: self._last_step >= step or self._ended, seconds)

    def await_end(self, seconds: float) -> bool:
        """Whether the record of the run's end is there, within some seconds."""
        return self._await(lambda: self._ended, seconds)

    def _await(self, done: Any, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        tries = 0
        while not done():
            self._read()
            if done():
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
            tries += 1
        return True

    def _read(self) -> None:
        log = TransactionLog(self.path, start=self._offset)
        try:
            for record in log:
                kind = record.WhichOneof("record_type")
                if kind == "history":
                    self._last_step = max(self._last_step, int(record.history.step.num))
                elif kind == "exit":
                    self._ended = True
        except (FileNotFoundError, LogFormatError):
            return
        self._offset = log.end.offset
