"""Sequence numbers: handed out, held while their event is under way, and let go of when nobody holds them any more.

Ctrl-C may come between any two steps of the interpreter. So a number is taken and registered by one call into C, which
nothing comes between; and one that was taken and whose taker was interrupted is found by its ticket: when nothing but
the register refers to a ticket, nobody is left who could write the event.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from itertools import count

Ticket = tuple[int]
"""What whoever writes an event holds on to until it is written: `ticket[0]` is the number."""


class Numbers:
    """The numbers of one writer, from 1; each is taken once, from any thread, without a lock."""

    take: Callable[[], Ticket]
    """Take the next number."""

    def __init__(self) -> None:
        self.held: dict[int, Ticket] = {}
        """Tickets by number, in the order in which they were taken: of events that are not done with. Whoever is done
        with one takes it out."""
        tickets = zip(count())
        # `zip` gives its own tuple out again once nobody has it: kept here, it never does, and each ticket is new.
        self._zero = next(tickets)
        self.take = map(self.held.setdefault, count(1), tickets).__next__

    def passed(self, number: int) -> bool:
        """Whether every event up to a number is done with."""
        return all(held > number for held in self.held.copy())

    def forsaken(self) -> list[int]:
        """Let go of the numbers that nobody holds, and say which."""
        found = [number for number in tuple(self.held) if _references(self.held, number) == _REGISTERED]
        for number in found:
            self.held.pop(number, None)
        return found


def _references(held: dict[int, Ticket], number: int) -> int:
    ticket = held.get(number)
    return sys.getrefcount(ticket) if ticket is not None else 0


def _reference_count() -> int:
    numbers = Numbers()
    numbers.take()
    return _references(numbers.held, 1)


_REGISTERED = _reference_count()
"""References to a ticket that only the register has, as this interpreter counts them."""


def let_go(error: BaseException) -> None:
    """Let go of what interrupted calls of this package held: a traceback keeps their variables as long as it lives.

    Args:
        error: What interrupted them, and what it interrupted in turn.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        trace = cause.__traceback__
        while trace is not None:
            if str(trace.tb_frame.f_globals.get("__name__", "")).startswith("tracking_core."):
                # One that still runs, further out, is not cleared.
                with contextlib.suppress(RuntimeError):
                    trace.tb_frame.clear()
            trace = trace.tb_next
        cause = cause.__context__
