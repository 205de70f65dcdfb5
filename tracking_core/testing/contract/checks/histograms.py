"""Histograms: counts over edges, from any values or ready-made."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tracking_core.testing.contract.comparing import same_time
from tracking_core.testing.contract.registry import check
from tracking_core.values import Histogram, to_histogram

if TYPE_CHECKING:
    from tracking_core.backends.hooks import RunInfo
    from tracking_core.testing.contract.context import Context


def _one(ctx: Context, run: RunInfo, name: str, step: int) -> Histogram:
    stored = ctx.histograms(run)
    found = [one for one in stored if one.name == name and one.step == step]
    ctx.require(
        len(found) == 1,
        f"{len(found)} histograms under {name!r} at step {step}, expected 1; the backend holds "
        f"{[(one.name, one.step) for one in stored][:20]}",
    )
    return found[0].value


def _require(ctx: Context, stored: Histogram, expected: Histogram, what: str) -> None:
    ctx.require(
        np.array_equal(stored.counts, expected.counts),
        f"{what}: logged the counts {expected.counts.tolist()!r:.200}, stored {stored.counts.tolist()!r:.200}",
    )
    ctx.require(
        np.allclose(stored.edges, expected.edges, rtol=1e-6, atol=1e-12),
        f"{what}: logged the edges {expected.edges.tolist()!r:.200}, stored {stored.edges.tolist()!r:.200}",
    )


@check("histograms.values_counted", needs=("histograms",))
def values_counted(ctx: Context) -> None:
    """Values are counted into equal bins from the smallest to the largest, and none is lost.

    If this fails, store the result of `tracking_core.values.to_histogram`; a backend that wants an empty bin in front
    gets one, and the harness removes it again.
    """
    run = ctx.new_run()
    values = np.random.default_rng(0).normal(size=(20, 50)).astype(np.float32)
    with ctx.tracker(run) as tracker:
        tracker.log_histogram("weights", values, step=1)
        tracker.log_histogram("weights", values * 2, step=2, bins=10)
    _require(ctx, _one(ctx, run, "weights", 1), to_histogram(values), "1000 values in 64 bins")
    _require(ctx, _one(ctx, run, "weights", 2), to_histogram(values * 2, bins=10), "1000 values in 10 bins")


@check("histograms.ready_made_kept", needs=("histograms",))
def ready_made_kept(ctx: Context) -> None:
    """Ready-made counts and edges are kept unchanged: as a `Histogram`, as a tuple, with unequal and empty bins.

    Values that were reduced on the device have this form. If this fails, do not count them again.
    """
    run = ctx.new_run()
    counts, edges = [0, 3, 0, 5, 1], [-2.0, -1.0, 0.0, 0.5, 4.0, 4.5]
    with ctx.tracker(run) as tracker:
        tracker.log_histogram("object", Histogram(np.array(counts), np.array(edges)), step=1)
        tracker.log_histogram("tuple", (np.array(counts), np.array(edges)), step=1)
    expected = Histogram(np.array(counts), np.array(edges))
    for name in ("object", "tuple"):
        _require(ctx, _one(ctx, run, name, 1), expected, name)


@check("histograms.nonfinite_accepted", needs=("histograms",))
def nonfinite_accepted(ctx: Context) -> None:
    """NaN and infinities among the values do not raise, and the finite ones are counted.

    Gradients have them when they matter most. If this fails, use `tracking_core.values.to_histogram`.
    """
    run = ctx.new_run()
    values = np.array([1.0, 2.0, math.nan, 3.0, math.inf, -math.inf, math.nan])
    with ctx.tracker(run) as tracker:
        tracker.log_histogram("some", values, step=1)
        tracker.log_histogram("all", np.full(3, math.nan), step=1)
        tracker.log_histogram("after", [1.0, 2.0], step=1)
    _require(ctx, _one(ctx, run, "some", 1), to_histogram([1.0, 2.0, 3.0]), "three finite values")
    nothing = _one(ctx, run, "all", 1)
    ctx.require(nothing.count == 0, f"of three NaN {nothing.count} were counted as finite")
    _require(ctx, _one(ctx, run, "after", 1), to_histogram([1.0, 2.0]), "two values")


@check("histograms.odd_values", needs=("histograms",))
def odd_values(ctx: Context) -> None:
    """Constant, empty, integer, boolean, huge and tiny values are all counted, and the edges increase.

    Layers are constant at the start, and masks are empty. If this fails, look for a width of zero, and for text.
    """
    run = ctx.new_run()
    logged: dict[str, Any] = {
        "constant": np.full(7, 0.25),
        "zero": np.zeros(5),
        "one": 3.0,
        "empty": np.zeros((0, 4)),
        "integers": np.arange(10),
        "booleans": np.array([True, False, True]),
        "huge": np.array([-1e300, 1e300, 0.0]),
        "tiny": np.array([1e-300, 2e-300]),
        "list": [[1.0, 2.0], [3.0, 4.0]],
    }
    with ctx.tracker(run) as tracker:
        for name, values in logged.items():
            tracker.log_histogram(name, values, step=1)
    for name, values in logged.items():
        stored = _one(ctx, run, name, 1)
        ctx.require(stored.count == np.size(values), f"{name}: {np.size(values)} values, {stored.count} were counted")
        ctx.require(bool(np.all(np.diff(stored.edges) > 0)), f"{name}: the edges do not increase")


@check("histograms.axis_and_time", needs=("histograms",))
def axis_and_time(ctx: Context) -> None:
    """Histograms keep the axis of their step, and their time if the adapter stores times.

    If this fails, treat histograms as scalars are treated.
    """
    run = ctx.new_run()
    moment = 1_600_000_000.25
    with ctx.tracker(run) as tracker:
        tracker.log_histogram("weights", [1.0, 2.0], step=500, wall_time=moment)
        tracker.log_histogram("weights", [1.0, 3.0], step=1, step_axis="epoch", wall_time=moment + 1)
    stored = {(one.axis, one.step): one.time for one in ctx.histograms(run)}
    for place, time in ((("step", 500), moment), (("epoch", 1), moment + 1)):
        ctx.require(place in stored, f"no histogram at {place}; the backend holds {sorted(stored)}")
        if ctx.info.stores_wall_time:
            ctx.require(same_time(stored[place], time), f"wall_time={time!r} came back as {stored[place]!r}")


@check("histograms.names_kept", needs=("histograms",))
def names_kept(ctx: Context) -> None:
    """Odd names keep their histogram.

    If this fails, encode names with `tracking_core.naming`, and decode them in the harness.
    """
    run = ctx.new_run()
    names = ("a", "A", "a/b", "../up", "größe 🙂", "new\nline", "", "x" * 300)
    with ctx.tracker(run) as tracker:
        for number, name in enumerate(names):
            tracker.log_histogram(name, np.arange(number + 1.0), step=1)
    for number, name in enumerate(names):
        count = _one(ctx, run, name, 1).count
        ctx.require(count == number + 1, f"{name!r:.50}: {number + 1} values were logged, {count} counted")
