"""Which runs are asked for: by status, tags, configuration, final metrics, or any function of a run."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from tracking_core.errors import InvalidValueError, StoreError
from tracking_core.protocol import STATUSES
from tracking_core.store.records import RunRecord
from tracking_core.values.config import to_plain

ALL_STATUSES = ("running", *STATUSES, "crashed")
ABSENT: Any = object()
"""What `find` returns for a path that leads nowhere."""

Condition = tuple[str, Any, bool]
"""(path, value or predicate, whether it is a predicate)."""


class RunFilter:
    """Says of a run whether it is asked for; see `Store.runs` for the arguments.

    Raises:
        InvalidValueError: An argument is of the wrong type, or there is no such status.
    """

    def __init__(
        self,
        project: str | None = None,
        status: str | Iterable[str] | None = None,
        tags: str | Iterable[str] | None = None,
        config: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        where: Callable[[RunRecord], object] | None = None,
    ) -> None:
        if project is not None and not isinstance(project, str):
            raise InvalidValueError(f"runs: project must be a name, got {_shown(project)}")
        if where is not None and not callable(where):
            raise InvalidValueError(f"runs: where must be a function of a RunRecord, got {_shown(where)}")
        self._project = project
        self._status = None if status is None else _statuses(status)
        self._tags = frozenset(_strings("tags", tags)) if tags is not None else frozenset[str]()
        self._config = _conditions("config", config)
        self._metrics = _conditions("metrics", metrics)
        self._where = where

    def matches(self, record: RunRecord) -> bool:
        """Whether a run is asked for.

        One that cannot be read is not, nor one that `where` asks for what it did not log; asking for it by id says why.

        Raises:
            InvalidValueError: A predicate failed; the message names the run and the value.
        """
        if (self._project is not None and record.project != self._project) or not self._tags <= set(record.tags):
            return False
        try:
            return (
                (self._status is None or record.status in self._status)
                and (not self._config or _holds(self._config, record.config, "config", record))
                and (not self._metrics or _holds(self._metrics, record.summary(), "metrics", record))
                and (self._where is None or self._asked(record, self._where))
            )
        except (StoreError, OSError):
            return False

    @staticmethod
    def _asked(record: RunRecord, where: Callable[[RunRecord], object]) -> bool:
        try:
            return bool(where(record))
        except (StoreError, OSError):
            # Above all a name that this run did not log: it is left out.
            raise
        except Exception as error:
            raise InvalidValueError(f"runs: where failed on run {record.id}: {_said(error)}") from error


def find(tree: Mapping[str, Any], path: str) -> Any:
    """What stands in nested data at a path, its parts joined by "." or "/"; `ABSENT` when there is nothing.

    A key that holds these itself is found as well: the longest key that fits goes first. In a list the parts are
    positions.

    Example:
        >>> find({"model": {"depth": 2, "widths": [8, 4]}, "a.b": 1}, "model.widths/1"), find({"a.b": 1}, "a.b")
        (4, 1)
    """
    return _find(tree, path)


def _find(tree: Any, path: str) -> Any:
    if isinstance(tree, Mapping):
        mapping = cast("Mapping[str, Any]", tree)
        if path in mapping:
            return mapping[path]
        for at in range(len(path) - 1, -1, -1):
            if path[at] in "./" and path[:at] in mapping:
                found = _find(mapping[path[:at]], path[at + 1 :])
                if found is not ABSENT:
                    return found
    elif isinstance(tree, list):
        items = cast("list[Any]", tree)
        ends = [at for at in (path.find("."), path.find("/")) if at >= 0]
        head, rest = (path[: min(ends)], path[min(ends) + 1 :]) if ends else (path, None)
        if head.isascii() and head.isdigit() and len(head) < 9 and int(head) < len(items):
            return items[int(head)] if rest is None else _find(items[int(head)], rest)
    return ABSENT


def same(one: Any, other: Any) -> bool:
    """Whether two values of configurations are equal: numbers by value, NaN to NaN, and True is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        left, right = cast("Mapping[str, Any]", one), cast("Mapping[str, Any]", other)
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(one, list) and isinstance(other, list):
        pairs = list(zip(cast("list[Any]", one), cast("list[Any]", other), strict=False))
        return len(pairs) == len(one) == len(other) and all(same(*pair) for pair in pairs)
    return bool(one == other)


def _holds(conditions: Sequence[Condition], tree: Mapping[str, Any], what: str, record: RunRecord) -> bool:
    for path, wanted, is_predicate in conditions:
        value = find(tree, path)
        if value is ABSENT:
            return False
        if not is_predicate:
            if not same(value, wanted):
                return False
            continue
        try:
            if not wanted(value):
                return False
        except Exception as error:
            raise InvalidValueError(
                f"runs: the predicate of {what} for {path!r} failed on run {record.id}, where it is "
                f"{_shown(value)}: {_said(error)}"
            ) from error
    return True


def _conditions(what: str, wanted: Mapping[str, Any] | None) -> list[Condition]:
    if wanted is None:
        return []
    if not isinstance(wanted, Mapping):
        raise InvalidValueError(
            f"runs: {what} must be a mapping of names to values or predicates, such as "
            f"{what}={{'lr': 0.1, 'val/loss': lambda v: v < 0.5}}, got {_shown(wanted)}"
        )
    conditions: list[Condition] = []
    for path, value in wanted.items():
        if not isinstance(path, str):
            raise InvalidValueError(f"runs: a name in {what} must be a str such as 'model.depth', got {_shown(path)}")
        if callable(value) and not isinstance(value, type):
            conditions.append((path, value, True))
        else:
            # As a configuration keeps it: tuples are lists, numpy scalars numbers, dtypes and classes names.
            conditions.append((path, to_plain({path: value})[path], False))
    return conditions


def _statuses(status: str | Iterable[str]) -> frozenset[str]:
    wanted = frozenset(_strings("status", status))
    for one in sorted(wanted - set(ALL_STATUSES)):
        close = difflib.get_close_matches(one, ALL_STATUSES, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise InvalidValueError(f"runs: unknown status {one!r}; {hint}the statuses are {', '.join(ALL_STATUSES)}")
    return wanted


def _strings(what: str, value: str | Iterable[str]) -> list[str]:
    if isinstance(value, str):
        return [value]
    try:
        parts: list[Any] = list(value)
    except TypeError:
        parts = [None]
    if isinstance(value, (bytes, Mapping)) or not all(isinstance(part, str) for part in parts):
        raise InvalidValueError(f"runs: {what} must be a str or several, got {_shown(value)}")
    return parts


def _shown(value: object) -> str:
    return f"{value!r:.80} ({type(value).__name__})"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
