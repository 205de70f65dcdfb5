"""Runs side by side: configuration where it differs, and the last and the best value of every metric."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from tracking_core.base.metric_names import is_larger_better
from tracking_core.cli.output import Output, exactly, number, status_style
from tracking_core.cli.values import series_of
from tracking_core.errors import NameNotFoundError
from tracking_core.store import MetricSummary, RunRecord
from tracking_core.store.comparing import flat, summarise
from tracking_core.store.filters import same

IN_ROWS = 6
"""Runs from which on each is a row, since so many columns fit nowhere."""


def compare(
    records: Sequence[RunRecord],
    metrics: Sequence[str] = (),
    largest: Sequence[str] = (),
    smallest: Sequence[str] = (),
    *,
    all_config: bool = False,
) -> dict[str, Any]:
    """Compare runs.

    Args:
        records: The runs.
        metrics: Only metrics with these names or patterns; () takes all.
        largest: Patterns of names of which the largest value is the best.
        smallest: Patterns of names of which the smallest is.
        all_config: Also configuration that is the same in all.

    Returns:
        `runs`: facts of each. `config`: key to values by run id; a run without that key is left out. `metrics`: a list
        of `name`, `axis`, `best_is` ("max" or "min") and `runs`: by run id `last`, `last_step`, `best`, `best_step` and
        `points`. Runs that share an id are told apart by "PROJECT/ID".

    Raises:
        NameNotFoundError: No run has any of `metrics`.
    """
    labels = _labels([record.id for record in records], [f"{record.project}/{record.id}" for record in records])
    configs = {label: flat(record.config) for label, record in zip(labels, records, strict=True)}
    keys = list(dict.fromkeys(key for config in configs.values() for key in config))
    by_key = {key: {label: config[key] for label, config in configs.items() if key in config} for key in keys}
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for label, record in zip(labels, records, strict=True):
        for series in series_of(record, ()):
            if not metrics or any(series.name == one or fnmatchcase(series.name, one) for one in metrics):
                up = _is_larger_better(series.name, largest, smallest)
                entry = found.setdefault(
                    (series.name, series.axis),
                    {"name": series.name, "axis": series.axis, "best_is": "max" if up else "min", "runs": {}},
                )
                entry["runs"][label] = _values(summarise(series), up=up)
    if metrics and not found:
        known = sorted({name for record in records for name in record.scalar_names()})
        raise NameNotFoundError(
            f"none of the runs has {', '.join(metrics)}; there are {', '.join(known[:20]) or 'none'}"
        )
    return {
        "runs": [
            {
                "id": label,
                "name": record.name,
                "project": record.project,
                "status": record.status,
                "started": record.started,
            }
            for label, record in zip(labels, records, strict=True)
        ],
        "config": {key: values for key, values in by_key.items() if all_config or _differs(values, len(records))},
        "metrics": [found[key] for key in sorted(found)],
    }


def _values(came_to: MetricSummary, *, up: bool) -> dict[str, Any]:
    best, step = (came_to.max, came_to.max_step) if up else (came_to.min, came_to.min_step)
    return {
        "last": came_to.last,
        "last_step": came_to.last_step,
        "best": None if step is None else best,
        "best_step": step,
        "points": came_to.count,
    }


def _is_larger_better(name: str, largest: Sequence[str], smallest: Sequence[str]) -> bool:
    if any(fnmatchcase(name, one) for one in largest):
        return True
    if any(fnmatchcase(name, one) for one in smallest):
        return False
    return is_larger_better(name)


def _differs(values: Mapping[str, Any], runs: int) -> bool:
    if len(values) < runs:
        return True
    first, *others = values.values()
    return not all(same(first, other) for other in others)


def _labels(names: Sequence[str], instead: Sequence[str]) -> list[str]:
    counts = Counter(names)
    return [name if counts[name] == 1 else other for name, other in zip(names, instead, strict=True)]


def print_comparison(found: Mapping[str, Any]) -> None:
    """Print it for people: a column for each run, or a row where they are many."""
    output = Output()
    if len(found["runs"]) >= IN_ROWS:
        _print_in_rows(output, found)
        return
    runs: list[dict[str, Any]] = found["runs"]
    ids = [run["id"] for run in runs]
    heads = _labels([run["name"] for run in runs], [f"{run['name']} ({run['id']})" for run in runs])
    facts: list[Any] = [("id", *ids), ("project", *(run["project"] for run in runs))]
    facts.append(("status", *((run["status"], status_style(run["status"])) for run in runs)))
    output.table(("run", *heads), facts, whole=heads, repeated=True)
    if found["config"]:
        output.heading("config")
        rows = [
            (key, *(exactly(values[one]) if one in values else "-" for one in ids))
            for key, values in found["config"].items()
        ]
        output.table(("", *heads), rows, repeated=True)
    for title in ("last", "best"):
        if found["metrics"]:
            output.heading(title)
            rows = [_row(metric, title, ids) for metric in found["metrics"]]
            output.table(("", *heads), rows, whole=heads, repeated=True)


def _print_in_rows(output: Output, found: Mapping[str, Any]) -> None:
    runs: list[dict[str, Any]] = found["runs"]
    ids = [run["id"] for run in runs]
    heads = _labels([run["name"] for run in runs], [f"{run['name']} ({run['id']})" for run in runs])
    columns: list[tuple[str, Sequence[Any]]] = [
        ("id", ids),
        ("project", [run["project"] for run in runs]),
        ("status", [(run["status"], status_style(run["status"])) for run in runs]),
    ]
    for key, values in found["config"].items():
        columns.append((key, [exactly(values[one]) if one in values else "-" for one in ids]))
    for which in ("last", "best"):
        for metric in found["metrics"]:
            head, *cells = _row(metric, which, ids)
            columns.append((f"{which} {head}", cells))
    rows = [(name, *(cells[at] for _, cells in columns)) for at, name in enumerate(heads)]
    output.table(("run", *(head for head, _ in columns)), rows, whole=("id", "status"), repeated=True)


def _row(metric: Mapping[str, Any], which: str, ids: Sequence[str]) -> tuple[Any, ...]:
    name = metric["name"] if metric["axis"] == "step" else f"{metric['name']} ({metric['axis']})"
    best = _best(metric)
    cells: list[Any] = []
    for one in ids:
        values = metric["runs"].get(one)
        if values is None or values[which] is None:
            cells.append("-")
            continue
        text = f"{number(values[which])} @ {values[which + '_step']}"
        cells.append((text, "bold green") if which == "best" and values["best"] == best and len(ids) > 1 else text)
    return (f"{name} ({metric['best_is']})" if which == "best" else name, *cells)


def _best(metric: Mapping[str, Any]) -> float | None:
    values = [one["best"] for one in metric["runs"].values() if one["best"] is not None]
    if not values:
        return None
    return max(values) if metric["best_is"] == "max" else min(values)
