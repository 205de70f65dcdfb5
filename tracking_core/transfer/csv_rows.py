"""What stands in the rows of CSV files: encodings, delimiters, numbers and times."""

from __future__ import annotations

import codecs
import csv
import datetime
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tracking_core.errors import SettingsError

_DELIMITERS = ",;\t"
_MISSING = frozenset({"na", "n/a", "#n/a", "<na>", "null", "none", "-", "--"})
"""Words, in lower case, for a missing value; an empty cell is a missing value too."""
_FAR = 1e12
"""Larger numbers are not times: 30,000 years."""
_CHUNK = 1 << 20
_DECIMAL_COMMA = re.compile(r"[+-]?(?:\d+|\d{1,3}(?:[. ]\d{3})+),\d+(?:[eE][+-]?\d+)?")
FALLBACK = "cp1252"


def examine(path: Path) -> tuple[str, int, str]:
    """The digest, the size and the encoding of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        chunk = file.read(_CHUNK)
        encoding = "utf-16" if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        decoder = codecs.getincrementaldecoder(encoding)()
        while chunk:
            size += len(chunk)
            digest.update(chunk)
            if encoding != FALLBACK:
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError:
                    encoding = FALLBACK
            chunk = file.read(_CHUNK)
    return digest.hexdigest(), size, encoding


class Reader:
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


def has_decimal_comma(text: str) -> bool:
    """Whether a cell is a number as it is written with a comma, such as `1,5` or `1.234,5`."""
    return _DECIMAL_COMMA.fullmatch(text.strip()) is not None


def refuse_decimal_comma(path: Path, column: str, text: str) -> SettingsError:
    """The error for a column of numbers with a comma, which would be left out as text."""
    return SettingsError(
        f"{path}: the numbers of the column {column!r:.200} have a decimal comma, as {text.strip()!r:.40}; write them "
        "with a point, such as by pandas.read_csv(…, sep=None, engine='python', decimal=',').to_csv(…, index=False)"
    )


def cell_at(row: Sequence[str], at: int) -> str:
    """A cell of a row; "" where the row is shorter."""
    return row[at] if at < len(row) else ""


def is_missing(cell: str) -> bool:
    """Whether a cell holds no value."""
    text = cell.strip()
    return not text or text.lower() in _MISSING


def to_seconds(cell: str) -> float | None:
    """A time as seconds since the epoch; None for anything else."""
    found = to_number(cell)
    if found is None and not is_missing(cell):
        try:
            moment = datetime.datetime.fromisoformat(cell.strip())
            # Without a zone it is taken for UTC, so that the same file gives the same run everywhere.
            found = (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
        except (ValueError, OverflowError):
            return None
    if found is None or isinstance(found, bool) or not -_FAR < found < _FAR:
        return None
    return float(found)


def to_number(cell: str) -> bool | float | None:
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
