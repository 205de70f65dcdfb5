"""One recorded run, read from its directory."""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking_core.artifacts import StoredVersion
from tracking_core.delivery.progress import TargetProgress, deliveries
from tracking_core.errors import InvalidValueError, NameNotFoundError
from tracking_core.journal import Damage, Event, JournalReader, Superseded, read_events, unpack
from tracking_core.journal.events import RECORD_KINDS, blobs_of, to_record
from tracking_core.journal.finding import EventFinder
from tracking_core.journal.liveness import is_alive, is_starting
from tracking_core.layout.runs import read_run
from tracking_core.store.columns import ScalarColumns
from tracking_core.store.following import follow
from tracking_core.store.listed import Logged
from tracking_core.store.series import Series
from tracking_core.values import ArtifactRef, Histogram, Image, Record, Table
from tracking_core.values.config import merge
from tracking_core.values.kinds import NAMED

if TYPE_CHECKING:
    from tracking_core.store.index import Held


class RunRecord:
    """The records of one run. It reads the files when it is asked, also while the run is active.

    Scalars are decoded on first use, and kept; everything else is cheap.

    Args:
        directory: The run directory.
        facts: What its `run.json` says; with `held`, without the configuration and the environment. None reads the
            file.
        held: Its entry in the index of the store.

    Raises:
        RunNotFoundError: The directory has no run.
        StoreError: It was written by a newer version, or is damaged.
    """

    def __init__(self, directory: Path, facts: dict[str, Any] | None = None, held: Held | None = None) -> None:
        self.dir = directory
        self._held = held
        self._facts = read_run(directory) if facts is None else facts

    # Made when they are first used: of most runs of a listing nothing more is asked.

    @cached_property
    def _finder(self) -> EventFinder:
        return EventFinder(self.dir)

    @cached_property
    def _superseded(self) -> Superseded:
        return Superseded(self.dir, self._facts.get("forks", ()))

    @cached_property
    def _columns(self) -> ScalarColumns:
        return ScalarColumns(self.dir, self._superseded)

    # ------------------------------------------------------------------ what it is

    @property
    def id(self) -> str:
        """Identity of the run."""
        return self._facts["id"]

    @property
    def name(self) -> str:
        """The display name."""
        return self._facts["name"]

    @property
    def project(self) -> str:
        """The project it belongs to."""
        return self._facts["project"]

    @property
    def tags(self) -> tuple[str, ...]:
        """Labels."""
        return tuple(self._facts.get("tags", ()))

    @property
    def group(self) -> str | None:
        """Group of runs it belongs to."""
        return self._facts.get("group")

    @property
    def job_type(self) -> str | None:
        """Kind of job."""
        return self._facts.get("job_type")

    @property
    def notes(self) -> str | None:
        """Longer description."""
        return self._facts.get("notes")

    @property
    def started(self) -> float:
        """Time of its start, in seconds since the epoch."""
        return self._facts["started"]

    @property
    def forked_from(self) -> tuple[str, int] | None:
        """The run that this one was forked from, and the last inherited step; None if it was not forked."""
        return (self.forks[-1]["run"], self.forks[-1]["step"]) if self.forks else None

    @property
    def forks(self) -> Sequence[Mapping[str, Any]]:
        """The entry `forks` of `run.json`: what it inherits from its parent, and so on."""
        return tuple(self._facts.get("forks", ()))

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets it was delivered to, besides the store."""
        return tuple(self._facts.get("targets", ()))

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, including later changes."""
        if self._held is not None and (known := self._held.config()) is not None:
            return known
        config = copy.deepcopy(self._all_facts().get("config", {}))
        for event in self._of("config"):
            merge(config, unpack(event.fields["config"]))
        return config

    @property
    def environment(self) -> dict[str, Any]:
        """Where it ran: git state, packages, host, command line, accelerators."""
        environment = copy.deepcopy(self._all_facts().get("environment", {}))
        for event in self._of("environment"):
            environment.update(unpack(event.fields["environment"]))
        return environment

    @property
    def status(self) -> str:
        """The status the run was finished with; "running" while one of its writers is alive, "crashed" when none is."""
        newest, end = self._newest_end()
        if end is not None:
            return end.fields["status"]
        lives = is_starting(self.dir) if newest is None else is_alive(self.dir, newest)
        return "running" if lives else "crashed"

    @property
    def error(self) -> str | None:
        """What went wrong, for a run that failed."""
        end = self._end()
        return end.fields.get("error") if end is not None else None

    @property
    def finished(self) -> float | None:
        """Time of its end, in seconds since the epoch; None if it was not finished, or was continued since."""
        end = self._end()
        return end.time if end is not None else None

    def _end(self) -> Event | None:
        """How the newest session ended; None when it did not."""
        return self._newest_end()[1]

    def _newest_end(self) -> tuple[str | None, Event | None]:
        held = self._held.newest_end() if self._held is not None else None
        return held or self._finder.newest_end()

    def _all_facts(self) -> dict[str, Any]:
        # The index leaves out what is long.
        return self._facts if self._held is None else read_run(self.dir)

    def summary(self) -> dict[str, Any]:
        """Values for the run as a whole: the last value of every scalar, and the values set by `log_summary`."""
        if self._held is not None and (known := self._held.summary()) is not None:
            return known
        self._columns.refresh()
        found: dict[str, Any] = dict(self._columns.last())
        for event in self._of("summary"):
            found.update(unpack(event.fields["summary"]))
        return found

    # ------------------------------------------------------------------ what it logged

    def scalar_names(self) -> list[str]:
        """Names of all scalars, sorted."""
        self._columns.refresh()
        return self._columns.names()

    def scalars(self, name: str, axis: str | None = None, *, raw: bool = False) -> Series:
        """One scalar over its steps: one row per step, sorted by step.

        If a step was logged more than once, for example after a restart from a checkpoint, the last row counts; of
        several writers, the row of the writer that started last. Rows superseded by `resume_step` do not count.

        Args:
            name: Name of the scalar.
            axis: The step axis; None uses the only one, or "step" if there are several.
            raw: Whether to return every row, also superseded ones, in the order in which they were logged (writers by
                start).

        Raises:
            NameNotFoundError: The run has no such scalar on that axis.
            InvalidValueError: `name` is not a str.
        """
        _check_name("scalars", name)
        self._columns.refresh()
        rows = self._columns.rows(name, raw=raw)
        if rows is None:
            raise NameNotFoundError(self._missing("scalar", name, self._columns.names()))
        axes = self._columns.axes_of(rows)
        chosen: str = axis if axis is not None else "step" if "step" in axes else axes[0]
        if chosen not in axes:
            raise NameNotFoundError(f"run {self.id}: {name!r} was logged on {', '.join(axes)}, not on {axis!r}")
        columns = (rows.step, rows.time, rows.value)
        if len(axes) > 1:
            wanted = rows.axis == self._columns.axes.index(chosen)
            columns = (rows.step[wanted], rows.time[wanted], rows.value[wanted])
        series = Series(name, chosen, *columns)
        return series if raw else series.resolved()

    def scalar_axes(self) -> dict[str, tuple[str, ...]]:
        """Name of every scalar, sorted → the step axes it was logged on, in the order of their first use."""
        self._columns.refresh()
        found = ((name, self._columns.rows(name)) for name in self._columns.names())
        return {name: self._columns.axes_of(rows) for name, rows in found if rows is not None}

    def image_names(self) -> list[str]:
        """Names of all images, sorted."""
        return sorted({name for event in self._of("images") for name in event.fields["images"]})

    def images(self, name: str) -> list[tuple[int, list[Image]]]:
        """(step, images) pairs, in the order in which they were logged.

        Raises:
            NameNotFoundError: The run has no such images.
        """
        _check_name("images", name)
        found = [
            (event.fields["step"], self._record(event).data[name])
            for event in self._of("images")
            if name in event.fields["images"]
        ]
        if not found:
            raise NameNotFoundError(self._missing("image", name, self.image_names()))
        return Logged(name, found)

    def histograms(self, name: str) -> list[tuple[int, Histogram]]:
        """(step, histogram) pairs, in the order in which they were logged.

        Raises:
            NameNotFoundError: The run has no such histograms.
        """
        return self._named("histogram", name)

    def tables(self, name: str) -> list[tuple[int, Table]]:
        """(step, table) pairs, in the order in which they were logged.

        Raises:
            NameNotFoundError: The run has no such tables.
        """
        return self._named("table", name)

    def media(self, kind: str, name: str) -> list[tuple[int, Any]]:
        """(step, value) pairs of a kind: "video", "audio", "text", "html", "figure", "table" or "histogram".

        Raises:
            NameNotFoundError: The run has nothing of that name and kind.
            InvalidValueError: The kind is unknown.
        """
        _check_kind("media", kind)
        return self._named(kind, name)

    def names(self, kind: str) -> list[str]:
        """Names that were logged of one kind (see `media`), sorted.

        Raises:
            InvalidValueError: The kind is unknown.
        """
        _check_kind("names", kind)
        return sorted({event.fields["name"] for event in self._of(kind)})

    def artifacts(self) -> list[StoredVersion]:
        """Versions of artifacts that this run logged, in order."""
        found: list[StoredVersion] = []
        for event in self._of("artifact"):
            fields = event.fields
            ref = ArtifactRef(
                fields["name"], fields["type"], fields["version"], fields["digest"], tuple(fields["aliases"])
            )
            files = {path: (entry["sha256"], entry["size"]) for path, entry in fields["files"].items()}
            found.append(
                StoredVersion(ref, unpack(fields["metadata"]), files, self.id, event.time, blobs_of(fields, self.dir))
            )
        return found

    def used_artifacts(self) -> list[ArtifactRef]:
        """Versions of artifacts that this run used."""
        return [
            ArtifactRef(e.fields["name"], e.fields["type"], e.fields["version"], e.fields["digest"])
            for e in self._of("use_artifact")
        ]

    def alerts(self) -> list[tuple[float, str, str, str]]:
        """(time, title, text, level) of every alert."""
        return [(e.time, e.fields["title"], e.fields["text"], e.fields["level"]) for e in self._of("alert")]

    def records(self) -> list[Record]:
        """All records, as they are delivered to a backend: writers by start, each in its own order.

        Records superseded by `resume_step` are left out.
        """
        events = [event for event in read_events(self.dir) if event.kind in RECORD_KINDS or event.kind == "truncate"]
        self._superseded.learn(events)
        return [self._record(event) for event in self._superseded.living(events) if event.kind in RECORD_KINDS]

    def follow(self, poll: float = 0.5, timeout: float | None = None) -> Iterator[Record]:
        """Records from the beginning, and then new records as they arrive, also from a run of another process.

        `Record.writer` names the writer; the records of each writer come in its own order. The iteration ends when the
        run has ended: every session was finished, or its process is gone. Only a part of the journal is held in memory.

        Args:
            poll: Seconds between two looks at the files.
            timeout: Stop after so many seconds without a new record; None waits until the run has ended.

        Raises:
            InvalidValueError: `poll` or `timeout` is not a number of seconds.
            JournalError: While it is iterated: a record cannot be read.
        """
        for what, value in (("poll", poll), ("timeout", math.inf if timeout is None else timeout)):
            if not (isinstance(value, (int, float)) and value >= 0):
                raise InvalidValueError(f"follow: {what} must be a number of seconds, got {value!r:.80}")
        return follow(self.dir, lambda: self.has_ended, poll, timeout)

    def deliveries(self) -> list[TargetProgress]:
        """How far each target has come: the records it has received, and those that wait.

        Targets that the run was started with come first, then targets that were added later; the store is not among
        them. The answer comes from the target's cursor and the journals: no backend is opened.

        Returns:
            One for each target. `pending` is None if not all records can be read, and for a tracker that was passed as
            an object, which has no cursor.

        Raises:
            OSError: The directory cannot be read.

        Example:
            >>> def unfinished(record):
            ...     return [one.target for one in record.deliveries() if not one.complete]
        """
        return deliveries(self.dir, self.targets)

    @property
    def has_ended(self) -> bool:
        """Whether no session of this run is active; processes that write to it may end at different times."""
        return self.status != "running" and not any(
            self._finder.finish(writer) is None and is_alive(self.dir, writer) for writer in self._finder.sessions()
        )

    def damage(self) -> list[Damage]:
        """Places in the journal that cannot be read; everything else can."""
        reader = JournalReader(self.dir)
        reader.look()
        for writer, one in reader.writers.items():
            one.read(final=not is_alive(self.dir, writer))
        return reader.damage

    def _repr_html_(self) -> str:
        from tracking_core.store.pages import run_html

        return run_html(self)

    def __repr__(self) -> str:
        return f"<RunRecord {self.name!r} ({self.id}) of {self.project!r}>"

    # ------------------------------------------------------------------ reading

    def _of(self, kind: str) -> list[Event]:
        events = self._finder.of(kind)
        if events:
            self._superseded.learn(self._finder.of("truncate"))
        return self._superseded.living(events)

    def _record(self, event: Event) -> Record:
        return to_record(event, self.dir)

    def _named(self, kind: str, name: str) -> list[tuple[int, Any]]:
        _check_name(kind, name)
        found = [
            (event.fields["step"], self._record(event).data["value"])
            for event in self._of(kind)
            if event.fields["name"] == name
        ]
        if not found:
            raise NameNotFoundError(self._missing(kind, name, self.names(kind)))
        return Logged(name, found)

    def _missing(self, kind: str, name: str, known: list[str]) -> str:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f": did you mean {close[0]!r}?" if close else ""
        there = ", ".join(known[:20]) + (", …" if len(known) > 20 else "") if known else "none"
        return f"run {self.id} has no {kind} {name!r}{hint}; there are {there}"


def _check_name(what: str, name: object) -> None:
    if not isinstance(name, str):
        raise InvalidValueError(f"{what}: expected the name of one, got {name!r:.80} ({type(name).__name__})")


def _check_kind(what: str, kind: object) -> None:
    if kind not in NAMED:
        instead = {"scalars": "scalar_names() and scalars()", "images": "image_names() and images()"}.get(str(kind))
        there = f"see {instead}" if instead else f"there are {', '.join(sorted(NAMED))}"
        raise InvalidValueError(f"{what}: unknown kind of media {kind!r:.80}; {there}")
