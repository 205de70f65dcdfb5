"""Resume: a run that was closed is opened again, and goes on."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from tracking_core.testing.comparing import Row, extra_rows, listed, require_rows, rows_of, same_pixels
from tracking_core.testing.contract import check

if TYPE_CHECKING:
    from tracking_core.hookspecs import RunInfo
    from tracking_core.testing.context import Context


def _again(run: RunInfo) -> RunInfo:
    """The run as it is when it is opened again: its state went through JSON."""
    return dataclasses.replace(run, resumed=True, state=json.loads(json.dumps(dict(run.state))))


@check("resume.both_parts_kept", needs=("resume",))
def both_parts_kept(ctx: Context) -> None:
    """What was logged before and after a run was opened again is there, each row once; so after a second time.

    Jobs are preempted. If this fails, look for files that are opened anew, and for steps that have to increase.
    """
    run = ctx.new_run()
    expected: list[Row] = []
    for part in range(3):
        with ctx.tracker(run) as tracker:
            for step in (10 * part, 10 * part + 1, 5):
                value = step + part / 4
                tracker.log_scalars({"loss": value}, step=step)
                expected.append(Row("loss", "step", step, value))
        run = _again(run)
    require_rows(ctx, run, expected)
    extra = extra_rows(rows_of(ctx.scalars(run)), expected, ctx.info.precision)
    ctx.require(not extra, f"{len(extra)} rows are there twice, or were not logged: {listed(extra)}")


@check("resume.failed_run_goes_on", needs=("resume",))
def failed_run_goes_on(ctx: Context) -> None:
    """A run that ended in failure can be opened again, and then ends well.

    If this fails, look at what the backend takes for final.
    """
    run = ctx.new_run()
    tracker: Any = ctx.open(run)
    tracker.log_scalars({"loss": 0.5}, step=1)
    tracker.finish("failed", error="preempted by the scheduler")
    run = _again(run)
    with ctx.tracker(run) as tracker:
        tracker.log_scalars({"loss": 0.25}, step=2)
    require_rows(ctx, run, [Row("loss", "step", 1, 0.5), Row("loss", "step", 2, 0.25)])
    status = ctx.read(run).status
    ctx.require(status in {None, "finished"}, f"the run was finished the second time, and is {status!r}")


@check("resume.state_is_json", needs=("resume",))
def state_is_json(ctx: Context) -> None:
    """What the adapter keeps in `RunInfo.state` is JSON, and comes back equal from it.

    The state is kept in a file between the parts. If this fails, keep text, numbers, lists and mappings with text
    keys; no paths, no tuples.
    """
    run = ctx.new_run()
    with ctx.tracker(run) as tracker:
        tracker.log_scalars({"loss": 0.5}, step=1)
    state = dict(run.state)
    try:
        back = json.loads(json.dumps(state))
    except (TypeError, ValueError) as error:
        ctx.fail(f"RunInfo.state cannot be kept as JSON ({error}): {state!r:.300}")
    ctx.require(back == state, f"RunInfo.state changes on its way through JSON: {state!r:.200} to {back!r:.200}")


@check("resume.media_kept", needs=("resume", "images"))
def media_kept(ctx: Context) -> None:
    """Images of both parts are there, also at one step under one name.

    If this fails, look for file names that begin at zero again.
    """
    run = ctx.new_run()
    arrays = [np.full((3, 4, 3), 40 * number, np.uint8) for number in range(4)]
    for part in range(2):
        with ctx.tracker(run) as tracker:
            tracker.log_images({"sample": arrays[2 * part]}, step=part)
            tracker.log_images({"fixed": arrays[2 * part + 1]}, step=7)
        run = _again(run)
    stored = ctx.images(run)
    for name, step, array in (
        ("sample", 0, arrays[0]),
        ("sample", 1, arrays[2]),
        *(("fixed", 7, a) for a in arrays[1::2]),
    ):
        found = any(one.name == name and one.step == step and same_pixels(one.pixels, array) for one in stored)
        ctx.require(found, f"the image {name!r} at step {step} is not there as it was logged")
