"""Removing runs from the store, so that each is there or is not, wherever it is interrupted.

A tombstone is written, `<project>/.removed/<run_id>.json`; the directory is moved beside it, and is no run from then
on; then it is deleted. What an interruption leaves there is deleted by the next removal in that project. Contents of
artifacts belong to the whole root and stay.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from tracking_core.cli.delivered import Delivery, deliveries, delivering
from tracking_core.errors import StoreError
from tracking_core.layout import dump_json, project_directories, replace_file
from tracking_core.store import RunRecord

REMOVED = ".removed"
"""Directory of the tombstones in a project."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run that may be removed.

    Args:
        record: The run.
        status: Its status; None where its journal cannot be read.
        size: Bytes of all its files.
        deliveries: How far its targets have come.
    """

    record: RunRecord
    status: str | None
    size: int
    deliveries: tuple[Delivery, ...]

    @property
    def busy(self) -> str | None:
        """What still goes on with it; None when nothing does."""
        if self.status == "running":
            return "is running"
        if self.status is None:
            return "cannot be read"
        owner = delivering(self.record.dir)
        return None if owner is None else f"is being delivered to {owner}"

    @property
    def pending(self) -> dict[str, int]:
        """Records that a target has not had yet, by target."""
        return {one.target: one.pending for one in self.deliveries if one.pending}


def look(record: RunRecord) -> Candidate:
    """What there is to know before a run is removed."""
    try:
        status = record.status
    except StoreError:
        status = None
    return Candidate(record, status, size_of(record.dir), tuple(deliveries(record)))


def remove(candidate: Candidate) -> Path:
    """Remove a run.

    Returns:
        The tombstone.

    Raises:
        OSError: It cannot be moved or deleted.
    """
    record = candidate.record
    folder = record.dir.parent / REMOVED
    folder.mkdir(exist_ok=True)
    _sweep(folder)
    tombstone = folder / f"{record.dir.name}.json"
    content = {
        "v": 1,
        "id": record.id,
        "name": record.name,
        "project": record.project,
        "status": candidate.status,
        "started": record.started,
        "targets": list(record.targets),
        "removed": round(time.time(), 6),
    }
    replace_file(tombstone, dump_json(content))
    aside = folder / f"{record.dir.name}.{secrets.token_hex(6)}"
    record.dir.rename(aside)
    try:
        shutil.rmtree(aside)
    except FileNotFoundError:
        # Somebody else who removes a run here clears it away as well.
        shutil.rmtree(aside, ignore_errors=True)
    return tombstone


def tombstone_of(root: Path, run_id: str) -> Path | None:
    """The tombstone of a run that was removed."""
    if Path(run_id).name != run_id:
        return None
    paths = (project / REMOVED / f"{run_id}.json" for project in project_directories(root))
    with contextlib.suppress(OSError, ValueError):
        return next((path for path in paths if path.is_file()), None)
    return None


def size_of(directory: Path) -> int:
    """Bytes of all files below a directory, as far as they can be seen."""
    total = 0
    for folder, _, files in os.walk(directory):
        for name in files:
            with contextlib.suppress(OSError):
                total += Path(folder, name).lstat().st_size
    return total


def _sweep(folder: Path) -> None:
    for left in folder.iterdir():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
