"""Scalars of runs as Parquet, CSV and JSON Lines, written aside and put in place whole."""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import quote

from tracking_core.base.json_text import plain
from tracking_core.cli.arguments import progress
from tracking_core.cli.output import csv_writer, json_text
from tracking_core.cli.terminal import data
from tracking_core.cli.values import matching
from tracking_core.errors import MissingDependencyError, NameNotFoundError, StoreError
from tracking_core.layout.runs import check_identity
from tracking_core.store import RunRecord, Series

COLUMNS = ("project", "run_id", "run", "name", "axis", "step", "time", "value")
"""Of one file; in a partitioned dataset the first two are in the names of the directories."""
ROW_GROUP = 1 << 17
"""About how many rows are put together to a row group of Parquet."""
_ENDINGS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


class Sink(Protocol):
    """Takes series and writes them to a file."""

    def add(self, record: RunRecord, series: Series) -> None:
        """Write one series of a run."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


def kind_of(path: Path) -> str | None:
    """The format that the ending of a file says; None when it says none."""
    return _ENDINGS.get(path.suffix.lower())


def export(
    records: Sequence[RunRecord],
    place: Path,
    kind: str,
    names: Sequence[str] = (),
    *,
    partition: bool = False,
    raw: bool = False,
    force: bool = False,
) -> dict[str, Any]:
    """Write the scalars of runs.

    Args:
        records: The runs.
        place: The file, or the directory of the dataset.
        kind: "parquet", "csv" or "jsonl".
        names: Only scalars with these names or patterns; () takes all.
        partition: A file for each run, in directories `project=…/run_id=…`.
        raw: All rows, also those of steps that were logged again later.
        force: Replace files that are there.

    Returns:
        `files`, `rows`, and the ids of the `runs`.

    Raises:
        StoreError: A file is there already.
        MissingDependencyError: Parquet was asked for, and pyarrow is not installed.
    """
    parts = {_partition(place, record, kind): [record] for record in records} if partition else {place: records}
    for path in parts:
        if path.exists() and not force:
            raise StoreError(f"{path} exists already: --force replaces it, or name another place")
    if partition:
        _check_dataset(place, kind)
    _check(records, kind, names)
    rows = 0
    with progress("exporting", len(records)) as advance:
        for path, some in parts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            folder = _outside(place) if partition else path.parent
            with _aside(path, folder) as aside, _sink(aside, kind, COLUMNS[2:] if partition else COLUMNS) as sink:
                for record in some:
                    for series in _series(record, names, raw=raw):
                        sink.add(record, series)
                        rows += len(series)
                    advance()
    return {"files": [str(path) for path in parts], "rows": rows, "runs": [record.id for record in records]}


def write_stdout(records: Sequence[RunRecord], kind: str, names: Sequence[str], *, raw: bool) -> None:
    """Write CSV or JSON Lines to stdout."""
    _check(records, kind, names)
    sink = _TEXT[kind](data(), COLUMNS)
    for record in records:
        for series in _series(record, names, raw=raw):
            sink.add(record, series)
    sink.close()


def _check_dataset(place: Path, kind: str) -> None:
    """A dataset has one format: readers take every file in it for the same."""
    other = next((path for path in place.glob("project=*/run_id=*/scalars.*") if path.suffix != f".{kind}"), None)
    if other is not None:
        raise StoreError(f"{place} is a dataset of other files, such as {other}: name another directory")


def _check(records: Sequence[RunRecord], kind: str, names: Sequence[str]) -> None:
    """Find out what cannot work before anything is written."""
    if kind == "parquet":
        _pyarrow()
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


@contextmanager
def _aside(path: Path, folder: Path) -> Generator[Path]:
    """A file in a folder, which takes the place of `path` when nothing went wrong."""
    aside = folder / f".{path.name[:80]}.{secrets.token_hex(6)}"
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def _sink(path: Path, kind: str, columns: Sequence[str]) -> Generator[Sink]:
    if kind == "parquet":
        sink: Sink = _Parquet(path, columns)
        try:
            yield sink
        finally:
            sink.close()
        return
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        sink = _TEXT[kind](file, columns)
        yield sink
        sink.close()


def _facts(record: RunRecord, series: Series) -> dict[str, str]:
    return {
        "project": record.project,
        "run_id": record.id,
        "run": record.name,
        "name": series.name,
        "axis": series.axis,
    }


class _Csv:
    """Comma-separated values with a header; NaN and infinities as nan, inf and -inf."""

    def __init__(self, file: IO[str], columns: Sequence[str]) -> None:
        self._file = file
        self._columns = columns
        self._writer = csv_writer(file)
        self._writer.writerow(columns)

    def add(self, record: RunRecord, series: Series) -> None:
        facts = _facts(record, series)
        head = [facts[name] for name in self._columns if name in facts]
        self._writer.writerows([*head, *row] for row in _rows(series))

    def close(self) -> None:
        self._file.flush()


class _JsonLines:
    """One object a line; numbers that are not finite as "NaN", "Infinity" and "-Infinity"."""

    def __init__(self, file: IO[str], columns: Sequence[str]) -> None:
        self._file = file
        self._columns = columns

    def add(self, record: RunRecord, series: Series) -> None:
        facts = _facts(record, series)
        head = json_text({name: facts[name] for name in self._columns if name in facts})[:-1]
        for step, time, value in _rows(series):
            self._file.write(f'{head}, "step": {step}, "time": {_json(time)}, "value": {_json(value)}}}\n')

    def close(self) -> None:
        self._file.flush()


def _json(number: float) -> str:
    return repr(number) if math.isfinite(number) else f'"{plain(number)}"'


_TEXT: Mapping[str, Callable[[IO[str], Sequence[str]], Sink]] = {"csv": _Csv, "jsonl": _JsonLines}


def _rows(series: Series) -> Iterable[tuple[int, float, float]]:
    return zip(series.step.tolist(), series.time.tolist(), series.value.tolist(), strict=True)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingDependencyError(
            "Parquet needs pyarrow, which is not installed: pip install 'tracking-core[store]'; "
            "--format csv and --format jsonl need nothing"
        ) from error
    return pa, pq


class _Parquet:
    """Parquet with dictionaries for the names, zstd, and row groups that hold several series."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        pa, pq = _pyarrow()
        self._pa = pa
        types = {"step": pa.int64(), "time": pa.float64(), "value": pa.float64()}
        self._schema: Any = pa.schema([(name, types.get(name, pa.string())) for name in columns])
        self._waiting: list[Any] = []
        self._count = 0
        texts = [name for name in columns if name not in types]
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", use_dictionary=texts)

    def add(self, record: RunRecord, series: Series) -> None:
        columns: dict[str, Any] = {"step": series.step, "time": series.time, "value": series.value}
        for name, text in _facts(record, series).items():
            # Parquet's texts are UTF-8, which has no lone surrogates.
            known = text.encode("utf-8", "backslashreplace").decode()
            columns[name] = self._pa.repeat(self._pa.scalar(known, self._pa.string()), len(series))
        arrays = [self._pa.array(columns[field.name], field.type) for field in self._schema]
        self._waiting.append(self._pa.Table.from_arrays(arrays, schema=self._schema))
        self._count += len(series)
        if self._count >= ROW_GROUP:
            self._write()

    def _write(self) -> None:
        if self._waiting:
            table = self._pa.concat_tables(self._waiting).combine_chunks()
            self._writer.write_table(table, row_group_size=max(ROW_GROUP, len(table)))
            self._waiting, self._count = [], 0

    def close(self) -> None:
        self._write()
        self._writer.close()
