"""What it takes that an interrupted call holds nothing back: numbers that are registered, not just counted.

Both take a number, find the low-water mark and give the number back, as a log call does around its write; the rest of
the call is the same. The limit is 200 ns a call.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable
from time import thread_time_ns

from benchmarks.machine import render
from tracking_core.journal.numbers import Numbers

CALLS = 1_000
LIMIT_NS = 200.0


class Counted:
    """A counter, and the mark moved on when its number is done with: an interrupt in between leaves a gap for ever."""

    def __init__(self) -> None:
        self.take = itertools.count(1).__next__
        self.low = 1
        self.done: set[int] = set()

    def call(self) -> None:
        seq = self.take()
        low = self.low
        _ = seq + 1 if low == seq else low
        if self.low == seq and not self.done:
            self.low = seq + 1


class Registered:
    """As the journal's writer does it."""

    def __init__(self) -> None:
        self.numbers = Numbers()
        self.take = self.numbers.take
        self.held = self.numbers.held
        self.low = 1

    def call(self) -> None:
        ticket = self.take()
        seq = ticket[0]
        low, held = self.low, self.held
        while low < seq and low not in held:
            low += 1
        self.low = low
        _ = seq + 1 if low == seq else low
        held.pop(seq, None)


def nanoseconds(call: Callable[[], None]) -> float:
    begin = thread_time_ns()
    for _ in range(CALLS):
        call()
    return (thread_time_ns() - begin) / CALLS


def measure(rounds: int) -> dict[str, dict[str, float]]:
    found: dict[str, list[float]] = {"counted": [], "registered": []}
    for _ in range(max(rounds, 5) * 100):
        for name, kind in (("counted", Counted), ("registered", Registered)):
            found[name].append(nanoseconds(kind().call))
    # CPU time of this thread; whatever else the machine does only adds: the smallest is the call's own.
    best = {name: min(times) for name, times in found.items()}
    more = best["registered"] - best["counted"]
    return {
        **{name: {"best_ns": best[name], "median_ns": statistics.median(times)} for name, times in found.items()},
        "difference": {"best_ns": more, "limit_ns": LIMIT_NS, "ratio": best["registered"] / best["counted"]},
    }


def table(results: dict[str, dict[str, float]]) -> str:
    more = results["difference"]
    rows = [
        [name, f"{one['best_ns']:.0f}", f"{one['median_ns']:.0f}"]
        for name, one in results.items()
        if "median_ns" in one
    ]
    rows.append(["difference", f"{more['best_ns']:.0f}", f"limit {more['limit_ns']:.0f}"])
    return render("A number of the journal, in nanoseconds a call", ["", "best", "median"], rows)
