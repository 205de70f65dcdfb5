"""The records that a target failed on, by number: what `tracking sync --failed` sends again."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from operator import index
from typing import Any, cast

LIMIT = 5000
"""How many ranges are kept. Records that fail beyond that are counted, and their numbers are not kept."""


class Failed:
    """Numbers of records, as ranges by writer.

    Args:
        ranges: Writer → (first, last) of each range, in order, none of them touching the next.
        limit: How many ranges there may be.
    """

    def __init__(self, ranges: Mapping[str, list[tuple[int, int]]] | None = None, *, limit: int = LIMIT) -> None:
        self._ranges = {writer: list(some) for writer, some in (ranges or {}).items() if some}
        self._limit = limit
        self._count = sum(len(some) for some in self._ranges.values())
        self.total = sum(last - first + 1 for _, first, last in self)
        """How many numbers there are."""

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        """(writer, first, last) of each range."""
        return ((writer, first, last) for writer, some in self._ranges.items() for first, last in some)

    def __bool__(self) -> bool:
        return self.total > 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Failed) and self.as_json() == other.as_json()

    __hash__ = None  # pyright: ignore[reportAssignmentType] - it changes

    def copy(self) -> Failed:
        """An independent copy."""
        return Failed(self._ranges, limit=self._limit)

    def has(self, writer: str, seq: int) -> bool:
        """Whether a number is among them."""
        some = self._ranges.get(writer)
        if not some:
            return False
        at = _place(some, seq)
        return at >= 0 and seq <= some[at][1]

    def first(self, writer: str) -> int | None:
        """The lowest number of a writer; None when it has none."""
        some = self._ranges.get(writer)
        return some[0][0] if some else None

    def last(self, writer: str) -> int:
        """The highest number of a writer; 0 when it has none."""
        some = self._ranges.get(writer)
        return some[-1][1] if some else 0

    def add(self, writer: str, seq: int) -> bool:
        """Add a number; False when there is no room for another range."""
        some = self._ranges.get(writer, [])
        at = _place(some, seq)
        if at >= 0 and seq <= some[at][1]:
            return True
        follows = at >= 0 and some[at][1] == seq - 1
        precedes = at + 1 < len(some) and some[at + 1][0] == seq + 1
        if follows and precedes:
            some[at : at + 2] = [(some[at][0], some[at + 1][1])]
            self._count -= 1
        elif follows:
            some[at] = (some[at][0], seq)
        elif precedes:
            some[at + 1] = (seq, some[at + 1][1])
        elif self._count >= self._limit:
            return False
        else:
            some.insert(at + 1, (seq, seq))
            self._ranges[writer] = some
            self._count += 1
        self.total += 1
        return True

    def discard(self, writer: str, seq: int) -> bool:
        """Remove a number; False when it is not among them."""
        if not self.has(writer, seq):
            return False
        some = self._ranges[writer]
        at = _place(some, seq)
        first, last = some[at]
        left = [part for part in ((first, seq - 1), (seq + 1, last)) if part[0] <= part[1]]
        if len(left) > 1 and self._count >= self._limit:
            left = [max(left, key=lambda part: part[1] - part[0])]
        some[at : at + 1] = left
        self._count += len(left) - 1
        self.total -= last - first + 1 - sum(high - low + 1 for low, high in left)
        if not some:
            del self._ranges[writer]
        return True

    def within(self, writer: str, first: int, last: int) -> list[tuple[int, int]]:
        """The parts of the ranges of a writer between two numbers."""
        some = self._ranges.get(writer, [])
        at = max(0, _place(some, first))
        return [(max(first, low), min(last, high)) for low, high in some[at:] if low <= last and high >= first]

    def besides(self, other: Failed, sent: Mapping[str, int], other_sent: Mapping[str, int]) -> Failed:
        """What failed both times, where records were sent twice: a record that arrived once is not among them.

        Args:
            other: What failed the other time.
            sent: Writer → up to which number records were sent.
            other_sent: The same, the other time.
        """
        pieces: dict[str, list[tuple[int, int]]] = {}
        for mine, theirs, reached in ((self, other, other_sent), (other, self, sent)):
            for writer, first, last in mine:
                end = reached.get(writer, 0)
                some = pieces.setdefault(writer, [])
                some.append((max(first, end + 1), last))
                some += theirs.within(writer, first, last)
        return Failed({writer: _joined(some) for writer, some in pieces.items()}, limit=self._limit)

    def as_json(self) -> dict[str, list[list[int]]]:
        """As JSON values."""
        return {writer: [list(one) for one in some] for writer, some in sorted(self._ranges.items())}

    @classmethod
    def read(cls, value: Any) -> Failed:
        """Undo `as_json`; a value of another form gives an empty one."""
        ranges: dict[str, list[tuple[int, int]]] = {}
        try:
            for writer, some in cast("Mapping[str, Any]", value or {}).items():
                end = -1
                for pair in some:
                    first, last = map(index, pair)
                    if not (end + 1 < first <= last < 1 << 63) or first < 1:
                        return cls()
                    ranges.setdefault(str(writer), []).append((first, last))
                    end = last
        except (TypeError, ValueError, AttributeError):
            return cls()
        found = cls(ranges)
        return found if found._count <= LIMIT else cls()


def _place(some: list[tuple[int, int]], seq: int) -> int:
    """Index of the last range that begins at a number or before it, or -1."""
    return bisect_right(some, (seq, 1 << 64)) - 1


def _joined(pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sort ranges, merge those that touch, and drop empty ones."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(pieces):
        if first > last:
            continue
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found
