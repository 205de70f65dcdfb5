"""Words for people."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], *, prefix: str = "") -> str:
    """': did you mean …?' if something known is close, else ''.

    Args:
        word: What was written.
        known: What might have been meant.
        prefix: What all of them begin with, which must not make them look alike.
    """
    rest = [name.removeprefix(prefix) for name in known]
    close = difflib.get_close_matches(word.removeprefix(prefix), rest, n=1, cutoff=0.6)
    return f": did you mean {prefix + close[0]!r}?" if close else ""


def counted(count: float, one: str, several: str | None = None) -> str:
    """How many of something.

    Args:
        count: How many.
        one: What one is called.
        several: What several are called; None appends an s.

    Example:
        >>> counted(1, "file"), counted(0, "file"), counted(1200, "copy", "copies")
        ('1 file', '0 files', '1,200 copies')
    """
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def of_all(part: int, count: int, several: str) -> str:
    """A part of several, or how many they are where it is all of them.

    Example:
        >>> of_all(1, 200, "runs"), of_all(3, 3, "runs")
        ('1 of 200 runs', '3 runs')
    """
    if part == count:
        return counted(count, several.removesuffix("s"), several)
    return f"{part:,} of {counted(count, several.removesuffix('s'), several)}"


def size(count: int) -> str:
    """A number of bytes for people."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
