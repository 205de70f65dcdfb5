"""Tables: named columns, rows of plain cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import FrozenInstanceError
from typing import Any, NoReturn, cast

import numpy as np

from tracking_core.base.json_text import to_json
from tracking_core.base.text import counted
from tracking_core.errors import InvalidValueError
from tracking_core.values.arrays import bounded, describe
from tracking_core.values.cells import AT_ONCE, Column, packed
from tracking_core.values.frames import library_of, named_columns
from tracking_core.values.right_call import foreign_call
from tracking_core.values.scalars import entries

_SHOWN = 20


class Table:
    """Rows under named columns.

    Args:
        columns: Distinct names; or, without rows, whatever `log_table` takes: columns by name, row mappings, a data
            frame of pandas, polars or pyarrow, or a structured array.
        rows: One sequence a row, as long as `columns`, or an array of shape `[rows, columns]`. Cells are None, bool,
            int, float, str; size-1 arrays, dates and small lists are converted to these, and anything else becomes
            text.

    Raises:
        InvalidValueError: A row has another length, a name appears twice, or an array in a cell cannot be read.

    Example:
        >>> Table(["digit", "right"], [[3, True], [7, False]]).rows[1]
        (7, False)
    """

    __slots__ = ("_cells", "_height", "_rows", "columns")

    columns: tuple[str, ...]
    """Names of the columns."""

    def __init__(self, columns: Any, rows: Any = None) -> None:
        if rows is None:
            made = to_table(columns)
            _fill(self, made.columns, made.cells, made.height)
            return
        names = _names(columns)
        given = _checked_rows(rows, len(names))
        if isinstance(given, np.ndarray):
            cells = [given[:, place] for place in range(len(names))]
        else:
            cells = [[row[place] for row in given] for place in range(len(names))]
        _fill(self, names, [Column.copied(name, one) for name, one in zip(names, cells, strict=True)], len(given))

    @classmethod
    def from_columns(cls, names: Sequence[Any], columns: Sequence[Any]) -> Table:
        """A table from its columns.

        Args:
            names: Distinct names.
            columns: As many arrays or sequences of one length. They are copied.

        Raises:
            InvalidValueError: The lengths differ, a name appears twice, or an array in a cell cannot be read.
        """
        checked = _names(names)
        cells = [
            one if isinstance(one, Column) else _column(name, one) for name, one in zip(checked, columns, strict=True)
        ]
        if len(set(map(len, cells))) > 1:
            raise InvalidValueError("a table from a mapping needs columns of one length")
        table = cls.__new__(cls)
        _fill(table, checked, cells, len(cells[0]) if cells else 0)
        return table

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return Table, (self.columns, self.rows)

    @property
    def height(self) -> int:
        """How many rows it has."""
        return self._height

    @property
    def rows(self) -> tuple[tuple[Any, ...], ...]:
        """The rows, made when they are first asked for."""
        if self._rows is None:
            object.__setattr__(self, "_rows", tuple(row for part in self._parts() for row in part))
        return cast("tuple[tuple[Any, ...], ...]", self._rows)

    @property
    def cells(self) -> list[Column]:
        """The columns, as they are kept."""
        return self._cells

    @property
    def nbytes(self) -> int:
        """About how much memory it holds on to."""
        return sum(column.nbytes for column in self._cells)

    def _parts(self) -> Iterator[list[tuple[Any, ...]]]:
        if not self._cells:
            yield [()] * self._height
            return
        for start in range(0, self._height, AT_ONCE):
            yield list(zip(*(column.part(start, start + AT_ONCE) for column in self._cells), strict=True))

    def json(self) -> bytes:
        """The table as JSON: `{"columns": […], "rows": [[…], …]}`, with numbers that JSON does not have tagged."""
        rows: list[bytes] = []
        for part in self._parts():
            columns = [packed(column) for column in zip(*part, strict=True)]
            encoded = to_json(list(zip(*columns, strict=True)) if columns else part)
            rows.append(encoded[1:-1])
        return b'{"columns":' + to_json(list(self.columns)) + b',"rows":[' + b",".join(filter(None, rows)) + b"]}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Table):
            return NotImplemented
        return self.columns == other.columns and repr(self.rows) == repr(other.rows)

    def __hash__(self) -> int:
        return hash((self.columns, repr(self.rows)))

    def __repr__(self) -> str:
        rows = repr(self.rows) if self.height <= _SHOWN else f"<{counted(self.height, 'row')}>"
        return f"Table(columns={self.columns!r}, rows={rows})"

    def _repr_html_(self) -> str:
        from tracking_core.values.notebook import table_html

        return table_html(self.columns, self.rows)


def to_table(value: Any) -> Table:
    """A `Table` as it is; made from a mapping of columns, a sequence of row mappings, or a data frame.

    Args:
        value: `Table`; `{"column": [cells…]}`; `[{"column": cell}, …]` (missing cells are None); a data frame or a
            column of pandas, polars (a lazy frame is computed) or pyarrow; a structured array; or anything with
            `columns` and `to_dict("split")`, as pandas has.

    Raises:
        InvalidValueError: None of these.
    """
    if isinstance(value, Table):
        return value
    found = named_columns(value)
    if found is not None:
        return Table.from_columns(*found)
    if isinstance(value, Mapping):
        named = dict(entries(value, "a table"))
        return Table.from_columns(list(named), list(named.values()))
    if hasattr(value, "columns") and hasattr(value, "to_dict"):
        split = value.to_dict("split") if hasattr(value, "iloc") else None
        if split is not None:
            return Table(split["columns"], split["data"])
        return to_table(value.to_dict(as_series=False))
    if isinstance(value, Sequence) and value and not isinstance(value, (str, bytes)):
        rows = bounded(value, "the rows of a table")
        if all(isinstance(row, Mapping) for row in rows):
            plain = [row if type(row) is dict else dict(entries(row, "a row of a table")) for row in rows]
            names = list(dict.fromkeys(name for row in plain for name in row))
            return Table.from_columns(names, [[row.get(name) for row in plain] for name in names])
    raise InvalidValueError(
        f"log_table: expected a Table, columns, row mappings or a data frame, got {describe(value)}"
        f"{foreign_call(value)}"
    )


def _fill(table: Table, columns: tuple[str, ...], cells: list[Column], height: int) -> None:
    for name, value in (("columns", columns), ("_cells", cells), ("_height", height), ("_rows", None)):
        object.__setattr__(table, name, value)


def _names(columns: Any) -> tuple[str, ...]:
    names = tuple(str(column) for column in bounded(columns, "the columns of a table"))
    if len(set(names)) != len(names):
        raise InvalidValueError(f"a table has the columns {list(names)!r:.200}: each name may appear only once")
    return names


def _checked_rows(rows: Any, width: int) -> Any:
    """The rows, if each is a sequence of as many cells as there are columns."""
    if isinstance(rows, np.ndarray) and rows.ndim == 2 and rows.shape[1] == width and not rows.dtype.names:
        return rows
    given = bounded(rows, "the rows of a table")
    if {list, tuple}.issuperset(map(type, given)) and {width}.issuperset(map(len, given)):
        return given
    for number, row in enumerate(given):
        if isinstance(row, (str, bytes, Mapping)) or not hasattr(row, "__len__"):
            raise InvalidValueError(f"row {number} of a table: expected a sequence of cells, got {describe(row)}")
        if len(row) != width:
            raise InvalidValueError(
                f"row {number} of a table has {counted(len(row), 'cell')} for {counted(width, 'column')}"
            )
    return [tuple(row) for row in given]


def _column(name: str, cells: Any) -> Column:
    try:
        if library_of(cells) is not None:
            found = named_columns(cells)
            if found is not None and len(found[1]) == 1:
                return Column.copied(name, found[1][0])
        elif not isinstance(cells, (str, bytes, Mapping)):
            return Column.copied(name, cells)
    except InvalidValueError:
        raise
    except TypeError:
        # No iterable, or an array without dimensions.
        pass
    raise InvalidValueError(f"column {name!r:.80} of a table: expected a sequence of cells, got {describe(cells)}")
