"""CSV files as runs: a header, a column of steps, and numeric columns, which become scalars."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tracking_core.backends.hooks import ForeignRun
from tracking_core.base.text import counted, did_you_mean
from tracking_core.errors import SettingsError, TrackingError
from tracking_core.transfer.csv_long import is_long, long_runs, looks_long, refuse_long
from tracking_core.transfer.csv_rows import (
    FALLBACK,
    Reader,
    cell_at,
    examine,
    has_decimal_comma,
    is_missing,
    refuse_decimal_comma,
    to_number,
    to_seconds,
)
from tracking_core.values import Record

_TIMES = ("time", "timestamp", "wall_time", "wall time", "_timestamp")
_ENDINGS = frozenset({".csv", ".tsv"})
_DATES = range(10**8, 10**11)
"""Seconds since the epoch from 1973 on: smaller numbers count from some other start, larger ones are no seconds."""
_LOOKED_AT = 100_000
"""Rows of which it is found out whether a column tells several series apart."""
_MOST_KINDS = 1000


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """How to read CSV files.

    Args:
        step: The column of steps; None takes "step".
        time: The column of times; None takes one called "time", "timestamp" or "wall_time", if there is one.
    """

    step: str | None = None
    time: str | None = None


def csv_runs(path: Path, options: CsvOptions) -> Iterator[ForeignRun]:
    """A CSV file, or those in a directory: each as a run, or as those that it was exported from.

    Raises:
        SettingsError: There are none, a column is missing, or it cannot be told what the rows mean.
    """
    if path.is_file():
        yield from _of_file(path, options)
        return
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in _ENDINGS and file.is_file())
    # As `tracking export --partition` makes them.
    files += sorted(file for file in path.glob("project=*/run_id=*/*.csv") if file.is_file())
    if not files:
        raise SettingsError(f"{path} holds no CSV file")
    for file in files:
        try:
            yield from _of_file(file, options)
        except (TrackingError, OSError, csv.Error) as error:
            # It must not keep the others from being read: it fails by itself, when its records are asked for.
            yield ForeignRun(file.stem, _failing(error), str(file), source=file)


def _of_file(path: Path, options: CsvOptions) -> Iterator[ForeignRun]:
    digest, size, encoding = examine(path)
    with Reader(path, encoding) as rows:
        header = next(rows, [])
    if is_long(header):
        if options.step or options.time:
            raise SettingsError(f"{path} has columns with fixed names: leave out --step and --time")
        yield from long_runs(path, digest, size, encoding)
    else:
        yield _CsvRun(path, options, digest, size, encoding).foreign()


class _Kinds:
    """Finds the column that tells apart the rows of one step, such as one of `train` and `val`, or of seeds."""

    def __init__(self) -> None:
        self._rows = 0
        self._steps: Counter[str] = Counter()
        self._seen: dict[int, Counter[str]] = {}
        self._pairs: dict[int, set[tuple[str, str]]] = {}

    def take(self, step: str, labels: dict[int, str]) -> None:
        """Look at the texts and the whole numbers of a row."""
        if self._rows == _LOOKED_AT:
            return
        self._rows += 1
        self._steps[step] += 1
        for at, text in labels.items():
            seen = self._seen.setdefault(at, Counter())
            if len(seen) <= _MOST_KINDS:
                seen[text] += 1
                self._pairs.setdefault(at, set()).add((step, text))

    def telling_apart(self, numbers: Sequence[int]) -> Iterator[int]:
        """The columns of few different cells that stand in every row, and each but once for a step.

        Args:
            numbers: How many numbers each column has. One of numbers may be a metric as well: it tells rows apart only
                if it has as many kinds as a step has rows, and each kind comes again.
        """
        if len(self._steps) == self._rows:
            return
        most = max(self._steps.values())
        for at, seen in self._seen.items():
            if seen.total() != self._rows or len(self._pairs[at]) != self._rows or not 1 < len(seen) <= _MOST_KINDS:
                continue
            if numbers[at]:
                if len(seen) == most and min(seen.values()) > 1:
                    yield at
            elif len(seen) <= max(most, self._rows // 2):
                yield at


def _failing(error: Exception) -> Iterator[Record]:
    raise error
    yield  # a generator, which raises when it is asked


class _CsvRun:
    """One file.

    Args:
        path: The file.
        options: How to read it.
        digest: The sha256 of it, in hex.
        size: Its bytes.
        encoding: How its text is encoded.
    """

    def __init__(self, path: Path, options: CsvOptions, digest: str, size: int, encoding: str) -> None:
        self._path = path
        self._problems: list[str] = []
        self._digest, self._size, self._encoding = digest, size, encoding
        if self._encoding == FALLBACK:
            self._problems.append("it is not UTF-8, and was read as Windows-1252")
        with self._rows() as rows:
            self._header = next(rows, [])
            first = next(rows, [])
        twice = {name for name in self._header if name and self._header.count(name) > 1}
        if twice:
            raise SettingsError(f"{path}: the column {min(twice)!r} appears twice")
        if looks_long(self._header):
            raise refuse_long(path, "its columns are " + ", ".join(map(repr, self._header))[:300])
        self._step = self._column(options.step or "step", "--step")
        self._time = self._column(options.time, "--time") if options.time else self._usual_time(first)
        # The axis is called what the column is called, unless that is one of the many ways to write "step".
        self._axis = self._header[self._step]
        if self._axis.lower() in {"step", "_step", "global_step"}:
            self._axis = "step"
        # A file without times was written some time before it was last changed; nobody knows more.
        self._default = path.stat().st_mtime
        self._started = self._when(first) if first else self._default

    def foreign(self) -> ForeignRun:
        """The run."""
        return ForeignRun(
            id=self._path.stem,
            records=self._records(),
            identity=f"{self._digest}/{self._path.stem}/{self._step}/{self._time}",
            name=self._path.stem,
            started=self._started,
            source=self._path,
            size=self._size,
            problems=self._problems,
        )

    def _records(self) -> Iterator[Record]:
        scalars = self._numeric()
        skipped = longer = 0
        last = self._started
        with self._rows() as rows:
            next(rows, None)
            for row in rows:
                if not any(cell.strip() for cell in row):
                    continue
                longer += len(row) > len(self._header) and any(cell.strip() for cell in row[len(self._header) :])
                step = to_number(cell_at(row, self._step))
                if step is None or isinstance(step, bool) or (isinstance(step, float) and not step.is_integer()):
                    skipped += 1
                    continue
                last = self._when(row)
                values = {
                    name: number for at, name in scalars if (number := to_number(cell_at(row, at))) is not None
                }  # fmt: skip
                if values:
                    yield Record("scalars", 0, "", last, int(step), self._axis, values)
        if longer:
            self._problems.append(
                f"{counted(longer, 'row')} with more cells than there are columns; the cells were left out"
            )
        if skipped:
            column = self._header[self._step]
            self._problems.append(f"{counted(skipped, 'row')} left out: {column!r} is not a whole number")
        yield Record("finish", 0, "", last, data={"status": "finished", "error": None})

    def _numeric(self) -> list[tuple[int, str]]:
        """The columns whose cells are all numbers or empty, with at least one number."""
        numbers = [0] * len(self._header)
        others = [0] * len(self._header)
        commas: dict[int, tuple[int, str]] = {}
        kinds = _Kinds()
        with self._rows() as rows:
            next(rows, None)
            for row in rows:
                labels: dict[int, str] = {}
                for at, cell in enumerate(row[: len(self._header)]):
                    number = to_number(cell)
                    if number is not None:
                        numbers[at] += 1
                        if type(number) is int:
                            labels[at] = cell
                    elif not is_missing(cell):
                        others[at] += 1
                        labels[at] = cell
                        if has_decimal_comma(cell):
                            count, example = commas.get(at, (0, cell))
                            commas[at] = count + 1, example
                telling = {at: cell for at, cell in labels.items() if at not in {self._step, self._time}}
                kinds.take(cell_at(row, self._step), telling)
        for at, (count, example) in commas.items():
            if count == others[at]:
                raise refuse_decimal_comma(self._path, self._header[at], example)
        apart = next(kinds.telling_apart(numbers), None)
        if apart is not None:
            raise refuse_long(self._path, f"the same steps repeat for each {self._header[apart]!r:.100}")
        found: list[tuple[int, str]] = []
        left_out: list[str] = []
        nameless = 0
        for at, name in enumerate(self._header):
            if at in {self._step, self._time}:
                continue
            if not name:
                nameless += numbers[at] + others[at] > 0
            elif others[at]:
                left_out.append(name)
            elif numbers[at]:
                found.append((at, name))
        if nameless:
            self._problems.append(f"left out: {counted(nameless, 'column')} without a name")
        if left_out:
            self._problems.append(f"columns that are not numeric were left out: {', '.join(map(repr, left_out))}"[:500])
        if not found:
            raise SettingsError(f"{self._path} has no column of numbers besides the steps")
        return found

    def _rows(self) -> Reader:
        return Reader(self._path, self._encoding)

    def _column(self, wanted: str, option: str) -> int:
        names = [name.lower() for name in self._header]
        if wanted in self._header:
            return self._header.index(wanted)
        if wanted.lower() in names:
            return names.index(wanted.lower())
        raise SettingsError(
            f"{self._path} has no column {wanted!r}{did_you_mean(wanted, self._header)}; its columns are "
            f"{', '.join(map(repr, self._header))[:500]}: name one with {option}"
        )

    def _usual_time(self, first: Sequence[str]) -> int | None:
        """A column that has the name of one of times, and what looks like one: seconds since the start are a scalar."""
        names = [name.lower() for name in self._header]
        for at in (names.index(name) for name in _TIMES if name in names):
            seconds = to_seconds(cell_at(first, at))
            if seconds is not None and int(seconds) in _DATES:
                return at
        return None

    def _when(self, row: Sequence[str]) -> float:
        seconds = to_seconds(cell_at(row, self._time)) if self._time is not None else None
        return self._default if seconds is None else seconds
