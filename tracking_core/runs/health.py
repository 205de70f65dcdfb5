"""The state of an active run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tracking_core.base.text import counted


@dataclass(frozen=True, slots=True)
class Health:
    """A snapshot of the state of recording.

    Args:
        recorded: Events in the journal.
        unwritten: Events that could not be written to the journal.
        dropped: Values that were not recorded, by reason: "invalid", "finished", …
        pending: Records that wait, by target.
        lag: Seconds that the oldest record has waited: under "journal", for a record whose values are not on the host
            yet; under each target, for a record that it has not received.
        errors: The last error of each target that has one.
        durability: "journal": a call whose values are on the host is in the journal when it returns. "deferred": it
            is written soon after, because the file system is slow. "none": nothing is recorded.
        calls: How many calls were made.
        call_seconds: Time spent in them, in seconds.
        call_median_us: Time a call took at the median, in microseconds (to within a factor of the square root of 2).
        call_p99_us: Time that 99 of 100 calls stayed below, in microseconds.
        in_flight: Values that are on their way from a device, or media that wait to be encoded.
    """

    recorded: int = 0
    unwritten: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict[str, int])
    pending: Mapping[str, int] = field(default_factory=dict[str, int])
    lag: Mapping[str, float] = field(default_factory=dict[str, float])
    errors: Mapping[str, str] = field(default_factory=dict[str, str])
    durability: str = "journal"
    calls: int = 0
    call_seconds: float = 0.0
    call_median_us: float = 0.0
    call_p99_us: float = 0.0
    in_flight: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing was lost and no target has problems."""
        return not (self.unwritten or self.dropped or self.errors)

    def __str__(self) -> str:
        """One line: the cost of logging, and its problems."""
        text = f"{counted(self.calls, 'call')} took {self.call_seconds:.3f} s (median {self.call_median_us:.0f} µs, "
        text += f"p99 {self.call_p99_us:.0f} µs), {counted(self.recorded, 'event')}, durability {self.durability}"
        waiting = {target: count for target, count in self.pending.items() if count}
        for name, found in (("pending", waiting), ("dropped", self.dropped), ("errors", self.errors)):
            if found:
                text += f", {name}: " + ", ".join(f"{key} {value}" for key, value in found.items())
        return text + (f", {self.unwritten} not written" if self.unwritten else "")

    def without_troubles(self) -> Health:
        """The same line without the problems: only the cost of logging."""
        return replace(self, pending={}, dropped={}, errors={}, unwritten=0)


class CallTimes:
    """How long calls took, counted in classes of half a power of two: no sample is kept, and adding one is cheap."""

    def __init__(self) -> None:
        self._classes = [0] * 128
        self.total_ns = 0

    def add(self, ns: int) -> None:
        """Count one call of `ns` nanoseconds."""
        bits = ns.bit_length()
        self._classes[2 * bits + (ns >> (bits - 2) & 1 if bits > 1 else 0)] += 1
        self.total_ns += ns

    @property
    def calls(self) -> int:
        """How many calls were counted."""
        return sum(self._classes)

    def quantile(self, share: float) -> float:
        """The time that this share of the calls stayed below, in microseconds; 0 when there were none."""
        wanted = share * self.calls
        seen = 0
        for number, count in enumerate(self._classes):
            seen += count
            if count and seen >= wanted:
                bits, half = divmod(number, 2)
                return (3 + half) * 2.0**bits / 4 / 1e3
        return 0.0
