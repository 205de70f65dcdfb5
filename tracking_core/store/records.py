"""One recorded run, read from its directory."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from tracking_core.artifacts import StoredVersion
from tracking_core.errors import NameNotFoundError
from tracking_core.journal import Damage, Event, JournalReader, unpack
from tracking_core.journal.events import blobs_of, to_record
from tracking_core.journal.liveness import is_alive
from tracking_core.layout import read_run
from tracking_core.store.series import Series
from tracking_core.values import ArtifactRef, Histogram, Image, Record, Table


class RunRecord:
    """What was recorded of one run. It reads what is there when it is asked, also while the run goes on.

    Args:
        directory: The run directory.

    Raises:
        RunNotFoundError: There is no run in it.
        StoreError: It was written by a newer version, or is damaged.
    """

    def __init__(self, directory: Path) -> None:
        self.dir = directory
        self._facts = read_run(directory)
        self._reader = JournalReader(directory)
        self._events: dict[str, dict[int, Event]] = {}

    # ------------------------------------------------------------------ what it is

    @property
    def id(self) -> str:
        """Identity of the run."""
        return self._facts["id"]

    @property
    def name(self) -> str:
        """The name people read."""
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
        """When it was started, in seconds since the epoch."""
        return self._facts["started"]

    @property
    def targets(self) -> tuple[str, ...]:
        """Where it was delivered to, besides the store."""
        return tuple(self._facts.get("targets", ()))

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, later changes included."""
        config = copy.deepcopy(self._facts.get("config", {}))
        for event in self._of("config"):
            _merge(config, unpack(event.fields["config"]))
        return config

    @property
    def environment(self) -> dict[str, Any]:
        """Where it ran: git state, packages, host, command line, accelerators."""
        environment = copy.deepcopy(self._facts.get("environment", {}))
        for event in self._of("environment"):
            environment.update(unpack(event.fields["environment"]))
        return environment

    @property
    def status(self) -> str:
        """What the run was finished with; "running" while a writer of it lives, "crashed" when none does."""
        end = self._end()
        if end is not None:
            return end.fields["status"]
        newest = self._session()
        return "running" if newest is not None and is_alive(self.dir, newest) else "crashed"

    @property
    def error(self) -> str | None:
        """What went wrong, for a run that failed."""
        end = self._end()
        return end.fields.get("error") if end is not None else None

    @property
    def finished(self) -> float | None:
        """When it was finished, in seconds since the epoch; None when it was not, or was continued since."""
        end = self._end()
        return end.time if end is not None else None

    def _session(self) -> str | None:
        """The writer of the newest session."""
        self._load()
        # A run that was continued has several sessions; a forked child only adds to the one of its parent.
        sessions = [writer for writer, reader in self._reader.writers.items() if reader.parent is None]
        return max(sessions, default=None)

    def _end(self) -> Event | None:
        """How the newest session ended; None when it did not."""
        newest = self._session()
        return next((event for event in self._of("finish") if event.writer == newest), None)

    def summary(self) -> dict[str, Any]:
        """What describes the run as a whole: the last value of every scalar, and what `log_summary` set."""
        found: dict[str, Any] = {}
        for event in self._of("scalars"):
            found.update(event.fields["values"])
        for event in self._of("summary"):
            found.update(unpack(event.fields["summary"]))
        return found

    # ------------------------------------------------------------------ what it logged

    def scalar_names(self) -> list[str]:
        """Names of all scalars, sorted."""
        return sorted({name for event in self._of("scalars") for name in event.fields["values"]})

    def scalars(self, name: str, axis: str | None = None) -> Series:
        """One scalar over its steps, in the order in which it was logged.

        Args:
            name: Name of the scalar.
            axis: The step axis; None takes the only one, or "step" when there are several.

        Raises:
            NameNotFoundError: There is no such scalar, on that axis.
        """
        found = [event for event in self._of("scalars") if name in event.fields["values"]]
        if not found:
            raise NameNotFoundError(self._missing("scalar", name, self.scalar_names()))
        axes = list(dict.fromkeys(event.fields["axis"] for event in found))
        chosen: str = axis if axis is not None else "step" if "step" in axes else axes[0]
        rows = [event for event in found if event.fields["axis"] == chosen]
        if not rows:
            raise NameNotFoundError(f"run {self.id}: {name!r} was logged on {', '.join(axes)}, not on {axis!r}")
        return Series(
            name,
            chosen,
            np.array([event.fields["step"] for event in rows], np.int64),
            np.array([event.time for event in rows], np.float64),
            np.array([event.fields["values"][name] for event in rows], np.float64),
        )

    def image_names(self) -> list[str]:
        """Names of all images, sorted."""
        return sorted({name for event in self._of("images") for name in event.fields["images"]})

    def images(self, name: str) -> list[tuple[int, list[Image]]]:
        """(step, images) pairs, in the order in which they were logged.

        Raises:
            NameNotFoundError: There are no such images.
        """
        found = [
            (event.fields["step"], self._record(event).data[name])
            for event in self._of("images")
            if name in event.fields["images"]
        ]
        if not found:
            raise NameNotFoundError(self._missing("image", name, self.image_names()))
        return found

    def histograms(self, name: str) -> list[tuple[int, Histogram]]:
        """(step, histogram) pairs, in the order in which they were logged.

        Raises:
            NameNotFoundError: There are no such histograms.
        """
        return self._named("histogram", name)

    def tables(self, name: str) -> list[tuple[int, Table]]:
        """(step, table) pairs, in the order in which they were logged.

        Raises:
            NameNotFoundError: There are no such tables.
        """
        return self._named("table", name)

    def media(self, kind: str, name: str) -> list[tuple[int, Any]]:
        """(step, value) pairs of a kind: "video", "audio", "text", "figure", "table" or "histogram".

        Raises:
            NameNotFoundError: There is nothing of that name and kind.
        """
        return self._named(kind, name)

    def names(self, kind: str) -> list[str]:
        """Names that were logged of one kind (see `media`), sorted."""
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
        """Versions of artifacts that went into this run."""
        return [
            ArtifactRef(e.fields["name"], e.fields["type"], e.fields["version"], e.fields["digest"])
            for e in self._of("use_artifact")
        ]

    def alerts(self) -> list[tuple[float, str, str, str]]:
        """(time, title, text, level) of every alert."""
        return [(e.time, e.fields["title"], e.fields["text"], e.fields["level"]) for e in self._of("alert")]

    def records(self) -> list[Record]:
        """Everything that was logged, as it is delivered to a backend: writers by start, each in its own order."""
        from tracking_core.journal.events import RECORD_KINDS

        return [self._record(event) for event in self._all() if event.kind in RECORD_KINDS]

    def damage(self) -> list[Damage]:
        """Places in the journal that cannot be read; everything else is there all the same."""
        reader = JournalReader(self.dir)
        reader.look()
        for writer, one in reader.writers.items():
            one.read(final=not is_alive(self.dir, writer))
        return reader.damage

    def __repr__(self) -> str:
        return f"<RunRecord {self.name!r} ({self.id}) of {self.project!r}>"

    # ------------------------------------------------------------------ reading

    def _load(self) -> dict[str, dict[int, Event]]:
        """Read what was added since the last look."""
        self._reader.look()
        for writer, reader in self._reader.writers.items():
            held = self._events.setdefault(writer, {})
            held.update({event.seq: event for _, event in reader.read()})
        return self._events

    def _all(self) -> Iterable[Event]:
        for _, events in sorted(self._load().items()):
            for seq in sorted(events):
                yield events[seq]

    def _of(self, kind: str) -> Iterable[Event]:
        return (event for event in self._all() if event.kind == kind)

    def _record(self, event: Event) -> Record:
        return to_record(event, self.dir)

    def _named(self, kind: str, name: str) -> list[tuple[int, Any]]:
        found = [
            (event.fields["step"], self._record(event).data["value"])
            for event in self._of(kind)
            if event.fields["name"] == name
        ]
        if not found:
            raise NameNotFoundError(self._missing(kind, name, self.names(kind)))
        return found

    def _missing(self, kind: str, name: str, known: list[str]) -> str:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f": did you mean {close[0]!r}?" if close else ""
        there = ", ".join(known[:20]) + (", …" if len(known) > 20 else "") if known else "none"
        return f"run {self.id} has no {kind} {name!r}{hint}; there are {there}"


def _merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        current = into.get(key)
        if isinstance(current, dict) and isinstance(value, Mapping):
            _merge(cast("dict[str, Any]", current), value)
        else:
            into[key] = value
