"""Which runs may go: those that have ended and are complete somewhere else, unless a rule keeps them."""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from tracking_core.cli.arguments import progress
from tracking_core.cli.delivered import is_delivered
from tracking_core.cli.removal import Candidate, is_linked, look, remove
from tracking_core.naming import printable
from tracking_core.store import RunRecord, open_store

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_KINDS = ("delivered", "tag", "status", "project", "last")


@dataclass
class Pruned:
    """What was removed, or would be.

    Args:
        dry_run: Whether nothing was removed.
        removed: The runs, and when they ended and had been delivered, in seconds since the epoch.
        kept: How many runs stay, by reason.
    """

    dry_run: bool
    removed: list[tuple[Candidate, float]] = field(default_factory=list[tuple[Candidate, float]])
    kept: Counter[str] = field(default_factory=Counter[str])

    @property
    def bytes(self) -> int:
        """What that frees."""
        return sum(one.size for one, _ in self.removed)

    def kept_words(self) -> str:
        """What stays, for people."""
        if not self.kept:
            return "nothing else is there"
        return "kept " + ", ".join(f"{count} ({printable(reason)})" for reason, count in self.kept.most_common())

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "dry_run": self.dry_run,
            "bytes": self.bytes,
            "removed": [
                {
                    "id": one.record.id,
                    "name": one.record.name,
                    "project": one.record.project,
                    "status": one.status,
                    "ended": ended,
                    "bytes": one.size,
                    "targets": [delivery.target for delivery in one.deliveries],
                }
                for one, ended in self.removed
            ],
            "kept": dict(self.kept),
        }


def prune(rules: Sequence[str], root: str | None, *, dry_run: bool, now: float | None = None) -> Pruned:
    """Remove what no rule keeps.

    Args:
        rules: As on the command line.
        root: Root of the store; None takes what is set.
        dry_run: Only look.
        now: Seconds since the epoch, for the age of runs; None asks the clock.

    Raises:
        UsageError: A rule is none, or none says for how long delivered runs are kept.
        OSError: A run cannot be removed.
    """
    age, tests = _parse(rules)
    result = Pruned(dry_run)
    ranks: Counter[str] = Counter()
    clock = time.time() if now is None else now
    store = open_store(root)
    records = store.runs()
    if store.unreadable:
        result.kept["cannot be read"] += len(store.unreadable)
    with progress("looking", len(records)) as advance:
        for record in records:
            rank = ranks[record.project]
            ranks[record.project] += 1
            one = look(record)
            reason, ended = _reason(one, rank, age, tests, clock)
            if reason is None:
                result.removed.append((one, ended))
            else:
                result.kept[reason] += 1
            advance()
    if not dry_run:
        with progress("removing", len(result.removed)) as advance:
            for one, ended in list(result.removed):
                # It may have been continued since.
                busy = look(one.record).busy
                if busy is None:
                    remove(one)
                else:
                    result.removed.remove((one, ended))
                    result.kept[busy] += 1
                advance()
    return result


Test = Callable[[Candidate, int], bool]


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


def _parse(rules: Sequence[str]) -> tuple[float, list[tuple[str, Test]]]:
    ages: list[float] = []
    tests: list[tuple[str, Test]] = []
    for rule in rules:
        kind, colon, value = rule.partition(":")
        if not colon or not value or kind not in _KINDS:
            expected = ", ".join(f"{one}:…" for one in _KINDS)
            raise click.BadParameter(f"{rule!r} is no rule: expected one of {expected}", param_hint="--keep")
        if kind == "delivered":
            ages.append(_age(value, rule))
        elif kind == "last":
            if not value.isdecimal() or int(value) < 1:
                raise click.BadParameter(f"{rule!r}: expected a positive whole number of runs", param_hint="--keep")
            tests.append((rule, _newest(int(value))))
        else:
            tests.append((rule, _same(kind, value)))
    if not ages:
        raise click.UsageError("say for how long delivered runs are kept, such as --keep delivered:30d")
    return max(ages), tests


def _age(text: str, rule: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if match is None:
        raise click.BadParameter(f"{rule!r}: expected an age such as 12h, 30d or 4w", param_hint="--keep")
    return float(match[1]) * _SECONDS[match[2]]


def _newest(count: int) -> Test:
    return lambda one, rank: rank < count  # noqa: ARG005 - of its age alone


def _same(kind: str, value: str) -> Test:
    if kind == "tag":
        return lambda one, rank: value in one.record.tags  # noqa: ARG005 - its age does not matter
    if kind == "status":
        return lambda one, rank: one.status == value  # noqa: ARG005 - its age does not matter
    return lambda one, rank: one.record.project == value  # noqa: ARG005 - its age does not matter
