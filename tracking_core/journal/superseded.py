"""What a run took back: rows beyond the step that it was continued from, and of a fork those of its parent.

Nothing is erased. A run that was continued with `resume_step=K` says so in the first event of the new writer:

```
{"seq":1,"low":2,"kind":"truncate","t":…,"axis":"step","step":K,"writers":{"<writer>":{"last":L,"from":C}},"crc":"…"}
```

Of each writer that is named, events up to number `L` are looked at. A row is superseded that is on the axis and beyond
step `K`, or is on another axis and has a number of at least `C`, the number of the first row that is beyond; `C` is
null where nothing was logged from then on. So is what `log_summary` set from `C` on. Names that start with "system/"
are exempt: they tell of the machine, whose time does not go back.

A run that was forked says the same of the writers that it has from its parent, in the entry `forks` of its `run.json`:
the last of the list tells of the parent, those before of the parent's own parents. Of these writers no name is exempt,
events beyond `L` do not count, and whatever has no step is superseded as well (configuration, artifacts, alerts, …),
but for summaries before `C`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tracking_core.base.regular import bounded_lines, open_regular
from tracking_core.errors import JournalError
from tracking_core.journal.lines import Event, decode_line
from tracking_core.journal.schema import UNNUMBERED, Truncating
from tracking_core.journal.segments import WriterFiles
from tracking_core.values.kinds import STEPPED

EXEMPT = "system/"
"""Names that start so are never superseded."""


class Cut(NamedTuple):
    """Where the journal of one writer is cut.

    Args:
        last: Events with a larger number are not concerned.
        first: The number of the first event that is superseded on every axis; None when there is none.
    """

    last: int
    first: int | None


@dataclass(frozen=True, slots=True)
class Truncation:
    """One going back to an earlier step.

    Args:
        axis: The axis of the step.
        step: The last step that counts.
        cuts: Writer → where its journal is cut.
        by: The writer that wrote it; "" for what a fork has from its parent.
    """

    axis: str
    step: int
    cuts: Mapping[str, Cut]
    by: str = ""

    def fields(self) -> dict[str, Any]:
        """It as fields of an event, or of `run.json`."""
        writers = {writer: {"last": cut.last, "from": cut.first} for writer, cut in self.cuts.items()}
        return {"axis": self.axis, "step": self.step, "writers": writers}

    @classmethod
    def read(cls, fields: Mapping[str, Any], by: str = "") -> Truncation:
        """Undo `fields`.

        Raises:
            JournalError: Something is missing, or of the wrong type.
        """
        try:
            found = msgspec.convert(fields, Truncating)
        except (ValueError, OverflowError) as error:
            raise JournalError(f"a truncation of writer {by or 'the parent'} cannot be read: {error}") from error
        return cls(
            found.axis, found.step, {writer: Cut(cut.last, cut.begin) for writer, cut in found.writers.items()}, by
        )

    def drops(self, kind: str, writer: str, seq: int, axis: str, step: int) -> bool:
        """Whether an event is superseded, but for names that are exempt."""
        cut = self.cuts.get(writer)
        if cut is None:
            return False
        inherited = not self.by
        if seq > cut.last:
            # What a parent logs after the fork is no part of the child.
            return inherited
        from_first = cut.first is not None and seq >= cut.first
        if kind in STEPPED:
            return step > self.step if axis == self.axis else from_first
        if kind == "summary":
            return from_first
        return inherited

    def reaches(self, given: Mapping[str, int]) -> bool:
        """Whether something superseded may be among the events of each writer up to a number."""
        return any(cut.first is not None and given.get(writer, 0) >= cut.first for writer, cut in self.cuts.items())

    def dropped(self, writer: str, seq: Any, on_axis: Any, step: Any) -> Any:
        """As `drops`, for rows of scalars; arrays of shape `[N]`, `on_axis` says whether a row is on this axis."""
        import numpy as np

        cut = self.cuts[writer]
        first = np.iinfo(np.int64).max if cut.first is None else cut.first
        found = np.where(on_axis, step > self.step, seq >= first)
        beyond = seq > cut.last
        return found | beyond if not self.by else found & ~beyond


@dataclass
class Superseded:
    """What the events of a run supersede of one another.

    Args:
        directory: The run directory.
        forks: The entry `forks` of `run.json`.
    """

    directory: Path
    forks: Sequence[Mapping[str, Any]] = ()
    truncations: list[Truncation] = field(default_factory=list[Truncation])
    failure: JournalError | None = None
    """Why a truncation could not be read; as long as that is so, nobody is told what counts."""
    _seen: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        self.truncations += [Truncation.read(fork) for fork in self.forks]

    def __bool__(self) -> bool:
        return bool(self.truncations)

    def look(self, writers: Mapping[str, WriterFiles]) -> list[Truncation]:
        """Look at the first event of each writer that is new.

        Returns:
            The truncations that were found.

        Raises:
            JournalError: One cannot be read.
        """
        found: list[Event] = []
        for writer in writers.keys() - self._seen:
            first = _first_event(writer, writers[writer])
            if first is not None:
                self._seen.add(writer)
                found.append(first)
        return self.learn(found)

    def learn(self, events: Iterable[Event]) -> list[Truncation]:
        """Take what may be truncations from events that were read.

        Returns:
            The truncations that are new.

        Raises:
            JournalError: One cannot be read.
        """
        self._check()
        known = {one.by for one in self.truncations}
        try:
            found = [
                Truncation.read(event.fields, event.writer)
                for event in events
                if event.kind == "truncate" and event.writer not in known
            ]
        except JournalError as error:
            self.failure = error
            raise
        self.truncations += sorted(found, key=lambda one: one.by)
        return found

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def of(self, writer: str, name: str = "") -> list[Truncation]:
        """Those that concern a writer, and what it logged under a name.

        Raises:
            JournalError: One cannot be read.
        """
        self._check()
        exempt = name.startswith(EXEMPT)
        return [one for one in self.truncations if writer in one.cuts and not (exempt and one.by)]

    def live(self, event: Event) -> Event | None:
        """What counts of an event: itself, some of its names, or None.

        Raises:
            JournalError: A truncation cannot be read.
        """
        self._check()
        if not self.truncations:
            return event
        kind, fields = event.kind, event.fields
        axis, step = fields.get("axis", "step"), fields.get("step", 0)
        dropping = [one for one in self.truncations if one.drops(kind, event.writer, event.seq, axis, step)]
        if not dropping:
            return event
        if kind not in STEPPED or not all(one.by for one in dropping):
            return None
        entry = {"scalars": "values", "images": "images"}.get(kind)
        if entry is None:
            return event if str(fields.get("name", "")).startswith(EXEMPT) else None
        kept = {name: value for name, value in fields[entry].items() if name.startswith(EXEMPT)}
        if not kept:
            return None
        return Event(event.seq, event.low, kind, event.time, {**fields, entry: kept}, event.writer)

    def living(self, events: Iterable[Event]) -> list[Event]:
        """What counts of several events.

        Raises:
            JournalError: A truncation cannot be read.
        """
        self._check()
        if not self.truncations:
            return list(events)
        return [live for event in events if (live := self.live(event)) is not None]


def _first_event(writer: str, files: WriterFiles) -> Event | None:
    """The first event of a writer; None while there is none, or it cannot be read."""
    paths = [files.segments[1]] if 1 in files.segments else []
    paths += [part.events for part in files.parts if part.first == 1]
    for path in paths:
        try:
            with open_regular(path) as file:
                for _, line in bounded_lines(file):
                    event = decode_line(line or b"", writer)
                    if event.kind not in UNNUMBERED:
                        return event
        except (OSError, JournalError):
            # Gone since, or being written just now.
            continue
    return None
