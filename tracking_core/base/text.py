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


def size(count: int) -> str:
    """A number of bytes for people."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
