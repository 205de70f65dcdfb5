"""What an earlier process kept of a run in its state, as far as it can be believed.

The state comes from the cursor of a run directory, and whoever can write there, or hand over a run, can write that. So
nothing in it is taken for what it should be: what is of another type is as good as missing. Where the file is that it
names, and whose, `own_files` finds out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from tracking_tensorboard.tags import PLUGINS

_MOST_COUNTED = 2**53
MOST_SCOPES = 64
"""Sub-runs of one run: each has an open file."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a restart goes on from.

    Args:
        file: The event file, relative to the log directory; None where no file was begun.
        length: How many bytes of it were confirmed; None where that is not said.
        last: Where the last record of those begins; None where that is not said.
        target: Key of the target that the file was begun for.
        tags: See `TagTable.saved`.
        counts: How many events there are of the run's own tags.
        hparams: What the row of the HParams tab will say; empty once it is written.
        session: Whether that row is written.
        ended: How the run was said to end.
        token: What the files of its sub-runs have in their marks.
        scopes: The files of its sub-runs, by the names of their directories.
    """

    file: str | None = None
    length: int | None = None
    last: int | None = None
    target: str | None = None
    tags: Mapping[str, list[str]] = field(default_factory=dict[str, list[str]])
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    hparams: Mapping[str, bool | float | str] = field(default_factory=dict[str, "bool | float | str"])
    session: bool = False
    ended: str | None = None
    token: str | None = None
    scopes: Mapping[str, Kept] = field(default_factory=dict[str, "Kept"])

    def as_state(self) -> dict[str, Any]:
        """What it says of a file, as JSON values."""
        facts = {"file": self.file, "length": self.length, "last": self.last, "tags": dict(self.tags) or None}
        return {key: value for key, value in facts.items() if value is not None}


def kept(state: Mapping[str, Any]) -> Kept:
    """What a state says."""
    return Kept(
        file=_text(state.get("file")),
        length=_number(state.get("length")),
        last=_number(state.get("last")),
        target=_text(state.get("target")),
        tags=_tags(state.get("tags")),
        counts={tag: count for tag, count in _mapping(state.get("counts")).items() if _number(count) is not None},
        hparams={name: value for name, value in _mapping(state.get("hparams")).items() if _is_plain(value)},
        session=state.get("session") is True,
        ended=_text(state.get("ended")),
        token=_text(state.get("token")),
        scopes={
            folder: _file(entry)
            for folder, entry in itertools.islice(_mapping(state.get("scopes")).items(), MOST_SCOPES)
        },
    )


def _file(entry: object) -> Kept:
    facts = _mapping(entry)
    return Kept(
        file=_text(facts.get("file")),
        length=_number(facts.get("length")),
        last=_number(facts.get("last")),
        tags=_tags(facts.get("tags")),
    )


def _tags(value: object) -> dict[str, list[str]]:
    return {tag: entry for tag, entry in _mapping(value).items() if _is_entry(entry)}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value < _MOST_COUNTED else None


def _mapping(value: object) -> dict[str, Any]:
    held = cast("dict[Any, Any]", value) if isinstance(value, dict) else {}
    return {key: one for key, one in held.items() if isinstance(key, str)}


def _is_entry(value: object) -> bool:
    """Whether it is [kind, axis] or [kind, axis, name]."""
    parts = cast("list[Any]", value) if isinstance(value, list) else []
    return len(parts) in {2, 3} and all(isinstance(part, str) for part in parts) and parts[0] in PLUGINS


def _is_plain(value: object) -> bool:
    return isinstance(value, (bool, str)) or (isinstance(value, (int, float)) and math.isfinite(value))
