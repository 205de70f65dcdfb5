"""CSV files as runs: a header, a column of steps, and numeric columns, which become scalars."""

from __future__ import annotations

import csv
import datetime
import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tracking_core.errors import SettingsError
from tracking_core.hookspecs import ForeignRun
from tracking_core.settings import did_you_mean
from tracking_core.values import Record

_TIMES = ("time", "timestamp", "wall_time", "wall time", "_timestamp")
_DELIMITERS = ",;\t"


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
    files = [path] if path.is_file() else sorted(path.glob("*.csv"))
    if not files:
        raise SettingsError(f"{path} holds no CSV file")
    for file in files:
        yield _CsvRun(file, options).foreign()


class _CsvRun:
    """One file.

    Args:
        path: The file.
        options: How to read it.
    """

    def __init__(self, path: Path, options: CsvOptions) -> None:
        self._path = path
        self._problems: list[str] = []
        with self._rows() as rows:
            self._header = next(rows, [])
            first = next(rows, [])
        twice = {name for name in self._header if name and self._header.count(name) > 1}
        if twice:
            raise SettingsError(f"{path}: the column {min(twice)!r} is there twice")
        self._step = self._column(options.step or "step", "--step")
        self._time = self._column(options.time, "--time") if options.time else self._usual_time()
        # The axis is called what the column is called, unless that is one of the many ways to write "step".
        self._axis = self._header[self._step]
        if self._axis.lower() in {"step", "_step", "global_step"}:
            self._axis = "step"
        # A file without times was written some time before it was last changed; nobody knows more.
        self._default = path.stat().st_mtime
        self._started = self._when(first) if first else self._default

    def foreign(self) -> ForeignRun:
        """The run."""
        content = self._path.read_bytes()
        return ForeignRun(
            id=self._path.stem,
            records=self._records(),
            identity=f"{hashlib.sha256(content).hexdigest()}/{self._path.stem}/{self._step}/{self._time}",
            name=self._path.stem,
            started=self._started,
            source=self._path,
            size=len(content),
            problems=self._problems,
        )

    def _records(self) -> Iterator[Record]:
        scalars = self._numeric()
        skipped = 0
        last = self._started
        with self._rows() as rows:
            next(rows, None)
            for row in rows:
                if not any(cell.strip() for cell in row):
                    continue
                step = _number(_cell(row, self._step))
                if step is None or (isinstance(step, float) and not step.is_integer()):
                    skipped += 1
                    continue
                last = self._when(row)
                values = {
                    name: number for at, name in scalars if (number := _number(_cell(row, at))) is not None
                }  # fmt: skip
                if values:
                    yield Record("scalars", 0, "", last, int(step), self._axis, values)
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
                    elif cell.strip():
                        others[at] += 1
        found: list[tuple[int, str]] = []
        left_out: list[str] = []
        for at, name in enumerate(self._header):
            if at in {self._step, self._time}:
                continue
            if numbers[at] and not others[at]:
                found.append((at, name))
            elif others[at]:
                left_out.append(name)
        if left_out:
            self._problems.append(f"columns that are not numeric were left out: {', '.join(map(repr, left_out))}"[:500])
        return found

    def _rows(self) -> _Reader:
        return _Reader(self._path)

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

    def _usual_time(self) -> int | None:
        names = [name.lower() for name in self._header]
        return next((names.index(name) for name in _TIMES if name in names), None)

    def _when(self, row: Sequence[str]) -> float:
        cell = _cell(row, self._time) if self._time is not None else ""
        seconds = _number(cell)
        if seconds is None and cell.strip():
            try:
                moment = datetime.datetime.fromisoformat(cell.strip())
            except ValueError:
                return self._default
            # Without a zone it is taken for UTC, so that the same file gives the same run everywhere.
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
        return float(seconds) if seconds is not None and math.isfinite(seconds) else self._default


class _Reader:
    """An open CSV file: a context that gives its rows."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Iterator[list[str]]:
        self._file = self._path.open(encoding="utf-8-sig", errors="replace", newline="")
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


def _number(cell: str) -> bool | float | None:
    """A number as it stands there; None for anything else."""
    text = cell.strip()
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return None
