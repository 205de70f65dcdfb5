"""How far a target has come: kept in the run directory, written as one file that is old or new, never half.

Crash invariant: a cursor never runs ahead of what the backend has confirmed, and an adapter's state in it belongs to
exactly the records it covers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracking_core.layout import dump_json, load_json, replace_file
from tracking_core.targets import Target


@dataclass(slots=True)
class Position:
    """Where a target stands in the journal of one writer.

    Args:
        seq: Every event up to this number is done with.
        offset: Where in the segment the first event starts that may not be, in bytes.
        segment: Number of that segment.
    """

    seq: int = 0
    offset: int = 0
    segment: int = 1


@dataclass(slots=True)
class Cursor:
    """How far one target has come in one run.

    Args:
        path: The file; None keeps it in memory, for trackers that were passed as objects.
        target: The target in canonical form, for people who read the file.
        writers: Position by writer.
        state: What the adapter keeps.
        counts: Records delivered, failed and skipped since the run began.
        opened: How often the target was opened for this run.
        status: Status that the target was closed with; None while it is open.
    """

    path: Path | None
    target: str = ""
    writers: dict[str, Position] = field(default_factory=dict[str, Position])
    state: dict[str, Any] = field(default_factory=dict[str, Any])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    opened: int = 0
    status: str | None = None

    @classmethod
    def load(cls, directory: Path, target: Target) -> Cursor:
        """Read the cursor of a target, or begin a new one; a damaged one counts as new, and delivers again."""
        path = directory / "cursors" / f"{target.key}.json"
        cursor = cls(path, str(target))
        try:
            content = load_json(path.read_bytes())
            cursor.writers = {
                # Cursors of before there were segments name none.
                name: Position(int(entry["seq"]), int(entry["offset"]), int(entry.get("segment", 1)))
                for name, entry in content["writers"].items()
            }
            cursor.state = dict(content["state"])
            cursor.counts = {key: int(value) for key, value in content["counts"].items()}
            cursor.opened = int(content["opened"])
        except FileNotFoundError:
            return cursor
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls(path, str(target))
        return cursor

    def save(self, positions: Mapping[str, Position]) -> None:
        """Move to new positions and write them down, with state and counts.

        Raises:
            OSError: The file cannot be written; positions are moved all the same.
        """
        self.writers.update(positions)
        if self.path is None:
            return
        content = {
            "v": 1,
            "target": self.target,
            "writers": {
                name: {"seq": p.seq, "segment": p.segment, "offset": p.offset}
                for name, p in sorted(self.writers.items())
            },
            "state": self.state,
            "counts": self.counts,
            "opened": self.opened,
            "status": self.status,
            "updated": round(time.time(), 3),
        }
        self.path.parent.mkdir(exist_ok=True)
        replace_file(self.path, dump_json(content))
