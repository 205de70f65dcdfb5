"""Delivery by the thread that logs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tracking_core.delivery.destinations import Destination
from tracking_core.delivery.report import Note, TargetReport
from tracking_core.delivery.worker import TargetWorker


class InlineDelivery:
    """Delivers on the thread that logs, for tests and debugging. Training waits for it."""

    def __init__(
        self, directory: Path, destinations: Sequence[Destination], note: Note, on_open: Callable[[], None]
    ) -> None:
        self._workers = [
            TargetWorker(directory, destination, pause=self._no_pause, note=note, comes_back=True)
            for destination in destinations
        ]
        self._on_open = on_open
        self._busy = False
        for worker in self._workers:
            self._is_open(worker)

    def _is_open(self, worker: TargetWorker) -> bool:
        """Whether a target is open; opening is retried after its backoff."""
        if worker.tracker is None and worker.open(wait=0.0):
            self._on_open()
        return worker.tracker is not None

    @staticmethod
    def _no_pause(seconds: float) -> bool:  # noqa: ARG004 - the worker's signature
        # Waiting would hold up the loop: records that are to be sent later stay in the journal until the next call.
        return False

    def recorded(self) -> None:
        """Deliver what was just recorded."""
        if self._busy:
            return
        self._busy = True
        try:
            for worker in self._workers:
                while self._is_open(worker) and worker.deliver():
                    pass
        finally:
            self._busy = False

    def await_open(self, timeout: float) -> list[str]:  # noqa: ARG002 - as ThreadDelivery has it
        """The reasons of targets that are not open."""
        return [
            f"{worker.destination.label} {worker.failure or worker.last_error or 'is not open yet'}"
            for worker in self._workers
            if worker.tracker is None
        ]

    def tracker(self, label: str, timeout: float = 60.0) -> Any:  # noqa: ARG002 - as ThreadDelivery has it
        """The open tracker of a target, by label or adapter name; None when there is none."""
        for worker in self._workers:
            if label in {worker.destination.label, worker.destination.target.name}:
                return worker.tracker
        return None

    def open_trackers(self) -> list[tuple[str, Any]]:
        """(label, tracker) of those targets that are open now."""
        return [(w.destination.label, w.tracker) for w in self._workers if w.tracker is not None]

    def flush(self, timeout: float | None) -> None:  # noqa: ARG002 - as ThreadDelivery has it
        """Deliver and confirm what was recorded."""
        self.recorded()
        for worker in self._workers:
            worker.commit()

    def finish(self, status: str, error: str | None, timeout: float) -> None:
        """Deliver what is left and finish the targets."""
        self.flush(timeout)
        for worker in self._workers:
            worker.close(status, error)
            # A target that could not be opened yet still holds its lease.
            worker.release()

    def reports(self) -> list[TargetReport]:
        """What became of the records, target by target."""
        return [worker.report() for worker in self._workers]
