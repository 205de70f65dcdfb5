"""Runs of a mirror: read from the local copy, which is brought up to date before anything is looked up in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tracking_core.delivery.progress import TargetProgress
from tracking_core.journal.finding import EventFinder
from tracking_core.mirror.cache import MirrorCache
from tracking_core.store.columns import ScalarColumns
from tracking_core.store.records import RunRecord

AGE = 30.0
"""Seconds after which a record that is held looks at the mirror again. One that is followed does so every 2 s."""


class MirrorRecord(RunRecord):
    """A run of a mirror; see `RunRecord`.

    Args:
        directory: Its directory in the local copy.
        cache: The copy.
        just_listed: Whether the copy was brought up to date for a listing; that of many runs may take a while.

    Raises:
        RunNotFoundError: There is no such run.
        StoreError: The mirror cannot be read, or the run is of a newer version.
    """

    def __init__(self, directory: Path, cache: MirrorCache, *, just_listed: bool = False) -> None:
        self._cache = cache
        if not just_listed:
            cache.refresh_run(directory)
        super().__init__(directory)
        self._finder = _Finder(directory, self._look)
        self._columns = _Columns(directory, self._superseded, self._look)

    def _look(self) -> None:
        self._cache.refresh_run(self.dir, AGE)

    @property
    def has_ended(self) -> bool:
        """Whether no session of this run goes on, as far as the mirror tells."""
        # Whoever follows a run asks this before every look at its files.
        self._cache.refresh_run(self.dir)
        return super().has_ended

    def deliveries(self) -> list[TargetProgress]:
        """How far each target has come, as far as the mirror tells; see `RunRecord.deliveries`."""
        self._look()
        return super().deliveries()

    def fetch(self) -> None:
        """Fetch media and contents of artifacts that are not here yet; they come one by one otherwise.

        Raises:
            StoreError: The mirror cannot be read.
        """
        self._look()
        contents = {
            str(entry["sha256"])
            for event in self._finder.of("artifact")
            for entry in event.fields.get("files", {}).values()
        }
        self._cache.fetch(self.dir, contents)


def fetch_everything(record: RunRecord) -> None:
    """Fetch what a run of a mirror refers to, for whoever goes through its directory; of others nothing.

    Raises:
        StoreError: The mirror cannot be read.
    """
    if isinstance(record, MirrorRecord):
        record.fetch()


class _Finder(EventFinder):
    def __init__(self, directory: Path, look: Callable[[], None]) -> None:
        super().__init__(directory)
        self._first = look

    def _look(self) -> Any:
        self._first()
        return super()._look()


class _Columns(ScalarColumns):
    def __init__(self, directory: Path, superseded: Any, look: Callable[[], None]) -> None:
        super().__init__(directory, superseded)
        self._first = look

    def refresh(self) -> None:
        self._first()
        super().refresh()
