"""Resume: a run that was closed is opened again, and continues.

Records are sent as a worker sends them: in batches if the adapter accepts them, and from the start again if `confirmed`
of a tracker says that its backend has fewer records than were sent.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tracking_core.base.text import counted
from tracking_core.fallbacks import replay
from tracking_core.testing.contract.comparing import Row, extra_rows, listed, require_rows, rows_of, same_pixels
from tracking_core.testing.contract.registry import check
from tracking_core.values import Image, Record

if TYPE_CHECKING:
    from tracking_core.backends.hooks import RunInfo
    from tracking_core.testing.contract.context import Context

_WRITER = "contract"


class _Parts:
    """A run in parts: opened, sent more records, finished, and opened again."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self.run = ctx.new_run()
        self._records: list[Record] = []
        self._sent = 0

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers for the next part."""
        self._record("scalars", values, step)

    def image(self, name: str, pixels: np.ndarray[Any, Any], step: int) -> None:
        """Record an image for the next part."""
        self._record("images", {name: [Image.from_pixels(pixels)]}, step)

    def _record(self, kind: str, data: Mapping[str, Any], step: int) -> None:
        seq = len(self._records) + 1
        self._records.append(Record(kind, seq, _WRITER, 1.6e9 + seq, step=step, data=data))

    def send(self, status: str = "finished", error: str | None = None) -> None:
        """Open the run, send what is due, finish it, and take its state through JSON."""
        tracker = self._ctx.open(self.run)
        confirmed = cast("Mapping[str, int] | None", getattr(tracker, "confirmed", None))
        if confirmed is not None:
            self._sent = int(confirmed.get(_WRITER, 0))
        self._send(tracker, self._records[self._sent :])
        self._sent = len(self._records)
        tracker.finish(status, error=error)
        self.run = _again(self.run)

    def _send(self, tracker: Any, records: Sequence[Record]) -> None:
        if self._ctx.supports("deliver"):
            tracker.deliver(records)
            return
        for record in records:
            replay(record, tracker)


def _again(run: RunInfo) -> RunInfo:
    """The run as it is when it is opened again: its state went through JSON."""
    return dataclasses.replace(run, resumed=True, state=json.loads(json.dumps(dict(run.state))))


@check("resume.both_parts_kept", needs=("resume",))
def both_parts_kept(ctx: Context) -> None:
    """Records from before and after a run was opened again are stored, each row once; also after a second time.

    Jobs are preempted. If this fails, look for files that are truncated when they are opened, and for steps that must
    increase. An adapter whose backend must receive everything again declares this with `confirmed`.
    """
    parts = _Parts(ctx)
    expected: list[Row] = []
    for part in range(3):
        for step in (10 * part, 10 * part + 1, 5):
            value = step + part / 4
            parts.scalars({"loss": value}, step)
            expected.append(Row("loss", "step", step, value))
        parts.send()
    require_rows(ctx, parts.run, expected)
    extra = extra_rows(rows_of(ctx.scalars(parts.run)), expected, ctx.info.precision)
    ctx.require(not extra, f"{counted(len(extra), 'row')} there twice, or not logged: {listed(extra)}")


@check("resume.failed_run_goes_on", needs=("resume",))
def failed_run_goes_on(ctx: Context) -> None:
    """A run that ended in failure can be opened again, and then ends well.

    If this fails, look at which statuses the backend treats as final.
    """
    parts = _Parts(ctx)
    parts.scalars({"loss": 0.5}, 1)
    parts.send("failed", error="preempted by the scheduler")
    parts.scalars({"loss": 0.25}, 2)
    parts.send()
    require_rows(ctx, parts.run, [Row("loss", "step", 1, 0.5), Row("loss", "step", 2, 0.25)])
    status = ctx.read(parts.run).status
    ctx.require(status in {None, "finished"}, f"the run was finished the second time, and is {status!r}")


@check("resume.recorded_anew", needs=("resume",))
def recorded_anew(ctx: Context) -> None:
    """A run that went back to an earlier step is recorded again, and nothing of the earlier recording is left in it.

    It applies to adapters that declare `AdapterInfo.replaces`. When `RunInfo.generation` has grown, the run is opened
    with an empty state and `resumed=False`, and receives all records that count. If this fails, look at how the adapter
    then handles the states in `RunInfo.replaced`.
    """
    if ctx.info.replaces is None:
        ctx.skip("AdapterInfo.replaces is None: it keeps superseded records")
    parts = _Parts(ctx)
    for step in range(6):
        parts.scalars({"loss": step + 0.25, "gone": 1.0}, step)
    parts.send()
    earlier = parts.run
    anew = _Parts(ctx)
    anew.run = dataclasses.replace(earlier, resumed=False, state={}, generation=1, replaced=(dict(earlier.state),))
    expected: list[Row] = []
    for part in range(2):
        for step in (2 * part, 2 * part + 1):
            anew.scalars({"loss": step + 0.5}, step)
            expected.append(Row("loss", "step", step, step + 0.5))
        anew.send()
        anew.run = dataclasses.replace(anew.run, replaced=())
    require_rows(ctx, anew.run, expected)
    extra = extra_rows(rows_of(ctx.scalars(anew.run)), expected, ctx.info.precision)
    ctx.require(not extra, f"{counted(len(extra), 'row')} of the earlier recording still there: {listed(extra)}")


@check("resume.state_is_json", needs=("resume",))
def state_is_json(ctx: Context) -> None:
    """The content of `RunInfo.state` is JSON, and stays equal when it is written and read.

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

    If this fails, look for file names whose numbers start at zero again.
    """
    parts = _Parts(ctx)
    arrays = [np.full((3, 4, 3), 40 * number, np.uint8) for number in range(4)]
    for part in range(2):
        parts.image("sample", arrays[2 * part], part)
        parts.image("fixed", arrays[2 * part + 1], 7)
        parts.send()
    stored = ctx.images(parts.run)
    logged = [("sample", 0, arrays[0]), ("sample", 1, arrays[2]), ("fixed", 7, arrays[1]), ("fixed", 7, arrays[3])]
    for name, step, array in logged:
        found = any(one.name == name and one.step == step and same_pixels(one.pixels, array) for one in stored)
        ctx.require(found, f"the image {name!r} at step {step} is missing or differs")
