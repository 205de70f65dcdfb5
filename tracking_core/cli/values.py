"""Series of a run, chosen by name or pattern, and how they are printed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import click

from tracking_core.cli.output import Output, moment, number, print_json, shown
from tracking_core.cli.terminal import data
from tracking_core.errors import NameNotFoundError
from tracking_core.store import RunRecord, Series
from tracking_core.store.names import fitting, matching
from tracking_core.store.sinks import csv_writer

COLUMNS = ("name", "axis", "step", "time", "value")
"""Of tables and CSV."""


def series_of(record: RunRecord, names: Sequence[str], axis: str | None = None, *, raw: bool = False) -> list[Series]:
    """Series by name or pattern, on every axis that they were logged on, or on one.

    Args:
        record: The run.
        names: Names, or patterns with `*`, `?` and `[…]`; () takes all.
        axis: Only this axis.
        raw: All rows, including rows of steps that were logged again later.

    Raises:
        NameNotFoundError: A name or a pattern fits nothing.
    """
    axes = record.scalar_axes()
    for name in names:
        if not fitting(axes, name):
            # It says what there is.
            record.scalars(name, axis)
    wanted = matching(axes, names, axis)
    if names and not wanted:
        known = sorted({one for name, _ in matching(axes, names) for one in axes[name]})
        raise NameNotFoundError(f"run {record.id}: nothing of that name is on the axis {axis!r}, but on {known}")
    return [record.scalars(name, one, raw=raw) for name, one in wanted]


def tail_of(series: Series, count: int) -> Series:
    """The last rows of a series."""
    return Series(series.name, series.axis, series.step[-count:], series.time[-count:], series.value[-count:])


def rows_of(found: Iterable[Series]) -> Iterator[tuple[str, str, int, float, float]]:
    """(name, axis, step, time, value) of all of them."""
    for series in found:
        columns = (series.step.tolist(), series.time.tolist(), series.value.tolist())
        for step, time, value in zip(*columns, strict=True):
            yield series.name, series.axis, step, time, value


def print_names(record: RunRecord, axis: str | None, *, as_json: bool, as_csv: bool, raw: bool) -> None:
    """Print which scalars there are, with the number of points and the last value of each."""
    found = series_of(record, (), axis, raw=raw)
    axes = sorted({one for known in record.scalar_axes().values() for one in known}) if not found else []
    if axes:
        raise NameNotFoundError(f"run {record.id}: nothing is on the axis {axis!r}, but on {axes}")
    rows = [
        (series.name, series.axis, len(series), int(series.step[-1]), float(series.time[-1]), series.last)
        for series in found
    ]
    heads = ("name", "axis", "points", "step", "time", "value")
    if as_json:
        print_json({"run": record.id, "scalars": [dict(zip(heads, row, strict=True)) for row in rows]})
    elif as_csv:
        _write_csv(heads, rows)
    elif rows:
        Output().table(
            ("name", "axis", "points", "last step", "last time", "last value"),
            [(name, one, str(count), str(step), moment(at), number(last)) for name, one, count, step, at, last in rows],
            whole=("points", "last step", "last value"),
            spare=("last time",),
        )
    else:
        click.echo(shown(f"run {record.id} ({record.name}) has no scalars"), err=True)


def print_as_json(record: RunRecord, found: Sequence[Series]) -> None:
    """Print series as columns, on one line."""
    series = [
        {"name": one.name, "axis": one.axis, "step": one.step, "time": one.time, "value": one.value} for one in found
    ]
    print_json({"run": record.id, "series": series}, indent=None)


def print_as_csv(found: Sequence[Series]) -> None:
    """Print series as CSV, with a header."""
    _write_csv(COLUMNS, rows_of(found))


def print_table(found: Sequence[Series]) -> None:
    """Print series for people."""
    Output().table(
        COLUMNS,
        [(name, axis, str(step), moment(at), number(value)) for name, axis, step, at, value in rows_of(found)],
        whole=("step", "time", "value"),
        spare=("time",),
    )


def _write_csv(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    stream = data()
    writer = csv_writer(stream)
    writer.writerow(heads)
    writer.writerows(rows)
    stream.flush()
