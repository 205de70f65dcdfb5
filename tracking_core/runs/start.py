"""Starting runs, and ending runs that were not finished."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking_core.base.keywords import names_nearest
from tracking_core.base.problems import Troubles
from tracking_core.compaction.background import compaction
from tracking_core.environment.settings import Settings, absolute_path, load_settings, working_directory
from tracking_core.errors import RunExistsError, RunNotFoundError, SettingsError, StoreError, TrackingError
from tracking_core.naming import printable
from tracking_core.runs.console import notebook
from tracking_core.runs.console import say as say_to
from tracking_core.runs.exit import ending, enter, open_runs, unwatch_signals, watch_exit, watch_signals
from tracking_core.runs.housekeeping import MonitoredRun, housekeeper
from tracking_core.runs.no_scalar import why_not_recorded
from tracking_core.runs.null import NullRun
from tracking_core.runs.run import Run

if TYPE_CHECKING:
    from tracking_core.delivery.destinations import Destination
    from tracking_core.delivery.interface import Delivery
    from tracking_core.environment.hosts import Peers
    from tracking_core.journal import JournalWriter
    from tracking_core.runs.resume import Origin

OPENING_TIMEOUT = 120.0
"""Seconds that a strict run waits for its backends to open."""

_monitored: dict[int, MonitoredRun] = {}


@dataclass(frozen=True)
class RunPlan:
    """The run to start, after every setting was checked and before anything is written.

    Args:
        facts: What `run.json` will say, as far as it does not depend on where the run is stored.
        root: Root of the run store.
        resume: "never", "allow" or "must".
        origin: After which step the run continues, and from which other run.
        places: Where it is delivered to.
        delivery: "process", "thread" or "inline".
        settings: The other settings.
        strict: Whether errors raise.
    """

    facts: dict[str, Any]
    root: Path
    resume: str
    origin: Origin
    places: Sequence[Destination]
    delivery: str
    settings: Settings
    strict: bool


@dataclass(frozen=True)
class _Begun:
    """A run directory with an open journal.

    Args:
        facts: What `run.json` says, with the configuration as of now.
        root: The root it is under, which may be another than was asked for.
        directory: The run directory.
        journal: The writer of this session.
        added: What this session adds to the configuration.
        created: Whether the run is new.
    """

    facts: dict[str, Any]
    root: Path
    directory: Path
    journal: JournalWriter
    added: dict[str, Any]
    created: bool


@names_nearest
def start_run(
    project: str | None = None,
    name: str | None = None,
    *,
    run_id: str | None = None,
    resume: str | None = None,
    resume_step: int | tuple[str, int] | None = None,
    fork_from: tuple[str, int] | tuple[str, str, int] | None = None,
    config: Any = None,
    tags: Sequence[str] | str = (),
    group: str | None = None,
    job_type: str | None = None,
    notes: str | None = None,
    backends: Any = None,
    root: str | os.PathLike[str] | None = None,
    delivery: str | None = None,
    process: int | None = None,
    strict: bool = False,
    replace_open: bool = False,
) -> Run:
    """Start or continue a run.

    Args:
        project: Project of the run; None uses TRACKING_PROJECT, the settings file, or "default".
        name: Display name; None generates one.
        run_id: Identity; None generates one. Letters, digits, ".", "_" and "-", at most 64.
        resume: "never" (the id must be new; the default), "allow" (continue it if it exists) or "must".
        resume_step: Continue after this step, for example after restoring a checkpoint. Later records of the run are
            superseded, in the store and in its targets. Nothing is erased: `record.scalars(name, raw=True)` returns
            everything. A step of another axis than "step" is given as (axis, step). With `resume="allow"`, a run that
            does not exist yet is started.
        fork_from: (id of a run, last step of it) or (id, axis, step): start with the history and the configuration of
            another run of this root up to that step. The other run does not change. If the new run already exists and
            `resume` allows it, it is continued and not forked again.
        config: Hyperparameters: a (nested) mapping, dataclass, argparse namespace, ConfigDict, pydantic model, …
        tags: Labels.
        group: Group of runs it belongs to.
        job_type: Kind of job, such as "train" or "eval".
        notes: Longer description.
        backends: Targets as in TRACKING_BACKEND, or a list of targets and trackers; the run owns a tracker in the list,
            and finishes it. None uses TRACKING_BACKEND, the settings file, or "local".
        root: Root of the run store; None uses TRACKING_DIR, the settings file, or "./tracking_runs".
        delivery: "process" (the default), "thread" (for `native`, and for trackers passed as objects) or "inline".
        process: Which JAX process this is; None detects it without initialising JAX.
        strict: Whether errors raise: the backends are opened before this returns, and bad values and records that could
            not be delivered at the end raise as well.
        replace_open: Whether to finish the runs of this process that are still open first, such as that of a cell of a
            notebook which is run again.

    Returns:
        The run: a context manager, and a tracker with every capability.

    Raises:
        SettingsError: A setting is wrong, a backend or option is unknown, or a package is missing.
        RunExistsError: The id is taken, and `resume` is "never".
        RunNotFoundError: The run does not exist and `resume` is "must"; or the run to fork from does not exist.

    Example:
        >>> with start_run("digits", backends="none", config={"learning_rate": 1e-3}) as run:
        ...     run.log_scalars({"train/loss": 0.5}, step=0)
    """
    from tracking_core.backends.destinations import local_root, requested_targets
    from tracking_core.delivery.destinations import destinations
    from tracking_core.environment.hosts import Peers, run_file_exists
    from tracking_core.layout.runs import run_directory
    from tracking_core.remote.address import check_mirroring
    from tracking_core.runs.resume import Origin

    settings = load_settings()
    mode = settings.choice("resume", resume)
    origin = Origin.check(resume_step, fork_from, mode, settings.get("run_id", run_id))
    requested = requested_targets(backends, settings)
    facts = _facts(
        settings, project=project, name=name, run_id=run_id, config=config, tags=tags, group=group,
        job_type=job_type, notes=notes,
    )  # fmt: skip
    base = root if root is not None else local_root(requested)
    check_mirroring(settings, base)
    folder = Path(settings.get("dir", base) or "tracking_runs").expanduser()
    if folder.is_absolute() or working_directory() is not None:
        folder = folder.absolute()
    places = destinations(requested, facts=facts, directory=run_directory(folder, facts["project"], facts["id"]))
    how = settings.choice("delivery", delivery)
    peers = Peers(process)
    records = settings.choice("process") == "all" or peers.index == 0
    chosen = settings.get("run_id", run_id) is not None
    facts["id"] = peers.run_id(facts["id"], chosen=chosen, records=records)
    by_backend = [getattr(target, "name", None) for target in requested] == ["none"]
    _see_to_open(settings, replace=replace_open)
    if by_backend or not records:
        peers.announce(facts["id"])
        origin_told = peers.origin if peers.index > 0 else peers.unknown
        where = run_directory(folder, facts["project"], facts["id"])
        why = why_not_recorded(by_backend=by_backend)
        run: Run = NullRun(
            facts, where, enter, _on_finishing, origin_told, say=lambda message: say_to(settings, message), why=why
        )
        open_runs.append(run)
        enter(run)
        return run
    if peers.index > 0:
        # The first process creates the run and delivers for all of them; the others add their records to it.
        if chosen:
            peers.await_run(run_file_exists(run_directory(folder, facts["project"], facts["id"])))
        mode, places = "allow", [place for place in places if place.tracker is not None]
        origin = replace(origin, elsewhere=True)
    run = _open(RunPlan(facts, folder, mode, origin, places, how, settings, strict), peers)
    peers.announce(run.id, resumed=run.resumed, step=run.step)
    say_to(settings, printable(f"run {run.name} of {run.project} is recorded in {run.dir}", limit=4000))
    return run


def _see_to_open(settings: Settings, *, replace: bool) -> None:
    """End the runs that are still open, or say in a notebook that there are some: a cell was run again, perhaps."""
    for run in tuple(open_runs):
        if replace:
            # What it has to say of records that wait is no news of the run that begins.
            with contextlib.suppress(TrackingError):
                run.finish()
        elif notebook() is not None:
            still = f"run {run.name} ({run.id}) is still open, and goes on beside the new one"
            say_to(
                settings, printable(f"{still}: run.finish() ends it, or start_run(..., replace_open=True)", limit=4000)
            )


def _facts(settings: Settings, **given: Any) -> dict[str, Any]:
    """What `run.json` will say, as far as it does not depend on where the run is stored."""
    from tracking_core.base.redaction import redact_name, redact_text
    from tracking_core.layout.run_ids import check_run_id, new_run_id, readable_name
    from tracking_core.values.config import to_plain

    def shown(text: str | None) -> str | None:
        return redact_name(text) if text is not None else None

    for key in ("project", "name", "run_id", "group", "job_type", "notes"):
        if given[key] is not None and not isinstance(given[key], str):
            raise SettingsError(f"start_run: {key} must be a str, got {type(given[key]).__name__}")
    chosen = settings.get("run_id", given["run_id"])
    tags = given["tags"]
    labels = [tags] if isinstance(tags, str) else list(tags)
    if not all(isinstance(tag, str) for tag in labels):
        raise SettingsError(f"start_run: tags must be strs, got {labels!r:.200}")
    if not labels:
        labels = [tag.strip() for tag in (settings.get("tags") or "").split(",") if tag.strip()]
    notes = settings.get("notes", given["notes"])
    project = settings.get("project", given["project"]) or "default"
    _refuse_secret("project", project, settings.origin("project", given["project"]))
    _refuse_secret("run_id", chosen or "", settings.origin("run_id", given["run_id"]))
    return {
        "id": check_run_id(chosen) if chosen is not None else new_run_id(),
        "name": shown(settings.get("name", given["name"])) or readable_name(),
        "project": project,
        "config": to_plain(given["config"]) if given["config"] is not None else {},
        "tags": list(dict.fromkeys(map(redact_name, labels))),
        "group": shown(settings.get("group", given["group"])),
        "job_type": shown(given["job_type"]),
        "notes": redact_text(notes) if notes is not None else None,
        "started": round(time.time(), 6),
    }


def _refuse_secret(key: str, value: str, origin: str) -> None:
    """Refuse what a run is found by, and what cannot be changed therefore, where it holds a secret."""
    from tracking_core.base.redaction import redact_name

    if redact_name(value) != value:
        source = f"the argument {key}" if origin == "argument" else origin
        raise SettingsError(
            f"{source}: {key} {redact_name(value)!r:.200} holds the value of a secret environment variable, and it is "
            "used in directories and addresses; choose another"
        )


def _open(plan: RunPlan, peers: Peers) -> Run:
    """Directory and journal, delivery, and the run on top of both."""
    from tracking_core.artifacts import ArtifactStore
    from tracking_core.base.redaction import redact_text
    from tracking_core.intake import Recorder

    settings, strict = plan.settings, plan.strict
    troubles = Troubles(f"run {plan.facts['name']}")
    elsewhere = settings.get("artifacts")
    blobs = absolute_path(elsewhere, settings.origin("artifacts")) if elsewhere else None
    begun = _create(plan, troubles)
    facts, directory, journal = begun.facts, begun.directory, begun.journal
    next_steps = _next_steps(plan.origin, directory, journal.id, troubles, created=begun.created)

    def on_error(error: OSError) -> None:
        troubles.note("journal", f"the journal could not be written: {error}", error=error)

    journal.on_error = on_error
    store = ArtifactStore(begun.root, facts["project"], blobs)
    recorder = Recorder(journal, directory, store, inline=plan.delivery == "inline")

    def note(reason: str, message: str, error: BaseException | None) -> None:
        troubles.note(reason, redact_text(message), error=error)

    if strict:
        # What keeps a backend from opening is raised, and needs no warning beside that.
        troubles.hold()
    monitored = housekeeper.add(journal, troubles, recorder.results.catch_up)
    compaction.pick_up(directory.parent)
    channel = _channel(plan.delivery, plan.places, directory, note)
    if settings.get("mirror") is not None:
        from tracking_core.mirror.client import mirrored

        channel = mirrored(channel, directory, settings, note)

    def say(message: str, page: str | None = None) -> None:
        if not troubles.is_held:
            say_to(settings, message, page)

    run = Run(
        facts, directory, recorder, channel, troubles, strict=strict, on_enter=enter, on_finish=_on_finishing,
        say=say, next_steps=next_steps,
        elsewhere=f"it is recorded under {begun.root}, because {plan.root} could not be written"
        if begun.root != plan.root
        else "",
        resumed=peers.origin()[0] if peers.index > 0 else not begun.created,
    )  # fmt: skip
    _monitored[id(run)] = monitored
    _watch_directory(run, journal, monitored, troubles)
    open_runs.append(run)
    enter(run)
    watch_exit()
    watch_signals()
    if begun.added:
        run.log_config(begun.added)
    if next_steps:
        say(f"run {run.name} is continued at {_places(next_steps)}")
    if strict:
        closed = channel.await_open(OPENING_TIMEOUT)
        if not closed:
            troubles.release()
        else:
            # What the strict end has to say of records that wait is no news here.
            with contextlib.suppress(TrackingError):
                run.finish("failed", 5.0, error="; ".join(closed))
            raise SettingsError(f"start_run: {'; '.join(closed)}")
    return run


def _watch_directory(run: Run, journal: JournalWriter, monitored: MonitoredRun, troubles: Troubles) -> None:
    """Create the directory of a run again when it is gone."""
    from tracking_core.runs.restoring import Restorer

    def note(message: str, error: OSError | None) -> None:
        troubles.note("directory", message, error=error)

    def on_restored(directory: Path, facts: Mapping[str, Any]) -> None:
        run.moved(directory, facts)
        for surroundings in monitored.surroundings:
            journal.append("environment", {"environment": surroundings})

    try:
        journal.on_astray = Restorer(journal, note, on_restored).look
    except OSError as error:
        note(f"run.json cannot be read: {error}", error)


def _next_steps(origin: Origin, directory: Path, own: str, troubles: Troubles, *, created: bool) -> dict[str, int]:
    """Axis → the step that comes next, where none is given."""

    def note(error: Exception) -> None:
        troubles.note(
            "steps", f"the last steps of the run cannot all be read, so counted steps may repeat: {error}", error=error
        )

    try:
        return origin.next_steps(directory, own, note, created=created)
    except (OSError, StoreError) as error:
        note(error)
        return {}


def _places(steps: Mapping[str, int]) -> str:
    """Where a run goes on, for people: the axis "step" first, and not more than a few."""
    named = [f"{printable(axis, limit=40)} {steps[axis]}" for axis in sorted(steps, key=lambda axis: axis != "step")]
    return ", ".join(named[:5]) + (", …" if len(named) > 5 else "")


def _channel(
    how: str, places: Sequence[Destination], directory: Path, note: Callable[[str, str, BaseException | None], None]
) -> Delivery:
    """What delivers: objects can only be served where they are, and with no targets there is nothing to start."""
    from tracking_core.delivery.inline import InlineDelivery
    from tracking_core.delivery.process.delivery import RemoteDelivery
    from tracking_core.delivery.threads import ThreadDelivery

    if how == "inline":
        return InlineDelivery(directory, places, note, watch_exit)
    if how == "process" and places and all(place.tracker is None for place in places):
        try:
            return RemoteDelivery(directory, places, note, watch_exit)
        except OSError as error:
            note("deliverer", f"no process can be started ({error}); threads deliver instead", error)
    return ThreadDelivery(directory, places, note, watch_exit)


def _create(plan: RunPlan, troubles: Troubles) -> _Begun:
    """Create or find the run directory, and open its journal; a root that cannot be written is replaced."""
    from tracking_core.base.regular import OddFileError
    from tracking_core.environment.machine import identity
    from tracking_core.journal import JournalWriter
    from tracking_core.layout.runs import read_run, run_directory, tombstone_of
    from tracking_core.store import RunRecord

    origin = plan.origin
    facts: dict[str, Any] = plan.facts
    full = {
        **facts,
        "environment": dict(identity()),
        "targets": [str(place.target) if place.tracker is None else place.label for place in plan.places],
    }
    for attempt in (plan.root, None):
        place = attempt
        if place is None:
            place = _other_root(plan.root, troubles)
        directory = run_directory(place, facts["project"], facts["id"])
        try:
            if not place.is_absolute():
                raise OSError(errno.ENOENT, "the working directory was removed", str(place))  # noqa: TRY301
            if plan.resume == "must" and not (directory / "run.json").is_file():
                removed = tombstone_of(place, facts["id"], facts["project"])
                what = f"was removed (see {removed})" if removed else f"is not in {directory.parent}"
                raise RunNotFoundError(f"the run {facts['id']!r} to continue {what}; resume='allow' starts it")
            try:
                facts = {**facts, "config": origin.create(plan.root, directory, full)["config"]}
            except RunExistsError:
                if plan.resume == "never":
                    raise
                added = facts["config"]
                facts = {**read_run(directory), "config": RunRecord(directory).config}
                journal = origin.go_back(directory, facts["id"], troubles.note)
                return _Begun(facts, place, directory, journal, added, created=False)
            return _Begun(facts, place, directory, JournalWriter(directory, facts["id"]), {}, created=True)
        except OddFileError as error:
            # The run is there, and begun elsewhere it would be another.
            raise StoreError(
                f"start_run: the run cannot continue because of {error.filename}: {error.strerror}"
            ) from error
        except OSError as error:
            if plan.strict or attempt is not plan.root:
                raise SettingsError(f"start_run: {directory} cannot be written: {error}") from error
    raise AssertionError("the loop returns or raises")


def _other_root(root: Path, troubles: Troubles) -> Path:
    """Where a run is recorded whose root cannot be written: the same place for all of a user, where that is safe."""
    from tracking_core.layout.fallback import make_fallback_root

    why = ""
    try:
        place = make_fallback_root()
    except OSError as error:
        place = Path(tempfile.mkdtemp(prefix="tracking-"))
        why = f" ({error.strerror or error})"
    troubles.note("root", f"{root} cannot be written; this run is recorded under {place} instead{why}")
    return place


def _on_finishing(run: Run) -> None:
    """A run is about to end."""
    if run in open_runs:
        open_runs.remove(run)
    ending.add(run)
    monitored = _monitored.pop(id(run), None)
    if monitored is not None:
        housekeeper.remove(monitored)
    if not open_runs:
        unwatch_signals()
