"""One foreign run into the run store."""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tracking_core.base.redaction import redact_name, redact_text
from tracking_core.compaction.background import WORTH, is_possible
from tracking_core.errors import InvalidValueError, RunNotFoundError, SettingsError, StoreError, TrackingError
from tracking_core.fallbacks import replay
from tracking_core.intake import Recorder
from tracking_core.journal import JournalWriter, pack
from tracking_core.journal.times import LATEST
from tracking_core.layout.run_ids import check_run_id
from tracking_core.layout.runs import create_run, find_run, read_run, run_directory, write_origin
from tracking_core.layout.staging import publish, staging
from tracking_core.runs.housekeeping import SEGMENT
from tracking_core.transfer.artifacts import ImportedArtifacts
from tracking_core.values.config import to_plain
from tracking_core.values.kinds import said

if TYPE_CHECKING:
    from tracking_core.backends.hooks import ForeignRun
    from tracking_core.values import Record

_MOST_PROBLEMS = 20
_MOST_SAID = 100
_TURN = 1000
"""Records after which it is looked whether a segment is full."""
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
    run_id = _id_in(root, foreign, kind)
    with contextlib.suppress(RunNotFoundError):
        return _there(find_run(root, run_id), foreign)
    if redact_name(run_id) != run_id:
        run_id = imported_id(kind, "", foreign.identity)
        with contextlib.suppress(RunNotFoundError):
            return _there(find_run(root, run_id), foreign)
    facts = _facts(foreign, kind, run_id, project)
    directory = run_directory(root, facts["project"], run_id)

    found = Imported(run_id, facts["project"], facts["name"], foreign.source, there=False, dir=directory)
    with staging(root) as place:
        taker = _Taker(place / "run", facts, root, foreign.problems, _digest(kind, foreign.identity))
        try:
            taker.take_all(foreign)
        except _UnreadableError as error:
            return replace(found, error=str(error))
        _compact(taker.directory)
        if not publish(taker.directory, directory):
            return _there(directory, foreign)
    return replace(found, records=taker.count, problems=_few(foreign.problems))


def _id_in(root: Path, foreign: ForeignRun, kind: str) -> str:
    """The id that a run has, or gets, in a store: its own, unless another run has it; else one made of its identity."""
    made = imported_id(kind, foreign.id, foreign.identity)
    try:
        # What files of anybody say is no id before it was looked at.
        own = check_run_id(foreign.run_id) if isinstance(foreign.run_id, str) else made
    except SettingsError:
        return made
    with contextlib.suppress(RunNotFoundError):
        find_run(root, made)
        return made
    try:
        facts = read_run(find_run(root, own))
    except RunNotFoundError:
        return own
    except StoreError:
        facts = {}
    origin = facts.get("imported")
    if isinstance(origin, dict) and cast("dict[str, Any]", origin).get("identity") == _digest(kind, foreign.identity):
        return own
    foreign.problems.append(f"there is another run {own!r} in the store, so this one has the id {made}")
    return made


def _digest(kind: str, identity: str) -> str:
    return hashlib.sha256(f"{kind}\0{identity}".encode("utf-8", "surrogatepass")).hexdigest()


def _compact(directory: Path) -> None:
    """Make columns of a long journal, as is done when a run ends; a reader finds nothing but them."""
    if sum(path.stat().st_size for path in (directory / "journal").iterdir()) < WORTH or not is_possible():
        return
    from tracking_core.compaction.compaction import compact

    compact(directory, over=True)


def _few(problems: list[str]) -> tuple[str, ...]:
    """As many problems as somebody reads: each record of a damaged file may be one."""
    more = len(problems) - _MOST_SAID
    return (*problems[:_MOST_SAID], f"and {more} more problems") if more > 0 else tuple(problems)


def imported_id(kind: str, foreign_id: str, identity: str) -> str:
    """The id of a run in the store: the same for the same source, and that of no other run.

    Example:
        >>> imported_id("wandb", "a b/c", "entity/project/a b/c")
        'wandb-a-b-c-d453753d63d1'
    """
    # What is no part of the identity may be another the next time, and must not make another run.
    shown = foreign_id if foreign_id in identity else ""
    readable = re.sub(r"[^A-Za-z0-9._]+", "-", shown).strip("-.")[:30].rstrip("-.")
    return "-".join(part for part in (kind[:16], readable, _digest(kind, identity)[:12]) if part)


