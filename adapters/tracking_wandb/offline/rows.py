"""Rows of the history as records: which axis a key is counted on, and what its value is.

In a row that this adapter wrote all keys are on one axis. In others `define_metric` says for each key: the one that was
defined by its whole name, or else by the first pattern that fits. A key without an axis, or whose axis is not a whole
number in that row, is counted on W&B's own step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from tracking_core import InvalidValueError, Record
from tracking_core.values import Text
from tracking_wandb.names import decode, part
from tracking_wandb.offline.media import Media
from tracking_wandb.offline.run import OfflineRun, seconds
from tracking_wandb.rows import AXIS, MAIN_AXIS

_STEP = "_step"
CLIENT_KEYS = frozenset({_STEP, "_timestamp", "_runtime", "_wandb"})
"""What the client itself puts into rows, and into the summary."""


class RowReader:
    """Turns rows into records.

    Args:
        run: The run.
        names: The names of keys that do not hold their whole name; None for a run of another program.
        problems: Gets what could not be read, in words.
    """

    def __init__(self, run: OfflineRun, names: Mapping[str, str] | None, problems: list[str]) -> None:
        self._media = Media(run.files, run.path.parent / "files")
        self._started = run.start_time or 0.0
        self._names = names
        self._problems = problems
        self._said: set[str] = set()
        self._exact: dict[str, str] = {}
        self._patterns: list[tuple[str, str]] = []
        for metric in run.metrics:
            if metric["glob"] is not None and metric["step_metric"]:
                self._patterns.append((metric["glob"], metric["step_metric"]))
            elif metric["name"] is not None and metric["step_metric"]:
                self._exact[metric["name"]] = metric["step_metric"]
        columns = {*self._exact.values(), *(column for _, column in self._patterns)}
        self._own_axis = _STEP if MAIN_AXIS in columns else MAIN_AXIS
        """What W&B's own step is called here."""

    def records(self, row: Mapping[str, Any]) -> Iterator[Record]:
        """The records of one row."""
        if self._names is None:
            yield from self._foreign(row)
        else:
            yield from self._ours(row, self._names)

    # -- rows of this adapter ----------------------------------------------------------------------------------------

    def _ours(self, row: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[Record]:
        column = row.get(AXIS, MAIN_AXIS)
        if column not in row:
            # What the client itself adds, such as a last empty row.
            return
        count = row[column]
        if not isinstance(count, int):
            self._say(
                str(column),
                f"as the step of a row it is {count!r:.40}, which is not a whole number; such rows were left out",
            )
            return
        axis, step, time = decode(column, names), count, self._time(row)
        values = {key: value for key, value in row.items() if key != column and not key.startswith("_")}
        media = {key: value for key, value in values.items() if isinstance(value, dict) and "_type" in value}
        if not media:
            scalars = {decode(key, names): value for key, value in values.items() if isinstance(value, (int, float))}
            if scalars:
                yield Record("scalars", 0, "", time, step, axis, scalars)
            return
        groups: dict[str, list[Mapping[str, Any]]] = {}
        for key in sorted(media, key=part):
            groups.setdefault(decode(key, names), []).append(media[key])
        pictures: dict[str, Any] = {}
        for name, parts in groups.items():
            # One image where log_images makes a list: a figure.
            figure = parts[0]["_type"] == "image-file"
            for kind, value in self._read(name, parts, row):
                if kind == "images" and figure:
                    yield Record("figure", 0, "", time, step, axis, {"name": name, "value": _figure(value[0])})
                elif kind == "images":
                    pictures[name] = value
                else:
                    yield Record(kind, 0, "", time, step, axis, {"name": name, "value": value})
        if pictures:
            yield Record("images", 0, "", time, step, axis, pictures)

    # -- rows of other programs --------------------------------------------------------------------------------------

    def _foreign(self, row: Mapping[str, Any]) -> Iterator[Record]:
        time = self._time(row)
        values = dict(_flat({key: value for key, value in row.items() if key not in CLIENT_KEYS}))
        axes = {key: self._axis(key, values) for key in values}
        used = {axis for key, axis in axes.items() if axis is not None and axis != key}
        scalars: dict[tuple[str, int], dict[str, Any]] = {}
        for key, value in values.items():
            if key in used:
                # It is the step of the others.
                continue
            column = axes[key] if axes[key] != key else None
            axis = self._own_axis if column is None else column
            step = int(row.get(_STEP, 0)) if column is None else int(values[column])
            if isinstance(value, (bool, int, float)):
                scalars.setdefault((axis, step), {})[key] = value
            elif isinstance(value, str):
                yield Record("text", 0, "", time, step, axis, {"name": key, "value": Text(value)})
            elif isinstance(value, dict):
                if any("boxes" in part or "masks" in part for part in value):
                    self._say(f"{key} ", "boxes and masks on images are not read; the images are")
                for kind, made in self._read(key, [cast("Mapping[str, Any]", value)], row):
                    data = {key: made} if kind == "images" else {"name": key, "value": made}
                    yield Record(kind, 0, "", time, step, axis, data)
            elif value is not None:
                self._say(key, f"a value of the type {type(value).__name__} is not read")
        for (axis, step), numbers in scalars.items():
            yield Record("scalars", 0, "", time, step, axis, numbers)

    def _time(self, row: Mapping[str, Any]) -> float:
        time = seconds(row.get("_timestamp"))
        return self._started + (seconds(row.get("_runtime")) or 0.0) if time is None else time

    def _axis(self, key: str, values: Mapping[str, Any]) -> str | None:
        """The column that a key is counted on; None for W&B's own step."""
        column = self._exact.get(key)
        if column is None:
            column = next((axis for glob, axis in self._patterns if _fits(key, glob)), None)
        if column is None or column == _STEP:
            return None
        step = values.get(column)
        whole = isinstance(step, int) or (isinstance(step, float) and step.is_integer())
        if isinstance(step, bool) or not whole:
            if column != key:
                why = "is missing in some rows" if step is None else f"is {step!r:.40}, which is not a whole number"
                self._say(column, f"as the axis of {key!r} it {why}; such rows use W&B's own step")
            return None
        return column

    def _read(self, name: str, parts: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> list[tuple[str, Any]]:
        try:
            return self._media.read(name, parts, row)
        except InvalidValueError as error:
            self._say(name, str(error))
            return []

    def _say(self, name: str, problem: str) -> None:
        """Name a problem once for each name, whatever the row."""
        if name not in self._said:
            self._said.add(name)
            self._problems.append(f"{name}: {problem}"[:500])


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings by the names that W&B shows: joined by dots."""
    for key, value in values.items():
        if isinstance(value, dict) and "_type" not in value:
            yield from _flat(cast("dict[str, Any]", value), f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _fits(key: str, glob: str) -> bool:
    """Whether a pattern of `define_metric` fits: the client allows a star at the end alone."""
    return key == glob or (glob.endswith("*") and key.startswith(glob[:-1]))


def _figure(picture: Any) -> Any:
    from tracking_core.values import Figure

    return Figure(picture.png())
