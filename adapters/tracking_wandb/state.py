"""What this adapter keeps in the cursor of a run, and how it is read again.

A cursor may be older than this version, damaged, or come with a run that somebody else wrote. So what is kept is read
in one place, once, at the opening: what is not of its form counts as not kept.

| entry | content |
|---|---|
| `openings` | how often the run was opened |
| `mode`, `dir` | of the last opening, the mode and the folder; for people, and for folders of before marks said more |
| `round`, `sent` | the round, and by writer the highest number that was handed to the client in it |
| `token` | what stands in the marks of this run's folders, and nobody else knows |
| `folders` | names of folders, whose files may not all be at the server |
| `uploads` | writer and number of the records of artifacts that are on their way |
| `facts` | writer, number and time of records that become no row, and may not have arrived |
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any, cast


def clear_up(state: MutableMapping[str, Any]) -> None:
    """Drop from a state what is not of its form, in place."""
    # Kept by earlier versions; what the run is told of its configuration is newer.
    state.pop("config", None)
    for name, fits in _FORMS.items():
        if name in state and not fits(state[name]):
            del state[name]
    for name, fits in _ENTRIES.items():
        if name in state:
            entries: Any = state[name]
            state[name] = (
                [entry for entry in cast("list[Any]", entries) if fits(entry)] if isinstance(entries, list) else []
            )
    if "sent" in state:
        sent = cast("dict[Any, Any]", state["sent"])
        state["sent"] = {writer: seq for writer, seq in sent.items() if isinstance(writer, str) and _is_count(seq)}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_record(value: Any, more: int = 0) -> bool:
    return (
        isinstance(value, list)
        and len(cast("list[Any]", value)) == 2 + more
        and isinstance(value[0], str)
        and _is_count(value[1])
    )


def _is_fact(value: Any) -> bool:
    return _is_record(value, 1) and isinstance(value[2], (int, float))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_FORMS: dict[str, Callable[[Any], bool]] = {
    "openings": _is_count,
    "mode": _is_text,
    "dir": _is_text,
    "round": _is_count,
    "sent": lambda value: isinstance(value, dict),
    "token": _is_text,
}
_ENTRIES: dict[str, Callable[[Any], bool]] = {"folders": _is_text, "uploads": _is_record, "facts": _is_fact}
