"""How far a target has come: kept in the run directory, written as one file that is old or new, never half.

Crash invariant: a cursor never runs ahead of what the backend has confirmed, and an adapter's state in it belongs to
exactly the records it covers.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracking_core.backends.targets import Target, parse_target
from tracking_core.base.files import replace_file
from tracking_core.base.json_text import dump_json, read_json
from tracking_core.base.regular import own_folder
from tracking_core.delivery.failed import Failed
from tracking_core.delivery.places import cursor_path
from tracking_core.delivery.selection import Had
from tracking_core.errors import SettingsError
from tracking_core.values.fields import NUMBERS


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
        target: The target in canonical form, with the filters that the positions were reached with.
        writers: Position by writer.
        state: What the adapter keeps.
        counts: Records delivered, failed and skipped since the run began.
        opened: How often the target was opened for this run.
        status: Status that the target was closed with; None while it is open.
        generation: How often everything was recorded anew, in place of what had been superseded.
        replaced: What the adapter kept of earlier generations that may still be there.
        truncated: Writers whose truncations the target knows of.
        round: How often it was begun again in this generation, to give what newer filters let through.
        given: What it was given in earlier rounds.
        kept: What it had in earlier generations under other filters, and keeps.
        before: `counts` of what does not stand at the target any more, or was left out and given later.
        failed: The numbers of the records that it failed on, as far as there was room for them.
        stuck: What it has been failing on for a while, if that may pass: (writer, number, since when).
    """

    path: Path | None
    target: str = ""
    writers: dict[str, Position] = field(default_factory=dict[str, Position])
    state: dict[str, Any] = field(default_factory=dict[str, Any])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    opened: int = 0
    status: str | None = None
    generation: int = 0
    replaced: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    truncated: list[str] = field(default_factory=list[str])
    round: int = 0
    given: list[Had] = field(default_factory=list[Had])
    kept: list[Had] = field(default_factory=list[Had])
    before: dict[str, int] = field(default_factory=dict[str, int])
    failed: Failed = field(default_factory=Failed)
    stuck: tuple[str, int, float] | None = None

    @classmethod
    def load(cls, directory: Path, target: Target, *, ask: bool = False) -> Cursor:
        """Read the cursor of a target, or begin a new one; a damaged one counts as new, and delivers again.

        Args:
            directory: The run directory.
            target: The target.
            ask: Whether to ask the adapter for its place where the run does not know it yet.
        """
        return cls.read(cursor_path(directory, target, ask=ask), target)

    @classmethod
    def read(cls, path: Path, target: Target) -> Cursor:
        """Read the cursor of a target from a file, as `load` does."""
        cursor = cls(path, str(target))
        try:
            content = read_json(path)
            cursor.writers = {
                # Cursors of before there were segments name none.
                name: Position(_count(entry["seq"]), _count(entry["offset"]), _count(entry.get("segment", 1)))
                for name, entry in content["writers"].items()
            }
            cursor.state = dict(content["state"])
            cursor.counts = {key: _count(value) for key, value in content["counts"].items()}
            cursor.opened = _count(content["opened"])
            cursor.target = str(content["target"])
            cursor.status = None if content.get("status") is None else str(content["status"])
            # Cursors of before runs could go back have none of these.
            cursor.generation, cursor.round = _count(content.get("generation", 0)), _count(content.get("round", 0))
            cursor.replaced = [dict(state) for state in content.get("replaced", ())]
            cursor.truncated = [str(writer) for writer in content.get("truncated", ())]
            cursor.before = {key: _count(value) for key, value in content.get("before", {}).items()}
            cursor.given, cursor.kept = _read_had(content.get("given", ())), _read_had(content.get("kept", ()))
            # Of what failed before numbers were kept, only the count is known.
            cursor.failed, cursor.stuck = Failed.read(content.get("failed")), _read_stuck(content.get("stuck"))
        except FileNotFoundError:
            return cursor
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls(path, str(target))
        return cursor

    @property
    def filters(self) -> Mapping[str, str]:
        """The filters that the positions were reached with."""
        try:
            return parse_target(self.target).filters if self.target else {}
        except SettingsError:
            return {}

    def begin_round(self) -> None:
        """Go through everything again, for what newer filters let through; what was given is not given again."""
        had = self._had()
        self.given = _joined([*self.given, had])
        if had.filters:
            self.writers = {}
            self.round += 1
            self.before["skipped"] = self.counts.get("skipped", 0)
            # What failed comes again by itself.
            self.before["failed"] = self.counts.get("failed", 0)
            self.failed = Failed()

    def begin_generation(self, *, filters: Mapping[str, str]) -> None:
        """Record everything anew, in place of what was superseded.

        Args:
            filters: The filters that hold now.
        """
        kept = [*self.kept, *self.given]
        if self.filters != filters:
            kept.append(self._had())
        self.kept, self.given = _joined(kept), []
        self.generation, self.round, self.opened = self.generation + 1, 0, 0
        if self.state:
            self.replaced.append(self.state)
        self.writers, self.state, self.status = {}, {}, None
        self.failed, self.stuck = Failed(), None
        self.before = dict(self.counts)

    def forget_given(self) -> None:
        """The backend has nothing of this run: what it was given is given again."""
        self.kept, self.given = _joined([*self.kept, *self.given]), []
        # What failed is not sent again by itself.
        self.before = {**self.counts, "failed": self.counts.get("failed", 0) - self.failed.total}

    def count(self, outcome: str) -> int:
        """How many of the records that count at the target now came to be "delivered", "failed" or "skipped"."""
        return self.counts.get(outcome, 0) - self.before.get(outcome, 0)

    def waited(self, writer: str, seq: int) -> float:
        """For how many seconds a record has been failing, earlier sessions included; the first time it is noted."""
        if self.stuck is None or self.stuck[:2] != (writer, seq):
            self.stuck = (writer, seq, round(time.time(), 3))
        return max(0.0, time.time() - self.stuck[2])

    def take_off(self, arrived: Iterable[tuple[str, int, str]]) -> None:
        """Records that had failed did not after all.

        Args:
            arrived: (writer, number, what became of them instead: "delivered", "skipped" or "superseded").
        """
        for writer, seq, outcome in arrived:
            if self.failed.discard(writer, seq):
                self.counts["failed"] = max(0, self.counts.get("failed", 0) - 1)
                if outcome in {"delivered", "skipped"}:
                    self.counts[outcome] = self.counts.get(outcome, 0) + 1

    def _had(self) -> Had:
        reached = {writer: position.seq for writer, position in self.writers.items()}
        return Had(self.filters, reached, self.failed.copy())

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
            "generation": self.generation,
            "replaced": self.replaced,
            "truncated": self.truncated,
            "round": self.round,
            "given": [_had_as_json(one) for one in self.given],
            "before": self.before,
            "kept": [_had_as_json(one) for one in self.kept],
            "failed": self.failed.as_json(),
            "stuck": self.stuck,
        }
        own_folder(self.path.parent)
        replace_file(self.path, dump_json(content))


