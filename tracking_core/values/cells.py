"""The cells of a table: what is kept of a column by the call, and what each cell becomes later.

A call copies a column: arrays of numbers as arrays, and lists whose cells cannot change as lists. Turning the cells
into what JSON holds takes a microsecond each, and is left to whoever writes them.
"""

from __future__ import annotations

import datetime
import enum
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from pathlib import PurePath
from typing import Any, cast
from uuid import UUID

import numpy as np

from tracking_core.base.json_text import INT_LIMIT, pack
from tracking_core.errors import InvalidValueError
from tracking_core.values.arrays import bounded, describe, is_array_like, is_real, to_host
from tracking_core.values.config import plain_text, short_repr
from tracking_core.values.scalars import to_scalar

AT_ONCE = 2048
"""Rows that are converted, searched or encoded in one go: other threads run between them."""
LARGEST_ARRAY = 1024
"""Numbers up to which an array in a cell is kept as nested lists."""
_PLAIN = frozenset({type(None), bool, int, float, str})
_FROZEN = (
    bool, int, float, complex, str, bytes, Decimal, Fraction, UUID, PurePath, enum.Enum, datetime.date, datetime.time,
    datetime.timedelta, np.number, np.bool_, np.datetime64,
)  # fmt: skip
_DTYPES: dict[type, type] = {bool: np.bool_, int: np.int64, float: np.float64}
_MISSING = frozenset({"NAType", "NaTType", "MaskedConstant"})
_DEEPEST = 16
_DIGITS = 4096
_LONGEST_BYTES = 200


class Column:
    """The cells of one column, which nobody else can change.

    Args:
        cells: An array of real numbers of shape `[N, …]`, one of times of shape `[N]`, or a list.
        is_plain: Whether the cells of a list are what `plain_cell` gives.
    """

    __slots__ = ("cells", "is_plain")

    def __init__(self, cells: np.ndarray[Any, Any] | list[Any], *, is_plain: bool = True) -> None:
        self.cells = cells
        self.is_plain = is_plain

    @classmethod
    def copied(cls, name: str, cells: Any) -> Column:
        """A column with the cells of an array or an iterable.

        Args:
            name: Its name, for the error message.
            cells: See above.

        Raises:
            InvalidValueError: It has no end, or holds a value that cannot be read, such as a deleted array.
        """
        if is_array_like(cells) and not isinstance(cells, np.generic):
            dtype, shape = getattr(cells, "dtype", None), getattr(cells, "shape", None)
            small = isinstance(shape, tuple) and math.prod(cast("tuple[int, ...]", shape)[1:]) <= LARGEST_ARRAY
            if isinstance(dtype, np.dtype) and shape and small and is_real(dtype) and dtype.itemsize <= 8:
                return cls(to_host(cells, name, copy=True))
            if isinstance(cells, np.ndarray) and cells.dtype.kind == "M" and cells.ndim == 1:
                return cls(_in_shortest_unit(cells))
            if isinstance(cells, np.ndarray):
                cells = list(np.array(cells) if shape else cells)
        found = list(bounded(cast("Iterable[Any]", cells), f"column {name!r:.80} of a table"))
        kinds = set(map(type, found))
        if kinds <= _PLAIN:
            return cls(_as_array(found, kinds) if len(kinds) == 1 else found)
        if all(map(_is_frozen, kinds)):
            return cls(found, is_plain=False)
        return cls([_checked(cell, row, name) for row, cell in enumerate(found)])

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def nbytes(self) -> int:
        """About how much memory it holds on to."""
        if isinstance(self.cells, np.ndarray):
            return self.cells.nbytes
        return 32 * len(self.cells) + sum(len(cell) for cell in self.cells if type(cell) is str)

    def part(self, start: int, stop: int) -> list[Any]:
        """Some of its cells, as they are stored: None, bool, int, float, str, or lists of these."""
        cells = self.cells[start:stop]
        if isinstance(cells, np.ndarray):
            if cells.dtype.kind == "M":
                return [None if text == "NaT" else text for text in np.datetime_as_string(cells).tolist()]
            if cells.dtype.kind == "V":
                cells = cells.astype(np.int64 if "int" in cells.dtype.name else np.float64)
            return cells.tolist()
        return cells if self.is_plain else [plain_cell(cell) for cell in cells]

    def parts(self) -> Iterator[list[Any]]:
        """All of them, a few at a time."""
        return (self.part(start, start + AT_ONCE) for start in range(0, len(self), AT_ONCE))


def _as_array(cells: list[Any], kinds: set[type]) -> np.ndarray[Any, Any] | list[Any]:
    """Cells of one type as an array, where that holds them exactly: it takes less memory."""
    dtype = _DTYPES.get(next(iter(kinds)))
    try:
        return np.array(cells, dtype) if dtype is not None else cells
    except OverflowError:
        return cells


