"""One foreign run into the run store."""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tracking_core.artifacts import ArtifactStore
from tracking_core.config import to_plain
from tracking_core.errors import InvalidValueError, RunNotFoundError, TrackingError
from tracking_core.fallbacks import replay
from tracking_core.importing.staging import publish, staging
from tracking_core.intake import Recorder
from tracking_core.journal import JournalWriter, pack
from tracking_core.layout import create_run, find_run, read_run, run_directory
from tracking_core.redaction import redact_text

if TYPE_CHECKING:
    from tracking_core.hookspecs import ForeignRun
    from tracking_core.values import Record

_MOST_PROBLEMS = 20
STATUSES = frozenset({"finished", "failed", "interrupted", "preempted"})


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one run that was to be imported.

    Args:
        run: Its id in the run store.
        project: Its project there.
        name: Its name.
        source: Where it came from.
        there: Whether it had been imported before, and nothing was done.
        dir: Its directory in the run store.
        records: How many records were taken; 0 if it was there.
        problems: What could not be taken, in words.
        error: Why the run could not be read; nothing of it was imported then.
    """

    run: str
    project: str
    name: str
    source: Path
    there: bool
    dir: Path
    records: int = 0
    problems: tuple[str, ...] = ()
    error: str | None = None


class _UnreadableError(Exception):
    """The records of a run cannot be read to the end."""


def import_run(foreign: ForeignRun, kind: str, root: Path, project: str | None = None) -> Imported:
    """Import one run, unless it is there.

    Args:
        foreign: The run.
        kind: What it comes from, such as "tensorboard".
        root: Root of the run store.
        project: The project it goes into; None takes that of the run, or "default".

    Raises:
        StoreError: The root cannot be written.
        OSError: The disk refuses.
    """
    run_id = imported_id(kind, foreign.id, foreign.identity)
    with contextlib.suppress(RunNotFoundError):
        return _there(find_run(root, run_id), foreign)
    with staging(root) as place:
        facts = _facts(foreign, kind, run_id, project or foreign.project or "default")
        directory = run_directory(root, facts["project"], run_id)
        taker = _Taker(place / "run", facts, root, foreign.problems)
        try:
            taker.take_all(foreign)
        except _UnreadableError as error:
            return Imported(
                run_id, facts["project"], facts["name"], foreign.source, there=False, dir=directory, error=str(error)
            )
        if not publish(taker.directory, directory):
            return _there(directory, foreign)
    return Imported(
        run_id, facts["project"], facts["name"], foreign.source, there=False, dir=directory,
        records=taker.count, problems=tuple(foreign.problems),
    )  # fmt: skip


def imported_id(kind: str, foreign_id: str, identity: str) -> str:
    """The id of a run in the store: the same for the same source, and that of no other run.

    Example:
        >>> imported_id("wandb", "a b/c", "entity/project/a b/c")
        'wandb-a-b-c-d453753d63d1'
    """
    # What is no part of the identity may be another the next time, and must not make another run.
    shown = foreign_id if foreign_id in identity else ""
    readable = re.sub(r"[^A-Za-z0-9._]+", "-", shown).strip("-.")[:30].rstrip("-.")
    digest = hashlib.sha256(f"{kind}\0{identity}".encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return "-".join(part for part in (kind[:16], readable, digest) if part)


def _there(directory: Path, foreign: ForeignRun) -> Imported:
    facts = read_run(directory)
    problems: list[str] = []
    before = facts.get("imported", {}).get("size", foreign.size)
    if foreign.size > before:
        problems.append(
            f"the source has grown from {before} to {foreign.size} bytes since it was imported; remove the run "
            f"{facts['id']} and import it again to have the rest"
        )
    return Imported(
        facts["id"], facts["project"], facts["name"], foreign.source, there=True, dir=directory,
        problems=tuple(problems),
    )  # fmt: skip


def _facts(foreign: ForeignRun, kind: str, run_id: str, project: str) -> dict[str, Any]:
    return {
        "id": run_id,
        "name": foreign.name or foreign.id or run_id,
        "project": project,
        "config": to_plain(foreign.config),
        "tags": list(foreign.tags),
        "group": foreign.group,
        "job_type": foreign.job_type,
        "notes": redact_text(foreign.notes) if foreign.notes else None,
        "started": round(time.time() if foreign.started is None else foreign.started, 6),
        "environment": to_plain(foreign.environment),
        "targets": [],
        "imported": {
            "from": kind,
            "id": foreign.id,
            "source": str(foreign.source.absolute()),
            "size": foreign.size,
            "time": round(time.time(), 6),
        },
    }


class _Taker:
    """Writes the records of one run into a directory of its own."""

    def __init__(self, directory: Path, facts: Mapping[str, Any], root: Path, problems: list[str]) -> None:
        self.directory = directory
        self.count = 0
        self._problems = problems
        self._left_out: dict[str, int] = {}
        create_run(directory, facts)
        self._journal = JournalWriter(directory, facts["id"])
        self._journal.on_error = _raise
        artifacts = ArtifactStore(root, facts["project"])
        self._recorder = Recorder(self._journal, directory, artifacts, self._refused)

    def take_all(self, foreign: ForeignRun) -> None:
        """Take every record, and close the journal."""
        try:
            for record in _readable(foreign.records):
                self._take(record)
            self._journal.sync()
        finally:
            self._journal.close()
        # Whether this run lives is not to be told from the process that imported it.
        for path in (self.directory / "journal").glob("*.alive"):
            path.unlink()
        more = sum(self._left_out.values()) - len(self._left_out)
        if more > 0:
            self._problems.append(f"{more} more values were left out for the same reasons")

    def _take(self, record: Record) -> None:
        try:
            self._write(record)
        except InvalidValueError as error:
            self._refused(str(record.data.get("name", record.kind)), error)
            return
        self.count += 1

    def _write(self, record: Record) -> None:
        journal, data = self._journal, record.data
        match record.kind:
            case "config" | "summary":
                journal.append(record.kind, {record.kind: pack(to_plain(data))}, time=record.time)
            case "use_artifact":
                name, _, alias = str(data["artifact"]).rpartition(":")
                found = {"artifact": str(data["artifact"]), "name": name or alias, "type": data.get("type", "file")}
                journal.append("use_artifact", {**found, "version": None, "digest": ""}, time=record.time)
            case "finish":
                status = data["status"] if data["status"] in STATUSES else "failed"
                journal.append("finish", {"status": status, "error": data.get("error")}, time=record.time)
            case _:
                replay(record, cast("Any", self._recorder))

    def _refused(self, key: str, error: Exception) -> None:
        """Note why a value was left out; once for each reason, or nobody reads it."""
        reason = f"{key}: {error}" if isinstance(error, TrackingError) else repr(error)
        kind = re.sub(r"\d+", "0", reason)
        if kind not in self._left_out and len(self._left_out) < _MOST_PROBLEMS:
            self._problems.append(f"left out: {reason}"[:500])
        elif kind not in self._left_out:
            kind = next(iter(self._left_out))
        self._left_out[kind] = self._left_out.get(kind, 0) + 1


def _readable(records: Iterable[Record]) -> Iterator[Record]:
    """The records; what reading them raises is told from what writing them raises."""
    source = iter(records)
    while True:
        try:
            record = next(source)
        except StopIteration:
            return
        except Exception as error:
            text = str(error) if isinstance(error, TrackingError) else f"{type(error).__name__}: {error}"
            raise _UnreadableError(text[:500]) from error
        yield record


def _raise(error: OSError) -> None:
    raise error