def _count(value: Any) -> int:
    """A number of events, bytes or files, as a cursor has it.

    Raises:
        ValueError: It is none.
    """
    if type(value) is not int or not 0 <= value < NUMBERS:
        raise ValueError(f"{value!r:.40} is no count")
    return value


def _read_had(entries: Iterable[Mapping[str, Any]]) -> list[Had]:
    return [
        Had(
            {str(key): str(value) for key, value in entry["filters"].items()},
            {writer: _count(seq) for writer, seq in entry["writers"].items()},
            Failed.read(entry.get("failed")),
        )
        for entry in entries
    ]


def _had_as_json(one: Had) -> dict[str, Any]:
    return {"filters": one.filters, "writers": one.writers, "failed": one.failed.as_json()}


def _read_stuck(value: Any) -> tuple[str, int, float] | None:
    try:
        writer, seq, since = value
        return str(writer), int(seq), float(since)
    except (TypeError, ValueError, OverflowError):
        return None


def _joined(entries: Iterable[Had]) -> list[Had]:
    """One entry for those of the same filters: each says that everything up to a number was given."""
    found: list[Had] = []
    for one in entries:
        same = next((other for other in found if other.filters == one.filters), None)
        if same is None:
            found.append(Had(one.filters, dict(one.writers), one.failed))
            continue
        failed = same.failed.besides(one.failed, same.writers, one.writers)
        writers = {w: max(same.writers.get(w, 0), one.writers.get(w, 0)) for w in {**same.writers, **one.writers}}
        found[found.index(same)] = Had(same.filters, writers, failed)
    return found
