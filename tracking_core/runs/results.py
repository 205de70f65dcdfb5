"""What a run says at its end: what its scalars came to, where it is shown, and how to look at it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tracking_core.base.metric_names import is_validation, main_metric
from tracking_core.base.text import counted
from tracking_core.naming import printable

if TYPE_CHECKING:
    from tracking_core.intake.results import Results, ScalarResult
    from tracking_core.runs.run import Run

SHOWN = 8
"""Scalars that are shown."""
WIDTH = 24
"""Characters of a curve."""
_BARS = "▁▂▃▄▅▆▇█"
_NAME = 40
_ENTRIES = 20


def chosen(scalars: Sequence[ScalarResult], most: int = SHOWN) -> list[ScalarResult]:
    """The scalars that are shown: the main metric, then those of the validation, then the others as they came."""
    main = main_metric(one.name for one in scalars)
    return sorted(scalars, key=lambda one: (one.name != main, not is_validation(one.name)))[:most]


def curve(values: Sequence[float], width: int = WIDTH) -> str:
    """A line of bars, one for each of at most `width` values; a blank where a value is not finite.

    Example:
        >>> curve([0.0, 1.0, 2.0, 7.0])
        '▁▂▃█'
    """
    picked = _picked(values, width)
    finite = [value for value in picked if math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    # Halves, so that the difference of the largest floats does not overflow.
    span = high / 2 - low / 2
    parts = [0.5 if span == 0 else (value / 2 - low / 2) / span for value in picked]
    return "".join(
        _BARS[round(part * (len(_BARS) - 1))] if math.isfinite(value) else " "
        for value, part in zip(picked, parts, strict=True)
    )


def _picked(values: Sequence[float], width: int) -> list[float]:
    if len(values) <= width:
        return list(values)
    return [values[round(at * (len(values) - 1) / (width - 1))] for at in range(width)]


def lines(scalars: Sequence[ScalarResult], count: int) -> list[str]:
    """A line for each scalar that is shown, in columns.

    Args:
        scalars: What they came to.
        count: How many there are.
    """
    rows = [
        (
            printable(one.name, limit=_NAME),
            f"{one.last:.6g}",
            f"best {best}" if (best := _best(one)) else "",
            _curve_of(one),
        )
        for one in chosen(scalars)
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)] if rows else []
    found = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip()
        for row in rows
    ]
    return found + _more(count, len(rows))


def closing(head: str, results: Results, urls: Sequence[str], hints: Sequence[str]) -> tuple[str, str]:
    """The message at the end of a run, as text and as HTML.

    Args:
        head: How it ended.
        results: What its scalars came to.
        urls: Where its targets show it.
        hints: What comes last: the command that shows it, and where it is when it is not where it should be.
    """
    from tracking_core.values.notebook import facts_html

    scalars, count = results.scalars(), results.count
    text = "\n".join([head, *(f"  {line}" for line in (*lines(scalars, count), *urls, *hints))])
    rows = [(one.name, f"{one.last:.6g}", _best(one), _curve_of(one)) for one in chosen(scalars)]
    notes = [*_more(count, len(rows)), *hints]
    return text, facts_html(head, columns=("", "last", "best", ""), rows=rows, links=urls, notes=notes)


def command_for(run_id: str, root: Path) -> str:
    """The command that shows a run.

    Args:
        run_id: Its id.
        root: Root of its store, which is named unless the command looks there anyway.
    """
    from tracking_core.environment.settings import load_settings

    usual = Path(load_settings().get("dir") or "tracking_runs").expanduser()
    return shlex.join(["tracking", "show", run_id, *([] if usual.absolute() == root else ["--root", str(root)])])


def _best(one: ScalarResult) -> str:
    return "" if math.isnan(one.best) else f"{one.best:.6g} at {printable(one.axis, limit=20)} {one.best_step}"


def _curve_of(one: ScalarResult) -> str:
    return curve([*one.curve, one.last]) if one.count > 1 else ""


def _more(count: int, shown: int) -> list[str]:
    return [f"and {counted(count - shown, 'other scalar')}"] if count > shown else []


def run_html(run: Run) -> str:
    """A run that is being recorded, as HTML: what it is, its configuration, and its last values."""
    from tracking_core.values.config import flatten
    from tracking_core.values.notebook import facts_html

    facts = [("project", run.project), ("status", run.status), ("directory", str(run.dir))]
    facts += [("group", run.group)] if run.group else []
    rows = [("config", *pair) for pair in list(flatten(run.config, ".").items())[:_ENTRIES]]
    rows += [("last", *pair) for pair in list(run.summary.items())[:_ENTRIES]]
    address = run.url()
    links = [address] if address is not None else []
    title = f"{run.name} ({run.id})"
    return facts_html(title, facts, columns=("", "name", "value"), rows=rows, links=links, most=2 * _ENTRIES)
