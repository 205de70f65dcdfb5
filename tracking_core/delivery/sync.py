"""Delivering a run to its targets by hand, from the journal, without its training."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tracking_core.backends.targets import Target
from tracking_core.delivery.cursor import Cursor
from tracking_core.delivery.destinations import Destination
from tracking_core.delivery.ending import closing, lacks
from tracking_core.delivery.progress import waiting
from tracking_core.delivery.report import TargetReport
from tracking_core.delivery.worker import TargetWorker
from tracking_core.errors import LeaseHeldError

PATIENCE = 60.0
"""Seconds that transient errors of a target are waited for, in total."""
LOOK, LONGEST_WAIT = 1.0, 15.0
"""Seconds between two tries while it is waited, and at most."""


def sync_run(
    directory: Path,
    targets: Sequence[Target],
    *,
    status: str,
    note: Callable[[str, str, BaseException | None], None],
    progress: Callable[[str, int], None] = lambda label, done: None,  # noqa: ARG005 - shown nowhere
    anew: bool = True,
    failed: bool = False,
    wait: bool = False,
) -> list[TargetReport]:
    """Deliver the records of a run that its targets do not have.

    Args:
        directory: The run directory.
        targets: The targets; each goes on where its cursor stands.
        status: Status of the run, as the store derives it. The targets of a running one are left open.
        note: Called with (reason, message, error) for what goes wrong.
        progress: Called with (target, records done with) after each batch.
        anew: Whether to open a target that lacks nothing as its cursor says: the backend may lack records all the same.
        failed: Whether to send records that failed before again, after the new ones.
        wait: Whether to wait for other processes that deliver to a target, and for backends that do not answer, however
            long it takes.

    Returns:
        What became of the records, target by target.

    Raises:
        LeaseHeldError: Other processes deliver to all of the targets, and `wait` is not set.
    """
    reports: list[TargetReport] = []
    held: list[LeaseHeldError] = []
    for target in targets:
        again = failed and bool(Cursor.load(directory, target).failed)
        if not anew and not again and not lacks(directory, target, status):
            reports.append(TargetReport(str(target)))
            continue
        try:
            reports.append(_sync_target(directory, target, status, note, progress, failed=failed, wait=wait))
        except LeaseHeldError as error:
            held.append(error)
            reports.append(TargetReport(str(target), pending=waiting(directory, target), last_error=str(error)))
            note("lease", str(error), error)
    if held and len(held) == len(targets):
        raise held[0]
    return reports


def _sync_target(
    directory: Path,
    target: Target,
    status: str,
    note: Callable[[str, str, BaseException | None], None],
    progress: Callable[[str, int], None],
    *,
    failed: bool,
    wait: bool,
) -> TargetReport:
    if failed:
        cursor = Cursor.load(directory, target)
        unknown = cursor.count("failed") - cursor.failed.total
        if unknown > 0:
            note(
                "failed",
                f"{target}: only the count is known of {unknown} failed record{'' if unknown == 1 else 's'}",
                None,
            )
        if not cursor.failed and cursor.opened and not waiting(directory, target, cursor):
            return TargetReport(str(target))
    deadline = time.monotonic() + PATIENCE

    def pause(seconds: float) -> bool:
        time.sleep(max(0.0, min(seconds, deadline - time.monotonic())) if not wait else min(seconds, LONGEST_WAIT))
        return wait or time.monotonic() < deadline

    worker = TargetWorker(
        directory,
        Destination(str(target), target),
        pause=pause,
        note=note,
        waits_for_lease=wait,
        over=f"could not be opened within {PATIENCE:g} s",
    )
    over = status != "running"
    try:
        if worker.open(wait=0.0):
            while worker.deliver(final=over) or (wait and _waits(worker) and pause(LOOK)):
                progress(str(target), worker.progress)
            worker.commit()
            while failed and worker.pending() == 0 and worker.deliver_failed(final=over):
                progress(str(target), worker.progress)
            if over and worker.pending() == 0:
                worker.close(*closing(status))
            else:
                worker.commit()
    finally:
        # The target is not finished: the next worker goes on from the cursor. After Ctrl-C nothing is committed, since
        # the backend may have accepted a part of a batch; it is as after a kill, except that the lease is released.
        worker.release()
    return worker.report()


def _waits(worker: TargetWorker) -> bool:
    """Whether there is something to wait for: a backend that did not take what it is to get."""
    return worker.failure is None and worker.pending() > 0
