"""Curves in the terminal (uniplot) and in files (matplotlib)."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click
import numpy as np

from tracking_core.base.files import written_aside
from tracking_core.cli.choosing import choose_all_in, choose_in
from tracking_core.cli.output import shown
from tracking_core.cli.terminal import styled
from tracking_core.errors import MissingDependencyError, NameNotFoundError, RunNotFoundError
from tracking_core.store import RunRecord, Series, Store

_LARGEST = 1e100
"""Beyond that the arithmetic of axes overflows."""
_FARTHEST = 1e19
"""Any step is nearer, and any moment but those that were recorded before such were refused."""
_ASCII = str.maketrans("┌┐└┘─│▁", "++++-|_")
"""uniplot draws frames and axes with these, whatever the characters of the curve."""
_STYLES = re.compile(r"\x1b\[[0-9;]*m")
_LISTED = 200
"""Names of scalars."""
_WIDTH, _HEIGHT = 80, 17
"""Where there is no terminal to fill."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A series of a run as it is drawn.

    Args:
        record: The run.
        label: What the legend calls it.
        series: The series.
        x: float64 array of shape `[N]`: its steps, or seconds since the run started.
        value: float64 array of shape `[N]`: what is drawn, smoothed or as it is.
    """

    record: RunRecord
    label: str
    series: Series
    x: np.ndarray[Any, np.dtype[np.float64]]
    value: np.ndarray[Any, np.dtype[np.float64]]


def parted(words: Sequence[str], store: Store) -> tuple[list[RunRecord], list[str]]:
    """The runs and the scalars that the arguments name.

    The first is a run. A further one is a scalar where a run before it has one of that name, or some that fit the
    pattern; otherwise it is a run. What is exactly the id or the name of a run is one, unless it is the last.

    Raises:
        RunNotFoundError: The first names no run.
        NameNotFoundError: The last is neither.
    """
    records: list[RunRecord] = []
    names: list[str] = []
    last = len(words) - 1
    for at, word in enumerate(words):
        axes = {name for record in records for name in record.scalar_names()}
        if at and at < last and (found := _run(store, word, whole=True)) is not None:
            records.append(found)
        elif at and (fits := [word] if word in axes else [name for name in sorted(axes) if fnmatchcase(name, word)]):
            names += fits
        elif not at:
            records.append(choose_in(store, word))
        elif (found := _run(store, word)) is not None:
            records.append(found)
        elif at == last or names:
            # It says what there is.
            records[0].scalars(word)
        else:
            records.append(choose_in(store, word))
    return list({record.dir: record for record in records}.values()), list(dict.fromkeys(names))


def _run(store: Store, word: str, *, whole: bool = False) -> RunRecord | None:
    try:
        return choose_all_in(store, [word], whole=whole)[0]
    except RunNotFoundError:
        return None


def print_scalars(records: Sequence[RunRecord]) -> None:
    """List the scalars that could be drawn."""
    for record in records:
        names = record.scalar_names()
        there = ", ".join(names[:_LISTED]) + (f", and {len(names) - _LISTED:,} more" if len(names) > _LISTED else "")
        click.echo(shown(f"run {record.id} ({record.name}): {there or 'no scalars'}"))


def smoothed(value: np.ndarray[Any, Any], weight: float) -> np.ndarray[Any, Any]:
    """A running mean, as TensorBoard smooths: each value counts `weight` times as much as the one after it.

    The start is weighted as if nothing had come before it; what is not finite stays, and does not count.

    Args:
        value: `[N]` values.
        weight: 0 for no smoothing, up to but without 1.
    """
    if not weight:
        return value
    found = value.astype(np.float64)
    total = share = 0.0
    for at in np.flatnonzero(np.isfinite(found)).tolist():
        total = total * weight + (1 - weight) * float(found[at])
        share = share * weight + (1 - weight)
        found[at] = total / share
    return found


def all_curves(
    records: Sequence[RunRecord], names: Sequence[str], axis: str | None, *, over: str, raw: bool, smooth: float = 0.0
) -> dict[str, list[Curve]]:
    """The curves of several scalars, by name; one that no run has on the axis is left out, unless all are.

    Raises:
        NameNotFoundError: None of the runs has any of them.
    """
    found: dict[str, list[Curve]] = {}
    missing: NameNotFoundError | None = None
    for name in names:
        try:
            found[name] = curves(records, name, axis, over=over, raw=raw, smooth=smooth)
        except NameNotFoundError as error:
            missing = missing or error
    if missing is not None and not found:
        raise missing
    return found


def curves(
    records: Sequence[RunRecord], name: str, axis: str | None, *, over: str, raw: bool, smooth: float = 0.0
) -> list[Curve]:
    """The curves of one scalar.

    Args:
        records: The runs; those without that scalar are left out, with a word about it.
        name: Name of the scalar.
        axis: Its step axis.
        over: "step" or "time".
        raw: All rows, including rows of steps that were logged again later.
        smooth: How much it is smoothed; see `smoothed`.

    Raises:
        NameNotFoundError: None of the runs has it.
    """
    found: list[Curve] = []
    missing: list[NameNotFoundError] = []
    names = [record.name for record in records]
    for record in records:
        try:
            series = record.scalars(name, axis, raw=raw)
        except NameNotFoundError as error:
            missing.append(error)
            continue
        label = record.name if names.count(record.name) == 1 else f"{record.name} ({record.id})"
        with np.errstate(over="ignore"):
            since = series.time - record.started
        x = since if over == "time" else series.step.astype(np.float64)
        found.append(Curve(record, shown(label), series, x, smoothed(series.value, smooth)))
    if not found:
        raise missing[0]
    for error in missing:
        click.echo(f"left out: {shown(str(error))}", err=True)
    return found


def as_json(found: Mapping[str, Sequence[Curve]]) -> dict[str, Any]:
    """The curves as JSON values."""
    return {
        "name": next(iter(found)),
        "names": list(found),
        "runs": [
            {
                "run": one.record.id,
                "name": one.record.name,
                "scalar": name,
                "axis": one.series.axis,
                "step": one.series.step,
                "time": one.series.time,
                "value": one.value,
            }
            for name, several in found.items()
            for one in several
        ],
    }


def draw(name: str, found: Sequence[Curve], *, log: bool, width: int | None, height: int | None) -> None:
    """Draw into the terminal, or as plain text where there is none.

    Raises:
        MissingDependencyError: uniplot is not installed.
    """
    plot = _uniplot()
    terminal = sys.stdout.isatty()
    colour = terminal and "NO_COLOR" not in os.environ
    if terminal:
        columns, lines = shutil.get_terminal_size()
        # Frame and numbers stand beside it.
        width, height = width or max(20, columns - 14), height or max(5, min(30, lines - 8))
    data = [(one.label, *_drawable(one, log=log)) for one in _with_values(found, log=log)]
    braille = _encodes("⣿")
    options: dict[str, Any] = {
        "lines": True,
        "width": width or _WIDTH,
        "height": height or _HEIGHT,
        "character_set": "braille" if braille else "ascii",
        "y_as_log": log,
        "x_min": min(float(x.min()) for _, x, _ in data),
        "x_max": max(float(x.max()) for _, x, _ in data),
        **_heights([y for _, _, y in data], log=log),
    }
    if options["x_min"] == options["x_max"]:
        options["x_min"], options["x_max"] = options["x_min"] - 1, options["x_max"] + 1
    charts = [data] if colour or len(data) == 1 else [[one] for one in data]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # What is odd about a curve is seen in its drawing.
        warnings.simplefilter("ignore")
        for chart in charts:
            title = shown(name) if len(found) > 1 and len(chart) > 1 else f"{shown(name)} of {chart[0][0]}"
            text = plot(
                xs=[x for _, x, _ in chart],
                ys=[y for _, _, y in chart],
                title=title,
                legend_labels=[label for label, _, _ in chart] if len(chart) > 1 else None,
                color=colour and len(chart) > 1,
                **options,
            )
            if not braille:
                text = text.translate(_ASCII)
            styled("\n".join(_labels_left(text.split("\n"))))


def _labels_left(lines: Sequence[str]) -> list[str]:
    """A drawing with the labels of its y axis at the left, where they are looked for, and not behind the frame."""
    edge = next((line[0] for line in lines if line[:1] in {"│", "|"}), None)
    rows = [
        line.rpartition(edge) if edge and line.startswith(edge) and line.count(edge) > 1 else None for line in lines
    ]
    labels = ["" if row is None else _STYLES.sub("", row[2]).strip() for row in rows]
    width = max(map(len, labels), default=0)
    moved: list[str] = []
    for line, row, label in zip(lines, rows, labels, strict=True):
        moved.append(f"{label:>{width}} {line if row is None else row[0] + row[1]}".rstrip())
    return moved


def _uniplot() -> Any:
    try:
        from uniplot import plot_to_string  # pyright: ignore[reportMissingImports] - an extra
    except ImportError as error:
        raise MissingDependencyError(
            "drawing in the terminal needs uniplot, which is not installed: pip install 'tracking-core[plot]'"
        ) from error
    return plot_to_string


def _drawable(one: Curve, *, log: bool) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The arrays without what cannot be drawn at the ends; NaN within a curve is a gap in it."""
    x, y = _within(one)
    if log:
        y = np.where(y > 0, y, np.nan)
    there = np.flatnonzero(~np.isnan(y))
    if not len(there):
        return x[:0], y[:0]
    part = slice(there[0], there[-1] + 1)
    return x[part], y[part]


