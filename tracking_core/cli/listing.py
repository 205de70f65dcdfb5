"""The rows of `tracking runs`: filtered, sorted, and read no further than needed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

from tracking_core.base.metric_names import main_metric
from tracking_core.base.text import did_you_mean
from tracking_core.cli.expressions import Condition, found_in
from tracking_core.errors import MissingDependencyError, StoreError
from tracking_core.naming import FILE_NAMES
from tracking_core.store import RunRecord, open_store
from tracking_core.store.comparing import flat
from tracking_core.store.last import last_moment

_LOOKING = 2.0
"""Seconds for which the summaries of runs are looked through for the main metric."""
_SHORTEST = 8
"""Characters of an id that are always shown."""
_COMPARED = 2000
"""Names that a name is compared with."""


class Row:
    """A run, with what was read of it so far.

    Args:
        record: The run.
    """

    def __init__(self, record: RunRecord) -> None:
        self.record = record
        self.problem: str | None = None
        """Why its journal cannot be read; None when it can, as far as was seen."""
        self.is_broken = False
        """Whether that is for what stands in its files, and not for what is not installed here."""

    @cached_property
    def status(self) -> str | None:
        """Its status; None where its journal cannot be read."""
        return self._read(lambda: self.record.status, None)

    @cached_property
    def finished(self) -> float | None:
        """When it was finished."""
        return self._read(lambda: self.record.finished, None)

    @property
    def duration(self) -> float | None:
        """How long it took, or has taken so far, in seconds; for one that crashed, up to its last record."""
        end = time.time() if self.status == "running" else self.finished
        if end is None and self.status == "crashed":
            end = self._read(lambda: last_moment(self.record.dir), None)
        return None if end is None else end - self.record.started

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """Its configuration."""
        return self._read(lambda: self.record.config, {})

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """Its last values."""
        return self._read(self.record.summary, {})

    def value(self, name: str) -> Any:
        """What a name means in expressions; None where the run has no such value."""
        kind, dot, rest = name.partition(".")
        if dot and kind == "config":
            return found_in(self.config, rest)
        if dot and kind in {"summary", "metric"}:
            return found_in(self.summary, rest)
        if name in {"status", "finished", "duration"}:
            return getattr(self, name)
        if name in {"id", "name", "project", "group", "job_type", "notes", "started"}:
            return getattr(self.record, name)
        return found_in(self.summary, name)

    def as_json(self) -> dict[str, Any]:
        """The row as JSON values."""
        record = self.record
        return {
            "id": record.id,
            "name": record.name,
            "project": record.project,
            "status": self.status,
            "tags": list(record.tags),
            "group": record.group,
            "job_type": record.job_type,
            "started": record.started,
            "finished": self.finished,
            "duration": self.duration,
            "config": self.config,
            "summary": self.summary,
            "targets": list(record.targets),
            "dir": str(record.dir),
            "problem": self.problem,
        }

    def _read(self, get: Any, default: Any) -> Any:
        try:
            return get()
        except (StoreError, MissingDependencyError, OSError) as error:
            self.problem = str(error)
            self.is_broken |= not isinstance(error, MissingDependencyError)
            return default


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A run of which `run.json` cannot be read.

    Args:
        dir: Its directory.
        problem: Why.
    """

    dir: Path
    problem: str

    def as_json(self) -> dict[str, Any]:
        """It as JSON values."""
        return {"id": self.dir.name, "dir": str(self.dir), "problem": self.problem}


def rows(
    root: str | None,
    projects: Sequence[str],
    statuses: Sequence[str],
    tags: Sequence[str],
    conditions: Sequence[Condition],
    *,
    sort: str | None,
    reverse: bool,
    limit: int | None,
) -> tuple[list[Row], list[Unreadable]]:
    """The runs that were asked for, and those of which nobody can tell whether they were.

    Args:
        root: Root of the store; None takes it from the settings.
        projects: Of any of these projects.
        statuses: Of any of these statuses.
        tags: With all of these tags.
        conditions: For which all of these hold.
        sort: What to sort by; None puts the newest first.
        reverse: The other way round; runs without the value stay last.
        limit: How many at most.
    """
    project = projects[0] if len(projects) == 1 else None
    store = open_store(root)
    found = [
        row
        for row in map(Row, store.runs(project, tags=tags))
        if (not projects or row.record.project in projects)
        and (not statuses or (row.status or "unreadable") in statuses)
        and all(one.holds(row.value(one.left)) for one in conditions)
    ]
    folders = {FILE_NAMES.encode(one) for one in projects}
    unreadable = [
        Unreadable(place, why)
        for place, why in store.unreadable.items()
        if (not folders or place.parent.name in folders) and (not statuses or "unreadable" in statuses)
    ]
    if sort is not None:
        found = _sorted(found, sort, reverse=reverse)
    elif reverse:
        found.reverse()
    return found[:limit], unreadable


def _sorted(found: Sequence[Row], name: str, *, reverse: bool) -> list[Row]:
    numbers: list[tuple[float, Row]] = []
    texts: list[tuple[str, Row]] = []
    rest: list[Row] = []
    for row in found:
        value = row.value(name)
        if isinstance(value, int | float) and not math.isnan(value):
            numbers.append((value, row))
        elif isinstance(value, str):
            texts.append((value, row))
        else:
            rest.append(row)
    numbers.sort(key=lambda pair: pair[0], reverse=reverse)
    texts.sort(key=lambda pair: pair[0], reverse=reverse)
    return [*(row for _, row in numbers), *(row for _, row in texts), *rest]


def main_column(found: Sequence[Row]) -> str | None:
    """The metric by which runs are compared: their validation loss, else their validation accuracy, if they have one.

    Where reading what the runs came to takes long, only the first of them are asked.
    """
    until = time.monotonic() + _LOOKING
    names: set[str] = set()
    for row in found:
        names.update(row.summary)
        if time.monotonic() > until:
            break
    return main_metric(names)


def short_ids(ids: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Id → the beginning that only this one of the known ids has, so that it names the run.

    Args:
        ids: The ids that are asked for.
        known: All ids that there are.
    """
    ordered = sorted({*known, *ids})
    place = {one: at for at, one in enumerate(ordered)}

    def shared(one: str, other: int) -> int:
        """How many characters an id has in common with a neighbour."""
        pairs = zip(one, ordered[other] if 0 <= other < len(ordered) else "", strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    lengths = {one: max(_SHORTEST, shared(one, place[one] - 1) + 1, shared(one, place[one] + 1) + 1) for one in ids}
    longest = max(lengths.values(), default=0)
    # All alike, as far as that is unique.
    return {one: one[:longest] for one in lengths}


def advice(found: Sequence[Row], names: Iterable[str]) -> list[str]:
    """What may have been meant by names that no run has a value of.

    Args:
        found: The runs.
        names: What was sorted by, shown, or asked for.
    """
    said: list[str] = []
    for name in dict.fromkeys(names):
        if found and all(row.value(name) is None for row in found):
            meant = f"config.{name}"
            there = any(row.value(meant) is not None for row in found)
            known = {one for row in found for one in (*row.summary, *(f"config.{key}" for key in flat(row.config)))}
            known = sorted(known)[:_COMPARED]
            hint = f": did you mean {meant!r}?" if there else did_you_mean(name, known)
            said.append(f"no run has a value {name!r}{hint}")
    return said
