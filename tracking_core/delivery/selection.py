"""Which values of a run a target gets: what its filters admit, and what they admitted before they changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tracking_core.backends.targets import Target, passes
from tracking_core.delivery.failed import Failed
from tracking_core.journal import Event
from tracking_core.values import Record


@dataclass(frozen=True, slots=True)
class FilterEpoch:
    """What a target got while it had certain filters.

    Args:
        filters: The filters.
        writers: Writer → every event up to this number was sent, as far as the filters admit it.
        failed: The events among them that the target failed on, and does not have.
    """

    filters: Mapping[str, str]
    writers: Mapping[str, int] = field(default_factory=dict[str, int])
    failed: Failed = field(default_factory=Failed)

    def has(self, writer: str, seq: int, kind: str, name: str | None, step: int | None) -> bool:
        """Whether the target has a value."""
        reached = seq <= self.writers.get(writer, 0) and not self.failed.has(writer, seq)
        return reached and passes(self.filters, kind, name, step)


@dataclass(frozen=True, slots=True)
class Selection:
    """Chooses the values of records for one target.

    Args:
        target: The target, with the filters that it has now.
        retained: What is sent whatever the filters say now: the target had it in an earlier generation.
        already_sent: What is not sent again: the target has it.
    """

    target: Target
    retained: Sequence[FilterEpoch] = ()
    already_sent: Sequence[FilterEpoch] = ()

    @property
    def is_everything(self) -> bool:
        """Whether the target gets all values."""
        return not (self.target.filters or self.already_sent)

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
        """The record without the names that are not for the target."""
        if self.is_everything or record.kind not in {"scalars", "images"}:
            return record
        data: dict[str, Any] = {
            name: value
            for name, value in record.data.items()
            if self._takes(record.writer, record.seq, record.kind, name, record.step)
        }
        return Record(record.kind, record.seq, record.writer, record.time, record.step, record.axis, data)

    def _takes(self, writer: str, seq: int, kind: str, name: str | None, step: int | None) -> bool:
        value = (writer, seq, kind, name, step)
        if any(epoch.has(*value) for epoch in self.already_sent):
            return False
        return self.target.takes(kind, name, step) or any(epoch.has(*value) for epoch in self.retained)
