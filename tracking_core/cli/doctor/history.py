"""Recent runs: how they ended, and what has not reached its target. Read from the ends of files, never as a whole."""

from __future__ import annotations

import contextlib
import heapq
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tracking_core.backends.hooks import Finding
from tracking_core.backends.targets import parse_target
from tracking_core.base.regular import open_regular
from tracking_core.base.text import counted
from tracking_core.cli.doctor.report import DeliveryLook, RunLook
from tracking_core.delivery.cursor import Cursor
from tracking_core.delivery.places import cursor_path
from tracking_core.delivery.progress import about_waiting
from tracking_core.errors import JournalError, SettingsError, StoreError
from tracking_core.journal import Event, decode_line
from tracking_core.journal.liveness import is_alive, is_starting
from tracking_core.journal.segments import WriterFiles, by_start, find_files
from tracking_core.layout import fallback
from tracking_core.layout.runs import RUN_FILE, read_run, run_places
from tracking_core.naming import printable

LIMIT = 10
"""How many runs are looked at."""
_TAIL = 64 * 1024
_COUNTED = 8 * 2**20
"""Bytes of a journal that are read to count what waits; beyond that the sequence numbers say about how much it is."""


def recent_runs(root: Path, limit: int = LIMIT) -> list[RunLook]:
    """The newest runs under a root, the newest first.

    Args:
        root: Root of the run store; it need not exist.
        limit: How many.
    """
    newest = heapq.nlargest(limit, _run_files(root))
    looks: list[RunLook] = []
    for _, directory in newest:
        try:
            looks.append(_look(Path(directory), read_run(Path(directory))))
        except (StoreError, OSError, KeyError, TypeError, ValueError):
            # The findings are about runs that can be read; this one says what is wrong when it is asked for.
            continue
    return looks


def check_runs(runs: list[RunLook]) -> list[Finding]:
    """What is to be said of recent runs."""
    found: list[Finding] = []
    for run in runs:
        name = f"run {printable(run.name)} ({run.id}) of {printable(run.project)}"
        again = f"TRACKING_RUN_ID={run.id} TRACKING_RESUME=must"
        if run.status == "crashed":
            remedy = f"its records are in {run.dir}; {again} continues it"
            found.append(Finding("warning", f"{name} crashed: its process is gone, and it was not finished", remedy))
        for target in run.targets:
            found.extend(_check_delivery(run, target, name, again))
        if run.dropped:
            counts = ", ".join(f"{count} {reason}" for reason, count in run.dropped.items())
            remedy = "its warnings named each key once (logger tracking_core); strict=True makes them errors"
            found.append(Finding("warning", f"{name}: values were not recorded: {counts}", remedy))
    if not runs:
        return [Finding("ok", "there are no runs yet")]
    if all(finding.level == "ok" for finding in found):
        found.append(Finding("ok", "nothing is wrong with the newest run" + (f"s ({len(runs)})" if runs[1:] else "")))
    return found


def _check_delivery(run: RunLook, target: DeliveryLook, name: str, again: str) -> list[Finding]:
    found: list[Finding] = []
    count = ("" if target.exact else "about ") + counted(target.pending or 0, "record")
    if target.pending and run.status == "running":
        message = f"{name} is running: {count} on the way to {target.target}"
        found.append(Finding("ok", message, "if that number grows, run.health.errors has the cause"))
    elif target.pending:
        never = "" if target.opened else ", which was never open"
        remedy = f"they are in the run store; {again} with the same target delivers them"
        found.append(Finding("warning", f"{name}: {count} not delivered to {target.target}{never}", remedy))
    if target.failed:
        message = f"{name}: {target.target} refused or failed on {counted(target.failed or 0, 'record')}"
        found.append(
            Finding(
                "warning", message, f"the run store has them, and `tracking sync {run.id} --failed` sends them again"
            )
        )
    return found


def misplaced_runs() -> list[str]:
    """Roots that runs fell back to because their own could not be written; earlier versions made one for each run."""
    roots = {fallback.fallback_root(), *Path(tempfile.gettempdir()).glob("tracking-*")}
    return sorted(str(root) for root in roots if next(_run_files(root), None) is not None)


def _run_files(root: Path) -> Iterator[tuple[float, str]]:
    """(time of the start, directory) of every run under a root."""
    for project, names in run_places(root):
        for name in names:
            with contextlib.suppress(OSError):
                yield (project / name / RUN_FILE).stat().st_mtime, str(project / name)


def _look(directory: Path, facts: Mapping[str, Any]) -> RunLook:
    ends = {writer: _ends(_newest(files)) for writer, files in find_files(directory).items()}
    status, dropped = _status(directory, ends)
    return RunLook(
        facts["id"],
        facts["name"],
        facts["project"],
        status,
        facts["started"],
        str(directory),
        [look for target in facts.get("targets", ()) if (look := _delivery(directory, target, ends)) is not None],
        dropped,
    )


def _newest(files: WriterFiles) -> Path:
    """The file with what a writer wrote last."""
    return files.segments[max(files.segments)] if files.segments else files.parts[-1].events


class _Ends:
    """The first line of the newest file of a writer and those near its end."""

    def __init__(self, header: Event | None, last: list[Event]) -> None:
        self.header = header
        self.last = last

    @property
    def is_fork(self) -> bool:
        return self.header is not None and self.header.fields.get("parent") is not None


def _ends(path: Path) -> _Ends:
    with open_regular(path) as file:
        first = file.readline(_TAIL)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL))
        lines = file.read(_TAIL).split(b"\n")
    events = [event for line in lines if line and (event := _decoded(line)) is not None]
    return _Ends(_decoded(first.rstrip(b"\n")), [event for event in events if event.seq > 0])


def _decoded(line: bytes) -> Event | None:
    try:
        return decode_line(line)
    except JournalError:
        # Cut off by where reading began, or damaged: the other lines say enough.
        return None


def _status(directory: Path, ends: Mapping[str, _Ends]) -> tuple[str, dict[str, int]]:
    """Status of a run as `RunRecord.status` has it, and what its end says was dropped."""
    sessions = [writer for writer, end in ends.items() if not end.is_fork]
    if not sessions:
        return ("running" if is_starting(directory) else "crashed"), {}
    newest = max(sessions, key=by_start)
    for event in reversed(ends[newest].last):
        if event.kind == "finish":
            return str(event.fields.get("status")), dict(event.fields.get("dropped") or {})
    return ("running" if is_alive(directory, newest) else "crashed"), {}


def _delivery(directory: Path, text: str, ends: Mapping[str, _Ends]) -> DeliveryLook | None:
    try:
        target = parse_target(text)
    except SettingsError:
        return None
    if str(target) != text:
        # The label of a tracker that was passed as an object: no cursor is kept for it.
        return None
    opened = cursor_path(directory, target).exists()
    cursor = Cursor.load(directory, target)
    newest = {name: max((event.seq for event in end.last), default=0) for name, end in ends.items()}
    pending, exact = about_waiting(directory, cursor, newest, most=_COUNTED)
    return DeliveryLook(text, pending, exact, cursor.count("failed"), opened)
