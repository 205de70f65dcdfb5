"""A series as Arrow data, for polars, pandas, DuckDB and whatever else reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracking_core.errors import MissingDependencyError

if TYPE_CHECKING:
    from tracking_core.store.series import Series


def to_table(series: Series) -> Any:
    """A `pyarrow.Table` over the arrays of a series, which are not copied.

    Args:
        series: Becomes the columns step (int64), time and value (float64); each field has the metadata `name` and
            `axis`, in UTF-8 with escapes for lone surrogates.

    Raises:
        MissingDependencyError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingDependencyError(
            f"series {series.name!r}: Arrow data need pyarrow, which is not installed: "
            "pip install 'tracking-core[store]'; without it use the arrays series.step, .time and .value"
        ) from error
    pyarrow: Any = pa
    metadata = {"name": _text(series.name), "axis": _text(series.axis)}
    columns = {"step": series.step, "time": series.time, "value": series.value}
    arrays = [pyarrow.array(column) for column in columns.values()]
    fields = [
        pyarrow.field(name, part.type, nullable=False, metadata=metadata)
        for name, part in zip(columns, arrays, strict=True)
    ]
    return pyarrow.Table.from_arrays(arrays, schema=pyarrow.schema(fields))


def _text(name: str) -> bytes:
    return name.encode("utf-8", "backslashreplace")
