"""CSV files as runs: a header, a column of steps, and numeric columns, which become scalars."""

from __future__ import annotations

import codecs
import csv
import datetime
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tracking_core.errors import SettingsError, TrackingError
from tracking_core.hookspecs import ForeignRun
from tracking_core.settings import did_you_mean
from tracking_core.values import Record

_TIMES = ("time", "timestamp", "wall_time", "wall time", "_timestamp")
_DELIMITERS = ",;\t"
_ENDINGS = frozenset({".csv", ".tsv"})
_MISSING = frozenset({"na", "n/a", "#n/a", "<na>", "null", "none", "-", "--"})
"""What stands, in lower case, for a value that is missing; an empty cell does as well."""
_DATES = range(10**8, 10**11)
"""Seconds since the epoch from 1973 on: smaller numbers count from some other start, larger ones are no seconds."""
_FAR = 1e12
"""Times beyond are none: 30,000 years."""
_CHUNK = 1 << 20


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
    """A CSV file, or those in a directory, each as a run.

    Raises:
        SettingsError: There are none, or a column is missing.
    """
    if path.is_file():
        yield _CsvRun(path, options).foreign()
        return
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in _ENDINGS and file.is_file())
    if not files:
        raise SettingsError(f"{path} holds no CSV file")
    for file in files:
        try:
            foreign = _CsvRun(file, options).foreign()
        except (TrackingError, OSError, csv.Error) as error:
            # It must not keep the others from being read: it fails by itself, when its records are asked for.
            foreign = ForeignRun(file.stem, _failing(error), str(file), source=file)
        yield foreign


def _failing(error: Exception) -> Iterator[Record]:
    raise error
    yield  # a generator, which raises when it is asked


class _CsvRun:
    """One file.

    Args:
        path: The file.
        options: How to read it.
    """

    def __init__(self, path: Path, options: CsvOptions) -> None:
        self._path = path
        self._problems: list[str] = []
        self._digest, self._size, self._encoding = _examine(path)
        if self._encoding == _FALLBACK:
            self._problems.append("it is not UTF-8, and was read as Windows-1252")
        with self._rows() as rows:
            self._header = next(rows, [])
            first = next(rows, [])
        twice = {name for name in self._header if name and self._header.count(name) > 1}
        if twice:
            raise SettingsError(f"{path}: the column {min(twice)!r} is there twice")
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
                step = _number(_cell(row, self._step))
                if step is None or isinstance(step, bool) or (isinstance(step, float) and not step.is_integer()):
                    skipped += 1
                    continue
                last = self._when(row)
                values = {
                    name: number for at, name in scalars if (number := _number(_cell(row, at))) is not None
                }  # fmt: skip
                if values:
                    yield Record("scalars", 0, "", last, int(step), self._axis, values)
        if longer:
            self._problems.append(f"{longer} rows have more cells than there are columns; these were left out")
        if skipped:
            column = self._header[self._step]
            self._problems.append(f"{skipped} rows were left out: their {column!r} is no whole number")
        yield Record("finish", 0, "", last, data={"status": "finished", "error": None})

    def _numeric(self) -> list[tuple[int, str]]:
        """The columns whose cells are all numbers or empty, with at least one number."""
        numbers = [0] * len(self._header)
        others = [0] * len(self._header)
        with self._rows() as rows:
            next(rows, None)
            for row in rows:
                for at, cell in enumerate(row[: len(self._header)]):
                    if _number(cell) is not None:
                        numbers[at] += 1
                    elif not _is_missing(cell):
                        others[at] += 1
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
            self._problems.append(f"{nameless} columns without a name were left out")
        if left_out:
            self._problems.append(f"columns that are not numeric were left out: {', '.join(map(repr, left_out))}"[:500])
        if not found:
            raise SettingsError(f"{self._path} holds no column of numbers beside the steps")
        return found

    def _rows(self) -> _Reader:
        return _Reader(self._path, self._encoding)

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
            seconds = _seconds(_cell(first, at))
            if seconds is not None and int(seconds) in _DATES:
                return at
        return None

    def _when(self, row: Sequence[str]) -> float:
        seconds = _seconds(_cell(row, self._time)) if self._time is not None else None
        return self._default if seconds is None else seconds


_FALLBACK = "cp1252"


def _examine(path: Path) -> tuple[str, int, str]:
    """The digest, the size and the encoding of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        chunk = file.read(_CHUNK)
        encoding = "utf-16" if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        decoder = codecs.getincrementaldecoder(encoding)()
        while chunk:
            size += len(chunk)
            digest.update(chunk)
            if encoding != _FALLBACK:
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError:
                    encoding = _FALLBACK
            chunk = file.read(_CHUNK)
    return digest.hexdigest(), size, encoding


class _Reader:
    """An open CSV file: a context that gives its rows."""

    def __init__(self, path: Path, encoding: str) -> None:
        self._path = path
        self._encoding = encoding

    def __enter__(self) -> Iterator[list[str]]:
        self._file = self._path.open(encoding=self._encoding, errors="replace", newline="")
        header = self._file.readline()
        self._file.seek(0)
        delimiter = max(_DELIMITERS, key=header.count)
        return _named(csv.reader(self._file, delimiter=delimiter))

    def __exit__(self, *error: object) -> None:
        self._file.close()


def _named(rows: Iterable[list[str]]) -> Iterator[list[str]]:
    """The rows, the first of which has the names without blanks around them."""
    for number, row in enumerate(rows):
        yield [cell.strip() for cell in row] if number == 0 else row


def _cell(row: Sequence[str], at: int) -> str:
    return row[at] if at < len(row) else ""


def _is_missing(cell: str) -> bool:
    text = cell.strip()
    return not text or text.lower() in _MISSING


def _seconds(cell: str) -> float | None:
    """A time as seconds since the epoch; None for anything else."""
    number = _number(cell)
    if number is None and not _is_missing(cell):
        try:
            moment = datetime.datetime.fromisoformat(cell.strip())
            # Without a zone it is taken for UTC, so that the same file gives the same run everywhere.
            number = (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
        except (ValueError, OverflowError):
            return None
    if number is None or isinstance(number, bool) or not -_FAR < number < _FAR:
        return None
    return float(number)


def _number(cell: str) -> bool | float | None:
    """A number as it stands there; None for anything else."""
    text = cell.strip()
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    # Python's own way to group digits is a name or a version to everybody else.
    if "_" in text:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return None
