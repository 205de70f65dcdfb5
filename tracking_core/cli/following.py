"""What a run logs, as it comes: its journal, followed as a target follows it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from tracking_core.base.json_text import json_text, plain
from tracking_core.cli.output import number, shown
from tracking_core.delivery.cursor import Cursor
from tracking_core.delivery.inbox import Inbox
from tracking_core.journal import Event, unpack
from tracking_core.store import RunRecord
from tracking_core.values.kinds import NAMED

INTERVAL = 0.3
"""Seconds between two looks at the journal."""
_STATUS_INTERVAL = 1.0
_BATCH = 1024


def follow(record: RunRecord, names: Sequence[str] = (), last: int | None = None) -> Iterator[dict[str, Any]]:
    """What a run has logged and logs, in order, until it ends.

    Args:
        record: The run.
        names: Only what has one of these names, or fits one of these patterns; () gives everything.
        last: How much of what is there already is given; None gives all of it.

    Yields:
        An object for each record, by `kind`: "scalars" with `values`; "images" with `names`; "config" and "summary"
        with `values`; "alert" with `title`, `text` and `level`; "artifact" and "use_artifact" with `name` and
        `version`; media and histograms with `name`. All have `time`; those with a step have `axis` and `step`. The last
        has the kind "end", and `status`.
    """
    inbox = Inbox(record.dir, Cursor(None))
    over = record.has_ended
    backlog = _drain(inbox, names, final=over)
    yield from deque(backlog, maxlen=last)
    asked = time.monotonic()
    while not over:
        time.sleep(INTERVAL)
        if time.monotonic() - asked >= _STATUS_INTERVAL:
            # Before the journal is read: what was written up to the end is then seen.
            over = record.has_ended
            asked = time.monotonic()
        yield from _drain(inbox, names, final=over)
    yield {"kind": "end", "time": record.finished, "status": record.status}


def _drain(inbox: Inbox, names: Sequence[str], *, final: bool) -> Iterator[dict[str, Any]]:
    while True:
        inbox.pull(final=final)
        events = inbox.ready(_BATCH)
        if not events:
            return
        for event in events:
            inbox.done(event)
            one = _shown(event, names)
            if one is not None:
                yield one


def _shown(event: Event, names: Sequence[str]) -> dict[str, Any] | None:
    fields = event.fields
    one: dict[str, Any] = {"kind": event.kind, "time": event.time}
    if "step" in fields:
        one |= {"axis": fields["axis"], "step": fields["step"]}
    if event.kind == "scalars":
        values = {name: value for name, value in fields["values"].items() if _wanted(name, names)}
        return {**one, "values": values} if values else None
    if event.kind == "images":
        found = [name for name in fields["images"] if _wanted(name, names)]
        return {**one, "names": found} if found else None
    if event.kind in {"config", "summary"}:
        return None if names else {**one, "values": unpack(fields[event.kind])}
    if event.kind == "alert":
        return None if names else {**one, **{key: fields[key] for key in ("title", "text", "level")}}
    if not _wanted(fields["name"], names):
        return None
    if event.kind in {"artifact", "use_artifact"}:
        return {**one, "name": fields["name"], "version": fields.get("version")}
    return {**one, "name": fields["name"]}


def _wanted(name: str, names: Sequence[str]) -> bool:
    return not names or any(name == one or fnmatchcase(name, one) for one in names)


def logs(record: RunRecord, name: str) -> bool:
    """Whether a run has logged something of a name, or that fits a pattern."""
    known = [record.scalar_names(), record.image_names(), *map(record.names, NAMED)]
    known += [[version.ref.name for version in record.artifacts()], [ref.name for ref in record.used_artifacts()]]
    return any(_wanted(one, [name]) for names in known for one in names)


def json_line(one: Mapping[str, Any]) -> str:
    """The object as one line of JSON."""
    return json_text(plain(one))


def text_line(one: Mapping[str, Any]) -> str:
    """The object as a line for people."""
    parts = [_clock(one["time"])]
    if "step" in one:
        parts.append(f"{one['axis']} {one['step']}")
    kind = one["kind"]
    if kind == "end":
        parts.append(f"the run is over: {one['status']}")
    elif kind == "alert":
        parts.append(f"{one['level']}: {one['title']}: {one['text']}")
    elif "values" in one:
        values = [f"{name} {number(value)}" for name, value in one["values"].items()]
        parts += values if kind == "scalars" else [kind, *values]
    elif "names" in one:
        parts.append(f"{kind} {', '.join(one['names'])}")
    elif one.get("version") is not None:
        parts.append(f"{kind} {one['name']}:v{one['version']}")
    else:
        parts.append(f"{kind} {one['name']}")
    return "  ".join(shown(part) for part in parts)


def _clock(seconds: float | None) -> str:
    try:
        at = time.time() if seconds is None else seconds
        return datetime.fromtimestamp(at, tz=UTC).astimezone().strftime("%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g}"