def _in_shortest_unit(times: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Times in seconds, or the parts of one that they need: what they are written with."""
    known = times[~np.isnat(times)]
    for unit in ("s", "ms", "us") if np.datetime_data(times.dtype)[0] in {"ms", "us", "ns"} else ():
        if np.array_equal(known.astype(f"M8[{unit}]"), known):
            return times.astype(f"M8[{unit}]")
    return times.copy()


def plain_cell(cell: Any, depth: int = 0) -> Any:
    """What a cell is stored as.

    Args:
        cell: None, bool, int, float and str stay; arrays without dimensions become numbers, others and sequences lists,
            dates their ISO form, missing values None, and anything else text.
        depth: How many lists it is inside of.

    Raises:
        InvalidValueError: It is an array that cannot be read: deleted, traced, or in other processes.

    Example:
        >>> from decimal import Decimal
        >>> plain_cell([Decimal("1.50"), {"a": 1}])
        ['1.50', '{"a": 1}']
    """
    kind = type(cell)
    if kind in _PLAIN:
        return cell
    try:
        return _converted(cell, kind, depth)
    except InvalidValueError:
        raise
    except Exception:  # noqa: BLE001 - a cell may be as hostile as any object
        return short_repr(cell)


def _converted(cell: Any, kind: type, depth: int) -> Any:
    if isinstance(cell, str):
        return str(cell)
    if kind.__name__ in _MISSING:
        return None
    if isinstance(cell, (int, float)):
        return to_scalar(cell, "cell") if abs(cell) < INT_LIMIT or isinstance(cell, float) else int(cell)
    if isinstance(cell, (datetime.date, datetime.time)):
        return cell.isoformat()
    if isinstance(cell, (np.datetime64, np.timedelta64)):
        return None if np.isnat(cell) else str(cell)
    if isinstance(cell, (list, tuple)) and depth < _DEEPEST:
        return [plain_cell(part, depth + 1) for part in bounded(cell, "a cell of a table")]
    if isinstance(cell, (Mapping, AbstractSet, list, tuple)):
        return plain_text(cell)
    if isinstance(cell, (bytes, bytearray)):
        return repr(bytes(cell)) if len(cell) <= _LONGEST_BYTES else f"<{kind.__name__} of length {len(cell)}>"
    if is_array_like(cell) and not hasattr(cell, "getbands"):
        return _from_array(cell, depth)
    return str(cell) if kind.__str__ is not object.__str__ else short_repr(cell)


def _from_array(cell: Any, depth: int) -> Any:
    try:
        array = to_host(cell, "cell")
    except InvalidValueError:
        # What is on a device should have been a number; anything else is something that has no numbers.
        if hasattr(cell, "sharding") or "Tracer" in type(cell).__name__:
            raise
        if isinstance(cell, (np.ndarray, np.generic)) and cell.size <= LARGEST_ARRAY and depth < _DEEPEST:
            return plain_cell(cell.tolist(), depth + 1)
        return str(cell) if type(cell).__str__ is not object.__str__ else short_repr(cell)
    if array.ndim == 0:
        return to_scalar(array, "cell")
    if array.size > LARGEST_ARRAY:
        return f"<{describe(cell)}>"
    return plain_cell(array.astype(float).tolist() if array.dtype.kind == "V" else array.tolist(), depth)


def _checked(cell: Any, row: int, column: str) -> Any:
    try:
        return plain_cell(cell)
    except InvalidValueError as error:
        text = str(error).removeprefix("'cell': ")
        raise InvalidValueError(f"row {row}, column {column!r} of a table: {text}") from error


@lru_cache(maxsize=256)
def _is_frozen(kind: type) -> bool:
    """Whether values of a type cannot change, and are turned into text without fail."""
    return kind in _PLAIN or issubclass(kind, _FROZEN) or kind.__name__ in _MISSING or _is_of_pandas(kind)


def _is_of_pandas(kind: type) -> bool:
    return kind.__module__.startswith("pandas._libs")


def packed(cells: Sequence[Any]) -> Iterable[Any]:
    """Stored cells as JSON can hold them; see `base.json_text.pack`."""
    kinds = set(map(type, cells))
    if float in kinds and kinds <= {float, type(None)}:
        plain = all(cell is None or math.isfinite(cell) for cell in cells)
    elif int in kinds and kinds == {int}:
        plain = min(cells) >= -INT_LIMIT and max(cells) < INT_LIMIT
    else:
        plain = kinds.isdisjoint((int, float, list))
    return cells if plain else [pack(_short_int(cell)) for cell in cells]


def _short_int(cell: Any) -> Any:
    """A cell; an integer of more digits than Python itself writes, as its hexadecimal text."""
    return hex(cell) if type(cell) is int and cell.bit_length() > _DIGITS else cell
