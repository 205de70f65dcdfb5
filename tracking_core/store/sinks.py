"""Files of scalars as other tools take them: Parquet, CSV and JSON Lines."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from tracking_core.base.json_text import json_text, plain
from tracking_core.errors import MissingDependencyError
from tracking_core.store.series import Series

if TYPE_CHECKING:
    from tracking_core.store.records import RunRecord

COLUMNS = ("project", "run_id", "run", "name", "axis", "step", "time", "value")
"""Of one file; in a partitioned dataset the first two are in the names of the directories."""
ROW_GROUP = 1 << 17
"""About how many rows are put together to a row group of Parquet."""


class Sink(Protocol):
    """Takes series and writes them to a file."""

    def add(self, record: RunRecord, series: Series) -> None:
        """Write one series of a run."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


@contextmanager
def opened_sink(path: Path, kind: str, columns: Sequence[str]) -> Generator[Sink]:
    """A sink that writes a new file, and is closed at the end.

    Args:
        path: The file.
        kind: "parquet", "csv" or "jsonl".
        columns: Which of `COLUMNS` it has.
    """
    if kind == "parquet":
        sink: Sink = _Parquet(path, columns)
        try:
            yield sink
        finally:
            sink.close()
        return
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        sink = TEXT[kind](file, columns)
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


class _Newlines:
    """Ends the lines of a CSV writer with a newline alone."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, line: str) -> None:
        self._file.write(line[:-2] + "\n")


def csv_writer(file: IO[str]) -> Any:
    """A `csv.writer` of lines that end with a newline.

    Told so itself, it would leave a carriage return in a name without quotes, and readers take that for a line's end.

    Args:
        file: Where it writes, opened with `newline=""`.
    """
    return csv.writer(_Newlines(file), lineterminator="\r\n")


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


TEXT: Mapping[str, Callable[[IO[str], Sequence[str]], Sink]] = {"csv": _Csv, "jsonl": _JsonLines}
"""Sinks for text, by format."""


def _rows(series: Series) -> Iterable[tuple[int, float, float]]:
    return zip(series.step.tolist(), series.time.tolist(), series.value.tolist(), strict=True)


def load_pyarrow() -> tuple[Any, Any]:
    """What writes Parquet.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingDependencyError(
            "Parquet needs pyarrow, which is not installed: pip install 'tracking-core[store]'"
        ) from error
    return pa, pq


class _Parquet:
    """Parquet with dictionaries for the names, zstd, and row groups that hold several series."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        pa, pq = load_pyarrow()
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
