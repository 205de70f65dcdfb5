"""CSV files with a row for each value, as `tracking export` and `tracking scalars --csv` write them.

Such a file names in every row what the value is of: the scalar, its axis, and in a file of several runs the run. Its
header tells it from files with a column for each scalar, and nothing else would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tracking_core.backends.hooks import ForeignRun
from tracking_core.base.text import counted
from tracking_core.errors import SettingsError
from tracking_core.transfer.csv_rows import (
    FALLBACK,
    Reader,
    cell_at,
    has_decimal_comma,
    is_missing,
    refuse_decimal_comma,
    to_number,
    to_seconds,
)
from tracking_core.values import Record

REQUIRED = ("name", "axis", "step", "value")
OPTIONAL = ("project", "run_id", "run", "time")
_NAMES = frozenset({"name", "metric", "metric_name", "key", "tag", "variable", "series", "scalar"})
_VALUES = frozenset({"value", "values", "val", "metric_value"})
_LIMIT = 1 << 63


def is_long(header: Sequence[str]) -> bool:
    """Whether a header is that of a file which this package has exported, its columns in any order."""
    names = set(header)
    return len(names) == len(header) and names >= set(REQUIRED) and names <= {*REQUIRED, *OPTIONAL}


def looks_long(header: Sequence[str]) -> bool:
    """Whether a header seems to be that of a file with a row for each value."""
    names = {name.lower() for name in header}
    return bool(names & _NAMES) and bool(names & _VALUES)


def refuse_long(path: Path, why: str) -> SettingsError:
    """The error for a file whose rows are those of several series, in a way that cannot be told."""
    return SettingsError(
        f"{path} seems to have a row for each value, and several series would become one: {why}. Call the columns "
        f"{', '.join(REQUIRED)} (and {', '.join(OPTIONAL)}, if you have them, and no others), as in `tracking export`; "
        "or give each series its own column, as pandas' pivot does; or remove the column, if all rows are of one series"
    )


@dataclass
class _Part:
    """What is known of the rows of one run."""

    name: str
    started: float
    ended: float
    runs: int = 0
    problems: list[str] = field(default_factory=list[str])


def long_runs(path: Path, digest: str, size: int, encoding: str) -> Iterator[ForeignRun]:
    """The runs of a file; each is to be read before the next is asked for.

    Args:
        path: The file.
        digest: The sha256 of it, in hex.
        size: Its bytes.
        encoding: How its text is encoded.

    Raises:
        SettingsError: Its numbers have a decimal comma, or there are none.
    """
    file = _LongFile(path, encoding)
    parts = file.look()
    whole = all(part.runs == 1 for part in parts.values())
    for key, rows in file.blocks() if whole else ((key, file.only(key)) for key in parts):
        part, (project, run_id) = parts[key], key
        name = part.name or run_id or path.stem
        yield ForeignRun(
            id=run_id or path.stem,
            records=file.records(rows, part),
            identity=f"{digest}/{path.stem}/{project}/{run_id}",
            name=name,
            project=project or None,
            started=part.started,
            source=path,
            size=size,
            problems=part.problems,
        )


class _LongFile:
    """One file.

    Args:
        path: The file.
        encoding: How its text is encoded.
    """

    def __init__(self, path: Path, encoding: str) -> None:
        self._path = path
        self._encoding = encoding
        with Reader(path, encoding) as rows:
            header = next(rows)
        self._at = {name: at for at, name in enumerate(header)}
        # A file without times was written some time before it was last changed; nobody knows more.
        self._default = path.stat().st_mtime
        # In a dataset they stand in the names of the directories.
        self._beside = {
            what: unquote(folder.name.removeprefix(f"{what}="))
            for what, folder in (("run_id", path.absolute().parent), ("project", path.absolute().parent.parent))
            if folder.name.startswith(f"{what}=")
        }

    def look(self) -> dict[tuple[str, str], _Part]:
        """The runs in it, in order."""
        found: dict[tuple[str, str], _Part] = {}
        last: tuple[str, str] | None = None
        for row in self._rows():
            key, when = self._key(row), self._when(row)
            part = found.get(key)
            if part is None:
                part = found[key] = _Part(self._text(row, "run"), when, when)
                if self._encoding == FALLBACK:
                    part.problems.append(f"{self._path.name} is not UTF-8, and was read as Windows-1252")
            part.started, part.ended = min(part.started, when), max(part.ended, when)
            part.runs += key != last
            last = key
            value = self._text(row, "value")
            if has_decimal_comma(value):
                raise refuse_decimal_comma(self._path, "value", value)
        if not found:
            raise SettingsError(f"{self._path} has a header, but no rows")
        return found

    def blocks(self) -> Iterator[tuple[tuple[str, str], Iterator[list[str]]]]:
        """The rows by run, where those of each stand together."""
        yield from groupby(self._rows(), self._key)

    def only(self, key: tuple[str, str]) -> Iterator[list[str]]:
        """The rows of one run, wherever they stand."""
        return (row for row in self._rows() if self._key(row) == key)

    def records(self, rows: Iterator[list[str]], part: _Part) -> Iterator[Record]:
        """The records of one run."""
        skipped: Counter[str] = Counter()
        for row in rows:
            step, value = _whole(self._text(row, "step")), to_number(self._text(row, "value"))
            if step is None:
                skipped["step is not a 64-bit integer"] += 1
            elif value is None:
                skipped["value is not a number"] += not is_missing(self._text(row, "value"))
            else:
                name, axis = self._text(row, "name"), self._text(row, "axis")
                yield Record("scalars", 0, "", self._when(row), step, axis, {name: value})
        part.problems += [f"{counted(count, 'row')} left out: {why}" for why, count in skipped.items() if count]
        yield Record("finish", 0, "", part.ended, data={"status": "finished", "error": None})

    def _rows(self) -> Iterator[list[str]]:
        with Reader(self._path, self._encoding) as rows:
            next(rows, None)
            yield from filter(any, rows)

    def _text(self, row: Sequence[str], column: str) -> str:
        at: Any = self._at.get(column)
        return "" if at is None else cell_at(row, at)

    def _key(self, row: Sequence[str]) -> tuple[str, str]:
        project, run_id = (
            self._text(row, what) if what in self._at else self._beside.get(what, "") for what in ("project", "run_id")
        )
        return project, run_id

    def _when(self, row: Sequence[str]) -> float:
        found = to_seconds(self._text(row, "time"))
        return self._default if found is None else found


def _whole(cell: str) -> int | None:
    """A step, also as it is written by a program that has only floats; None for anything else."""
    found = to_number(cell)
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    return found if type(found) is int and -_LIMIT <= found < _LIMIT else None
