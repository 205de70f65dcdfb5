"""Data frames of other libraries, as named columns. They are recognised by their types, and never imported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tracking_core.errors import InvalidValueError
from tracking_core.values.arrays import describe

_KINDS = {
    "pandas": frozenset({"DataFrame", "Series"}),
    "polars": frozenset({"DataFrame", "LazyFrame", "Series"}),
    "pyarrow": frozenset({"Table", "RecordBatch", "ChunkedArray", "Array"}),
}
_UNNAMED = "value"
_NUMBERS = frozenset({"bool", "boolean", "halffloat", "float", "double"} | {
    f"{word}{bits}" for word in ("int", "uint", "float") for bits in (8, 16, 32, 64)
})  # fmt: skip


def library_of(value: object) -> str | None:
    """Which library a data frame, or a column of one, is of: pandas, polars, pyarrow or numpy; None for others.

    A structured array is a data frame of numpy.
    """
    if isinstance(value, np.ndarray):
        return "numpy" if value.dtype.names else None
    for kind in type(value).__mro__:
        library = kind.__module__.partition(".")[0]
        if kind.__name__ in _KINDS.get(library, ()):
            return library
    return None


def named_columns(value: Any) -> tuple[list[str], list[Any]] | None:
    """The columns of a data frame: names, and arrays or lists of cells; None where it is none.

    Args:
        value: Anything. A lazy frame is computed; a single column is called "value" where it has no name; an index of
            pandas comes along where it has a name.

    Raises:
        InvalidValueError: Its library cannot read it.
    """
    library = library_of(value)
    if library is None:
        return None
    try:
        found = list(_READERS[library](value))
    except Exception as error:
        raise InvalidValueError(
            f"log_table: {describe(value)} cannot be read ({type(error).__name__}: {error})"
        ) from error
    return [name for name, _ in found], [cells for _, cells in found]


def _of_numpy(array: Any) -> Iterator[tuple[str, Any]]:
    flat = array.reshape(-1)
    return ((name, flat[name]) for name in array.dtype.names)


def _of_pandas(frame: Any) -> Iterator[tuple[str, Any]]:
    if not hasattr(frame, "columns"):
        frame = frame.to_frame(_UNNAMED if frame.name is None else frame.name)
    names = [_joined(name) for name in frame.columns]
    for level, name in enumerate(frame.index.names):
        # One without a name only counts the rows.
        if name is not None and _joined(name) not in names:
            yield _joined(name), _cells_of_pandas(frame.index.get_level_values(level))
    for place, name in enumerate(names):
        yield name, _cells_of_pandas(frame.iloc[:, place])


def _cells_of_pandas(column: Any) -> Any:
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biufMO":
        return column.to_numpy() if column.dtype.kind != "O" else column.tolist()
    cells, missing = column.tolist(), column.isna()
    return [None if lost else cell for cell, lost in zip(cells, missing, strict=True)] if missing.any() else cells


def _of_polars(frame: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(frame, "collect"):
        frame = frame.collect()
    columns: Sequence[Any] = frame.get_columns() if hasattr(frame, "get_columns") else [frame]
    for column in columns:
        is_plain = str(column.dtype).lower() in _NUMBERS and not column.null_count()
        yield column.name or _UNNAMED, column.to_numpy() if is_plain else column.to_list()


def _of_pyarrow(table: Any) -> Iterator[tuple[str, Any]]:
    names = getattr(table, "column_names", [_UNNAMED])
    for name, column in zip(names, table.columns if hasattr(table, "columns") else [table], strict=True):
        kind = str(column.type)
        if kind in _NUMBERS and not column.null_count:
            yield name, np.asarray(column)
        else:
            # Lists of Python objects take a microsecond a cell, and arrays of them much less.
            yield name, np.asarray(column).tolist() if kind in {"string", "large_string"} else column.to_pylist()


def _joined(name: Any) -> str:
    """A name; the parts of one that has several levels, joined."""
    return "/".join(map(str, name)) if isinstance(name, tuple) else str(name)


_READERS = {"numpy": _of_numpy, "pandas": _of_pandas, "polars": _of_polars, "pyarrow": _of_pyarrow}
