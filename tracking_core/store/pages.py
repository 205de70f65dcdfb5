"""How runs and comparisons show themselves in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tracking_core.base.metric_names import is_larger_better, main_metric
from tracking_core.base.text import counted
from tracking_core.errors import MissingDependencyError, StoreError
from tracking_core.values.config import flatten
from tracking_core.values.notebook import facts_html

if TYPE_CHECKING:
    from tracking_core.store.comparing import Comparison
    from tracking_core.store.records import RunRecord
    from tracking_core.store.store import Store

SHOWN_RUNS = 100
_SHOWN_VALUES = 20


def store_html(store: Store) -> str:
    """A store: where it is, and its newest runs."""
    runs = store.runs()
    facts = [("unreadable", len(store.unreadable))] if store.unreadable else []
    return f"<div>{facts_html(f'Store {store.place}', facts)}{runs_html(runs)}</div>"


def runs_html(runs: Sequence[RunRecord]) -> str:
    """A table of runs, with the metric by which they are compared if they have one."""
    if not runs:
        return facts_html("no runs")
    shown = runs[:SHOWN_RUNS]
    summaries = [_summary(run) for run in shown]
    main = main_metric({name for summary in summaries for name in summary})
    columns = ["id", "name", "project", "status", "started", *([main] if main else [])]
    rows = [
        [run.id, run.name, run.project, _status(run), _moment(run.started), *([summary.get(main)] if main else [])]
        for run, summary in zip(shown, summaries, strict=True)
    ]
    newest = f", the first {SHOWN_RUNS} of them" if len(runs) > SHOWN_RUNS else ""
    return facts_html(f"{counted(len(runs), 'run')}{newest}", columns=columns, rows=rows, most=SHOWN_RUNS)


def run_html(run: RunRecord) -> str:
    """One run: what it is, its configuration and its last values."""
    from tracking_core.delivery.progress import addresses

    facts: list[tuple[str, Any]] = [
        ("project", run.project),
        ("status", _status(run)),
        ("started", _moment(run.started)),
    ]
    facts += [("tags", ", ".join(run.tags))] if run.tags else []
    facts += [("group", run.group)] if run.group else []
    rows = [["config", *pair] for pair in list(flatten(run.config, ".").items())[:_SHOWN_VALUES]]
    rows += [["last", *pair] for pair in sorted(_summary(run).items())[:_SHOWN_VALUES]]
    links = list(dict.fromkeys(address for _, address in addresses(run.dir)))
    notes = [f"tracking show {run.id}"]
    return facts_html(
        f"{run.name} ({run.id})",
        facts,
        columns=("", "name", "value"),
        rows=rows,
        links=links,
        notes=notes,
        most=2 * _SHOWN_VALUES,
    )


def comparison_html(found: Comparison) -> str:
    """A comparison, with a row for each run: configuration that differs, and last and best values."""
    columns = ["run", "status", *found.config]
    for name in found.metrics:
        columns += [f"{name} (last)", f"{name} ({'max' if is_larger_better(name) else 'min'})"]
    rows: list[list[Any]] = []
    for run_id in found.runs:
        row: list[Any] = [found.names[run_id], found.status[run_id]]
        row += [values.get(run_id) for values in found.config.values()]
        for name, metrics in found.metrics.items():
            one = metrics.get(run_id)
            best = None if one is None else one.max if is_larger_better(name) else one.min
            row += [None if one is None else one.last, best]
        rows.append(row)
    return facts_html(f"{len(found.runs)} runs compared", columns=columns, rows=rows, most=SHOWN_RUNS)


def _summary(run: RunRecord) -> dict[str, Any]:
    try:
        return run.summary()
    except (StoreError, MissingDependencyError, OSError):
        # The rest can be shown all the same.
        return {}


def _status(run: RunRecord) -> str:
    try:
        return run.status
    except (StoreError, MissingDependencyError, OSError):
        return "unreadable"


def _moment(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, tz=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g}"
