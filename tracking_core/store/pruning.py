"""Which runs may go: those that have ended and are complete somewhere else, unless a rule keeps them."""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tracking_core.delivery.progress import is_delivered
from tracking_core.errors import InvalidValueError
from tracking_core.store.records import RunRecord
from tracking_core.store.removal import Candidate, Removed, is_linked, look, remove

if TYPE_CHECKING:
    from tracking_core.store.store import Store

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_KINDS = ("delivered", "tag", "status", "project", "last")
Test = Callable[[Candidate, int], bool]
"""Whether a run stays, by what is known of it, and by how many of its project are newer."""


@dataclass
class Pruned:
    """What was removed, or would be.

    Args:
        dry_run: Whether nothing was removed.
        removed: The runs.
        kept: How many runs stay, by reason.
    """

    dry_run: bool
    removed: list[Removed] = field(default_factory=list[Removed])
    kept: Counter[str] = field(default_factory=Counter[str])

    @property
    def size(self) -> int:
        """What that frees, in bytes."""
        return sum(one.size for one in self.removed)


@dataclass(frozen=True, slots=True)
class Rules:
    """What stays.

    Args:
        age: For how many seconds runs stay after they ended and were delivered; None where no rule says it.
        tests: Rules as they were written, and whether each keeps a run.
    """

    age: float | None
    tests: Sequence[tuple[str, Test]]


def prune(
    store: Store,
    keep: Iterable[str],
    *,
    dry_run: bool = False,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,  # noqa: ARG005 - nobody needs to see it
    now: float | None = None,
) -> Pruned:
    """Remove what no rule keeps.

    Args:
        store: The store.
        keep: The rules; see `Store.prune`.
        dry_run: Only look.
        progress: Called with ("looking" or "removing", how many are done, of how many).
        now: Seconds since the epoch, for the age of runs; None asks the clock.

    Raises:
        InvalidValueError: A rule is not valid, or no rule says how long delivered runs are kept.
        OSError: A run cannot be removed.
    """
    rules = parse_rules(keep)
    if rules.age is None:
        raise InvalidValueError("prune: name what to keep, such as 'delivered:30d'")
    result = Pruned(dry_run)
    ranks: Counter[str] = Counter()
    clock = time.time() if now is None else now
    records = store.runs()
    if store.unreadable:
        result.kept["cannot be read"] += len(store.unreadable)
    going: list[tuple[Candidate, float]] = []
    progress("looking", 0, len(records))
    for done, record in enumerate(records, 1):
        rank = ranks[record.project]
        ranks[record.project] += 1
        one = look(record)
        reason, ended = _reason(one, rank, rules.age, rules.tests, clock)
        if reason is None:
            going.append((one, ended))
        else:
            result.kept[reason] += 1
        progress("looking", done, len(records))
    if dry_run:
        result.removed += [one.removed(ended=ended) for one, ended in going]
        return result
    progress("removing", 0, len(going))
    for done, (one, ended) in enumerate(going, 1):
        # It may have been continued since.
        busy = look(one.record).busy
        if busy is None:
            result.removed.append(one.removed(ended=ended, tombstone=remove(one)))
        else:
            result.kept[busy] += 1
        progress("removing", done, len(going))
    return result


def _reason(
    one: Candidate, rank: int, age: float, tests: Sequence[tuple[str, Test]], now: float
) -> tuple[str | None, float]:
    """Why a run stays (None when it goes), and when it was over."""
    if is_linked(one.record.dir):
        return "reached through a link", 0.0
    if one.busy is not None:
        return one.busy.partition(" to ")[0], 0.0
    if not one.deliveries:
        return "only in this store", 0.0
    if not is_delivered(one.deliveries):
        return "not delivered completely", 0.0
    for rule, keeps in tests:
        if keeps(one, rank):
            return rule, 0.0
    ended = max(_ended(one.record), *(delivery.updated or 0.0 for delivery in one.deliveries))
    return ("younger" if now - ended < age else None), ended


def _ended(record: RunRecord) -> float:
    """When a run was finished or, for one that broke off, when its files changed last."""
    if record.finished is not None:
        return record.finished
    changed = [record.started]
    for path in (record.dir / "journal").glob("*"):
        with contextlib.suppress(OSError):
            changed.append(path.stat().st_mtime)
    return max(changed)


def parse_rules(rules: Iterable[str]) -> Rules:
    """Rules as `Store.prune` and the command line take them.

    Raises:
        InvalidValueError: One is none; the message says which.
    """
    ages: list[float] = []
    tests: list[tuple[str, Test]] = []
    for rule in rules:
        if not isinstance(rule, str):
            raise InvalidValueError(f"{rule!r:.80} is not a rule: expected text such as 'delivered:30d'")
        kind, colon, value = rule.partition(":")
        if not colon or not value or kind not in _KINDS:
            expected = ", ".join(f"{one}:…" for one in _KINDS)
            raise InvalidValueError(f"{rule!r} is not a rule: expected one of {expected}")
        if kind == "delivered":
            ages.append(_age(value, rule))
        elif kind == "last":
            if not value.isdecimal() or int(value) < 1:
                raise InvalidValueError(f"{rule!r}: expected a positive whole number of runs")
            tests.append((rule, _newest(int(value))))
        else:
            tests.append((rule, _same(kind, value)))
    return Rules(max(ages, default=None), tests)


def _age(text: str, rule: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if match is None:
        raise InvalidValueError(f"{rule!r}: expected an age such as 12h, 30d or 4w")
    return float(match[1]) * _SECONDS[match[2]]


def _newest(count: int) -> Test:
    return lambda one, rank: rank < count  # noqa: ARG005 - of its age alone


def _same(kind: str, value: str) -> Test:
    if kind == "tag":
        return lambda one, rank: value in one.record.tags  # noqa: ARG005 - its age does not matter
    if kind == "status":
        return lambda one, rank: one.status == value  # noqa: ARG005 - its age does not matter
    return lambda one, rank: one.record.project == value  # noqa: ARG005 - its age does not matter
