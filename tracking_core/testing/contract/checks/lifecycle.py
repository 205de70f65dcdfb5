"""Lifecycle: from opening to finishing, once and several times, one run and two."""

from __future__ import annotations

import contextlib
import inspect
from typing import TYPE_CHECKING, Any

from tracking_core.protocol import STATUSES
from tracking_core.testing.contract.comparing import Row, require_rows, rows_of
from tracking_core.testing.contract.registry import check
from tracking_core.values import Record

if TYPE_CHECKING:
    from tracking_core.testing.contract.context import Context

_KEYWORDS = {
    "log_scalars": ("step", "step_axis", "wall_time"),
    "log_images": ("step", "step_axis", "wall_time", "value_range"),
    "log_histogram": ("step", "step_axis", "wall_time", "bins"),
    "log_artifact": ("name", "type", "metadata", "aliases"),
    "finish": ("status", "error"),
}


@check("lifecycle.five_methods")
def five_methods(ctx: Context) -> None:
    """The tracker has the five methods of the protocol, with the keywords of the protocol.

    A loop calls them without asking. If this fails, copy the signatures of `tracking_core.Tracker`; a kind that the
    backend cannot hold is left out of `AdapterInfo.capabilities`, and its method may then do nothing.
    """
    with ctx.tracker(ctx.new_run()) as tracker:
        for method, keywords in _KEYWORDS.items():
            function = getattr(tracker, method, None)
            if function is None or not callable(function):
                ctx.fail(f"{type(tracker).__name__} has no method {method}()")
            parameters = inspect.signature(function).parameters.values()
            if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
                continue
            taken = {parameter.name for parameter in parameters}
            lacking = [keyword for keyword in keywords if keyword not in taken]
            ctx.require(not lacking, f"{method}() does not take {', '.join(lacking)}")


@check("lifecycle.empty_run")
def empty_run(ctx: Context) -> None:
    """A run in which nothing is logged can be opened, finished and read.

    Programs fail before their first step. If this fails, create whatever the reader needs when the run is opened, or
    let the reader treat its absence as an empty run.
    """
    run = ctx.new_run()
    with ctx.tracker(run):
        pass
    stored = rows_of(ctx.scalars(run))
    ctx.require(not stored, f"nothing was logged, but the backend holds {stored[:5]}")


@check("lifecycle.empty_calls")
def empty_calls(ctx: Context) -> None:
    """Empty calls do nothing, and later calls are stored.

    Loops build their mappings conditionally. If this fails, return early when the mapping is empty.
    """
    run = ctx.new_run()
    with ctx.tracker(run) as tracker:
        tracker.log_scalars({}, step=0)
        tracker.log_scalars({"train": {}}, step=1)
        if ctx.supports("images"):
            tracker.log_images({}, step=1)
        tracker.log_scalars({"after": 1.0}, step=2)
    require_rows(ctx, run, [Row("after", "step", 2, 1.0)])


@check("lifecycle.finish_twice")
def finish_twice(ctx: Context) -> None:
    """A second `finish` does nothing, whatever its status.

    Context managers, exit handlers and signal handlers may all call it. If this fails, remember that it is finished.
    """
    run = ctx.new_run()
    tracker = ctx.open(run)
    tracker.log_scalars({"loss": 0.5}, step=1)
    tracker.finish()
    tracker.finish()
    tracker.finish("failed", error="too late")
    require_rows(ctx, run, [Row("loss", "step", 1, 0.5)])
    status = ctx.read(run).status
    ctx.require(status in {None, "finished"}, f"the run was finished first, and is now {status!r}")


@check("lifecycle.every_status")
def every_status(ctx: Context) -> None:
    """`finish` accepts each status of the protocol, and keeps the logged values; a failure does not look like success.

    If this fails, map the statuses to those of the backend: anything but "finished" is not a success.
    """
    for status in STATUSES:
        run = ctx.new_run()
        tracker = ctx.open(run)
        tracker.log_scalars({"loss": 0.25}, step=3)
        tracker.finish(status, error="ValueError: out of range" if status == "failed" else None)
        require_rows(ctx, run, [Row("loss", "step", 3, 0.25)])
        stored = ctx.read(run).status
        if stored is not None:
            ctx.require((stored == "finished") == (status == "finished"), f"finish({status!r}) came back as {stored!r}")


