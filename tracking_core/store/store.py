"""All runs under a root."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from tracking_core.artifacts import ArtifactStore
from tracking_core.errors import StoreError
from tracking_core.layout import find_run, is_run, project_directories
from tracking_core.store.records import RunRecord


class Store:
    """The runs under a root. It is read anew at every call; nothing is locked.

    Args:
        root: Directory that holds the projects.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def projects(self) -> list[str]:
        """Names of the projects that have runs, sorted."""
        return sorted({record.project for record in self.runs()})

    def runs(
        self, project: str | None = None, status: str | None = None, tags: Iterable[str] | str | None = None
    ) -> list[RunRecord]:
        """Runs, the newest first.

        Args:
            project: Only those of this project.
            status: Only those of this status.
            tags: Only those that have all of these.
        """
        wanted = {tags} if isinstance(tags, str) else set(tags or ())
        found = [
            record
            for record in self._records()
            if (project is None or record.project == project)
            and wanted <= set(record.tags)
            and (status is None or _status(record) == status)
        ]
        return sorted(found, key=lambda record: (record.started, record.id), reverse=True)

    def run(self, run_id: str) -> RunRecord:
        """One run, by its id.

        Raises:
            RunNotFoundError: There is none under this root.
        """
        return RunRecord(find_run(self.root, run_id))

    def artifacts(self, project: str) -> ArtifactStore:
        """The artifacts of a project."""
        return ArtifactStore(self.root, project)

    def _records(self) -> Iterable[RunRecord]:
        # What cannot be read must not hide the rest; asking for it by id says why.
        for project in project_directories(self.root):
            with contextlib.suppress(OSError):
                for path in sorted(project.iterdir()):
                    if is_run(path):
                        with contextlib.suppress(StoreError):
                            yield RunRecord(path)

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"


def _status(record: RunRecord) -> str | None:
    """The status of a run; None where its journal cannot be read."""
    try:
        return record.status
    except StoreError:
        return None


def open_store(root: str | os.PathLike[str] | None = None) -> Store:
    """Open the run store for reading.

    Args:
        root: Its directory; None takes TRACKING_DIR, the settings file, or "./tracking_runs". It need not exist.

    Example:
        >>> open_store("no/such/place").runs()
        []
    """
    if root is None:
        from tracking_core.settings import load_settings

        root = load_settings().get("dir") or "tracking_runs"
    return Store(Path(root).expanduser())
