"""The interface between a run and the delivery of its records."""

from __future__ import annotations

from typing import Any, Protocol

from tracking_core.delivery.report import TargetReport


class Delivery(Protocol):
    """Delivers the records of one run: from a process, from threads, or on the thread that logs."""

    def recorded(self) -> None:
        """Something was recorded."""

    def await_open(self, timeout: float) -> list[str]:
        """Wait until every target is open; returns the reasons of those that are not."""
        ...

    def tracker(self, label: str, timeout: float = 60.0) -> Any:
        """The open tracker of a target; None when there is none in this process."""

    def open_trackers(self) -> list[tuple[str, Any]]:
        """(label, tracker or what is known of it) of those targets that are open now."""
        ...

    def flush(self, timeout: float | None) -> None:
        """Wait until everything recorded so far is delivered and confirmed, or `timeout` passes without progress."""

    def finish(self, status: str, error: str | None, timeout: float) -> None:
        """Deliver what is left and finish the targets; gives up on one after `timeout` seconds without progress."""

    def reports(self) -> list[TargetReport]:
        """What became of the records, target by target."""
        ...
