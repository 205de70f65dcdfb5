"""Which values of a run a target gets: what its filters let through, and what they let through before they changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tracking_core.backends.targets import Target, passes
from tracking_core.delivery.failed import Failed
from tracking_core.journal import Event
from tracking_core.values import Record


@dataclass(frozen=True, slots=True)
class Had:
    """What a target has been given under filters that it had before.

    Args:
        filters: The filters.
        writers: Writer → every event up to this number was given, as far as the filters let it through.
        failed: Those of them that it failed on, and so has not.
    """

    filters: Mapping[str, str]
    writers: Mapping[str, int] = field(default_factory=dict[str, int])
    failed: Failed = field(default_factory=Failed)

    def has(self, writer: str, seq: int, kind: str, name: str | None, step: int | None) -> bool:
        """Whether a value was given."""
        reached = seq <= self.writers.get(writer, 0) and not self.failed.has(writer, seq)
        return reached and passes(self.filters, kind, name, step)


@dataclass(frozen=True, slots=True)
class Selection:
    """Chooses the values of records for one target.

    Args:
        target: The target, with the filters that it has now.
        kept: What is recorded anew, whatever the filters say now: the target had it.
        given: What is not given again: the target has it.
    """

    target: Target
    kept: Sequence[Had] = ()
    given: Sequence[Had] = ()

    @property
    def is_everything(self) -> bool:
        """Whether there is nothing to choose."""
        return not (self.target.filters or self.given)

    def wants(self, event: Event) -> bool:
        """Whether something of an event is for the target."""
        if self.is_everything:
            return True
        kind, fields = event.kind, event.fields
        step = fields.get("step")
        if kind in {"scalars", "images"}:
            names = fields.get("values" if kind == "scalars" else "images", {})
            return any(self._takes(event.writer, event.seq, kind, name, step) for name in names)
        return self._takes(event.writer, event.seq, kind, fields.get("name"), step)

    def of(self, record: Record) -> Record:
        """A record without the names that are not for the target."""
        if self.is_everything or record.kind not in {"scalars", "images"}:
            return record
        data: dict[str, Any] = {
            name: value
            for name, value in record.data.items()
            if self._takes(record.writer, record.seq, record.kind, name, record.step)
        }
        return Record(record.kind, record.seq, record.writer, record.time, record.step, record.axis, data)

    def _takes(self, writer: str, seq: int, kind: str, name: str | None, step: int | None) -> bool:
        if any(had.has(writer, seq, kind, name, step) for had in self.given):
            return False
        return self.target.takes(kind, name, step) or any(had.has(writer, seq, kind, name, step) for had in self.kept)