def _within(one: Curve) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The points that axes can show, as arrays of shape `[N]`; a value that they cannot is a gap."""
    there = np.abs(one.x) < _FARTHEST
    return one.x[there], np.where(np.abs(one.value) < _LARGEST, one.value, np.nan)[there]


def _with_values(found: Sequence[Curve], *, log: bool) -> list[Curve]:
    """Those of which there is something to draw, with a word about the others.

    Raises:
        ClickException: There is none.
    """
    kept = [one for one in found if len(_drawable(one, log=log)[0])]
    for one in found:
        if one not in kept:
            click.echo(f"{one.label}: no value can be plotted", err=True)
    if not kept:
        raise click.ClickException("there is nothing that can be drawn")
    return kept


def _heights(values: Sequence[np.ndarray[Any, Any]], *, log: bool) -> dict[str, float]:
    low, high = min(float(np.nanmin(one)) for one in values), max(float(np.nanmax(one)) for one in values)
    if low == high:
        low, high = (low / 2, high * 2) if log else (low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2)
    return {"y_min": low, "y_max": high}


def _encodes(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeError, LookupError):
        return False
    return True


def draw_file(path: Path, found: Mapping[str, Sequence[Curve]], *, over: str, log: bool) -> None:
    """Draw into an image file, each scalar below the other; its ending says which kind, PNG without one.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        ClickException: There is nothing that can be drawn.
        OSError: The file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import (  # pyright: ignore[reportMissingImports] - an extra
            FigureCanvasAgg,
        )
        from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports] - an extra
    except ImportError as error:
        raise MissingDependencyError(
            "drawing into a file needs matplotlib, which is not installed: pip install 'tracking-core[plot]'"
        ) from error
    figure: Any = Figure(figsize=(8, 4.5 * len(found)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for at, (name, several) in enumerate(found.items()):
        _draw_axes(figure.add_subplot(len(found), 1, at + 1), name, _with_values(several, log=log), over=over, log=log)
    kind = path.suffix[1:].lower() or "png"
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such directory", str(path.parent))
    try:
        with written_aside(path) as aside, warnings.catch_warnings():
            # Of letters that the font lacks.
            warnings.simplefilter("ignore")
            figure.savefig(aside, format=kind)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--png") from error


def _draw_axes(axes: Any, name: str, found: Sequence[Curve], *, over: str, log: bool) -> None:
    for one in found:
        x, value = _within(one)
        points = "." if len(x) < 2 else None
        # matplotlib reads dollars as mathematics, and leaves labels that begin with "_" out.
        [line] = axes.plot(x, value, linewidth=1.2, marker=points)
        line.set_label(" " + one.label.replace("$", r"\$"))
    axes.set_title(shown(name).replace("$", r"\$"))
    axes.set_xlabel("seconds since the start" if over == "time" else shown(found[0].series.axis).replace("$", r"\$"))
    if log:
        axes.set_yscale("log", nonpositive="mask")
    axes.grid(visible=True, alpha=0.3)
    if len(found) > 1:
        axes.legend()
