"""The Parquet file of a part: how scalars are written to it, and how one series is read without the others."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tracking_core.journal.part_reader import (
    PartReader,
    check_columns,
    damage_named,
    dictionary,
    integers,
    load_parquet,
    open_columns,
    part_lines,
)

if TYPE_CHECKING:
    from tracking_core.journal import Event

GROUP = 1 << 16
"""Rows from which on a series has row groups of its own; smaller ones share one of up to so many rows."""
COLUMNS = ("name", "writer", "seq", "axis", "step", "time", "value", "kind")
KINDS = ("float", "int", "bool")
KEPT = 1 << 14
"""Up to how many rows that were read are kept."""
DEARER = 1.0
"""Up to how many bytes a value LZ4 may take more than zstd: decoding it takes half the time."""
_WHOLE = 60
_SAMPLED = (16, 1 << 13)


@dataclass(frozen=True, slots=True)
class PartRows:
    """Rows of one scalar in a part, in order.

    Args:
        seq: int64 array of shape `[N]`; None when it was not asked for.
        axis: `[N]` places in `axes`; or one for all.
        axes: Names of step axes.
        step: int64 array of shape `[N]`.
        time: float64 array of shape `[N]`, seconds since the epoch.
        value: float64 array of shape `[N]`.
    """

    seq: np.ndarray[Any, Any] | None
    axis: np.ndarray[Any, Any] | int
    axes: list[str]
    step: np.ndarray[Any, Any]
    time: np.ndarray[Any, Any]
    value: np.ndarray[Any, Any]


class ScalarPart:
    """The scalars of a part.

    Args:
        part: The part.
    """

    def __init__(self, part: PartReader) -> None:
        self.part = part
        self._names: dict[str, tuple[int, int, float]] | None = None
        self._file: Any = None
        self._groups: list[tuple[int, int]] = []
        self._places: dict[str, int] = {}
        self._kept: tuple[tuple[list[int], list[str]], Any] | None = None
        """What was read last, if it is small: other series are in it as well."""

    @property
    def names(self) -> dict[str, tuple[int, int, float]]:
        """Name → (rows, number of the last one, its value, as it was logged)."""
        if self._names is None:
            self._names = read_names(self.part.files.events, self.part.files.writer)
        return self._names

    def whole(self) -> list[Event]:
        """Events of scalars that columns cannot hold exactly."""
        if not self.part.whole:
            return []
        lines = part_lines(self.part.files.events, self.part.files.writer)
        return sorted((event for event in lines if event.kind == "scalars"), key=lambda event: event.seq)

    def open(self) -> ScalarPart:
        """Open the Parquet file, and see that it goes with the events file.

        Raises:
            JournalError: It does not.
        """
        self._open()
        return self

    def count(self, name: str) -> int:
        """How many rows a scalar has."""
        return self.names[name][0] if name in self.names else 0

    def rows(self, name: str, *, with_seq: bool, into: tuple[Any, Any, Any] | None = None) -> PartRows | None:
        """All rows of a scalar; None when there are none.

        Args:
            name: The scalar.
            with_seq: Whether their numbers are needed.
            into: Arrays of shape `[N]` for step, time and value, that are filled and given back.
        """
        if name not in self.names or not self.names[name][0]:
            return None
        file = self._open()
        begin, count = self._places[name], self.names[name][0]
        # Names are sorted, and so are the row groups: where the rows of one stand is known without reading.
        groups = [number for number, (first, end) in enumerate(self._groups) if first < begin + count and begin < end]
        with damage_named(self.part.files.scalars):
            axes = self._one_axis(file, groups)
        columns = ["step", "time", "value", *(["seq"] if with_seq else []), *(["axis"] if axes is None else [])]
        axis: np.ndarray[Any, Any] | int = 0
        with damage_named(self.part.files.scalars):
            table = self._table(groups, columns, threads=into is None)
            check_columns(table)
            if table.num_rows != count:
                table = table.slice(begin - self._groups[groups[0]][0], count)
            if axes is None:
                axis, axes = dictionary(table, "axis")
            seq = integers(table, "seq") if with_seq else None
        if into is None:
            into = (np.empty(count, np.int64), np.empty(count), np.empty(count))
        step, time, value = into
        at = 0
        for chunk in table.to_batches():
            part = slice(at, at + chunk.num_rows)
            step[part] = chunk.column("step").to_numpy()
            np.divide(chunk.column("time").view("int64").to_numpy(), 1e6, out=time[part])
            value[part] = chunk.column("value").to_numpy()
            at += chunk.num_rows
        return PartRows(seq, axis, axes, step, time, value)

    def _open(self) -> Any:
        if self._file is None:
            path = self.part.files.scalars
            file = open_columns(path)
            with damage_named(path):
                metadata = file.metadata
                ends = np.cumsum([0, *(metadata.row_group(n).num_rows for n in range(metadata.num_row_groups))])
                if int(ends[-1]) != sum(rows for rows, _, _ in self.names.values()):
                    raise ValueError(f"it has {ends[-1]} rows, but {self.part.files.events.name} has another number")
            self._groups = list(pairwise(ends.tolist()))
            place = 0
            for name, (rows, _, _) in self.names.items():
                self._places[name] = place
                place += rows
            self._file = file
        return self._file

    def _table(self, groups: list[int], columns: list[str], *, threads: bool) -> Any:
        rows = sum(end - first for first, end in (self._groups[number] for number in groups))
        if rows > KEPT:
            # Parts are read side by side, see `read_side_by_side`; and starting threads takes longer than a few rows.
            return self._file.read_row_groups(groups, columns=columns, use_threads=threads and rows > GROUP)
        kept = (groups, columns)
        if self._kept is None or self._kept[0] != kept:
            self._kept = kept, self._file.read_row_groups(groups, columns=columns, use_threads=False)
        return self._kept[1]

    @staticmethod
    def _one_axis(file: Any, groups: list[int]) -> list[str] | None:
        found: set[str] = set()
        column = COLUMNS.index("axis")
        for group in groups:
            bounds = file.metadata.row_group(group).column(column).statistics
            # Where a text is long, its bounds may be cut.
            if bounds is None or not bounds.has_min_max or bounds.min != bounds.max or len(bounds.min) > _WHOLE:
                return None
            found.add(bounds.min)
        return list(found) if len(found) == 1 else None


def read_names(path: Path, writer: str) -> dict[str, tuple[int, int, float]]:
    """What the second line of the events file of a part says of every name."""
    lines = part_lines(path, writer)
    next(lines, None)
    event = next(lines, None)
    if event is None or event.kind != "names":
        return {}
    names = event.fields["names"]
    return {name: (rows, seq, number_in(value)) for name, (rows, seq, value) in sorted(names.items())}


def number_of(value: float, kind: int) -> bool | float:
    """A value of a column as the number that was logged."""
    if kind:
        return bool(value) if kind == KINDS.index("bool") else int(value)
    return value


def number_in(value: Any) -> float:
    """A number that JSON may have no form for."""
    return float(value) if isinstance(value, str) else value


def content_digest(names: list[str], axes: list[str], columns: Mapping[str, Any]) -> str:
    """The sha256 of what the columns of a part say, however they are encoded; arguments as of `write_scalars`.

    It is taken over `seq`, `step`, `time` and `value` as little-endian numbers of 8 bytes, and over `name`, `axis` and
    `kind` as JSON lists of texts, of which each row that differs from the one before gives [row, text].
    """
    digest = hashlib.sha256()
    for key in ("seq", "step", "time", "value"):
        column = np.ascontiguousarray(columns[key])
        digest.update(column.astype(column.dtype.newbyteorder("<"), copy=False).tobytes())
    for key, words in (("name", names), ("axis", axes), ("kind", list(KINDS))):
        codes = np.asarray(columns[key], np.int64)
        rows = np.flatnonzero(np.diff(codes, prepend=-1)).tolist()
        digest.update(json.dumps([[row, words[codes[row]]] for row in rows], separators=(",", ":")).encode())
    return digest.hexdigest()


def write_scalars(path: Path, writer: str, names: list[str], axes: list[str], columns: Mapping[str, Any]) -> None:
    """Write the Parquet file.

    Args:
        path: The file, which must not be there.
        writer: Whose scalars they are.
        names: Names, sorted.
        axes: Names of axes.
        columns: Arrays of shape `[N]`, sorted by (name, seq): `name` and `axis` (places in the lists), `kind` (place in
            `KINDS`), `seq`, `step`, `time` (microseconds, int64), `value`.
    """
    import pyarrow as pa

    parquet = load_parquet(path)
    pyarrow: Any = pa
    text = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    types = {
        "name": text, "writer": text, "seq": pyarrow.int64(), "axis": text, "step": pyarrow.int64(),
        "time": pyarrow.timestamp("us", "UTC"), "value": pyarrow.float64(), "kind": text,
    }  # fmt: skip
    groups = row_groups(columns["name"], len(names))
    schema = pyarrow.schema(
        [pyarrow.field(name, types[name], nullable=False) for name in COLUMNS],
        metadata={"tracking.format": "1"},
    )
    words = {"name": names, "writer": [writer], "axis": axes, "kind": list(KINDS)}
    count = len(columns["seq"])
    codes = {**columns, "writer": np.zeros(count, np.int32)}

    def array(name: str, begin: int, end: int) -> Any:
        part = codes[name][begin:end]
        if name in words:
            return pyarrow.DictionaryArray.from_arrays(pyarrow.array(part.astype(np.int32)), words[name])
        return pyarrow.array(part, types[name])

    compression = {**dict.fromkeys(COLUMNS, "zstd"), "value": codec_of(columns["value"])}
    with parquet.ParquetWriter(
        path,
        schema,
        version="2.6",
        compression=compression,
        compression_level={name: 3 for name, codec in compression.items() if codec == "zstd"},
        use_dictionary=["name", "writer", "axis", "kind"],
        column_encoding={
            "seq": "DELTA_BINARY_PACKED",
            "step": "DELTA_BINARY_PACKED",
            "time": "DELTA_BINARY_PACKED",
            "value": "BYTE_STREAM_SPLIT",
        },
        write_statistics=["name", "axis", "seq", "step", "time"],
        write_page_checksum=True,
        store_schema=True,
        data_page_size=1 << 20,
        write_batch_size=GROUP,
    ) as file:
        for begin, end in groups:
            rows = [array(name, begin, end) for name in COLUMNS]
            file.write_table(pyarrow.Table.from_arrays(rows, schema=schema), row_group_size=end - begin)


def codec_of(value: np.ndarray[Any, Any]) -> str:
    """How values are compressed: "lz4", which reads fastest, unless "zstd" makes them much smaller.

    Values that hold float32 noise are 0.7 bytes apart; decimal fractions with few digits are 2 bytes and more.

    Args:
        value: float64 array of shape `[N]`. Some of it is tried.
    """
    import pyarrow as pa

    pyarrow: Any = pa
    count, length = _SAMPLED
    starts = range(0, len(value), max(length, len(value) // count))
    sample = np.concatenate([value[:0], *(value[start : start + length] for start in starts)])
    # As BYTE_STREAM_SPLIT lays them out.
    planes = sample.view(np.uint8).reshape(-1, sample.itemsize).T.tobytes()
    lz4, zstd = (len(pyarrow.Codec(name).compress(planes)) for name in ("lz4_raw", "zstd"))
    return "lz4" if lz4 - zstd <= DEARER * len(sample) else "zstd"


def row_groups(codes: np.ndarray[Any, Any], count: int) -> list[tuple[int, int]]:
    """Where row groups begin and end: at the ends of names, but for series that fill one by themselves.

    Args:
        codes: `[N]` numbers of names, sorted.
        count: How many names there are.
    """
    edges = np.searchsorted(codes, np.arange(count + 1)).tolist()
    groups: list[tuple[int, int]] = []
    begin = 0
    for start, end in pairwise(edges):
        if end - start >= GROUP:
            if start > begin:
                groups.append((begin, start))
            groups.append((start, end))
            begin = end
        elif end - begin > GROUP:
            groups.append((begin, start))
            begin = start
    if edges[-1] > begin:
        groups.append((begin, edges[-1]))
    return groups


def read_side_by_side(parts: list[ScalarPart], name: str) -> list[PartRows]:
    """The rows of a scalar in several parts, which do not overlap, in arrays that belong together.

    Args:
        parts: Those that have rows of it, in order.
        name: The scalar.
    """
    # Opened first: how many rows there are is believed once the file says the same.
    counts = [part.open().count(name) for part in parts]
    ends = np.cumsum([0, *counts]).tolist()
    whole = (np.empty(ends[-1], np.int64), np.empty(ends[-1]), np.empty(ends[-1]))

    def read(number: int) -> PartRows | None:
        step, time, value = (column[ends[number] : ends[number + 1]] for column in whole)
        return parts[number].rows(name, with_seq=False, into=(step, time, value))

    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(len(parts), 8, os.cpu_count() or 1)) as pool:
        found = [rows for rows in pool.map(read, range(len(parts))) if rows is not None]
    first = found[0]
    if all(isinstance(rows.axis, int) and rows.axes == first.axes for rows in found):
        return [PartRows(None, 0, first.axes, *whole)]
    return found