def _there(directory: Path, foreign: ForeignRun) -> Imported:
    facts = read_run(directory)
    problems: list[str] = []
    before = facts.get("imported", {}).get("size", foreign.size)
    if foreign.size > before:
        problems.append(
            f"the source has grown from {before} to {foreign.size} bytes since it was imported; remove the run "
            f"{facts['id']} and import it again to get the rest"
        )
    return Imported(
        facts["id"], facts["project"], facts["name"], foreign.source, there=True, dir=directory,
        problems=tuple(problems),
    )  # fmt: skip


def _facts(foreign: ForeignRun, kind: str, run_id: str, project: str | None) -> dict[str, Any]:
    """What `run.json` will say. An adapter may be anybody's, and what it reads as well."""

    def text(value: object) -> str | None:
        return redact_name(value) if isinstance(value, str) and value else None

    def plain(value: object, what: str) -> Any:
        try:
            return to_plain(value if isinstance(value, Mapping) else {})
        except (TrackingError, ValueError, TypeError, RecursionError) as error:
            foreign.problems.append(f"left out: {what}: {error}"[:500])
            return {}

    started = foreign.started
    if not isinstance(started, (int, float)) or not -LATEST <= started <= LATEST:
        started = time.time()
    return {
        "id": run_id,
        "name": text(foreign.name) or text(foreign.id) or run_id,
        "project": text(project) or text(foreign.project) or "default",
        "config": plain(foreign.config, "the configuration"),
        "tags": [redact_name(tag) for tag in foreign.tags if isinstance(tag, str)],
        "group": text(foreign.group),
        "job_type": text(foreign.job_type),
        "notes": redact_text(foreign.notes) if isinstance(foreign.notes, str) and foreign.notes else None,
        "started": round(started, 6),
        "environment": plain(foreign.environment, "the environment"),
        "targets": [],
        "imported": {
            "from": kind,
            "id": redact_name(foreign.id),
            "identity": _digest(kind, foreign.identity),
            "source": redact_name(str(foreign.source.absolute())),
            "size": foreign.size,
            "time": round(time.time(), 6),
        },
    }


class _Taker:
    """Writes the records of one run into a directory of its own."""

    def __init__(
        self, directory: Path, facts: Mapping[str, Any], root: Path, problems: list[str], identity: str
    ) -> None:
        self.directory = directory
        self.count = 0
        self._problems = problems
        self._left_out: dict[str, int] = {}
        create_run(directory, facts)
        write_origin(directory, facts["imported"]["from"], facts["imported"]["source"], identity)
        self._journal = JournalWriter(directory, facts["id"])
        self._journal.on_error = _raise
        artifacts = ImportedArtifacts(root, facts["project"], facts["id"])
        self._recorder = Recorder(self._journal, directory, artifacts, self._refused)

    def take_all(self, foreign: ForeignRun) -> None:
        """Take every record, and close the journal."""
        try:
            for number, record in enumerate(_readable(foreign.records), 1):
                self._take(record)
                if not number % _TURN:
                    self._journal.rotate(SEGMENT)
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
        except (OSError, StoreError):
            # The disk, and not the value.
            raise
        except InvalidValueError as error:
            named = record.data.get("name") if isinstance(record.data, dict) else None
            self._refused(str(named or record.kind), error)
        except Exception as error:  # noqa: BLE001 - what an adapter makes of damaged files may lack or be anything
            self._refused(record.kind, InvalidValueError(f"{type(error).__name__}: {error}"))
        else:
            self.count += 1

    def _write(self, record: Record) -> None:
        journal, data = self._journal, record.data
        match record.kind:
            case "config" | "summary":
                journal.append(record.kind, {record.kind: pack(to_plain(data))}, time=record.time)
            case "use_artifact":
                name, colon, alias = map(self._recorder.names, str(data["artifact"]).rpartition(":"))
                found = {"artifact": f"{name}{colon}{alias}", "name": name or alias, "type": data.get("type", "file")}
                journal.append("use_artifact", {**found, "version": None, "digest": ""}, time=record.time)
            case "finish":
                status = data["status"] if data["status"] in STATUSES else "failed"
                error = said(data.get("error"))
                error = redact_text(error) if isinstance(error, str) else error
                journal.append("finish", {"status": status, "error": error}, time=record.time)
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
