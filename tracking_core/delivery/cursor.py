"""The cursor of a target: how far the target has come. It is a file in the run directory that is replaced as a whole.

Crash invariant: a cursor never runs ahead of what the backend has confirmed. The adapter's state in it belongs to
exactly the records that the cursor covers.
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
from tracking_core.base.redaction.structures import redact_url
from tracking_core.base.regular import own_folder
from tracking_core.delivery.failed import Failed
from tracking_core.delivery.places import cursor_path
from tracking_core.delivery.selection import FilterEpoch
from tracking_core.errors import SettingsError
from tracking_core.values.fields import NUMBERS

_LONGEST = 2000
"""Characters of an address."""


@dataclass(slots=True)
class Position:
    """Where a target stands in the journal of one writer.

    Args:
        seq: Every event up to this number is done with.
        offset: Where the first event after it starts in its segment, in bytes.
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
        state: State of the adapter.
        counts: Records delivered, failed and skipped since the run began.
        opened: How often the target was opened for this run, in this generation.
        status: Status that the target was closed with; None while it is open.
        generation: Incremented when the target records the run anew, because the run went back to an earlier step.
        replaced: States of the adapter from earlier generations whose records may still be at the backend.
        truncated: Writers whose truncations were handled.
        round: Incremented when the run is sent again in this generation, because the filters changed.
        already_sent: What the target got in earlier rounds. It is not sent again.
        retained: What the target had in earlier generations under other filters. It is sent in this one too.
        counts_offset: The part of `counts` that does not describe the target now: it was replaced, or is sent again.
        failed: Numbers of the records that the target failed on, as far as there is room for them.
        stuck: The record that has failed with a transient error for a while: (writer, number, since when).
        url: Address at which the target shows the run.
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
    already_sent: list[FilterEpoch] = field(default_factory=list[FilterEpoch])
    retained: list[FilterEpoch] = field(default_factory=list[FilterEpoch])
    counts_offset: dict[str, int] = field(default_factory=dict[str, int])
    failed: Failed = field(default_factory=Failed)
    stuck: tuple[str, int, float] | None = None
    url: str | None = None

    @classmethod
    def load(cls, directory: Path, target: Target, *, ask: bool = False) -> Cursor:
        """Read the cursor of a target, or begin a new one. A damaged one counts as new: everything is delivered again.

        Args:
            directory: The run directory.
            target: The target.
            ask: Whether to ask the adapter for its place, if the run does not know it yet.
        """
        return cls.read(cursor_path(directory, target, ask=ask), target)

    @classmethod
    def read(cls, path: Path, target: Target) -> Cursor:
        """Read the cursor of a target from a file, as `load` does."""
        cursor = cls(path, str(target))
        try:
            content = read_json(path)
            cursor.writers = {
                # Older cursors name no segment.
                name: Position(_count(entry["seq"]), _count(entry["offset"]), _count(entry.get("segment", 1)))
                for name, entry in content["writers"].items()
            }
            cursor.state = dict(content["state"])
            cursor.counts = {key: _count(value) for key, value in content["counts"].items()}
            cursor.opened = _count(content["opened"])
            cursor.target = str(content["target"])
            cursor.status = None if content.get("status") is None else str(content["status"])
            # Older cursors have none of these.
            cursor.generation, cursor.round = _count(content.get("generation", 0)), _count(content.get("round", 0))
            cursor.replaced = [dict(state) for state in content.get("replaced", ())]
            cursor.truncated = [str(writer) for writer in content.get("truncated", ())]
            cursor.counts_offset = {key: _count(value) for key, value in content.get("before", {}).items()}
            cursor.already_sent = _read_epochs(content.get("given", ()))
            cursor.retained = _read_epochs(content.get("kept", ()))
            # In older cursors failed records have a count, and no numbers.
            cursor.failed, cursor.stuck = Failed.read(content.get("failed")), _read_stuck(content.get("stuck"))
            cursor.url = web_address(content.get("url"))
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
        """Begin at the start of the journal, to send what changed filters now admit; skip what was already sent."""
        epoch = self._epoch()
        self.already_sent = _joined([*self.already_sent, epoch])
        if epoch.filters:
            self.writers = {}
            self.round += 1
            self.counts_offset["skipped"] = self.counts.get("skipped", 0)
            # The records that failed come by again.
            self.counts_offset["failed"] = self.counts.get("failed", 0)
            self.failed = Failed()

    def begin_generation(self, *, filters: Mapping[str, str]) -> None:
        """Begin at the start of the journal, to replace everything that the target has.

        Args:
            filters: The filters of the target now.
        """
        retained = [*self.retained, *self.already_sent]
        if self.filters != filters:
            retained.append(self._epoch())
        self.retained, self.already_sent = _joined(retained), []
        self.generation, self.round, self.opened = self.generation + 1, 0, 0
        if self.state:
            self.replaced.append(self.state)
        self.writers, self.state, self.status, self.url = {}, {}, None, None
        self.failed, self.stuck = Failed(), None
        self.counts_offset = dict(self.counts)

    def forget_already_sent(self) -> None:
        """Send everything again: the backend has nothing of this run."""
        self.retained, self.already_sent = _joined([*self.retained, *self.already_sent]), []
        # Failed records are sent again on request only.
        self.counts_offset = {**self.counts, "failed": self.counts.get("failed", 0) - self.failed.total}

    def count(self, outcome: str) -> int:
        """How many records have the outcome "delivered", "failed" or "skipped", as the target stands now."""
        return self.counts.get(outcome, 0) - self.counts_offset.get(outcome, 0)

    def waited(self, writer: str, seq: int) -> float:
        """For how many seconds a record has been failing, earlier sessions included. The first call notes the time."""
        if self.stuck is None or self.stuck[:2] != (writer, seq):
            self.stuck = (writer, seq, round(time.time(), 3))
        return max(0.0, time.time() - self.stuck[2])

    def recover(self, recovered: Iterable[tuple[str, int, str]]) -> None:
        """Remove records from the failed ones.

        Args:
            recovered: (writer, number, their outcome now: "delivered", "skipped" or "superseded").
        """
        for writer, seq, outcome in recovered:
            if self.failed.discard(writer, seq):
                self.counts["failed"] = max(0, self.counts.get("failed", 0) - 1)
                if outcome in {"delivered", "skipped"}:
                    self.counts[outcome] = self.counts.get(outcome, 0) + 1

    def _epoch(self) -> FilterEpoch:
        reached = {writer: position.seq for writer, position in self.writers.items()}
        return FilterEpoch(self.filters, reached, self.failed.copy())

    def save(self, positions: Mapping[str, Position]) -> None:
        """Move to new positions, and write the file.

        Raises:
            OSError: The file cannot be written. The positions in memory have moved.
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
            "given": [_epoch_as_json(one) for one in self.already_sent],
            "before": self.counts_offset,
            "kept": [_epoch_as_json(one) for one in self.retained],
            "failed": self.failed.as_json(),
            "stuck": self.stuck,
            "url": self.url,
        }
        own_folder(self.path.parent)
        replace_file(self.path, dump_json(content))


def address_of(tracker: object) -> str | None:
    """The address at which an open tracker shows the run; None when it has none."""
    try:
        return web_address(getattr(tracker, "url", None))
    except Exception:  # noqa: BLE001 - a backend that cannot say where it shows a run is no worse for that
        return None


def web_address(value: object) -> str | None:
    """An address that a backend gave, or that stands in a file, if it can be one of a page; else None."""
    if not isinstance(value, str) or len(value) > _LONGEST or not value.isprintable() or " " in value:
        return None
    return redact_url(value) if value.startswith(("https://", "http://")) else None


def _count(value: Any) -> int:
    """Check a number of events, bytes or files.

    Raises:
        ValueError: It is no such number.
    """
    if type(value) is not int or not 0 <= value < NUMBERS:
        raise ValueError(f"{value!r:.40} is not a count")
    return value


def _read_epochs(entries: Iterable[Mapping[str, Any]]) -> list[FilterEpoch]:
    return [
        FilterEpoch(
            {str(key): str(value) for key, value in entry["filters"].items()},
            {writer: _count(seq) for writer, seq in entry["writers"].items()},
            Failed.read(entry.get("failed")),
        )
        for entry in entries
    ]


def _epoch_as_json(one: FilterEpoch) -> dict[str, Any]:
    return {"filters": one.filters, "writers": one.writers, "failed": one.failed.as_json()}


def _read_stuck(value: Any) -> tuple[str, int, float] | None:
    try:
        writer, seq, since = value
        return str(writer), int(seq), float(since)
    except (TypeError, ValueError, OverflowError):
        return None


def _joined(entries: Iterable[FilterEpoch]) -> list[FilterEpoch]:
    """Merge the epochs that have the same filters."""
    found: list[FilterEpoch] = []
    for one in entries:
        same = next((other for other in found if other.filters == one.filters), None)
        if same is None:
            found.append(FilterEpoch(one.filters, dict(one.writers), one.failed))
            continue
        failed = same.failed.besides(one.failed, same.writers, one.writers)
        writers = {w: max(same.writers.get(w, 0), one.writers.get(w, 0)) for w in {**same.writers, **one.writers}}
        found[found.index(same)] = FilterEpoch(same.filters, writers, failed)
    return found
