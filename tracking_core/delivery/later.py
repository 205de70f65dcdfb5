"""Newer values: a change of the configuration that is sent again must not undo a later change."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from tracking_core.base.json_text import unpack
from tracking_core.journal import Event, JournalReader, Superseded
from tracking_core.values import Record

FACTS = ("config", "summary")
"""Kinds whose later records replace entries of earlier ones."""
_AT_ONCE = 1 << 20

Stamp = tuple[str, int]
"""Writer and number. Writers sort by when they began, as in the store."""
Keys = tuple[str, ...]


class LaterFacts:
    """The last record that set each entry of the configuration and the summary.

    Args:
        directory: The run directory.
        forks: The entry `forks` of its `run.json`.
    """

    def __init__(self, directory: Path, forks: Any = ()) -> None:
        self._last: dict[str, dict[Keys, Stamp]] = {kind: {} for kind in FACTS}
        self._within: dict[str, dict[Keys, Stamp]] = {kind: {} for kind in FACTS}
        superseded = Superseded(directory, forks)
        reader = JournalReader(directory)
        superseded.look(reader.look())
        for one in reader.writers.values():
            before = -1
            while one.taken != before:
                before = one.taken
                with contextlib.suppress(FileNotFoundError):
                    for _, event in one.read(_AT_ONCE):
                        if event.kind in FACTS and superseded.live(event) is not None:
                            self._learn(event)

    def _learn(self, event: Event) -> None:
        last, within = self._last[event.kind], self._within[event.kind]
        stamp = (event.writer, event.seq)
        for path in _paths(event.kind, unpack(event.fields.get(event.kind))):
            last[path] = max(last.get(path, stamp), stamp)
            for end in range(1, len(path)):
                within[path[:end]] = max(within.get(path[:end], stamp), stamp)

    def left_of(self, record: Record) -> Mapping[str, Any]:
        """The entries of a record that no later record has set."""
        last, within, stamp = self._last[record.kind], self._within[record.kind], (record.writer, record.seq)

        def is_newer(path: Keys) -> bool:
            return last.get(path, stamp) > stamp

        def keep(value: Mapping[str, Any], above: Keys) -> dict[str, Any]:
            kept: dict[str, Any] = {}
            for name, part in value.items():
                path = (*above, name)
                if is_newer(path):
                    continue
                if record.kind == "config" and isinstance(part, Mapping) and part:
                    left = keep(cast("Mapping[str, Any]", part), path)
                    if left:
                        kept[name] = left
                elif within.get(path, stamp) <= stamp:
                    kept[name] = part
            return kept

        return keep(record.data, ())


def _paths(kind: str, value: Any, above: Keys = ()) -> Iterator[Keys]:
    """Paths of the values. The configuration is merged level by level; an entry of the summary is one value."""
    if not isinstance(value, Mapping):
        return
    for name, part in cast("Mapping[str, Any]", value).items():
        path = (*above, name)
        if kind == "config" and isinstance(part, Mapping) and part:
            yield from _paths(kind, part, path)
        else:
            yield path
