"""How far the targets of a run have come, as their cursors say. Nothing is written, and no backend is opened."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from tracking_core.backends.targets import Target, parse_target
from tracking_core.base.json_text import read_json
from tracking_core.base.processes import owner_of
from tracking_core.delivery.cursor import Cursor, Position, web_address
from tracking_core.delivery.inbox import Inbox
from tracking_core.delivery.places import cursor_path, cursor_paths, owner
from tracking_core.errors import MissingDependencyError, SettingsError, StoreError
from tracking_core.journal.times import LATEST

_LOCAL = frozenset({"local", "none"})


@dataclass(frozen=True, slots=True)
class TargetProgress:
    """One target of a run.

    Args:
        target: In canonical form; the label of a tracker that was passed as an object.
        pending: Records that wait for it; None where there is no cursor, or not all can be read.
        delivered: Records that it accepted.
        failed: Records that it refused or failed on.
        skipped: Records that its filters exclude, or that it cannot show.
        opened: How often it was opened.
        status: What it was closed with; None while it is open, or was never opened.
        delivering: The process that delivers to it now; None when none does.
        updated: When its cursor moved last, in seconds since the epoch.
        filtered: Whether its filters leave something out.
        url: Address at which it shows the run; None when it has none, or was never opened.
    """

    target: str
    pending: int | None = None
    delivered: int = 0
    failed: int = 0
    skipped: int = 0
    opened: int = 0
    status: str | None = None
    delivering: int | None = None
    updated: float | None = None
    filtered: bool = False
    url: str | None = None

    @property
    def complete(self) -> bool:
        """Whether it has everything that is meant for it."""
        return self.pending == 0 and self.failed == 0 and self.opened > 0

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def waiting(
    directory: Path,
    target: Target,
    cursor: Cursor | None = None,
    *,
    superseded: bool = False,
) -> int:
    """How many records of a run a target has not had.

    Args:
        directory: The run directory.
        target: The target.
        cursor: Its cursor; None reads it, and asks the adapter for its place, if the run does not know it yet.
        superseded: Whether superseded records that may be at the target count too, as one for each truncation.

    Raises:
        StoreError: A journal cannot be read.
        OSError: A file cannot be read.
        MissingDependencyError: A run that was compacted needs a package that is not installed.
    """
    inbox = Inbox(directory, Cursor.load(directory, target, ask=True) if cursor is None else cursor)
    if superseded:
        inbox.look()
    return inbox.waiting() + (len(inbox.truncations) if superseded else 0)


def about_waiting(directory: Path, cursor: Cursor, newest: Mapping[str, int], *, most: int) -> tuple[int, bool]:
    """As `waiting`, without records superseded before delivery, unless there is too much to read.

    Args:
        directory: The run directory.
        cursor: The cursor of the target.
        newest: Writer → the highest number in its journal.
        most: How many bytes may be read.

    Returns:
        How many records wait, and whether that is exact. If not, it is the difference of numbers.

    Raises:
        StoreError: A journal cannot be read.
        OSError: A file cannot be read.
        MissingDependencyError: A run that was compacted needs a package that is not installed.
    """
    inbox = Inbox(directory, cursor)
    if inbox.behind() <= most:
        inbox.pull(final=True)
        return inbox.waiting(), True
    return sum(max(0, last - cursor.writers.get(name, Position()).seq) for name, last in newest.items()), False


def deliveries(directory: Path, targets: Iterable[str]) -> list[TargetProgress]:
    """The targets of a run: those that it was started with, then those that it was delivered to later.

    Args:
        directory: The run directory.
        targets: Those that it was started with, as in its `run.json`.
    """
    found: dict[str, TargetProgress] = {}
    for text in targets:
        target = _parsed(text)
        if target is None:
            found[text] = TargetProgress(text)
        elif target.name not in _LOCAL:
            path = cursor_path(directory, target)
            found.setdefault(path.stem, _progress(directory, target, path))
    for path in cursor_paths(directory):
        text = _read(path).get("target")
        target = _parsed(text) if isinstance(text, str) else None
        if target is not None and path.stem not in found:
            found[path.stem] = _progress(directory, target, path)
    return list(found.values())


def addresses(directory: Path) -> list[tuple[str, str]]:
    """(target, address) of the targets that show a run, as their cursors say."""
    found: list[tuple[str, str]] = []
    for path in cursor_paths(directory):
        facts = _read(path)
        target, url = _text(facts.get("target")), web_address(facts.get("url"))
        if target is not None and url is not None:
            found.append((target, url))
    return found


def delivering(directory: Path) -> str | None:
    """A target that a process delivers to now, if there is one."""
    with contextlib.suppress(OSError):
        for lease in sorted((directory / "cursors").glob("*.lease")):
            if owner_of(lease) is not None:
                return lease.stem
    return None


def is_delivered(found: Sequence[TargetProgress]) -> bool:
    """Whether every target has everything that is meant for it, and one of them has no filters."""
    return bool(found) and all(one.complete for one in found) and not all(one.filtered for one in found)


def _progress(directory: Path, target: Target, path: Path) -> TargetProgress:
    cursor = Cursor.read(path, target)
    facts = _read(path)
    return TargetProgress(
        str(target),
        _waiting(directory, target, cursor),
        cursor.count("delivered"),
        cursor.count("failed"),
        cursor.count("skipped"),
        cursor.opened,
        _text(facts.get("status")),
        owner(directory, target),
        _time(facts.get("updated")),
        bool(target.filters),
        cursor.url,
    )


def _waiting(directory: Path, target: Target, cursor: Cursor) -> int | None:
    try:
        return waiting(directory, target, cursor)
    except (StoreError, OSError, MissingDependencyError):
        # The rest of the run can be shown or removed all the same.
        return None


def _read(path: Path) -> dict[str, Any]:
    try:
        facts = read_json(path)
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", facts) if isinstance(facts, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _time(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and abs(value) <= LATEST else None


def _parsed(text: str) -> Target | None:
    try:
        target = parse_target(text)
    except SettingsError:
        return None
    # The label of a tracker that was passed as an object is not in canonical form, and has no cursor.
    return target if str(target) == text else None