@check("lifecycle.logging_after_finish")
def logging_after_finish(ctx: Context) -> None:
    """A call after `finish` raises or is ignored; it neither hangs nor damages earlier records.

    Threads and callbacks come late. If this fails, look at what the backend does when it is used after closing.
    """
    run = ctx.new_run()
    tracker = ctx.open(run)
    tracker.log_scalars({"loss": 0.5}, step=1)
    tracker.finish()
    with contextlib.suppress(Exception):
        tracker.log_scalars({"loss": 9.0}, step=2)
    with contextlib.suppress(Exception):
        tracker.log_histogram("late", [1.0, 2.0], step=2)
    require_rows(ctx, run, [Row("loss", "step", 1, 0.5)])


@check("lifecycle.runs_do_not_mix")
def runs_do_not_mix(ctx: Context) -> None:
    """Two trackers that are open at once keep their runs apart.

    Sweeps and evaluation beside training do this in one process. If this fails, look for module globals, the
    backend's "current run", and file names that do not hold the run's id.
    """
    runs = [ctx.new_run(), ctx.new_run()]
    trackers: list[Any] = [ctx.open(run) for run in runs]
    for step in range(3):
        for number, tracker in enumerate(trackers):
            tracker.log_scalars({f"run{number}": float(step)}, step=step)
    for tracker in trackers:
        tracker.finish()
    for number, run in enumerate(runs):
        require_rows(ctx, run, [Row(f"run{number}", "step", step, float(step)) for step in range(3)])
        strangers = [row for row in rows_of(ctx.scalars(run)) if row.name != f"run{number}"]
        ctx.require(not strangers, f"run {number} holds rows of the other: {strangers[:5]}")


@check("lifecycle.run_details_accepted")
def run_details_accepted(ctx: Context) -> None:
    """Names, projects, tags, groups and notes may be any text, and none prevents a run from being recorded.

    They come from users. If this fails, encode (`tracking_core.naming`) or shorten what the backend cannot hold.
    """
    run = ctx.new_run(
        name='été "über" 実験 / run, 1\n',
        project="../a project: with/odd names?",
        tags=("a", "ünï", "x" * 100, "with, comma"),
        group="group/of runs",
        job_type="train",
        notes="# Notes\n\n- one\n- two",
        config={"lr": 0.1, "model": {"depth": 3}},
    )
    with ctx.tracker(run) as tracker:
        tracker.log_scalars({"loss": 0.5}, step=1)
    require_rows(ctx, run, [Row("loss", "step", 1, 0.5)])


@check("lifecycle.flush_any_time", needs=("flush",))
def flush_any_time(ctx: Context) -> None:
    """`flush` may come at any time, several times, and loses nothing.

    If this fails, look at what is buffered, and at flushing an empty buffer.
    """
    run = ctx.new_run()
    with ctx.tracker(run) as tracker:
        tracker.flush()
        tracker.log_scalars({"loss": 0.5}, step=1)
        tracker.flush()
        tracker.flush()
        tracker.log_scalars({"loss": 0.25}, step=2)
    require_rows(ctx, run, [Row("loss", "step", 1, 0.5), Row("loss", "step", 2, 0.25)])


@check("lifecycle.deliver_in_batches", needs=("deliver",))
def deliver_in_batches(ctx: Context) -> None:
    """`deliver` stores the same as the methods, and skips kinds of later versions.

    A worker uses it instead of the methods. If this fails, expand a batch with `tracking_core.replay`.
    """
    run = ctx.new_run()
    # Writers count from 1.
    records = [
        Record("scalars", seq, "w", 1.6e9 + seq, step=seq, axis="step", data={"loss": 0.5 * seq, "lr": 1.0})
        for seq in range(1, 5)
    ]
    records.append(Record("a-kind-of-a-later-version", 5, "w", 1.6e9 + 5))
    records.append(Record("scalars", 6, "w", 1.6e9 + 6, step=1, axis="epoch", data={"loss": 2.5}))
    with ctx.tracker(run) as tracker:
        tracker.deliver(records[:2])
        tracker.deliver([])
        tracker.deliver(records[2:])
    expected = [
        Row(name, "", record.step or 0, float(value))
        for record in records
        if record.kind == "scalars"
        for name, value in record.data.items()
    ]
    require_rows(ctx, run, expected, axes=False)
