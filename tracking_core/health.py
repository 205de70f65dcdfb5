"""What a run says of itself while it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Health:
    """A snapshot of how recording goes.

    Args:
        recorded: Events in the journal.
        unwritten: Events that could not be written to the journal.
        dropped: Values that were not recorded, by reason: "invalid", "finished", …
        pending: Records that wait, by target.
        errors: The last error of each target that has one.
        durability: "journal": a call whose values are on the host is in the journal when it returns.
    """

    recorded: int = 0
    unwritten: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict[str, int])
    pending: Mapping[str, int] = field(default_factory=dict[str, int])
    errors: Mapping[str, str] = field(default_factory=dict[str, str])
    durability: str = "journal"

    @property
    def ok(self) -> bool:
        """Whether nothing was lost and no target is in trouble."""
        return not (self.unwritten or self.dropped or self.errors)
