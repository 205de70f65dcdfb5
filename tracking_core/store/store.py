"""All runs under a root."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking_core.artifacts import ArtifactStore
from tracking_core.base.keywords import names_nearest
from tracking_core.errors import InvalidValueError, RunNotFoundError, StoreError
from tracking_core.layout.runs import find_run, is_run, run_places, tombstone_of
from tracking_core.remote.address import is_address, refuse_address
from tracking_core.store.comparing import Comparison, compare
from tracking_core.store.filters import RunFilter
from tracking_core.store.index import Listing, ProjectIndex
from tracking_core.store.listed import RunList
from tracking_core.store.records import RunRecord

if TYPE_CHECKING:
    from tracking_core.mirror.cache import MirrorCache
    from tracking_core.store.export import Exported
    from tracking_core.store.pruning import Pruned
    from tracking_core.store.removal import Removed

LATEST = "latest"
"""What names the run that was started last, unless that is an id."""


class Store:
    """The runs under a root. Every call reads them again; nothing is locked.

    Args:
        root: Directory that holds the projects.
        mirror: The mirror that this directory is the local copy of; None for an ordinary root.
    """

    def __init__(self, root: Path, mirror: MirrorCache | None = None) -> None:
        self.root = root
        self._mirror = mirror
        self.unreadable: dict[Path, str] = {}
        """Directories of runs that the last listing could not read → why."""
        self._indices: dict[str, ProjectIndex] = {}

    @property
    def place(self) -> str:
        """Where the runs are, for display: the root, or the address of the mirror."""
        return str(self.root if self._mirror is None else self._mirror.address)

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
            status: Only those of this status, or of one of several statuses.
            tags: Only those that have all of these.
            config: Path in the configuration → the value there, or a predicate of it: `{"lr": 0.1, "model.depth":
                lambda depth: depth > 2}`. Parts of a path are joined by "." or "/". Values are compared as a
                configuration keeps them: a tuple is a list, True is not 1. A run without such an entry is left out.
            metrics: The same for the summary: the last value of every scalar, and the values set by `log_summary`.
            where: Any function of a run. A run that does not have a name the function asks for is left out.

        Raises:
            InvalidValueError: A condition has the wrong type, the status is unknown, or a predicate failed.
        """
        wanted = RunFilter(project, status, tags, config, metrics, where)
        begin = time.monotonic()
        listings: dict[str, Listing] = {}
        records = list(self._records(listings))
        found = [record for record in records if wanted.matches(record)]
        if self._mirror is None:
            self._note(records, listings, time.monotonic() - begin)
        return RunList(sorted(found, key=lambda record: (record.started, record.id), reverse=True))

    def compare(self, run_ids: Iterable[str | RunRecord], *, common: bool = True) -> Comparison:
        """Runs side by side: where their configurations differ, and the last and best values of their scalars.

        Args:
            run_ids: Ids, or runs; a run that is named twice counts once.
            common: Whether only scalars that all runs have are compared; False compares all scalars.

        Raises:
            RunNotFoundError: This root has no such run.
            InvalidValueError: A single id was given instead of several, or an argument has the wrong type.
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

    def remove(
        self,
        runs: str | RunRecord | Iterable[str | RunRecord],
        *,
        force: bool = False,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> list[Removed]:
        """Remove runs. A note of each stays, in `.removed` of its project.

        Contents of artifacts stay, and so do records that were delivered to other places. Nothing is removed when one
        of the runs is in use or does not exist.

        Args:
            runs: An id or a run, or several; a run that is named twice counts once.
            force: Whether to remove also runs that are running, being delivered, or not readable.
            progress: Called with ("removing", how many are removed, of how many).

        Returns:
            The runs that were removed, in the order of the argument.

        Raises:
            RunNotFoundError: This root has no such run.
            RunBusyError: A run is running, being delivered, or not readable, and `force` is not set.
            InvalidValueError: An argument is neither an id nor a run.
            SettingsError: This is a mirror, and mirrors are read-only.
            StoreError: A run belongs to another store, or is reached through a link.
            OSError: A run cannot be moved or deleted; those before it were removed.

        Example:
            >>> open_store("no/such/place").remove([])
            []
        """
        from tracking_core.store.removal import check_inside, remove_runs

        self._refuse_mirror("remove")
        records = self._chosen("remove", runs, self._run)
        for record in records:
            check_inside(record, self.root)
        return remove_runs(records, force=force, progress=progress or _unseen)

    def prune(
        self,
        keep: str | Iterable[str],
        *,
        dry_run: bool = False,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Pruned:
        """Remove runs that have ended and are completely delivered, unless a rule keeps them.

        Runs that exist only in this store are never removed; nor are runs of which a target refused records, or whose
        targets all leave something out. A note of each removed run stays, as with `remove`.

        Args:
            keep: What stays: "delivered:AGE" runs that ended and were delivered within AGE (such as 12h, 30d or 4w),
                "tag:TAG", "status:STATUS" and "project:NAME" runs of that kind, "last:N" the newest N of each project.
                One rule or several; one must be "delivered:AGE".
            dry_run: Whether only to report what would be removed.
            progress: Called with ("looking" or "removing", how many are done, of how many).

        Returns:
            The runs that were or would be removed, and how many runs stay for which reason.

        Raises:
            InvalidValueError: A rule is not valid, or no rule says how long delivered runs are kept.
            SettingsError: This is a mirror, and mirrors are read-only.
            OSError: A run cannot be moved or deleted; those before it were removed.

        Example:
            >>> open_store("no/such/place").prune("delivered:30d", dry_run=True).removed
            []
        """
        from tracking_core.store.pruning import prune

        self._refuse_mirror("prune")
        rules = _several("prune", keep, "a rule such as 'delivered:30d'", str)
        return prune(self, rules, dry_run=dry_run, progress=progress or _unseen)

    def export(
        self,
        runs: str | RunRecord | Iterable[str | RunRecord],
        to: str | os.PathLike[str],
        names: str | Iterable[str] = (),
        *,
        format: str | None = None,  # noqa: A002 - as on the command line
        partition: bool = False,
        raw: bool = False,
        force: bool = False,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Exported:
        """Write scalars as Parquet, CSV or JSON Lines: one file, or a dataset partitioned as Hive does it.

        The columns are project, run_id, run (its name), name, axis, step, time (seconds since the epoch) and value. In
        a dataset the directories hold project and run_id. Each file is replaced as a whole, or stays as it was.

        Args:
            runs: An id or a run, or several; a run that is named twice counts once.
            to: The file, or the directory of the dataset.
            names: Only scalars with these names, or names that match patterns such as "train/*"; () exports all.
            format: "parquet", "csv" or "jsonl"; None uses the ending of the file name.
            partition: Whether to write a file for each run, into `to/project=…/run_id=…/`.
            raw: Whether to write all rows, including rows of a step that was logged again later.
            force: Whether to replace existing files.
            progress: Called with ("exporting", how many runs are written, of how many).

        Returns:
            The files, how many rows they have, and the ids of the runs.

        Raises:
            RunNotFoundError: This root has no such run.
            NameNotFoundError: None of the runs has such a scalar.
            PlaceTakenError: A file already exists, and `force` is not set.
            InvalidValueError: An argument has the wrong type, or the format is unknown or not given.
            MissingDependencyError: Parquet needs pyarrow, and it is not installed.
            StoreError: A directory is where the file should be, or a dataset of another format.
            OSError: A file cannot be written.

        Example:
            >>> def best_of(store):
            ...     return store.export(store.runs("digits"), "digits.csv", ["val/*"]).rows
        """
        from tracking_core.store.export import export

        if not isinstance(to, (str, os.PathLike)):
            raise InvalidValueError(f"export: expected a path, got {to!r:.80} ({type(to).__name__})")
        wanted = _several("export", names, "the name of a scalar", str)
        records = self._chosen("export", runs, self.run)
        return export(
            records, Path(to), wanted, kind=format, partition=partition, raw=raw, force=force,
            progress=progress or _unseen,
        )  # fmt: skip

    def run(self, run_id: str) -> RunRecord:
        """One run: by its id, the beginning of an id that only one run has, or "latest" for the one started last.

        Args:
            run_id: An id that is there wins over the other two.

        Raises:
            RunNotFoundError: This root has no such run, or several ids begin so.
            InvalidValueError: It is not a str.
        """
        if not isinstance(run_id, str):
            raise InvalidValueError(f"run: expected the id of a run, got {run_id!r:.80} ({type(run_id).__name__})")
        try:
            return self._run(run_id)
        except RunNotFoundError as error:
            if tombstone_of(self.root, run_id) is not None:
                raise
            if run_id == LATEST and (runs := self.runs()):
                return runs[0]
            fits = [place / name for place, names in run_places(self.root) for name in names if name.startswith(run_id)]
            fits = [place for place in fits if run_id and is_run(place)]
            if len(fits) == 1:
                return self.record(fits[0])
            hint = f"; by name it is found with runs(where=lambda run: run.name == {run_id!r:.80})"
            if fits:
                shown = ", ".join(sorted(place.name for place in fits)[:5])
                hint = f", and {len(fits)} ids begin so: {shown}{', …' if len(fits) > 5 else ''}"
            raise RunNotFoundError(f"{error}{hint}") from None

    def _run(self, run_id: str) -> RunRecord:
        """One run, by its id and nothing else."""
        self.refresh()
        return self.record(find_run(self.root, run_id))

    def _chosen(
        self, what: str, runs: str | RunRecord | Iterable[str | RunRecord], find: Callable[[str], RunRecord]
    ) -> list[RunRecord]:
        """The runs that ids or records name, each once, in that order."""
        found: dict[Path, RunRecord] = {}
        for one in _several(what, runs, "the id of a run", (str, RunRecord)):
            record = find(one) if isinstance(one, str) else one
            found.setdefault(record.dir, record)
        return list(found.values())

    def _refuse_mirror(self, what: str) -> None:
        if self._mirror is not None:
            remedy = "do it where the runs are; in a bucket, use the tools of the cloud"
            refuse_address(self.place, what=what, remedy=remedy)

    def refresh(self) -> None:
        """For a mirror, find out which runs exist. For a directory this does nothing: it is read at every call.

        Raises:
            StoreError: The mirror cannot be read.
        """
        if self._mirror is not None:
            self._mirror.refresh(journals=False)

    def record(self, directory: Path) -> RunRecord:
        """The run in a directory below the root.

        Raises:
            RunNotFoundError: There is none.
            StoreError: It cannot be read.
        """
        return RunRecord(directory) if self._mirror is None else self._mirrored(directory)

    def _mirrored(self, directory: Path, *, just_listed: bool = False) -> RunRecord:
        from tracking_core.store.mirrored import MirrorRecord

        assert self._mirror is not None
        return MirrorRecord(directory, self._mirror, just_listed=just_listed)

    def artifacts(self, project: str) -> ArtifactStore:
        """The artifacts of a project."""
        self.refresh()
        return ArtifactStore(self.root, project)

    @staticmethod
    def _note(records: Iterable[RunRecord], listings: Mapping[str, Listing], seconds: float) -> None:
        """Look closer at runs of a listing that took so long, for the index beside them."""
        of: dict[str, list[RunRecord]] = {}
        for record in records:
            of.setdefault(record.dir.parent.name, []).append(record)
        for project, there in of.items():
            listings[project].learn(there, seconds)

    def _records(self, listings: dict[str, Listing]) -> Iterable[RunRecord]:
        if self._mirror is not None:
            self._mirror.refresh()
        # What cannot be read must not hide the rest.
        self.unreadable = {}
        for project, names in run_places(self.root):
            index = self._indices.setdefault(project.name, ProjectIndex(self.root, project.name))
            listing = listings[project.name] = index.begin()
            for name in names:
                try:
                    record = listing.record(project / name)
                    if record is not None:
                        yield record if self._mirror is None else self._mirrored(project / name, just_listed=True)
                except RunNotFoundError:
                    # Removed since the names were read.
                    continue
                except (StoreError, OSError) as error:
                    self.unreadable[project / name] = str(error)

    def _repr_html_(self) -> str:
        from tracking_core.store.pages import store_html

        return store_html(self)

    def __repr__(self) -> str:
        return f"Store({self.place!r})"


def _unseen(what: str, done: int, total: int) -> None:
    """Nobody looks how far something is."""


def _several(what: str, given: Any, expected: str, kinds: type | tuple[type, ...]) -> list[Any]:
    """One thing or several, as a list.

    Raises:
        InvalidValueError: One is of another kind.
    """
    if isinstance(given, kinds):
        return [given]
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise InvalidValueError(f"{what}: expected {expected}, or several, got {given!r:.80} ({type(given).__name__})")
    found = list(given)
    for one in found:
        if not isinstance(one, kinds):
            raise InvalidValueError(f"{what}: expected {expected}, got {one!r:.80} ({type(one).__name__})")
    return found


@names_nearest
def open_store(root: str | os.PathLike[str] | None = None) -> Store:
    """Open the run store for reading.

    Args:
        root: Its directory, or the address of a mirror, such as "s3://bucket/runs"; None uses TRACKING_DIR, the
            settings file, or "./tracking_runs". It need not exist.

    Raises:
        SettingsError: It is an address, but not the address of a mirror.
        MissingDependencyError: A package that the address needs is missing.

    Example:
        >>> open_store("no/such/place").runs()
        []
    """
    if root is None:
        from tracking_core.environment.settings import load_settings

        root = load_settings().get("dir") or "tracking_runs"
    if is_address(root):
        from tracking_core.mirror.cache import open_mirror

        mirror = open_mirror(str(root))
        return Store(mirror.root, mirror)
    return Store(Path(root).expanduser())
