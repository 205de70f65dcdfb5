"""All runs under a root."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tracking_core.artifacts import ArtifactStore
from tracking_core.errors import InvalidValueError, StoreError
from tracking_core.layout import find_run, is_run, project_directories
from tracking_core.store.comparing import Comparison, compare
from tracking_core.store.filters import RunFilter
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
        self,
        project: str | None = None,
        status: str | Iterable[str] | None = None,
        tags: str | Iterable[str] | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        where: Callable[[RunRecord], object] | None = None,
    ) -> list[RunRecord]:
        """Runs, the newest first: those that meet every condition.

        Args:
            project: Only those of this project.
            status: Only those of this status, or of one of several.
            tags: Only those that have all of these.
            config: Path in the configuration → the value there, or a predicate of it: `{"lr": 0.1, "model.depth":
                lambda depth: depth > 2}`. Parts of a path are joined by "." or "/". Values are compared as a
                configuration keeps them: a tuple is a list, True is not 1. A run without such an entry is left out.
            metrics: The same over the summary: the last value of every scalar, and what `log_summary` set.
            where: Any function of a run. A run that does not have a name the function asks for is left out.

        Raises:
            InvalidValueError: A condition is of the wrong type, there is no such status, or a predicate failed.
        """
        wanted = RunFilter(project, status, tags, config, metrics, where)
        found = [record for record in self._records() if wanted.matches(record)]
        return sorted(found, key=lambda record: (record.started, record.id), reverse=True)

    def compare(self, run_ids: Iterable[str | RunRecord], *, common: bool = True) -> Comparison:
        """Runs side by side: where their configurations differ, and what their scalars came to.

        Args:
            run_ids: Ids, or runs; one that is named twice counts once.
            common: Whether only scalars that all of them have are compared; False takes every one.

        Raises:
            RunNotFoundError: There is no such run under this root.
            InvalidValueError: A single id was given in place of several, or something else.
        """
        if isinstance(run_ids, (str, RunRecord)) or not isinstance(run_ids, Iterable):
            raise InvalidValueError(f"compare: expected several runs, as a list of ids, got {run_ids!r:.80}")
        records: dict[str, RunRecord] = {}
        for one in run_ids:
            if not isinstance(one, (str, RunRecord)):
                raise InvalidValueError(f"compare: expected ids of runs, got {one!r:.80} ({type(one).__name__})")
            record = self.run(one) if isinstance(one, str) else one
            records.setdefault(record.id, record)
        return compare(list(records.values()), common=common)

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
                # Names, because paths take long to sort.
                for name in sorted(os.listdir(project)):  # noqa: PTH208 - as above
                    if is_run(path := project / name):
                        with contextlib.suppress(StoreError):
                            yield RunRecord(path)

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"


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
