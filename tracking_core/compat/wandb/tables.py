"""`wandb.Table`: columns and rows, to which rows can be added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tracking_core.base.text import counted
from tracking_core.compat.wandb.missing import ignored, no_such_name
from tracking_core.errors import InvalidValueError
from tracking_core.values.images import Image
from tracking_core.values.tables import Table as BaseTable
from tracking_core.values.tables import to_table

if TYPE_CHECKING:
    from tracking_core.runs.run import Run


class Table:
    """Rows under named columns, as W&B's class of this name takes them.

    Args:
        columns: Names of the columns; None takes "Input", "Output" and "Expected".
        data: Rows: a sequence of sequences, or an array of shape `[rows, columns]`.
        rows: The same under its older name.
        dataframe: A data frame instead.
        options: `dtype`, `optional`, `allow_mixed_types` and `log_mode` of W&B are taken, and change nothing: cells may
            be of any type, and a table is recorded whole whenever it is logged.

    Raises:
        InvalidValueError: A row has another length than the columns, or a name appears twice.

    Example:
        >>> table = Table(columns=["digit", "right"])
        >>> table.add_data(3, True)
        >>> table.data
        [[3, True]]
    """

    def __init__(
        self,
        columns: Sequence[Any] | None = None,
        data: Any = None,
        rows: Any = None,
        dataframe: Any = None,
        **options: Any,
    ) -> None:
        for name in options.keys() - {"dtype", "optional", "allow_mixed_types", "log_mode"}:
            ignored("wandb.Table", name, "there is no such argument")
        if dataframe is not None:
            found = to_table(dataframe)
            columns, data = found.columns, found.rows
        elif hasattr(data, "iloc"):
            found = to_table(data)
            columns, data = columns or found.columns, found.rows
        self.columns = [str(name) for name in (("Input", "Output", "Expected") if columns is None else columns)]
        """Names of the columns."""
        self.data: list[list[Any]] = []
        """The rows."""
        if len(set(self.columns)) != len(self.columns):
            raise InvalidValueError(f"wandb.Table: the columns {self.columns!r:.200}: each name may appear only once")
        given = data if data is not None else rows
        for row in given if given is not None else ():
            self.add_data(*row)

    def add_data(self, *data: Any) -> None:
        """Add a row: one cell for each column.

        Raises:
            InvalidValueError: There are more or fewer.
        """
        if len(data) != len(self.columns):
            raise InvalidValueError(
                f"wandb.Table: {counted(len(data), 'cell')} for {counted(len(self.columns), 'column')} "
                f"({', '.join(self.columns)})"
            )
        self.data.append(list(data))

    def log_to(self, run: Run, name: str, step: Any) -> None:
        """Record it as it is now.

        Args:
            run: The run.
            name: Its name.
            step: Its step.
        """
        cells = [[_cell(cell) for cell in row] for row in self.data]
        # Columns may hold arrays that are on a device; without rows there are none.
        columns = dict(zip(self.columns, map(list, zip(*cells, strict=True)), strict=True)) if cells else None
        run.log_table(name, BaseTable(self.columns, []) if columns is None else columns, step=step)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(no_such_name("wandb.Table", name, ["add_data", "columns", "data"]), name=name)


def _cell(cell: Any) -> Any:
    if not isinstance(cell, Image):
        return cell
    ignored("wandb.Table", "an image in a cell", "the table says where one is; log it beside the table")
    return f"(image: {cell.caption})" if cell.caption else "(image)"
