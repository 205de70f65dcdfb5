"""Reports: what became of the records of a run, target by target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tracking_core.base.redaction import redact_text

Note = Callable[[str, str, BaseException | None], None]
"""Takes (reason, message, error) of what goes wrong."""


class Notes:
    """Passes on what goes wrong with one target, and keeps the last of it.

    Args:
        label: Name of the target.
        note: Called with (reason, message, error).
    """

    def __init__(self, label: str, note: Note) -> None:
        self.label = label
        self.last: str | None = None
        self._note = note

    def trouble(self, reason: str, message: str, error: BaseException | None = None) -> None:
        """Pass on what went wrong; `message` follows the name of the target."""
        self.last = redact_text(message)
        self._note(f"{self.label}: {reason}", f"{self.label} {message}", error)

    def remark(self, reason: str, message: str, error: BaseException | None = None) -> None:
        """Pass on a message that is not a failure of the target, unchanged."""
        self._note(reason, message, error)


@dataclass(frozen=True, slots=True)
class TargetReport:
    """What became of the records of one target.

    Args:
        target: The target, or "local" for the run store itself.
        delivered: Records that the backend accepted (for "local": records in the journal).
        pending: Records that wait in the journal.
        dropped: Values that could not be recorded and are lost (only for "local").
        failed: Records that the backend refused or failed on. They are sent again only on request.
        skipped: Records that the target's filters exclude, or that the backend cannot show.
        last_error: The last thing that went wrong, or None.
        lag: Seconds that the oldest pending record has waited.
        abandoned: Whether finishing the backend failed or took too long: records may be lost there. Opening the run
            again, or `tracking sync`, checks this and sends them again.
        recoverable: How many failed records, of this session or earlier, `tracking sync --failed` would send again.
    """

    target: str
    delivered: int = 0
    pending: int = 0
    dropped: int = 0
    failed: int = 0
    skipped: int = 0
    last_error: str | None = None
    lag: float = 0.0
    abandoned: bool = False
    recoverable: int = 0

    @property
    def ok(self) -> bool:
        """Whether everything arrived."""
        return not (self.pending or self.dropped or self.failed or self.abandoned)

    def __str__(self) -> str:
        counts = ("pending", "dropped", "failed", "skipped")
        parts = [f"{self.delivered} delivered"]
        parts += [f"{getattr(self, name)} {name}" for name in counts if getattr(self, name)]
        notes = [self.last_error] if self.last_error and not self.ok else []
        if self.recoverable:
            notes.append(self.advice)
        return f"{self.target}: {', '.join(parts)}" + (f" ({'; '.join(notes)})" if notes else "")

    @property
    def advice(self) -> str:
        """What to do about failed records; "" if none can be sent again."""
        if not self.recoverable:
            return ""
        what = "what failed" if self.recoverable == self.failed else f"{self.recoverable} that failed"
        return f"`tracking sync --failed` sends {what} again"


@dataclass(frozen=True, slots=True)
class DeliveryReport(Mapping[str, TargetReport]):
    """A mapping of targets to their reports; a target is named by its adapter, or in full when two share one.

    Args:
        targets: The reports by name.
        status: Status of the run when this was made.
    """

    targets: Mapping[str, TargetReport] = field(default_factory=dict[str, TargetReport])
    status: str = "running"

    @property
    def ok(self) -> bool:
        """Whether everything arrived everywhere."""
        return all(report.ok for report in self.targets.values())

    @property
    def delivered(self) -> int:
        """Records delivered, over all targets."""
        return sum(report.delivered for report in self.targets.values())

    @property
    def pending(self) -> int:
        """Records that wait, over all targets."""
        return sum(report.pending for report in self.targets.values())

    @property
    def dropped(self) -> int:
        """Values dropped, over all targets."""
        return sum(report.dropped for report in self.targets.values())

    @property
    def failed(self) -> int:
        """Records failed, over all targets."""
        return sum(report.failed for report in self.targets.values())

    def __getitem__(self, target: str) -> TargetReport:
        return self.targets[target]

    def __iter__(self) -> Iterator[str]:
        return iter(self.targets)

    def __len__(self) -> int:
        return len(self.targets)

    def __str__(self) -> str:
        return "; ".join(str(report) for report in self.targets.values())

    def _repr_html_(self) -> str:
        from tracking_core.values.notebook import facts_html

        columns = ("target", "delivered", "pending", "dropped", "failed", "skipped", "last error")
        rows = [
            (one.target, one.delivered, one.pending, one.dropped, one.failed, one.skipped, one.last_error)
            for one in self.targets.values()
        ]
        head = f"{self.status}: {'everything arrived' if self.ok else 'not everything arrived'}"
        advice = list(dict.fromkeys(one.advice for one in self.targets.values() if one.advice))
        return facts_html(head, columns=columns, rows=rows, notes=advice)
