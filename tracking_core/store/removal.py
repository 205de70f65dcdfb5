"""Removing runs from the store, so that each is there or is not, wherever it is interrupted.

A tombstone is written, `<project>/.removed/<run_id>.json`; the directory is moved beside it, and is no run from then
on; then it is deleted. What an interruption leaves there is deleted by the next removal in that project: directories
of the names that are given here and whose tombstones are there. No link is followed. Contents of artifacts belong to
the whole root and stay.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tracking_core.base import trees
from tracking_core.base.files import replace_file
from tracking_core.base.json_text import dump_json
from tracking_core.delivery.progress import TargetProgress, delivering
from tracking_core.errors import RunBusyError, StoreError
from tracking_core.layout.runs import REMOVED
from tracking_core.store.records import RunRecord

_ASIDE = re.compile(r"(?P<run>[A-Za-z0-9][A-Za-z0-9._-]*)\.[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Removed:
    """A run that was removed, or would be.

    Args:
        id: Its id.
        name: Its name.
        project: Its project.
        status: Its status; None where its journal cannot be read.
        size: Bytes of all its files.
        targets: Where it had been delivered to, or was to be.
        ended: When it had ended and been delivered, in seconds since the epoch; None where nobody asked.
        tombstone: The note that is left of it; None when it was not removed.
    """

    id: str
    name: str
    project: str
    status: str | None
    size: int
    targets: tuple[str, ...]
    ended: float | None = None
    tombstone: Path | None = None


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
    deliveries: tuple[TargetProgress, ...]

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

    def removed(self, *, ended: float | None = None, tombstone: Path | None = None) -> Removed:
        """What is said of it when it is gone, or would be."""
        targets = tuple(one.target for one in self.deliveries)
        record = self.record
        return Removed(record.id, record.name, record.project, self.status, self.size, targets, ended, tombstone)


def remove_runs(
    records: Sequence[RunRecord],
    *,
    force: bool = False,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,  # noqa: ARG005 - nobody needs to see it
) -> list[Removed]:
    """Remove runs, or none of them when something still goes on with one.

    Args:
        records: The runs.
        force: Whether to remove them also then.
        progress: Called with ("removing", how many are removed, of how many).

    Returns:
        What was removed, in the same order.

    Raises:
        RunBusyError: A run is running, being delivered, or not readable; none was removed.
        StoreError: One is reached through a link; those before it were removed.
        OSError: One cannot be moved or deleted; those before it were removed.
    """
    found = [look(record) for record in records]
    if not force:
        refuse_busy(found)
    removed: list[Removed] = []
    progress("removing", 0, len(found))
    for one in found:
        removed.append(one.removed(tombstone=remove(one)))
        progress("removing", len(removed), len(found))
    return removed


def refuse_busy(found: Sequence[Candidate]) -> None:
    """Check that nothing goes on with any of several runs.

    Raises:
        RunBusyError: Something does.
    """
    for one in found:
        reason = one.busy
        if reason is not None:
            raise RunBusyError(one.record.id, one.record.name, reason)


def check_inside(record: RunRecord, root: Path) -> None:
    """Check that a run stands in a project of a root, as its path is written.

    Raises:
        StoreError: It does not.
    """
    if Path(os.path.abspath(record.dir)).parent.parent != Path(os.path.abspath(root)):  # noqa: PTH100 - links stay
        raise StoreError(f"{record.dir} was not removed: it is not in the store {root}; open the store that holds it")


def look(record: RunRecord) -> Candidate:
    """What there is to know before a run is removed."""
    try:
        status, found = record.status, tuple(record.deliveries())
    except (StoreError, OSError):
        status, found = None, ()
    return Candidate(record, status, size_of(record.dir), found)


def is_linked(directory: Path) -> bool:
    """Whether a run is somewhere else, and only a link to it, or to its project, in the store."""
    return directory.is_symlink() or directory.parent.is_symlink()


def remove(candidate: Candidate) -> Path:
    """Remove a run.

    Returns:
        The tombstone.

    Raises:
        StoreError: It is outside of the store.
        OSError: It cannot be moved or deleted.
    """
    record = candidate.record
    folder = record.dir.parent / REMOVED
    # A link to the run itself is what is removed, and not the run; but nothing is moved or deleted behind other links.
    for link in (record.dir.parent, folder):
        if link.is_symlink():
            raise StoreError(
                f"{record.dir} was not removed: {link} is a link, and nothing outside of the store is touched; "
                f"remove it in {link.resolve()}"
            )
    folder.mkdir(exist_ok=True)
    with trees.opened(folder) as fd:
        _sweep(fd)
        return _remove(candidate, folder, fd)


def _remove(candidate: Candidate, folder: Path, fd: int) -> Path:
    record = candidate.record
    tombstone = folder / f"{record.dir.name}.json"
    content = {
        "v": 1,
        "id": record.dir.name,
        "name": record.name,
        "project": record.project,
        "status": candidate.status,
        "started": record.started,
        "targets": list(record.targets),
        "removed": round(time.time(), 6),
    }
    replace_file(tombstone, dump_json(content))
    aside = f"{record.dir.name}.{secrets.token_hex(6)}"
    # Of a run directory that is a link the link goes: what it leads to is outside of the store.
    os.rename(record.dir, aside, dst_dir_fd=fd)
    _delete(aside, fd)
    return tombstone


def size_of(directory: Path) -> int:
    """Bytes of all files below a directory, as far as they can be seen."""
    if directory.is_symlink():
        return 0
    total = 0
    for folder, _, files in os.walk(directory):
        for name in files:
            with contextlib.suppress(OSError):
                total += Path(folder, name).lstat().st_size
    return total


def _delete(name: str, fd: int) -> None:
    while True:
        try:
            trees.remove(name, fd)
        except FileNotFoundError:
            # Somebody else who removes a run here clears it away as well.
            if trees.is_directory(name, fd):
                continue
        return


def _sweep(fd: int) -> None:
    """Delete what removals that were interrupted have left."""
    for name in trees.names(fd):
        match = _ASIDE.fullmatch(name)
        if match is not None and trees.is_file(f"{match['run']}.json", fd):
            with contextlib.suppress(OSError):
                _delete(name, fd)
