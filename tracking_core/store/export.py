"""Scalars of runs as Parquet, CSV and JSON Lines, written aside and put in place whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

from tracking_core.base.files import aside_of, written_aside
from tracking_core.errors import InvalidValueError, NameNotFoundError, PlaceTakenError, StoreError
from tracking_core.layout.runs import check_identity
from tracking_core.store.names import matching
from tracking_core.store.records import RunRecord
from tracking_core.store.series import Series
from tracking_core.store.sinks import COLUMNS, TEXT, load_pyarrow, opened_sink

FORMATS = ("parquet", "csv", "jsonl")
"""What can be written."""
_ENDINGS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Args:
        files: The files.
        rows: How many rows they have in all.
        runs: Ids of the runs, in order.
    """

    files: tuple[Path, ...]
    rows: int
    runs: tuple[str, ...]


def format_of(path: Path) -> str | None:
    """The format that the ending of a file says; None when it says none."""
    return _ENDINGS.get(path.suffix.lower())


def export(
    records: Sequence[RunRecord],
    place: Path,
    names: Sequence[str] = (),
    *,
    kind: str | None = None,
    partition: bool = False,
    raw: bool = False,
    force: bool = False,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,  # noqa: ARG005 - nobody needs to see it
) -> Exported:
    """Write the scalars of runs; see `Store.export`.

    Args:
        records: The runs.
        place: The file, or the directory of the dataset.
        names: Only scalars with these names or patterns; () exports all.
        kind: "parquet", "csv" or "jsonl"; None uses the ending of the file name.
        partition: A file for each run, in directories `project=…/run_id=…`.
        raw: All rows, including rows of steps that were logged again later.
        force: Replace files that are there.
        progress: Called with ("exporting", how many runs are written, of how many).

    Raises:
        InvalidValueError: The format is unknown or not given.
        PlaceTakenError: A file already exists.
        StoreError: A directory is in its place, or a dataset of another format.
        NameNotFoundError: None of the runs has such a scalar.
        MissingDependencyError: Parquet was asked for, and pyarrow is not installed.
        OSError: A file cannot be written.
    """
    kind = _checked_format(place, kind)
    if not partition and place.is_dir():
        raise StoreError(f"{place} is a directory: name a file in it, or pass partition=True")
    parts = {_partition(place, record, kind): [record] for record in records} if partition else {place: records}
    for path in parts:
        if path.exists() and not force:
            raise PlaceTakenError(path)
    if partition:
        _check_dataset(place, kind)
    _check(records, kind, names)
    rows, done = 0, 0
    progress("exporting", 0, len(records))
    for path, some in parts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = _outside(place) if partition else path.parent
        columns = COLUMNS[2:] if partition else COLUMNS
        with written_aside(path, aside_of(folder / path.name)) as aside, opened_sink(aside, kind, columns) as sink:
            for record in some:
                for series in _series(record, names, raw=raw):
                    sink.add(record, series)
                    rows += len(series)
                done += 1
                progress("exporting", done, len(records))
    return Exported(tuple(parts), rows, tuple(record.id for record in records))


def write_text(
    records: Sequence[RunRecord], file: IO[str], kind: str, names: Sequence[str] = (), *, raw: bool = False
) -> None:
    """Write the scalars of runs as text to a file that is open.

    Args:
        records: The runs.
        file: Where to.
        kind: "csv" or "jsonl".
        names: Only scalars with these names or patterns; () exports all.
        raw: All rows, including rows of steps that were logged again later.

    Raises:
        NameNotFoundError: None of the runs has such a scalar.
    """
    _check(records, kind, names)
    sink = TEXT[kind](file, COLUMNS)
    for record in records:
        for series in _series(record, names, raw=raw):
            sink.add(record, series)
    sink.close()


def _checked_format(place: Path, kind: str | None) -> str:
    kind = format_of(place) if kind is None else kind
    if kind is None:
        raise InvalidValueError(
            f"export: the name {place.name!r:.80} does not tell the format: pass format=, one of {FORMATS}"
        )
    if kind not in FORMATS:
        raise InvalidValueError(f"export: unknown format {kind!r:.80}: expected one of {FORMATS}")
    return kind


def _check_dataset(place: Path, kind: str) -> None:
    """A dataset has one format: readers take every file in it for the same."""
    other = next((path for path in place.glob("project=*/run_id=*/scalars.*") if path.suffix != f".{kind}"), None)
    if other is not None:
        raise StoreError(f"{place} is a dataset of other files, such as {other}: name another directory")


def _check(records: Sequence[RunRecord], kind: str, names: Sequence[str]) -> None:
    """Find out what cannot work before anything is written."""
    if kind == "parquet":
        load_pyarrow()
    if names and not any(matching(record.scalar_axes(), names) for record in records):
        raise NameNotFoundError(f"none of the runs has {', '.join(names)}")


def _series(record: RunRecord, names: Sequence[str], *, raw: bool) -> Iterator[Series]:
    # One after the other: a run may hold more than fits into memory.
    for name, axis in matching(record.scalar_axes(), names):
        yield record.scalars(name, axis, raw=raw)


def _partition(place: Path, record: RunRecord, kind: str) -> Path:
    # What is percent-encoded is decoded by the readers of Hive partitions.
    check_identity(record.dir, {"id": record.id, "project": record.project})
    project, run_id = quote(record.project, safe="", errors="backslashreplace"), quote(record.id, safe="")
    return place / f"project={project}" / f"run_id={run_id}" / f"scalars.{kind}"


def _outside(place: Path) -> Path:
    """Where files of a dataset are made: some readers take whatever is in it, also what was left half-written."""
    parent = place.resolve().parent
    same = parent.stat().st_dev == place.stat().st_dev
    return parent if same and os.access(parent, os.W_OK | os.X_OK) else place
