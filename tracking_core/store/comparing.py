"""Runs side by side, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from tracking_core.store.filters import same
from tracking_core.store.records import RunRecord
from tracking_core.store.series import Series


@dataclass(frozen=True, slots=True)
class MetricSummary:
    """Last, smallest and largest value of one scalar in one run.

    Args:
        axis: The step axis.
        count: How many steps it has a value for.
        last: The value at the largest step.
        last_step: The largest step.
        min: The smallest value that is not NaN; NaN if there is none.
        min_step: The first step with that value; None if there is none.
        max: The largest value that is not NaN.
        max_step: The first step with that value; None if there is none.
    """

    axis: str
    count: int
    last: float
    last_step: int
    min: float
    min_step: int | None
    max: float
    max_step: int | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What several runs share, and where they differ. `dataclasses.asdict` turns it into plain dicts.

    Args:
        runs: Ids of the runs, as they were asked for.
        names: Id → name of the run.
        status: Id → status of the run.
        config: Path, its parts joined by "." → id → value, for entries that are not the same in all runs; a run without
            the entry is left out.
        metrics: Name → id → its values, for the scalars that all runs have (or any, if requested); a run without the
            scalar is left out.
    """

    runs: tuple[str, ...]
    names: Mapping[str, str]
    status: Mapping[str, str]
    config: Mapping[str, Mapping[str, Any]]
    metrics: Mapping[str, Mapping[str, MetricSummary]]

    def _repr_html_(self) -> str:
        from tracking_core.store.pages import comparison_html

        return comparison_html(self)


def compare(records: Sequence[RunRecord], *, common: bool = True) -> Comparison:
    """Put runs side by side.

    Args:
        records: The runs.
        common: Whether only scalars that all runs have are compared; False compares all scalars.

    Raises:
        JournalError: A run was written by a newer version.
    """
    configs = {record.id: flat(record.config) for record in records}
    names = {record.id: record.scalar_names() for record in records}
    counted = [set(own) for own in names.values()]
    metrics = sorted((set.intersection if common else set.union)(*counted)) if counted else []
    return Comparison(
        tuple(record.id for record in records),
        {record.id: record.name for record in records},
        {record.id: record.status for record in records},
        _differences(configs),
        {
            name: {record.id: summarise(record.scalars(name)) for record in records if name in names[record.id]}
            for name in metrics
        },
    )


def summarise(series: Series) -> MetricSummary:
    """The last, smallest and largest value of a series that has rows."""
    value, step = series.value, series.step
    rows = np.flatnonzero(~np.isnan(value))
    if len(rows):
        low, high = int(rows[value[rows].argmin()]), int(rows[value[rows].argmax()])
        ends = (float(value[low]), int(step[low]), float(value[high]), int(step[high]))
    else:
        ends = (np.nan, None, np.nan, None)
    return MetricSummary(series.axis, len(series), series.last, int(step[-1]), *ends)


def _differences(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for path in dict.fromkeys(path for config in configs.values() for path in config):
        values = {run_id: config[path] for run_id, config in configs.items() if path in config}
        first, *others = values.values()
        if len(values) < len(configs) or not all(same(first, other) for other in others):
            found[path] = values
    return found


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, the parts of a path joined by "."; an empty one is a value."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            found.update(flat(cast("Mapping[str, Any]", value), f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found
