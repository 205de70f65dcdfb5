"""Tables: named columns, rows of plain cells."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracking_core.base.text import counted
from tracking_core.errors import InvalidValueError
from tracking_core.values.arrays import bounded, describe, to_host
from tracking_core.values.scalars import entries, to_scalar


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Rows under named columns.

    Args:
        columns: Distinct names.
        rows: One sequence a row, as long as `columns`. Cells are None, bool, int, float, str; size-1 arrays, dates and
            small lists are converted to these.

    Raises:
        InvalidValueError: A row has another length, a name appears twice, or a cell is not a plain value.

    Example:
        >>> Table(["digit", "right"], [[3, True], [7, False]]).rows[1]
        (7, False)
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __init__(self, columns: Sequence[Any], rows: Sequence[Sequence[Any]]) -> None:
        names = tuple(str(column) for column in bounded(columns, "the columns of a table"))
        if len(set(names)) != len(names):
            raise InvalidValueError(f"a table has the columns {list(names)!r:.200}: each name may appear only once")
        plain: list[tuple[Any, ...]] = []
        for number, row in enumerate(bounded(rows, "the rows of a table")):
            if isinstance(row, (str, bytes, Mapping)) or not hasattr(row, "__len__"):
                raise InvalidValueError(f"row {number} of a table: expected a sequence of cells, got {describe(row)}")
            if len(row) != len(names):
                raise InvalidValueError(
                    f"row {number} of a table has {counted(len(row), 'cell')} for {counted(len(names), 'column')}"
                )
            plain.append(tuple(_cell(cell, number, name) for name, cell in zip(names, row, strict=True)))
        object.__setattr__(self, "columns", names)
        object.__setattr__(self, "rows", tuple(plain))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Table):
            return NotImplemented
        return self.columns == other.columns and repr(self.rows) == repr(other.rows)

    def __hash__(self) -> int:
        return hash((self.columns, repr(self.rows)))

    def _repr_html_(self) -> str:
        from tracking_core.values.notebook import table_html

        return table_html(self.columns, self.rows)


def to_table(value: Any) -> Table:
    """A `Table` as it is; made from a mapping of columns, a sequence of row mappings, or a data frame.

    Args:
        value: `Table`; `{"column": [cells…]}`; `[{"column": cell}, …]` (missing cells are None); or anything with
            `columns` and `to_dict("split")`, as pandas has.

    Raises:
        InvalidValueError: None of these.
    """
    if isinstance(value, Table):
        return value
    if isinstance(value, Mapping):
        named = dict(entries(value, "a table"))
        columns = [_column(name, cells) for name, cells in named.items()]
        if len({len(cells) for cells in columns}) > 1:
            raise InvalidValueError("a table from a mapping needs columns of one length")
        return Table(list(named), list(zip(*columns, strict=True)))
    if hasattr(value, "columns") and hasattr(value, "to_dict"):
        split = value.to_dict("split") if hasattr(value, "iloc") else None
        if split is not None:
            return Table(split["columns"], split["data"])
        return to_table(value.to_dict(as_series=False))
    if isinstance(value, Sequence) and value and not isinstance(value, (str, bytes)):
        rows = bounded(value, "the rows of a table")
        if all(isinstance(row, Mapping) for row in rows):
            plain = [dict(entries(row, "a row of a table")) for row in rows]
            names = list(dict.fromkeys(name for row in plain for name in row))
            return Table(names, [[row.get(name) for name in names] for row in plain])
    raise InvalidValueError(
        f"log_table: expected a Table, columns, row mappings or a data frame, got {describe(value)}"
    )


def _column(name: Any, cells: Any) -> list[Any]:
    try:
        if not isinstance(cells, (str, bytes, Mapping)):
            return list(bounded(cells, f"column {str(name)!r:.80} of a table"))
    except InvalidValueError:
        raise
    except TypeError:
        # No iterable, or an array without dimensions.
        pass
    raise InvalidValueError(f"column {str(name)!r:.80} of a table: expected a sequence of cells, got {describe(cells)}")


def _cell(cell: Any, row: int, column: str) -> Any:
    if cell is None or type(cell) in (bool, int, float, str):
        return cell
    if isinstance(cell, str):
        return str(cell)
    if isinstance(cell, (datetime.datetime, datetime.date)):
        return cell.isoformat()
    if isinstance(cell, np.datetime64):
        return str(cell)
    if isinstance(cell, (list, tuple)):
        return [_cell(part, row, column) for part in bounded(cell, f"row {row}, column {column!r} of a table")]
    try:
        array = to_host(cell, column)
        if array.size == 1 and array.ndim == 0:
            return to_scalar(array, column)
        if array.size <= 1024:
            return _cell(array.astype(float).tolist() if array.dtype.kind == "V" else array.tolist(), row, column)
    except InvalidValueError as error:
        raise InvalidValueError(
            f"row {row}, column {column!r} of a table: not a plain value ({describe(cell)})"
        ) from error
    raise InvalidValueError(f"row {row}, column {column!r} of a table: {describe(cell)} is too large for a cell")
