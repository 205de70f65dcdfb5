"""The hooks an adapter implements, and the few types they exchange.

An adapter is a module (or any object) named by an entry point of the group `tracking_core.adapters`:

```python
import tracking_core as tracking

@tracking.hookimpl
def tracking_adapter():
    return tracking.AdapterInfo(name="csv", api_version=1)

@tracking.hookimpl
def open_tracker(target, run):
    from mypackage.csv_tracker import CsvTracker
    return CsvTracker(target.path)
```
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pluggy

if TYPE_CHECKING:
    from tracking_core.backends.targets import Target
    from tracking_core.protocol import Tracker
    from tracking_core.values import Record

GROUP = "tracking_core.adapters"
"""The entry-point group; the name of the entry point is the one used in TRACKING_BACKEND."""

hookspec = pluggy.HookspecMarker("tracking_core")
hookimpl = pluggy.HookimplMarker("tracking_core")
"""Marks a function of an adapter as one of the hooks."""
LEVELS = ("ok", "warning", "error")
"""Levels of a finding."""


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """What an adapter declares about itself, without importing its backend.

    Args:
        name: The name of the entry point.
        api_version: The version of the adapter API it was built for.
        capabilities: What it can show or keep: "scalars", "images", "histograms", "artifacts", "resume", and the
            optional capabilities of the protocol ("tables", "video", …). None: the methods that its tracker has. Kinds
            that it lacks are not sent to it.
        options: Its options, name to one line of help. None: any option is passed on unchecked.
        extra: What to install for it, such as "tracking-core[wandb]".
        requires: The modules it needs; they are looked up without importing them.
        precision: "float64" when scalars come back exactly; "float32" when they are rounded.
        guarantee: How often a record arrives when delivery is interrupted and repeated: "exactly once",
            "at least once", or a description in words.
        local_path: Whether the path of a target is a path of the file system, which is made absolute.
        stores_wall_time: Whether the original time of a record is kept.
        replaces: How it records a run again when a part of its records was superseded (see `RunInfo.generation`): "in
            place" (the old records are gone) or "beside" (as another run of the backend); None if it cannot.
        description: One line for `tracking backends`.
    """

    name: str
    api_version: int
    capabilities: frozenset[str] | None = None
    options: Mapping[str, str] | None = None
    extra: str | None = None
    requires: tuple[str, ...] = ()
    precision: Literal["float64", "float32"] = "float64"
    guarantee: str = "at least once"
    local_path: bool = True
    stores_wall_time: bool = True
    replaces: Literal["in place", "beside"] | None = None
    description: str = ""

    def __post_init__(self) -> None:
        if self.capabilities is not None and not isinstance(self.capabilities, frozenset):
            object.__setattr__(self, "capabilities", frozenset(self.capabilities))


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What an adapter knows about the run it records.

    Args:
        id: Identity of the run; safe as a file name and as an id of W&B.
        name: The display name.
        project: The project it belongs to; any str.
        config: The current configuration, as plain JSON values, with all changes logged so far. Later changes come
            through `log_config`; a change that is already included may come again.
        tags: Labels.
        group: Name of the group of runs it belongs to, if any.
        job_type: Kind of job, such as "train" or "eval", if any.
        notes: Longer description, if any.
        resumed: Whether this run was opened before and is continued.
        dir: Directory of the run, where an adapter may keep files of its own under its name; None when the tracker was
            opened without a run.
        state: A small durable mapping of JSON values per target. Its value when records are confirmed is its value when
            the run is opened again.
        environment: The environment of the run: program, host, git and so on, as the store recorded it; may be
            incomplete.
        started: Seconds since the epoch.
        generation: How often the run was started again at this target, because it went back to an earlier step. An
            adapter that `replaces` sets the records of earlier generations aside; `state` starts empty.
        replaced: The `state` of earlier generations that may still exist, oldest first.
        round: Incremented when the run is sent again because the target's filters changed. Records of an earlier round
            may have larger sequence numbers than those of this one.
    """

    id: str
    name: str
    project: str = "default"
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tags: tuple[str, ...] = ()
    group: str | None = None
    job_type: str | None = None
    notes: str | None = None
    resumed: bool = False
    dir: Path | None = None
    state: MutableMapping[str, Any] = field(default_factory=dict[str, Any])
    environment: Mapping[str, Any] = field(default_factory=dict[str, Any])
    started: float = field(default_factory=time.time)
    generation: int = 0
    replaced: tuple[Mapping[str, Any], ...] = ()
    round: int = 0

    def directory(self, adapter: str) -> Path:
        """Where an adapter keeps files if its target names no place: in the run directory, under its name."""
        base = self.dir if self.dir is not None else Path("tracking_runs") / self.id
        return base / adapter


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of a diagnosis.

    Args:
        level: "ok", "warning" or "error".
        message: What was found.
        remedy: What to do about it.
    """

    level: Literal["ok", "warning", "error"]
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class ForeignRun:
    """A run that another program recorded, as an adapter found it in the files of its backend.

    Args:
        id: Its name at the backend; need not be unique.
        records: What was logged, with the original times, steps and axes; read once, and read lazily: a run may be
            larger than memory. `seq` and `writer` of the records are ignored. Further facts come as records too:
            "config" and "summary", and "finish" for the end; without "finish" the run counts as crashed.
        identity: What identifies this run, and stays the same when its files are moved, copied or continued: a second
            import is recognised by it.
        name: The display name.
        project: The project it belongs to, if the backend has projects.
        config: The configuration, as far as it is known at the start.
        tags: Labels.
        group: Name of the group of runs it belongs to, if any.
        job_type: Kind of job, if any.
        notes: Longer description, if any.
        started: Seconds since the epoch; None if unknown.
        environment: Where it ran: host, program, git and so on.
        source: Its file or directory.
        size: Bytes of its files; larger at the next import if the run has continued since.
        problems: What could not be read, in words; filled while the records are read.
        run_id: The id it had in the run store that it was recorded from, if its files say so: it is imported under that
            id, unless the store has another run with that id.
    """

    id: str
    records: Iterable[Record]
    identity: str
    name: str = ""
    project: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tags: tuple[str, ...] = ()
    group: str | None = None
    job_type: str | None = None
    notes: str | None = None
    started: float | None = None
    environment: Mapping[str, Any] = field(default_factory=dict[str, Any])
    source: Path = Path()
    size: int = 0
    problems: list[str] = field(default_factory=list[str])
    run_id: str | None = None


class AdapterSpec:
    """The hooks. The first two are required."""

    @hookspec(firstresult=True)
    def tracking_adapter(self) -> AdapterInfo | None:
        """Describe this adapter. Imports no backend."""

    @hookspec(firstresult=True)
    def open_tracker(self, target: Target, run: RunInfo) -> Tracker | None:
        """Open the backend for one run. Heavy imports happen here.

        Args:
            target: What the user named: path, authority, options.
            run: The run that is recorded.
        """

    @hookspec(firstresult=True)
    def check_target(self, target: Target) -> None:
        """Refuse a target that cannot work, before the run starts: an option's value, a path, an address.

        Called for the targets that a user names, before the run exists. Imports no backend, asks no server, and returns
        at once.

        Raises:
            SettingsError: Something is wrong with it; the message says what is expected. A ValueError counts as one.
        """

    @hookspec(firstresult=True)
    def target_place(self, target: Target, run: RunInfo) -> str | None:
        """Return the place at the backend that a target names, so that two spellings of one place share a cursor.

        Called before the target is opened for the first time; the answer is stored with the run and stays valid for it.
        Imports no backend, and asks no server.

        Args:
            target: What the user named.
            run: The run that is recorded.

        Returns:
            The same text for every target that leads to the same place; None for the target in canonical form,
            without its filters.
        """

    @hookspec(firstresult=True)
    def diagnose(self, target: Target) -> Sequence[Finding] | None:
        """Check whether the backend can be used: reachable, logged in, writable. Returns within 5 s."""

    @hookspec(firstresult=True)
    def tracking_harness(self) -> Any:
        """Return the `tracking_core.testing.AdapterHarness` that checks this adapter."""

    @hookspec(firstresult=True)
    def tracking_import(self, path: Path) -> Iterable[ForeignRun] | None:
        """Return the runs that this backend has stored in a file or below a directory.

        Args:
            path: It exists.

        Returns:
            None if there is nothing of this backend. Only names are looked at, without importing the backend; it is
            imported when the first run is requested.
        """
